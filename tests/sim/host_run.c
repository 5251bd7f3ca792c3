// A worker's threads: bundles, whose tasks run one after another.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW_PERCENT = 4, SLOW_TIMES = 300 };

static struct run *run_find(struct host *host, uint32_t bundle)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        if (host->run[r].bundle == bundle) {
            return &host->run[r];
        }
    }
    return NULL;
}

static void post_over(struct world *world, struct host *host, const struct run *run, uint64_t delay)
{
    struct letter *letter = letter_new(LETTER_TASK_OVER);

    letter->host = host;
    letter->key.index = run->bundle;
    letter->number = run->number;
    world_post(world, letter, delay);
}

static struct agent_event *say(struct run *run, enum agent_event_type type)
{
    struct agent_event *event;

    run->events = must(realloc(run->events, (run->event_count + 1) * sizeof(*event)));
    event = &run->events[run->event_count++];
    memset(event, 0, sizeof(*event));
    event->type = type;
    return event;
}

static void say_range(struct run *run, enum agent_event_type type, const struct task_key *key)
{
    struct agent_event *last = run->event_count > 0 ? &run->events[run->event_count - 1] : NULL;

    if (last != NULL && last->type == type && last->u.range.range.job == key->job &&
        last->u.range.range.layer == key->layer &&
        last->u.range.range.first + last->u.range.range.count == key->index) {
        last->u.range.range.count++;
        last->u.range.busy_ns += run->task_ns;
        return;
    }
    last = say(run, type);
    last->u.range.range = (struct agent_range){key->job, key->layer, key->index, 1};
    last->u.range.busy_ns = type == AGENT_TASKS_DONE ? run->task_ns : 0;
}

// What was gathered goes to the agent after what it is busy with.
static void hand_over(struct host *host, struct run *run)
{
    host->later =
        must(realloc(host->later, (host->later_count + run->event_count + 1) * sizeof(*host->later)));
    if (run->event_count > 0) {
        memcpy(host->later + host->later_count, run->events, run->event_count * sizeof(*run->events));
    }
    host->later_count += run->event_count;
    run->event_count = 0;
}

// The value of a task from its inputs; false: one of them is not there.
static bool compute(struct world *world, const struct host *host, struct task_key key, uint64_t *value)
{
    const struct plan *plan = world_plan(world, key.job);
    const Dray__Layer *layer = plan->graph->layer[key.layer];

    *value = plan_begin(key.layer, key.index);
    for (size_t k = 0; k < layer->n_input; k++) {
        const Dray__Input *input = layer->input[k];
        uint32_t job = input->has_job ? input->job : key.job;
        uint32_t tasks;

        plan_source(plan, input, &tasks);

        struct span span = input_needs(input, layer->tasks, tasks, key.index);

        for (uint32_t s = 0; s < span.count; s++) {
            uint64_t one = host_value(host, (struct task_key){job, input->layer, span_at(&span, s)});

            if (one == 0) {
                return false;
            }
            *value = plan_add(*value, one);
        }
    }
    return true;
}

// Until one has begun, or the bundle is over.
static void run_next(struct world *world, struct host *host, struct run *run)
{
    for (; run->at < run->count; run->at++) {
        struct step *task = &run->task[run->at];
        struct plan *plan = world_plan(world, task->key.job);

        if (task->withdrawn) {
            continue; // was said at once
        }
        if (!compute(world, host, task->key, &run->value)) {
            say_range(run, AGENT_TASKS_SKIPPED, &task->key);
            continue;
        }
        // In a mortal world, what is over may be done once more before that is known.
        plan->runs[task->key.layer][task->key.index] += world->options.mortal && plan->over ? 0 : 1;
        task->begun = true;
        uint8_t fails = plan->fails[task->key.layer][task->key.index];

        run->fails = fails == FAILS_ALWAYS || plan->failed[task->key.layer][task->key.index] < fails;
        if (run->fails && fails != FAILS_ALWAYS) {
            plan->failed[task->key.layer][task->key.index]++;
        }
        run->stopped = false;
        run->number = ++host->runs;
        run->task_ns = 1000 * (random_below(&world->random, world->duration_max) + 1);
        if (world->options.slow && random_percent(&world->random, SLOW_PERCENT)) {
            run->task_ns *= 1 + random_below(&world->random, SLOW_TIMES);
        }
        post_over(world, host, run, run->task_ns / 1000);
        return;
    }
    say(run, AGENT_BUNDLE_OVER)->u.bundle = run->bundle;
    hand_over(host, run);
    free(run->task);
    free(run->events);
    memset(run, 0, sizeof(*run));
}

static bool has_label(const struct host *host, const char *name)
{
    bool found = false;

    for (int k = 0; k < PLAN_LABELS; k++) {
        found = found || ((host->labels >> k & 1) != 0 && strcmp(name, plan_label[k]) == 0);
    }
    return found;
}

