// Texts with {index}, {param} and {NAME}.  {{name}} is the text {name}.  Other braces stay as they are (shell
// and awk are full of them), unless they look like a slip of a name that the task has.
#include "client/submit/job_state.h"

#include <errno.h>
#include <string.h>

#include "client/lang/spell.h"
#include "proto/template.h"

static bool is_known(const struct task *task, const char *name, size_t size, bool places)
{
    if ((size == 5 && memcmp(name, "index", 5) == 0) || (places && size == 1 && name[0] == 'i')) {
        return true;
    }
    for (size_t i = 0; i < task->columns; i++) {
        const char *column = task->column[i]->name;

        if (strlen(column) == size && memcmp(column, name, size) == 0) {
            return true;
        }
    }
    return false;
}

static int check_slip(const struct job_state *state, const struct task *task, const struct node *node,
                      const char *name, size_t size, struct error *err)
{
    char word[TEMPLATE_NAME_MAX + 1];
    struct spell spell = {.word = word};

    if (size < 3) {
        return 0;
    }
    memcpy(word, name, size);
    word[size] = '\0';
    if (task->is_array) {
        spell_try(&spell, "index");
    }
    for (size_t i = 0; i < task->columns; i++) {
        spell_try(&spell, task->column[i]->name);
    }
    if (!task->is_array && strcmp(word, "param") == 0) {
        return STATE_ERROR(state, node, err,
                           "{param} stands for a task's parameter, and there is no 'params'");
    }
    // One or two edits from a name.
    if (spell.best == NULL || spell.distance > (size < 5 ? 1 : 2)) {
        return 0;
    }
    return STATE_ERROR(state, node, err,
                       "there is no {%s} here: did you mean {%s}? (As text it is written {{%s}})", word,
                       spell.best, word);
}

// The {name} that begins at a brace: its size, 0 for none.
static size_t name_at(const char *text, size_t size)
{
    size_t reach = size < TEMPLATE_NAME_MAX + 2 ? size : TEMPLATE_NAME_MAX + 2;
    const char *end = size > 1 ? memchr(text + 1, '}', reach - 1) : NULL;
    size_t length = end != NULL ? (size_t)(end - text) - 1 : 0;

    return length > 0 && template_name_is_valid(text + 1, length) ? length : 0;
}

struct writer {
    char *to; // NULL: only counts
    size_t used;
};

static void put(struct writer *writer, const char *text, size_t size)
{
    if (writer->to != NULL) {
        memcpy(writer->to + writer->used, text, size);
    }
    writer->used += size;
}

static int convert(const struct job_state *state, const struct task *task, const struct node *node,
                   bool places, struct writer *writer, struct error *err)
{
    const char *text = node->text;
    size_t size = node->count;

    for (size_t at = 0; at < size;) {
        const char *brace = memchr(text + at, '{', size - at);
        size_t plain = brace != NULL ? (size_t)(brace - text) - at : size - at;
        size_t length;

        put(writer, text + at, plain);
        at += plain;
        if (brace == NULL) {
            break;
        }
        length = name_at(brace, size - at);
        if (length > 0 && is_known(task, brace + 1, length, places)) {
            put(writer, brace, length + 2);
            at += length + 2;
            continue;
        }
        length = size - at > 1 && brace[1] == '{' ? name_at(brace + 1, size - at - 1) : 0;
        if (length > 0 && at + length + 3 < size && brace[length + 3] == '}') {
            put(writer, "{{", 2);
            put(writer, brace + 2, length + 1);
            at += length + 4;
            continue;
        }
        length = name_at(brace, size - at);
        if (length > 0 && (at == 0 || text[at - 1] != '$')) {
            int rc = check_slip(state, task, node, brace + 1, length, err);

            if (rc != 0) {
                return rc;
            }
        }
        put(writer, "{{", 2);
        at++;
    }
    return 0;
}

int job_text(const struct job_state *state, const struct task *task, const struct node *node,
             const char *prefix, bool places, ProtobufCBinaryData *out, struct error *err)
{
    struct writer writer = {0};
    int rc;

    if (node->kind != NODE_SCALAR || node_is_null(node)) {
        return STATE_ERROR(state, node, err,
                           "here is text expected, and this is %s: put it in quotes if it is meant",
                           node_kind_name(node));
    }
    put(&writer, prefix, strlen(prefix));
    rc = convert(state, task, node, places, &writer, err);
    if (rc != 0) {
        return rc;
    }
    writer.to = arena_alloc(state->arena, writer.used + 1);
    if (writer.to == NULL) {
        return error_no_memory(err);
    }
    writer.used = 0;
    put(&writer, prefix, strlen(prefix));
    convert(state, task, node, places, &writer, NULL);
    writer.to[writer.used] = '\0';
    *out = (ProtobufCBinaryData){.len = writer.used, .data = (uint8_t *)writer.to};
    return 0;
}

int job_text_string(const struct job_state *state, const struct task *task, const struct node *node,
                    bool places, char **out, struct error *err)
{
    ProtobufCBinaryData bytes = {0};
    int rc = job_text(state, task, node, "", places, &bytes, err);

    if (rc == 0) {
        *out = (char *)bytes.data;
    }
    return rc;
}
