#include "worker/kernel/aggregate.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "worker/kernel/aggregate_state.h"
#include "worker/kernel/order.h"

enum part {
    PART_WORD,  // a word of the record as it is
    PART_VALUE, // ACC_LEAST to ACC_LAST: a value or null
    PART_MEAN,  // finished from here on
    PART_SUM,   // of FLOAT64, compensated
    PART_VAR,
    PART_STD,
};

// One output column behind the keys.
struct field {
    enum part part;
    enum type type;
    const struct accumulator *accumulator;
    uint32_t word;                   // PART_WORD
    const struct accumulator *count; // PART_MEAN
};

struct aggregate {
    struct stage stage;
    const Dray__Aggregate *message;
    bool merges; // reads states
    bool finals; // makes results
    struct memory memory;
    struct states states;
    uint32_t fields;
    struct field *field;
};

static const char *fn_name(Dray__AggFn fn)
{
    static const char *const name[] = {"?",    "sum", "mean", "count", "min", "max",
                                       "size", "std", "var",  "first", "last"};

    return fn >= DRAY__AGG_FN__SUM && fn <= DRAY__AGG_FN__LAST ? name[fn] : name[0];
}

static enum type plain(enum type type)
{
    return type == TYPE_DICT ? TYPE_STRING : type;
}

static bool is_moment(Dray__AggFn fn)
{
    return fn == DRAY__AGG_FN__SUM || fn == DRAY__AGG_FN__MEAN || fn == DRAY__AGG_FN__STD ||
           fn == DRAY__AGG_FN__VAR;
}

// ---- opening: accumulators -----------------------------------------------------------

// One for all aggs of the same kind and input; when combining each has its own.
static struct accumulator *accumulate(struct aggregate *ag, enum accumulator_kind kind, enum type type,
                                      uint32_t column)
{
    struct states *s = &ag->states;

    for (uint32_t i = 0; !ag->merges && i < s->count; i++) {
        struct accumulator *a = &s->accumulator[i];

        if (a->kind == kind && (kind == ACC_SIZE || a->column == column)) {
            return a;
        }
    }
    struct accumulator *a = &s->accumulator[s->count++];

    *a = (struct accumulator){
        .kind = kind, .type = type, .column = column, .state = {STATE_NONE, STATE_NONE, STATE_NONE}};
    return a;
}

static struct field *add_field(struct aggregate *ag, enum part part, enum type type,
                               const struct accumulator *a, uint32_t word)
{
    struct field *f = &ag->field[ag->fields++];

    *f = (struct field){.part = part, .type = type, .accumulator = a, .word = word};
    return f;
}

// The columns of an agg's state, in aggregate.h's order: what PARTIAL and COMBINE make, and what
// COMBINE and FINAL read from column *next on.
static int state_field(struct aggregate *ag, const char *name, const char *what, struct accumulator *a,
                       uint32_t word, enum type type, const struct schema *in, uint32_t *next,
                       struct error *err)
{
    uint32_t column = (*next)++;

    if (ag->merges) {
        if (column >= in->columns || plain(in->type[column]) != type) {
            return error_set(err, EINVAL,
                             "the state of '%.200s' should have %s as column #%u of type %s, it is %s", name,
                             what, column, type_name(type),
                             column < in->columns ? type_name(in->type[column]) : "missing");
        }
        a->state[word] = column;
    }
    if (!ag->finals) {
        uint32_t at = (uint32_t)ag->message->n_key + ag->fields;
        char *full = arena_printf(ag->stage.arena, "%s.%s", name, what);

        if (full == NULL) {
            return error_no_memory(err);
        }
        ag->stage.schema.name[at] = full;
        ag->stage.schema.type[at] = type;
        add_field(ag, a->kind >= ACC_LEAST ? PART_VALUE : PART_WORD, type, a, word);
    }
    return 0;
}

