#include "client/cli/job_report.h"

#include <inttypes.h>
#include <string.h>

#include "client/cli/job_wait.h"

// Of LayerInfo.in_state.
enum { IDLE, WAITING, READY, ASSIGNED, HELD, RELEASED, FAILED, DELAYED, STATES };
static const char *const STATE_KEYS[STATES] = {"idle", "waiting",  "ready",  "assigned",
                                               "held", "released", "failed", "delayed"};

// ---- all --------------------------------------------------------------------------------------------

static const struct listing_column COLUMNS[] = {
    {"job", "job", true, false},           {"name", "name", false, true},
    {"state", "state", false, false},      {"tasks", "tasks", true, false},
    {"done", "done", true, false},         {"failed", "failed", true, false},
    {"priority", "priority", true, false}, {"age", "age_s", true, false},
    {"results", "bytes", true, false},     {"client", "client", false, true},
    {NULL, "detached", false, false},      {"kept as", "kept", false, true},
    {"why", "waiting", false, true},
};

static void add_job(struct listing *listing, const Dray__JobInfo *job)
{
    char size[24], age[24];

    listing_size(job->bytes, size);
    listing_age(job->age_us, age);
    listing_number(listing, job->job, NULL);
    listing_text(listing, job->name);
    listing_text(listing, job_state_name(job->state));
    listing_number(listing, (double)job->tasks, NULL);
    listing_number(listing, (double)job->done, NULL);
    listing_number(listing, (double)job->failed, NULL);
    listing_number(listing, job->priority, NULL);
    listing_number(listing, (double)job->age_us / 1e6, age);
    listing_number(listing, (double)job->bytes, size);
    listing_text(listing, job->client);
    listing_bool(listing, job->detached, "");
    listing_texts(listing, job->kept, job->n_kept);
    listing_text(listing, job->waiting != NULL ? job->waiting : job->why != NULL ? job->why->text : NULL);
}

int job_report_all(const Dray__Jobs *jobs, enum listing_format format, size_t width, FILE *out,
                   struct error *err)
{
    struct listing *listing = listing_create(COLUMNS, sizeof(COLUMNS) / sizeof(COLUMNS[0]));
    int rc;

    if (listing == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < jobs->n_job; i++) {
        add_job(listing, jobs->job[i]);
    }
    rc = listing_print(listing, format, width, out, err);
    listing_destroy(listing);
    if (rc == 0 && format == LISTING_JSON) {
        fputc('\n', out);
    } else if (rc == 0) {
        fprintf(out, "%zu job%s\n", jobs->n_job, jobs->n_job == 1 ? "" : "s");
    }
    return rc;
}

// ---- one, for people --------------------------------------------------------------------------------

static uint32_t in_state(const Dray__LayerInfo *layer, int state)
{
    return (size_t)state < layer->n_in_state ? layer->in_state[state] : 0;
}

static void put_indented(const char *text, FILE *out)
{
    for (const char *at = text; *at != '\0'; at++) {
        fputc(*at, out);
        if (*at == '\n' && at[1] != '\0') {
            fputs("    ", out);
        }
    }
    fputc('\n', out);
}

static void put_head(const Dray__JobInfo *job, const char *why, FILE *out)
{
    char size[24], age[24];
    uint64_t running = 0;

    for (size_t i = 0; i < job->n_layer; i++) {
        running += in_state(job->layer[i], ASSIGNED);
    }
    listing_size(job->bytes, size);
    listing_age(job->age_us, age);
    fprintf(out, "job %u%s%s: %s\n", job->job, job->name != NULL ? " " : "",
            job->name != NULL ? job->name : "", job_state_name(job->state));
    fprintf(out, "  tasks     %" PRIu64 ": %" PRIu64 " done, %" PRIu64 " at workers, %" PRIu64 " failed\n",
            job->tasks, job->done, running, job->failed);
    if (job->waiting != NULL) {
        fprintf(out, "  waiting   %s\n", job->waiting);
    }
    if (why != NULL) {
        fputs("  why       ", out);
        put_indented(why, out);
    }
    fprintf(out, "  age       %s\n", age);
    fprintf(out, "  priority  %d\n", job->priority);
    fprintf(out, "  client    %s%s\n", job->client != NULL ? job->client : "none",
            job->detached ? " (goes on without one)" : "");
    fprintf(out, "  results   %s\n", size);
    for (size_t i = 0; i < job->n_kept; i++) {
        fprintf(out, "%s%s%s", i == 0 ? "  kept as   " : ", ", job->kept[i],
                i + 1 == job->n_kept ? "\n" : "");
    }
}

static const struct listing_column LAYER_COLUMNS[] = {
    {"task", NULL, false, true},  {"tasks", NULL, true, false},    {"waiting", NULL, true, false},
    {"ready", NULL, true, false}, {"to retry", NULL, true, false}, {"at workers", NULL, true, false},
    {"done", NULL, true, false},  {"failed", NULL, true, false},
};

static void layer_name(const Dray__LayerInfo *layer, char out[JOB_LABEL_MAX])
{
    if (layer->name != NULL && layer->name[0] != '\0') {
        snprintf(out, JOB_LABEL_MAX, "%s", layer->name);
    } else {
        snprintf(out, JOB_LABEL_MAX, "%u", layer->layer);
    }
}

