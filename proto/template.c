#include "proto/template.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool template_name_is_valid(const char *name, size_t size)
{
    if (size == 0 || size > TEMPLATE_NAME_MAX || !is_letter(name[0])) {
        return false;
    }
    for (size_t i = 1; i < size; i++) {
        if (!is_letter(name[i]) && !(name[i] >= '0' && name[i] <= '9')) {
            return false;
        }
    }
    return true;
}

uint64_t template_column_count(const Dray__Column *column)
{
    return column->has_first ? column->count : column->n_value;
}

// ---- check ----------------------------------------------------------------------------

static int check_numbers(const Dray__Column *column, struct error *err)
{
    int64_t span, last;

    if (column->n_value > 0 || column->count < 1 || column->step == 0) {
        return error_set(err, EBADMSG, "column %s: %u numbers in steps of %" PRId64 " and %zu values",
                         column->name, column->count, column->step, column->n_value);
    }
    if (__builtin_mul_overflow((int64_t)column->count - 1, column->step, &span) ||
        __builtin_add_overflow(column->first, span, &last)) {
        return error_set(err, EBADMSG, "column %s: its numbers do not fit into 64 bits", column->name);
    }
    return 0;
}

static int check_column(const Dray__Column *column, struct error *err)
{
    if (!template_name_is_valid(column->name, strlen(column->name))) {
        return error_set(err, EBADMSG, "a column has the name '%.80s'", column->name);
    }
    if (column->each < 1) {
        return error_set(err, EBADMSG, "column %s: each value stands for no task", column->name);
    }
    if (column->has_first) {
        return check_numbers(column, err);
    }
    if (column->n_value < 1 || column->n_value > UINT32_MAX) {
        return error_set(err, EBADMSG, "column %s has %zu values", column->name, column->n_value);
    }
    for (size_t i = 0; i < column->n_value; i++) {
        if (column->value[i].len > 0 && memchr(column->value[i].data, '\0', column->value[i].len) != NULL) {
            return error_set(err, EBADMSG, "column %s: value %zu has a zero byte", column->name, i);
        }
    }
    return 0;
}

int template_check_columns(const Dray__Command *command, struct error *err)
{
    if (command->n_column > TEMPLATE_COLUMNS_MAX) {
        return error_set(err, EBADMSG, "%zu columns, more than %d", command->n_column, TEMPLATE_COLUMNS_MAX);
    }
    for (size_t i = 0; i < command->n_column; i++) {
        int rc = check_column(command->column[i], err);

        for (size_t j = 0; j < i && rc == 0; j++) {
            if (strcmp(command->column[i]->name, command->column[j]->name) == 0) {
                rc = error_set(err, EBADMSG, "two columns have the name %s", command->column[i]->name);
            }
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

// ---- expand ---------------------------------------------------------------------------

struct values {
    const Dray__Command *command;
    uint32_t index;
    const uint32_t *place;
    char number[24]; // of the last value that is one
};

static void set_number(struct values *values, int64_t number, const char **data, size_t *size)
{
    *size = (size_t)snprintf(values->number, sizeof(values->number), "%" PRId64, number);
    *data = values->number;
}

static bool is_name(const char *name, const char *text, size_t size)
{
    return strlen(name) == size && memcmp(name, text, size) == 0;
}

static void column_value(struct values *values, const Dray__Column *column, const char **data, size_t *size)
{
    uint64_t at = values->index / column->each % template_column_count(column);

    if (column->has_first) {
        set_number(values, column->first + (int64_t)at * column->step, data, size);
    } else {
        *data = (const char *)column->value[at].data;
        *size = column->value[at].len;
    }
}

// False: the name stands for nothing here.
static bool find_value(struct values *values, const char *name, size_t name_size, const char **data,
                       size_t *size)
{
    const Dray__Command *command = values->command;

    for (size_t i = 0; i < command->n_column; i++) {
        if (is_name(command->column[i]->name, name, name_size)) {
            column_value(values, command->column[i], data, size);
            return true;
        }
    }
    if (is_name("index", name, name_size)) {
        set_number(values, values->index, data, size);
        return true;
    }
    if (is_name("i", name, name_size) && values->place != NULL) {
        set_number(values, *values->place, data, size);
        return true;
    }
    if (is_name("param", name, name_size) && command->n_param > 0) {
        const ProtobufCBinaryData *param = &command->param[command->n_param == 1 ? 0 : values->index];

        *data = (const char *)param->data;
        *size = param->len;
        return true;
    }
    return false;
}

// Copies or (to NULL) counts.
static size_t expand(struct values *values, const char *text, size_t text_size, char *to)
{
    size_t used = 0;

    for (size_t at = 0; at < text_size;) {
        const char *brace = memchr(text + at, '{', text_size - at);
        size_t plain = brace != NULL ? (size_t)(brace - text) - at : text_size - at;
        size_t reach;
        const char *data, *end;
        size_t size;

        if (to != NULL) {
            memcpy(to + used, text + at, plain);
        }
        used += plain;
        at += plain;
        if (brace == NULL) {
            break;
        }
        reach = text_size - at < TEMPLATE_NAME_MAX + 2 ? text_size - at : TEMPLATE_NAME_MAX + 2;
        end = memchr(brace, '}', reach);
        if (text_size - at > 1 && brace[1] == '{') {
            data = "{";
            size = 1;
            at += 2;
        } else if (end != NULL && find_value(values, brace + 1, (size_t)(end - brace) - 1, &data, &size)) {
            at += (size_t)(end - brace) + 1;
        } else {
            data = "{";
            size = 1;
            at++;
        }
        if (to != NULL && size > 0) {
            memcpy(to + used, data, size);
        }
        used += size;
    }
    return used;
}

int template_expand(const Dray__Command *command, uint32_t index, const uint32_t *place, const void *text,
                    size_t text_size, struct arena *arena, char **out, size_t *size, struct error *err)
{
    struct values values = {.command = command, .index = index, .place = place};
    size_t need = expand(&values, text, text_size, NULL);
    char *to;

    if (need > TEMPLATE_BYTES_MAX) {
        return error_set(err, E2BIG, "a text of the command is %zu bytes long for task %u, more than %zu",
                         need, index, TEMPLATE_BYTES_MAX);
    }
    to = arena_alloc(arena, need + 1);
    if (to == NULL) {
        return error_no_memory(err);
    }
    expand(&values, text, text_size, to);
    to[need] = '\0';
    *out = to;
    *size = need;
    return 0;
}
