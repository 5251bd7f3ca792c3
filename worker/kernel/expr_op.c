#include "worker/kernel/expr_op.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "worker/kernel/expr_cast.h"

// Elementwise over all rows, with `l` and `r` the operands: three loops, so that a literal
// stays in a register.
#define LOOP(OUT, IN, EXPRESSION)                                                                            \
    do {                                                                                                     \
        OUT *restrict o = (OUT *)(void *)result->values;                                                     \
        const IN *x = a->vector.values;                                                                      \
        const IN *y = b->vector.values;                                                                      \
        if (a->scalar) {                                                                                     \
            const IN l = x[0];                                                                               \
            for (uint32_t i = 0; i < rows; i++) {                                                            \
                const IN r = y[i];                                                                           \
                o[i] = (OUT)(EXPRESSION);                                                                    \
            }                                                                                                \
        } else if (b->scalar) {                                                                              \
            const IN r = y[0];                                                                               \
            for (uint32_t i = 0; i < rows; i++) {                                                            \
                const IN l = x[i];                                                                           \
                o[i] = (OUT)(EXPRESSION);                                                                    \
            }                                                                                                \
        } else {                                                                                             \
            for (uint32_t i = 0; i < rows; i++) {                                                            \
                const IN l = x[i];                                                                           \
                const IN r = y[i];                                                                           \
                o[i] = (OUT)(EXPRESSION);                                                                    \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

static size_t value_size(enum type type)
{
    switch (type) {
    case TYPE_BOOL:
        return 1;
    case TYPE_DICT:
        return sizeof(uint32_t);
    case TYPE_STRING:
        return sizeof(struct string_view);
    case TYPE_INT64:
    case TYPE_FLOAT64:
        break;
    }
    return 8;
}

static uint32_t words(uint32_t rows)
{
    return (rows + 63) / 64;
}

// result->validity = the rows present in both; NULL when all are.
static const uint64_t *both_present(const struct operand *a, const struct operand *b, uint32_t rows,
                                    struct result *result)
{
    const uint64_t *x = a->vector.validity;
    const uint64_t *y = b->vector.validity;

    if (x == NULL && y == NULL) {
        return NULL;
    }
    for (uint32_t w = 0; w < words(rows); w++) {
        // The validity of a scalar is one word, zero.
        uint64_t p = x == NULL ? UINT64_MAX : x[a->scalar ? 0 : w];
        uint64_t q = y == NULL ? UINT64_MAX : y[b->scalar ? 0 : w];

        result->validity[w] = p & q;
    }
    return result->validity;
}

// What lies below a null is zero.
static void clear_nulls(struct result *result, size_t size, uint32_t rows)
{
    for (uint32_t w = 0; w < words(rows); w++) {
        uint64_t missing = ~result->validity[w];

        if (missing == UINT64_MAX) {
            uint32_t n = rows - w * 64 < 64 ? rows - w * 64 : 64;

            memset(result->values + w * 64 * size, 0, n * size);
            continue;
        }
        for (; missing != 0; missing &= missing - 1) {
            uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(missing);

            if (row < rows) {
                memset(result->values + row * size, 0, size);
            }
        }
    }
}

static void finish(struct operand *out, enum type type, struct result *result, const uint64_t *validity,
                   uint32_t rows)
{
    if (validity != NULL) {
        clear_nulls(result, value_size(type), rows);
    }
    out->scalar = false;
    out->vector = (struct vector){.type = type, .values = result->values, .validity = validity};
}

void operand_spread(const struct operand *a, uint32_t rows, struct result *result, struct operand *out)
{
    size_t size = value_size(a->vector.type);

    for (uint32_t i = 0; i < rows; i++) {
        memcpy(result->values + i * size, a->vector.values, size);
    }
    if (a->vector.validity != NULL) {
        memset(result->validity, 0, sizeof(result->validity));
    }
    finish(out, a->vector.type, result, a->vector.validity != NULL ? result->validity : NULL, rows);
}

// ---- arithmetic ------------------------------------------------------------------

// Python's rounding, as numpy's npy_divmod has it.
static double float_mod(double l, double r)
{
    double mod = fmod(l, r);

    if (r == 0.0) {
        return mod;
    }
    if (mod != 0.0) {
        return (r < 0.0) != (mod < 0.0) ? mod + r : mod;
    }
    return copysign(0.0, r);
}

static double float_floordiv(double l, double r)
{
    double mod;
    double div;

    if (r == 0.0) {
        return l / r;
    }
    mod = fmod(l, r);
    div = (l - mod) / r;
    if (mod != 0.0 && (r < 0.0) != (mod < 0.0)) {
        div -= 1.0;
    }
    if (div != 0.0) {
        double floored = floor(div);

        return div - floored > 0.5 ? floored + 1.0 : floored;
    }
    return copysign(0.0, l / r);
}

static int64_t int_floordiv(int64_t l, int64_t r)
{
    if (r == -1) {
        return (int64_t)(0 - (uint64_t)l);
    }
    return l / r - (l % r != 0 && (l < 0) != (r < 0));
}

static int64_t int_mod(int64_t l, int64_t r)
{
    if (r == -1) {
        return 0;
    }
    int64_t mod = l % r;

    return mod != 0 && (mod < 0) != (r < 0) ? mod + r : mod;
}

static int64_t int_pow(int64_t base, int64_t exponent)
{
    uint64_t b = (uint64_t)base;
    uint64_t out = 1;

    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) {
            out *= b;
        }
        b *= b;
    }
    return (int64_t)out;
}

static double float_pow(double l, double r)
{
    // The cases that numpy spells out, and that need no libm.
    if (r == 2.0) {
        return l * l;
    }
    if (r == 1.0) {
        return l;
    }
    if (r == 0.5 && l >= 0.0) {
        return sqrt(l);
    }
    if (r == -1.0) {
        return 1.0 / l;
    }
    return pow(l, r);
}

static int int_slow(Dray__ExprKind kind, const struct operand *a, const struct operand *b,
                    const struct batch *batch, struct result *result, const uint64_t **validity,
                    struct error *err)
{
    int64_t *out = (int64_t *)(void *)result->values;
    const int64_t *x = a->vector.values;
    const int64_t *y = b->vector.values;

    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);
        int64_t l = x[a->scalar ? 0 : i];
        int64_t r = y[b->scalar ? 0 : i];

        if (kind == DRAY__EXPR_KIND__POW) {
            if (r < 0) {
                return error_set(err, EDOM,
                                 "int64 %lld ** %lld: an integer cannot be raised to a negative integer; "
                                 "make one of them a float",
                                 (long long)l, (long long)r);
            }
            out[i] = int_pow(l, r);
        } else if (r == 0) {
            if (*validity == NULL) {
                memset(result->validity, 0xff, sizeof(result->validity));
                *validity = result->validity;
            }
            result->validity[i >> 6] &= ~(UINT64_C(1) << (i & 63));
        } else {
            out[i] = kind == DRAY__EXPR_KIND__MOD ? int_mod(l, r) : int_floordiv(l, r);
        }
    }
    return 0;
}

