#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/number.h"

// cmocka runs in the C locale, so that strtod is an oracle.

enum { ROUNDS = 300000 };

static uint64_t state64 = 42;

static uint64_t next64(void)
{
    // splitmix64
    uint64_t z = (state64 += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static double from_bits(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void parse_as_strtod(const char *text)
{
    double got = -7, want = strtod(text, NULL);

    if (!number_parse_float64(text, strlen(text), &got)) {
        fail_msg("\"%s\" was refused", text);
    }
    if (bits_of(got) != bits_of(want)) {
        fail_msg("\"%s\": %.17g instead of %.17g", text, got, want);
    }
}

static double random_double(void)
{
    for (;;) {
        uint64_t bits = next64();

        // Sparse and full mantissas, all exponents, more near 1.
        if (bits % 5 == 0) {
            bits = (next64() & 0x800fffffffffffffU) | (uint64_t)(1023 - 32 + (int)(next64() % 64)) << 52;
        } else if (bits % 5 == 1) {
            bits &= ~(uint64_t)0 << (next64() % 52);
        } else if (bits % 5 == 2) {
            bits &= 0x800fffffffffffffU >> (next64() % 52);
        }
        double value = from_bits(bits);

        if (isfinite(value)) {
            return value;
        }
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        double value = random_double(), back;
        char text[NUMBER_TEXT_MAX], seventeen[64];
        size_t size = number_print_float64(value, text);

        assert_true(number_parse_float64(text, size, &back));
        if (bits_of(back) != bits_of(value)) {
            fail_msg("%a printed as %.*s", value, (int)size, text);
        }
        text[size] = '\0';
        assert_int_equal(bits_of(strtod(text, NULL)), bits_of(value));
        snprintf(seventeen, sizeof(seventeen), "%.17g", value);
        parse_as_strtod(seventeen);
    }
}

// No shorter text reads back, and of the shortest ours is a closest one.
static void is_shortest(double value)
{
    char digits[17], text[64], nearest[64];
    int exponent, count = number_shortest(value, digits, &exponent), precision = 1;

    assert_in_range(count, 1, 17);
    assert_true(digits[0] != '0' && (count == 1 || digits[count - 1] != '0'));
    snprintf(text, sizeof(text), "%.*se%d", count, digits, exponent - count);
    assert_int_equal(bits_of(strtod(text, NULL)), bits_of(value));
    while (snprintf(nearest, sizeof(nearest), "%.*e", precision - 1, value), strtod(nearest, NULL) != value) {
        precision++;
    }
    if (count > precision) {
        fail_msg("%a: %s, but %s is shorter", value, text, nearest);
    }
    if (count == precision) {
        // Ties apart, printf's digits are the closest; to tell ties from errors, compare distances
        // with what long double's 64 bits make of them.
        long double ours = fabsl(strtold(text, NULL) - (long double)value);
        long double theirs = fabsl(strtold(nearest, NULL) - (long double)value);

        if (ours > theirs * 1.01L) {
            fail_msg("%a: %s, but %s is closer", value, text, nearest);
        }
    }
}

static void test_shortest(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS / 10; i++) {
        double value = fabs(random_double());

        if (value > 0) {
            is_shortest(value);
        }
    }
    for (int e = 0; e < 0x7ff; e++) { // powers of two and their neighbours
        for (int d = -1; d <= 1; d++) {
            uint64_t bits = ((uint64_t)e << 52) + (uint64_t)(int64_t)d;
            double value = from_bits(bits);

            if (bits != 0 && isfinite(value) && value > 0) {
                is_shortest(value);
            }
        }
    }
    for (int i = 0; i < 20000; i++) { // what people write
        is_shortest((double)(next64() % 1000000 + 1) / 1000.0);
        is_shortest((double)(next64() % ((uint64_t)1 << 54) + 1));
    }
}

static void test_decimals(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t w = next64() >> (next64() % 64);
        int q = (int)(next64() % 700) - 370;
        char text[64];
        double got;

        if (i % 2 == 0) {
            q = (int)(next64() % 60) - 30;
        }
        w += w == 0;
        snprintf(text, sizeof(text), "%" PRIu64 "e%d", w, q);
        assert_true(number_from_decimal(w, q, &got));
        if (bits_of(got) != bits_of(strtod(text, NULL))) {
            fail_msg("%s: %.17g", text, got);
        }
    }
    double got;

    assert_true(number_from_decimal(1, INT32_MAX, &got) && isinf(got));
    assert_true(number_from_decimal(UINT64_MAX, INT32_MIN, &got) && got == 0);
}

// Texts at and next to the middle between two doubles, with up to 800 digits and more.
static void test_half_way(void **state)
{
    static char text[2400];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        double low = fabs(random_double());
        uint64_t bits = bits_of(low);

        if (i % 3 == 0) {
            low = from_bits(bits >> (12 + next64() % 50)); // subnormal
        }
        double high = from_bits(bits_of(low) + 1);

        if (!isfinite(high)) {
            continue;
        }
        // All digits of the middle: with a 64-bit mantissa long double holds it exactly.
        long double middle = ((long double)low + (long double)high) / 2;
        int size = snprintf(text, sizeof(text), "%.770Le", middle);
        char *e = strchr(text, 'e'), exponent[16];

        assert_true(size > 0 && e != NULL);
        parse_as_strtod(text);
        snprintf(exponent, sizeof(exponent), "%s", e);
        // A digit far behind breaks the tie upwards.
        for (size_t zeros = 0; zeros < 1000; zeros += 450) {
            memset(e, '0', zeros);
            snprintf(e + zeros, 20, "1%s", exponent);
            parse_as_strtod(text);
        }
        // And one less in the last digits that are not zero breaks it downwards.
        char *p = e;

        while (p[-1] == '0') {
            p--;
        }
        p[-1]--;
        memset(p, '9', (size_t)(e - p));
        snprintf(e, 16, "%s", exponent);
        parse_as_strtod(text);
        text[20 + next64() % 60] = '\0'; // fewer digits: plain rounding of long texts
        size_t cut = strlen(text);

        snprintf(text + cut, sizeof(text) - cut, "%s", exponent);
        parse_as_strtod(text);
    }
}

