// Events and actions as prose.  Golden traces compare this to the byte.
#include "broker/core/sched.h"

#include <inttypes.h>

static void print_range(const struct task_range *range, FILE *out)
{
    fprintf(out, "j%u:t%u.%u", range->job, range->layer, range->first);
    if (range->count != 1) {
        fprintf(out, "-%u", range->first + range->count - 1);
    }
}

static void print_ranges(const struct task_range *range, size_t count, FILE *out)
{
    for (size_t k = 0; k < count; k++) {
        fputs(k > 0 ? ", " : "", out);
        print_range(&range[k], out);
    }
}

static void print_holding(const struct sched_event *event, FILE *out)
{
    fprintf(out, "w%u holds", event->u.holding.worker);
    if (event->u.holding.full) {
        fputs(event->u.holding.adds > 0 ? " all of " : " nothing", out);
    } else if (event->u.holding.adds > 0) {
        fputs(" also ", out);
    }
    print_ranges(event->u.holding.add, event->u.holding.adds, out);
    if (event->u.holding.gones > 0) {
        fputs(" no more ", out);
        print_ranges(event->u.holding.gone, event->u.holding.gones, out);
    }
    if (event->u.holding.hases > 0) {
        fputs(", goes on with ", out);
        print_ranges(event->u.holding.has, event->u.holding.hases, out);
    }
}

static void print_failed(const struct sched_event *event, FILE *out)
{
    fprintf(out, "w%u could not do j%u:t%u.%u", event->u.failed.worker, event->u.failed.job,
            event->u.failed.layer, event->u.failed.index);
    if (event->u.failed.missing_input) {
        fprintf(out, ": no t%u.%u at w%u", event->u.failed.missing_layer, event->u.failed.missing_index,
                event->u.failed.missing_worker);
    } else {
        fprintf(out, ": %s", event->u.failed.text != NULL ? event->u.failed.text : "");
    }
}

static void print_sources(const struct sched_event *event, FILE *out)
{
    fprintf(out, "w%u can read", event->u.sources.worker);
    for (size_t k = 0; k < event->u.sources.count; k++) {
        fprintf(out, "%s '%s'", k > 0 ? "," : "", event->u.sources.name[k]);
    }
    fputs(event->u.sources.count == 0 ? " no files" : "", out);
}

static void print_submit(const struct sched_event *event, FILE *out)
{
    size_t layers = event->u.submit.graph != NULL ? event->u.submit.graph->n_layer : 0;

    fprintf(out, "c%u submits %zu layer%s%s%s", event->u.submit.client, layers, layers == 1 ? "" : "s",
            event->u.submit.detached ? ", detached" : "", event->u.submit.open ? ", open" : "");
}

static void print_extend(const struct sched_event *event, FILE *out)
{
    size_t layers = event->u.extend.graph != NULL ? event->u.extend.graph->n_layer : 0;

    fprintf(out, "c%u extends j%u by %zu layer%s from t%u on%s", event->u.extend.client, event->u.extend.job,
            layers, layers == 1 ? "" : "s", event->u.extend.first_layer,
            event->u.extend.last ? ", the last" : "");
}

static const char *const how[] = {"", "queued", "running", "done", "failed", "cancelled"};

static void print_restored(const struct sched_event *event, FILE *out)
{
    const char *text = event->u.restore.text;

    if (event->type == EVENT_RESTORE_TASKS) {
        print_range(&event->u.restore.range, out);
        fputs(event->u.restore.over == RESTORE_OVER ? " was over before" : " had failed before", out);
    } else {
        fprintf(out, "j%u was %s before%s", event->u.restore.range.job, how[event->u.restore.state],
                event->u.restore.given_up ? " and given up" : "");
    }
    if (text != NULL) {
        fprintf(out, ": %s", text);
    }
}