static void float_slow(Dray__ExprKind kind, const struct operand *a, const struct operand *b,
                       const struct batch *batch, struct result *result)
{
    double *out = (double *)(void *)result->values;
    const double *x = a->vector.values;
    const double *y = b->vector.values;

    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);
        double l = x[a->scalar ? 0 : i];
        double r = y[b->scalar ? 0 : i];

        out[i] = kind == DRAY__EXPR_KIND__MOD   ? float_mod(l, r)
                 : kind == DRAY__EXPR_KIND__POW ? float_pow(l, r)
                                                : float_floordiv(l, r);
    }
}

static int concatenate(const struct operand *a, const struct operand *b, const struct batch *batch,
                       struct result *result, struct memo *memo, struct error *err)
{
    struct string_view *out = (struct string_view *)(void *)result->values;
    size_t total = 0;
    size_t at = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t j = 0; j < batch->selected; j++) {
            uint32_t i = batch_row(batch, j);
            struct string_view l = {"", 0};
            struct string_view r = {"", 0};

            if (vector_present(&a->vector, a->scalar ? 0 : i) &&
                vector_present(&b->vector, b->scalar ? 0 : i)) {
                l = vector_string(&a->vector, a->scalar ? 0 : i);
                r = vector_string(&b->vector, b->scalar ? 0 : i);
            }
            if (pass == 0) {
                total += (size_t)l.size + r.size;
                continue;
            }
            out[i] = (struct string_view){memo->text + at, l.size + r.size};
            if (l.size > 0) {
                memcpy(memo->text + at, l.data, l.size);
            }
            if (r.size > 0) {
                memcpy(memo->text + at + l.size, r.data, r.size);
            }
            at += (size_t)l.size + r.size;
        }
        if (pass == 0 && (total > INT32_MAX || memo_text(memo, total) < 0)) {
            return total > INT32_MAX
                       ? error_set(err, EFBIG, "joined strings of one batch take more than 2 GB")
                       : error_no_memory(err);
        }
    }
    return 0;
}

