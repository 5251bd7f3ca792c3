// A client process: submits jobs, reads results, changes its mind.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>

static void send(struct world *world, struct customer *customer, enum sched_event_type type, uint32_t job)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    letter->event.type = type;
    letter->event.u.job.client = customer->link->peer;
    letter->event.u.job.job = job;
    world_send_broker(world, customer->link, letter);
}

struct customer *customer_join(struct world *world)
{
    struct customer *customer = &world->customer[world->customers];
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    if (world->customers == CUSTOMERS_MAX) {
        world_fail(world, "more than %d customers", CUSTOMERS_MAX);
    }
    customer->number = world->customers++;
    customer->here = true;
    customer->link = world_link(world);
    customer->link->customer = customer;
    customer->link->peer = FIRST_CUSTOMER + customer->number;
    letter->event.type = EVENT_CLIENT_JOINED;
    letter->event.u.client.client = customer->link->peer;
    world_send_broker(world, customer->link, letter);
    return customer;
}

static void plan_over(struct world *world, struct plan *plan)
{
    plan->over = true;
    world_check_over(world);
}

// Detached jobs are taken up by somebody else; others end with their client.
void customer_leave(struct world *world, struct customer *customer)
{
    if (!customer->here) {
        return;
    }
    customer->here = false;
    world_cut(world, customer->link);
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (!plan->submitted || plan->over || plan->owner != customer->number) {
            continue;
        }
        if (plan->detached) {
            struct letter *letter = letter_new(LETTER_SUBMIT);

            letter->number = p;
            letter->customer = customer_join(world);
            world_post(world, letter, random_below(&world->random, 5000) + 1);
        } else {
            plan_over(world, plan);
        }
    }
}

static void whim_later(struct world *world, struct customer *customer)
{
    if (world->options.faults && random_percent(&world->random, 50)) {
        struct letter *letter = letter_new(LETTER_WHIM);

        letter->customer = customer;
        world_post(world, letter, random_below(&world->random, 20000) + 1);
    }
}

void customer_submit(struct world *world, struct letter *order)
{
    struct plan *plan = &world->plan[order->number];
    struct letter *letter;

    if (!order->customer->here && !plan->submitted) {
        plan_over(world, plan); // left before it came to that
    }
    if (!order->customer->here || plan->over) {
        return;
    }
    plan->submitted = true;
    plan->ended = false;
    plan->owner = order->customer->number;
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_SUBMIT;
    letter->event.u.submit.client = order->customer->link->peer;
    letter->event.u.submit.key_lo = plan->key;
    letter->event.u.submit.graph = plan->graph;
    letter->event.u.submit.detached = plan->detached;
    letter->event.u.submit.priority = plan->priority;
    letter->event.u.submit.failures_max = plan->failures_max;
    world_send_broker(world, order->customer->link, letter);
    whim_later(world, order->customer);
}

static struct plan *plan_of(struct world *world, const struct customer *customer)
{
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (plan->submitted && !plan->over && plan->owner == customer->number) {
            return plan;
        }
    }
    return NULL;
}

static void cancel_some(struct world *world, struct customer *customer, struct plan *plan)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);
    struct task_range *range = malloc(sizeof(*range));
    uint32_t tasks;

    if (range == NULL) {
        abort();
    }
    range->job = plan->job;
    range->layer = random_below(&world->random, (uint32_t)plan->graph->n_layer);
    tasks = plan->graph->layer[range->layer]->tasks;
    range->first = random_below(&world->random, tasks);
    range->count = random_between(&world->random, 1, tasks - range->first);
    plan->cancelled_some = true;
    letter->event.type = EVENT_CANCEL;
    letter->event.u.job.client = customer->link->peer;
    letter->event.u.job.job = plan->job;
    letter->event.u.job.ranges = 1;
    letter->event.u.job.range = range;
    world_send_broker(world, customer->link, letter);
}

void customer_whim(struct world *world, struct customer *customer)
{
    struct plan *plan = plan_of(world, customer);
    uint32_t what = random_below(&world->random, 10);

    if (!customer->here || plan == NULL) {
        return;
    }
    if (what < 2 && world->customers < CUSTOMERS_MAX) {
        customer_leave(world, customer);
    } else if (what < 3 && plan->job != 0) {
        plan->cancelled = true;
        send(world, customer, EVENT_CANCEL, plan->job);
    } else if (what < 5 && plan->job != 0) {
        cancel_some(world, customer, plan);
        whim_later(world, customer);
    } else if (what < 7) {
        // Not sure that the first one got through.
        struct letter *again = letter_new(LETTER_SUBMIT);

        again->number = (uint32_t)(plan - world->plan);
        again->customer = customer;
        world_post(world, again, 1);
    } else {
        whim_later(world, customer);
    }
}

static bool has_all(const struct plan *plan, bool *const *seen)
{
    for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
        for (uint32_t i = 0; plan->graph->layer[l]->wanted && i < plan->graph->layer[l]->tasks; i++) {
            if (!seen[l][i]) {
                return false;
            }
        }
    }
    return true;
}

static void finish(struct world *world, struct customer *customer, struct plan *plan)
{
    // Without this the job goes when the customer leaves, unless it is detached.
    if (plan->detached || random_percent(&world->random, 70)) {
        send(world, customer, EVENT_FREE, plan->job);
    }
    plan_over(world, plan);
}

