#include "worker/kernel/take.h"

#include <errno.h>
#include <string.h>

#include "worker/kernel/intern.h"

// A table being read, batch by batch.  Numbers and codes are passed in place; the rest goes
// through buffers of one batch.
struct reader {
    struct memory memory;
    struct heap heap; // everything below, and the dictionaries, which live until the end
    uint32_t columns;
    struct vector *vector;
    void **values;       // a batch of the column's widest form, made at need
    uint64_t **validity; // [BATCH_ROWS / 64], made at need
};

static int reader_open(struct reader *reader, struct kernel_env *env, uint32_t columns, struct error *err)
{
    void *p;
    int rc;

    memset(reader, 0, sizeof(*reader));
    reader->memory = (struct memory){.budget = env->budget, .what = "take_inputs"};
    reader->heap.memory = &reader->memory;
    reader->columns = columns;
    rc = heap_alloc(&reader->heap, columns * (sizeof(struct vector) + 2 * sizeof(void *)), &p, err);
    if (rc < 0) {
        return rc;
    }
    memset(p, 0, columns * (sizeof(struct vector) + 2 * sizeof(void *)));
    reader->vector = p;
    reader->values = (void **)(reader->vector + columns);
    reader->validity = (uint64_t **)(reader->values + columns);
    return 0;
}

static int make_dictionary(struct reader *reader, const struct column *c, struct vector *out,
                           struct error *err)
{
    struct dictionary *dictionary;
    struct string_view *entry;
    void *p;
    uint32_t count = (uint32_t)c->length;
    int rc = heap_alloc(&reader->heap, sizeof(*dictionary) + count * sizeof(*entry), &p, err);

    if (rc < 0) {
        return rc;
    }
    dictionary = p;
    entry = (struct string_view *)(dictionary + 1);
    for (uint32_t i = 0; i < count; i++) {
        size_t size;

        entry[i].data = column_string(c, i, &size);
        entry[i].size = (uint32_t)size;
    }
    dictionary->entry = entry;
    dictionary->count = count;
    out->dictionary = dictionary;
    return 0;
}

