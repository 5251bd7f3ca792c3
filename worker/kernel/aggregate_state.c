#include "worker/kernel/aggregate_state.h"

#include <string.h>

// One column of a batch, its rows that count one after another.
struct state_room {
    struct sums sums;
    // of the column loaded now
    const struct vector *vector;
    const int64_t *word; // INT64, BOOL; FLOAT64: bits
    const double *real;  // FLOAT64, or made from word
    bool any_missing;
    bool summed;           // FLOAT64: `sum` below is that of the values
    const uint32_t *count; // values of each local number
    // room
    int64_t word_room[BATCH_ROWS];
    double real_room[BATCH_ROWS];
    uint8_t present[BATCH_ROWS];
    uint32_t count_room[BATCH_ROWS];
    // results for each local number
    double sum[BATCH_ROWS];
    double mean[BATCH_ROWS];
    double square[BATCH_ROWS];
    double squares[BATCH_ROWS];
    int64_t low[BATCH_ROWS];
    int64_t high[BATCH_ROWS];
    uint16_t best[BATCH_ROWS];
};

int states_init(struct states *s, struct arena *arena, struct memory *memory, struct error *err)
{
    s->heap.memory = memory;
    s->room = arena_zalloc(arena, sizeof(*s->room));
    return s->room != NULL ? 0 : error_no_memory(err);
}

void states_free(struct states *s)
{
    if (s->heap.memory != NULL) {
        heap_free(&s->heap);
    }
    groups_free(&s->groups);
}

static uint32_t row_of(const struct grouping *g, uint32_t j)
{
    return g->row != NULL ? g->row[j] : j;
}

// ---- loading a column ----------------------------------------------------------------

// v - v is 0 unless v is NaN or infinite, and what is not 0 stays: eight chains of plain arithmetic.
static bool any_nan(const double *value, uint32_t rows)
{
    double odd[8] = {0};
    uint32_t j = 0;

    for (; j + 8 <= rows; j += 8) {
        for (uint32_t k = 0; k < 8; k++) {
            odd[k] += value[j + k] - value[j + k];
        }
    }
    for (; j < rows; j++) {
        odd[0] += value[j] - value[j];
    }
    for (uint32_t k = 1; k < 8; k++) {
        odd[0] += odd[k];
    }
    if (odd[0] == 0.0) {
        return false;
    }
    for (j = 0; j < rows; j++) {
        if (value[j] != value[j]) {
            return true;
        }
    }
    return false;
}

// The sums that are wanted anyway tell whether there is a NaN among the values.
static bool any_nan_sum(struct state_room *r, const struct grouping *g)
{
    sums_float64(&r->sums, g, r->real, r->sum);
    for (uint32_t l = 0; l < g->locals; l++) {
        if (r->sum[l] != r->sum[l]) {
            return any_nan(r->real, g->rows);
        }
    }
    return false;
}

static void load_present(struct state_room *r, const struct vector *v, const struct grouping *g, bool sums)
{
    uint32_t present = 0;

    r->any_missing = false;
    r->summed = false;
    if (v->validity == NULL) {
        if (v->type != TYPE_FLOAT64) {
            return;
        }
        if (!(sums ? any_nan_sum(r, g) : any_nan(r->real, g->rows))) {
            r->summed = sums;
            return;
        }
    }
    for (uint32_t j = 0; j < g->rows; j++) {
        bool value = vector_present(v, row_of(g, j)) && (v->type != TYPE_FLOAT64 || r->real[j] == r->real[j]);

        r->present[j] = value;
        present += value;
    }
    r->any_missing = present < g->rows;
}

static void load(struct state_room *r, const struct vector *v, const struct grouping *g, bool sums)
{
    r->vector = v;
    r->word = NULL;
    r->real = NULL;
    if (v->type == TYPE_BOOL) {
        const uint8_t *in = v->values;

        for (uint32_t j = 0; j < g->rows; j++) {
            r->word_room[j] = in[row_of(g, j)];
        }
        r->word = r->word_room;
    } else if (v->type == TYPE_INT64) {
        const int64_t *in = v->values;

        r->word = in;
        if (g->row != NULL) {
            for (uint32_t j = 0; j < g->rows; j++) {
                r->word_room[j] = in[g->row[j]];
            }
            r->word = r->word_room;
        }
    } else if (v->type == TYPE_FLOAT64) {
        const double *in = v->values;

        r->real = in;
        if (g->row != NULL) {
            for (uint32_t j = 0; j < g->rows; j++) {
                r->real_room[j] = in[g->row[j]];
            }
            r->real = r->real_room;
        }
    }
    load_present(r, v, g, sums);
    r->count = g->size;
    if (r->any_missing) {
        sums_count(&r->sums, g, r->present, r->count_room);
        r->count = r->count_room;
        if (v->type == TYPE_FLOAT64) {
            for (uint32_t j = 0; j < g->rows; j++) {
                r->real_room[j] = r->present[j] ? r->real[j] : 0.0;
            }
            r->real = r->real_room;
        }
    }
}

