#include "broker/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/intake.h"
#include "proto/schema.h"

enum {
    EVENTS_AT_ONCE = 4096,
    BYTES_AT_ONCE = 16 << 20,
};

// A job that the journal says something of.
struct restored {
    uint32_t job;
    uint64_t at;         // when it was submitted; 0: nothing of that can be read
    struct entry *ended; // what was said last; NULL: nothing
    bool given_up;
    bool is_read; // what was submitted
};

struct restoring {
    struct broker *broker;
    struct turn turn;
    struct error *err;
    struct spans over;
    struct entry *failed, **last_failed;
    struct restored *job;
    size_t jobs, jobs_max;
    struct entry *said, **last_said; // what the scheduler wants to be remembered of all this
    size_t workers, ended, names;
};

// ---- steps ------------------------------------------------------------------------

// Nobody is there to be told; what is to be remembered is kept until the journal is there.
static int take_actions(struct restoring *restoring)
{
    const struct sched_actions *actions = &restoring->broker->actions;

    for (size_t i = 0; i < actions->count; i++) {
        const struct sched_action *action = &actions->action[i];
        struct entry *entry;

        if (action->type == ACTION_REJECTED) {
            log_write(restoring->broker->options.log, LEVEL_ERROR, "job %" PRIu32 " cannot go on: %s",
                      action->range.job, action->text);
        }
        if (action->type != ACTION_RECORD || action->record == RECORD_TASKS_OVER) {
            continue; // tasks that are over are known to be
        }
        entry = recorder_entry(action);
        if (entry == NULL) {
            return error_no_memory(restoring->err);
        }
        *restoring->last_said = entry;
        restoring->last_said = &entry->next;
    }
    return 0;
}

static int step(struct restoring *restoring)
{
    struct turn *turn = &restoring->turn;
    struct broker *broker = restoring->broker;
    int rc;

    if (turn->events == 0) {
        return 0;
    }
    rc = sched_step(broker->sched, turn->event, turn->events, &broker->actions);
    if (rc != 0) {
        return error_no_memory(restoring->err);
    }
    rc = take_actions(restoring);
    turn_reset(turn);
    return rc;
}

static int step_when_large(struct restoring *restoring)
{
    return restoring->turn.events >= EVENTS_AT_ONCE || turn_bytes(&restoring->turn) > BYTES_AT_ONCE
               ? step(restoring)
               : 0;
}

static struct sched_event *add(struct restoring *restoring, enum sched_event_type type)
{
    struct sched_event *event = turn_add(&restoring->turn, type);

    if (event == NULL) {
        error_no_memory(restoring->err);
    }
    return event;
}

// ---- records ----------------------------------------------------------------------

// They ascend.  NULL: no memory.
static struct restored *job_of(struct restoring *restoring, uint32_t job)
{
    size_t at = 0, end = restoring->jobs;
    struct restored *restored;

    while (at < end) {
        size_t middle = at + (end - at) / 2;

        if (restoring->job[middle].job < job) {
            at = middle + 1;
        } else {
            end = middle;
        }
    }
    if (at < restoring->jobs && restoring->job[at].job == job) {
        return &restoring->job[at];
    }
    if (restoring->jobs == restoring->jobs_max) {
        size_t max = restoring->jobs_max * 2 + 64;
        struct restored *more = realloc(restoring->job, max * sizeof(*more));

        if (more == NULL) {
            return NULL;
        }
        restoring->job = more;
        restoring->jobs_max = max;
    }
    restored = &restoring->job[at];
    memmove(restored + 1, restored, (restoring->jobs - at) * sizeof(*restored));
    restoring->jobs++;
    *restored = (struct restored){.job = job};
    return restored;
}

static int say_lost(struct restoring *restoring, const struct entry *entry, const struct error *why)
{
    if (why->code == ENOMEM) {
        return error_no_memory(restoring->err);
    }
    log_write(restoring->broker->options.log, LEVEL_ERROR,
              "job %" PRIu32 ": a record of the journal makes no sense and is left out: %s", entry->job,
              why->text);
    return 0;
}

static int unpack(struct restoring *restoring, const struct entry *entry,
                  const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **out, struct error *why)
{
    return schema_unpack(descriptor, entry->body, entry->size, &restoring->turn.arena, out, why);
}

