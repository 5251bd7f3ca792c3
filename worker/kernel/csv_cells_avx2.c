// Numbers with AVX2: four rows at a time.  A field's last 32 bytes fill a register, right-aligned; the bytes up to the
// point move up by one (a second load, one byte earlier), which leaves nothing but digits; pairs, fours and eights of
// digits become numbers by multiply-add (after D. Lemire's and W. Mula's parsers).  How w / 10^k is rounded
// without a division: csv_cells_avx512.c.
#include "worker/kernel/csv_cells.h"

#include <immintrin.h>

enum { WIDTH = 32, GROUP = 4, WORD = 64, DIGITS_MAX = 19 };

// By the point's place among the 32 bytes (32: none): which bytes move, and the power of ten behind it.
static const struct place {
    uint8_t move[WIDTH];
} places[WIDTH + 1] = {
#define M4(n, i) (n) >= (i) ? 0xff : 0, (n) >= (i) + 1 ? 0xff : 0, (n) >= (i) + 2 ? 0xff : 0, (n) >= (i) + 3 ? 0xff : 0
#define MOVE(n) {{M4(n, 0), M4(n, 4), M4(n, 8), M4(n, 12), M4(n, 16), M4(n, 20), M4(n, 24), M4(n, 28)}}
    MOVE(0),  MOVE(1),  MOVE(2),  MOVE(3),  MOVE(4),  MOVE(5),  MOVE(6),  MOVE(7),  MOVE(8),  MOVE(9),  MOVE(10),
    MOVE(11), MOVE(12), MOVE(13), MOVE(14), MOVE(15), MOVE(16), MOVE(17), MOVE(18), MOVE(19), MOVE(20), MOVE(21),
    MOVE(22), MOVE(23), MOVE(24), MOVE(25), MOVE(26), MOVE(27), MOVE(28), MOVE(29), MOVE(30), MOVE(31), MOVE(-1),
#undef MOVE
#undef M4
};

