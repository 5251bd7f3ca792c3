#include "worker/kernel/csv_record.h"

#include <string.h>

struct maker {
    struct arena *arena;
    struct csv_record record;
    size_t room;
    char *text;  // room for the whole line
    size_t used, start;
};

static bool end_field(struct maker *m)
{
    if (m->record.fields == m->room) {
        size_t room = m->room == 0 ? 16 : m->room * 2;
        struct string_view *field = arena_array(m->arena, room, sizeof(*field));

        if (field == NULL) {
            return false;
        }
        if (m->room > 0) {
            memcpy(field, m->record.field, m->room * sizeof(*field));
        }
        m->record.field = field;
        m->room = room;
    }
    m->record.field[m->record.fields++] = (struct string_view){m->text + m->start, (uint32_t)(m->used - m->start)};
    m->start = m->used;
    return true;
}

static bool is_blank(const uint8_t *text, size_t start, size_t end)
{
    while (start < end && (text[start] == ' ' || text[start] == '\t')) {
        start++;
    }
    return start == end;
}

// Where the line's text ends (its break, or a comment) and the next line starts; false: not in this text.
static bool find_end(const struct csv_dialect *d, const uint8_t *text, size_t at, size_t size, bool whole, size_t *end,
                     size_t *next)
{
    enum csv_state state = CSV_LINE;
    bool commented = false;

    for (size_t i = at; i < size; i++) {
        uint8_t class = d->class_of[text[i]];

        if (class == CSV_BREAK && state != CSV_QUOTED) {
            if (text[i] == '\r' && i + 1 == size && !whole) {
                return false;
            }
            *end = commented ? *end : i;
            *next = i + 1 + (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n');
            return true;
        }
        if (!commented && d->next[state][class] == CSV_COMMENT) {
            commented = true;
            *end = i;
        }
        state = (enum csv_state)d->next[state][class];
    }
    *end = commented ? *end : size;
    *next = size;
    return whole && state != CSV_QUOTED;
}

int csv_record_read(const struct csv_dialect *d, const uint8_t *text, size_t at, size_t size, bool whole,
                    struct arena *arena, struct csv_record *out, struct error *err)
{
    struct maker m = {.arena = arena};
    enum csv_state state = CSV_LINE;
    size_t end = 0;

    if (!find_end(d, text, at, size, whole, &end, &m.record.next)) {
        return 1;
    }
    if (is_blank(text, at, end)) {
        *out = m.record;
        return 0;
    }
    m.text = arena_alloc(arena, end - at + 1);
    if (m.text == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = at; i < end; i++) {
        enum csv_state next = csv_next(d, state, text[i]);
        bool ends = csv_is_open(state) && d->class_of[text[i]] == CSV_SEP;
        bool quotes = (next == CSV_QUOTED && state != CSV_QUOTED && state != CSV_CLOSED) || next == CSV_CLOSED;

        if (ends && !end_field(&m)) {
            return error_no_memory(err);
        }
        if (!ends && !quotes) {
            m.text[m.used++] = (char)text[i];
        }
        state = next;
    }
    if (!end_field(&m)) {
        return error_no_memory(err);
    }
    *out = m.record;
    return 0;
}
