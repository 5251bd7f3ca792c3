#include "tests/sim/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/sched.h"
#include "tests/sim/build.h"
#include "tests/starve.h"
#include "worker/core/agent.h"

enum { WORKERS = 3, CLIENT = 100, QUEUE_MAX = 4096 };

struct note { // an event with room for what it points to
    struct sched_event event;
    struct task_range range;
    uint64_t bytes;
};

// Messages arrive at once and in order.
struct town {
    struct sched *sched;
    struct sched_actions actions;
    struct agent *agent[WORKERS + 1];
    struct agent_actions agent_actions;
    struct note queue[QUEUE_MAX];
    size_t head, tail;
    struct agent_event pending[QUEUE_MAX];
    uint32_t pending_at[QUEUE_MAX];
    size_t pending_head, pending_tail;
    const Dray__Graph *graph;
    enum job_state ended;
    bool extended, refused; // refused: there was no memory for the layer that came later
    uint32_t results;
    uint64_t now_us;
};

static void must(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "memory: %s (failing %u more)\n", what, allocator.left);
        abort();
    }
}

static struct note *tell_broker(struct town *town, enum sched_event_type type)
{
    must(town->tail < QUEUE_MAX, "too many events");
    struct note *note = &town->queue[town->tail++];

    memset(note, 0, sizeof(*note));
    note->event.type = type;
    note->event.now_us = town->now_us;
    return note;
}

static void tell_agent(struct town *town, uint32_t worker, const struct agent_event *event)
{
    must(town->pending_tail < QUEUE_MAX, "too many agent events");
    town->pending_at[town->pending_tail] = worker;
    town->pending[town->pending_tail++] = *event;
}

static void agent_did(struct town *town, uint32_t worker, const struct agent_action *action)
{
    struct agent_event event = {.type = AGENT_TASKS_DONE};

    for (size_t r = 0; r < action->u.ranges; r++) {
        event.u.range.range = action->p.range[r];
        tell_agent(town, worker, &event);
    }
    event.type = AGENT_BUNDLE_OVER;
    event.u.bundle = action->bundle;
    tell_agent(town, worker, &event);
}

static void agent_does(struct town *town, uint32_t worker, const struct agent_action *action)
{
    const struct agent_range *range = &action->u.range;
    struct agent_event event = {.type = AGENT_FETCHED};
    struct note *note;

    switch (action->type) {
    case AGENT_RUN:
        agent_did(town, worker, action);
        break;
    case AGENT_FETCH:
        event.u.task.key = action->u.key;
        tell_agent(town, worker, &event);
        break;
    case AGENT_REPORT_DONE:
        for (uint32_t i = 0; i < range->count; i++) {
            note = tell_broker(town, EVENT_TASKS_DONE);
            note->range = (struct task_range){range->job, range->layer, range->first + i, 1};
            note->event.u.done.worker = worker;
            note->event.u.done.ranges = 1;
        }
        break;
    case AGENT_REPORT_DROPPED:
        note = tell_broker(town, EVENT_TASKS_DROPPED);
        note->range = (struct task_range){range->job, range->layer, range->first, range->count};
        note->event.u.dropped.worker = worker;
        note->event.u.dropped.ranges = 1;
        break;
    case AGENT_ADVERTISE:
    case AGENT_DECLINE:
        for (uint32_t i = 0; i < range->count; i++) {
            note = tell_broker(town, EVENT_HOLDING);
            note->range = (struct task_range){range->job, range->layer, range->first + i, 1};
            note->event.u.holding.worker = worker;
            note->event.u.holding.adds = action->type == AGENT_ADVERTISE ? 1 : 0;
            note->event.u.holding.gones = 1 - note->event.u.holding.adds;
        }
        break;
    case AGENT_REPORT_FAILED:
        note = tell_broker(town, EVENT_TASK_FAILED);
        note->event.u.failed.worker = worker;
        note->event.u.failed.job = action->u.key.job;
        note->event.u.failed.layer = action->u.key.layer;
        note->event.u.failed.index = action->u.key.index;
        note->event.u.failed.text = "failed";
        note->event.u.failed.missing_input = action->missing_input;
        note->event.u.failed.missing_layer = action->missing.layer;
        note->event.u.failed.missing_index = action->missing.index;
        note->event.u.failed.missing_worker = action->worker;
        break;
    default:
        break;
    }
}

