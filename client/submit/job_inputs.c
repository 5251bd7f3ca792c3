// What a task needs of others: `inputs` with their data, `after` without.  Patterns wherever one fits,
// explicit edges where somebody lists them.
#include "client/submit/job_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/lang/spell.h"
#include "proto/graph.h"

// Of a graph, explicit ones: they are stored.
#define EDGES_MAX ((uint64_t)8 << 20)

enum { NEED_TASK, NEED_ELEMENTS, NEED_FILE, NEED_STDIN, NEED_FIELDS };
static const struct key INPUT_KEYS[] = {
    {"task", NEED_TASK}, {"elements", NEED_ELEMENTS}, {"file", NEED_FILE}, {"stdin", NEED_STDIN}};
enum { AFTER_KEYS = 2 }; // of INPUT_KEYS

enum { WIDTH_PREVIOUS, WIDTH_NEIGHBOURS, WIDTH_GROUPS, WIDTH_FIELDS };
static const struct key WIDTH_KEYS[] = {
    {"previous", WIDTH_PREVIOUS}, {"neighbours", WIDTH_NEIGHBOURS}, {"groups", WIDTH_GROUPS}};
static const enum elements WIDTH_ELEMENTS[] = {ELEMENTS_PREVIOUS, ELEMENTS_NEIGHBOURS, ELEMENTS_GROUPS};

// ---- reading ----------------------------------------------------------------------------------

static int read_width(const struct job_state *state, const struct node *map, struct need *need,
                      struct error *err)
{
    const struct node *field[WIDTH_FIELDS] = {NULL};
    int64_t width;
    int rc = schema_read(state, map, "'elements'", WIDTH_KEYS, WIDTH_FIELDS, field, err);

    if (rc != 0) {
        return rc;
    }
    if (map->count != 1) {
        return STATE_ERROR(state, map, err,
                           "'elements' is one of {previous: 1}, {neighbours: 1}, {groups: 10}");
    }
    for (int i = 0; i < WIDTH_FIELDS; i++) {
        if (field[i] != NULL) {
            need->elements = WIDTH_ELEMENTS[i];
            rc = read_integer(state, field[i], WIDTH_KEYS[i].name, i == WIDTH_GROUPS ? 2 : 1, GRAPH_TASKS_MAX,
                              &width, err);
            need->width = rc == 0 ? (uint32_t)width : 0;
        }
    }
    return rc;
}

static int read_listed(const struct job_state *state, const struct node *list, struct need *need,
                       struct error *err)
{
    struct error why = {0};
    int64_t *value;
    int rc = 0;

    if (list->count > 0 && list->item[0]->kind == NODE_LIST) {
        need->elements = ELEMENTS_OWN;
        need->own = list;
        return 0;
    }
    value = arena_array(state->arena, (size_t)list->count + 1, sizeof(*value));
    if (value == NULL) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < list->count && rc == 0; i++) {
        rc = read_integer(state, list->item[i], "elements", 0, NUMBER_MAX, &value[i], err);
    }
    need->elements = ELEMENTS_LISTED;
    if (rc == 0 && numbers_from_list(value, list->count, state->arena, &need->numbers, &why) != 0) {
        rc = STATE_ERROR(state, list, err, "'elements': %s", why.text);
    }
    return rc;
}

static int read_elements(const struct job_state *state, const struct node *node, struct need *need,
                         struct error *err)
{
    static const struct {
        const char *word;
        enum elements elements;
    } words[] = {{"same", ELEMENTS_SAME}, {"all", ELEMENTS_ALL}, {"previous", ELEMENTS_PREVIOUS}};
    struct error why = {0};

    need->elements_at = node;
    if (node->kind == NODE_MAP) {
        return read_width(state, node, need, err);
    }
    if (node->kind == NODE_LIST) {
        return read_listed(state, node, need, err);
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(node->text, words[i].word) == 0) {
            need->elements = words[i].elements;
            need->width = 1;
            return 0;
        }
    }
    need->elements = ELEMENTS_LISTED;
    if (numbers_parse(node->text, state->arena, &need->numbers, &why) != 0) {
        return STATE_ERROR(
            state, node, err,
            "'elements' is 'same', 'all', 'previous', indices such as 0..9 or [1, 3], a list of indices for "
            "each task, or {groups: 10} and its like");
    }
    return 0;
}

