#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"

enum { ALIGN = 64, SLACK_MIN = 4096 };

// Bytes that grow by doubling, aligned as buffers are.
struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity; // a multiple of ALIGN
};

struct column_builder {
    enum type type;
    int64_t length;
    int64_t nulls;
    struct bytes validity; // empty until the first null
    struct bytes offsets;  // STRING: the ends of the strings, the leading 0 comes with the first
    struct bytes values;
};

// Room for `more` bytes; the contents stay as they are when there is none.
static int bytes_reserve(struct bytes *b, size_t more)
{
    size_t want;

    if (more <= b->capacity - b->size) {
        return 0;
    }
    if (__builtin_add_overflow(b->size, more, &want) || want > SIZE_MAX / 4) {
        return -ENOMEM;
    }
    if (want < b->capacity * 2) {
        want = b->capacity * 2;
    }
    want = (want + ALIGN - 1) & ~(size_t)(ALIGN - 1);

    uint8_t *data = aligned_alloc(ALIGN, want);

    if (data == NULL) {
        return -ENOMEM;
    }
    if (b->size > 0) {
        memcpy(data, b->data, b->size);
    }
    free(b->data);
    b->data = data;
    b->capacity = want;
    return 0;
}

static void bytes_append(struct bytes *b, const void *data, size_t size)
{
    if (size > 0) {
        memcpy(b->data + b->size, data, size);
        b->size += size;
    }
}

static void bytes_clear(struct bytes *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}

static int bits_reserve(struct bytes *b, int64_t length)
{
    size_t need = (size_t)length / 8 + 1;

    return need <= b->size ? 0 : bytes_reserve(b, need - b->size);
}

// Appends bit number `length`; room is reserved.
static void bits_append(struct bytes *b, int64_t length, bool value)
{
    if (length % 8 == 0) {
        b->data[b->size++] = 0;
    }
    if (value) {
        bitmap_set(b->data, length);
    }
}

// Copies what leaves much room unused: a buffer is counted by its size.
static struct buffer *bytes_copy(const struct bytes *b)
{
    uint8_t *data;
    struct buffer *buffer = buffer_create(b->size, &data);

    if (buffer != NULL && b->size > 0) {
        memcpy(data, b->data, b->size);
    }
    return buffer;
}

static bool bytes_worth_moving(const struct bytes *b)
{
    return b->data != NULL && b->capacity - b->size <= b->size / 4 + SLACK_MIN && b->size >= SLACK_MIN;
}

static struct buffer *bytes_to_buffer(struct bytes *b)
{
    if (!bytes_worth_moving(b)) {
        return bytes_copy(b);
    }
    size_t padded = (b->size + ALIGN - 1) & ~(size_t)(ALIGN - 1);

    memset(b->data + b->size, 0, padded - b->size);
    return buffer_wrap(b->data, b->size, free, b->data);
}

// After bytes_to_buffer succeeded: what the buffer now owns is forgotten.
static void bytes_moved(struct bytes *b)
{
    if (bytes_worth_moving(b)) {
        memset(b, 0, sizeof(*b));
    } else {
        bytes_clear(b);
    }
}

// After a failure: the memory stays the builder's.
static void buffer_disown(struct buffer *buffer, const struct bytes *b)
{
    if (buffer != NULL && buffer->owner == b->data) {
        buffer->release = NULL;
    }
    buffer_unref(buffer);
}

struct column_builder *column_builder_create(enum type type)
{
    assert(type == TYPE_BOOL || type == TYPE_INT64 || type == TYPE_FLOAT64 || type == TYPE_STRING);

    struct column_builder *b = calloc(1, sizeof(*b));

    if (b != NULL) {
        b->type = type;
    }
    return b;
}

void column_builder_destroy(struct column_builder *b)
{
    if (b != NULL) {
        bytes_clear(&b->validity);
        bytes_clear(&b->offsets);
        bytes_clear(&b->values);
        free(b);
    }
}

int64_t column_builder_length(const struct column_builder *b)
{
    return b->length;
}

size_t column_builder_bytes(const struct column_builder *b)
{
    return b->validity.capacity + b->offsets.capacity + b->values.capacity;
}

