// A Series or a DataFrame as print() of pandas 1.5 and 2 shows it, with default options.
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/print/format.h"
#include "client/print/printer.h"

enum {
    ROWS_WHOLE = 60, // display.max_rows: up to here everything is shown
    ROWS_EDGE = 5,   // beyond: half of display.min_rows at either end
    ITEMS_MAX = 100, // of a list in the print of an empty frame
    WIDTH_MIN = 10,
};

// Of what streams by: the first rows, and the last.
struct table_state {
    struct table *head;
    struct table *tail;
    bool *has_nulls; // [columns], in all rows
};

static void clear(struct printer *printer)
{
    struct table_state *state = printer->state;

    table_unref(state->head);
    table_unref(state->tail);
    free(state->has_nulls);
}

// *kept = rows of *kept (NULL: none), then rows [first, first + count) of `table`.
static int append_rows(struct table **kept, const struct table *table, int64_t first, int64_t count,
                       struct error *err)
{
    int64_t rows[ITEMS_MAX];
    struct table *parts[2], *joined = NULL;
    int rc;

    for (int64_t i = 0; i < count; i++) {
        rows[i] = first + i;
    }
    rc = table_take(table, rows, count, &parts[1], err);
    if (rc != 0) {
        return rc;
    }
    if (*kept == NULL) {
        *kept = parts[1];
        return 0;
    }
    parts[0] = *kept;
    rc = table_concat(parts, 2, &joined, err);
    table_unref(parts[1]);
    if (rc == 0) {
        table_unref(*kept);
        *kept = joined;
    }
    return rc;
}

static int keep_rows(struct printer *printer, const struct table *table, struct error *err)
{
    struct table_state *state = printer->state;
    int64_t head = state->head == NULL ? 0 : state->head->rows;
    int64_t count = table->rows < ITEMS_MAX - head ? table->rows : ITEMS_MAX - head;
    int rc = 0;

    if (state->head == NULL) {
        state->has_nulls = calloc(table->columns, sizeof(*state->has_nulls));
        if (state->has_nulls == NULL) {
            return error_no_memory(err);
        }
    } else if (table->columns != state->head->columns) {
        return error_set(err, EINVAL, "a part of the result has %u columns instead of %u", table->columns,
                         state->head->columns);
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        state->has_nulls[i] |= table->column[i].nulls > 0;
    }
    if (state->head == NULL || count > 0) {
        rc = append_rows(&state->head, table, 0, count, err);
    }
    count = table->rows < ROWS_EDGE ? table->rows : ROWS_EDGE;
    if (rc == 0 && count > 0) {
        rc = append_rows(&state->tail, table, table->rows - count, count, err);
    }
    if (rc == 0 && state->tail != NULL && state->tail->rows > ROWS_EDGE) {
        struct table *last = NULL;

        rc = append_rows(&last, state->tail, state->tail->rows - ROWS_EDGE, ROWS_EDGE, err);
        if (rc == 0) {
            table_unref(state->tail);
            state->tail = last;
        }
    }
    return rc;
}

// ---- what is shown -----------------------------------------------------------------------

struct view {
    struct sheet *sheet;
    const struct shape *shape;
    const struct table *table; // the rows that are shown
    const bool *has_nulls;
    int64_t rows; // of the whole
    bool is_cut;  // dots after ROWS_EDGE rows
};

static uint32_t index_count(const struct view *view)
{
    return view->shape->index_columns;
}

static bool has_index_names(const struct view *view)
{
    return index_count(view) > 0 && !view->shape->index_is_names;
}

static struct text escaped_name(const struct view *view, const char *name)
{
    return text_escape(view->sheet, name, strlen(name));
}

// What an outer level repeats from the row above becomes blank.
static void sparsify(struct strip *levels, uint32_t count, size_t first_row)
{
    size_t rows = levels[0].count;

    // From below, so that the row above is still whole.
    for (size_t row = rows - 1; rows > 0 && row > first_row; row--) {
        for (uint32_t level = 0; level + 1 < count; level++) {
            struct text *here = &levels[level].line[row];
            const struct text *above = &levels[level].line[row - 1];

            if (here->size != above->size || memcmp(here->data, above->data, here->size) != 0) {
                break;
            }
            *here = text_of("");
        }
    }
}

