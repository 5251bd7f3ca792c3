#include "worker/kernel/expr_cast.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "proto/number.h"

int memo_text(struct memo *memo, size_t size)
{
    if (size > memo->text_size || memo->text == NULL) {
        size_t room = memo->text_size * 2 > size ? memo->text_size * 2 : size;
        char *text = arena_alloc(memo->arena, room);

        if (text == NULL) {
            return -ENOMEM;
        }
        memo->text = text;
        memo->text_size = room;
    }
    return 0;
}

static void to_float64(const struct operand *a, uint32_t rows, double *restrict out)
{
    if (a->vector.type == TYPE_BOOL) {
        const uint8_t *x = a->vector.values;

        for (uint32_t i = 0; i < rows; i++) {
            out[i] = x[i];
        }
    } else {
        const int64_t *x = a->vector.values;

        for (uint32_t i = 0; i < rows; i++) {
            out[i] = (double)x[i];
        }
    }
}

static void to_bool(const struct operand *a, const struct batch *batch, uint8_t *out)
{
    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);

        if (!vector_present(&a->vector, i)) {
            out[i] = 0;
        } else if (a->vector.type == TYPE_FLOAT64) {
            out[i] = ((const double *)a->vector.values)[i] != 0.0;
        } else if (a->vector.type == TYPE_INT64) {
            out[i] = ((const int64_t *)a->vector.values)[i] != 0;
        } else {
            out[i] = vector_string(&a->vector, i).size > 0;
        }
    }
}

static int float_to_int64(const struct operand *a, const struct batch *batch, struct result *result,
                          int64_t *out, struct error *err)
{
    const double *x = a->vector.values;

    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);

        if (x[i] != x[i]) {
            result->validity[i >> 6] &= ~(UINT64_C(1) << (i & 63));
            out[i] = 0;
        } else if (x[i] >= -0x1p63 && x[i] < 0x1p63) {
            out[i] = (int64_t)x[i];
        } else {
            return error_set(err, ERANGE, "cannot convert %g to int64", x[i]);
        }
    }
    return 0;
}

static int parse_strings(enum type type, const struct operand *a, const struct batch *batch,
                         struct result *result, struct error *err)
{
    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);
        struct string_view s;
        bool good;

        if (!vector_present(&a->vector, i)) {
            ((int64_t *)(void *)result->values)[i] = 0;
            continue;
        }
        s = vector_string(&a->vector, i);
        while (s.size > 0 && (*s.data == ' ' || *s.data == '\t')) {
            s.data++;
            s.size--;
        }
        while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t')) {
            s.size--;
        }
        good = type == TYPE_INT64
                   ? number_parse_int64(s.data, s.size, &((int64_t *)(void *)result->values)[i])
                   : number_parse_float64(s.data, s.size, &((double *)(void *)result->values)[i]);
        if (!good) {
            return error_set(err, EINVAL, "could not convert string '%.*s' to %s",
                             s.size < 100 ? (int)s.size : 100, s.data, type_name(type));
        }
    }
    return 0;
}

static int print_values(const struct operand *a, const struct batch *batch, struct memo *memo,
                        struct string_view *out, struct error *err)
{
    char *text;

    if (memo_text(memo, (size_t)batch->rows * NUMBER_TEXT_MAX) < 0) {
        return error_no_memory(err);
    }
    text = memo->text;
    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t i = batch_row(batch, j);
        size_t size;

        out[i] = (struct string_view){text, 0};
        if (!vector_present(&a->vector, i)) {
            continue;
        }
        if (a->vector.type == TYPE_BOOL) {
            bool value = ((const uint8_t *)a->vector.values)[i] != 0;

            size = value ? 4 : 5;
            memcpy(text, value ? "True" : "False", size);
        } else if (a->vector.type == TYPE_INT64) {
            size = number_print_int64(((const int64_t *)a->vector.values)[i], text);
        } else {
            size = number_print_float64(((const double *)a->vector.values)[i], text);
        }
        out[i].size = (uint32_t)size;
        text += size;
    }
    return 0;
}

int cast_eval(enum type type, const struct operand *a, const struct batch *batch, struct result *result,
              struct memo *memo, struct operand *out, struct error *err)
{
    bool text = a->vector.type == TYPE_STRING || a->vector.type == TYPE_DICT;
    bool may_lose = type == TYPE_INT64 && a->vector.type == TYPE_FLOAT64;
    uint32_t words = (batch->rows + 63) / 64;
    int rc = 0;

    if (a->vector.validity != NULL) {
        memcpy(result->validity, a->vector.validity, words * sizeof(uint64_t));
    } else if (may_lose) {
        memset(result->validity, 0xff, words * sizeof(uint64_t));
    }
    if (type == TYPE_STRING) {
        rc = print_values(a, batch, memo, (struct string_view *)(void *)result->values, err);
    } else if (type == TYPE_BOOL) {
        to_bool(a, batch, result->values);
    } else if (text) {
        rc = parse_strings(type, a, batch, result, err);
    } else if (type == TYPE_FLOAT64) {
        to_float64(a, batch->rows, (double *)(void *)result->values);
    } else if (may_lose) {
        rc = float_to_int64(a, batch, result, (int64_t *)(void *)result->values, err);
    } else {
        const uint8_t *x = a->vector.values;
        int64_t *o = (int64_t *)(void *)result->values;

        for (uint32_t i = 0; i < batch->rows; i++) {
            o[i] = x[i];
        }
    }
    if (rc == 0) {
        out->scalar = false;
        out->vector =
            (struct vector){.type = type,
                            .values = result->values,
                            .validity = a->vector.validity != NULL || may_lose ? result->validity : NULL};
    }
    return rc;
}