static int read_need(const struct job_state *state, const struct node *node, bool is_data, struct need *need,
                     struct error *err)
{
    const struct node *field[NEED_FIELDS] = {NULL};
    const char *name = is_data ? "an entry of 'inputs'" : "an entry of 'after'";
    int rc;

    need->is_data = is_data;
    if (node->kind == NODE_SCALAR && !node_is_null(node)) {
        need->at = node;
        return 0;
    }
    if (node->kind != NODE_MAP) {
        return STATE_ERROR(state, node, err,
                           "%s is the name of a task, or a map as in {task: NAME, elements: all}", name);
    }
    rc = schema_read(state, node, name, INPUT_KEYS, is_data ? NEED_FIELDS : AFTER_KEYS, field, err);
    if (rc != 0) {
        return rc;
    }
    if (field[NEED_TASK] == NULL || field[NEED_TASK]->kind != NODE_SCALAR) {
        return STATE_ERROR(state, node, err, "%s says which task: {task: NAME}", name);
    }
    need->at = field[NEED_TASK];
    if (field[NEED_ELEMENTS] != NULL) {
        rc = read_elements(state, field[NEED_ELEMENTS], need, err);
    }
    if (rc == 0 && field[NEED_STDIN] != NULL) {
        rc = read_bool(state, field[NEED_STDIN], "stdin", &need->is_stdin, err);
    }
    need->file = field[NEED_FILE];
    if (rc == 0 && need->file != NULL && need->is_stdin) {
        rc = STATE_ERROR(state, need->file, err, "an input is a 'file' or 'stdin', not both: list it twice");
    }
    return rc;
}

static int read_list(const struct job_state *state, struct task *task, const struct node *node, bool is_data,
                     struct error *err)
{
    uint32_t count = node == NULL ? 0 : node->kind == NODE_LIST ? node->count : 1;
    int rc = 0;

    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = read_need(state, node->kind == NODE_LIST ? node->item[i] : node, is_data,
                       &task->need[task->needs++], err);
    }
    return rc;
}

static int check_uses(const struct job_state *state, const struct task *task, struct error *err)
{
    bool has_stdin = task->command != NULL && task->command->has_stdin;

    for (size_t i = 0; i < task->needs; i++) {
        const struct need *need = &task->need[i];

        if (task->command == NULL && (need->is_stdin || need->file != NULL)) {
            return STATE_ERROR(state, need->at, err,
                               "'file' and 'stdin' are for inputs of 'command' and 'shell'");
        }
        if (need->is_stdin && has_stdin) {
            return STATE_ERROR(state, need->at, err, "task '%s' has two standard inputs", task->name);
        }
        has_stdin = has_stdin || need->is_stdin;
    }
    return 0;
}

int job_inputs_read(struct job_state *state, struct task *task, struct error *err)
{
    const struct node *inputs = task->field[FIELD_INPUTS], *after = task->field[FIELD_AFTER];
    size_t room = (inputs == NULL              ? 0
                   : inputs->kind == NODE_LIST ? inputs->count
                                               : 1) +
                  (size_t)(after == NULL              ? 0
                           : after->kind == NODE_LIST ? after->count
                                                      : 1);
    int rc;

    if (room > GRAPH_INPUTS_MAX) {
        return STATE_ERROR(state, task->at, err, "task '%s' depends on %zu others, more than %d", task->name,
                           room, GRAPH_INPUTS_MAX);
    }
    task->need = arena_zalloc(state->arena, (room + 1) * sizeof(*task->need));
    if (task->need == NULL) {
        return error_no_memory(err);
    }
    rc = read_list(state, task, inputs, true, err);
    rc = rc == 0 ? read_list(state, task, after, false, err) : rc;
    return rc == 0 ? check_uses(state, task, err) : rc;
}

// ---- names --------------------------------------------------------------------------------------