static const double *as_real(struct state_room *r, const struct grouping *g)
{
    if (r->real == NULL) {
        for (uint32_t j = 0; j < g->rows; j++) {
            r->real_room[j] = (double)r->word[j];
        }
        r->real = r->real_room;
    }
    return r->real;
}

// ---- one accumulator, one batch --------------------------------------------------------

static uint64_t *cell(const struct states *s, const struct accumulator *a, uint32_t group)
{
    return groups_record(&s->groups, group) + a->at;
}

static void add_real(uint64_t *c, double value)
{
    double sum = word_real(c[0]);
    double compensation = word_real(c[1]);

    compensated_add(&sum, &compensation, value);
    c[0] = real_word(sum);
    c[1] = real_word(compensation);
}

static void add_wide(uint64_t *c, int64_t low, int64_t high)
{
    unsigned __int128 sum = ((unsigned __int128)c[1] << 64) | c[0];

    sum += ((unsigned __int128)(uint64_t)high << 64) | (uint64_t)low;
    c[0] = (uint64_t)sum;
    c[1] = (uint64_t)(sum >> 64);
}

// Chan, Golub, LeVeque: the mean and squares of two sets from those of each.
static void add_squares(uint64_t *c, double mean, double squares, uint64_t count)
{
    if (c[2] == 0) {
        c[0] = real_word(mean);
        c[1] = real_word(squares);
    } else {
        double na = (double)c[2];
        double nb = (double)count;
        double delta = mean - word_real(c[0]);

        c[0] = real_word(word_real(c[0]) + delta * (nb / (na + nb)));
        c[1] = real_word(word_real(c[1]) + squares + delta * delta * (na * nb / (na + nb)));
    }
    c[2] += count;
}

static void update_squares(struct states *s, const struct accumulator *a, const struct grouping *g)
{
    struct state_room *r = s->room;
    const double *value = as_real(r, g);
    double *square = r->square;
    double *mean = r->mean;

    if (!r->summed) {
        sums_float64(&r->sums, g, value, r->sum);
        r->summed = true;
    }
    for (uint32_t l = 0; l < g->locals; l++) {
        mean[l] = r->count[l] > 0 ? r->sum[l] / (double)r->count[l] : 0.0;
    }
    for (uint32_t j = 0; j < g->rows; j++) {
        double d = value[j] - mean[g->local[j]];

        square[j] = d * d;
    }
    if (r->any_missing) {
        for (uint32_t j = 0; j < g->rows; j++) {
            square[j] = r->present[j] ? square[j] : 0.0;
        }
    }
    sums_float64(&r->sums, g, square, r->squares);
    for (uint32_t l = 0; l < g->locals; l++) {
        if (r->count[l] > 0) {
            add_squares(cell(s, a, g->group[l]), mean[l], r->squares[l], r->count[l]);
        }
    }
}

static void put_extreme(uint64_t *c, bool least, int64_t value)
{
    if (c[1] == 0 || (least ? value < (int64_t)c[0] : value > (int64_t)c[0])) {
        c[0] = (uint64_t)value;
        c[1] = 1;
    }
}

static void update_extreme(struct states *s, const struct accumulator *a, const struct grouping *g)
{
    struct state_room *r = s->room;
    bool least = a->kind == ACC_LEAST;
    const int64_t *value = r->word;

    if (r->vector->type == TYPE_FLOAT64) {
        for (uint32_t j = 0; j < g->rows; j++) {
            r->low[j] = real_order((int64_t)real_word(r->real[j]));
        }
        value = r->low;
    }
    if (r->any_missing) {
        for (uint32_t j = 0; j < g->rows; j++) {
            r->low[j] = r->present[j] ? value[j] : least ? INT64_MAX : INT64_MIN;
        }
        value = r->low;
    }
    if (least) {
        sums_least(&r->sums, g, value, r->high);
    } else {
        sums_greatest(&r->sums, g, value, r->high);
    }
    for (uint32_t l = 0; l < g->locals; l++) {
        if (r->count[l] > 0) {
            put_extreme(cell(s, a, g->group[l]), least, r->high[l]);
        }
    }
}

