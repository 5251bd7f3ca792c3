#include "worker/kernel/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kernel/intern.h"

struct target {
    const char *name;
    enum type type; // BOOL, INT64, FLOAT64, STRING
    bool dict;      // STRING as codes into `intern`
    struct block values;
    struct block offsets;  // STRING: int32_t[rows + 1]
    size_t bytes;          // STRING: of values in use
    struct block validity; // from the first null on, zeroed ahead
    int64_t nulls;
    struct intern intern;
    struct remap remap;
};

struct collector {
    struct memory *memory;
    int64_t rows;
    uint32_t columns;
    struct target target[];
};

struct collector *collector_create(const struct schema *schema, struct memory *memory)
{
    struct collector *c = calloc(1, sizeof(*c) + schema->columns * sizeof(struct target));

    if (c == NULL) {
        return NULL;
    }
    c->memory = memory;
    c->columns = schema->columns;
    for (uint32_t i = 0; i < schema->columns; i++) {
        struct target *t = &c->target[i];

        t->name = schema->name[i];
        t->type = schema->type[i] == TYPE_DICT ? TYPE_STRING : schema->type[i];
        t->dict = t->type == TYPE_STRING;
        intern_init(&t->intern, memory);
    }
    return c;
}

static void target_clear(struct target *t, struct memory *memory)
{
    block_free(&t->values, memory);
    block_free(&t->offsets, memory);
    block_free(&t->validity, memory);
    intern_free(&t->intern);
    remap_free(&t->remap, memory);
    t->bytes = 0;
    t->nulls = 0;
}

void collector_destroy(struct collector *c)
{
    if (c != NULL) {
        for (uint32_t i = 0; i < c->columns; i++) {
            target_clear(&c->target[i], c->memory);
        }
        free(c);
    }
}

int64_t collector_rows(const struct collector *c)
{
    return c->rows;
}

static void set_bits(uint8_t *bits, int64_t from, int64_t to)
{
    for (; from < to && (from & 7) != 0; from++) {
        bitmap_set(bits, from);
    }
    if (from < to) {
        memset(bits + from / 8, 0xff, (size_t)(to - from) / 8);
        from += (to - from) & ~(int64_t)7;
    }
    for (; from < to; from++) {
        bitmap_set(bits, from);
    }
}

static int add_validity(struct collector *c, struct target *t, const struct batch *batch,
                        const struct vector *v, struct error *err)
{
    int64_t end = c->rows + batch->selected;
    bool fresh = t->validity.data == NULL;
    uint32_t nulls = 0;

    if (v->validity != NULL) {
        for (uint32_t j = 0; j < batch->selected; j++) {
            nulls += !vector_present(v, batch_row(batch, j));
        }
    }
    if (nulls == 0 && fresh) {
        return 0;
    }
    int rc = block_reserve_zero(&t->validity, c->memory, ((size_t)end + 7) / 8, 1, err);

    if (rc < 0) {
        return rc;
    }
    uint8_t *bits = t->validity.data;

    if (fresh) {
        set_bits(bits, 0, c->rows);
    }
    if (nulls == 0) {
        set_bits(bits, c->rows, end);
    } else {
        for (uint32_t j = 0; j < batch->selected; j++) {
            if (vector_present(v, batch_row(batch, j))) {
                bitmap_set(bits, c->rows + j);
            }
        }
    }
    t->nulls += nulls;
    return 0;
}

static int add_words(struct collector *c, struct target *t, const struct batch *batch, const struct vector *v,
                     struct error *err)
{
    int rc = block_reserve(&t->values, c->memory, (size_t)c->rows + batch->selected, 8, err);

    if (rc < 0) {
        return rc;
    }
    uint64_t *out = (uint64_t *)t->values.data + c->rows;
    const uint64_t *in = v->values;

    if (batch->selection == NULL) {
        memcpy(out, in, batch->rows * sizeof(*in));
    } else {
        for (uint32_t j = 0; j < batch->selected; j++) {
            out[j] = in[batch->selection[j]];
        }
    }
    return 0;
}

static int add_bools(struct collector *c, struct target *t, const struct batch *batch, const struct vector *v,
                     struct error *err)
{
    int64_t end = c->rows + batch->selected;
    int rc = block_reserve_zero(&t->values, c->memory, ((size_t)end + 7) / 8, 1, err);

    if (rc < 0) {
        return rc;
    }
    uint8_t *out = t->values.data;
    const uint8_t *in = v->values;

    for (uint32_t j = 0; j < batch->selected; j++) {
        int64_t at = c->rows + j;

        out[at >> 3] = (uint8_t)(out[at >> 3] | (in[batch_row(batch, j)] << (at & 7)));
    }
    return 0;
}

static int add_codes(struct collector *c, struct target *t, const struct batch *batch, const struct vector *v,
                     struct error *err)
{
    uint32_t *id;
    int rc = block_reserve(&t->values, c->memory, (size_t)c->rows + batch->selected, sizeof(uint32_t), err);

