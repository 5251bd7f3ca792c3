#include "broker/core/bits.h"

static uint32_t words_for(uint32_t size)
{
    return size / 64 + (size % 64 != 0);
}

static uint64_t *level(const struct bits *bits, unsigned number, uint32_t *size)
{
    uint64_t *word = bits->word;
    uint32_t n = bits->size;

    while (number-- > 0) {
        n = words_for(n);
        word += n;
    }
    *size = n;
    return word;
}

size_t bits_words(uint32_t size)
{
    uint32_t one = words_for(size);
    uint32_t two = words_for(one);

    return (size_t)one + two + words_for(two);
}

void bits_light(struct bits *bits, uint32_t i)
{
    uint64_t *word = bits->word;
    uint32_t n = bits->size;

    for (unsigned k = 1; k < 3; k++) {
        n = words_for(n);
        word += n;
        i /= 64;

        uint64_t old = word[i / 64];

        word[i / 64] = old | UINT64_C(1) << (i % 64);
        if (old != 0) {
            return;
        }
    }
}

void bits_dim(struct bits *bits, uint32_t i)
{
    uint64_t *word = bits->word;
    uint32_t n = bits->size;

    for (unsigned k = 1; k < 3; k++) {
        n = words_for(n);
        word += n;
        i /= 64;
        word[i / 64] &= ~(UINT64_C(1) << (i % 64));
        if (word[i / 64] != 0) {
            return;
        }
    }
}

void bits_set_range(struct bits *bits, uint32_t first, uint32_t count)
{
    uint32_t end = first + count;

    while (first < end && first % 64 != 0) {
        bits_set(bits, first++);
    }
    while (end - first >= 64) {
        // One member lights the summaries; then the rest of its word.
        bits_set(bits, first);
        bits->word[first / 64] = UINT64_MAX;
        first += 64;
    }
    while (first < end) {
        bits_set(bits, first++);
    }
}

void bits_clear_range(struct bits *bits, uint32_t first, uint32_t count)
{
    uint32_t end = first + count;

    while (first < end) {
        uint32_t in_word = 64 - first % 64 < end - first ? 64 - first % 64 : end - first;
        uint64_t mask = (in_word == 64 ? UINT64_MAX : (UINT64_C(1) << in_word) - 1) << (first % 64);
        uint64_t old = bits->word[first / 64];

        bits->word[first / 64] = old & ~mask;
        if (old != 0 && (old & ~mask) == 0) {
            bits_dim(bits, first);
        }
        first += in_word;
    }
}

uint32_t bits_next(const struct bits *bits, uint32_t from)
{
    uint32_t i = from;
    unsigned k = 0;

    // Up until a word has something at or after i, then down again.
    for (;;) {
        uint32_t n;
        uint64_t *word = level(bits, k, &n);

        if (i >= n) {
            return BITS_NONE;
        }
        uint64_t rest = word[i / 64] >> (i % 64);

        if (rest != 0) {
            i += (uint32_t)__builtin_ctzll(rest);
            break;
        }
        if (k == 2) {
            // The top is walked word by word: one for each 16 M members.
            i = (i / 64 + 1) * 64;
        } else {
            i = i / 64 + 1;
            k++;
        }
    }
    while (k > 0) {
        uint32_t n;
        uint64_t *word = level(bits, --k, &n);

        i = i * 64 + (uint32_t)__builtin_ctzll(word[i]);
    }
    return i;
}

uint32_t bits_run(const struct bits *bits, uint32_t i, uint32_t max)
{
    uint32_t run = 0;

    if (max > bits->size - i) {
        max = bits->size - i;
    }
    while (run < max) {
        uint64_t gap = ~bits->word[(i + run) / 64] >> ((i + run) % 64);

        if (gap != 0) {
            run += (uint32_t)__builtin_ctzll(gap);
            break;
        }
        run += 64 - (i + run) % 64;
    }
    return run < max ? run : max;
}