// The levels of the index, each with its name on top when `with_names`.
static struct strip *index_levels(const struct view *view, bool with_names)
{
    struct sheet *sheet = view->sheet;
    uint32_t count = index_count(view) > 0 ? index_count(view) : 1;
    struct strip *levels = arena_array(&sheet->arena, count, sizeof(*levels));

    if (levels == NULL) {
        sheet->no_memory = true;
        return NULL;
    }
    if (index_count(view) == 0) {
        int64_t tail = view->is_cut ? ROWS_EDGE : 0;

        levels[0] = format_range(sheet, view->rows, view->table->rows - tail, tail);
    }
    for (uint32_t i = 0; i < index_count(view); i++) {
        levels[i] = format_index(sheet, &view->table->column[i], view->has_nulls[i]);
    }
    for (uint32_t i = 0; with_names && i < count; i++) {
        strip_insert(sheet, &levels[i], 0,
                     has_index_names(view) ? escaped_name(view, view->table->column[i].name) : text_of(""));
    }
    if (count > 1 && !sheet->no_memory) {
        sparsify(levels, count, with_names ? 1 : 0);
    }
    return levels;
}

// ---- series --------------------------------------------------------------------------------

static void write_footer(const struct view *view, FILE *out)
{
    const struct shape *shape = view->shape;
    uint32_t last = view->table->columns - 1;
    const char *dtype = shape->dtype != NULL
                            ? shape->dtype
                            : format_dtype(view->table->column[last].type, view->has_nulls[last]);

    if (shape->series_name != NULL) {
        struct text name = escaped_name(view, shape->series_name);

        fprintf(out, "Name: %.*s, ", (int)name.size, name.data);
    }
    if (view->is_cut) {
        fprintf(out, "Length: %" PRId64 ", ", view->rows);
    }
    fprintf(out, "dtype: %s", dtype);
}

static struct strip series_values(const struct view *view)
{
    uint32_t last = view->table->columns - 1;
    const struct column *column = &view->table->column[last];
    enum type type[ITEMS_MAX];

    if (view->shape->row_type == NULL) {
        return format_values(view->sheet, column, view->has_nulls[last]);
    }
    for (int64_t row = 0; row < column->length; row++) {
        bool is_tail = view->is_cut && row >= ROWS_EDGE;

        type[row] = view->shape->row_type[is_tail ? view->rows - column->length + row : row];
    }
    return format_mixed(view->sheet, column, type);
}

static void write_series(const struct view *view, FILE *out)
{
    struct sheet *sheet = view->sheet;
    struct strip *levels, columns[2], lines;

    if (view->rows == 0) {
        fputs("Series([], ", out);
        write_footer(view, out);
        fputs(")\n", out);
        return;
    }
    levels = index_levels(view, true);
    if (levels == NULL) {
        return;
    }
    columns[0] = index_count(view) > 1 ? strips_adjoin(sheet, 2, levels, index_count(view)) : levels[0];
    columns[1] = series_values(view);
    if (sheet->no_memory) {
        return;
    }
    if (has_index_names(view)) {
        fwrite(columns[0].line[0].data, 1, columns[0].line[0].size, out);
        putc('\n', out);
    }
    columns[0].line++;
    columns[0].count--;
    columns[0].room--;
    if (view->is_cut) {
        size_t width = columns[1].line[ROWS_EDGE - 1].width;
        struct text dots = text_of(width > 3 ? "..." : "..");

        strip_insert(sheet, &columns[1], ROWS_EDGE, text_pad(sheet, dots, width, ALIGN_CENTER));
        strip_insert(sheet, &columns[0], ROWS_EDGE, text_of(""));
    }
    lines = strips_adjoin(sheet, 3, columns, 2);
    strip_write(&lines, out);
    write_footer(view, out);
    putc('\n', out);
}

// ---- frame ---------------------------------------------------------------------------------

// Which of the value columns are shown.
struct selection {
    uint32_t *column; // numbers in the table
    size_t count;
    size_t left; // dots come after as many; 0: none are left out
};

static void cut_columns(struct selection *selection, size_t fitted)
{
    size_t side = fitted / 2;

    memmove(selection->column + side, selection->column + selection->count - side, side * sizeof(uint32_t));
    selection->count = 2 * side;
    selection->left = side;
}

static struct strip frame_index(const struct view *view)
{
    struct sheet *sheet = view->sheet;
    uint32_t count = index_count(view) > 0 ? index_count(view) : 1;
    struct strip *levels = index_levels(view, has_index_names(view)), joined;

