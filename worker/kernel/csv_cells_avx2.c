// Numbers with AVX2: four rows at a time, in two phases that each run over 64 rows, so that few steps wait
// for others.  A field's last 32 bytes fill a register, right-aligned; the bytes up to the point move up by
// one (a second load, one byte earlier), which leaves nothing but digits; pairs, fours and eights of digits
// become numbers by multiply-add (after D. Lemire's and W. Mula's parsers).  How w / 10^k is rounded without
// a division: csv_cells_avx512.c.
#include "worker/kernel/csv_cells.h"

#include <immintrin.h>

enum { WIDTH = 32, GROUP = 4, WORD = 64, DIGITS_MAX = 19 };

// By the point's place among the 32 bytes (32: none): which bytes move, and the power of ten behind it.
static const struct place {
    uint8_t move[WIDTH];
} places[WIDTH + 1] = {
#define M4(n, i)                                                                                             \
    (n) >= (i) ? 0xff : 0, (n) >= (i) + 1 ? 0xff : 0, (n) >= (i) + 2 ? 0xff : 0, (n) >= (i) + 3 ? 0xff : 0
#define MOVE(n)                                                                                              \
    {                                                                                                        \
        {                                                                                                    \
            M4(n, 0), M4(n, 4), M4(n, 8), M4(n, 12), M4(n, 16), M4(n, 20), M4(n, 24), M4(n, 28)              \
        }                                                                                                    \
    }
    MOVE(0),  MOVE(1),  MOVE(2),  MOVE(3),  MOVE(4),  MOVE(5),  MOVE(6),  MOVE(7),  MOVE(8),
    MOVE(9),  MOVE(10), MOVE(11), MOVE(12), MOVE(13), MOVE(14), MOVE(15), MOVE(16), MOVE(17),
    MOVE(18), MOVE(19), MOVE(20), MOVE(21), MOVE(22), MOVE(23), MOVE(24), MOVE(25), MOVE(26),
    MOVE(27), MOVE(28), MOVE(29), MOVE(30), MOVE(31), MOVE(-1),
#undef MOVE
#undef M4
};

// The last n of 32 bytes begin at ends + n.
static const uint8_t ends[2 * WIDTH] = {
    [WIDTH] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff,           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

// 10^k and its inverse for a point at place 31 - k.  Places before 12 mean more digits than are read here.
static const struct scale {
    double power, inverse;
} scales[WIDTH + 1] = {
    {1, 1},        {1, 1},        {1, 1},        {1, 1},        {1, 1},        {1, 1},        {1, 1},
    {1, 1},        {1, 1},        {1, 1},        {1, 1},        {1, 1},        {1e19, 1e-19}, {1e18, 1e-18},
    {1e17, 1e-17}, {1e16, 1e-16}, {1e15, 1e-15}, {1e14, 1e-14}, {1e13, 1e-13}, {1e12, 1e-12}, {1e11, 1e-11},
    {1e10, 1e-10}, {1e9, 1e-9},   {1e8, 1e-8},   {1e7, 1e-7},   {1e6, 1e-6},   {1e5, 1e-5},   {1e4, 1e-4},
    {1e3, 1e-3},   {1e2, 1e-2},   {1e1, 1e-1},   {1, 1},        {1, 1},
};

// Four rows.
struct group {
    __m256i digits[GROUP]; // of each row, one a byte
    uint32_t negative;     // a bit a row
    uint32_t odd;          // too many digits, or none
};

static inline __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline void read_row(const uint8_t *base, uint32_t start, uint32_t end, uint32_t i, bool has_points,
                            bool is_signed, uint32_t digits_max, uint32_t *place, struct group *g)
{
    const uint8_t *last = base + end;
    __m256i x = load(last - WIDTH);
    uint32_t point = WIDTH;

    if (is_signed) {
        // An empty field's byte is the separator behind it.
        uint32_t minus = base[start] == '-';

        start += minus;
        g->negative |= minus << i;
    }
    uint32_t size = end - start;
    uint32_t seen = size < WIDTH ? size : WIDTH;
    uint32_t digits = seen;

    if (has_points) {
        uint32_t points = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, _mm256_set1_epi8('.')));

        // The first point of the field counts; another one is no digit.
        point = _tzcnt_u32(points & (uint32_t)(UINT64_C(0xffffffff00000000) >> seen));
        digits -= 1 - (point >> 5);
        x = _mm256_blendv_epi8(x, load(last - WIDTH - 1), load(places[point].move));
    }
    g->odd |= (uint32_t)(digits - 1 >= digits_max) << i;
    *place = point;
    g->digits[i] = _mm256_and_si256(_mm256_sub_epi8(x, _mm256_set1_epi8('0')), load(ends + digits));
}

static inline bool is_strange(__m256i digits)
{
    const __m256i ten = _mm256_set1_epi8(10);

    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(digits, ten), digits)) != 0;
}