static bool may_fail(const struct world *world, const struct plan *plan, const struct sched_action *action)
{
    if (action->state == JOB_CANCELLED) {
        return plan->cancelled;
    }
    if (action->code == ENOENT) {
        return plan->has_sources && world->files_mode > 0;
    }
    if (action->code == EOWNERDEAD) {
        return world->killers;
    }
    if (action->code == ECANCELED) {
        return plan->cancelled_some;
    }
    return action->code == EINVAL && plan->fails[action->layer_at][action->index_at] == FAILS_ALWAYS;
}

static void hears_end(struct world *world, struct customer *customer, struct plan *plan,
                      const struct sched_action *action)
{
    if (action->state != JOB_DONE) {
        if (!may_fail(world, plan, action)) {
            world_fail(world, "j%u ended with state %d, code %d at t%u.%u", plan->job, (int)action->state,
                       action->code, action->layer_at, action->index_at);
        }
        finish(world, customer, plan);
        return;
    }
    if (plan->has_poison && plan->failures_max == 0) {
        world_fail(world, "j%u is done although a task of it always fails", plan->job);
    }
    if (!has_all(plan, plan->said)) {
        world_fail(world, "j%u is done, but not all results were said", plan->job);
    }
    plan->ended = true;
    if (has_all(plan, plan->got)) {
        finish(world, customer, plan);
    }
}

static void hears_failed(struct world *world, struct customer *customer, struct plan *plan,
                         const struct sched_action *action)
{
    for (uint32_t n = 0; n < action->range.count; n++) {
        uint32_t l = action->range.layer;
        uint32_t i = action->range.first + n;

        if (!(action->code == EINVAL && plan->doomed[l][i]) &&
            !(action->code == ECANCELED && plan->cancelled_some) &&
            !(action->code == EOWNERDEAD && world->killers)) {
            world_fail(world, "t%u.%u of j%u failed with code %d", l, i, plan->job, action->code);
        }
        plan->said[l][i] = plan->got[l][i] = true;
    }
    // One that was lost after the end, and could not be made again.
    if (plan->ended && has_all(plan, plan->got)) {
        finish(world, customer, plan);
    }
}

void customer_hears(struct world *world, struct customer *customer, const struct sched_action *action)
{
    struct plan *plan = world_plan(world, action->range.job);

    if (!customer->here || plan == NULL || plan->over || plan->owner != customer->number) {
        return;
    }
    if (action->type == ACTION_RESULT) {
        for (uint32_t n = 0; n < action->range.count; n++) {
            struct letter *letter = letter_new(LETTER_RESULT_ASKED);

            plan->said[action->range.layer][action->range.first + n] = true;
            if (plan->doomed[action->range.layer][action->range.first + n]) {
                world_fail(world, "j%u has a result that cannot be", plan->job);
            }
            letter->customer = customer;
            letter->key = (struct task_key){action->range.job, action->range.layer, action->range.first + n};
            letter->number = action->worker;
            world_post(world, letter, world_delay(world));
        }
    } else if (action->type == ACTION_RESULT_FAILED) {
        hears_failed(world, customer, plan, action);
    } else if (action->type == ACTION_JOB_ENDED) {
        hears_end(world, customer, plan, action);
    } else if (action->type == ACTION_REJECTED) {
        world_fail(world, "a submit was rejected");
    }
}

void customer_result_asked(struct world *world, struct letter *letter)
{
    struct host *holder = world_holder(world, letter->number);
    struct letter *answer = letter_new(LETTER_RESULT_OVER);
    bool fault = world->options.faults && random_percent(&world->random, 1);

    answer->customer = letter->customer;
    answer->key = letter->key;
    answer->number = letter->number;
    answer->value = holder != NULL && !fault ? host_value(holder, letter->key) : 0;
    world_post(world, answer, world_delay(world));
}

static void result_lost(struct world *world, const struct letter *letter)
{
    struct letter *lost = letter_new(LETTER_TO_BROKER);

    lost->event.type = EVENT_RESULT_LOST;
    lost->event.u.lost.worker = letter->number;
    lost->event.u.lost.range = (struct task_range){letter->key.job, letter->key.layer, letter->key.index, 1};
    world_send_broker(world, letter->customer->link, lost);
}

void customer_result_over(struct world *world, struct letter *letter)
{
    struct plan *plan = world_plan(world, letter->key.job);
    struct customer *customer = letter->customer;
    uint32_t l = letter->key.layer;
    uint32_t i = letter->key.index;

    if (!customer->here || plan->over || plan->owner != customer->number || plan->got[l][i]) {
        return;
    }
    if (letter->value == 0) {
        result_lost(world, letter);
        return;
    }
    if (letter->value != plan->value[l][i]) {
        world_fail(world, "t%u.%u has the wrong value", l, i);
    }
    plan->got[l][i] = true;
    if (random_percent(&world->random, 20)) {
        struct task_range *range = malloc(sizeof(*range));
        struct letter *release = letter_new(LETTER_TO_BROKER);

        if (range == NULL) {
            abort();
        }
        *range = (struct task_range){letter->key.job, l, i, 1};
        release->event.type = EVENT_FREE;
        release->event.u.job.client = customer->link->peer;
        release->event.u.job.job = plan->job;
        release->event.u.job.ranges = 1;
        release->event.u.job.range = range;
        world_send_broker(world, customer->link, release);
    }
    if (plan->ended && has_all(plan, plan->got)) {
        finish(world, customer, plan);
    }
}
