#include "client/plan/rounds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPES = TYPE_STRING + 1 };

struct rounds {
    const struct lowered *plan;
    bool quotes;       // this round finds out where quotes open and close
    bool quotes_known; // such a round was run: starts are exact
    uint32_t *starts;
    size_t start_count;
    uint32_t head_blocks;
    // of this round
    uint8_t *ends_quoted; // bit a block; NULL: none does
    uint32_t *widen;      // [column][type]: the lowest block that asked for it; NULL: none did
    uint8_t *quote_state; // a block: 4 known, 1 end if outside, 2 end if inside
    uint64_t invalid_utf8;
    uint64_t rows;
    uint64_t counted;
    char remark[160];
};

struct rounds *rounds_create(void)
{
    struct rounds *r = calloc(1, sizeof(*r));

    if (r != NULL) {
        r->head_blocks = 1;
    }
    return r;
}

static void forget(struct rounds *r)
{
    free(r->ends_quoted);
    free(r->widen);
    free(r->quote_state);
    r->ends_quoted = NULL;
    r->widen = NULL;
    r->quote_state = NULL;
    r->invalid_utf8 = 0;
    r->rows = 0;
    r->counted = 0;
}

void rounds_destroy(struct rounds *r)
{
    if (r != NULL) {
        forget(r);
        free(r->starts);
        free(r);
    }
}

bool rounds_in_quotes(const struct rounds *r)
{
    return r->quotes;
}

void rounds_options(const struct rounds *r, struct lower_options *out)
{
    *out = (struct lower_options){
        .starts_quoted = r->starts, .starts = r->start_count, .head_blocks = r->head_blocks};
}

int rounds_save(const struct rounds *r, struct arena *arena, Dray__ScriptNote *note)
{
    note->has_quotes = note->quotes = r->quotes;
    note->has_quotes_known = note->quotes_known = r->quotes_known;
    note->head_blocks = r->head_blocks;
    note->start = arena_array(arena, r->start_count + 1, sizeof(*note->start));
    if (note->start == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < r->start_count; i++) {
        note->start[i] = r->starts[i] - (i > 0 ? r->starts[i - 1] : 0);
    }
    note->n_start = r->start_count;
    return 0;
}

int rounds_restore(struct rounds *r, const Dray__ScriptNote *note)
{
    uint32_t *starts = malloc((note->n_start + 1) * sizeof(*starts));
    uint64_t block = 0;

    if (starts == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < note->n_start; i++) {
        block += note->start[i];
        if (block > UINT32_MAX || (i > 0 && note->start[i] == 0)) {
            free(starts);
            return -EBADMSG;
        }
        starts[i] = (uint32_t)block;
    }
    free(r->starts);
    r->starts = starts;
    r->start_count = note->n_start;
    r->quotes = note->quotes;
    r->quotes_known = note->quotes_known;
    r->head_blocks = note->head_blocks > 0 ? note->head_blocks : 1;
    return 0;
}

void rounds_begin(struct rounds *r, const struct lowered *plan)
{
    forget(r);
    r->plan = plan;
}

// ---- what is said during a round -------------------------------------------------------------

static int note_types(struct rounds *r, uint32_t block, const Dray__Note *note, struct error *err)
{
    uint32_t columns = r->plan->scan_columns;

    if (note->n_widen > 0 && r->widen == NULL) {
        size_t count = (size_t)columns * TYPES;

        r->widen = malloc((count + 1) * sizeof(*r->widen));
        if (r->widen == NULL) {
            return error_no_memory(err);
        }
        memset(r->widen, 0xff, (count + 1) * sizeof(*r->widen));
    }
    for (size_t i = 0; i < note->n_widen; i++) {
        const Dray__Widen *w = note->widen[i];
        enum type type = w->type == DRAY__TYPE__DICT ? TYPE_STRING : (enum type)w->type;

        if (w->column >= columns || type < TYPE_BOOL || type > TYPE_STRING) {
            return error_set(err, EBADMSG, "a task's note speaks of a column that does not exist");
        }
        uint32_t *lowest = &r->widen[(size_t)w->column * TYPES + type];

        if (block < *lowest) {
            *lowest = block;
        }
    }
    return 0;
}