static void agent_hears(struct town *town, uint32_t worker, const struct agent_event *event)
{
    size_t count = 1;
    int rc;

    if (town->agent[worker] == NULL) {
        return;
    }
    do {
        allocator.armed = true;
        rc = agent_step(town->agent[worker], event, count, &town->agent_actions, NULL);
        allocator.armed = false;
        must(rc == 0 || rc == -ENOMEM, "the agent was asked for something impossible");
        count -= town->agent_actions.events_taken;
        agent_check(town->agent[worker]);
        for (size_t k = 0; k < town->agent_actions.count; k++) {
            agent_does(town, worker, &town->agent_actions.action[k]);
        }
    } while (rc < 0);
}

static void range_to_agent(struct town *town, const struct sched_action *action, enum agent_event_type type)
{
    struct agent_event event = {.type = type};

    event.u.range.range = (struct agent_range){action->range.job, action->range.layer, action->range.first,
                                               action->range.count};
    event.u.range.kill = action->kill;
    tell_agent(town, action->peer, &event);
}

static void deliver(struct town *town, const struct sched_action *action)
{
    struct agent_event event;

    memset(&event, 0, sizeof(event));
    switch (action->type) {
    case ACTION_LAYER:
        event.type = AGENT_LAYER;
        event.u.layer.job = action->range.job;
        event.u.layer.layer = action->range.layer;
        event.u.layer.tasks = action->layer->tasks;
        event.u.layer.inputs = action->layer->n_input;
        event.u.layer.input = action->layer->input;
        event.u.layer.input_tasks = action->input_tasks;
        // At once: the array is the broker's.
        agent_hears(town, action->peer, &event);
        break;
    case ACTION_RUN:
        for (size_t k = 0; k < action->locations; k++) {
            struct sched_action at = {.peer = action->peer, .range = action->location[k].range};

            range_to_agent(town, &at, AGENT_LOCATION);
            town->pending[town->pending_tail - 1].u.range.worker = action->location[k].worker;
        }
        for (size_t k = 0; k < action->wholes; k++) {
            struct sched_action at = {.peer = action->peer, .range = action->whole[k].range};

            if (action->whole[k].worker != action->peer) {
                range_to_agent(town, &at, AGENT_LOCATION);
                town->pending[town->pending_tail - 1].u.range.worker = action->whole[k].worker;
            }
        }
        range_to_agent(town, action, AGENT_ASSIGN);
        break;
    case ACTION_DROP:
        range_to_agent(town, action, AGENT_DROP);
        break;
    case ACTION_RELEASE:
        range_to_agent(town, action, AGENT_RELEASE);
        break;
    case ACTION_FORGET_JOB:
        range_to_agent(town, action, AGENT_FORGET_JOB);
        break;
    case ACTION_COPY:
        range_to_agent(town, action, AGENT_COPY);
        town->pending[town->pending_tail - 1].u.range.worker = action->worker;
        break;
    case ACTION_RESULT:
        town->results += action->range.count;
        break;
    case ACTION_REJECTED:
        town->refused = town->extended;
        break;
    case ACTION_JOB_ENDED:
        must(action->state != JOB_FAILED ||
                 (town->extended && action->code == ENOMEM && strstr(action->text, "memory") != NULL),
             "the job failed, and not for want of memory");
        town->ended = action->state;
        break;
    default:
        break;
    }
}

static void broker_hears(struct town *town, struct note *note)
{
    int rc;

    note->event.u.done.range = note->event.type == EVENT_TASKS_DONE ? &note->range : note->event.u.done.range;
    if (note->event.type == EVENT_TASKS_DONE) {
        note->event.u.done.bytes = &note->bytes;
    }
    if (note->event.type == EVENT_HOLDING) {
        note->event.u.holding.add = note->event.u.holding.gone = &note->range;
        note->event.u.holding.bytes = &note->bytes;
    }
    if (note->event.type == EVENT_TASKS_DROPPED) {
        note->event.u.dropped.range = &note->range;
    }
    town->extended = town->extended || note->event.type == EVENT_EXTEND;
    do {
        allocator.armed = true;
        rc = sched_step(town->sched, &note->event, 1, &town->actions);
        allocator.armed = false;
        sched_check(town->sched);
        for (size_t k = 0; k < town->actions.count; k++) {
            deliver(town, &town->actions.action[k]);
        }
    } while (rc < 0);
}

