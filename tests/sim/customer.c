// A client process: submits jobs, reads results, changes its mind.
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>

void customer_say(struct world *world, struct customer *customer, enum sched_event_type type, uint32_t job)
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
    struct letter *letter;

    if (world->customers == CUSTOMERS_MAX) {
        world_fail(world, "more than %d customers", CUSTOMERS_MAX);
    }
    customer->number = world->customers++;
    customer->here = true;
    customer->link = world_link(world);
    customer->link->customer = customer;
    customer->link->peer = FIRST_CUSTOMER + customer->number;
    if (world->down) {
        customer_not_heard(world, customer);
        return customer;
    }
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_CLIENT_JOINED;
    letter->event.u.client.client = customer->link->peer;
    world_send_broker(world, customer->link, letter);
    return customer;
}

void customer_plan_over(struct world *world, struct plan *plan)
{
    plan->over = true;
    world_check_over(world);
}

// Who had it is not there any more: somebody else takes it up when it is detached, and otherwise it ends with
// him.
void customer_bequeath(struct world *world, struct plan *plan)
{
    struct letter *letter;

    if (!plan->detached) {
        customer_plan_over(world, plan);
        return;
    }
    letter = letter_new(LETTER_SUBMIT);
    letter->number = (uint32_t)(plan - world->plan);
    letter->customer = customer_join(world);
    world_post(world, letter, random_below(&world->random, 5000) + 1);
}

void customer_leave(struct world *world, struct customer *customer)
{
    if (!customer->here) {
        return;
    }
    customer->here = false;
    // In peace, or as one who is lost.
    customer->link->bye = !world->options.mortal || world->closing || random_percent(&world->random, 50);
    world_cut(world, customer->link);
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (plan->submitted && !plan->over && plan->owner == customer->number) {
            customer_bequeath(world, plan);
        }
    }
}

static void whim_later(struct world *world, struct customer *customer)
{
    if (world->options.faults && random_percent(&world->random, world->options.wide ? 75 : 50)) {
        struct letter *letter = letter_new(LETTER_WHIM);

        letter->customer = customer;
        world_post(world, letter, random_below(&world->random, world->options.wide ? 6000 : 20000) + 1);
    }
}

static uint32_t layers_of(const struct plan *plan)
{
    return (uint32_t)plan->graph->n_layer;
}

// Some of its layers; freed with the event.
static Dray__Graph *slice_of(const struct plan *plan, uint32_t first, uint32_t count)
{
    Dray__Graph *graph = malloc(sizeof(*graph));

    if (graph == NULL) {
        abort();
    }
    dray__graph__init(graph);
    graph->n_layer = count;
    graph->layer = plan->graph->layer + first;
    return graph;
}

// The number of the job whose partitions it needs.  False: not known yet.
static bool set_other(struct plan *plan)
{
    if (plan->other == NULL) {
        return true;
    }
    for (uint32_t l = 0; plan->other->job != 0 && l < layers_of(plan); l++) {
        for (size_t k = 0; k < plan->graph->layer[l]->n_input; k++) {
            if (plan->graph->layer[l]->input[k]->has_job) {
                plan->graph->layer[l]->input[k]->job = plan->other->job;
            }
        }
    }
    return plan->other->job != 0;
}

void customer_extend_later(struct world *world, struct customer *customer, struct plan *plan)
{
    struct letter *letter = letter_new(LETTER_EXTEND);

    letter->customer = customer;
    letter->number = (uint32_t)(plan - world->plan);
    world_post(world, letter, random_below(&world->random, 2000) + 1);
}

void customer_extend(struct world *world, struct letter *order)
{
    struct plan *plan = &world->plan[order->number];
    uint32_t left = layers_of(plan) - plan->sent;
    uint32_t count = left > 0 ? random_between(&world->random, 1, left) : 0;
    bool last = count == left && (left == 0 || random_percent(&world->random, 50));
    struct letter *letter;

    if (!order->customer->here || plan->over || plan->owner != order->customer->number ||
        plan->extender != order->customer->number + 1 || plan->extends != plan->job) {
        return;
    }
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_EXTEND;
    letter->event.u.extend.client = order->customer->link->peer;
    letter->event.u.extend.job = plan->job;
    letter->event.u.extend.first_layer = plan->sent;
    letter->event.u.extend.graph = count > 0 ? slice_of(plan, plan->sent, count) : NULL;
    letter->event.u.extend.last = last;
    world_send_broker(world, order->customer->link, letter);
    plan->sent += count;
    if (!last) {
        customer_extend_later(world, order->customer, plan);
    }
}