static int arithmetic(Dray__ExprKind kind, enum type type, const struct operand *a, const struct operand *b,
                      const struct batch *batch, struct result *result, struct memo *memo,
                      struct operand *out, struct error *err)
{
    uint32_t rows = batch->rows;
    const uint64_t *validity = both_present(a, b, rows, result);
    int rc = 0;

    switch (kind) {
    case DRAY__EXPR_KIND__ADD:
        if (type == TYPE_FLOAT64) {
            LOOP(double, double, l + r);
        } else if (type == TYPE_INT64) {
            LOOP(uint64_t, uint64_t, l + r);
        } else if (type == TYPE_BOOL) {
            LOOP(uint8_t, uint8_t, l | r);
        } else {
            rc = concatenate(a, b, batch, result, memo, err);
        }
        break;
    case DRAY__EXPR_KIND__SUB:
        if (type == TYPE_FLOAT64) {
            LOOP(double, double, l - r);
        } else {
            LOOP(uint64_t, uint64_t, l - r);
        }
        break;
    case DRAY__EXPR_KIND__MUL:
        if (type == TYPE_FLOAT64) {
            LOOP(double, double, l *r);
        } else if (type == TYPE_INT64) {
            LOOP(uint64_t, uint64_t, l * r);
        } else {
            LOOP(uint8_t, uint8_t, l & r);
        }
        break;
    case DRAY__EXPR_KIND__DIV:
        if (type == TYPE_FLOAT64) {
            LOOP(double, double, l / r);
        } else {
            LOOP(double, int64_t, (double)l / (double)r);
        }
        type = TYPE_FLOAT64;
        break;
    default:
        if (type == TYPE_FLOAT64) {
            float_slow(kind, a, b, batch, result);
        } else {
            rc = int_slow(kind, a, b, batch, result, &validity, err);
        }
        break;
    }
    if (rc == 0) {
        finish(out, type, result, validity, rows);
    }
    return rc;
}

// ---- comparison --------------------------------------------------------------------

#define COMPARE(IN)                                                                                          \
    do {                                                                                                     \
        switch (kind) {                                                                                      \
        case DRAY__EXPR_KIND__EQ:                                                                            \
            LOOP(uint8_t, IN, l == r);                                                                       \
            break;                                                                                           \
        case DRAY__EXPR_KIND__NE:                                                                            \
            LOOP(uint8_t, IN, l != r);                                                                       \
            break;                                                                                           \
        case DRAY__EXPR_KIND__LT:                                                                            \
            LOOP(uint8_t, IN, l < r);                                                                        \
            break;                                                                                           \
        case DRAY__EXPR_KIND__LE:                                                                            \
            LOOP(uint8_t, IN, l <= r);                                                                       \
            break;                                                                                           \
        case DRAY__EXPR_KIND__GT:                                                                            \
            LOOP(uint8_t, IN, l > r);                                                                        \
            break;                                                                                           \
        default:                                                                                             \
            LOOP(uint8_t, IN, l >= r);                                                                       \
            break;                                                                                           \
        }                                                                                                    \
    } while (0)