static void test_hard_cases(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0.0e5",
        "0e999999999999",
        "00000000000000000000000001",
        "1",
        "1.",
        ".5",
        "-.5e1",
        "+3.25",
        "1e23",
        "9007199254740993",
        "9007199254740992.9999999999999999999999999",
        "9007199254740993.00000000000000000001",
        "5e-324",
        "4.9e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.47032822920623272088284396434110686182e-324",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "1.797693134862315807e308",
        "1e309",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "2.2250738585072014e-308",
        "6.631236846766476e-316",
        "3.2378839133029012895883524125015321748630094e-319",
        "7.2057594037927933e+16",
        "1448997445238699",
        "0.500000000000000166533453693773481063544750213623046875",
        "3.518437208883201171875e13",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890",
        "1e+5",
        "1E-05",
        "100000000000000000000000000000000000000000000e-44",
        "0.000000000000000000000000000000000000001e39",
        "8.5707e-323",
        "30078505129381147446200",
        "1777820000000000000001",
        "0.156250000000000000000000000000000000000000001",
    };
    char zeros[3000];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        parse_as_strtod(texts[i]);
    }
    memset(zeros, '0', sizeof(zeros));
    zeros[1] = '.';
    snprintf(zeros + 2000, 100, "1e2000");
    parse_as_strtod(zeros);
    snprintf(zeros + 2000, 100, "123456789012345678901234567890123e1990");
    parse_as_strtod(zeros);
    memset(zeros, '0', sizeof(zeros));
    zeros[0] = '7';
    snprintf(zeros + 2000, 100, "1e-2000");
    parse_as_strtod(zeros);
    snprintf(zeros + 2000, 100, ".1e-1800");
    parse_as_strtod(zeros);
}

static void test_words(void **state)
{
    static const char *const refused[] = {"",      "+",     "-",    ".",   "-.",    "e5",      "1e",   "1e+",
                                          "1e5.",  " 1",    "1 ",   "1,0", "0x1",   "1_0",     "1..2", "--1",
                                          "+-1",   "na",    "nan1", "in",  "infi",  "infinit", "1f",   ".e1",
                                          "1e5e5", "1e--5", "i",    "n",   "nan(1)"};
    double value = 8;
    char text[NUMBER_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        if (number_parse_float64(refused[i], strlen(refused[i]), &value)) {
            fail_msg("\"%s\" was taken", refused[i]);
        }
        assert_true(value == 8);
    }
    assert_true(number_parse_float64("-iNf", 4, &value) && value == -(double)INFINITY);
    assert_true(number_parse_float64("Infinity", 8, &value) && value == (double)INFINITY);
    assert_true(number_parse_float64("+NaN", 4, &value) && isnan(value));
    assert_true(number_parse_float64("12345", 3, &value) &&
                value == 123); // the size counts, not what follows
    assert_int_equal(number_print_float64(-(double)INFINITY, text), 4);
    assert_memory_equal(text, "-inf", 4);
    assert_int_equal(number_print_float64((double)NAN, text), 3);
    assert_memory_equal(text, "nan", 3);
}

static void test_repr(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {0.1, "0.1"},
        {-0.5, "-0.5"},
        {1e15, "1000000000000000.0"},
        {9999999999999998, "9999999999999998.0"},
        {1e16, "1e+16"},
        {1.5e16, "1.5e+16"},
        {12345678901234567890.0, "1.2345678901234567e+19"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {0.0001, "0.0001"},
        {0.00012345, "0.00012345"},
        {1e-5, "1e-05"},
        {1.25e-7, "1.25e-07"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {505.110889, "505.110889"},
        {123456.75, "123456.75"},
        {1e100, "1e+100"},
        {5.684341886080802e-14, "5.684341886080802e-14"},
        {9007199254740992, "9007199254740992.0"},
        {3, "3.0"},
        {1200, "1200.0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[NUMBER_TEXT_MAX + 1];

        text[number_print_float64(rows[i].value, text)] = '\0';
        assert_string_equal(text, rows[i].text);
    }
}

static void test_int64(void **state)
{
    static const char *const refused[] = {
        "",    "-",  "+",   "9223372036854775808",    "-9223372036854775809", "1.",
        "1e1", " 1", "12a", "99999999999999999999999"};
    int64_t value = 8;
    char text[NUMBER_TEXT_MAX + 1];

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t want = (int64_t)next64() >> (next64() % 64), got;
        char oracle[32];

        want = i == 0 ? INT64_MIN : i == 1 ? INT64_MAX : want;
        text[number_print_int64(want, text)] = '\0';
        snprintf(oracle, sizeof(oracle), "%" PRId64, want);
        assert_string_equal(text, oracle);
        assert_true(number_parse_int64(text, strlen(text), &got));
        assert_int_equal(got, want);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        assert_false(number_parse_int64(refused[i], strlen(refused[i]), &value));
        assert_int_equal(value, 8);
    }
    assert_true(number_parse_int64("+0000000000000000000000000012", 29, &value) && value == 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_shortest),   cmocka_unit_test(test_decimals),
        cmocka_unit_test(test_half_way),   cmocka_unit_test(test_hard_cases), cmocka_unit_test(test_words),
        cmocka_unit_test(test_repr),       cmocka_unit_test(test_int64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
