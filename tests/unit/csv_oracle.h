// A slow reader of CSV that is obviously right, to hold the scanner against, and the driver that a client is:
// it repairs the chain of quote states and widens columns until a round is clean.  Shares no code with
// the scanner.
#ifndef DRAY_TESTS_CSV_ORACLE_H
#define DRAY_TESTS_CSV_ORACLE_H

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/arena.h"
#include "proto/op.pb-c.h"
#include "proto/partition.h"
#include "worker/kernel/step.h"

// ---- a text being made -------------------------------------------------------------

struct text {
    char *data;
    size_t size, room;
};

static inline void text_add(struct text *t, const char *data, size_t size)
{
    while (t->size + size + 1 > t->room) {
        t->room = t->room == 0 ? 256 : t->room * 2;
        t->data = realloc(t->data, t->room);
        assert_non_null(t->data);
    }
    if (size > 0) {
        memcpy(t->data + t->size, data, size);
    }
    t->size += size;
    t->data[t->size] = '\0';
}

static inline void text_string(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

static inline void text_byte(struct text *t, char c)
{
    text_add(t, &c, 1);
}

// ---- the slow reader ----------------------------------------------------------------

struct oracle_dialect {
    char sep, quote, comment;  // '\0': none
    const char *const *missing;  // NULL-terminated
};

struct oracle_row {
    struct text *field;
    size_t fields;
    size_t at;    // byte offset of its line
    size_t line;  // number, from 1
};

struct oracle {
    struct oracle_row *row;
    size_t rows;
    const char *bad;   // why the text is wrong; NULL: it is right
    size_t bad_at, bad_line;
};

static inline bool oracle_blank(const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (text[i] != ' ' && text[i] != '\t') {
            return false;
        }
    }
    return true;
}

// Rows of text[start..size); stops at the first line that has not `fields` fields.
static inline struct oracle oracle_read(const struct oracle_dialect *d, const char *text, size_t start, size_t size,
                                        size_t fields)
{
    struct oracle o = {0};
    size_t i = start;
    size_t line = 1;

    for (size_t k = 0; k < start; k++) {
        line += text[k] == '\n' || (text[k] == '\r' && text[k + 1] != '\n');
    }
    while (i < size) {
        struct oracle_row row = {.field = calloc(1, sizeof(struct text)), .fields = 1, .at = i, .line = line};
        bool done = false;
        size_t visible = i;  // end of what is not comment

        while (!done) {
            struct text *f = &row.field[row.fields - 1];

            // One field, from its first byte.
            if (i < size && d->quote != '\0' && text[i] == d->quote) {
                i++;
                for (;;) {
                    if (i >= size) {
                        o.bad = "quoted";
                        break;
                    }
                    if (text[i] == d->quote && i + 1 < size && text[i + 1] == d->quote) {
                        text_byte(f, d->quote);
                        i += 2;
                    } else if (text[i] == d->quote) {
                        i++;
                        break;
                    } else {
                        if (text[i] == '\n' || (text[i] == '\r' && (i + 1 == size || text[i + 1] != '\n'))) {
                            line++;
                        }
                        text_byte(f, text[i++]);
                    }
                }
                // pandas: the byte behind the closing quote is text even if it is the comment byte.
                if (o.bad == NULL && i < size && d->comment != '\0' && text[i] == d->comment) {
                    text_byte(f, text[i++]);
                }
            }
            while (o.bad == NULL && i < size && text[i] != d->sep && text[i] != '\n' && text[i] != '\r' &&
                   (d->comment == '\0' || text[i] != d->comment)) {
                text_byte(f, text[i++]);
            }
            visible = i;
            if (o.bad != NULL) {
                done = true;
            } else if (i < size && text[i] == d->sep) {
                i++;
                row.fields++;
                row.field = realloc(row.field, row.fields * sizeof(*row.field));
                row.field[row.fields - 1] = (struct text){0};
            } else {
                while (i < size && text[i] != '\n' && text[i] != '\r') {
                    i++;
                }
                if (i < size) {
                    i += text[i] == '\r' && i + 1 < size && text[i + 1] == '\n' ? 2 : 1;
                }
                line++;
                done = true;
            }
        }
        bool blank = o.bad == NULL && row.fields == 1 && oracle_blank(text, row.at, visible);

        if (o.bad == NULL && !blank && row.fields != fields) {
            o.bad = "fields";
        }
        if (o.bad != NULL) {
            o.bad_at = row.at;
            o.bad_line = row.line;
        }
        if (o.bad != NULL || blank) {
            for (size_t k = 0; k < row.fields; k++) {
                free(row.field[k].data);
            }
            free(row.field);
            if (o.bad != NULL) {
                return o;
            }
            continue;
        }
        o.row = realloc(o.row, (o.rows + 1) * sizeof(*o.row));
        o.row[o.rows++] = row;
    }
    return o;
}