static bool string_answer(Dray__ExprKind kind, struct string_view l, struct string_view r)
{
    uint32_t n = l.size < r.size ? l.size : r.size;
    int order;

    if (kind == DRAY__EXPR_KIND__EQ || kind == DRAY__EXPR_KIND__NE) {
        bool same = l.size == r.size && (n == 0 || memcmp(l.data, r.data, n) == 0);

        return same == (kind == DRAY__EXPR_KIND__EQ);
    }
    order = n == 0 ? 0 : memcmp(l.data, r.data, n);
    if (order == 0) {
        order = (l.size > r.size) - (l.size < r.size);
    }
    switch (kind) {
    case DRAY__EXPR_KIND__LT:
        return order < 0;
    case DRAY__EXPR_KIND__LE:
        return order <= 0;
    case DRAY__EXPR_KIND__GT:
        return order > 0;
    default:
        return order >= 0;
    }
}

// Each entry of the dictionary once, not each row.
static int answer_entries(Dray__ExprKind kind, const struct operand *dict, const struct operand *literal,
                          bool swapped, struct memo *memo)
{
    const struct dictionary *dictionary = dict->vector.dictionary;
    struct string_view s = vector_string(&literal->vector, 0);

    if (memo->dictionary != dictionary) {
        memo->dictionary = dictionary;
        memo->answers = 0;
    }
    // One answer even for an empty dictionary: the code below a null is 0.
    if (memo->room == 0 || dictionary->count > memo->room) {
        uint32_t room = memo->room < 64 ? 64 : memo->room;

        while (room < dictionary->count) {
            room = room > UINT32_MAX / 2 ? dictionary->count : room * 2;
        }
        uint8_t *answer = arena_zalloc(memo->arena, room);

        if (answer == NULL) {
            return -ENOMEM;
        }
        if (memo->answers > 0) {
            memcpy(answer, memo->answer, memo->answers);
        }
        memo->answer = answer;
        memo->room = room;
    }
    for (; memo->answers < dictionary->count; memo->answers++) {
        struct string_view entry = dictionary->entry[memo->answers];

        memo->answer[memo->answers] = swapped ? string_answer(kind, s, entry) : string_answer(kind, entry, s);
    }
    return 0;
}

static int compare_strings(Dray__ExprKind kind, const struct operand *a, const struct operand *b,
                           const struct batch *batch, struct result *result, struct memo *memo,
                           struct error *err)
{
    uint8_t *out = result->values;
    const struct operand *dict = a->vector.type == TYPE_DICT && b->scalar   ? a
                                 : b->vector.type == TYPE_DICT && a->scalar ? b
                                                                            : NULL;

    if (dict != NULL && (dict == a ? b : a)->vector.validity == NULL) {
        if (answer_entries(kind, dict, dict == a ? b : a, dict == b, memo) < 0) {
            return error_no_memory(err);
        }
        const uint32_t *code = dict->vector.values;
        const uint8_t *answer = memo->answer;

        for (uint32_t j = 0; j < batch->selected; j++) {
            uint32_t i = batch_row(batch, j);

            out[i] = answer[code[i]];
        }
        return 0;
    }
    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);
        uint32_t x = a->scalar ? 0 : i;
        uint32_t y = b->scalar ? 0 : i;

        out[i] = vector_present(&a->vector, x) && vector_present(&b->vector, y) &&
                 string_answer(kind, vector_string(&a->vector, x), vector_string(&b->vector, y));
    }
    return 0;
}

static int comparison(Dray__ExprKind kind, enum type type, const struct operand *a, const struct operand *b,
                      const struct batch *batch, struct result *result, struct memo *memo,
                      struct operand *out, struct error *err)
{
    uint32_t rows = batch->rows;

    if (type == TYPE_FLOAT64) {
        COMPARE(double);
    } else if (type == TYPE_INT64) {
        COMPARE(int64_t);
    } else if (type == TYPE_BOOL) {
        COMPARE(uint8_t);
    } else {
        int rc = compare_strings(kind, a, b, batch, result, memo, err);

        if (rc < 0) {
            return rc;
        }
    }
    // Null compares false with everything, and so is not equal to anything.
    if (both_present(a, b, rows, result) != NULL) {
        if (kind == DRAY__EXPR_KIND__NE) {
            for (uint32_t i = 0; i < rows; i++) {
                bool null = !((result->validity[i >> 6] >> (i & 63)) & 1);

                result->values[i] = result->values[i] || null;
            }
        } else {
            clear_nulls(result, 1, rows);
        }
    }
    finish(out, TYPE_BOOL, result, NULL, rows);
    return 0;
}

