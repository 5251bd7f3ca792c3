// A customer that lost the broker, and comes back: it takes its jobs up again and repeats what may have got
// lost.
#include "tests/sim/world.h"

#include <errno.h>
#include <inttypes.h>

void customer_cut_off(struct world *world, struct letter *notice)
{
    struct customer *customer = notice->customer;
    struct letter *letter;

    if (!customer->here || customer->link != notice->link) {
        return;
    }
    letter = letter_new(LETTER_CUSTOMER_CONNECT);
    letter->customer = customer;
    // Some are in no hurry.
    bool slow = world->options.faults && random_percent(&world->random, 10);

    world_post(world, letter, random_below(&world->random, slow ? 100000 : 3000) + 1);
}

void customer_not_heard(struct world *world, struct customer *customer)
{
    struct letter *letter = letter_new(LETTER_CUSTOMER_CUT_OFF);

    customer->link->up = false;
    letter->customer = customer;
    letter->link = customer->link;
    world_post(world, letter, 1);
}

// What it has freed of its results, once more.
static void free_again(struct world *world, struct customer *customer, const struct plan *plan)
{
    struct task_range *range = NULL;
    size_t ranges = 0;
    struct letter *letter;

    for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
        for (uint32_t i = 0; i < plan->graph->layer[l]->tasks; i++) {
            if (plan->freed[l][i]) {
                range = must(realloc(range, (ranges + 1) * sizeof(*range)));
                range[ranges++] = (struct task_range){plan->job, l, i, 1};
            }
        }
    }
    if (ranges == 0) {
        return;
    }
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_FREE;
    letter->event.u.job.client = customer->link->peer;
    letter->event.u.job.job = plan->job;
    letter->event.u.job.ranges = ranges;
    letter->event.u.job.range = range;
    world_send_broker(world, customer->link, letter);
}

static void take_up(struct world *world, struct customer *customer, struct plan *plan)
{
    bool accepted = plan->accepted == customer->number + 1 && plan->accepted_as == plan->job;
    struct letter *letter;

    plan->ended = false;
    if (!accepted || random_percent(&world->random, 20) ||
        (plan->piece > 0 && plan->extender != customer->number + 1)) {
        customer_say_submit(world, customer, plan);
    } else {
        letter = letter_new(LETTER_TO_BROKER);
        letter->event.type = EVENT_ATTACH;
        letter->event.u.attach.client = customer->link->peer;
        letter->event.u.attach.job = plan->job;
        letter->event.u.attach.again = true;
        world_send_broker(world, customer->link, letter);
    }
    if (accepted) {
        free_again(world, customer, plan);
    }
    if (accepted && plan->piece > 0 && plan->extender == customer->number + 1) {
        plan->sent = plan->safe;
        customer_extend_later(world, customer, plan);
    }
    if (plan->cancelled && accepted && random_percent(&world->random, 50)) {
        customer_say(world, customer, EVENT_CANCEL, plan->job);
    }
}

void customer_connect(struct world *world, struct customer *customer)
{
    struct letter *letter;

    if (!customer->here) {
        return;
    }
    if (world->down) {
        letter = letter_new(LETTER_CUSTOMER_CONNECT);
        letter->customer = customer;
        world_post(world, letter, random_below(&world->random, 2000) + 1);
        return;
    }
    customer->link = world_link(world);
    customer->link->customer = customer;
    customer->link->peer = world->next_client++;
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_CLIENT_JOINED;
    letter->event.u.client.client = customer->link->peer;
    world_send_broker(world, customer->link, letter);
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (plan->submitted && !plan->over && plan->owner == customer->number) {
            take_up(world, customer, plan);
        }
    }
}

void customer_extended(struct world *world, const struct letter *letter)
{
    struct plan *plan = world_plan(world, letter->number);

    if (letter->customer->here && plan != NULL && plan->owner == letter->customer->number &&
        plan->extends == letter->number && plan->safe < letter->value) {
        plan->safe = (uint32_t)letter->value;
    }
}

// The broker does not know it: only who was away for long may hear so.
void customer_gone(struct world *world, struct customer *customer, struct plan *plan)
{
    const struct sched_options *options = &world->sched_options;
    uint64_t patience = options->orphan_us < options->ttl_us ? options->orphan_us : options->ttl_us;

    if (plan->over || plan->owner != customer->number) {
        return;
    }
    if (world->now - plan->had_at < patience && !plan->damaged) {
        world_fail(world, "j%u, which was accepted, is gone after %" PRIu64 " us", plan->job,
                   world->now - plan->had_at);
    }
    customer_plan_over(world, plan);
}