int rounds_note(struct rounds *r, uint32_t block, const Dray__Note *note, struct error *err)
{
    if (r->plan == NULL || block >= r->plan->scan_tasks) {
        return error_set(err, EBADMSG, "a note of a task that does not exist");
    }
    if (r->quotes) {
        return 0;
    }
    if (note->has_ends_quoted && note->ends_quoted) {
        if (r->ends_quoted == NULL) {
            r->ends_quoted = calloc(1, r->plan->scan_tasks / 8 + 1);
            if (r->ends_quoted == NULL) {
                return error_no_memory(err);
            }
        }
        bitmap_set(r->ends_quoted, block);
    }
    if (note->has_invalid_utf8) {
        r->invalid_utf8 += note->invalid_utf8;
    }
    return note_types(r, block, note, err);
}

int rounds_quotes(struct rounds *r, uint32_t block, const struct partition *partition, struct error *err)
{
    Dray__CsvQuoteState *state;

    if (r->plan == NULL || block >= r->plan->scan_tasks || partition->kind != PARTITION_BYTES) {
        return error_set(err, EBADMSG, "a result about quotes that was not asked for");
    }
    if (r->quote_state == NULL) {
        r->quote_state = calloc(1, r->plan->scan_tasks);
        if (r->quote_state == NULL) {
            return error_no_memory(err);
        }
    }
    state = dray__csv_quote_state__unpack(NULL, partition->bytes->size, partition->bytes->data);
    if (state == NULL) {
        return error_set(err, EBADMSG, "a result about quotes cannot be read");
    }
    r->quote_state[block] = (uint8_t)(4 | (state->end_if_outside ? 1 : 0) | (state->end_if_inside ? 2 : 0));
    dray__csv_quote_state__free_unpacked(state, NULL);
    return 0;
}

int rounds_count(struct rounds *r, const struct table *table, struct error *err)
{
    if (table->rows != 1 || table->columns != 1 || table->column[0].type != TYPE_INT64) {
        return error_set(err, EBADMSG, "the number of rows came as something else");
    }
    r->counted = (uint64_t)column_int64(&table->column[0], 0);
    return 0;
}

void rounds_rows(struct rounds *r, uint64_t rows)
{
    r->rows += rows;
}

// ---- the end of a round ---------------------------------------------------------------------------

static bool starts_quoted(const struct rounds *r, uint32_t block)
{
    size_t low = 0;
    size_t high = r->start_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (r->starts[middle] < block) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < r->start_count && r->starts[low] == block;
}

// The lowest block that ended inside quotes while the next was taken to begin outside; UINT32_MAX: none.
// (A block that was cut short by a head says nothing of its end, so the reverse is no contradiction.)
static uint32_t broken_chain(const struct rounds *r)
{
    const struct csv_source *source = r->plan->source;

    if (r->ends_quoted == NULL) {
        return UINT32_MAX;
    }
    for (uint32_t f = 0; f < source->files; f++) {
        const struct csv_file *file = &source->file[f];

        for (uint32_t i = 0; i + 1 < file->blocks; i++) {
            uint32_t block = file->first + i;

            if (block + 1 >= r->plan->scan_tasks) {
                return UINT32_MAX;
            }
            if (bitmap_get(r->ends_quoted, block) && !starts_quoted(r, block + 1)) {
                return block;
            }
        }
    }
    return UINT32_MAX;
}