    if (rc == 0) {
        rc = remap_open(&t->remap, c->memory, v, &id, err);
    }
    if (rc < 0) {
        return rc;
    }
    uint32_t *out = (uint32_t *)t->values.data + c->rows;
    const uint32_t *code = v->values;
    uint32_t unknown = 0;

    for (uint32_t j = 0; j < batch->selected; j++) {
        out[j] = id[code[batch_row(batch, j)]];
        unknown |= out[j];
    }
    if (v->validity == NULL && unknown < REMAP_NONE >> 1) {
        return 0;
    }
    // Some entry is used for the first time, or some row is null.
    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t row = batch_row(batch, j);

        if (!vector_present(v, row)) {
            out[j] = 0;
        } else if (out[j] == REMAP_NONE) {
            const struct string_view *s = &v->dictionary->entry[code[row]];

            if (id[code[row]] == REMAP_NONE) {
                rc = intern_add(&t->intern, *s, intern_hash(*s), &id[code[row]], err);
                if (rc < 0) {
                    return rc;
                }
            }
            out[j] = id[code[row]];
        }
    }
    return 0;
}

static int add_bytes(struct collector *c, struct target *t, int64_t row, const char *data, size_t size,
                     struct error *err)
{
    int32_t *offset = t->offsets.data;

    if (size > (size_t)INT32_MAX - t->bytes) {
        return error_set(
            err, EFBIG,
            "column '%.200s' holds more than 2 GB of text in one partition: use a smaller blocksize",
            t->name);
    }
    int rc = block_reserve(&t->values, c->memory, t->bytes + size, 1, err);

    if (rc < 0) {
        return rc;
    }
    if (size > 0) {
        memcpy((char *)t->values.data + t->bytes, data, size);
    }
    t->bytes += size;
    offset[row + 1] = (int32_t)t->bytes;
    return 0;
}

// From codes to strings, once a vector without a dictionary has arrived.
static int spell_out(struct collector *c, struct target *t, struct error *err)
{
    struct block codes = t->values;
    const uint32_t *code = codes.data;
    const uint8_t *bits = t->validity.data;
    int rc;

    t->values = (struct block){0};
    rc = block_reserve(&t->offsets, c->memory, (size_t)c->rows + 1, sizeof(int32_t), err);
    if (rc == 0) {
        *(int32_t *)t->offsets.data = 0;
    }
    for (int64_t i = 0; rc == 0 && i < c->rows; i++) {
        struct string_view s = {"", 0};

        if (bits == NULL || bitmap_get(bits, i)) {
            s = intern_get(&t->intern, code[i]);
        }
        rc = add_bytes(c, t, i, s.data, s.size, err);
    }
    block_free(&codes, c->memory);
    intern_free(&t->intern);
    remap_free(&t->remap, c->memory);
    t->dict = false;
    return rc;
}

static int add_strings(struct collector *c, struct target *t, const struct batch *batch,
                       const struct vector *v, struct error *err)
{
    int rc = t->dict ? spell_out(c, t, err) : 0;

    if (rc == 0) {
        rc = block_reserve(&t->offsets, c->memory, (size_t)c->rows + batch->selected + 1, sizeof(int32_t),
                           err);
    }
    for (uint32_t j = 0; rc == 0 && j < batch->selected; j++) {
        uint32_t row = batch_row(batch, j);
        struct string_view s = {"", 0};

        if (v->type == TYPE_STRING) {
            s = ((const struct string_view *)v->values)[row];
        } else if (vector_present(v, row)) {
            s = v->dictionary->entry[((const uint32_t *)v->values)[row]];
        }
        rc = add_bytes(c, t, c->rows + j, s.data, s.size, err);
    }
    return rc;
}

