#include "client/plan/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <string.h>

#include "client/lang/parser.h"
#include "client/plan/answer.h"
#include "client/plan/lower.h"
#include "client/plan/optimise.h"
#include "client/plan/query_note.h"
#include "client/plan/rounds.h"
#include "proto/op.h"

enum {
    SCRIPT_MEMORY_MAX = 256 << 20,
    PLAN_MEMORY_MAX = 512 << 20,
};

struct query {
    struct arena kept; // script, tree, files found: as long as the query
    struct arena plan; // values, nodes, layers: until it is planned anew
    struct script script;
    struct ast_script ast;

    struct query_host host;
    struct learnt learnt;
    struct answer answer;
    const struct node *optimised;
    struct lowered lowered;
    struct rounds *rounds;
};

// ---- planning ---------------------------------------------------------------------------

static int lower(struct query *q, struct error *err)
{
    struct lower_options options;

    if (rounds_in_quotes(q->rounds)) {
        return lower_quotes(&q->plan, q->optimised, &q->lowered, err);
    }
    rounds_options(q->rounds, &options);
    return lower_plan(&q->plan, q->optimised, &options, &q->lowered, err);
}

// Everything from the tree on; the files found stay.
static int plan(struct query *q, struct error *err)
{
    struct binder b = {
        .script = &q->script, .host = &q->host, .learnt = &q->learnt, .arena = &q->plan, .err = err};
    const struct value *value;
    int rc;

    arena_reset(&q->plan);
    rc = bind_script(&b, &q->ast, &value);
    if (rc == 0) {
        rc = answer_create(&b, value, &q->answer);
    }
    if (rc < 0 || q->answer.plan == NULL) {
        return rc;
    }
    q->optimised = optimise(&q->plan, q->answer.plan);
    return lower(q, err);
}

static struct query *query_alloc(const struct query_host *host)
{
    struct query *q = calloc(1, sizeof(*q));

    if (q == NULL) {
        return NULL;
    }
    arena_init(&q->kept, SCRIPT_MEMORY_MAX);
    arena_init(&q->plan, PLAN_MEMORY_MAX);
    q->host = *host;
    q->learnt.arena = &q->kept;
    q->rounds = rounds_create();
    return q;
}

// From the text on.
static int read_script(struct query *q, const char *text, size_t size, const char *name, struct error *err)
{
    int rc;

    q->script.text = arena_strndup(&q->kept, text, size);
    q->script.size = size;
    q->script.name = arena_strdup(&q->kept, name);
    if (q->host.working_directory != NULL) {
        q->host.working_directory = arena_strdup(&q->kept, q->host.working_directory);
    }
    if (q->rounds == NULL || q->script.text == NULL || q->script.name == NULL) {
        return error_no_memory(err);
    }
    rc = parser_run(&q->script, &q->kept, &q->ast, err);
    return rc == 0 ? plan(q, err) : rc;
}

int query_create(const char *script, size_t size, const char *script_name, const struct query_host *host,
                 struct query **out, struct error *err)
{
    struct query *q = query_alloc(host);
    int rc;

    if (q == NULL) {
        return error_no_memory(err);
    }
    rc = read_script(q, script, size, script_name == NULL ? "script" : script_name, err);
    if (rc < 0) {
        query_destroy(q);
        return rc;
    }
    *out = q;
    return 0;
}

// ---- as a note --------------------------------------------------------------------------

int query_save(const struct query *q, struct arena *arena, void **note, size_t *size, struct error *err)
{
    return query_note_pack(&q->script, q->host.working_directory, &q->learnt, q->rounds, arena, note, size,
                           err);
}

static int probe_nothing(void *context, const Dray__ProbeCsv *const *probes, size_t count,
                         struct arena *arena, Dray__CsvProbeResult **out, struct error *err)
{
    (void)context;
    (void)probes;
    (void)count;
    (void)arena;
    (void)out;
    return error_set(err, EBADMSG, "the job's note does not tell of all files of its script");
}

int query_restore(const void *data, size_t size, struct query **out, struct error *err)
{
    const struct query_host nobody = {.probe = probe_nothing};
    const Dray__ScriptNote *note = NULL;
    struct query *q = query_alloc(&nobody);
    int rc;

    if (q == NULL || q->rounds == NULL) {
        query_destroy(q);
        return error_no_memory(err);
    }
    rc = query_note_unpack(data, size, &q->kept, &note, err);
    if (rc == 0) {
        q->host.working_directory = note->directory[0] != '\0' ? note->directory : NULL;
        rc = query_note_learnt(note, &q->learnt, err);
    }
    if (rc == 0) {
        rc = rounds_restore(q->rounds, note);
        if (rc != 0) {
            error_set(err, -rc, "the job's note with its script: %s", strerror(-rc));
        }
    }
    if (rc == 0) {
        rc = read_script(q, (const char *)note->text.data, note->text.len, note->name, err);
    }
    if (rc < 0) {
        query_destroy(q);
        return rc;
    }
    *out = q;
    return 0;
}

void query_destroy(struct query *q)
{
    if (q != NULL) {
        rounds_destroy(q->rounds);
        arena_fini(&q->plan);
        arena_fini(&q->kept);
        free(q);
    }
}

bool query_needs_graph(const struct query *q)
{
    return q->answer.plan != NULL;
}

const struct shape *query_shape(const struct query *q)
{
    return &q->answer.shape;
}

