// A YAML or JSON file as a tree of nodes that know where they stand.  All scalars are text as written: what
// reads them decides what they mean, so that `007`, `no` and `1e3` are what somebody typed. Safe for what
// anybody may send: depth, nodes, anchors and the size of what aliases stand for have limits.
#ifndef DRAY_CLIENT_SUBMIT_DOCUMENT_H
#define DRAY_CLIENT_SUBMIT_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/lang/script.h"
#include "proto/arena.h"
#include "proto/error.h"

#define DOCUMENT_BYTES_MAX ((size_t)64 << 20)
#define DOCUMENT_NODES_MAX ((uint32_t)1 << 22) // with aliases counted as often as they stand there
#define DOCUMENT_ANCHORS_MAX 1000
enum { DOCUMENT_DEPTH_MAX = 32 };

enum document_format { DOCUMENT_YAML, DOCUMENT_JSON };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    bool quoted;     // a scalar that is text whatever it looks like
    uint8_t height;  // 1: no items
    uint32_t at;     // place in the file, see document_place
    uint32_t count;  // bytes of a scalar, items of a list, entries of a map
    uint32_t weight; // nodes, itself included
    union {
        const char *text;   // zero-terminated, without a zero byte inside
        struct node **item; // of a map: key, value, key, value; keys are scalars and differ
    };
};

struct document {
    struct script script; // borrowed
    bool in_characters;   // node.at counts characters, not bytes
    struct node *root;
};

// The tree lives in the arena; `text` and `name` are borrowed for as long as errors are to show lines.
int document_read(const char *name, const char *text, size_t size, enum document_format format,
                  struct arena *arena, struct document *out, struct error *err);
// By the end of the name (.json), or, without one, by the first character.
enum document_format document_format_of(const char *name, const char *text, size_t size);

// -EINVAL with "NAME:LINE:COLUMN: message" and the line with a caret.
int document_error(const struct document *document, const struct node *node, struct error *err,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

static inline const struct node *map_key(const struct node *map, uint32_t i)
{
    return map->item[2 * (size_t)i];
}
static inline const struct node *map_value(const struct node *map, uint32_t i)
{
    return map->item[2 * (size_t)i + 1];
}
// Scalars `null`, `~` and nothing at all.
bool node_is_null(const struct node *node);
// "a list", "a map", "text", "nothing"
const char *node_kind_name(const struct node *node);

#endif
