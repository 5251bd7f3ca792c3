#include "client/cli/script_value.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/signals.h"

int script_value_init(struct script_value *value, struct error *err)
{
    return output_create(value->path, &value->output, err);
}

void script_value_fini(struct script_value *value)
{
    printer_destroy(value->printer);
    output_destroy(value->output);
    value->printer = NULL;
    value->output = NULL;
}

// ---- what the query needs from outside ------------------------------------------------------------------

static int connect_owner(void *context, dray_t **out, struct error *err)
{
    struct script_value *value = context;

    return value->connect(value->owner, out, err);
}

static void say_waiting(void *context, const char *why)
{
    struct script_value *value = context;

    progress_clear(value->progress);
    if (!value->quiet) {
        complain_text("%s: waiting for up to %g s", why, (double)value->wait_ms / 1000);
    }
}

static void show_progress(void *context, const struct query_progress *now)
{
    struct script_value *value = context;

    progress_show(value->progress, now);
    // That there is no worker is said by itself.
    if (value->tells_waiting && now->waiting != NULL && now->waiting[0] != '\0' && now->workers > 0 &&
        !value->quiet && !progress_is_on(value->progress)) {
        complain_text("waiting: %s", now->waiting);
        value->tells_waiting = false;
    }
}

// As pandas: the width of the terminal that the table is printed on.
static int table_columns(const struct script_value *value)
{
    struct winsize size;

    if (value->path != NULL || !isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) {
        return 0;
    }
    return size.ws_col;
}

static int begin(void *context, const struct shape *shape, struct error *err)
{
    struct script_value *value = context;
    FILE *stream;
    int rc = output_begin(value->output, &stream, err);

    if (rc != 0) {
        return rc;
    }
    printer_destroy(value->printer);
    value->printer = printer_create(value->format, shape, table_columns(value), stream);
    return value->printer != NULL ? 0 : error_no_memory(err);
}

// The printer does not know where it writes.
static int name_output(const struct script_value *value, int rc, struct error *err)
{
    if (rc != 0 && value->path != NULL) {
        error_prefix(err, "%s: ", value->path);
    }
    return rc;
}

static int print(void *context, struct table *table, struct error *err)
{
    struct script_value *value = context;

    return name_output(value, printer_table(value->printer, table, err), err);
}

struct query_run_host script_value_host(struct script_value *value)
{
    return (struct query_run_host){
        .context = value,
        .connect = connect_owner,
        .wait_ms = value->wait_ms,
        .waiting = say_waiting,
        .progress = show_progress,
        .begin = begin,
        .table = print,
    };
}

// ---- the whole ---------------------------------------------------------------------------------

int script_value_explain(struct script_value *value, struct query_run *run, struct error *err)
{
    FILE *stream;
    int rc = output_begin(value->output, &stream, err);

    rc = rc == 0 ? query_explain(query_run_query(run), stream, err) : rc;
    progress_clear(value->progress);
    return rc == 0 ? output_commit(value->output, err) : rc;
}

int script_value_print(struct script_value *value, struct query_run *run, enum query_outcome *outcome,
                       struct error *err)
{
    const char *remark;
    int rc = query_run_value(run, outcome, err);

    if (rc == 0) {
        *outcome = QUERY_OUTPUT;
        rc = name_output(value, printer_finish(value->printer, err), err);
    }
    progress_clear(value->progress);
    if (rc == 0) {
        rc = output_commit(value->output, err);
    }
    remark = query_remark(query_run_query(run));
    if (rc == 0 && !value->quiet && remark != NULL) {
        complain_text("%s", remark);
    }
    *outcome = rc == 0 ? QUERY_OK : *outcome;
    return rc;
}

int script_value_status(enum query_outcome outcome, const struct error *err)
{
    switch (outcome) {
    case QUERY_OK:
        return STATUS_OK;
    case QUERY_SCRIPT:
        return STATUS_USAGE;
    case QUERY_BROKER:
    case QUERY_INTERRUPTED:
        return signals_caught() != 0 ? STATUS_SIGNAL + signals_caught() : STATUS_BROKER;
    case QUERY_NO_WORKERS:
        return STATUS_NO_WORKERS;
    case QUERY_OUTPUT:
        return err->code == EPIPE ? STATUS_SIGNAL + SIGPIPE : STATUS_OUTPUT;
    case QUERY_JOB:
    default:
        return STATUS_JOB;
    }
}