// It goes on where the broker is: who takes over a job is told its layers.
static void extend_begin(struct world *world, struct customer *customer, struct plan *plan)
{
    struct sched_job info;

    if (plan->piece == 0 || (plan->extender == customer->number + 1 && plan->extends == plan->job)) {
        return;
    }
    plan->extends = plan->job;
    plan->extender = customer->number + 1;
    // Of one that has failed there are none, but it may come back.
    plan->sent = world->options.mortal ? plan->piece : layers_of(plan);
    if (world->sched != NULL && sched_job_info(world->sched, plan->job, &info) == 0 && info.layers > 0) {
        plan->sent = info.layers;
    }
    plan->safe = plan->sent;
    customer_extend_later(world, customer, plan);
}

void customer_submit(struct world *world, struct letter *order)
{
    struct plan *plan = &world->plan[order->number];

    if (!order->customer->here && !plan->submitted) {
        customer_plan_over(world, plan); // left before it came to that
    }
    if (!order->customer->here || plan->over) {
        return;
    }
    if (!plan->submitted && !set_other(plan)) {
        struct letter *later = letter_new(LETTER_SUBMIT);

        if (plan->other->over) {
            plan->rejected = true; // it never came to that
            customer_plan_over(world, plan);
            free(later);
            return;
        }
        later->number = order->number;
        later->customer = order->customer;
        world_post(world, later, 300);
        return;
    }
    plan->submitted = true;
    plan->ended = false;
    plan->owner = order->customer->number;
    customer_say_submit(world, order->customer, plan);
    whim_later(world, order->customer);
}

void customer_say_submit(struct world *world, struct customer *customer, struct plan *plan)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    letter->event.type = EVENT_SUBMIT;
    letter->event.u.submit.client = customer->link->peer;
    letter->event.u.submit.key_lo = plan->key;
    letter->event.u.submit.graph = slice_of(plan, 0, plan->piece > 0 ? plan->piece : layers_of(plan));
    letter->event.u.submit.open = plan->piece > 0;
    letter->event.u.submit.detached = plan->detached;
    letter->event.u.submit.priority = plan->priority;
    letter->event.u.submit.failures_max = plan->failures_max;
    world_send_broker(world, customer->link, letter);
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

// Of several who take over a job, the one from whom the broker hears last has it.
void customer_arrives(struct world *world, const struct letter *letter)
{
    const struct sched_event *event = &letter->event;
    struct plan *plan = NULL;

    if (event->type == EVENT_ATTACH) {
        plan = world_plan(world, event->u.attach.job);
    }
    for (uint32_t p = 0; event->type == EVENT_SUBMIT && p < world->plans; p++) {
        plan = world->plan[p].key == event->u.submit.key_lo ? &world->plan[p] : plan;
    }
    if (plan != NULL && plan->owner != letter->link->customer->number) {
        plan->owner = letter->link->customer->number;
        plan->ended = false;
    }
}

// Somebody else takes the results from now on.
void customer_attach(struct world *world, struct letter *order)
{
    struct plan *plan = &world->plan[order->number];
    struct letter *letter;

    if (!order->customer->here || plan->over) {
        return;
    }
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_ATTACH;
    letter->event.u.attach.client = order->customer->link->peer;
    letter->event.u.attach.job = plan->job;
    world_send_broker(world, order->customer->link, letter);
    whim_later(world, order->customer);
}

// The broker finds that it does not read fast enough, and later that it does.
static void be_slow(struct world *world, const struct customer *customer)
{
    uint64_t delay = random_below(&world->random, 3000);

    for (int k = 0; k < 2; k++) {
        struct letter *letter = letter_new(LETTER_TO_BROKER);

        letter->event.type = EVENT_CLIENT_FULL;
        letter->event.u.client.client = customer->link->peer;
        letter->event.u.client.full = k == 0;
        world_post(world, letter, delay + (uint64_t)k * (1 + random_below(&world->random, 20000)));
    }
}

static void keep(struct world *world, struct customer *customer, struct plan *plan)
{
    struct letter *letter = letter_new(LETTER_TO_BROKER);

    letter->event.type = EVENT_KEEP;
    letter->event.u.attach.client = customer->link->peer;
    letter->event.u.attach.job = plan->job;
    letter->event.u.attach.keep = plan->keeps == 0 || random_percent(&world->random, 50);
    plan->keeps += letter->event.u.attach.keep ? 1 : 0;
    world_send_broker(world, customer->link, letter);
}

static void wide_whim(struct world *world, struct customer *customer, struct plan *plan)
{
    uint32_t what = random_below(&world->random, 3);

    if (what == 0) {
        be_slow(world, customer);
    } else if (what == 1 && plan->job != 0) {
        keep(world, customer, plan);
    } else if (plan->job != 0 && plan->detached && plan->piece == 0 && world->customers < CUSTOMERS_MAX) {
        struct letter *letter = letter_new(LETTER_ATTACH);

        letter->number = (uint32_t)(plan - world->plan);
        letter->customer = customer_join(world);
        world_post(world, letter, 1);
    }
    whim_later(world, customer);
}