void sched_event_print(const struct sched_event *event, FILE *out)
{
    switch (event->type) {
    case EVENT_TICK:
        fputs("time passes", out);
        break;
    case EVENT_WORKER_JOINED:
        fprintf(out, "w%u joined (%u thread%s%s)", event->u.joined.worker, event->u.joined.threads,
                event->u.joined.threads == 1 ? "" : "s", event->u.joined.shared_files ? "" : ", own files");
        break;
    case EVENT_WORKER_LEFT:
        fprintf(out, "w%u %s (%s)", event->u.left.worker, event->u.left.on_purpose ? "left" : "lost",
                event->u.left.why != NULL ? event->u.left.why : "no reason given");
        break;
    case EVENT_WORKER_STATUS:
        fprintf(out, "w%u runs %u, has %u queued", event->u.status.worker, event->u.status.running,
                event->u.status.queued);
        break;
    case EVENT_SOURCES:
        print_sources(event, out);
        break;
    case EVENT_HOLDING:
        print_holding(event, out);
        break;
    case EVENT_TASKS_DONE:
        fprintf(out, "w%u has done ", event->u.done.worker);
        print_ranges(event->u.done.range, event->u.done.ranges, out);
        break;
    case EVENT_TASK_FAILED:
        print_failed(event, out);
        break;
    case EVENT_TASKS_DROPPED:
        fprintf(out, "w%u gives back ", event->u.dropped.worker);
        print_ranges(event->u.dropped.range, event->u.dropped.ranges, out);
        break;
    case EVENT_CLIENT_JOINED:
        fprintf(out, "c%u joined", event->u.client.client);
        break;
    case EVENT_CLIENT_LEFT:
        fprintf(out, "c%u %s", event->u.client.client, event->u.client.on_purpose ? "left in peace" : "left");
        break;
    case EVENT_SUBMIT:
        print_submit(event, out);
        break;
    case EVENT_CANCEL:
        fprintf(out, "c%u cancels ", event->u.job.client);
        if (event->u.job.ranges > 0) {
            print_ranges(event->u.job.range, event->u.job.ranges, out);
        } else {
            fprintf(out, "j%u", event->u.job.job);
        }
        break;
    case EVENT_FREE:
        fprintf(out, "c%u needs no more of j%u", event->u.job.client, event->u.job.job);
        if (event->u.job.ranges > 0) {
            fputs(" than without ", out);
            print_ranges(event->u.job.range, event->u.job.ranges, out);
        }
        break;
    case EVENT_RESULT_LOST:
        print_range(&event->u.lost.range, out);
        fprintf(out, " could not be had from w%u", event->u.lost.worker);
        break;
    case EVENT_EXTEND:
        print_extend(event, out);
        break;
    case EVENT_ATTACH:
        fprintf(out, "c%u %s j%u%s", event->u.attach.client,
                event->u.attach.again ? "returns to" : "takes over", event->u.attach.job,
                event->u.attach.detach ? ", which goes on without it" : "");
        break;
    case EVENT_KEEP:
        fprintf(out, "c%u %s j%u", event->u.attach.client, event->u.attach.keep ? "keeps" : "no longer keeps",
                event->u.attach.job);
        break;
    case EVENT_WORKER_LEAVING:
        fprintf(out, "w%u is leaving", event->u.left.worker);
        break;
    case EVENT_CLIENT_FULL:
        fprintf(out, "c%u %s", event->u.client.client,
                event->u.client.full ? "reads too slowly" : "has room again");
        break;
    case EVENT_EXPECT:
        if (event->u.expect.gone) {
            fprintf(out, "the worker with incarnation %" PRIu64 " does not come back",
                    event->u.expect.incarnation);
        } else {
            fprintf(out, "worker %s was there before", event->u.expect.name);
        }
        break;
    case EVENT_RESTORE_TASKS:
    case EVENT_RESTORE_JOB:
        print_restored(event, out);
        break;
    }
}

// Those that it is told of; how many were before.
static size_t print_locations(const struct sched_location *at, size_t count, uint32_t self, size_t before,
                              FILE *out)
{
    for (; count > 0; count--, at++) {
        if (at->worker == self) {
            continue;
        }
        fprintf(out, "%s t%u.%u", before++ == 0 ? ", get" : ",", at->range.layer, at->range.first);
        if (at->range.count != 1) {
            fprintf(out, "-%u", at->range.first + at->range.count - 1);
        }
        fprintf(out, " from w%u", at->worker);
    }
    return before;
}