// A string that a record points to; its room is reused when the next one fits.
static int put_string(struct states *s, uint64_t *c, struct string_view v, struct error *err)
{
    uint32_t room = (uint32_t)(c[1] >> 32);
    void *p;

    memcpy(&p, &c[0], sizeof(p));
    if (p == NULL || room < v.size) {
        // Twice the size at least each time: what is left behind stays within a factor of two.
        uint64_t want = v.size < 16 ? 16 : v.size;

        if (want < (uint64_t)room * 2) {
            want = (uint64_t)room * 2;
        }
        if (want > UINT32_MAX) {
            want = UINT32_MAX;
        }
        int rc = heap_alloc(&s->heap, want, &p, err);

        if (rc < 0) {
            return rc;
        }
        room = (uint32_t)want;
    }
    if (v.size > 0) {
        memcpy(p, v.data, v.size);
    }
    memcpy(&c[0], &p, sizeof(p));
    c[1] = v.size | (uint64_t)room << 32;
    return 0;
}

static int compare_strings(struct string_view a, struct string_view b)
{
    uint32_t n = a.size < b.size ? a.size : b.size;
    int c = n > 0 ? memcmp(a.data, b.data, n) : 0;

    return c != 0 ? c : (a.size > b.size) - (a.size < b.size);
}

static struct string_view cell_string(const uint64_t *c)
{
    struct string_view v = {NULL, (uint32_t)c[1]};

    memcpy(&v.data, &c[0], sizeof(v.data));
    return v;
}

// Whether `v` takes the place of what is in the cell.
static bool string_wins(enum accumulator_kind kind, const uint64_t *c, struct string_view v)
{
    struct string_view now = cell_string(c);

    if (now.data == NULL || kind == ACC_LAST) {
        return true;
    }
    if (kind == ACC_FIRST) {
        return false;
    }
    int order = compare_strings(v, now);

    return kind == ACC_LEAST ? order < 0 : order > 0;
}

// The best row of each local number by position (FIRST, LAST) or by string.
static void find_best(struct state_room *r, const struct accumulator *a, const struct grouping *g)
{
    const struct vector *v = r->vector;

    memset(r->best, 0xff, g->locals * sizeof(*r->best));
    for (uint32_t j = 0; j < g->rows; j++) {
        uint16_t *best = &r->best[g->local[j]];

        if (r->any_missing && !r->present[j]) {
            continue;
        }
        if (a->kind == ACC_LAST || *best == UINT16_MAX) {
            *best = (uint16_t)j;
        } else if (a->kind != ACC_FIRST) {
            uint32_t now = row_of(g, *best);
            uint32_t row = row_of(g, j);

            if (v->type == TYPE_DICT &&
                ((const uint32_t *)v->values)[now] == ((const uint32_t *)v->values)[row]) {
                continue;
            }
            int order = compare_strings(vector_string(v, row), vector_string(v, now));

            if (a->kind == ACC_LEAST ? order < 0 : order > 0) {
                *best = (uint16_t)j;
            }
        }
    }
}

static int update_best(struct states *s, const struct accumulator *a, const struct grouping *g,
                       struct error *err)
{
    struct state_room *r = s->room;

    find_best(r, a, g);
    for (uint32_t l = 0; l < g->locals; l++) {
        uint32_t j = r->best[l];
        uint64_t *c;

        if (r->count[l] == 0) {
            continue;
        }
        c = cell(s, a, g->group[l]);
        if (a->type == TYPE_STRING) {
            struct string_view v = vector_string(r->vector, row_of(g, j));
            int rc = string_wins(a->kind, c, v) ? put_string(s, c, v, err) : 0;

            if (rc < 0) {
                return rc;
            }
        } else if (a->kind == ACC_LAST || c[1] == 0) {
            c[0] = r->word != NULL ? (uint64_t)r->word[j] : real_word(r->real[j]);
            c[1] = 1;
        }
    }
    return 0;
}