// What does not change from batch to batch of one table.
static int reader_start(struct reader *reader, const struct table *table, bool gather, struct error *err)
{
    for (uint32_t i = 0; i < table->columns; i++) {
        const struct column *c = &table->column[i];
        bool copied = gather || c->type == TYPE_BOOL || c->type == TYPE_STRING;
        int rc = 0;

        reader->vector[i] = (struct vector){.type = c->type};
        if (c->type == TYPE_DICT) {
            rc = make_dictionary(reader, c->dictionary, &reader->vector[i], err);
        }
        if (rc == 0 && copied && reader->values[i] == NULL) {
            rc = heap_alloc(&reader->heap, BATCH_ROWS * sizeof(struct string_view), &reader->values[i], err);
        }
        if (rc == 0 && c->validity != NULL && reader->validity[i] == NULL) {
            void *p;

            rc = heap_alloc(&reader->heap, BATCH_ROWS / 8, &p, err);
            reader->validity[i] = rc == 0 ? p : NULL;
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void read_slice(struct reader *reader, uint32_t i, const struct column *c, int64_t row, uint32_t rows)
{
    struct vector *v = &reader->vector[i];

    v->validity = NULL;
    if (c->validity != NULL) {
        memcpy(reader->validity[i], c->validity->data + row / 8, (rows + 7) / 8);
        v->validity = reader->validity[i];
    }
    switch (c->type) {
    case TYPE_BOOL: {
        uint8_t *out = reader->values[i];
        const uint8_t *bits = c->values->data + row / 8;

        for (uint32_t j = 0; j < rows; j++) {
            out[j] = (bits[j >> 3] >> (j & 7)) & 1;
        }
        v->values = out;
        break;
    }
    case TYPE_STRING: {
        struct string_view *out = reader->values[i];
        const int32_t *offset = (const int32_t *)(const void *)c->offsets->data + row;
        const char *bytes = c->values != NULL ? (const char *)c->values->data : "";

        for (uint32_t j = 0; j < rows; j++) {
            out[j] = (struct string_view){bytes + offset[j], (uint32_t)(offset[j + 1] - offset[j])};
        }
        v->values = out;
        break;
    }
    case TYPE_DICT:
        v->values = (const uint32_t *)(const void *)c->values->data + row;
        break;
    case TYPE_INT64:
    case TYPE_FLOAT64:
        v->values = (const uint64_t *)(const void *)c->values->data + row;
        break;
    }
}

static void read_rows(struct reader *reader, uint32_t i, const struct column *c, const uint32_t *order,
                      uint32_t rows)
{
    struct vector *v = &reader->vector[i];

    v->values = reader->values[i];
    v->validity = NULL;
    if (c->validity != NULL) {
        uint64_t *validity = reader->validity[i];

        memset(validity, 0, BATCH_ROWS / 8);
        for (uint32_t j = 0; j < rows; j++) {
            validity[j >> 6] |= (uint64_t)bitmap_get(c->validity->data, order[j]) << (j & 63);
        }
        v->validity = validity;
    }
    switch (c->type) {
    case TYPE_BOOL:
        for (uint32_t j = 0; j < rows; j++) {
            ((uint8_t *)reader->values[i])[j] = column_bool(c, order[j]);
        }
        break;
    case TYPE_STRING:
        for (uint32_t j = 0; j < rows; j++) {
            size_t size;
            const char *data = column_string(c, order[j], &size);

            ((struct string_view *)reader->values[i])[j] = (struct string_view){data, (uint32_t)size};
        }
        break;
    case TYPE_DICT:
        for (uint32_t j = 0; j < rows; j++) {
            ((uint32_t *)reader->values[i])[j] = ((const uint32_t *)(const void *)c->values->data)[order[j]];
        }
        break;
    case TYPE_INT64:
    case TYPE_FLOAT64:
        for (uint32_t j = 0; j < rows; j++) {
            ((uint64_t *)reader->values[i])[j] = ((const uint64_t *)(const void *)c->values->data)[order[j]];
        }
        break;
    }
}

static int push_all(struct reader *reader, const struct table *table, const uint32_t *order, int64_t count,
                    struct kernel_env *env, struct stage *next, struct error *err)
{
    int rc = count > 0 ? reader_start(reader, table, order != NULL, err) : 0;

    for (int64_t row = 0; rc == 0 && row < count; row += BATCH_ROWS) {
        uint32_t rows = count - row < BATCH_ROWS ? (uint32_t)(count - row) : BATCH_ROWS;

        rc = kernel_cancelled(env, err);
        if (rc < 0) {
            break;
        }
        for (uint32_t i = 0; i < table->columns; i++) {
            if (order != NULL) {
                read_rows(reader, i, &table->column[i], order + row, rows);
            } else {
                read_slice(reader, i, &table->column[i], row, rows);
            }
        }
        struct batch batch = {
            .rows = rows, .columns = table->columns, .column = reader->vector, .selected = rows};

        rc = stage_push(next, &batch, err);
    }
    return rc;
}

int table_push(const struct table *table, const uint32_t *order, int64_t count, struct kernel_env *env,
               struct stage *next, struct error *err)
{
    struct reader reader;
    int rc = reader_open(&reader, env, table->columns, err);

    if (rc == 0) {
        rc = push_all(&reader, table, order, count, env, next, err);
    }
    heap_free(&reader.heap);
    return rc;
}

// ---- the source ------------------------------------------------------------------

static uint32_t input_count(const struct kernel_inputs *inputs)
{
    return inputs->lists > 0 ? inputs->start[inputs->lists] : 0;
}

static enum type plain(enum type type)
{
    return type == TYPE_DICT ? TYPE_STRING : type;
}

static int check_same(const struct table *table, uint32_t number, const struct schema *schema,
                      struct error *err)
{
    if (table->columns != schema->columns) {
        return error_set(err, EINVAL, "input partition %u has %u columns, the first has %u", number,
                         table->columns, schema->columns);
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        if (plain(table->column[i].type) != schema->type[i]) {
            return error_set(
                err, EINVAL, "column '%.200s' is %s in the first input partition and %s in partition %u",
                schema->name[i], type_name(schema->type[i]), type_name(table->column[i].type), number);
        }
    }
    return 0;
}

static int take_schema(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                       struct kernel_env *env, struct arena *arena, struct schema *out, struct error *err)
{
    uint32_t count = input_count(inputs);

    (void)step;
    (void)index;
    (void)env;
    for (uint32_t i = 0; i < count; i++) {
        const struct partition *p = inputs->partition[i];
        int rc = 0;

        if (p->kind != PARTITION_TABLE) {
            return error_set(err, EINVAL, "input partition %u is not a table", i);
        }
        if (i > 0) {
            rc = check_same(p->table, i, out, err);
            if (rc < 0) {
                return rc;
            }
            continue;
        }
        if (schema_create(out, p->table->columns, arena) < 0) {
            return error_no_memory(err);
        }
        for (uint32_t k = 0; k < p->table->columns; k++) {
            out->name[k] = p->table->column[k].name;
            out->type[k] = plain(p->table->column[k].type);
        }
    }
    return count == 0 ? schema_create(out, 0, arena) : 0;
}

static int take_run(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                    struct kernel_env *env, struct arena *arena, struct stage *next, struct error *err)
{
    uint32_t count = input_count(inputs);
    struct reader reader;
    int rc = reader_open(&reader, env, count > 0 ? inputs->partition[0]->table->columns : 0, err);

    (void)step;
    (void)index;
    (void)arena;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        const struct table *table = inputs->partition[i]->table;

        rc = push_all(&reader, table, NULL, table->rows, env, next, err);
    }
    heap_free(&reader.heap);
    return rc;
}

const struct source_class take_inputs_source = {
    .name = "take_inputs",
    .schema = take_schema,
    .run = take_run,
};