static inline void oracle_free(struct oracle *o)
{
    for (size_t r = 0; r < o->rows; r++) {
        for (size_t c = 0; c < o->row[r].fields; c++) {
            free(o->row[r].field[c].data);
        }
        free(o->row[r].field);
    }
    free(o->row);
    *o = (struct oracle){0};
}

// ---- values --------------------------------------------------------------------------

static inline const char *field_text(const struct text *f)
{
    return f->data == NULL ? "" : f->data;
}

static inline bool oracle_missing(const struct oracle_dialect *d, const struct text *f)
{
    for (size_t i = 0; d->missing[i] != NULL; i++) {
        if (strlen(d->missing[i]) == f->size && memcmp(d->missing[i], field_text(f), f->size) == 0) {
            return true;
        }
    }
    return false;
}

static inline bool oracle_bool(const struct text *f, bool *out)
{
    static const char *const spelling[] = {"True", "TRUE", "true", "False", "FALSE", "false"};

    for (int i = 0; i < 6; i++) {
        if (f->size == strlen(spelling[i]) && memcmp(field_text(f), spelling[i], f->size) == 0) {
            *out = i < 3;
            return true;
        }
    }
    return false;
}

// By the C library, after a check of the grammar.
static inline bool oracle_number(const struct text *f, bool *integer, int64_t *i, double *x)
{
    const char *p = field_text(f);
    char *end;

    if (memchr(p, '\0', f->size) != NULL) {
        return false;
    }
    const char *q = p + strspn(p, " \t\n\v\f\r");
    const char *body = q + (*q == '+' || *q == '-');
    bool word = strncasecmp(body, "inf", 3) == 0;

    if (!word && (body[0] < '0' || body[0] > '9') && body[0] != '.') {
        return false;
    }
    if (body[0] == '0' && (body[1] == 'x' || body[1] == 'X')) {
        return false;
    }
    *x = strtod(q, &end);
    if (end == q || end[strspn(end, " \t\n\v\f\r")] != '\0') {
        return false;
    }
    *integer = false;
    if (body[strspn(body, "0123456789")] == '\0' || body + strspn(body, "0123456789") == end) {
        errno = 0;
        *i = strtoll(q, NULL, 10);
        *integer = errno == 0;
    }
    return true;
}

enum { HAS_MISSING = 1, HAS_BOOL = 2, HAS_INT = 4, HAS_REAL = 8, HAS_TEXT = 16 };

static inline int oracle_kind(const struct oracle_dialect *d, const struct text *f)
{
    bool b, integer;
    int64_t i;
    double x;

    if (oracle_missing(d, f)) {
        return HAS_MISSING;
    }
    if (oracle_bool(f, &b)) {
        return HAS_BOOL;
    }
    if (oracle_number(f, &integer, &i, &x)) {
        return integer ? HAS_INT : HAS_REAL;
    }
    return HAS_TEXT;
}

static inline enum type oracle_widen(enum type type, int kinds)
{
    if (type == TYPE_BOOL && (kinds & (HAS_INT | HAS_REAL | HAS_TEXT)) != 0) {
        return TYPE_STRING;
    }
    if ((type == TYPE_INT64 || type == TYPE_FLOAT64) && (kinds & (HAS_BOOL | HAS_TEXT)) != 0) {
        return TYPE_STRING;
    }
    if (type == TYPE_INT64 && (kinds & (HAS_MISSING | HAS_REAL)) != 0) {
        return TYPE_FLOAT64;
    }
    return type;
}

