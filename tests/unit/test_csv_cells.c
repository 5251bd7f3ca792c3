// The converters of each instruction set against the C library: numbers of every length, sign and scale, ties,
// neighbours of powers of two, and what is no number; strings against a list searched from its front.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/kernel/csv_isa.h"

enum { SLACK = 128, TEXT = 1 << 20, ROWS = 4096 };

static uint64_t random_state = 88172645463325252;

static uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

// Fields of one line each, separated by a byte, `stride` - 1 fields of other columns in between.
struct fields {
    uint8_t *base;
    uint32_t at;
    uint32_t place[ROWS * 12 + 256];
    uint32_t places;
    uint32_t stride;
    uint32_t rows;
};

static struct fields *fields_create(uint32_t stride)
{
    struct fields *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->base = calloc(1, TEXT);
    assert_non_null(f->base);
    f->at = SLACK;
    f->stride = stride;
    f->place[f->places++] = f->at - 1;
    return f;
}

static void fields_destroy(struct fields *f)
{
    free(f->base);
    free(f);
}

static void fields_add(struct fields *f, const char *text)
{
    size_t size = strlen(text);

    assert_true(f->at + size + 2 * f->stride + SLACK < TEXT);
    memcpy(f->base + f->at, text, size);
    f->at += (uint32_t)size;
    f->base[f->at] = ',';
    f->place[f->places++] = f->at++;
    for (uint32_t i = 1; i < f->stride; i++) {
        f->base[f->at] = '7';
        f->base[f->at + 1] = ',';
        f->at += 2;
        f->place[f->places++] = f->at - 1;
    }
    f->rows++;
}

static struct csv_cells fields_cells(const struct fields *f)
{
    return (struct csv_cells){f->base, f->place, f->place + 1, f->stride, f->rows};
}

static const char *const isas[] = {"baseline", "avx2", "avx512"};
static const struct csv_missing nothing_missing;

static void check_float64(const struct fields *f)
{
    static double values[ROWS] __attribute__((aligned(64)));
    static uint64_t validity[ROWS / 64];
    struct csv_cells cells = fields_cells(f);

    for (int i = 0; i < 3; i++) {
        struct csv_vector out = {values, validity, false};

        setenv("DRAY_ISA", isas[i], 1);
        assert_int_equal(csv_isa_choose()->float64(&cells, &nothing_missing, &out), f->rows);
        assert_false(out.nulls);
        for (uint32_t r = 0; r < f->rows; r++) {
            char text[512];
            uint32_t start = csv_cell_start(&cells, r);
            uint32_t size = csv_cell_end(&cells, r) - start;

            memcpy(text, f->base + start, size);
            text[size] = '\0';
            double expected = strtod(text, NULL);

            if (memcmp(&expected, &values[r], sizeof(expected)) != 0) {
                fail_msg("%s: %s is %a, expected %a", isas[i], text, values[r], expected);
            }
        }
    }
}

static void random_decimal(char *text)
{
    uint64_t w = random_word() >> random_word() % 64;
    int digits = snprintf(text, 64, "%s%llu", random_word() % 3 == 0 ? "-" : "", (unsigned long long)w);
    int sign = text[0] == '-';

    if (random_word() % 8 == 0) {
        memmove(text + sign + 3, text + sign, (size_t)(digits - sign + 1));
        memcpy(text + sign, "000", 3);
        digits += 3;
    }
    if (random_word() % 4 != 0) {
        int point = sign + (int)(random_word() % (uint64_t)(digits - sign + 1));

        memmove(text + point + 1, text + point, (size_t)(digits - point + 1));
        text[point] = '.';
    }
}

static void test_random_decimals(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        struct fields *f = fields_create(1 + (uint32_t)round % 12);

        for (int r = 0; r < 3000 + round; r++) {
            char text[80];

            random_decimal(text);
            fields_add(f, text);
        }
        check_float64(f);
        fields_destroy(f);
    }
}

// Numbers half-way between two doubles, and a digit above and below.
static void test_ties(void **state)
{
    struct fields *f = fields_create(3);

    (void)state;
    for (int r = 0; r < 1300; r++) {
        char text[400];
        // A double with few bits behind the point, so that the tie has at most 19 digits.
        int behind = (int)(random_word() % 6);
        uint64_t mantissa = UINT64_C(1) << 52 | random_word() >> 12;
        long double tie = ((long double)mantissa + 0.5L) / (long double)(1 << behind);

        snprintf(text, sizeof(text), "%.*Lf", behind + 1, tie);
        fields_add(f, text);
        size_t n = strlen(text);

        text[n - 1] = (char)(text[n - 1] + (text[n - 1] < '9'));
        fields_add(f, text);
        text[n - 1] = (char)(text[n - 1] - 2 * (text[n - 1] > '1'));
        fields_add(f, text);
    }
    check_float64(f);
    fields_destroy(f);
}