static int on_job(struct restoring *restoring, const struct entry *entry)
{
    struct restored *restored = job_of(restoring, entry->job);
    ProtobufCMessage *message = NULL;
    struct sched_event *event = NULL;
    struct error why = {0};
    int rc;

    if (restored == NULL) {
        return error_no_memory(restoring->err);
    }
    restored->at = entry->at;
    rc = unpack(restoring, entry, &dray__submit__descriptor, &message, &why);
    if (rc == 0) {
        rc = intake_submit(&restoring->turn, (const Dray__Submit *)message, &event, &why);
    }
    if (rc != 0) {
        return say_lost(restoring, entry, &why);
    }
    event->u.submit.number = entry->job;
    restored->is_read = true;
    return 0;
}

static int on_layers(struct restoring *restoring, const struct entry *entry)
{
    ProtobufCMessage *message = NULL;
    struct sched_event *event = NULL;
    struct error why = {0};
    int rc = unpack(restoring, entry, &dray__extend__descriptor, &message, &why);

    if (rc == 0) {
        rc = intake_extend(&restoring->turn, (const Dray__Extend *)message, &event, &why);
    }
    if (rc != 0) {
        return say_lost(restoring, entry, &why);
    }
    event->u.extend.job = entry->job;
    return 0;
}

static int on_over(struct restoring *restoring, const struct entry *entry)
{
    int rc = spans_decode(&restoring->over, entry->job, entry->body, entry->size);
    struct error why = {0};

    if (rc == -ENOMEM) {
        return error_no_memory(restoring->err);
    }
    if (rc != 0) {
        error_set(&why, -rc, "tasks that are over");
        return say_lost(restoring, entry, &why);
    }
    return 0;
}

static int on_notes(struct restoring *restoring, const struct entry *entry)
{
    ProtobufCMessage *message = NULL;
    struct error why = {0};

    if (unpack(restoring, entry, &dray__notes__descriptor, &message, &why) != 0) {
        return say_lost(restoring, entry, &why);
    }

    const Dray__Notes *notes = (const Dray__Notes *)message;

    for (size_t i = 0; i < notes->n_note; i++) {
        const Dray__TaskNote *note = notes->note[i];

        if (notes_add(&restoring->broker->notes, entry->job, notes->layer, note->index, note->note.data,
                      note->note.len) == -ENOMEM) {
            return error_no_memory(restoring->err);
        }
    }
    return 0;
}

static int on_detached(struct restoring *restoring, const struct entry *entry)
{
    struct sched_event *event = add(restoring, EVENT_ATTACH);

    if (event == NULL) {
        return -ENOMEM;
    }
    event->u.attach.job = entry->job;
    event->u.attach.detach = true;
    return 0;
}

static int on_kept(struct restoring *restoring, const struct entry *entry)
{
    const char *name = (const char *)entry->body; // ends with a 0, as all entries do
    struct error why = {0};
    struct sched_event *event;
    int rc = kept_add(&restoring->broker->kept, name, entry->job, &why);

    if (rc < 0) {
        return say_lost(restoring, entry, &why);
    }
    event = add(restoring, EVENT_KEEP);
    if (event == NULL) {
        return -ENOMEM;
    }
    event->u.attach.job = entry->job;
    event->u.attach.keep = true;
    restoring->names++;
    return 0;
}

// It died while there was no broker: it is not waited for, and the next broker need not know of it.
static int on_worker_ended(struct restoring *restoring, const struct entry *entry, const char *name)
{
    struct entry *gone = entry_create(ENTRY_WORKER_GONE, 0, entry->at, NULL, 0);

    if (gone == NULL) {
        return error_no_memory(restoring->err);
    }
    *restoring->last_said = gone;
    restoring->last_said = &gone->next;
    restoring->ended++;
    log_write(restoring->broker->options.log, LEVEL_INFO, "worker %s: its process has ended", name);
    return 0;
}

static int on_worker(struct restoring *restoring, const struct entry *entry)
{
    const char *body = (const char *)entry->body;
    char *name = arena_strndup(&restoring->turn.arena, body, absent_name(body, entry->size));
    struct sched_event *event;

    if (name == NULL) {
        return error_no_memory(restoring->err);
    }
    if (absents_add(&restoring->broker->absents, entry->at, body, entry->size) == 1) {
        return on_worker_ended(restoring, entry, name);
    }
    event = add(restoring, EVENT_EXPECT);
    if (event == NULL) {
        return -ENOMEM;
    }
    event->u.expect.incarnation = entry->at;
    event->u.expect.name = name;
    restoring->workers++;
    return 0;
}

static struct entry *copy_of(const struct entry *entry)
{
    return entry_create(entry->type, entry->job, entry->at, entry->body, entry->size);
}