static int end_quotes(struct rounds *r, struct error *err)
{
    const struct csv_source *source = r->plan->source;
    size_t count = 0;
    uint32_t *starts;

    for (int pass = 0; pass < 2; pass++) {
        starts = pass == 0 ? NULL : malloc((count + 1) * sizeof(*starts));
        if (pass == 1 && starts == NULL) {
            return error_no_memory(err);
        }
        count = 0;
        for (uint32_t f = 0; f < source->files; f++) {
            const struct csv_file *file = &source->file[f];
            bool inside = false;

            for (uint32_t i = 0; i < file->blocks; i++) {
                uint32_t block = file->first + i;
                uint8_t state = r->quote_state == NULL ? 0 : r->quote_state[block];

                if ((state & 4) == 0) {
                    free(starts);
                    return error_set(err, EPROTO, "the quotes of block %u of %s are not known", i,
                                     file->probe->name);
                }
                if (inside) {
                    if (starts != NULL) {
                        starts[count] = block;
                    }
                    count++;
                }
                inside = (state & (inside ? 2 : 1)) != 0;
            }
        }
    }
    free(r->starts);
    r->starts = starts;
    r->start_count = count;
    r->quotes = false;
    r->quotes_known = true;
    return 1;
}

// Adds what blocks up to `last` asked for.
static int learn(struct rounds *r, uint32_t last, struct learnt *learnt, bool *changed, struct error *err)
{
    const struct csv_source *source = r->plan->source;
    uint32_t columns = r->plan->scan_columns;

    *changed = false;
    for (uint32_t c = 0; r->widen != NULL && c < columns; c++) {
        const struct csv_column *column = &source->column[r->plan->scan_column[c]];
        enum type type = column->type;
        bool asked = false;

        for (int t = TYPE_BOOL; t <= TYPE_STRING; t++) {
            if (r->widen[(size_t)c * TYPES + (size_t)t] <= last &&
                r->widen[(size_t)c * TYPES + (size_t)t] != UINT32_MAX) {
                type = type_join(type, (enum type)t);
                asked = true;
            }
        }
        if (!asked) {
            continue;
        }
        if (type == column->type || column->forced) {
            return error_set(err, EPROTO, "column '%s' does not fit %s, and there is no wider type",
                             column->name, type_name(column->type));
        }
        struct learnt_type *grown = arena_array(learnt->arena, (size_t)learnt->types + 1, sizeof(*grown));
        char *name = arena_strdup(learnt->arena, column->name);

        if (grown == NULL || name == NULL) {
            return error_no_memory(err);
        }
        if (learnt->types > 0) {
            memcpy(grown, learnt->type, learnt->types * sizeof(*grown));
        }
        grown[learnt->types++] = (struct learnt_type){source->ordinal, name, type};
        learnt->type = grown;
        *changed = true;
    }
    return 0;
}

static bool head_wants_more(struct rounds *r)
{
    const struct lowered *plan = r->plan;
    uint64_t got = plan->head_counts ? r->rows : r->counted;

    if (plan->head_rows == UINT64_MAX || plan->scan_tasks >= plan->source->blocks || got >= plan->head_rows) {
        return false;
    }
    r->head_blocks = plan->scan_tasks > UINT32_MAX / 2 ? UINT32_MAX : 2 * plan->scan_tasks;
    return true;
}

int rounds_end(struct rounds *r, struct learnt *learnt, struct error *err)
{
    uint32_t broken;
    bool changed;
    int rc;

    if (r->plan == NULL) {
        return error_set(err, EINVAL, "no round has begun");
    }
    if (r->quotes) {
        return end_quotes(r, err);
    }
    broken = broken_chain(r);
    // Behind a wrong guess about quotes nothing that was said counts.
    rc = learn(r, broken, learnt, &changed, err);
    if (rc < 0) {
        return rc;
    }
    if (broken != UINT32_MAX) {
        if (r->quotes_known) {
            return error_set(err, EPROTO, "the quotes of %s cannot be followed from block to block",
                             r->plan->source->label);
        }
        r->quotes = true;
        return 1;
    }
    if (changed || head_wants_more(r)) {
        return 1;
    }
    if (r->invalid_utf8 > 0) {
        snprintf(r->remark, sizeof(r->remark), "%llu value%s not valid UTF-8; the bytes are kept as they are",
                 (unsigned long long)r->invalid_utf8, r->invalid_utf8 == 1 ? " is" : "s are");
    }
    return 0;
}

const char *rounds_remark(const struct rounds *r)
{
    return r->remark[0] == '\0' ? NULL : r->remark;
}