static int unknown_task(const struct job_state *state, const struct node *at, struct error *err)
{
    struct spell spell = {.word = at->text};

    for (uint32_t i = 0; i < state->tasks; i++) {
        spell_try(&spell, state->task[i].name);
    }
    if (spell_is_near(&spell)) {
        return STATE_ERROR(state, at, err, "there is no task '%.100s': did you mean '%s'?", at->text,
                           spell.best);
    }
    return STATE_ERROR(state, at, err, "there is no task '%.100s'", at->text);
}

int job_inputs_resolve(struct job_state *state, struct task *task, struct error *err)
{
    for (size_t i = 0; i < task->needs; i++) {
        struct need *need = &task->need[i];
        struct task *target = job_find_task(state, need->at->text);

        if (target == NULL) {
            return unknown_task(state, need->at, err);
        }
        if (target == task && need->elements != ELEMENTS_PREVIOUS && need->elements != ELEMENTS_OWN) {
            return STATE_ERROR(
                state, need->at, err,
                "task '%s' needs itself: a cycle (elements: previous is how an array makes a chain)",
                task->name);
        }
        if (target != task && need->elements == ELEMENTS_PREVIOUS) {
            return STATE_ERROR(state, need->elements_at, err, "'previous' is for elements of the same task");
        }
        need->target = (uint32_t)(target - state->task);
        target->used = target->used || (need->is_data && target != task);
    }
    return 0;
}

// ---- edges --------------------------------------------------------------------------------------

struct edges {
    struct job_state *state;
    struct task *task;
    const struct need *need;
    const struct task *target;
    Dray__Input *input;
    bool many; // a task may get more than one partition
};

static void set_pattern(struct edges *edges, Dray__Pattern pattern, uint32_t width)
{
    edges->input->pattern = pattern;
    edges->input->has_width = width > 0;
    edges->input->width = width;
}

static void set_all(struct edges *edges)
{
    set_pattern(edges, edges->target->count == 1 ? DRAY__PATTERN__BROADCAST : DRAY__PATTERN__ALL, 0);
    edges->many = edges->target->count > 1;
}

static const struct node *blame(const struct edges *edges)
{
    return edges->need->elements_at != NULL ? edges->need->elements_at : edges->need->at;
}

static int no_element(const struct edges *edges, const struct node *at, int64_t index, struct error *err)
{
    const struct numbers *there = &edges->target->indices;

    if (there->value == NULL) {
        return STATE_ERROR(
            edges->state, at, err,
            "task '%s' has no element %" PRId64 ": its indices go from %" PRId64 " to %" PRId64,
            edges->target->name, index, numbers_at(there, 0), numbers_at(there, there->count - 1));
    }
    return STATE_ERROR(edges->state, at, err, "task '%s' has no element %" PRId64, edges->target->name,
                       index);
}

static int begin_explicit(struct edges *edges, uint64_t targets, struct error *err)
{
    Dray__Input *input = edges->input;

    if (targets > EDGES_MAX) {
        return STATE_ERROR(edges->state, blame(edges), err,
                           "%" PRIu64 " edges one by one are more than %" PRIu64
                           ": use same, all, groups or neighbours",
                           targets, EDGES_MAX);
    }
    set_pattern(edges, DRAY__PATTERN__EXPLICIT, 0);
    input->n_offset = (size_t)edges->task->count + 1;
    input->offset = arena_array(edges->state->arena, input->n_offset, sizeof(*input->offset));
    input->target = arena_array(edges->state->arena, targets + 1, sizeof(*input->target));
    if (input->offset == NULL || input->target == NULL) {
        return error_no_memory(err);
    }
    input->offset[0] = 0;
    return 0;
}

static int set_same(struct edges *edges, struct error *err)
{
    const struct numbers *ours = &edges->task->indices;
    int rc;

    if (numbers_equal(ours, &edges->target->indices)) {
        set_pattern(edges, DRAY__PATTERN__ONE_TO_ONE, 0);
        return 0;
    }
    rc = begin_explicit(edges, ours->count, err);
    for (uint32_t i = 0; i < ours->count && rc == 0; i++) {
        if (!numbers_find(&edges->target->indices, numbers_at(ours, i), &edges->input->target[i])) {
            return no_element(edges, blame(edges), numbers_at(ours, i), err);
        }
        edges->input->offset[i + 1] = i + 1;
    }
    edges->input->n_target = ours->count;
    if (rc == 0) {
        input_trim_rows(edges->input);
    }
    return rc;
}