// Everything that a row may need, so that the append itself cannot fail.
static int reserve(struct column_builder *b, size_t string_bytes)
{
    int rc = 0;

    if (b->nulls > 0) {
        rc = bits_reserve(&b->validity, b->length);
    }
    if (rc == 0 && b->type == TYPE_BOOL) {
        rc = bits_reserve(&b->values, b->length);
    } else if (rc == 0 && b->type == TYPE_STRING) {
        rc = bytes_reserve(&b->offsets, 2 * sizeof(int32_t));
        if (rc == 0) {
            rc = bytes_reserve(&b->values, string_bytes);
        }
    } else if (rc == 0) {
        rc = bytes_reserve(&b->values, sizeof(int64_t));
    }
    return rc;
}

static void append(struct column_builder *b, const void *data, size_t size)
{
    if (b->type == TYPE_STRING) {
        if (b->length == 0) {
            b->offsets.size = 0;
            bytes_append(&b->offsets, &(int32_t){0}, sizeof(int32_t));
        }
        bytes_append(&b->values, data, size);
        bytes_append(&b->offsets, &(int32_t){(int32_t)b->values.size}, sizeof(int32_t));
    } else if (b->type == TYPE_BOOL) {
        bits_append(&b->values, b->length, *(const bool *)data);
    } else {
        bytes_append(&b->values, data, size);
    }
}

static int append_value(struct column_builder *b, const void *data, size_t size)
{
    int rc = reserve(b, b->type == TYPE_STRING ? size : 0);

    if (rc < 0) {
        return rc;
    }
    append(b, data, size);
    if (b->nulls > 0) {
        bits_append(&b->validity, b->length, true);
    }
    b->length++;
    return 0;
}

int column_builder_null(struct column_builder *b)
{
    static const uint64_t zero = 0;

    if (b->nulls == 0) {
        int rc = bits_reserve(&b->validity, b->length);

        if (rc < 0) {
            return rc;
        }
    }
    int rc = reserve(b, 0);

    if (rc < 0) {
        return rc;
    }
    if (b->nulls == 0 && b->length > 0) { // all before it are present
        b->validity.size = (size_t)(b->length + 7) / 8;
        memset(b->validity.data, 0xff, b->validity.size);
        if (b->length % 8 != 0) {
            b->validity.data[b->validity.size - 1] = (uint8_t)((1U << (b->length % 8)) - 1);
        }
    }
    append(b, &zero, b->type == TYPE_STRING ? 0 : sizeof(zero));
    bits_append(&b->validity, b->length, false);
    b->nulls++;
    b->length++;
    return 0;
}

int column_builder_bool(struct column_builder *b, bool value)
{
    assert(b->type == TYPE_BOOL);
    return append_value(b, &value, sizeof(value));
}

int column_builder_int64(struct column_builder *b, int64_t value)
{
    assert(b->type == TYPE_INT64);
    return append_value(b, &value, sizeof(value));
}

int column_builder_float64(struct column_builder *b, double value)
{
    assert(b->type == TYPE_FLOAT64);
    return append_value(b, &value, sizeof(value));
}

int column_builder_string(struct column_builder *b, const void *data, size_t size)
{
    assert(b->type == TYPE_STRING);
    if (size > (size_t)INT32_MAX - b->values.size) {
        return -EFBIG;
    }
    return append_value(b, data, size);
}

int column_builder_finish(struct column_builder *b, const char *name, struct column *out)
{
    struct buffer *validity = NULL;
    struct buffer *offsets = NULL;
    struct buffer *values = NULL;
    char *copy = strdup(name);

    if (b->type == TYPE_STRING && b->length == 0) {
        if (bytes_reserve(&b->offsets, sizeof(int32_t)) < 0) {
            goto fail;
        }
        b->offsets.size = 0;
        bytes_append(&b->offsets, &(int32_t){0}, sizeof(int32_t));
    }
    if (copy == NULL || (values = bytes_to_buffer(&b->values)) == NULL ||
        (b->nulls > 0 && (validity = bytes_to_buffer(&b->validity)) == NULL) ||
        (b->type == TYPE_STRING && (offsets = bytes_to_buffer(&b->offsets)) == NULL)) {
        goto fail;
    }
    *out = (struct column){
        .type = b->type,
        .name = copy,
        .length = b->length,
        .nulls = b->nulls,
        .validity = validity,
        .offsets = offsets,
        .values = values,
    };
    bytes_moved(&b->values);
    bytes_moved(&b->validity);
    bytes_moved(&b->offsets);
    b->length = 0;
    b->nulls = 0;
    return 0;
fail:
    buffer_disown(values, &b->values);
    buffer_disown(validity, &b->validity);
    buffer_disown(offsets, &b->offsets);
    free(copy);
    return -ENOMEM;
}