// Their turn comes when all tasks are there.
static int on_failed(struct restoring *restoring, const struct entry *entry)
{
    struct entry *copy = copy_of(entry);

    if (copy == NULL) {
        return error_no_memory(restoring->err);
    }
    *restoring->last_failed = copy;
    restoring->last_failed = &copy->next;
    return 0;
}

static int on_ended(struct restoring *restoring, const struct entry *entry)
{
    struct restored *restored = job_of(restoring, entry->job);
    struct entry *copy = copy_of(entry);

    if (copy == NULL) {
        return error_no_memory(restoring->err);
    }
    free(restored->ended); // read_entry has seen to it that it is there
    restored->ended = copy;
    return 0;
}

static int read_entry(void *arg, const struct entry *entry)
{
    struct restoring *restoring = arg;
    struct restored *restored;
    int rc;

    if (entry->type < ENTRY_FORGOTTEN && job_of(restoring, entry->job) == NULL) {
        return error_no_memory(restoring->err);
    }
    switch (entry->type) {
    case ENTRY_JOB:
        rc = on_job(restoring, entry);
        break;
    case ENTRY_LAYERS:
        rc = on_layers(restoring, entry);
        break;
    case ENTRY_OVER:
        rc = on_over(restoring, entry);
        break;
    case ENTRY_NOTES:
        rc = on_notes(restoring, entry);
        break;
    case ENTRY_DETACHED:
        rc = on_detached(restoring, entry);
        break;
    case ENTRY_KEPT:
        rc = on_kept(restoring, entry);
        break;
    case ENTRY_WORKER:
        rc = on_worker(restoring, entry);
        break;
    case ENTRY_FAILED:
        rc = on_failed(restoring, entry);
        break;
    case ENTRY_ENDED:
        rc = on_ended(restoring, entry);
        break;
    case ENTRY_GIVEN_UP:
        restored = job_of(restoring, entry->job);
        restored->given_up = true; // it is there
        rc = 0;
        break;
    default:
        rc = 0;
        break;
    }
    return rc == 0 ? step_when_large(restoring) : rc;
}

// ---- what became of tasks and jobs ----------------------------------------------------

static int restore_over(struct restoring *restoring)
{
    struct spans *over = &restoring->over;
    int rc = 0;

    over->count = spans_join(over->span, over->count);
    for (size_t i = 0; rc == 0 && i < over->count; i++) {
        struct sched_event *event = add(restoring, EVENT_RESTORE_TASKS);

        if (event == NULL) {
            return -ENOMEM;
        }
        event->u.restore.range = over->span[i];
        event->u.restore.over = RESTORE_OVER;
        rc = step_when_large(restoring);
    }
    return rc;
}

static int restore_failed(struct restoring *restoring)
{
    int rc = 0;

    for (const struct entry *entry = restoring->failed; rc == 0 && entry != NULL; entry = entry->next) {
        ProtobufCMessage *message = NULL;
        struct sched_event *event;
        struct error why = {0};

        if (unpack(restoring, entry, &dray__task_failure__descriptor, &message, &why) != 0) {
            rc = say_lost(restoring, entry, &why);
            continue;
        }

        const Dray__TaskFailure *failure = (const Dray__TaskFailure *)message;

        event = add(restoring, EVENT_RESTORE_TASKS);
        if (event == NULL) {
            return -ENOMEM;
        }
        event->u.restore.range =
            (struct task_range){entry->job, failure->layer, failure->index, (uint32_t)entry->at};
        event->u.restore.over = RESTORE_FAILED;
        event->u.restore.code = failure->why->code;
        event->u.restore.text = failure->why->text;
        event->u.restore.worker_name = failure->worker;
        rc = step_when_large(restoring);
    }
    return rc;
}

// When it was submitted, on the clock that the scheduler goes by.
static uint64_t submitted_us(uint64_t at)
{
    struct timespec now;
    uint64_t wall_us, now_us = monotonic_us();

    clock_gettime(CLOCK_REALTIME, &now);
    wall_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return at == 0 || wall_us <= at || wall_us - at >= now_us ? 1 : now_us - (wall_us - at);
}