static void final_field(struct aggregate *ag, const Dray__Agg *agg, enum type input, struct accumulator *a,
                        struct accumulator *count)
{
    uint32_t at = (uint32_t)ag->message->n_key + ag->fields;
    enum part part = PART_WORD;
    enum type type = TYPE_INT64;

    switch (agg->fn) {
    case DRAY__AGG_FN__SUM:
        part = input == TYPE_FLOAT64 ? PART_SUM : PART_WORD;
        type = input == TYPE_FLOAT64 ? TYPE_FLOAT64 : TYPE_INT64;
        break;
    case DRAY__AGG_FN__MEAN:
        part = PART_MEAN;
        type = TYPE_FLOAT64;
        break;
    case DRAY__AGG_FN__STD:
    case DRAY__AGG_FN__VAR:
        part = agg->fn == DRAY__AGG_FN__STD ? PART_STD : PART_VAR;
        type = TYPE_FLOAT64;
        break;
    case DRAY__AGG_FN__COUNT:
    case DRAY__AGG_FN__SIZE:
        break;
    default:
        part = PART_VALUE;
        type = input;
        break;
    }
    ag->stage.schema.name[at] = agg->name;
    ag->stage.schema.type[at] = type;
    add_field(ag, part, type, a, 0)->count = count;
}

static int open_agg(struct aggregate *ag, const Dray__Agg *agg, enum type type, const struct schema *in,
                    uint32_t *next, struct error *err)
{
    bool whole = type == TYPE_INT64 || type == TYPE_BOOL;
    struct accumulator *count = NULL;
    struct accumulator *a;
    int rc = 0;

    if (is_moment(agg->fn) && type == TYPE_STRING) {
        return error_set(err, EINVAL, "agg function failed [how->%s, dtype->string]: column '%.200s' is text",
                         fn_name(agg->fn),
                         !ag->merges && agg->column < in->columns ? in->name[agg->column] : agg->name);
    }
    switch (agg->fn) {
    case DRAY__AGG_FN__SUM:
    case DRAY__AGG_FN__MEAN:
        a = accumulate(ag, whole ? ACC_INT_SUM : ACC_FLOAT_SUM, type, agg->column);
        if (whole) {
            bool wide = agg->fn == DRAY__AGG_FN__MEAN;

            rc = state_field(ag, agg->name, wide ? "low" : "sum", a, 0, TYPE_INT64, in, next, err);
            if (rc == 0 && wide) {
                rc = state_field(ag, agg->name, "high", a, 1, TYPE_INT64, in, next, err);
            }
        } else {
            rc = state_field(ag, agg->name, "sum", a, 0, TYPE_FLOAT64, in, next, err);
            if (rc == 0) {
                rc = state_field(ag, agg->name, "compensation", a, 1, TYPE_FLOAT64, in, next, err);
            }
        }
        if (rc == 0 && agg->fn == DRAY__AGG_FN__MEAN) {
            count = accumulate(ag, ACC_COUNT, type, agg->column);
            rc = state_field(ag, agg->name, "count", count, 0, TYPE_INT64, in, next, err);
        }
        break;
    case DRAY__AGG_FN__COUNT:
    case DRAY__AGG_FN__SIZE:
        a = accumulate(ag, agg->fn == DRAY__AGG_FN__SIZE ? ACC_SIZE : ACC_COUNT, type, agg->column);
        rc = state_field(ag, agg->name, "count", a, 0, TYPE_INT64, in, next, err);
        break;
    case DRAY__AGG_FN__STD:
    case DRAY__AGG_FN__VAR:
        a = accumulate(ag, ACC_SQUARES, type, agg->column);
        rc = state_field(ag, agg->name, "mean", a, 0, TYPE_FLOAT64, in, next, err);
        if (rc == 0) {
            rc = state_field(ag, agg->name, "squares", a, 1, TYPE_FLOAT64, in, next, err);
        }
        if (rc == 0) {
            rc = state_field(ag, agg->name, "count", a, 2, TYPE_INT64, in, next, err);
        }
        break;
    case DRAY__AGG_FN__MIN:
    case DRAY__AGG_FN__MAX:
    case DRAY__AGG_FN__FIRST:
    case DRAY__AGG_FN__LAST:
        a = accumulate(ag,
                       agg->fn == DRAY__AGG_FN__MIN     ? ACC_LEAST
                       : agg->fn == DRAY__AGG_FN__MAX   ? ACC_GREATEST
                       : agg->fn == DRAY__AGG_FN__FIRST ? ACC_FIRST
                                                        : ACC_LAST,
                       type, agg->column);
        rc = state_field(ag, agg->name, "value", a, 0, type, in, next, err);
        break;
    default:
        return error_set(err, EINVAL, "aggregation %d is not one that this worker knows", (int)agg->fn);
    }
    if (rc == 0 && ag->finals) {
        final_field(ag, agg, type, a, count);
    }
    return rc;
}

