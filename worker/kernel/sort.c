#include "worker/kernel/sort.h"

#include <errno.h>

#include "worker/kernel/collect.h"
#include "worker/kernel/order.h"
#include "worker/kernel/take.h"

// With a limit, rows are cut back to it whenever this many times as many have come.
enum { SLACK = 4, SLACK_MIN = 8 * BATCH_ROWS };

struct sort {
    struct stage stage;
    const Dray__Sort *message;
    struct memory memory;
    struct collector *collector;
};

// Where a cut puts the rows that it keeps.
struct keep {
    struct stage stage;
    struct collector *collector;
};

static int keep_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    return collector_push(((struct keep *)stage)->collector, batch, err);
}

static const struct stage_class keep_stage = {.name = "sort", .push = keep_push};

static int sort_open(struct stage *stage, const Dray__Step *step, const struct schema *in, struct error *err)
{
    struct sort *sort = (struct sort *)stage;

    sort->message = step->sort;
    sort->memory = (struct memory){.budget = stage->env->budget, .what = "sort"};
    stage->schema = *in;
    for (size_t i = 0; i < sort->message->n_key; i++) {
        if (sort->message->key[i]->column >= in->columns) {
            return error_set(err, EINVAL, "key column #%u is asked for, there are %u",
                             sort->message->key[i]->column, in->columns);
        }
    }
    sort->collector = collector_create(in, &sort->memory);
    return sort->collector != NULL ? 0 : error_no_memory(err);
}

// ---- keys --------------------------------------------------------------------------

static int string_words(const struct column *c, uint64_t *word, struct memory *memory, struct error *err)
{
    const struct column *strings = c->type == TYPE_DICT ? c->dictionary : c;
    uint32_t count = (uint32_t)strings->length;
    struct block view = {0};
    struct block rank = {0};
    int rc = block_reserve(&view, memory, count, sizeof(struct string_view), err);

    if (rc == 0 && c->type == TYPE_DICT) {
        rc = block_reserve(&rank, memory, count, sizeof(uint64_t), err);
    }
    if (rc < 0) {
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t size;

        ((struct string_view *)view.data)[i].data = column_string(strings, i, &size);
        ((struct string_view *)view.data)[i].size = (uint32_t)size;
    }
    rc = order_strings(view.data, count, memory, c->type == TYPE_DICT ? rank.data : word, err);
    if (rc == 0 && c->type == TYPE_DICT) {
        const uint32_t *code = (const uint32_t *)(const void *)c->values->data;

        for (int64_t i = 0; i < c->length; i++) {
            // A null's code may lie outside an empty dictionary.
            word[i] = column_is_valid(c, i) ? ((uint64_t *)rank.data)[code[i]] : 0;
        }
    }
out:
    block_free(&view, memory);
    block_free(&rank, memory);
    return rc;
}

// Words that ascend as the column does, and a flag for each row that is missing.
static int key_words(const struct column *c, uint64_t *word, uint8_t *missing, bool *any_missing,
                     struct memory *memory, struct error *err)
{
    if (c->type == TYPE_STRING || c->type == TYPE_DICT) {
        int rc = string_words(c, word, memory, err);

        if (rc < 0) {
            return rc;
        }
    }
    *any_missing = false;
    for (int64_t i = 0; i < c->length; i++) {
        missing[i] = !column_is_valid(c, i);
        if (c->type == TYPE_BOOL) {
            word[i] = column_bool(c, i);
        } else if (c->type == TYPE_INT64) {
            word[i] = order_int64(column_int64(c, i));
        } else if (c->type == TYPE_FLOAT64) {
            double value = column_float64(c, i);

            missing[i] = missing[i] || value != value;
            word[i] = missing[i] ? 0 : order_float64(value);
        }
        *any_missing = *any_missing || missing[i];
    }
    return 0;
}