    if (levels == NULL) {
        return (struct strip){0};
    }
    for (uint32_t i = 0; i < count; i++) {
        strip_fix_width(sheet, &levels[i], 0, ALIGN_LEFT);
    }
    joined = strips_adjoin(sheet, 1, levels, count);
    strip_insert(sheet, &joined, 0, text_of("")); // beside the columns' names
    return joined;
}

// A name has the leading space of its numbers.  pandas looks the type up by name among
// the first columns of the whole, also where columns in the middle are left out.
static bool name_has_space(const struct view *view, const struct selection *selection, const char *name)
{
    uint32_t first = index_count(view);

    for (size_t i = selection->count; i-- > 0;) {
        if (strcmp(view->table->column[selection->column[i]].name, name) == 0) {
            uint32_t whole = first + (uint32_t)i;

            return format_is_numeric(view->table->column[whole].type, view->has_nulls[whole]);
        }
    }
    return false;
}

static struct strip frame_column(const struct view *view, const struct selection *selection, size_t i)
{
    struct sheet *sheet = view->sheet;
    uint32_t number = selection->column[i];
    const struct column *column = &view->table->column[number];
    struct text name = escaped_name(view, column->name);
    struct strip values = format_values(sheet, column, view->has_nulls[number]);

    if (name_has_space(view, selection, column->name)) {
        name = text_join(sheet, " ", name);
    }
    strip_fix_width(sheet, &values, name.width, ALIGN_RIGHT);

    size_t width = strip_width(&values) > name.width ? strip_width(&values) : name.width;

    if (has_index_names(view)) {
        strip_insert(sheet, &values, 0, text_pad(sheet, text_of(""), width, ALIGN_RIGHT));
    }
    strip_insert(sheet, &values, 0, text_pad(sheet, name, width, ALIGN_RIGHT));
    return values;
}

// All strips from left to right: index, columns, and the dots between them.  *count: how many.
static struct strip *frame_strips(const struct view *view, const struct selection *selection, size_t *count)
{
    struct sheet *sheet = view->sheet;
    struct strip *strips = arena_array(&sheet->arena, selection->count + 2, sizeof(*strips));
    size_t n = 0;

    *count = 0;
    if (strips == NULL) {
        sheet->no_memory = true;
        return NULL;
    }
    strips[n++] = frame_index(view);
    size_t height = strips[0].count;

    for (size_t i = 0; i < selection->count; i++) {
        if (selection->left > 0 && i == selection->left) {
            strips[n] = (struct strip){0};
            for (size_t row = 0; row < height; row++) {
                strip_add(sheet, &strips[n], text_of(" ..."));
            }
            n++;
        }
        strips[n++] = frame_column(view, selection, i);
    }
    *count = n;
    if (!view->is_cut || sheet->no_memory) {
        return strips;
    }
    size_t header = height - (size_t)view->table->rows;

    for (size_t i = 0; i < n; i++) {
        bool are_dots = selection->left > 0 && i == selection->left + 1;
        size_t width = are_dots ? 4 : strips[i].line[ROWS_EDGE].width;
        struct text dots = text_of(width > 3 ? "..." : "..");

        strip_insert(sheet, &strips[i], ROWS_EDGE + header,
                     text_pad(sheet, dots, width, i == 0 ? ALIGN_LEFT : ALIGN_RIGHT));
    }
    return strips;
}

// How many columns fit into the width, as pandas reckons: takes strips from the middle until the rest does.
static size_t fitting_columns(struct sheet *sheet, const struct strip *strips, size_t count, size_t width)
{
    size_t *lengths = arena_array(&sheet->arena, count, sizeof(*lengths));
    size_t total = count - 1;

    if (lengths == NULL) {
        sheet->no_memory = true;
        return count;
    }
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strip_width(&strips[i]);
        total += lengths[i];
    }
    while (total + 1 > width && count > 1) {
        size_t middle = count / 2;

        middle += count % 2 == 1 && middle % 2 == 1; // Python rounds halves to even
        total -= lengths[middle] + 1;
        memmove(lengths + middle, lengths + middle + 1, (count - middle - 1) * sizeof(*lengths));
        count--;
    }
    return count - 1 > 2 ? count - 1 : 2;
}