// The type of a key's or agg's input, which must be what was planned: partitions of different
// types would make states that do not fit together.
static int input_type(const struct schema *in, uint32_t column, bool planned, enum type plan, enum type *out,
                      struct error *err)
{
    if (column >= in->columns) {
        return error_set(err, EINVAL, "column #%u is asked for, there are %u", column, in->columns);
    }
    *out = plain(in->type[column]);
    if (planned && plain(plan) != *out) {
        return error_set(err, EINVAL, "column '%.200s' is %s, the plan says %s", in->name[column],
                         type_name(*out), type_name(plan));
    }
    return 0;
}

static int open_keys(struct aggregate *ag, const struct schema *in, enum type *type, struct error *err)
{
    const Dray__Aggregate *m = ag->message;

    for (uint32_t k = 0; k < m->n_key; k++) {
        uint32_t column = ag->merges ? k : m->key[k];
        int rc = input_type(in, column, k < m->n_key_type, k < m->n_key_type ? (enum type)m->key_type[k] : 0,
                            &type[k], err);

        if (rc < 0) {
            return rc;
        }
        ag->stage.schema.name[k] = k < m->n_key_name ? m->key_name[k] : in->name[column];
        ag->stage.schema.type[k] = type[k];
    }
    return 0;
}

static int open_aggs(struct aggregate *ag, const struct schema *in, struct error *err)
{
    const Dray__Aggregate *m = ag->message;
    uint32_t next = (uint32_t)m->n_key;

    if (ag->merges && m->n_agg_type != m->n_agg) {
        return error_set(err, EINVAL, "%zu aggregations come with %zu types", m->n_agg, m->n_agg_type);
    }
    for (size_t i = 0; i < m->n_agg; i++) {
        enum type type = i < m->n_agg_type ? plain((enum type)m->agg_type[i]) : TYPE_INT64;
        int rc = 0;

        if (!ag->merges && m->agg[i]->fn != DRAY__AGG_FN__SIZE) {
            rc = input_type(in, m->agg[i]->column, i < m->n_agg_type, type, &type, err);
        }
        if (rc == 0) {
            rc = open_agg(ag, m->agg[i], type, in, &next, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    if (ag->merges && next != in->columns) {
        return error_set(err, EINVAL, "the state table has %u columns where %u were expected", in->columns,
                         next);
    }
    return 0;
}

// Accumulators of one input stand together, so that it is read once a batch.  Fields point at them.
static int group_by_input(struct aggregate *ag, struct error *err)
{
    struct states *s = &ag->states;
    struct accumulator *sorted = arena_array(ag->stage.arena, s->count, sizeof(*sorted));
    uint32_t *to = arena_array(ag->stage.arena, s->count, sizeof(*to));
    uint32_t at = 0;

    if (sorted == NULL || to == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        to[i] = UINT32_MAX;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        // The first of its input that is left, and all others of that input.
        for (uint32_t k = i; k < s->count; k++) {
            if (to[k] == UINT32_MAX && s->accumulator[k].column == s->accumulator[i].column) {
                to[k] = at;
                sorted[at++] = s->accumulator[k];
            }
        }
    }
    for (uint32_t f = 0; f < ag->fields; f++) {
        struct field *field = &ag->field[f];

        field->accumulator = &sorted[to[field->accumulator - s->accumulator]];
        if (field->count != NULL) {
            field->count = &sorted[to[field->count - s->accumulator]];
        }
    }
    s->accumulator = sorted;
    return 0;
}

static int aggregate_open(struct stage *stage, const Dray__Step *step, const struct schema *in,
                          struct error *err)
{
    struct aggregate *ag = (struct aggregate *)stage;
    const Dray__Aggregate *m = step->aggregate->aggregate;
    struct arena *arena = stage->arena;
    uint32_t keys = (uint32_t)m->n_key;
    uint32_t columns = keys + 3 * (uint32_t)m->n_agg;
    uint32_t words = keys;
    enum type *type = arena_array(arena, keys, sizeof(*type));
    int rc;

    ag->message = m;
    ag->merges = step->aggregate->stage != DRAY__AGG_STAGE__PARTIAL;
    ag->finals = step->aggregate->stage == DRAY__AGG_STAGE__FINAL ||
                 step->aggregate->stage == DRAY__AGG_STAGE__COMBINE_FINAL;
    ag->memory = (struct memory){.budget = stage->env->budget, .what = "groupby"};
    ag->states.accumulator = arena_array(arena, 2 * m->n_agg, sizeof(*ag->states.accumulator));
    ag->field = arena_array(arena, columns, sizeof(*ag->field));
    if (m->n_agg + m->n_key > TABLE_COLUMNS_MAX / 3 || type == NULL || ag->states.accumulator == NULL ||
        ag->field == NULL || schema_create(&stage->schema, columns, arena) < 0) {
        return error_no_memory(err);
    }
    rc = open_keys(ag, in, type, err);
    if (rc == 0) {
        rc = open_aggs(ag, in, err);
    }
    if (rc == 0) {
        rc = group_by_input(ag, err);
    }
    if (rc < 0) {
        return rc;
    }
    stage->schema.columns = keys + ag->fields;
    for (uint32_t i = 0; i < ag->states.count; i++) {
        ag->states.accumulator[i].at = words;
        words += accumulator_words(ag->states.accumulator[i].kind);
    }
    rc = states_init(&ag->states, arena, &ag->memory, err);
    if (rc == 0) {
        rc = groups_init(&ag->states.groups, &ag->memory, arena, keys, type, words, err);
    }
    for (uint32_t k = 0; rc == 0 && k < keys; k++) {
        ag->states.groups.key[k].column = ag->merges ? k : m->key[k];
    }
    // Without keys there is one group, also when no row comes.
    return rc == 0 && keys == 0 ? groups_add_single(&ag->states.groups, err) : rc;
}

static int aggregate_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct aggregate *ag = (struct aggregate *)stage;
    struct grouping grouping;
    int rc = groups_assign(&ag->states.groups, batch, &grouping, err);

    if (rc == 0 && grouping.rows > 0) {
        rc = ag->merges ? states_merge(&ag->states, batch, &grouping, err)
                        : states_update(&ag->states, batch, &grouping, err);
    }
    return rc;
}

// ---- the end: groups as rows -----------------------------------------------------------

// Room for one output column of a batch.
struct output {
    uint64_t validity[BATCH_ROWS / 64];
    union {
        uint64_t word[BATCH_ROWS];
        uint32_t code[BATCH_ROWS];
        uint8_t flag[BATCH_ROWS];
        struct string_view string[BATCH_ROWS];
    } value;
};

static double mean_of(const struct field *f, const uint64_t *record, bool *null)
{
    const uint64_t *c = record + f->accumulator->at;
    uint64_t count = record[f->count->at];

    *null = count == 0;
    if (*null) {
        return 0.0;
    }
    if (f->accumulator->kind == ACC_INT_SUM) {
        __int128 sum = (__int128)(((unsigned __int128)c[1] << 64) | c[0]);

        return (double)sum / (double)count;
    }
    return (word_real(c[0]) + word_real(c[1])) / (double)count;
}

static double real_of(const struct field *f, const uint64_t *record, bool *null)
{
    const uint64_t *c = record + f->accumulator->at;
    double value;

    *null = false;
    if (f->part == PART_SUM) {
        return word_real(c[0]) + word_real(c[1]);
    }
    if (f->part == PART_MEAN) {
        return mean_of(f, record, null);
    }
    *null = c[2] < 2;
    value = *null ? 0.0 : word_real(c[1]) / (double)(c[2] - 1);
    return f->part == PART_STD ? sqrt(value) : value;
}

static void put_value(const struct field *f, const uint64_t *record, struct output *out, uint32_t i,
                      bool *null)
{
    const uint64_t *c = record + f->accumulator->at;
    bool extreme = f->accumulator->kind == ACC_LEAST || f->accumulator->kind == ACC_GREATEST;

    if (f->type == TYPE_STRING) {
        void *data;

        memcpy(&data, &c[0], sizeof(data));
        *null = data == NULL;
        out->value.string[i] = (struct string_view){data, *null ? 0 : (uint32_t)c[1]};
        return;
    }
    *null = c[1] == 0;
    if (f->type == TYPE_BOOL) {
        out->value.flag[i] = c[0] != 0;
    } else {
        out->value.word[i] =
            !*null && extreme && f->type == TYPE_FLOAT64 ? (uint64_t)real_order((int64_t)c[0]) : c[0];
    }
}

static void fill_field(const struct aggregate *ag, const struct field *f, const uint32_t *order,
                       uint32_t first, uint32_t rows, struct output *out, struct vector *vector)
{
    bool any_null = false;

    memset(out->validity, 0xff, sizeof(out->validity));
    for (uint32_t i = 0; i < rows; i++) {
        const uint64_t *record =
            groups_record(&ag->states.groups, order != NULL ? order[first + i] : first + i);
        bool null = false;

        if (f->part == PART_WORD) {
            out->value.word[i] = record[f->accumulator->at + f->word];
        } else if (f->part == PART_VALUE) {
            put_value(f, record, out, i, &null);
        } else {
            out->value.word[i] = real_word(real_of(f, record, &null));
        }
        if (null) {
            out->validity[i >> 6] &= ~(UINT64_C(1) << (i & 63));
            any_null = true;
        }
    }
    *vector =
        (struct vector){.type = f->type, .values = &out->value, .validity = any_null ? out->validity : NULL};
}

static void fill_key(const struct aggregate *ag, uint32_t k, const uint32_t *order, uint32_t first,
                     uint32_t rows, const struct dictionary *dictionary, struct output *out,
                     struct vector *vector)
{
    const struct groups *g = &ag->states.groups;
    const struct group_key *key = &g->key[k];
    // Strings that repeat stay a dictionary; others are spelled out.
    bool dict = key->type == TYPE_STRING && key->intern.count <= g->count / 2;

    for (uint32_t i = 0; i < rows; i++) {
        uint64_t word = groups_record(g, order != NULL ? order[first + i] : first + i)[k];

        if (key->type == TYPE_BOOL) {
            out->value.flag[i] = (uint8_t)word;
        } else if (dict) {
            out->value.code[i] = (uint32_t)word;
        } else if (key->type == TYPE_STRING) {
            out->value.string[i] = intern_get(&key->intern, (uint32_t)word);
        } else {
            out->value.word[i] = word;
        }
    }
    *vector = (struct vector){
        .type = dict ? TYPE_DICT : key->type, .values = &out->value, .dictionary = dict ? dictionary : NULL};
}

static int sort_groups(struct aggregate *ag, struct order *order, struct error *err)
{
    const struct groups *g = &ag->states.groups;
    struct block word = {0};
    struct block rank = {0};
    int rc = block_reserve(&word, &ag->memory, g->count, sizeof(uint64_t), err);

    for (uint32_t k = g->keys; rc == 0 && k-- > 0;) {
        const struct group_key *key = &g->key[k];
        uint64_t *w = word.data;

        if (key->type == TYPE_STRING) {
            rc = block_reserve(&rank, &ag->memory, key->intern.count, sizeof(uint64_t), err);
            if (rc == 0) {
                rc = order_strings(key->intern.entry.data, key->intern.count, &ag->memory, rank.data, err);
            }
            if (rc < 0) {
                break;
            }
        }
        for (uint32_t i = 0; i < g->count; i++) {
            uint64_t value = groups_record(g, i)[k];

            w[i] = key->type == TYPE_STRING    ? ((const uint64_t *)rank.data)[value]
                   : key->type == TYPE_INT64   ? order_int64((int64_t)value)
                   : key->type == TYPE_FLOAT64 ? order_float64(word_real(value))
                                               : value;
        }
        order_by_word(order, w);
        rc = kernel_cancelled(ag->stage.env, err);
    }
    block_free(&word, &ag->memory);
    block_free(&rank, &ag->memory);
    return rc;
}

static int push_groups(struct aggregate *ag, const uint32_t *order, struct heap *heap, struct error *err)
{
    const struct groups *g = &ag->states.groups;
    uint32_t columns = ag->stage.schema.columns;
    struct output *out;
    struct vector *vector;
    struct dictionary *dictionary;
    void *p;
    uint32_t widest = g->count < BATCH_ROWS ? g->count : BATCH_ROWS;
    int rc = heap_alloc(heap, columns * (sizeof(*vector) + sizeof(*dictionary)), &p, err);

    if (rc < 0) {
        return rc;
    }
    vector = p;
    dictionary = (struct dictionary *)(vector + columns);
    rc = heap_alloc(heap, columns * sizeof(*out), &p, err);
    if (rc < 0) {
        return rc;
    }
    out = p;
    for (uint32_t k = 0; k < g->keys; k++) {
        dictionary[k] = (struct dictionary){g->key[k].intern.entry.data, g->key[k].intern.count};
    }
    for (uint32_t first = 0; rc == 0 && first < g->count; first += widest) {
        uint32_t rows = g->count - first < widest ? g->count - first : widest;
        struct batch batch = {.rows = rows, .columns = columns, .column = vector, .selected = rows};

        rc = kernel_cancelled(ag->stage.env, err);
        if (rc < 0) {
            return rc;
        }
        for (uint32_t k = 0; k < g->keys; k++) {
            fill_key(ag, k, order, first, rows, &dictionary[k], &out[k], &vector[k]);
        }
        for (uint32_t f = 0; f < ag->fields; f++) {
            fill_field(ag, &ag->field[f], order, first, rows, &out[g->keys + f], &vector[g->keys + f]);
        }
        rc = stage_push(ag->stage.next, &batch, err);
    }
    return rc;
}

static int aggregate_finish(struct stage *stage, struct error *err)
{
    struct aggregate *ag = (struct aggregate *)stage;
    struct heap heap = {.memory = &ag->memory};
    struct order order = {.memory = &ag->memory};
    bool sorted = ag->finals && ag->states.groups.keys > 0;
    int rc = 0;

    if (sorted) {
        rc = order_init(&order, &ag->memory, ag->states.groups.count, err);
        if (rc == 0) {
            rc = sort_groups(ag, &order, err);
        }
    }
    if (rc == 0) {
        rc = push_groups(ag, sorted ? order_rows(&order) : NULL, &heap, err);
    }
    order_free(&order);
    heap_free(&heap);
    return rc;
}

static void aggregate_close(struct stage *stage)
{
    states_free(&((struct aggregate *)stage)->states);
}

const struct stage_class aggregate_stage = {
    .name = "groupby",
    .open = aggregate_open,
    .push = aggregate_push,
    .finish = aggregate_finish,
    .close = aggregate_close,
    .size = sizeof(struct aggregate),
};