static int order_table(struct sort *sort, const struct table *table, struct order *order, struct error *err)
{
    struct memory *memory = &sort->memory;
    struct block word = {0};
    struct block missing = {0};
    size_t rows = (size_t)table->rows;
    int rc = block_reserve(&word, memory, rows, sizeof(uint64_t), err);

    if (rc == 0) {
        rc = block_reserve(&missing, memory, rows, 1, err);
    }
    for (size_t k = sort->message->n_key; rc == 0 && k-- > 0;) {
        const Dray__SortKey *key = sort->message->key[k];
        uint64_t *words = word.data;
        bool any_missing;

        rc = key_words(&table->column[key->column], words, missing.data, &any_missing, memory, err);
        if (rc < 0) {
            break;
        }
        if (key->descending) {
            for (size_t i = 0; i < rows; i++) {
                words[i] = ~words[i];
            }
        }
        order_by_word(order, words);
        if (any_missing) {
            order_by_flag(order, missing.data, key->nulls_first);
        }
        rc = kernel_cancelled(sort->stage.env, err);
    }
    block_free(&word, memory);
    block_free(&missing, memory);
    return rc;
}

// Pushes what there is, sorted and cut, to `next`; nothing is left after.
static int drain(struct sort *sort, struct stage *next, struct error *err)
{
    struct kernel_env *env = sort->stage.env;
    struct table *table = NULL;
    struct order order = {0};
    uint64_t taken = 0;
    int rc;

    if (collector_rows(sort->collector) > UINT32_MAX) {
        return error_set(err, EFBIG, "sort: more than 2^32 rows in one partition");
    }
    rc = collector_finish(sort->collector, &table, err);
    if (rc < 0) {
        return rc;
    }
    // The collector has given it back: it is ours now.
    taken = table_bytes(table);
    if (env->budget != NULL) {
        rc = budget_take(env->budget, taken, "sort", err);
        if (rc < 0) {
            taken = 0;
            goto out;
        }
    }
    rc = order_init(&order, &sort->memory, (uint32_t)table->rows, err);
    if (rc < 0) {
        goto out;
    }
    rc = order_table(sort, table, &order, err);
    if (rc == 0) {
        int64_t rows = table->rows;

        if (sort->message->has_limit && sort->message->limit < (uint64_t)rows) {
            rows = (int64_t)sort->message->limit;
        }
        rc = table_push(table, order_rows(&order), rows, env, next, err);
    }
    order_free(&order);
out:
    table_unref(table);
    if (env->budget != NULL) {
        budget_give(env->budget, taken);
    }
    return rc;
}

static int cut(struct sort *sort, struct error *err)
{
    struct collector *kept = collector_create(&sort->stage.schema, &sort->memory);
    struct keep keep = {.stage = {.class = &keep_stage, .env = sort->stage.env}, .collector = kept};
    int rc;

    if (kept == NULL) {
        return error_no_memory(err);
    }
    // Equal rows stay in the order in which they came: what is kept lies before what comes.
    rc = drain(sort, &keep.stage, err);
    if (rc < 0) {
        collector_destroy(kept);
        return rc;
    }
    collector_destroy(sort->collector);
    sort->collector = kept;
    return 0;
}

static int sort_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct sort *sort = (struct sort *)stage;
    int rc = collector_push(sort->collector, batch, err);

    if (rc == 0 && sort->message->has_limit) {
        uint64_t rows = (uint64_t)collector_rows(sort->collector);

        if (rows >= SLACK_MIN && rows / SLACK >= sort->message->limit) {
            rc = cut(sort, err);
        }
    }
    return rc;
}

static int sort_finish(struct stage *stage, struct error *err)
{
    return drain((struct sort *)stage, stage->next, err);
}

static void sort_close(struct stage *stage)
{
    collector_destroy(((struct sort *)stage)->collector);
}

const struct stage_class sort_stage = {
    .name = "sort",
    .open = sort_open,
    .push = sort_push,
    .finish = sort_finish,
    .close = sort_close,
    .size = sizeof(struct sort),
};