static int set_listed(struct edges *edges, struct error *err)
{
    const struct numbers *listed = &edges->need->numbers;
    Dray__Input *input = edges->input;
    uint32_t tasks = edges->task->count;
    int rc;

    if (numbers_equal(listed, &edges->target->indices)) {
        set_all(edges);
        return 0;
    }
    rc = begin_explicit(edges, (uint64_t)listed->count * tasks, err);
    for (uint32_t i = 0; i < listed->count && rc == 0; i++) {
        if (!numbers_find(&edges->target->indices, numbers_at(listed, i), &input->target[i])) {
            return no_element(edges, blame(edges), numbers_at(listed, i), err);
        }
    }
    for (uint32_t t = 0; t < tasks && rc == 0; t++) {
        if (t > 0) {
            memcpy(input->target + (size_t)t * listed->count, input->target,
                   listed->count * sizeof(*input->target));
        }
        input->offset[t + 1] = (t + 1) * listed->count;
        input->n_target = input->offset[t + 1];
    }
    edges->many = listed->count > 1;
    if (rc == 0) {
        input_trim_rows(input);
    }
    return rc;
}

static int add_own(struct edges *edges, uint32_t task, const struct node *list, struct error *err)
{
    Dray__Input *input = edges->input;

    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t place = 0;
        int64_t index;
        int rc = read_integer(edges->state, list->item[i], "elements", 0, NUMBER_MAX, &index, err);

        if (rc != 0) {
            return rc;
        }
        if (!numbers_find(&edges->target->indices, index, &place)) {
            return no_element(edges, list->item[i], index, err);
        }
        if (edges->target == edges->task && place >= task) {
            return STATE_ERROR(edges->state, list->item[i], err,
                               "element %" PRId64 " of '%s' needs element %" PRId64
                               ", which does not come before it: a cycle, or "
                               "out of order",
                               numbers_at(&edges->task->indices, task), edges->task->name, index);
        }
        input->target[input->n_target++] = place;
    }
    edges->many = edges->many || list->count > 1;
    input->offset[task + 1] = (uint32_t)input->n_target;
    return 0;
}

static int set_own(struct edges *edges, struct error *err)
{
    const struct node *own = edges->need->own;
    uint64_t targets = 0;
    int rc = 0;

    if (own->count != edges->task->count) {
        return STATE_ERROR(edges->state, own, err, "%u lists of elements for the %u tasks of '%s'",
                           own->count, edges->task->count, edges->task->name);
    }
    for (uint32_t i = 0; i < own->count; i++) {
        if (own->item[i]->kind != NODE_LIST) {
            return STATE_ERROR(edges->state, own->item[i], err,
                               "a list of indices for each task, and this is %s",
                               node_kind_name(own->item[i]));
        }
        targets += own->item[i]->count;
    }
    rc = begin_explicit(edges, targets, err);
    for (uint32_t i = 0; i < own->count && rc == 0; i++) {
        rc = add_own(edges, i, own->item[i], err);
    }
    if (rc == 0) {
        input_trim_rows(edges->input);
    }
    return rc;
}

static int set_default(struct edges *edges, struct error *err)
{
    if (edges->target->count == 1 || edges->task->count == 1) {
        set_all(edges);
        return 0;
    }
    if (numbers_equal(&edges->task->indices, &edges->target->indices)) {
        set_pattern(edges, DRAY__PATTERN__ONE_TO_ONE, 0);
        return 0;
    }
    return STATE_ERROR(
        edges->state, edges->need->at, err,
        "which of the %u elements of '%s' do the %u of '%s' need? Say {task: %s, elements: all} (or same, "
        "indices, {groups: 10}, ...)",
        edges->target->count, edges->target->name, edges->task->count, edges->task->name,
        edges->target->name);
}