// Shortest and 17-digit forms of random doubles, as programs print them.
static void test_printed_doubles(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct fields *f = fields_create(2);

        for (int r = 0; r < ROWS; r++) {
            char text[64];
            double scale[] = {1, 10, 1000, 1e6, 1e-3};
            double x = (double)(random_word() >> 11) * 0x1p-53 * scale[random_word() % 5];

            snprintf(text, sizeof(text), "%.*g", random_word() % 3 == 0 ? 17 : 16, x);
            fields_add(f, text);
        }
        check_float64(f);
        fields_destroy(f);
    }
}

static void test_misfits(void **state)
{
    static const char *const wrong[] = {"",    ".",  "-",   "--1", "1.2.3", "1e",  "x",  "1x", "12345678901234567890123x",
                                        "0x1", "1_0", "- 1", "nan", "1,",    "e5", "+-1", "..", "-.", "1-1"};
    static double values[ROWS] __attribute__((aligned(64)));
    static uint64_t validity[ROWS / 64];

    (void)state;
    for (size_t w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
        for (uint32_t at = 0; at < 300; at += 1 + at / 3) {
            struct fields *f = fields_create(4);

            for (uint32_t r = 0; r < 300; r++) {
                fields_add(f, r == at ? wrong[w] : "12");
            }
            struct csv_cells cells = fields_cells(f);

            for (int i = 0; i < 3; i++) {
                struct csv_vector out = {values, validity, false};

                setenv("DRAY_ISA", isas[i], 1);
                assert_int_equal(csv_isa_choose()->float64(&cells, &nothing_missing, &out), at);
                assert_int_equal(csv_isa_choose()->int64(&cells, &nothing_missing, &out), at);
            }
            fields_destroy(f);
        }
    }
}

static void test_integers(void **state)
{
    static int64_t values[ROWS] __attribute__((aligned(64)));
    static uint64_t validity[ROWS / 64];

    (void)state;
    for (int round = 0; round < 30; round++) {
        struct fields *f = fields_create(1 + (uint32_t)round % 10);
        static int64_t expected[ROWS];

        for (int r = 0; r < 3000 + round; r++) {
            char text[64];

            expected[r] = (int64_t)random_word() >> random_word() % 64;
            snprintf(text, sizeof(text), "%lld", (long long)expected[r]);
            fields_add(f, text);
        }
        struct csv_cells cells = fields_cells(f);

        for (int i = 0; i < 3; i++) {
            struct csv_vector out = {values, validity, false};

            setenv("DRAY_ISA", isas[i], 1);
            assert_int_equal(csv_isa_choose()->int64(&cells, &nothing_missing, &out), f->rows);
            assert_memory_equal(values, expected, f->rows * sizeof(*values));
        }
        fields_destroy(f);
    }
}

// Few and many distinct strings of all lengths, with equal beginnings and ends.
static void test_codes(void **state)
{
    static uint32_t codes[ROWS] __attribute__((aligned(64)));
    static uint64_t validity[ROWS / 64];

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct fields *f = fields_create(1 + (uint32_t)round % 10);
        uint32_t distinct = round % 4 == 0 ? 100000 : 1U << round % 13;
        uint32_t longest = round % 3 == 0 ? 6 : round % 3 == 1 ? 17 : 40;

        for (int r = 0; r < 2500 + round; r++) {
            char text[64];
            uint64_t which = random_word() % distinct;
            uint32_t size = (uint32_t)(which * 7 % (longest + 1));

            memset(text, 'a', sizeof(text));
            snprintf(text, sizeof(text), "%llu", (unsigned long long)which);
            text[strlen(text)] = 'a';
            text[size] = '\0';
            fields_add(f, text);
        }
        struct csv_cells cells = fields_cells(f);

        for (int i = 0; i < 3; i++) {
            struct budget *budget = budget_create(0);
            struct csv_vector out = {codes, validity, false};
            struct csv_dict dict;
            struct error err;

            setenv("DRAY_ISA", isas[i], 1);
            assert_int_equal(csv_dict_init(&dict, &nothing_missing, budget, &err), 0);
            // The second time all are known.
            for (int pass = 0; pass < 2; pass++) {
                assert_int_equal(csv_isa_choose()->encode(&cells, &dict, &out, &err), 0);
                for (uint32_t r = 0; r < f->rows; r++) {
                    uint32_t start = csv_cell_start(&cells, r);
                    uint32_t size = csv_cell_end(&cells, r) - start;

                    assert_true(codes[r] < dict.dictionary.count);
                    assert_int_equal(dict.dictionary.entry[codes[r]].size, size);
                    assert_memory_equal(dict.dictionary.entry[codes[r]].data, f->base + start, size);
                }
            }
            for (uint32_t a = 0; a < dict.dictionary.count && dict.dictionary.count < 600; a++) {
                for (uint32_t b = 0; b < a; b++) {
                    const struct string_view *x = &dict.dictionary.entry[a];
                    const struct string_view *y = &dict.dictionary.entry[b];

                    assert_false(x->size == y->size && memcmp(x->data, y->data, x->size) == 0);
                }
            }
            csv_dict_fini(&dict);
            assert_int_equal(budget_used(budget), 0);
            budget_destroy(budget);
        }
        fields_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_decimals), cmocka_unit_test(test_ties),     cmocka_unit_test(test_printed_doubles),
        cmocka_unit_test(test_misfits),         cmocka_unit_test(test_integers), cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
