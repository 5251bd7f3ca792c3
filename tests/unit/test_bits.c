// The set of small integers beside a plain array of truths.
#include "broker/core/bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIZE_MAX_TESTED = 70000, STEPS = 4000 };

struct both {
    struct bits bits;
    bool *is;
};

static uint32_t random_below(uint64_t *seed, uint32_t most)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)((*seed >> 33) % most);
}

static void put(struct both *both, uint32_t first, uint32_t count, bool value, bool one_by_one)
{
    for (uint32_t i = first; i < first + count; i++) {
        both->is[i] = value;
        if (one_by_one && value) {
            bits_set(&both->bits, i);
        } else if (one_by_one) {
            bits_clear(&both->bits, i);
        }
    }
    if (!one_by_one && value) {
        bits_set_range(&both->bits, first, count);
    } else if (!one_by_one) {
        bits_clear_range(&both->bits, first, count);
    }
}

static uint32_t next_of(const struct both *both, uint32_t from)
{
    while (from < both->bits.size && !both->is[from]) {
        from++;
    }
    return from < both->bits.size ? from : BITS_NONE;
}

static void check(const struct both *both)
{
    uint32_t at = 0;

    // All members in order: a summary that is dark hides some, one that is lit for nothing leads astray.
    for (uint32_t i = next_of(both, 0);; i = next_of(both, i + 1)) {
        uint32_t run = 0;

        at = bits_next(&both->bits, at);
        assert_int_equal(at, i);
        if (i == BITS_NONE) {
            return;
        }
        while (i + run < both->bits.size && both->is[i + run]) {
            run++;
        }
        assert_int_equal(bits_run(&both->bits, i, UINT32_MAX), run);
        i += run - 1;
        at += run;
    }
}

static void test_like_an_array(void **state)
{
    static const uint32_t SIZES[] = {1, 63, 64, 65, 4096, 4097, SIZE_MAX_TESTED};

    (void)state;
    for (size_t s = 0; s < sizeof(SIZES) / sizeof(SIZES[0]); s++) {
        struct both both = {{calloc(bits_words(SIZES[s]), sizeof(uint64_t)), SIZES[s]},
                            calloc(SIZES[s], sizeof(bool))};
        uint64_t seed = SIZES[s];

        assert_non_null(both.bits.word);
        assert_non_null(both.is);
        for (uint32_t step = 0; step < STEPS; step++) {
            uint32_t first = random_below(&seed, SIZES[s]), most = SIZES[s] - first;
            uint32_t count = 1 + random_below(&seed, step % 8 == 0 || most < 300 ? most : 300);

            // Emptied more often than filled, or every word soon has something.
            put(&both, first, count, random_below(&seed, 3) == 0, random_below(&seed, 2) == 0);
            if (step % 64 == 0 || SIZES[s] < 100) {
                check(&both);
            }
        }
        put(&both, 0, SIZES[s], false, false);
        check(&both);
        free(both.bits.word);
        free(both.is);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_like_an_array)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