static int restore_job(struct restoring *restoring, const struct restored *restored)
{
    const struct entry *entry = restored->ended;
    const Dray__JobEnded *ended = NULL;
    ProtobufCMessage *message = NULL;
    struct sched_event *event;
    struct error why = {0};

    if (entry != NULL && unpack(restoring, entry, &dray__job_ended__descriptor, &message, &why) != 0) {
        return say_lost(restoring, entry, &why);
    }
    ended = (const Dray__JobEnded *)message;
    event = add(restoring, EVENT_RESTORE_JOB);
    if (event == NULL) {
        return -ENOMEM;
    }
    event->u.restore.range.job = restored->job;
    event->u.restore.submitted_us = submitted_us(restored->at);
    event->u.restore.given_up = restored->given_up;
    event->u.restore.state = ended != NULL ? (enum job_state)ended->state : JOB_RUNNING;
    event->u.restore.layer_at = event->u.restore.index_at = UINT32_MAX;
    if (ended != NULL) {
        event->u.restore.done = ended->done;
        event->u.restore.failed = ended->failed;
    }
    if (ended != NULL && ended->why != NULL) {
        event->u.restore.code = ended->why->code;
        event->u.restore.text = ended->why->text;
    }
    if (ended != NULL && ended->has_layer && ended->has_index) {
        event->u.restore.layer_at = ended->layer;
        event->u.restore.index_at = ended->index;
        event->u.restore.worker_name = ended->worker;
    }
    return step_when_large(restoring);
}

static int restore_jobs(struct restoring *restoring)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < restoring->jobs; i++) {
        rc = restore_job(restoring, &restoring->job[i]);
    }
    // That was all: what was submitted twice is dropped.
    if (rc == 0 && add(restoring, EVENT_TICK) == NULL) {
        rc = -ENOMEM;
    }
    return rc == 0 ? step(restoring) : rc;
}

// What is left in the journal of jobs that cannot be restored goes.
static int drop_lost(struct restoring *restoring, size_t *running)
{
    for (size_t i = 0; i < restoring->jobs; i++) {
        const struct restored *restored = &restoring->job[i];
        struct sched_brief brief = {.state = JOB_DONE};
        struct entry *entry;

        // One that was given up is not seen, and there as long as others need it (then it says itself when it
        // goes), if it could be read at all.
        if (sched_job_brief(restoring->broker->sched, restored->job, &brief) == 0 ||
            (restored->given_up && restored->is_read)) {
            *running += brief.state <= JOB_RUNNING;
            continue;
        }
        if (!restored->given_up) {
            log_write(restoring->broker->options.log, LEVEL_ERROR,
                      "job %" PRIu32 " is lost: the journal has not enough of it", restored->job);
        }
        entry = entry_create(ENTRY_FORGOTTEN, restored->job, 0, NULL, 0);
        if (entry == NULL) {
            return error_no_memory(restoring->err);
        }
        *restoring->last_said = entry;
        restoring->last_said = &entry->next;
        notes_forget(&restoring->broker->notes, restored->job);
        kept_forget_job(&restoring->broker->kept, restored->job);
    }
    return 0;
}

static void entries_fini(struct entry *entry)
{
    while (entry != NULL) {
        struct entry *next = entry->next;

        free(entry);
        entry = next;
    }
}

int restore_all(struct broker *broker, struct ledger *ledger, struct entry **said, struct error *err)
{
    struct restoring restoring = {.broker = broker, .err = err};
    uint64_t begun_us = monotonic_us();
    size_t running = 0;
    int rc;

    turn_init(&restoring.turn);
    broker->absents.until_us = begun_us + broker->options.sched.recover_us;
    restoring.last_failed = &restoring.failed;
    restoring.last_said = &restoring.said;
    rc = ledger_read(ledger, read_entry, &restoring, err);
    rc = rc == 0 ? step(&restoring) : rc;
    rc = rc == 0 ? restore_over(&restoring) : rc;
    rc = rc == 0 ? restore_failed(&restoring) : rc;
    rc = rc == 0 ? step(&restoring) : rc;
    rc = rc == 0 ? restore_jobs(&restoring) : rc;
    rc = rc == 0 ? drop_lost(&restoring, &running) : rc;
    if (rc == 0 && restoring.jobs + restoring.workers + restoring.ended > 0) {
        log_write(
            broker->options.log, LEVEL_INFO,
            "%zu jobs were known before, %zu of them go on; %zu names; %zu workers may come back, %zu of "
            "this host have ended; %zu records are damaged; read in %.2f s",
            restoring.jobs, running, restoring.names, restoring.workers, restoring.ended,
            ledger_damaged(ledger), (double)(monotonic_us() - begun_us) / 1e6);
    }
    *said = rc == 0 ? restoring.said : NULL;
    entries_fini(rc == 0 ? NULL : restoring.said);
    entries_fini(restoring.failed);
    for (size_t i = 0; i < restoring.jobs; i++) {
        free(restoring.job[i].ended);
    }
    spans_fini(&restoring.over);
    free(restoring.job);
    turn_fini(&restoring.turn);
    return rc;
}