// Locations come before the task that needs them, each event a step: only what is queued at
// the agent together arrives together.
static void agents_go_on(struct town *town)
{
    while (town->pending_head < town->pending_tail) {
        size_t from = town->pending_head;
        size_t to = from + 1;
        uint32_t worker = town->pending_at[from];
        int rc;

        while (to < town->pending_tail && town->pending_at[to] == worker) {
            to++;
        }
        town->pending_head = to;
        while (town->agent[worker] != NULL) {
            allocator.armed = true;
            rc = agent_step(town->agent[worker], town->pending + from, to - from, &town->agent_actions, NULL);
            allocator.armed = false;
            must(rc == 0 || rc == -ENOMEM, "the agent was asked for something impossible");
            agent_check(town->agent[worker]);
            from += town->agent_actions.events_taken;
            for (size_t k = 0; k < town->agent_actions.count; k++) {
                agent_does(town, worker, &town->agent_actions.action[k]);
            }
            if (rc == 0) {
                break;
            }
        }
    }
}

static void go_on(struct town *town, size_t events)
{
    agents_go_on(town);
    for (; events > 0 && town->head < town->tail; events--) {
        broker_hears(town, &town->queue[town->head++]);
        agents_go_on(town);
    }
}

static void join(struct town *town, uint32_t worker)
{
    struct agent_event connected = {.type = AGENT_CONNECTED};
    const char *files = "a.csv";
    struct note *note = tell_broker(town, EVENT_WORKER_JOINED);

    note->event.u.joined.worker = worker;
    note->event.u.joined.threads = 1;
    note->event.u.joined.shared_files = worker != 1;
    note->event.u.joined.name = "w";
    agent_hears(town, worker, &connected);
    go_on(town, QUEUE_MAX);
    if (worker == 1) {
        note = tell_broker(town, EVENT_SOURCES);
        note->event.u.sources.worker = worker;
        note->event.u.sources.count = 1;
        note->event.u.sources.name = &files;
        note->event.u.sources.path = &files;
        go_on(town, 1);
    }
}

// In peace: another one takes what it has, however often one of them had no memory for that.
static void leave(struct town *town, uint32_t worker)
{
    struct agent_event leaving = {.type = AGENT_LEAVING};
    struct sched_counts before;
    struct sched_counts after;
    struct note *note;

    sched_counts(town->sched, &before);
    tell_broker(town, EVENT_WORKER_LEAVING)->event.u.left.worker = worker;
    agent_hears(town, worker, &leaving);
    go_on(town, QUEUE_MAX);
    for (int k = 0; k < 4 && agent_own(town->agent[worker], NULL, NULL) > 0; k++) {
        town->now_us += 200000;
        tell_broker(town, EVENT_TICK);
        go_on(town, QUEUE_MAX);
    }
    must(agent_own(town->agent[worker], NULL, NULL) == 0, "nobody took what a worker had that leaves");
    note = tell_broker(town, EVENT_WORKER_LEFT);
    note->event.u.left.worker = worker;
    note->event.u.left.on_purpose = true;
    agent_destroy(town->agent[worker]);
    town->agent[worker] = NULL;
    go_on(town, QUEUE_MAX);
    sched_counts(town->sched, &after);
    must(after.recomputed == before.recomputed && after.partitions == before.partitions,
         "something is done again for a worker that has left");
}