static inline __m256i fours(__m256i digits)
{
    __m256i twos = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(1 << 8 | 10));

    return _mm256_madd_epi16(twos, _mm256_set1_epi32(1 << 16 | 100));
}

// Of two rows: leading digits, leading digits, last 16 digits, last 16 digits.
static inline __m256i sixteens(__m256i first, __m256i second)
{
    __m256i eights = _mm256_madd_epi16(_mm256_packus_epi32(fours(first), fours(second)),
                                       _mm256_set1_epi32(1 << 16 | 10000));

    return _mm256_add_epi64(_mm256_mul_epu32(eights, _mm256_set1_epi64x(100000000)),
                            _mm256_srli_epi64(eights, 32));
}

static inline __m256i numbers(const struct group *g)
{
    const uint64_t ten16 = UINT64_C(10000000000000000);
    __m256i first = sixteens(g->digits[0], g->digits[1]);
    __m256i second = sixteens(g->digits[2], g->digits[3]);
    __m256i leading = _mm256_permute2x128_si256(first, second, 0x20);
    __m256i rest = _mm256_permute2x128_si256(first, second, 0x31);
    __m256i low = _mm256_mul_epu32(leading, _mm256_set1_epi64x((int64_t)(ten16 & 0xffffffff)));
    __m256i high = _mm256_mul_epu32(leading, _mm256_set1_epi64x((int64_t)(ten16 >> 32)));

    return _mm256_add_epi64(rest, _mm256_add_epi64(low, _mm256_slli_epi64(high, 32)));
}

static inline __m256d scale_pair(uint32_t first, uint32_t second)
{
    __m128d a = _mm_loadu_pd(&scales[first].power);

    return _mm256_insertf128_pd(_mm256_castpd128_pd256(a), _mm_loadu_pd(&scales[second].power), 1);
}

// w / 10^k; sets a bit in *odd where it is too close to call.
static inline __m256d divide(__m256i w, const uint32_t *point, uint32_t *odd)
{
    const __m256i low_magic = _mm256_set1_epi64x(0x4330000000000000);  // 2^52
    const __m256i high_magic = _mm256_set1_epi64x(0x4530000000000000); // 2^84
    __m256d even = scale_pair(point[0], point[2]);
    __m256d uneven = scale_pair(point[1], point[3]);
    __m256d p = _mm256_unpacklo_pd(even, uneven);
    __m256d i = _mm256_unpackhi_pd(even, uneven);
    // Both halves are exact; their sum is rounded, and what it loses is known.
    __m256d low = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_blend_epi32(w, low_magic, 0xaa)),
                                _mm256_castsi256_pd(low_magic));
    __m256d high = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(_mm256_srli_epi64(w, 32), high_magic)),
                                 _mm256_castsi256_pd(high_magic));
    __m256d h = _mm256_add_pd(high, low);
    __m256d rest = _mm256_sub_pd(low, _mm256_sub_pd(h, high));
    __m256d q = _mm256_mul_pd(h, i);
    __m256d c = _mm256_mul_pd(_mm256_add_pd(_mm256_fnmadd_pd(q, p, h), rest), i);
    __m256d slack = _mm256_mul_pd(q, _mm256_set1_pd(0x1p-95));
    __m256d below = _mm256_add_pd(q, _mm256_sub_pd(c, slack));
    __m256d above = _mm256_add_pd(q, _mm256_add_pd(c, slack));

    *odd |= (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd(below, above, _CMP_NEQ_UQ));
    return below;
}

// Sign bits where `negative` has bits.
static inline __m256i signs(uint32_t negative)
{
    return _mm256_sllv_epi64(_mm256_set1_epi64x(negative), _mm256_setr_epi64x(63, 62, 61, 60));
}

// Four rows from these places on.  False: some byte is no digit, and odd has the rows.
static inline bool read_group(const uint8_t *base, const uint32_t *before, const uint32_t *end, size_t stride,
                              bool has_points, bool is_signed, uint32_t digits_max, uint32_t *point,
                              struct group *g)
{
    g->negative = g->odd = 0;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < GROUP; i++) {
        read_row(base, before[i * stride] + 1, end[i * stride], i, has_points, is_signed, digits_max,
                 &point[i], g);
    }
    __m256i most = _mm256_max_epu8(_mm256_max_epu8(g->digits[0], g->digits[1]),
                                   _mm256_max_epu8(g->digits[2], g->digits[3]));

    if (__builtin_expect(!is_strange(most), 1)) {
        return true;
    }
    for (uint32_t i = 0; i < GROUP; i++) {
        g->odd |= (uint32_t)is_strange(g->digits[i]) << i;
    }
    return false;
}

// 64 rows on their way: what is behind `rows` means nothing.
struct word {
    uint32_t point[WORD]; // place of the point
    uint64_t negative;
    uint64_t odd; // rows that are left over
};