// ---- rounds --------------------------------------------------------------------------------

int query_graph(struct query *q, struct arena *arena, void **graph, size_t *size, struct error *err)
{
    size_t bytes;
    void *data;

    if (q->answer.plan == NULL) {
        return error_set(err, EINVAL, "this script needs no graph");
    }
    bytes = dray__graph__get_packed_size(&q->lowered.graph);
    data = arena_alloc(arena, bytes);
    if (data == NULL) {
        return error_no_memory(err);
    }
    dray__graph__pack(&q->lowered.graph, data);
    rounds_begin(q->rounds, &q->lowered);
    *graph = data;
    *size = bytes;
    return 0;
}

int query_note(struct query *q, uint32_t layer, uint32_t index, const void *note, size_t size,
               struct error *err)
{
    struct arena arena;
    Dray__Note *message;
    int rc = 0;

    arena_init(&arena, 64 << 20);
    message = dray__note__unpack(&arena.protobuf, size, note);
    if (message == NULL) {
        rc = error_set(err, EBADMSG, "a task's note cannot be read");
    } else if (layer == 0) {
        rc = rounds_note(q->rounds, index, message, err);
    }
    arena_fini(&arena);
    return rc;
}

int query_table(struct query *q, uint32_t layer, uint32_t index, const struct partition *partition,
                struct table **table, struct error *err)
{
    *table = NULL;
    if (layer >= q->lowered.layers || index >= q->lowered.layer[layer]->tasks) {
        return error_set(err, EBADMSG, "a result of a task that does not exist");
    }
    if (rounds_in_quotes(q->rounds)) {
        return rounds_quotes(q->rounds, index, partition, err);
    }
    if (partition->kind != PARTITION_TABLE) {
        return error_set(err, EBADMSG, "a result that is no table");
    }
    if (layer == q->lowered.count_layer) {
        return rounds_count(q->rounds, partition->table, err);
    }
    if (layer != q->lowered.result_layer) {
        return 0;
    }
    rounds_rows(q->rounds, (uint64_t)partition->table->rows);
    return answer_table(&q->answer, partition->table, table, err);
}

// The columns that turned out to be of another type, for the words of an error that this leads to.
static char *name_learnt(struct query *q, uint32_t before)
{
    const struct learnt_type *t = &q->learnt.type[before];

    return arena_printf(&q->kept,
                        "column '%s' turned out to be %s further down in the file, and then: ", t->column,
                        t->type == TYPE_STRING ? "text" : type_name(t->type));
}

int query_round_end(struct query *q, struct error *err)
{
    uint32_t before = q->learnt.types;
    int rc = rounds_end(q->rounds, &q->learnt, err);

    if (rc <= 0) {
        return rc;
    }
    rc = plan(q, err);
    if (rc == -EINVAL && q->learnt.types > before) {
        char *words = name_learnt(q, before);

        error_prefix(err, "%s", words == NULL ? "" : words);
    }
    return rc < 0 ? rc : 1;
}

int query_value(struct query *q, struct table **table, struct error *err)
{
    if (q->answer.plan != NULL) {
        return error_set(err, EINVAL, "the value of this script is not known without running it");
    }
    return answer_known(&q->answer, table, err);
}

const char *query_remark(const struct query *q)
{
    return rounds_remark(q->rounds);
}

// ---- explain ------------------------------------------------------------------------------------

static int explain_plan(struct query *q, const char *title, const struct node *node, FILE *out,
                        struct error *err)
{
    int depth = 0;

    fprintf(out, "%s\n", title);
    for (; node != NULL; node = node->input) {
        char *line = node_print(node, &q->plan);

        if (line == NULL) {
            return error_no_memory(err);
        }
        fprintf(out, "%*s%s\n", 2 + 2 * depth, "", line);
        depth += depth < 20;
    }
    return 0;
}

static const char *pattern_text(const Dray__Layer *layer, struct arena *arena)
{
    static const char *const names[] = {"", "one-to-one", "fan-in", "all", "broadcast", "window", "explicit"};

    if (layer->n_input == 0) {
        return "from files";
    }
    const Dray__Input *input = layer->input[0];

    return arena_printf(arena, "%s%s of layer %u", names[input->pattern],
                        input->has_width ? arena_printf(arena, " of %u", input->width) : "", input->layer);
}

int query_explain(struct query *q, FILE *out, struct error *err)
{
    int rc;

    if (q->answer.plan == NULL) {
        fprintf(out, "The value is known without reading any data.\n");
        return 0;
    }
    rc = explain_plan(q, "As written:", q->answer.plan, out, err);
    if (rc == 0) {
        rc = explain_plan(q, "Optimised:", q->optimised, out, err);
    }
    if (rc < 0) {
        return rc;
    }
    fprintf(out, "Layers:\n");
    for (uint32_t i = 0; i < q->lowered.layers; i++) {
        const Dray__Layer *layer = q->lowered.layer[i];
        char *op = op_describe(q->lowered.op[i], &q->plan);
        const char *pattern = pattern_text(layer, &q->plan);

        if (op == NULL || pattern == NULL) {
            return error_no_memory(err);
        }
        fprintf(out, "  %u: %u task%s, %s%s\n     %s\n", i, layer->tasks, layer->tasks == 1 ? "" : "s",
                pattern, layer->wanted ? ", wanted" : "", op);
    }
    return 0;
}