static void write_dimensions(const struct view *view, FILE *out)
{
    fprintf(out, "\n[%" PRId64 " rows x %u columns]\n", view->rows, view->table->columns - index_count(view));
}

static void write_item(const struct view *view, uint32_t column, int64_t row, FILE *out)
{
    print_cell(out, &view->table->column[column], row, "nan");
}

static void write_empty_frame(const struct view *view, size_t width, FILE *out)
{
    const struct table *table = view->table;
    uint32_t first = index_count(view), shown = 0;

    fputs("Empty DataFrame\nColumns: [", out);
    for (uint32_t i = first; i < table->columns && shown < ITEMS_MAX; i++, shown++) {
        fprintf(out, "%s%s", shown > 0 ? ", " : "", table->column[i].name);
    }
    fprintf(out, "%s]\nIndex: [", first + shown < table->columns ? ", ..." : "");
    for (int64_t row = 0; row < table->rows; row++) {
        fputs(row > 0 ? ", " : "", out);
        for (uint32_t i = 0; i < first; i++) {
            fputs(i > 0 ? ", " : first > 1 ? "(" : "", out);
            write_item(view, i, row, out);
        }
        fputs(first > 1 ? ")" : "", out);
    }
    fprintf(out, "%s]\n", view->rows > table->rows ? ", ..." : "");
    if (view->rows > ROWS_WHOLE || table->columns - first > width) {
        write_dimensions(view, out);
    }
}

static void write_frame(const struct view *view, size_t width, FILE *out)
{
    struct sheet *sheet = view->sheet;
    size_t total = view->table->columns - index_count(view), fitted, count;
    struct selection selection = {.count = total};
    struct strip *strips, lines;

    selection.column = arena_array(&sheet->arena, total, sizeof(uint32_t));
    if (selection.column == NULL) {
        sheet->no_memory = true;
        return;
    }
    for (size_t i = 0; i < total; i++) {
        selection.column[i] = index_count(view) + (uint32_t)i;
    }
    if (total > width) {
        cut_columns(&selection, width);
    }
    strips = frame_strips(view, &selection, &count);
    if (sheet->no_memory) {
        return;
    }
    fitted = fitting_columns(sheet, strips, count, width);
    if (total > fitted) {
        cut_columns(&selection, fitted);
        strips = frame_strips(view, &selection, &count);
    }
    if (sheet->no_memory) {
        return;
    }
    lines = strips_adjoin(sheet, 1, strips, count);
    strip_write(&lines, out);
    if (view->is_cut || selection.left > 0) {
        write_dimensions(view, out);
    }
}

// ---- the whole -----------------------------------------------------------------------------

static int finish(struct printer *printer, struct error *err)
{
    struct table_state *state = printer->state;
    struct sheet sheet;
    struct view view = {
        .sheet = &sheet, .shape = &printer->shape, .has_nulls = state->has_nulls, .rows = printer->rows};
    struct table *shown = NULL;
    bool is_series = printer->shape.kind == SHAPE_SERIES;
    int rc = 0;

    if (state->head == NULL) {
        fputs(is_series ? "Series([], dtype: object)\n" : "Empty DataFrame\nColumns: []\nIndex: []\n",
              printer->out);
        return 0;
    }
    bool has_values = state->head->columns > printer->shape.index_columns;

    sheet_init(&sheet);
    view.is_cut = printer->rows > ROWS_WHOLE && (is_series || has_values);
    if (view.is_cut) {
        rc = append_rows(&shown, state->head, 0, ROWS_EDGE, err);
        if (rc == 0) {
            rc = append_rows(&shown, state->tail, 0, ROWS_EDGE, err);
        }
        if (rc != 0) {
            goto out;
        }
    } else {
        shown = table_ref(state->head);
    }
    view.table = shown;
    size_t width = (size_t)(printer->columns < WIDTH_MIN ? WIDTH_MIN : printer->columns);

    if (is_series) {
        write_series(&view, printer->out);
    } else if (printer->rows == 0 || !has_values) {
        write_empty_frame(&view, width, printer->out);
    } else {
        write_frame(&view, width, printer->out);
    }
    if (sheet.no_memory) {
        rc = error_no_memory(err);
    }
out:
    table_unref(shown);
    sheet_fini(&sheet);
    return rc;
}

const struct print_ops print_table_ops = {sizeof(struct table_state), keep_rows, finish, clear};