// Numbers of groups of a word without point and sign, to values.  The number of rows that were read: less
// than asked for when a strange group was met and nothing is taken as signed.
static inline uint32_t read_word(const struct csv_cells *c, uint32_t row, uint32_t from, uint32_t rows,
                                 bool has_points, bool is_signed, uint64_t *values, struct word *word)
{
    size_t stride = c->stride;
    const uint8_t *base = c->base;
    const uint32_t *before = c->before + (row + from) * stride;
    const uint32_t *end = c->end + (row + from) * stride;

    for (; from + GROUP <= rows; from += GROUP) {
        struct group g;

        if (!read_group(base, before, end, stride, has_points, is_signed,
                        has_points ? DIGITS_MAX : DIGITS_MAX - 1, &word->point[from], &g) &&
            !is_signed) {
            return from;
        }
        _mm256_storeu_si256((__m256i *)(void *)(values + from), numbers(&g));
        word->odd |= (uint64_t)g.odd << from;
        if (is_signed) {
            word->negative |= (uint64_t)g.negative << from;
        }
        before += GROUP * stride;
        end += GROUP * stride;
    }
    return from;
}

// Apart, so that the common loops keep what they use in registers.
static __attribute__((noinline)) uint32_t read_signed(const struct csv_cells *c, uint32_t row, uint32_t from,
                                                      uint32_t rows, bool has_points, uint64_t *values,
                                                      struct word *word)
{
    return has_points ? read_word(c, row, from, rows, true, true, values, word)
                      : read_word(c, row, from, rows, false, true, values, word);
}

// Rows [row, row + rows) of at most a word.
static inline void read_rows(const struct csv_cells *c, uint32_t row, uint32_t rows, bool has_points,
                             uint64_t *values, struct word *word)
{
    word->negative = word->odd = 0;

    uint32_t read = read_word(c, row, 0, rows, has_points, false, values, word);

    if (__builtin_expect(read + GROUP <= rows, 0)) {
        read = read_signed(c, row, read, rows, has_points, values, word);
    }
    // Less than a group is left.
    word->odd |= read < WORD ? ~UINT64_C(0) << read : 0;
}

uint32_t csv_cells_float64_avx2(const struct csv_cells *cells, const struct csv_missing *missing,
                                struct csv_vector *out)
{
    double *values = out->values;
    uint64_t number[WORD];

    if (missing->numbers > 0) {
        // A plain number may mean a missing value.
        return csv_cells_float64(cells, missing, out);
    }
    out->nulls = false;
    for (uint32_t row = 0; row < cells->rows; row += WORD) {
        uint32_t rows = cells->rows - row < WORD ? cells->rows - row : WORD;
        uint64_t nulls = 0;
        struct word word;

        read_rows(cells, row, rows, true, number, &word);
        for (uint32_t i = 0; i + GROUP <= rows; i += GROUP) {
            uint32_t odd = 0;
            __m256d value = divide(load((const uint8_t *)(number + i)), &word.point[i], &odd);
            __m256i sign =
                _mm256_and_si256(signs((uint32_t)(word.negative >> i)), _mm256_set1_epi64x(INT64_MIN));

            _mm256_storeu_pd(values + row + i, _mm256_xor_pd(value, _mm256_castsi256_pd(sign)));
            word.odd |= (uint64_t)odd << i;
        }
        if (__builtin_expect(word.odd != 0, 0)) {
            uint32_t fitted =
                csv_cells_odd_float64(cells, missing, row, rows, word.odd, &nulls, values + row);

            if (fitted < rows) {
                return row + fitted;
            }
        }
        out->validity[row / WORD] = ~nulls;
        out->nulls |= nulls != 0;
    }
    return cells->rows;
}

uint32_t csv_cells_int64_avx2(const struct csv_cells *cells, const struct csv_missing *missing,
                              struct csv_vector *out)
{
    int64_t *values = out->values;

    if (missing->numbers > 0) {
        return csv_cells_int64(cells, missing, out);
    }
    out->nulls = false;
    for (uint32_t row = 0; row < cells->rows; row += WORD) {
        uint32_t rows = cells->rows - row < WORD ? cells->rows - row : WORD;
        struct word word;

        read_rows(cells, row, rows, false, (uint64_t *)values + row, &word);
        for (uint64_t left = word.negative & ~word.odd; left != 0; left &= left - 1) {
            int64_t *value = &values[row + (uint32_t)_tzcnt_u64(left)];

            *value = -*value;
        }
        if (__builtin_expect(word.odd != 0, 0)) {
            uint32_t fitted = csv_cells_odd_int64(cells, missing, row, rows, word.odd, values + row);

            if (fitted < rows) {
                return row + fitted;
            }
        }
        out->validity[row / WORD] = ~UINT64_C(0);
    }
    return cells->rows;
}