static void build_all(struct build *build)
{
    static const uint32_t offset[] = {0, 2, 3, 5};
    static const uint32_t target[] = {0, 5, 2, 3, 3};
    Dray__Input *input;

    build_init(build);
    build_layer(build, 6);
    build_source(build, 0, "a.csv", 0, 6);
    build_layer(build, 3);
    input = build_input(build, 1, 0, DRAY__PATTERN__EXPLICIT, 0);
    input->offset = (uint32_t *)offset;
    input->n_offset = 4;
    input->target = (uint32_t *)target;
    input->n_target = 5;
    build_input(build, 1, 0, DRAY__PATTERN__FAN_IN, 2);
    build_layer(build, 2);
    build_input(build, 2, 1, DRAY__PATTERN__ALL, 0);
    build_wanted(build, 2);
}

// One more layer, and the end.
static void build_more(struct build *build)
{
    build_init(build);
    build_layer(build, 4);
    build_input(build, 0, 1, DRAY__PATTERN__ALL, 0);
    build_wanted(build, 0);
}

static void story(unsigned fail_at)
{
    static struct town town;
    struct agent_options options = {.threads = 1, .fetches_max = 2};
    struct sched_options broker;
    struct sched_counts counts;
    struct build build;
    struct build more;
    struct note *note;

    memset(&town, 0, sizeof(town));
    build_all(&build);
    build_more(&more);
    town.graph = build_graph(&build);
    sched_options_default(&broker);
    broker.moment_us = 1000000;
    town.sched = sched_create(&broker);
    for (uint32_t w = 1; w <= WORKERS; w++) {
        town.agent[w] = agent_create(&options);
        must(town.agent[w] != NULL, "no memory");
    }
    must(town.sched != NULL, "no memory");
    allocator.left = fail_at;
    allocator.failed = false;
    tell_broker(&town, EVENT_CLIENT_JOINED)->event.u.client.client = CLIENT;
    join(&town, 1);
    note = tell_broker(&town, EVENT_SUBMIT);
    note->event.u.submit.client = CLIENT;
    note->event.u.submit.graph = town.graph;
    note->event.u.submit.open = true;
    go_on(&town, 3);
    join(&town, 2);
    note = tell_broker(&town, EVENT_EXTEND);
    note->event.u.extend.client = CLIENT;
    note->event.u.extend.job = 1;
    note->event.u.extend.first_layer = 3;
    note->event.u.extend.graph = &more.graph;
    note->event.u.extend.last = true;
    go_on(&town, 3);
    // Dies with what it has; another takes its place.
    note = tell_broker(&town, EVENT_WORKER_LEFT);
    note->event.u.left.worker = 2;
    agent_destroy(town.agent[2]);
    town.agent[2] = NULL;
    join(&town, 3);
    go_on(&town, QUEUE_MAX);
    for (int k = 0; k < 4; k++) {
        tell_broker(&town, EVENT_TICK);
        go_on(&town, QUEUE_MAX);
    }
    leave(&town, 1);
    must(town.ended == JOB_FAILED || (town.ended == JOB_DONE && !town.refused && town.results >= 6),
         "the job did not end well");
    tell_broker(&town, EVENT_CLIENT_LEFT)->event.u.client.client = CLIENT;
    tell_broker(&town, EVENT_TICK);
    go_on(&town, QUEUE_MAX);
    sched_counts(town.sched, &counts);
    must(counts.jobs + counts.tasks + counts.partitions + counts.clients == 0, "something is left");
    for (uint32_t w = 1; w <= WORKERS; w++) {
        struct agent_counts mine = {0};

        if (town.agent[w] != NULL) {
            agent_counts(town.agent[w], &mine);
        }
        must(mine.queued + mine.running + mine.fetching + mine.partitions == 0,
             "a worker is left with something");
        agent_destroy(town.agent[w]);
    }
    sched_destroy(town.sched);
    sched_actions_fini(&town.actions);
    agent_actions_fini(&town.agent_actions);
    build_fini(&build);
    build_fini(&more);
}

// ---- a broker that was there before -----------------------------------------------------------

// Given again until there was memory for it.
static void tell(struct sched *sched, const struct sched_event *event, struct sched_actions *actions,
                 enum job_state *ended)
{
    int rc;