static int put_layers(const Dray__JobInfo *job, size_t width, FILE *out, struct error *err)
{
    struct listing *listing;
    int rc;

    if (job->n_layer == 0) {
        return 0;
    }
    listing = listing_create(LAYER_COLUMNS, sizeof(LAYER_COLUMNS) / sizeof(LAYER_COLUMNS[0]));
    if (listing == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < job->n_layer; i++) {
        const Dray__LayerInfo *layer = job->layer[i];
        // Of a job that is done they are not needed any more (its broker was started again).
        uint32_t over = job->state == DRAY__JOB_STATE__DONE ? in_state(layer, IDLE) : 0;
        char name[JOB_LABEL_MAX];

        layer_name(layer, name);
        listing_text(listing, name);
        listing_number(listing, layer->tasks, NULL);
        listing_number(listing, in_state(layer, IDLE) + in_state(layer, WAITING) - over, NULL);
        listing_number(listing, in_state(layer, READY), NULL);
        listing_number(listing, in_state(layer, DELAYED), NULL);
        listing_number(listing, in_state(layer, ASSIGNED), NULL);
        listing_number(listing, in_state(layer, HELD) + in_state(layer, RELEASED) + over, NULL);
        listing_number(listing, in_state(layer, FAILED), NULL);
    }
    fputc('\n', out);
    rc = listing_print(listing, LISTING_TABLE, width, out, err);
    listing_destroy(listing);
    return rc;
}

// Layers for whose tasks there is no worker.
static void put_reasons(const Dray__JobInfo *job, FILE *out)
{
    bool any = false;

    for (size_t i = 0; i < job->n_layer; i++) {
        char name[JOB_LABEL_MAX];

        if (job->layer[i]->waiting == NULL) {
            continue;
        }
        layer_name(job->layer[i], name);
        fputs(any ? "" : "\n", out);
        fprintf(out, "%s waits: ", name);
        put_indented(job->layer[i]->waiting, out);
        any = true;
    }
}

static void put_failures(const Dray__JobInfo *job, const struct job_view *view, struct arena *arena,
                         FILE *out)
{
    for (size_t i = 0; i < job->n_failure; i++) {
        const Dray__TaskFailure *failure = job->failure[i];
        const char *reason = job_view_reason(view, failure->layer, failure->index, failure->why->text);
        char label[JOB_LABEL_MAX];

        job_view_label(view, failure->layer, failure->index, label);
        fputs(i == 0 ? "\n" : "", out);
        if (view->layers == 0) {
            label[0] = '\0'; // its layers are gone; the text names the task
        }
        fprintf(out, "%s%s", label, reason != NULL ? " " : label[0] != '\0' ? ": " : "");
        put_indented(job_view_text(view, reason != NULL ? reason : failure->why->text, arena), out);
    }
    if (job->n_failure > 0 && job->failed > job->n_failure) {
        fprintf(out, "... and %" PRIu64 " more\n", job->failed - job->n_failure);
    }
}

// ---- one, for programs --------------------------------------------------------------------------------

static void put_key_text(const char *key, const char *text, FILE *out)
{
    fprintf(out, ", \"%s\": ", key);
    if (text != NULL) {
        listing_json_string(out, text);
    } else {
        fputs("null", out);
    }
}

static void put_json(const Dray__JobInfo *job, const struct job_view *view, const char *why, FILE *out)
{
    fprintf(out, "{\"job\": %u", job->job);
    put_key_text("name", job->name, out);
    put_key_text("state", job_state_name(job->state), out);
    fprintf(out, ", \"tasks\": %" PRIu64 ", \"done\": %" PRIu64 ", \"failed\": %" PRIu64, job->tasks,
            job->done, job->failed);
    put_key_text("waiting", job->waiting, out);
    put_key_text("why", why, out);
    fprintf(out, ", \"age_s\": %.6f, \"priority\": %d, \"bytes\": %" PRIu64 ", \"detached\": %s",
            (double)job->age_us / 1e6, job->priority, job->bytes, job->detached ? "true" : "false");
    put_key_text("client", job->client, out);
    fputs(", \"kept\": [", out);
    for (size_t i = 0; i < job->n_kept; i++) {
        fputs(i > 0 ? ", " : "", out);
        listing_json_string(out, job->kept[i]);
    }
    fputs("],\n \"layers\": [", out);
    for (size_t i = 0; i < job->n_layer; i++) {
        char name[JOB_LABEL_MAX];

        layer_name(job->layer[i], name);
        fprintf(out, "%s\n  {\"task\": ", i > 0 ? "," : "");
        listing_json_string(out, name);
        fprintf(out, ", \"tasks\": %u", job->layer[i]->tasks);
        for (int state = 0; state < STATES; state++) {
            fprintf(out, ", \"%s\": %u", STATE_KEYS[state], in_state(job->layer[i], state));
        }
        put_key_text("why", job->layer[i]->waiting, out);
        fputc('}', out);
    }
    fputs("],\n \"failures\": [", out);
    for (size_t i = 0; i < job->n_failure; i++) {
        const Dray__TaskFailure *failure = job->failure[i];
        char label[JOB_LABEL_MAX];

        job_view_label(view, failure->layer, failure->index, label);
        fprintf(out, "%s\n  {\"task\": ", i > 0 ? "," : "");
        listing_json_string(out, label);
        put_key_text("worker", failure->worker, out);
        fprintf(out, ", \"code\": %d", failure->why->code);
        put_key_text("error", failure->why->text, out);
        fputc('}', out);
    }
    fputs("]}\n", out);
}

int job_report_one(const Dray__JobInfo *job, const struct job_view *view, enum listing_format format,
                   size_t width, FILE *out, struct error *err)
{
    struct arena arena;
    const char *why;
    int rc = 0;

    arena_init(&arena, 0);
    why = job->why != NULL ? job_view_text(view, job->why->text, &arena) : NULL;
    if (format == LISTING_JSON) {
        put_json(job, view, why, out);
    } else {
        put_head(job, why, out);
        rc = put_layers(job, width, out, err);
    }
    if (rc == 0 && format != LISTING_JSON) {
        put_reasons(job, out);
        put_failures(job, view, &arena, out);
    }
    arena_fini(&arena);
    return rc;
}