static inline enum type oracle_least(int kinds)
{
    if ((kinds & HAS_TEXT) != 0 || ((kinds & HAS_BOOL) != 0 && (kinds & (HAS_INT | HAS_REAL)) != 0)) {
        return TYPE_STRING;
    }
    if ((kinds & HAS_BOOL) != 0) {
        return TYPE_BOOL;
    }
    return kinds == HAS_INT ? TYPE_INT64 : TYPE_FLOAT64;
}

// ---- what a scan gave ------------------------------------------------------------------

// Rows as text, a line each: value, 0x1f; floats as their bits.  Two equal tables are equal texts.
struct sink {
    struct stage stage;
    struct text rows;
    size_t count;
    size_t stop_after;  // 0: never
};

static inline void sink_value(struct text *t, const struct vector *v, uint32_t row)
{
    char word[64];

    if (v->validity != NULL && (v->validity[row / 64] >> (row % 64) & 1) == 0) {
        text_string(t, "null\x1f");
        return;
    }
    switch (v->type) {
    case TYPE_BOOL:
        text_string(t, ((const uint8_t *)v->values)[row] != 0 ? "true" : "false");
        break;
    case TYPE_INT64:
        snprintf(word, sizeof(word), "%lld", (long long)((const int64_t *)v->values)[row]);
        text_string(t, word);
        break;
    case TYPE_FLOAT64:
        snprintf(word, sizeof(word), "%a", ((const double *)v->values)[row]);
        text_string(t, word);
        break;
    case TYPE_STRING:
    case TYPE_DICT: {
        struct string_view s;

        if (v->type == TYPE_STRING) {
            s = ((const struct string_view *)v->values)[row];
        } else {
            uint32_t code = ((const uint32_t *)v->values)[row];

            assert_true(code < v->dictionary->count);
            s = v->dictionary->entry[code];
        }
        text_byte(t, '\'');
        text_add(t, s.data, s.size);
        break;
    }
    }
    text_byte(t, '\x1f');
}

static inline int sink_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct sink *sink = (struct sink *)stage;

    (void)err;
    assert_null(batch->selection);
    assert_true(batch->rows > 0 && batch->rows <= BATCH_ROWS);
    for (uint32_t r = 0; r < batch->rows; r++) {
        for (uint32_t c = 0; c < batch->columns; c++) {
            sink_value(&sink->rows, &batch->column[c], r);
        }
        text_byte(&sink->rows, '\n');
    }
    sink->count += batch->rows;
    return sink->stop_after != 0 && sink->count >= sink->stop_after;
}

static const struct stage_class sink_class = {.name = "sink", .push = sink_push, .size = sizeof(struct sink)};

static inline void oracle_expect(const struct oracle_dialect *d, const struct oracle *o, const uint32_t *field,
                                 const enum type *type, size_t columns, struct text *out)
{
    for (size_t r = 0; r < o->rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            const struct text *f = &o->row[r].field[field[c]];
            bool b = false, integer;
            int64_t i = 0;
            double x = 0;
            char word[64];

            if (oracle_missing(d, f)) {
                text_string(out, "null\x1f");
                continue;
            }
            switch (type[c]) {
            case TYPE_BOOL:
                assert_true(oracle_bool(f, &b));
                text_string(out, b ? "true" : "false");
                break;
            case TYPE_INT64:
                assert_true(oracle_number(f, &integer, &i, &x));
                snprintf(word, sizeof(word), "%lld", (long long)i);
                text_string(out, word);
                break;
            case TYPE_FLOAT64:
                assert_true(oracle_number(f, &integer, &i, &x));
                snprintf(word, sizeof(word), "%a", x);
                text_string(out, word);
                break;
            default:
                text_byte(out, '\'');
                text_add(out, field_text(f), f->size);
                break;
            }
            text_byte(out, '\x1f');
        }
        text_byte(out, '\n');
    }
}

// ---- the client's part ------------------------------------------------------------------

struct driver {
    Dray__ScanCsv *scan;
    struct budget *budget;
    struct kernel_scratch *scratch;
    struct arena arena;
    struct error err;     // of the first block that failed
    uint64_t invalid_utf8;
    int rounds;
    uint32_t block;  // behind which the chain broke
};