// The broker gives nobody what he cannot do.
static void check_can(const struct world *world, const struct host *host, const struct agent_range *range)
{
    const Dray__Layer *layer =
        world_plan((struct world *)(uintptr_t)world, range->job)->graph->layer[range->layer];
    bool named = false;
    bool any = false;

    for (size_t k = 0; k < layer->n_worker; k++) {
        bool has = has_label(host, layer->worker[k]);

        if (strncmp(layer->worker[k], "plugin:", 7) == 0) {
            if (!has) {
                world_fail(world, "host %u was given t%u, but lacks the plugin", host->number, range->layer);
            }
        } else {
            any = true;
            named = named || has;
        }
    }
    if (any && !named) {
        world_fail(world, "host %u was given t%u, but is not called so", host->number, range->layer);
    }
    for (size_t k = 0; k < layer->n_resource; k++) {
        int kind = strcmp(layer->resource[k]->name, plan_resource[0]) == 0 ? 0 : 1;

        if (host->amount[kind] < layer->resource[k]->amount) {
            world_fail(world, "host %u was given t%u, but has not enough", host->number, range->layer);
        }
    }
    for (size_t k = 0; !host->shared && k < layer->n_source; k++) {
        const Dray__Source *source = layer->source[k];

        for (int f = 0; f < PLAN_FILES; f++) {
            if (strcmp(source->name, plan_file[f]) == 0 && (host->files >> f & 1) == 0 &&
                source->first < range->first + range->count && range->first < source->first + source->count) {
                world_fail(world, "host %u was given t%u, which reads %s", host->number, range->layer,
                           source->name);
            }
        }
    }
}

// Nor does a host do more at once than it has for: not even while what it was told to stop goes on, or what
// it had from an earlier session.
static void check_amounts(const struct world *world, const struct host *host)
{
    uint32_t taken[PLAN_RESOURCES] = {0};

    for (int r = 0; r < RUNS_MAX; r++) {
        const struct run *run = &host->run[r];
        const struct task_key *key = run->at < run->count ? &run->task[run->at].key : NULL;
        const Dray__Layer *layer =
            run->bundle != 0 && key != NULL
                ? world_plan((struct world *)(uintptr_t)world, key->job)->graph->layer[key->layer]
                : NULL;

        for (size_t k = 0; layer != NULL && k < layer->n_resource; k++) {
            taken[strcmp(layer->resource[k]->name, plan_resource[0]) == 0 ? 0 : 1] +=
                layer->resource[k]->amount;
        }
    }
    for (int k = 0; k < PLAN_RESOURCES; k++) {
        if (taken[k] > host->amount[k]) {
            world_fail(world, "host %u runs what takes %u of %u %s", host->number, taken[k], host->amount[k],
                       plan_resource[k]);
        }
    }
}

void host_run_start(struct world *world, struct host *host, const struct agent_action *action)
{
    struct run *run = must(run_find(host, 0));

    run->bundle = action->bundle;
    for (size_t r = 0; r < action->u.ranges; r++) {
        const struct agent_range *range = &action->p.range[r];

        check_can(world, host, range);
        run->task = must(realloc(run->task, (run->count + range->count) * sizeof(*run->task)));
        for (uint32_t i = 0; i < range->count; i++) {
            run->task[run->count++] = (struct step){.key = {range->job, range->layer, range->first + i}};
        }
    }
    check_amounts(world, host);
    run_next(world, host, run);
}

void host_task_over(struct world *world, struct letter *letter)
{
    struct host *host = letter->host;
    struct run *run = host->alive ? run_find(host, letter->key.index) : NULL;
    struct task_key key;

    if (run == NULL || run->number != letter->number) {
        return;
    }
    key = run->task[run->at++].key;

    struct plan *plan = world_plan(world, key.job);

    if (plan->killer_layer == key.layer && plan->killer_index == key.index) {
        host_die(world, host);
        world_post(world, letter_new(LETTER_HOST_START), world_delay(world));
        return;
    }
    if (run->fails || run->stopped) {
        struct agent_event *event = say(run, AGENT_TASK_FAILED);

        event->u.task.key = key;
        event->u.task.code = run->stopped ? ECANCELED : EINVAL;
        event->u.task.text = run->stopped ? "stopped" : "poison";
    } else {
        host_put(host, key, run->value);
        say_range(run, AGENT_TASKS_DONE, &key);
    }
    if (random_percent(&world->random, 30)) {
        hand_over(host, run);
    }
    run_next(world, host, run);
    host_events(world, host, NULL, 0);
}

static bool is_in(const struct agent_range *range, const struct task_key *key)
{
    return key->job == range->job && key->layer == range->layer && key->index >= range->first &&
           key->index - range->first < range->count;
}

// Those that have not begun come back; the one that runs is asked to stop.
static void take_back(struct world *world, struct host *host, struct run *run,
                      const struct agent_range *range, bool stop)
{
    size_t gathered = run->event_count;

    for (size_t t = run->at; t < run->count; t++) {
        struct step *task = &run->task[t];

        if ((range != NULL && !is_in(range, &task->key)) || task->withdrawn) {
            continue;
        }
        if (!task->begun) {
            task->withdrawn = true;
            say_range(run, AGENT_TASKS_SKIPPED, &task->key);
        } else if (stop && random_percent(&world->random, 50)) {
            // Some stop at once, some are too late to stop.
            run->stopped = true;
            run->number = ++host->runs;
            post_over(world, host, run, random_below(&world->random, 20) + 1);
        }
    }
    if (run->event_count > gathered) {
        hand_over(host, run);
    }
}

void host_withdraw(struct world *world, struct host *host, const struct agent_action *action)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        struct run *run = &host->run[r];

        if (run->bundle != 0 && (action->type != AGENT_CUT || run->bundle == action->bundle)) {
            take_back(world, host, run, action->type == AGENT_CUT ? NULL : &action->u.range,
                      action->type == AGENT_CANCEL);
        }
    }
}
void host_forget_runs(struct host *host)
{
    for (int r = 0; r < RUNS_MAX; r++) {
        free(host->run[r].task);
        free(host->run[r].events);
    }
    memset(host->run, 0, sizeof(host->run));
    free(host->later);
    host->later = NULL;
    host->later_count = 0;
}
