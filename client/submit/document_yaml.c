// YAML by way of libyaml's events.  Left out on purpose: tags, several documents in a file.  `<<` merges
// maps.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "client/submit/document_tree.h"

struct frame {
    enum node_kind kind;
    uint32_t at;
    size_t begin;  // of its nodes among those pushed
    size_t anchor; // its number, ANCHORS: none
};

enum { NO_ANCHOR = DOCUMENT_ANCHORS_MAX, MERGE_WORK_MAX = 20000000 };

struct anchor {
    char *name;
    struct node *node; // NULL: not at its end yet
};

struct reader {
    struct tree *tree;
    yaml_parser_t parser;
    struct frame frame[DOCUMENT_DEPTH_MAX];
    size_t depth;
    struct anchor anchor[DOCUMENT_ANCHORS_MAX];
    size_t anchors;
    unsigned documents;
    uint64_t merge_work; // comparisons of keys
};

static uint32_t place(const yaml_event_t *event)
{
    return (uint32_t)event->start_mark.index;
}

static int parser_error(const struct reader *reader, struct error *err)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "it is no YAML";

    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        return error_no_memory(err);
    case YAML_READER_ERROR:
        return tree_error(reader->tree, (uint32_t)parser->mark.index, err, "%s", problem);
    default:
        if (parser->context != NULL) {
            return tree_error(reader->tree, (uint32_t)parser->problem_mark.index, err,
                              "%s, %s (that begins in line %zu)", problem, parser->context,
                              parser->context_mark.line + 1);
        }
        return tree_error(reader->tree, (uint32_t)parser->problem_mark.index, err, "%s", problem);
    }
}

// ---- anchors ------------------------------------------------------------------------------

static int add_anchor(struct reader *reader, uint32_t at, const yaml_char_t *name, struct node *node,
                      size_t *out, struct error *err)
{
    *out = NO_ANCHOR;
    if (name == NULL) {
        return 0;
    }
    if (reader->anchors == DOCUMENT_ANCHORS_MAX) {
        return tree_error(reader->tree, at, err, "more than %d anchors", DOCUMENT_ANCHORS_MAX);
    }
    reader->anchor[reader->anchors].name = arena_strdup(reader->tree->arena, (const char *)name);
    reader->anchor[reader->anchors].node = node;
    if (reader->anchor[reader->anchors].name == NULL) {
        return error_no_memory(err);
    }
    *out = reader->anchors++;
    return 0;
}

// The last of that name counts.
static int find_alias(const struct reader *reader, const yaml_event_t *event, struct node **out,
                      struct error *err)
{
    const char *name = (const char *)event->data.alias.anchor;

    for (size_t i = reader->anchors; i-- > 0;) {
        if (strcmp(reader->anchor[i].name, name) == 0) {
            *out = reader->anchor[i].node;
            return *out != NULL ? 0
                                : tree_error(reader->tree, place(event), err,
                                             "the alias *%.100s stands within what it names", name);
        }
    }
    return tree_error(reader->tree, place(event), err, "there is no anchor &%.100s before this", name);
}

// ---- merge keys -----------------------------------------------------------------------------

static bool has_key(struct node **pair, size_t pairs, const char *key)
{
    for (size_t i = 0; i < pairs; i++) {
        if (strcmp(pair[2 * i]->text, key) == 0) {
            return true;
        }
    }
    return false;
}

static int merge_map(struct reader *reader, size_t begin, const struct node *from, struct error *err)
{
    struct tree *tree = reader->tree;
    int rc = 0;

    for (uint32_t i = 0; i < from->count && rc == 0; i++) {
        size_t pairs = (tree->count - begin) / 2;

        reader->merge_work += pairs + 1;
        if (reader->merge_work > MERGE_WORK_MAX) {
            return tree_error(tree, from->at, err, "<< merges too much");
        }
        if (!has_key(tree->pushed + begin, pairs, map_key(from, i)->text)) {
            rc = tree_push(tree, from->item[2 * (size_t)i], err);
            rc = rc == 0 ? tree_push(tree, from->item[2 * (size_t)i + 1], err) : rc;
        }
    }
    return rc;
}

// `<<: *name` and `<<: [*one, *other]`: what the map itself says goes first, then the earlier of the list.
static int merge(struct reader *reader, size_t begin, struct error *err)
{
    struct tree *tree = reader->tree;
    struct node *merged = NULL;
    int rc = 0;

    for (size_t i = begin; i + 1 < tree->count; i += 2) {
        const struct node *key = tree->pushed[i];

        if (key->kind == NODE_SCALAR && !key->quoted && strcmp(key->text, "<<") == 0) {
            merged = tree->pushed[i + 1];
            memmove(tree->pushed + i, tree->pushed + i + 2, (tree->count - i - 2) * sizeof(struct node *));
            tree->count -= 2;
            break;
        }
    }
    if (merged == NULL) {
        return 0;
    }
    for (size_t i = begin; i < tree->count; i += 2) {
        if (tree->pushed[i]->kind != NODE_SCALAR) {
            return 0; // refused where keys are checked
        }
    }
    if (merged->kind == NODE_MAP) {
        return merge_map(reader, begin, merged, err);
    }
    for (uint32_t i = 0; merged->kind == NODE_LIST && i < merged->count && rc == 0; i++) {
        if (merged->item[i]->kind != NODE_MAP) {
            return tree_error(tree, merged->item[i]->at, err, "<< merges maps, and this is %s",
                              node_kind_name(merged->item[i]));
        }
        rc = merge_map(reader, begin, merged->item[i], err);
    }
    return merged->kind == NODE_LIST
               ? rc
               : tree_error(tree, merged->at, err, "<< merges maps, and this is %s", node_kind_name(merged));
}