static inline int driver_task(struct driver *d, uint32_t index, struct sink *sink, Dray__Note *note)
{
    Dray__Step step = DRAY__STEP__INIT;
    struct arena arena;
    struct kernel_env env = {.budget = d->budget, .arena = &d->arena, .scratch = d->scratch};
    struct schema schema;
    int rc;

    step.scan_csv = d->scan;
    dray__note__init(&env.note);
    arena_init(&arena, 0);
    rc = csv_scan_source.schema(&step, index, NULL, &env, &arena, &schema, &d->err);
    if (rc == 0) {
        sink->stage = (struct stage){.class = &sink_class, .env = &env, .arena = &arena, .schema = schema};
        rc = csv_scan_source.run(&step, index, NULL, &env, &arena, &sink->stage, &d->err);
    }
    *note = env.note;
    arena_fini(&arena);
    return rc;
}

static inline void driver_quote(struct driver *d, uint32_t index, bool *outside, bool *inside)
{
    Dray__Step step = DRAY__STEP__INIT;
    Dray__QuoteCsv quote = DRAY__QUOTE_CSV__INIT;
    struct kernel_env env = {.budget = d->budget, .arena = &d->arena, .scratch = d->scratch};
    struct partition *p = NULL;

    quote.scan = d->scan;
    step.quote_csv = &quote;
    assert_int_equal(csv_quote_maker.make(&step, index, NULL, &env, &d->arena, &p, &d->err), 0);
    Dray__CsvQuoteState *s = dray__csv_quote_state__unpack(NULL, p->bytes->size, p->bytes->data);

    *outside = s->end_if_outside;
    *inside = s->end_if_inside;
    dray__csv_quote_state__free_unpacked(s, NULL);
    partition_unref(p);
}

static inline void driver_chain(struct driver *d, uint32_t blocks)
{
    uint32_t *quoted = arena_array(&d->arena, blocks, sizeof(*quoted));
    size_t n = 0;
    bool inside = false;

    for (uint32_t b = 0; b < blocks; b++) {
        bool end_outside, end_inside;

        if (inside) {
            quoted[n++] = b;
        }
        driver_quote(d, b, &end_outside, &end_inside);
        inside = inside ? end_inside : end_outside;
    }
    d->scan->starts_quoted = quoted;
    d->scan->n_starts_quoted = n;
}

static inline bool driver_is_quoted(const struct driver *d, uint32_t block)
{
    for (size_t i = 0; i < d->scan->n_starts_quoted; i++) {
        if (d->scan->starts_quoted[i] == block) {
            return true;
        }
    }
    return false;
}

// All rows of a scan of one file, as text.  Errors: that of the first block.
static inline int driver_run(struct driver *d, struct text *rows)
{
    uint32_t blocks = d->scan->file[0]->blocks;

    for (d->rounds = 1; d->rounds < 12; d->rounds++) {
        struct sink sink = {0};
        bool broken = false;
        bool widened = false;
        int rc = 0;

        d->invalid_utf8 = 0;
        for (uint32_t b = 0; b < blocks && rc == 0; b++) {
            Dray__Note note;

            d->err.text[0] = '\0';
            rc = driver_task(d, b, &sink, &note);
            if (rc < 0) {
                break;
            }
            d->invalid_utf8 += note.invalid_utf8;
            if (b + 1 < blocks && note.ends_quoted != driver_is_quoted(d, b + 1)) {
                broken = true;
                d->block = b;
                break;
            }
            for (size_t w = 0; w < note.n_widen; w++) {
                assert_int_not_equal(d->scan->column[note.widen[w]->column]->type, note.widen[w]->type);
                d->scan->column[note.widen[w]->column]->type = note.widen[w]->type;
                widened = true;
            }
        }
        if (rc == 0 && !broken && !widened) {
            *rows = sink.rows;
            return 0;
        }
        free(sink.rows.data);
        if (rc < 0) {
            return rc;
        }
        if (broken) {
            if (d->scan->n_starts_quoted > 0) {
                fail_msg("the chain of quote states is broken again behind block %u", d->block);
            }
            driver_chain(d, blocks);
        }
    }
    fail_msg("no end of rounds");
    return -1;
}

#endif
