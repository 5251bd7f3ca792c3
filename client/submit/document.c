#include "client/submit/document.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/submit/document_tree.h"
#include "proto/utf8.h"

enum { MESSAGE_MAX = 512 };

// ---- places ----------------------------------------------------------------------------

static size_t byte_offset(const struct document *document, uint32_t at)
{
    const struct script *script = &document->script;
    size_t offset = 0;

    if (!document->in_characters) {
        return at;
    }
    for (uint32_t i = 0; i < at && offset < script->size; i++) {
        uint32_t code;

        offset += utf8_next(script->text + offset, script->size - offset, &code);
    }
    return offset;
}

static int error_at(const struct document *document, uint32_t at, uint32_t size, struct error *err,
                    const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    struct place place;

    if (err == NULL) {
        return -EINVAL;
    }
    vsnprintf(message, sizeof(message), format, args);
    place.start = (uint32_t)byte_offset(document, at);
    place.end = place.start + size;
    return script_error_column(&document->script, place, err, "%s", message);
}

int tree_error(const struct tree *tree, uint32_t at, struct error *err, const char *format, ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = error_at(tree->document, at, 1, err, format, args);
    va_end(args);
    return rc;
}

int document_error(const struct document *document, const struct node *node, struct error *err,
                   const char *format, ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = error_at(document, node->at, node->kind == NODE_SCALAR ? node->count : 1, err, format, args);
    va_end(args);
    return rc;
}