void customer_whim(struct world *world, struct customer *customer)
{
    struct plan *plan = plan_of(world, customer);
    uint32_t what = random_below(&world->random, 10);

    if (!customer->here || plan == NULL) {
        return;
    }
    if (world->options.wide && random_percent(&world->random, 50)) {
        wide_whim(world, customer, plan);
        return;
    }
    if (what < 2 && world->customers < CUSTOMERS_MAX) {
        customer_leave(world, customer);
    } else if (what < 3 && plan->job != 0) {
        plan->cancelled = true;
        customer_say(world, customer, EVENT_CANCEL, plan->job);
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
        customer_say(world, customer, EVENT_FREE, plan->job);
    }
    customer_plan_over(world, plan);
}

static void hears_rejected(struct world *world, struct customer *customer, const struct sched_action *action)
{
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (plan->key != action->key_lo || plan->owner != customer->number || plan->over) {
            continue;
        }
        if ((plan->other == NULL || action->code != ENOENT) && !plan->damaged) {
            world_fail(world, "a submit was rejected with code %d", action->code);
        }
        plan->rejected = true;
        // A job that was refused more layers ends, and says so.
        if (action->range.job == 0) {
            customer_plan_over(world, plan);
        }
    }
}

// What may have gone wrong with a task of it, or of a job that it reads.
static bool may_have(const struct world *world, const struct plan *plan, int code)
{
    if ((code == EINVAL && plan->has_poison) ||
        (code == ENOENT && plan->has_sources && world->files_mode > 0) ||
        (code == ENOTRECOVERABLE && world->killers) ||
        (code == ECANCELED && (plan->cancelled_some || plan->cancelled))) {
        return true;
    }
    if (code == ENOENT && plan->other != NULL && plan->piece > 0) {
        return true; // it may be refused more layers
    }
    return plan->other != NULL && may_have(world, plan->other, code);
}

static bool may_fail(const struct world *world, const struct plan *plan, const struct sched_action *action)
{
    if (action->state == JOB_CANCELLED) {
        return plan->cancelled;
    }
    if (plan->damaged && (action->code == EINVAL || action->code == ENOENT || action->code == EIO)) {
        return true; // layers of it are missing, or a job that it reads
    }
    // A refusal that was not written down is an end after a restart.
    if (world->options.mortal && plan->other != NULL && action->code == ENOENT) {
        return true;
    }
    // It was refused more layers, whether or not that was heard.
    if (plan->rejected || (plan->other != NULL && plan->piece > 0 && action->code == ENOENT)) {
        return true;
    }
    if (plan->other != NULL && may_have(world, plan->other, action->code)) {
        return true;
    }
    if (action->code == ENOENT) {
        return plan->has_sources && world->files_mode > 0;
    }
    if (action->code == ENOTRECOVERABLE) {
        return world->killers;
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
    if (plan->has_poison && plan->failures_max == 0 && !plan->cancelled_some) {
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

        if (!(plan->other != NULL && may_have(world, plan->other, action->code)) &&
            !(action->code == EINVAL && plan->doomed[l][i]) &&
            !(action->code == ECANCELED && plan->cancelled_some) &&
            !(action->code == ENOTRECOVERABLE && world->killers)) {
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

    if (plan != NULL && action->type == ACTION_REJECTED && action->code == EBUSY &&
        plan->owner != customer->number) {
        return; // taken over
    }
    if (plan != NULL && action->type == ACTION_REJECTED && action->code == ENOENT && action->key_lo == 0 &&
        customer->here) {
        if (plan->job == action->range.job) {
            customer_gone(world, customer, plan);
        }
        return;
    }
    if (customer->here && action->type == ACTION_REJECTED) {
        hears_rejected(world, customer, action);
        return;
    }
    if (!customer->here || plan == NULL || plan->over) {
        return;
    }
    if (plan->owner != customer->number) {
        // On its way while somebody else had the job, who may have given it back before the end arrives.
        for (uint32_t n = 0; action->type == ACTION_RESULT && n < action->range.count; n++) {
            plan->said[action->range.layer][action->range.first + n] = true;
        }
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
    } else if (action->type == ACTION_ACCEPTED) {
        plan->accepted = customer->number + 1;
        plan->accepted_as = action->range.job;
        extend_begin(world, customer, plan);
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
    if ((!world->options.mortal || world->frees) && random_percent(&world->random, 20)) {
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
        plan->freed[l][i] = true;
        world_send_broker(world, customer->link, release);
    }
    if (plan->ended && has_all(plan, plan->got)) {
        finish(world, customer, plan);
    }
}