static void print_run(const struct sched_action *action, FILE *out)
{
    size_t told;

    fprintf(out, "w%u: run ", action->peer);
    print_range(&action->range, out);
    told = print_locations(action->location, action->locations, action->peer, 0, out);
    print_locations(action->whole, action->wholes, action->peer, told, out);
}

static void print_ended(const struct sched_action *action, FILE *out)
{
    if (action->type == ACTION_JOB_ENDED) {
        fprintf(out, "c%u: ", action->peer);
    }
    fprintf(out, "j%u is %s", action->range.job, how[action->state]);
    if (action->text != NULL) {
        fprintf(out, ": %s", action->text);
    }
    if (action->layer_at != UINT32_MAX) {
        fprintf(out, " (t%u.%u%s%s)", action->layer_at, action->index_at,
                action->worker_name != NULL ? " at " : "",
                action->worker_name != NULL ? action->worker_name : "");
    }
}

static void print_record(const struct sched_action *action, FILE *out)
{
    fputs("record: ", out);
    switch (action->record) {
    case RECORD_TASKS_OVER:
        print_range(&action->range, out);
        fputs(" is over", out);
        break;
    case RECORD_TASKS_FAILED:
        print_range(&action->range, out);
        fprintf(out, " has failed: %s", action->text != NULL ? action->text : "failed");
        break;
    case RECORD_JOB_ENDED:
        print_ended(action, out);
        break;
    case RECORD_JOB_GIVEN_UP:
        fprintf(out, "j%u is there for others only", action->range.job);
        break;
    case RECORD_JOB_FORGOTTEN:
        fprintf(out, "j%u is forgotten", action->range.job);
        break;
    case RECORD_NOT_EXTENDED:
        fprintf(out, "j%u is not extended by %llu", action->range.job, (unsigned long long)action->key_lo);
        break;
    case RECORD_WORKER_GONE:
        fprintf(out, "worker %llu is not waited for", (unsigned long long)action->key_lo);
        break;
    }
}

void sched_action_print(const struct sched_action *action, FILE *out)
{
    switch (action->type) {
    case ACTION_LAYER:
        fprintf(out, "w%u: learn layer j%u:t%u", action->peer, action->range.job, action->range.layer);
        break;
    case ACTION_RUN:
        print_run(action, out);
        break;
    case ACTION_DROP:
        fprintf(out, "w%u: %s ", action->peer, action->kill ? "stop" : "give back");
        print_range(&action->range, out);
        break;
    case ACTION_RELEASE:
        fprintf(out, "w%u: release ", action->peer);
        print_range(&action->range, out);
        break;
    case ACTION_FORGET_JOB:
        fprintf(out, "w%u: forget j%u", action->peer, action->range.job);
        break;
    case ACTION_COPY:
        fprintf(out, "w%u: hold ", action->peer);
        print_range(&action->range, out);
        fprintf(out, ", from w%u", action->worker);
        break;
    case ACTION_ACCEPTED:
        fprintf(out, "c%u: accepted as j%u", action->peer, action->range.job);
        break;
    case ACTION_REJECTED:
        fprintf(out, "c%u: rejected: %s", action->peer, action->text);
        break;
    case ACTION_PROGRESS:
        fprintf(out, "c%u: j%u has done %llu of %llu", action->peer, action->range.job,
                (unsigned long long)action->done, (unsigned long long)action->tasks);
        if (action->text != NULL) {
            fprintf(out, ": %s", action->text);
        }
        break;
    case ACTION_RESULT:
        fprintf(out, "c%u: result ", action->peer);
        print_range(&action->range, out);
        fprintf(out, " at w%u", action->worker);
        break;
    case ACTION_RESULT_FAILED:
        fprintf(out, "c%u: no result ", action->peer);
        print_range(&action->range, out);
        fprintf(out, ": %s", action->text != NULL ? action->text : "failed");
        break;
    case ACTION_JOB_ENDED:
        print_ended(action, out);
        break;
    case ACTION_RECORD:
        print_record(action, out);
        break;
    }
}