bool node_is_null(const struct node *node)
{
    return node->kind == NODE_SCALAR && !node->quoted &&
           (node->count == 0 || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

const char *node_kind_name(const struct node *node)
{
    switch (node->kind) {
    case NODE_LIST:
        return "a list";
    case NODE_MAP:
        return "a map";
    case NODE_SCALAR:
    default:
        return node_is_null(node) ? "nothing" : "text";
    }
}

// ---- building ---------------------------------------------------------------------------

void tree_fini(struct tree *tree)
{
    free(tree->pushed);
}

static struct node *new_node(struct tree *tree, enum node_kind kind, uint32_t at, struct error *err)
{
    struct node *node;

    if (tree->nodes >= DOCUMENT_NODES_MAX) {
        tree_error(tree, at, err, "the file has more than %u values", DOCUMENT_NODES_MAX);
        return NULL;
    }
    node = arena_zalloc(tree->arena, sizeof(*node));
    if (node == NULL) {
        error_no_memory(err);
        return NULL;
    }
    tree->nodes++;
    node->kind = kind;
    node->at = at;
    node->height = 1;
    node->weight = 1;
    return node;
}

struct node *tree_scalar(struct tree *tree, uint32_t at, const char *text, size_t size, bool quoted,
                         struct error *err)
{
    struct node *node = new_node(tree, NODE_SCALAR, at, err);

    if (node == NULL) {
        return NULL;
    }
    if (memchr(text, '\0', size) != NULL) {
        tree_error(tree, at, err, "text with a zero byte");
        return NULL;
    }
    node->quoted = quoted;
    node->count = (uint32_t)size;
    node->text = arena_strndup(tree->arena, text, size);
    if (node->text == NULL) {
        error_no_memory(err);
        return NULL;
    }
    return node;
}

int tree_push(struct tree *tree, struct node *node, struct error *err)
{
    if (tree->count == tree->room) {
        size_t room = tree->room == 0 ? 64 : 2 * tree->room;
        struct node **grown = realloc(tree->pushed, room * sizeof(struct node *));

        if (grown == NULL) {
            return error_no_memory(err);
        }
        tree->pushed = grown;
        tree->room = room;
    }
    tree->pushed[tree->count++] = node;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const struct node *one = *(struct node *const *)a, *other = *(struct node *const *)b;
    int order = strcmp(one->text, other->text);

    return order != 0 ? order : one->at < other->at ? -1 : one->at > other->at;
}

static int check_keys(struct tree *tree, const struct node *map, struct error *err)
{
    struct node **key = calloc(map->count > 0 ? map->count : 1, sizeof(struct node *));
    int rc = 0;

    if (key == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < map->count && rc == 0; i++) {
        key[i] = map->item[2 * (size_t)i];
        if (key[i]->kind != NODE_SCALAR) {
            rc = tree_error(tree, key[i]->at, err, "%s as a key: keys are words", node_kind_name(key[i]));
        }
    }
    if (rc == 0) {
        qsort(key, map->count, sizeof(struct node *), compare_keys);
    }
    for (uint32_t i = 1; i < map->count && rc == 0; i++) {
        if (strcmp(key[i]->text, key[i - 1]->text) == 0) {
            rc = tree_error(tree, key[i]->at, err, "'%.100s' stands here twice", key[i]->text);
        }
    }
    free(key);
    return rc;
}

struct node *tree_collection(struct tree *tree, enum node_kind kind, uint32_t at, size_t begin,
                             struct error *err)
{
    struct node *node = new_node(tree, kind, at, err);
    size_t count = tree->count - begin;
    uint64_t weight = 1;

    if (node == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const struct node *item = tree->pushed[begin + i];

        weight += item->weight;
        if (item->height >= node->height) {
            node->height = (uint8_t)(item->height + 1);
        }
    }
    if (weight > DOCUMENT_NODES_MAX) {
        tree_error(tree, at, err, "with its aliases written out the file has more than %u values",
                   DOCUMENT_NODES_MAX);
        return NULL;
    }
    if (node->height > DOCUMENT_DEPTH_MAX) {
        tree_error(tree, at, err, "lists and maps within one another, more than %d deep", DOCUMENT_DEPTH_MAX);
        return NULL;
    }
    node->weight = (uint32_t)weight;
    node->count = (uint32_t)(kind == NODE_MAP ? count / 2 : count);
    if (count > 0) { // otherwise there may be no place for any
        node->item = arena_copy(tree->arena, tree->pushed + begin, count * sizeof(struct node *));
        if (node->item == NULL) {
            error_no_memory(err);
            return NULL;
        }
    }
    tree->count = begin;
    if (kind == NODE_MAP && check_keys(tree, node, err) != 0) {
        return NULL;
    }
    return node;
}

// ---- the whole -------------------------------------------------------------------------

static int check_text(struct document *document, struct error *err)
{
    const struct script *script = &document->script;
    size_t length;

    for (size_t at = 0; at < script->size; at += length) {
        struct place place = {.start = (uint32_t)at, .end = (uint32_t)at + 1};
        uint32_t code;

        length = utf8_next(script->text + at, script->size - at, &code);
        if (code == UTF8_INVALID) {
            return script_error_column(script, place, err, "byte 0x%02x is no UTF-8",
                                       (unsigned char)script->text[at]);
        }
        if (code == 0) {
            return script_error_column(script, place, err, "a zero byte: this is no text file");
        }
    }
    return 0;
}

enum document_format document_format_of(const char *name, const char *text, size_t size)
{
    const char *dot = strrchr(name, '.');
    size_t at = 0;

    if (dot != NULL) {
        return strcmp(dot, ".json") == 0 ? DOCUMENT_JSON : DOCUMENT_YAML;
    }
    while (at < size && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) {
        at++;
    }
    return at < size && text[at] == '{' ? DOCUMENT_JSON : DOCUMENT_YAML;
}

int document_read(const char *name, const char *text, size_t size, enum document_format format,
                  struct arena *arena, struct document *out, struct error *err)
{
    struct document document = {.script = {.name = name, .text = text, .size = size}};
    struct tree tree = {.document = &document, .arena = arena};
    int rc;

    if (size > DOCUMENT_BYTES_MAX) {
        return error_set(err, EINVAL, "%s is longer than %zu MB", name, DOCUMENT_BYTES_MAX >> 20);
    }
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        document.script.text += 3;
        document.script.size -= 3;
    }
    rc = check_text(&document, err);
    if (rc == 0) {
        rc = format == DOCUMENT_JSON ? document_read_json(&tree, err) : document_read_yaml(&tree, err);
    }
    tree_fini(&tree);
    if (rc == 0) {
        *out = document;
    }
    return rc;
}