// ---- events ------------------------------------------------------------------------------------

static int check_tag(const struct reader *reader, const yaml_event_t *event, const yaml_char_t *tag,
                     struct error *err)
{
    if (tag == NULL || strcmp((const char *)tag, "!") == 0 || strcmp((const char *)tag, YAML_STR_TAG) == 0) {
        return 0;
    }
    return tree_error(reader->tree, place(event), err, "the tag %.100s: tags are not used here",
                      (const char *)tag);
}

static int begin_collection(struct reader *reader, const yaml_event_t *event, enum node_kind kind,
                            const yaml_char_t *anchor, const yaml_char_t *tag, struct error *err)
{
    struct frame *frame = &reader->frame[reader->depth];
    int rc = check_tag(reader, event, tag, err);

    if (rc != 0) {
        return rc;
    }
    if (reader->depth == DOCUMENT_DEPTH_MAX) {
        return tree_error(reader->tree, place(event), err,
                          "lists and maps within one another, more than %d deep", DOCUMENT_DEPTH_MAX);
    }
    frame->kind = kind;
    frame->at = place(event);
    frame->begin = reader->tree->count;
    reader->depth++;
    return add_anchor(reader, frame->at, anchor, NULL, &frame->anchor, err);
}

static int end_collection(struct reader *reader, struct error *err)
{
    const struct frame *frame = &reader->frame[--reader->depth];
    struct node *node;
    int rc = frame->kind == NODE_MAP ? merge(reader, frame->begin, err) : 0;

    if (rc != 0) {
        return rc;
    }
    node = tree_collection(reader->tree, frame->kind, frame->at, frame->begin, err);
    if (node == NULL) {
        return -EINVAL;
    }
    if (frame->anchor != NO_ANCHOR) {
        reader->anchor[frame->anchor].node = node;
    }
    return tree_push(reader->tree, node, err);
}

static int add_scalar(struct reader *reader, const yaml_event_t *event, struct error *err)
{
    bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || event->data.scalar.tag != NULL;
    struct node *node;
    size_t anchor;
    int rc = check_tag(reader, event, event->data.scalar.tag, err);

    if (rc != 0) {
        return rc;
    }
    node = tree_scalar(reader->tree, place(event), (const char *)event->data.scalar.value,
                       event->data.scalar.length, quoted, err);
    if (node == NULL) {
        return -EINVAL;
    }
    rc = add_anchor(reader, node->at, event->data.scalar.anchor, node, &anchor, err);
    return rc == 0 ? tree_push(reader->tree, node, err) : rc;
}

static int add_alias(struct reader *reader, const yaml_event_t *event, struct error *err)
{
    struct node *node;
    int rc = find_alias(reader, event, &node, err);

    return rc == 0 ? tree_push(reader->tree, node, err) : rc;
}

static int handle(struct reader *reader, const yaml_event_t *event, struct error *err)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return ++reader->documents == 1
                   ? 0
                   : tree_error(reader->tree, place(event), err, "a second document: a file holds one");
    case YAML_SCALAR_EVENT:
        return add_scalar(reader, event, err);
    case YAML_ALIAS_EVENT:
        return add_alias(reader, event, err);
    case YAML_SEQUENCE_START_EVENT:
        return begin_collection(reader, event, NODE_LIST, event->data.sequence_start.anchor,
                                event->data.sequence_start.tag, err);
    case YAML_MAPPING_START_EVENT:
        return begin_collection(reader, event, NODE_MAP, event->data.mapping_start.anchor,
                                event->data.mapping_start.tag, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return end_collection(reader, err);
    default:
        return 0;
    }
}

int document_read_yaml(struct tree *tree, struct error *err)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    bool end = false;
    int rc = 0;

    if (reader == NULL) {
        return error_no_memory(err);
    }
    reader->tree = tree;
    tree->document->in_characters = true;
    if (!yaml_parser_initialize(&reader->parser)) {
        free(reader);
        return error_no_memory(err);
    }
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)tree->document->script.text,
                                 tree->document->script.size);
    while (rc == 0 && !end) {
        yaml_event_t event;

        if (!yaml_parser_parse(&reader->parser, &event)) {
            rc = parser_error(reader, err);
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        rc = handle(reader, &event, err);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&reader->parser);
    free(reader);
    if (rc == 0 && tree->count == 0) {
        rc = tree_error(tree, 0, err, "there is nothing in the file");
    }
    if (rc == 0) {
        tree->document->root = tree->pushed[0];
    }
    return rc;
}