// The last n of 32 bytes begin at ends + n.
static const uint8_t ends[2 * WIDTH] = {[WIDTH] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xff,           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xff,           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

// 10^k and its inverse for a point at place 31 - k.  Places before 12 mean more digits than are read here.
static const struct scale {
    double power, inverse;
} scales[WIDTH + 1] = {
    {1, 1},       {1, 1},       {1, 1},       {1, 1},       {1, 1},       {1, 1},       {1, 1},
    {1, 1},       {1, 1},       {1, 1},       {1, 1},       {1, 1},       {1e19, 1e-19}, {1e18, 1e-18},
    {1e17, 1e-17}, {1e16, 1e-16}, {1e15, 1e-15}, {1e14, 1e-14}, {1e13, 1e-13}, {1e12, 1e-12}, {1e11, 1e-11},
    {1e10, 1e-10}, {1e9, 1e-9},   {1e8, 1e-8},   {1e7, 1e-7},   {1e6, 1e-6},   {1e5, 1e-5},   {1e4, 1e-4},
    {1e3, 1e-3},   {1e2, 1e-2},   {1e1, 1e-1},   {1, 1},        {1, 1},
};

// Four rows.
struct group {
    __m256i digits[GROUP]; // of each row, one a byte
    uint32_t point[GROUP]; // place of the point
    uint32_t negative;     // a bit a row
    uint32_t odd;          // too many digits, or none
};

static inline __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline void read_row(const struct csv_cells *cells, uint32_t row, uint32_t i, bool has_points, bool is_signed,
                            uint32_t digits_max, struct group *g)
{
    uint32_t start = csv_cell_start(cells, row);
    uint32_t end = csv_cell_end(cells, row);
    const uint8_t *last = cells->base + end;
    __m256i x = load(last - WIDTH);
    uint32_t point = WIDTH;

    if (is_signed) {
        // An empty field's byte is the separator behind it.
        uint32_t minus = cells->base[start] == '-';

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
    g->point[i] = point;
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
    __m256i eights =
        _mm256_madd_epi16(_mm256_packus_epi32(fours(first), fours(second)), _mm256_set1_epi32(1 << 16 | 10000));

    return _mm256_add_epi64(_mm256_mul_epu32(eights, _mm256_set1_epi64x(100000000)), _mm256_srli_epi64(eights, 32));
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

// Rows [row, row + 4); those behind the last one repeat it.  False: some byte is no digit, and odd has the rows.
static inline bool read_group(const struct csv_cells *cells, uint32_t row, bool has_points, bool is_signed,
                              uint32_t digits_max, struct group *g)
{
    uint32_t last = cells->rows - 1;

    g->negative = g->odd = 0;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < GROUP; i++) {
        read_row(cells, row + i < last ? row + i : last, i, has_points, is_signed, digits_max, g);
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

static bool has_minus(const struct csv_cells *cells, uint32_t row)
{
    bool found = false;

    for (uint32_t r = row; r < row + GROUP && r < cells->rows; r++) {
        uint32_t start = csv_cell_start(cells, r);

        found |= start < csv_cell_end(cells, r) && cells->base[start] == '-';
    }
    return found;
}

// The first group with a minus and all behind it are read as signed.
static inline void read_any(const struct csv_cells *cells, uint32_t row, bool has_points, uint32_t digits_max,
                            bool *is_signed, struct group *g)
{
    if (__builtin_expect(!*is_signed, 1)) {
        if (read_group(cells, row, has_points, false, digits_max, g) || !has_minus(cells, row)) {
            return;
        }
        *is_signed = true;
    }
    read_group(cells, row, has_points, true, digits_max, g);
}

uint32_t csv_cells_float64_avx2(const struct csv_cells *cells, const struct csv_missing *missing,
                                struct csv_vector *out)
{
    const struct csv_cells c = *cells;
    double *values = out->values;
    bool is_signed = false;

    if (missing->numbers > 0) {
        // A plain number may mean a missing value.
        return csv_cells_float64(cells, missing, out);
    }
    out->nulls = false;
    for (uint32_t row = 0; row < c.rows; row += WORD) {
        uint32_t rows = c.rows - row < WORD ? c.rows - row : WORD;
        uint64_t odd = 0;
        uint64_t nulls = 0;

        for (uint32_t i = 0; i < rows; i += GROUP) {
            struct group g;

            read_any(&c, row + i, true, DIGITS_MAX, &is_signed, &g);

            __m256d value = divide(numbers(&g), g.point, &g.odd);

            value = _mm256_xor_pd(value, _mm256_castsi256_pd(_mm256_and_si256(
                                             signs(g.negative), _mm256_set1_epi64x(INT64_MIN))));
            _mm256_storeu_pd(values + row + i, value);
            odd |= (uint64_t)g.odd << i;
        }
        if (__builtin_expect(odd != 0, 0)) {
            uint32_t fitted = csv_cells_odd_float64(&c, missing, row, rows, odd, &nulls, values + row);

            if (fitted < rows) {
                return row + fitted;
            }
        }
        out->validity[row / WORD] = ~nulls;
        out->nulls |= nulls != 0;
    }
    return c.rows;
}

uint32_t csv_cells_int64_avx2(const struct csv_cells *cells, const struct csv_missing *missing,
                              struct csv_vector *out)
{
    const struct csv_cells c = *cells;
    int64_t *values = out->values;
    bool is_signed = false;

    if (missing->numbers > 0) {
        return csv_cells_int64(cells, missing, out);
    }
    out->nulls = false;
    for (uint32_t row = 0; row < c.rows; row += WORD) {
        uint32_t rows = c.rows - row < WORD ? c.rows - row : WORD;
        uint64_t odd = 0;

        for (uint32_t i = 0; i < rows; i += GROUP) {
            struct group g;

            read_any(&c, row + i, false, DIGITS_MAX - 1, &is_signed, &g);

            __m256i w = numbers(&g);
            __m256i minus = _mm256_cmpgt_epi64(_mm256_setzero_si256(), signs(g.negative));

            w = _mm256_sub_epi64(_mm256_xor_si256(w, minus), minus);
            _mm256_storeu_si256((__m256i *)(void *)(values + row + i), w);
            odd |= (uint64_t)g.odd << i;
        }
        if (__builtin_expect(odd != 0, 0)) {
            uint32_t fitted = csv_cells_odd_int64(&c, missing, row, rows, odd, values + row);

            if (fitted < rows) {
                return row + fitted;
            }
        }
        out->validity[row / WORD] = ~UINT64_C(0);
    }
    return c.rows;
}