static void logic(Dray__ExprKind kind, enum type type, const struct operand *a, const struct operand *b,
                  uint32_t rows, struct result *result, struct operand *out)
{
    const uint64_t *validity = NULL;

    if (type == TYPE_BOOL) {
        // Nulls are false: the byte below them is.
        if (kind == DRAY__EXPR_KIND__AND) {
            LOOP(uint8_t, uint8_t, l & r);
        } else if (kind == DRAY__EXPR_KIND__OR) {
            LOOP(uint8_t, uint8_t, l | r);
        } else {
            LOOP(uint8_t, uint8_t, l ^ r);
        }
    } else {
        validity = both_present(a, b, rows, result);
        if (kind == DRAY__EXPR_KIND__AND) {
            LOOP(uint64_t, uint64_t, l & r);
        } else if (kind == DRAY__EXPR_KIND__OR) {
            LOOP(uint64_t, uint64_t, l | r);
        } else {
            LOOP(uint64_t, uint64_t, l ^ r);
        }
    }
    finish(out, type, result, validity, rows);
}

int binary_eval(Dray__ExprKind kind, enum type type, const struct operand *a, const struct operand *b,
                const struct batch *batch, struct result *result, struct memo *memo, struct operand *out,
                struct error *err)
{
    if (kind < DRAY__EXPR_KIND__EQ) {
        return arithmetic(kind, type, a, b, batch, result, memo, out, err);
    }
    if (kind < DRAY__EXPR_KIND__AND) {
        return comparison(kind, type, a, b, batch, result, memo, out, err);
    }
    logic(kind, type, a, b, batch->rows, result, out);
    return 0;
}

// ---- one operand -------------------------------------------------------------------

static void nullness(bool want_null, const struct operand *a, uint32_t rows, struct result *result)
{
    const double *x = a->vector.values;

    for (uint32_t i = 0; i < rows; i++) {
        bool null = !vector_present(&a->vector, i) || (a->vector.type == TYPE_FLOAT64 && x[i] != x[i]);

        result->values[i] = null == want_null;
    }
}

int unary_eval(Dray__ExprKind kind, const struct operand *a, const struct batch *batch, struct result *result,
               struct operand *out, struct error *err)
{
    const struct operand *b = a; // for LOOP
    uint32_t rows = batch->rows;
    enum type type = a->vector.type;
    const uint64_t *validity = NULL;

    (void)err;
    if (kind == DRAY__EXPR_KIND__IS_NULL || kind == DRAY__EXPR_KIND__NOT_NULL) {
        nullness(kind == DRAY__EXPR_KIND__IS_NULL, a, rows, result);
        finish(out, TYPE_BOOL, result, NULL, rows);
        return 0;
    }
    if (kind != DRAY__EXPR_KIND__NOT || type != TYPE_BOOL) {
        validity = both_present(a, a, rows, result);
    }
    if (kind == DRAY__EXPR_KIND__NOT) {
        if (type == TYPE_BOOL) {
            LOOP(uint8_t, uint8_t, l == 0 && r == 0);
        } else {
            LOOP(uint64_t, uint64_t, ~(l | r));
        }
    } else if (type == TYPE_FLOAT64) {
        if (kind == DRAY__EXPR_KIND__NEG) {
            LOOP(double, double, ((void)r, -l));
        } else {
            LOOP(double, double, ((void)r, fabs(l)));
        }
    } else if (type == TYPE_INT64) {
        if (kind == DRAY__EXPR_KIND__NEG) {
            LOOP(uint64_t, uint64_t, ((void)r, 0 - l));
        } else {
            LOOP(uint64_t, uint64_t, ((void)r, l >> 63 ? 0 - l : l));
        }
    } else {
        LOOP(uint8_t, uint8_t, l | r); // abs of a bool
    }
    finish(out, type, result, validity, rows);
    return 0;
}