int collector_push(struct collector *c, const struct batch *batch, struct error *err)
{
    if (batch->selected == 0) {
        return 0;
    }
    if (batch->columns != c->columns) {
        return error_set(err, EINVAL, "a batch has %u columns where %u were announced", batch->columns,
                         c->columns);
    }
    for (uint32_t i = 0; i < c->columns; i++) {
        struct target *t = &c->target[i];
        const struct vector *v = &batch->column[i];
        int rc;

        if (t->type == TYPE_BOOL) {
            rc = add_bools(c, t, batch, v, err);
        } else if (t->type != TYPE_STRING) {
            rc = add_words(c, t, batch, v, err);
        } else if (t->dict && v->type == TYPE_DICT) {
            rc = add_codes(c, t, batch, v, err);
        } else {
            rc = add_strings(c, t, batch, v, err);
        }
        // Last: spelling out reads the validity of the rows before this batch.
        if (rc == 0) {
            rc = add_validity(c, t, batch, v, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    c->rows += batch->selected;
    return 0;
}

// ---- finish ------------------------------------------------------------------------

static int finish_dictionary(struct collector *c, struct target *t, struct column *out, struct error *err)
{
    struct target words = {.name = t->name, .type = TYPE_STRING};
    struct column *dictionary = NULL;
    uint32_t count = t->intern.count;
    int rc = block_reserve(&words.offsets, c->memory, (size_t)count + 1, sizeof(int32_t), err);

    if (rc < 0) {
        goto out;
    }
    *(int32_t *)words.offsets.data = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct string_view s = intern_get(&t->intern, i);

        rc = add_bytes(c, &words, i, s.data, s.size, err);
        if (rc < 0) {
            goto out;
        }
    }
    dictionary = calloc(1, sizeof(*dictionary));
    if (dictionary == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    dictionary->type = TYPE_STRING;
    dictionary->length = count;
    out->type = TYPE_DICT;
    out->dictionary = dictionary;
    dictionary->offsets = block_finish(&words.offsets, c->memory, ((size_t)count + 1) * sizeof(int32_t));
    dictionary->values = block_finish(&words.values, c->memory, words.bytes);
    if (dictionary->offsets == NULL || dictionary->values == NULL) {
        rc = error_no_memory(err);
    }
out:
    block_free(&words.offsets, c->memory);
    block_free(&words.values, c->memory);
    return rc;
}

static int finish_target(struct collector *c, struct target *t, struct column *out, struct error *err)
{
    size_t rows = (size_t)c->rows;
    size_t size = rows * 8;
    int rc = 0;

    out->type = t->type;
    out->length = c->rows;
    out->nulls = t->nulls;
    out->name = strdup(t->name);
    if (out->name == NULL) {
        return error_no_memory(err);
    }
    if (t->dict && t->intern.count == 0) {
        // No row has a string: an empty dictionary would have no code to give.
        rc = block_reserve_zero(&t->offsets, c->memory, rows + 1, sizeof(int32_t), err);
        if (rc < 0) {
            return rc;
        }
        t->dict = false;
    }
    if (t->dict) {
        size = rows * sizeof(uint32_t);
        rc = finish_dictionary(c, t, out, err);
        if (rc < 0) {
            return rc;
        }
    } else if (t->type == TYPE_STRING) {
        size = t->bytes;
        out->offsets = block_finish(&t->offsets, c->memory, (rows + 1) * sizeof(int32_t));
    } else if (t->type == TYPE_BOOL) {
        size = (rows + 7) / 8;
    }
    out->values = block_finish(&t->values, c->memory, size);
    if (t->validity.data != NULL) {
        out->validity = block_finish(&t->validity, c->memory, (rows + 7) / 8);
    }
    if (out->values == NULL || (out->nulls > 0 && out->validity == NULL) ||
        (out->type == TYPE_STRING && out->offsets == NULL)) {
        return error_no_memory(err);
    }
    return 0;
}

int collector_finish(struct collector *c, struct table **out, struct error *err)
{
    struct table *table = table_create(c->columns, c->rows);

    if (table == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < c->columns; i++) {
        int rc = finish_target(c, &c->target[i], &table->column[i], err);

        if (rc < 0) {
            table_unref(table);
            return rc;
        }
        target_clear(&c->target[i], c->memory);
        c->target[i].dict = c->target[i].type == TYPE_STRING;
        intern_init(&c->target[i].intern, c->memory);
    }
    c->rows = 0;
    *out = table;
    return 0;
}

// ---- the stage -----------------------------------------------------------------------

struct collect {
    struct stage stage;
    struct memory memory;
    struct collector *collector;
    struct table *table;
};

static int collect_open(struct stage *stage, const Dray__Step *step, const struct schema *in,
                        struct error *err)
{
    struct collect *collect = (struct collect *)stage;

    (void)step;
    stage->schema = *in;
    collect->memory = (struct memory){.budget = stage->env->budget, .what = "the result of a task"};
    collect->collector = collector_create(in, &collect->memory);
    return collect->collector != NULL ? 0 : error_no_memory(err);
}

static int collect_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    return collector_push(((struct collect *)stage)->collector, batch, err);
}

static int collect_finish(struct stage *stage, struct error *err)
{
    struct collect *collect = (struct collect *)stage;

    return collector_finish(collect->collector, &collect->table, err);
}

static void collect_close(struct stage *stage)
{
    struct collect *collect = (struct collect *)stage;

    collector_destroy(collect->collector);
    table_unref(collect->table);
}

const struct stage_class collect_stage = {
    .name = "result",
    .open = collect_open,
    .push = collect_push,
    .finish = collect_finish,
    .close = collect_close,
    .size = sizeof(struct collect),
};

struct table *collect_take(struct stage *stage)
{
    struct collect *collect = (struct collect *)stage;
    struct table *table = collect->table;

    collect->table = NULL;
    return table;
}