static int set_width(struct edges *edges, struct error *err)
{
    uint32_t width = edges->need->width;
    uint64_t groups = ((uint64_t)edges->target->count + width - 1) / width;

    if (edges->need->elements == ELEMENTS_PREVIOUS) {
        set_pattern(edges, DRAY__PATTERN__LAG, width);
        return 0;
    }
    if (edges->need->elements == ELEMENTS_NEIGHBOURS) {
        set_pattern(edges, DRAY__PATTERN__WINDOW, width);
        edges->many = true;
        return edges->task->count == edges->target->count
                   ? 0
                   : STATE_ERROR(edges->state, blame(edges), err,
                                 "neighbours in '%s' of %u elements for the %u of '%s'", edges->target->name,
                                 edges->target->count, edges->task->count, edges->task->name);
    }
    set_pattern(edges, DRAY__PATTERN__FAN_IN, width);
    edges->many = edges->target->count > 1;
    return edges->task->count == groups ? 0
                                        : STATE_ERROR(edges->state, blame(edges), err,
                                                      "%u elements of '%s' in groups of %u are %" PRIu64
                                                      " groups, and '%s' has %u tasks",
                                                      edges->target->count, edges->target->name, width,
                                                      groups, edges->task->name, edges->task->count);
}

static int set_edges(struct edges *edges, struct error *err)
{
    switch (edges->need->elements) {
    case ELEMENTS_SAME:
        return set_same(edges, err);
    case ELEMENTS_ALL:
        set_all(edges);
        return 0;
    case ELEMENTS_LISTED:
        return set_listed(edges, err);
    case ELEMENTS_OWN:
        return set_own(edges, err);
    case ELEMENTS_PREVIOUS:
    case ELEMENTS_NEIGHBOURS:
    case ELEMENTS_GROUPS:
        return set_width(edges, err);
    case ELEMENTS_DEFAULT:
    default:
        return set_default(edges, err);
    }
}

// ---- as files ------------------------------------------------------------------------------------

static int add_file(const struct edges *edges, uint32_t input, struct error *err)
{
    struct job_state *state = edges->state;
    Dray__Command *command = edges->task->command;
    Dray__CommandFile *file = arena_zalloc(state->arena, sizeof(*file));
    int rc = 0;

    if (file == NULL) {
        return error_no_memory(err);
    }
    dray__command_file__init(file);
    file->input = input;
    if (edges->need->file != NULL) {
        rc = job_text_string(state, edges->task, edges->need->file, true, &file->path, err);
        if (rc == 0 &&
            (file->path[0] == '\0' || file->path[0] == '/' || strncmp(file->path, "../", 3) == 0)) {
            rc = STATE_ERROR(state, edges->need->file, err, "'file' is a path below the working directory");
        }
    } else {
        file->path = arena_printf(state->arena, edges->many ? "%s.{i}" : "%s", edges->target->name);
        rc = file->path == NULL ? error_no_memory(err) : 0;
    }
    command->file[command->n_file++] = file;
    return rc;
}

int job_inputs_edges(struct job_state *state, struct task *task, struct error *err)
{
    Dray__Layer *layer = task->layer;
    Dray__Command *command = task->command;
    int rc = 0;

    layer->input = arena_array(state->arena, task->needs + 1, sizeof(*layer->input));
    if (command != NULL) {
        command->file = arena_array(state->arena, task->needs + 1, sizeof(*command->file));
    }
    if (layer->input == NULL || (command != NULL && command->file == NULL)) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < task->needs && rc == 0; i++) {
        const struct need *need = &task->need[i];
        struct edges edges = {
            .state = state, .task = task, .need = need, .target = &state->task[need->target]};

        edges.input = arena_zalloc(state->arena, sizeof(*edges.input));
        if (edges.input == NULL) {
            return error_no_memory(err);
        }
        dray__input__init(edges.input);
        edges.input->layer = edges.target->number;
        rc = set_edges(&edges, err);
        layer->input[layer->n_input++] = edges.input;
        if (rc == 0 && need->is_stdin) {
            command->has_stdin_input = true;
            command->stdin_input = (uint32_t)i;
        } else if (rc == 0 && need->is_data && command != NULL) {
            rc = add_file(&edges, (uint32_t)i, err);
        }
    }
    return rc;
}
