#include "client/submit/job_describe.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/op.h"
#include "proto/utf8.h"

enum { TEXT_MAX = 60, NUMBERS_SHOWN = 5 };

// ---- pieces ---------------------------------------------------------------------------------------

// Of a template: control characters as spaces, cut to `room` characters; what is left of the room.
static size_t put_cut(FILE *out, const char *text, size_t size, size_t room)
{
    for (size_t at = 0; at < size && room > 0; room--) {
        uint32_t code;
        size_t length;

        if (text[at] == '{' && at + 1 < size && text[at + 1] == '{') {
            at++; // as the file has it
        }
        length = utf8_next(text + at, size - at, &code);

        if (room == 1 && at + length < size) {
            fputs("...", out);
        } else if (code < 0x20 || code == 0x7f || code == UTF8_INVALID) {
            fputc(' ', out);
        } else {
            fwrite(text + at, 1, length, out);
        }
        at += length;
    }
    return room;
}

static void put_command(const Dray__Command *command, FILE *out)
{
    size_t room = TEXT_MAX;

    fputs(command->shell ? "sh: " : "", out);
    for (size_t i = 0; i < command->n_argv && room > 0; i++) {
        if (i > 0) {
            fputc(' ', out);
        }
        room = put_cut(out, (const char *)command->argv[i].data, command->argv[i].len, room);
    }
}

static void put_operation(const Dray__Step *step, FILE *out)
{
    if (step->command != NULL) {
        put_command(step->command, out);
    } else if (step->call != NULL) {
        fprintf(out, "call %.60s of plugin %.60s", step->call->function, step->call->plugin);
    } else if (step->busy != NULL && step->busy->has_nanoseconds) {
        fprintf(out, "busy for %g ms", (double)step->busy->nanoseconds / 1e6);
    } else if (step->busy != NULL) {
        fprintf(out, "busy for %" PRIu64 " iterations", step->busy->iterations);
    } else if (step->data != NULL) {
        fprintf(out, "data of %zu bytes", step->data->value[0].len);
    } else {
        fputs("count", out);
    }
}

static void put_indices(const struct numbers *indices, FILE *out)
{
    if (indices->value == NULL) {
        fprintf(out, " %" PRId64 "..%" PRId64, indices->first, numbers_at(indices, indices->count - 1));
        if (indices->step != 1 && indices->step != -1) {
            fprintf(out, "..%" PRId64, indices->step > 0 ? indices->step : -indices->step);
        }
        return;
    }
    for (uint32_t i = 0; i < indices->count && i < NUMBERS_SHOWN; i++) {
        fprintf(out, "%c%" PRId64, i == 0 ? ' ' : ',', indices->value[i]);
    }
    fputs(indices->count > NUMBERS_SHOWN ? ",..." : "", out);
}

static void put_pattern(const Dray__Input *input, FILE *out)
{
    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        fputs("same", out);
        break;
    case DRAY__PATTERN__FAN_IN:
        fprintf(out, "groups of %u", input->width);
        break;
    case DRAY__PATTERN__WINDOW:
        fprintf(out, "%u neighbours", input->width);
        break;
    case DRAY__PATTERN__EXPLICIT:
        fprintf(out, "%zu edges", input->n_target);
        break;
    case DRAY__PATTERN__LAG:
        fprintf(out, "%u before", input->width);
        break;
    case DRAY__PATTERN__ALL:
    case DRAY__PATTERN__BROADCAST:
    default:
        fputs("all", out);
        break;
    }
}

static void put_inputs(const struct job_file *job, const Dray__Layer *layer, const Dray__Command *command,
                       FILE *out)
{
    for (size_t i = 0; i < layer->n_input; i++) {
        fprintf(out, "%s%s (", i == 0 ? "  needs " : ", ", job->task[layer->input[i]->layer].name);
        put_pattern(layer->input[i], out);
        for (size_t k = 0; command != NULL && k < command->n_file; k++) {
            if (command->file[k]->input == i) {
                fprintf(out, " as %.60s", command->file[k]->path);
            }
        }
        fputs(command != NULL && command->has_stdin_input && command->stdin_input == i ? " as stdin)" : ")",
              out);
    }
}

static void put_demands(const Dray__Layer *layer, bool is_call, FILE *out)
{
    size_t on = 0;

    for (size_t i = 0; i < layer->n_resource; i++) {
        fprintf(out, "  %s=%u", layer->resource[i]->name, layer->resource[i]->amount);
    }
    for (size_t i = 0; i < layer->n_worker; i++) {
        bool plugin = strncmp(layer->worker[i], "plugin:", strlen("plugin:")) == 0;

        if (plugin && is_call) {
            continue; // it is named there
        }
        fprintf(out, "%s%s", plugin ? "  with " : on == 0 ? "  on " : " or ", layer->worker[i]);
        on += plugin ? 0 : 1;
    }
    if (layer->priority != 0) {
        fprintf(out, "  priority %d", layer->priority);
    }
    if (layer->retries > 0) {
        fprintf(out, "  %u retr%s", layer->retries, layer->retries == 1 ? "y" : "ies");
    }
    if (layer->timeout_ms > 0) {
        fprintf(out, "  timeout %g s", layer->timeout_ms / 1000.0);
    }
}

// ---- the whole --------------------------------------------------------------------------------------

int job_describe(const struct job_file *job, FILE *out, struct error *err)
{
    struct arena arena;
    uint64_t tasks = 0;
    int rc = 0;

    for (uint32_t i = 0; i < job->tasks; i++) {
        tasks += job->graph->layer[i]->tasks;
    }
    fprintf(out, "%s%s%" PRIu64 " task%s in %u layer%s\n", job->name != NULL ? job->name : "",
            job->name != NULL ? ": " : "", tasks, tasks == 1 ? "" : "s", job->tasks,
            job->tasks == 1 ? "" : "s");
    arena_init(&arena, 0);
    for (uint32_t i = 0; i < job->tasks && rc == 0; i++) {
        const Dray__Layer *layer = job->graph->layer[i];
        const Dray__Op *op;

        arena_reset(&arena);
        rc = op_decode(layer->op.data, layer->op.len, &arena, &op, err);
        if (rc != 0) {
            break;
        }
        fprintf(out, "%s%s  %u task%s", job->task[i].name, job->task[i].wanted ? " (result)" : "",
                layer->tasks, layer->tasks == 1 ? "" : "s");
        if (job->task[i].is_array) {
            put_indices(&job->task[i].indices, out);
        }
        fputs("  ", out);
        put_operation(op->step[0], out);
        put_inputs(job, layer, op->step[0]->command, out);
        put_demands(layer, op->step[0]->call != NULL, out);
        fputc('\n', out);
    }
    arena_fini(&arena);
    return rc;
}