static int update(struct states *s, const struct accumulator *a, const struct grouping *g, struct error *err)
{
    struct state_room *r = s->room;

    switch (a->kind) {
    case ACC_SIZE:
        for (uint32_t l = 0; l < g->locals; l++) {
            if (g->size[l] > 0) {
                cell(s, a, g->group[l])[0] += g->size[l];
            }
        }
        break;
    case ACC_COUNT:
        for (uint32_t l = 0; l < g->locals; l++) {
            if (r->count[l] > 0) {
                cell(s, a, g->group[l])[0] += r->count[l];
            }
        }
        break;
    case ACC_INT_SUM:
        sums_int64(&r->sums, g, r->word, r->low, r->high);
        for (uint32_t l = 0; l < g->locals; l++) {
            if (g->size[l] > 0) {
                add_wide(cell(s, a, g->group[l]), r->low[l], r->high[l]);
            }
        }
        break;
    case ACC_FLOAT_SUM:
        if (!r->summed) {
            sums_float64(&r->sums, g, r->real, r->sum);
            r->summed = true;
        }
        for (uint32_t l = 0; l < g->locals; l++) {
            if (g->size[l] > 0) {
                add_real(cell(s, a, g->group[l]), r->sum[l]);
            }
        }
        break;
    case ACC_SQUARES:
        update_squares(s, a, g);
        break;
    case ACC_LEAST:
    case ACC_GREATEST:
        if (a->type != TYPE_STRING) {
            update_extreme(s, a, g);
            break;
        }
        return update_best(s, a, g, err);
    case ACC_FIRST:
    case ACC_LAST:
        return update_best(s, a, g, err);
    }
    return 0;
}

// Whether one of the accumulators of this input, from the i-th on, adds up float64.
static bool wants_sums(const struct states *s, uint32_t i)
{
    for (uint32_t k = i; k < s->count && s->accumulator[k].column == s->accumulator[i].column; k++) {
        if (s->accumulator[k].kind == ACC_FLOAT_SUM ||
            (s->accumulator[k].kind == ACC_SQUARES && s->accumulator[k].type == TYPE_FLOAT64)) {
            return true;
        }
    }
    return false;
}

int states_update(struct states *s, const struct batch *batch, const struct grouping *g, struct error *err)
{
    uint32_t loaded = STATE_NONE;

    sums_begin(&s->room->sums);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct accumulator *a = &s->accumulator[i];

        // Accumulators of one column stand together.
        if (a->kind != ACC_SIZE && a->column != loaded) {
            load(s->room, &batch->column[a->column], g, wants_sums(s, i));
            loaded = a->column;
        }
        int rc = update(s, a, g, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

// ---- combining -----------------------------------------------------------------------

static const uint64_t *state_words(const struct batch *batch, uint32_t column)
{
    return column == STATE_NONE ? NULL : batch->column[column].values;
}

static int merge_value(struct states *s, const struct accumulator *a, uint64_t *c, const struct vector *v,
                       uint32_t row, struct error *err)
{
    uint64_t word;

    if (!vector_present(v, row)) {
        return 0;
    }
    if (a->type == TYPE_STRING) {
        struct string_view string = vector_string(v, row);

        return string_wins(a->kind, c, string) ? put_string(s, c, string, err) : 0;
    }
    word = a->type == TYPE_BOOL ? ((const uint8_t *)v->values)[row] : ((const uint64_t *)v->values)[row];
    if (a->kind == ACC_LEAST || a->kind == ACC_GREATEST) {
        int64_t value = a->type == TYPE_FLOAT64 ? real_order((int64_t)word) : (int64_t)word;

        put_extreme(c, a->kind == ACC_LEAST, value);
    } else if (a->kind == ACC_LAST || c[1] == 0) {
        c[0] = word;
        c[1] = 1;
    }
    return 0;
}

static int merge(struct states *s, const struct accumulator *a, const struct batch *batch,
                 const struct grouping *g, struct error *err)
{
    const uint64_t *x = state_words(batch, a->state[0]);
    const uint64_t *y = state_words(batch, a->state[1]);
    const uint64_t *z = state_words(batch, a->state[2]);

    for (uint32_t j = 0; j < g->rows; j++) {
        uint32_t row = row_of(g, j);
        uint64_t *c = cell(s, a, g->group[g->local[j]]);
        int rc;

        switch (a->kind) {
        case ACC_SIZE:
        case ACC_COUNT:
            c[0] += x[row];
            break;
        case ACC_INT_SUM:
            add_wide(c, (int64_t)x[row], y != NULL ? (int64_t)y[row] : (int64_t)x[row] >> 63);
            break;
        case ACC_FLOAT_SUM:
            add_real(c, word_real(x[row]));
            c[1] = real_word(word_real(c[1]) + word_real(y[row]));
            break;
        case ACC_SQUARES:
            if (z[row] > 0) {
                add_squares(c, word_real(x[row]), word_real(y[row]), z[row]);
            }
            break;
        default:
            rc = merge_value(s, a, c, &batch->column[a->state[0]], row, err);
            if (rc < 0) {
                return rc;
            }
            break;
        }
    }
    return 0;
}

int states_merge(struct states *s, const struct batch *batch, const struct grouping *g, struct error *err)
{
    for (uint32_t i = 0; i < s->count; i++) {
        int rc = merge(s, &s->accumulator[i], batch, g, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}