    do {
        allocator.armed = true;
        rc = sched_step(sched, event, 1, actions);
        allocator.armed = false;
        sched_check(sched);
        for (size_t k = 0; k < actions->count; k++) {
            if (actions->action[k].type == ACTION_JOB_ENDED) {
                *ended = actions->action[k].state;
            }
        }
    } while (rc < 0);
}

static void recovery(unsigned fail_at)
{
    static const uint64_t bytes[6];
    static const struct task_range held[] = {{1, 0, 0, 6}, {2, 0, 0, 1}};
    static const struct task_range has[] = {{1, 1, 0, 3}, {2, 1, 0, 1}};
    struct sched_actions actions;
    struct sched_options options;
    struct build build, more;
    struct sched_counts counts;
    enum job_state ended = 0;
    struct sched *sched;
    struct sched_event event[] = {
        {.type = EVENT_EXPECT, .u.expect = {7, "ant"}},
        {.type = EVENT_EXPECT, .u.expect = {8, "bee"}},
        {.type = EVENT_SUBMIT,
         .u.submit = {.number = 1, .key_lo = 1, .open = true, .name = "some", .failures_max = 9}},
        {.type = EVENT_EXTEND, .u.extend = {.job = 1, .first_layer = 3, .last = true}},
        {.type = EVENT_SUBMIT, .u.submit = {.number = 2, .key_lo = 2, .detached = true}},
        {.type = EVENT_RESTORE_TASKS, .u.restore = {.range = {1, 3, 0, 2}, .over = RESTORE_OVER}},
        {.type = EVENT_RESTORE_TASKS,
         .u.restore = {{1, 3, 2, 1}, RESTORE_FAILED, .code = EINVAL, .text = "poison", .worker_name = "ant"}},
        {.type = EVENT_RESTORE_JOB,
         .u.restore = {.range.job = 2, .state = JOB_FAILED, .code = EINVAL, .text = "poison"}},
        {.type = EVENT_CLIENT_JOINED, .u.client.client = CLIENT},
        {.type = EVENT_ATTACH, .u.attach = {CLIENT, 1, .again = true}},
        {.type = EVENT_WORKER_JOINED,
         .u.joined = {.worker = 1, .threads = 4, .shared_files = true, .name = "ant", .incarnation = 7}},
        {.type = EVENT_HOLDING,
         .u.holding = {.worker = 1, .full = true, .adds = 2, .add = held, .bytes = bytes, .hases = 2, .has = has}},
        {.type = EVENT_TICK, .now_us = 2000000},
        {.type = EVENT_TASKS_DONE, .u.done = {.worker = 1, .ranges = 1, .range = has, .bytes = bytes}},
        {.type = EVENT_CANCEL, .u.job = {.client = CLIENT, .job = 1}},
        {.type = EVENT_CLIENT_LEFT, .u.client.client = CLIENT},
        {.type = EVENT_TICK, .now_us = 9000000},
        {.type = EVENT_TICK, .now_us = 9000001},
    };

    build_all(&build);
    build_more(&more);
    event[2].u.submit.graph = event[4].u.submit.graph = build_graph(&build);
    event[3].u.extend.graph = &more.graph;
    sched_options_default(&options);
    options.records = true;
    options.recover_us = options.orphan_us = options.ttl_us = 1000000;
    sched = sched_create(&options);
    must(sched != NULL, "no memory");
    sched_actions_init(&actions);
    allocator.left = fail_at;
    allocator.failed = false;
    for (size_t k = 0; k < sizeof(event) / sizeof(*event); k++) {
        tell(sched, &event[k], &actions, &ended);
    }
    sched_counts(sched, &counts);
    must(ended == JOB_CANCELLED, "the job is not there any more");
    must(counts.jobs + counts.tasks + counts.partitions + counts.clients == 0, "something is left");
    sched_destroy(sched);
    sched_actions_fini(&actions);
    build_fini(&build);
    build_fini(&more);
}

unsigned memory_all(void)
{
    void (*const all[])(unsigned) = {story, recovery};
    unsigned count = 0;

    for (size_t k = 0; k < sizeof(all) / sizeof(*all); k++) {
        unsigned fail_at = 0;

        do {
            all[k](fail_at++);
        } while (allocator.failed);
        count += fail_at - 1;
    }
    return count;
}
