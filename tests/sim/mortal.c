// Worlds in which the broker dies and is made anew from its ledger: the ledger's commits, the gate before it,
// what comes of all links then; hosts that are paused.
#include "tests/sim/world.h"

#include <errno.h>
#include <inttypes.h>

enum {
    LAZY_US = 3000,         // until what nobody waits for is durable
    COMMIT_US = 400,        // that a commit takes at most
    NOTE_PERCENT = 3,       // of reports that have something for the ledger
    PATIENCE = 300000,      // of brokers where nobody is late
    SWEPT_US = 200000,      // after the end, all that customers still had to say has been heard
    LEFT_OVER_US = 5000000, // and what they left behind has gone
    BROKEN_PERMILLE = 3,    // of messages that come twice, or not in order: that ends their session
    DAMAGE_PERCENT = 10,    // of ledgers that lose an entry from amidst them
};

// ---- the ledger -----------------------------------------------------------------------------

static void commit_in(struct world *world, uint64_t delay)
{
    struct letter *letter = letter_new(LETTER_COMMIT);

    letter->number = ++world->commit;
    world_post(world, letter, delay);
}

// Somebody waits for what is written by now.
static void commit_soon(struct world *world)
{
    if (!world->committing) {
        world->committing = true;
        world->writing = world->ledger.count;
        commit_in(world, random_between(&world->random, 20, COMMIT_US));
    }
}

static void write_down(struct world *world, const struct entry *entry)
{
    bool idle = !world->committing && world->ledger.count == world->ledger.durable;

    ledger_add(&world->ledger, entry);
    if (idle) {
        commit_in(world, LAZY_US);
    }
}

static void gate_open(struct world *world, struct link *link, bool *waiting)
{
    struct letter *letter;

    while ((letter = link->gate) != NULL && letter->waits_for <= world->ledger.durable) {
        link->gate = letter->next;
        link->gate_last = link->gate == NULL ? &link->gate : link->gate_last;
        broker_reads(world, letter);
    }
    *waiting = *waiting || link->gate != NULL;
}

// That a submit was refused is said when it cannot be taken as accepted any more.
void mortal_hold(struct world *world, struct letter *letter)
{
    letter->waits_for = world->ledger.count;
    letter->next = world->held;
    world->held = letter;
    commit_soon(world);
}

static void send_held(struct world *world, bool *waiting)
{
    struct letter **at = &world->held;

    while (*at != NULL) {
        struct letter *letter = *at;

        if (letter->waits_for <= world->ledger.durable) {
            *at = letter->next;
            world_post_in_order(world, letter, &letter->link->from_broker);
        } else {
            at = &letter->next;
            *waiting = true;
        }
    }
}

static void commit_over(struct world *world, const struct letter *letter)
{
    bool waiting = false;

    if (letter->number != world->commit || world->down) {
        return;
    }
    world->ledger.durable = world->committing ? world->writing : world->ledger.count;
    world->committing = false;
    for (uint32_t l = 0; l < world->links; l++) {
        gate_open(world, world->link[l], &waiting);
    }
    send_held(world, &waiting);
    if (waiting) {
        commit_soon(world);
    } else if (world->ledger.durable < world->ledger.count) {
        commit_in(world, LAZY_US);
    }
}

// Both ends notice, each in its time.
static void cut_off(struct world *world, struct link *link)
{
    struct letter *letter = letter_new(link->host != NULL ? LETTER_HOST_CUT_OFF : LETTER_CUSTOMER_CUT_OFF);

    letter->host = link->host;
    letter->customer = link->customer;
    letter->link = link;
    world_post(world, letter, world_delay(world) * (random_percent(&world->random, 20) ? 20 : 1));
}

// ---- the gate -----------------------------------------------------------------------------------

static void gate_add(struct link *link, struct letter *letter, size_t waits_for)
{
    letter->waits_for = waits_for;
    letter->next = NULL;
    *link->gate_last = letter;
    link->gate_last = &letter->next;
}

static void pass(struct world *world, struct link *link, struct letter *letter)
{
    letter->read = true;
    if (link->gate != NULL) {
        gate_add(link, letter, 0);
    } else {
        broker_reads(world, letter);
    }
}

static bool is_same_peer(const struct link *a, const struct link *b)
{
    return a != b && a->life == b->life && a->host == b->host && a->customer == b->customer;
}

// A process that is known comes with a new connection: the old one is over, after all that came over it.
static void replace(struct world *world, struct link *link)
{
    for (uint32_t l = 0; l < world->links; l++) {
        struct link *old = world->link[l];
        struct letter *letter;

        if (!is_same_peer(old, link)) {
            continue;
        }
        // Even when its end is known: that may be what waits.
        if (old->gate != NULL) {
            *link->gate_last = old->gate;
            link->gate_last = old->gate_last;
            old->gate = NULL;
            old->gate_last = &old->gate;
        }
        if (!old->heard || old->left) {
            continue;
        }
        old->left = true;
        letter = letter_new(LETTER_TO_BROKER);
        letter->about = old;
        letter->event.type = old->host != NULL ? EVENT_WORKER_LEFT : EVENT_CLIENT_LEFT;
        if (old->host != NULL) {
            letter->event.u.left.worker = old->peer;
            letter->event.u.left.why = "it has connected anew";
        } else {
            letter->event.u.client.client = old->peer;
        }
        pass(world, link, letter);
    }
}

static size_t layers_of(const Dray__Graph *graph)
{
    return graph != NULL ? graph->n_layer : 0;
}

static void write_submit(struct world *world, struct sched_event *event)
{
    struct entry entry = {.type = ENTRY_SUBMIT};

    for (uint32_t p = 0; p < world->plans; p++) {
        entry.plan = world->plan[p].key == event->u.submit.key_lo ? &world->plan[p] : entry.plan;
    }
    event->u.submit.number = entry.job = ledger_number(&world->ledger);
    entry.count = (uint32_t)layers_of(event->u.submit.graph);
    entry.open = event->u.submit.open;
    write_down(world, &entry);
}

static void write_extend(struct world *world, const struct sched_event *event)
{
    struct entry entry = {.type = ENTRY_EXTEND, .plan = world_plan(world, event->u.extend.job)};

    entry.job = event->u.extend.job;
    entry.first = event->u.extend.first_layer;
    entry.count = (uint32_t)layers_of(event->u.extend.graph);
    entry.last = event->u.extend.last;
    write_down(world, &entry);
}

bool mortal_gate(struct world *world, struct letter *letter)
{
    struct link *link = letter->about != NULL ? letter->about : letter->link;
    struct sched_event *event = &letter->event;

    if (link == NULL) {
        return false;
    }
    if (link->life != world->life || (letter->about != NULL && link->left)) {
        letter_free(letter); // of a broker that is no more, or known already
        return true;
    }
    if (world->options.faults && world->now < world->chaos_until && letter->about == NULL && link->heard &&
        random_below(&world->random, 1000) < BROKEN_PERMILLE) {
        cut_off(world, link);
        world_cut(world, link);
        letter_free(letter);
        return true;
    }
    letter->read = true;
    if (letter->about != NULL) {
        link->left = true;
    } else if (event->type == EVENT_WORKER_JOINED || event->type == EVENT_CLIENT_JOINED) {
        link->heard = true;
        replace(world, link);
    } else if (event->type == EVENT_SUBMIT) {
        write_submit(world, event);
    } else if (event->type == EVENT_EXTEND) {
        write_extend(world, event);
    } else if (event->type == EVENT_TASKS_DONE && random_percent(&world->random, NOTE_PERCENT)) {
        write_down(world, &(struct entry){.type = ENTRY_NOTE});
    } else {
        pass(world, link, letter);
        return true;
    }
    if (event->type == EVENT_SUBMIT || event->type == EVENT_EXTEND || event->type == EVENT_TASKS_DONE) {
        gate_add(link, letter, world->ledger.count);
        commit_soon(world);
    } else {
        pass(world, link, letter);
    }
    return true;
}

// ---- a turn of the broker -------------------------------------------------------------------------

void mortal_reads(struct world *world, const struct letter *letter)
{
    const struct sched_event *event = &letter->event;
    const struct link *link = letter->about != NULL ? letter->about : letter->link;
    struct entry entry = {.type = ENTRY_WORKER};

    if (event->type == EVENT_WORKER_JOINED || event->type == EVENT_WORKER_LEFT) {
        entry.incarnation = link->host->number + 1;
        entry.name = "some";
        entry.there = event->type == EVENT_WORKER_JOINED;
        write_down(world, &entry);
    } else if (event->type == EVENT_KEEP) {
        entry.type = ENTRY_KEEP;
        entry.job = event->u.attach.job;
        entry.keep = event->u.attach.keep;
        write_down(world, &entry);
    }
}

// Who has the job now, if somebody has.
static void follow_owner(struct world *world, struct plan *plan, uint32_t job)
{
    struct sched_job info;
    const struct customer *customer;

    if (plan == NULL || sched_job_info(world->sched, job, &info) < 0 || info.client == 0) {
        return;
    }
    customer = world_link_of(world, info.client)->customer;
    if (plan->owner != customer->number) {
        plan->owner = customer->number;
        plan->accepted = customer->number + 1;
        plan->accepted_as = job;
        // What it had sent came late, while another one had the job.
        if (!customer->here && !plan->over) {
            customer_bequeath(world, plan);
        }
    }
    plan->ended = false;
}

static void note_had(struct world *world)
{
    struct sched_job info;

    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        if (sched_job_info(world->sched, plan->job, &info) == 0 && info.client != 0 &&
            world_link_of(world, info.client)->up) {
            plan->had_at = world->now;
        }
    }
}

static void tell_extended(struct world *world, const struct sched_event *event)
{
    struct link *link = world_link_of(world, event->u.extend.client);
    struct sched_job info;
    struct letter *letter;

    if (sched_job_info(world->sched, event->u.extend.job, &info) == 0) {
        letter = letter_new(LETTER_EXTENDED);
        letter->link = link;
        letter->customer = link->customer;
        letter->number = event->u.extend.job;
        letter->value = info.layers;
        world_post_in_order(world, letter, &link->from_broker);
    }
}

static void write_records(struct world *world)
{
    for (size_t k = 0; k < world->actions.count; k++) {
        const struct sched_action *action = &world->actions.action[k];

        if (action->type == ACTION_RECORD && action->record == RECORD_WORKER_GONE) {
            write_down(world, &(struct entry){.type = ENTRY_WORKER, .incarnation = action->key_lo});
        } else if (action->type == ACTION_RECORD) {
            write_down(world,
                       &(struct entry){.type = ENTRY_RECORD, .job = action->range.job, .record = *action});
        }
    }
}

void mortal_step_over(struct world *world, const struct sched_event *events, size_t count)
{
    write_records(world);
    for (size_t k = 0; k < world->actions.count; k++) {
        const struct sched_action *action = &world->actions.action[k];

        for (uint32_t p = 0; action->type == ACTION_ACCEPTED && p < world->plans; p++) {
            if (world->plan[p].key == action->key_lo) {
                follow_owner(world, &world->plan[p], action->range.job);
            }
        }
    }
    for (size_t k = 0; k < count; k++) {
        if (events[k].type == EVENT_ATTACH) {
            follow_owner(world, world_plan(world, events[k].u.attach.job), events[k].u.attach.job);
        } else if (events[k].type == EVENT_EXTEND) {
            tell_extended(world, &events[k]);
        }
    }
    note_had(world);
}

// ---- death and life ---------------------------------------------------------------------------------

static void forget_letters(struct world *world)
{
    for (size_t k = 0; k < world->inbox_count; k++) {
        letter_free(world->inbox[k]);
    }
    world->inbox_count = 0;
    while (world->held != NULL) {
        struct letter *letter = world->held;

        world->held = letter->next;
        letter_free(letter);
    }
    for (uint32_t l = 0; l < world->links; l++) {
        struct link *link = world->link[l];

        while (link->gate != NULL) {
            struct letter *letter = link->gate;

            link->gate = letter->next;
            letter_free(letter);
        }
        link->gate_last = &link->gate;
    }
}

static void die(struct world *world)
{
    struct ledger *ledger = &world->ledger;
    size_t kept;

    if (world->down || world->closing) {
        return;
    }
    kept = random_between(&world->random, (uint32_t)ledger->durable, (uint32_t)ledger->count);
    if (world->options.trace != NULL) {
        fprintf(world->options.trace,
                "[%7" PRIu64 "] the broker dies: of %zu entries %zu were durable, %zu are left\n", world->now,
                ledger->count, ledger->durable, kept);
    }
    if (world->options.counts != NULL) {
        world->options.counts->deaths++;
        world->options.counts->lost += ledger->count - kept;
    }
    for (size_t k = kept; k < ledger->count; k++) {
        world->stranger = world->stranger || ledger->entry[k].type == ENTRY_WORKER;
    }
    ledger_cut(ledger, kept);
    forget_letters(world);
    apart_broker_dies(world);
    sched_destroy(world->sched);
    world->sched = NULL;
    world->actions.count = 0;
    world->down = true;
    world->committing = false;
    world->commit++;
    for (uint32_t l = 0; l < world->links; l++) {
        if (world->link[l]->up) {
            cut_off(world, world->link[l]);
            world->link[l]->up = false;
        }
    }
    world_post(world, letter_new(LETTER_BROKER_STARTS),
               random_below(&world->random, random_percent(&world->random, 20) ? 40000 : 3000) + 1);
}

static void restore(struct world *world, const struct sched_event *events, size_t count)
{
    if (sched_step(world->sched, events, count, &world->actions) < 0) {
        world_fail(world, "the scheduler is out of memory");
    }
    if (world->options.trace != NULL) {
        world_trace(world, events, count);
    }
    sched_check(world->sched);
    for (size_t k = 0; k < world->actions.count; k++) {
        if (world->actions.action[k].type != ACTION_RECORD) {
            world_fail(world, "somebody is told something before anybody is there");
        }
    }
    write_records(world);
}

// Numbers that were given to jobs that are there.
static void find_jobs(struct world *world)
{
    struct sched_job info;

    for (size_t k = 0; k < world->ledger.count; k++) {
        const struct entry *entry = &world->ledger.entry[k];

        if (entry->type == ENTRY_SUBMIT && sched_job_info(world->sched, entry->job, &info) == 0) {
            entry->plan->job = entry->job;
            world->job_plan[entry->job] = (uint32_t)(entry->plan - world->plan) + 1;
        }
    }
}

// One entry cannot be read any more.  What it was about is left as if it had not been.
static void damage(struct world *world)
{
    struct entry *entry =
        ledger_remove(&world->ledger, random_below(&world->random, (uint32_t)world->ledger.count));

    if (world->options.trace != NULL) {
        fprintf(world->options.trace, "          an entry of type %d on job %u is lost\n", (int)entry->type,
                entry->job);
    }
    for (uint32_t p = 0; p < world->plans; p++) {
        struct plan *plan = &world->plan[p];

        // Of the job, and of those that read it.
        plan->damaged = plan->damaged || plan == entry->plan || (plan->other != NULL && plan->other->damaged);
    }
}

// Some of those who died meanwhile are seen to have, as on the broker's own host; for the others it waits.
static void see_dead(struct world *world, const struct sched_event *expect)
{
    uint64_t number = expect->u.expect.incarnation - 1; // see mortal_reads
    struct sched_event event = *expect;

    event.u.expect.gone = true;
    if (number < world->hosts && !world->host[number]->alive && (world->now + number) % 2 == 0) {
        restore(world, &event, 1);
    }
}

static void start(struct world *world)
{
    struct sched_event *events;
    size_t count;
    size_t at = 0;

    if (random_percent(&world->random, 50)) {
        ledger_compact(&world->ledger);
    }
    if (world->options.faults && world->ledger.count > 0 && random_percent(&world->random, DAMAGE_PERCENT)) {
        damage(world);
    }
    world->sched = must(sched_create(&world->sched_options));
    world->down = false;
    world->life++;
    if (world->options.trace != NULL) {
        fprintf(world->options.trace, "[%7" PRIu64 "] the broker starts\n", world->now);
    }
    events = ledger_events(&world->ledger, &count);
    for (size_t k = 0; k < count; k++) {
        events[k].now_us = world->now;
    }
    while (at < count) {
        size_t some = random_between(&world->random, 1, (uint32_t)(count - at));

        restore(world, events + at, some);
        at += some;
    }
    for (size_t k = 0; k < count; k++) {
        if (events[k].type == EVENT_SUBMIT) {
            free((void *)(uintptr_t)events[k].u.submit.graph);
        } else if (events[k].type == EVENT_EXTEND) {
            free((void *)(uintptr_t)events[k].u.extend.graph);
        }
    }
    restore(world, &(struct sched_event){.type = EVENT_TICK, .now_us = world->now}, 1);
    for (size_t k = 0; k < count && events[k].type == EVENT_EXPECT; k++) {
        see_dead(world, &events[k]);
    }
    free(events);
    find_jobs(world);
}

// ---- what else may happen ---------------------------------------------------------------------------

bool host_misses(struct world *world, struct letter *letter)
{
    struct host *host = letter->host;

    if (letter->type == LETTER_TO_HOST || letter->type == LETTER_RELAY_PASSED ||
        letter->type == LETTER_RELAY_OVER) {
        host = letter->link->host;
    } else if (letter->type == LETTER_FETCH_ASKED || letter->type == LETTER_RESULT_ASKED) {
        host = world_holder(world, letter->number);
    } else if (letter->type == LETTER_HOST_GOES_ON) {
        host = NULL;
    }
    if (host == NULL || !host->paused) {
        return false;
    }
    letter->next = NULL;
    *host->missed_last = letter;
    host->missed_last = &letter->next;
    return true;
}

static void pause(struct world *world, struct host *host)
{
    struct letter *letter = letter_new(LETTER_HOST_GOES_ON);

    host->paused = true;
    host->missed_last = &host->missed;
    letter->host = host;
    if (host->link != NULL && random_percent(&world->random, 60)) { // it is taken to be lost
        cut_off(world, host->link);
        world_cut(world, host->link);
    }
    world_post(world, letter, random_below(&world->random, 30000) + 1);
}

static void go_on(struct world *world, struct host *host)
{
    struct letter *letter = host->missed;

    host->paused = false;
    host->missed = NULL;
    while (letter != NULL) {
        struct letter *next = letter->next;

        world_handle(world, letter);
        letter = next;
    }
}

bool mortal_chaos(struct world *world)
{
    struct host *host = world->hosts > 0 ? world->host[random_below(&world->random, world->hosts)] : NULL;
    struct customer *customer = &world->customer[random_below(&world->random, world->customers)];
    uint32_t what = random_below(&world->random, 10);

    if (what < 2 && host != NULL && host->alive && !host->paused) {
        pause(world, host);
        return true;
    }
    if (what < 4 && customer->here && customer->link->up) {
        cut_off(world, customer->link);
        world_cut(world, customer->link);
        return true;
    }
    return false;
}

void mortal_handle(struct world *world, struct letter *letter)
{
    switch (letter->type) {
    case LETTER_BROKER_DIES:
        die(world);
        break;
    case LETTER_BROKER_STARTS:
        start(world);
        break;
    case LETTER_COMMIT:
        commit_over(world, letter);
        break;
    case LETTER_EXTENDED:
        if (letter->link->up) {
            customer_extended(world, letter);
        }
        break;
    case LETTER_CUSTOMER_CUT_OFF:
        customer_cut_off(world, letter);
        break;
    case LETTER_CUSTOMER_CONNECT:
        customer_connect(world, letter->customer);
        break;
    case LETTER_HOST_GOES_ON:
        go_on(world, letter->host);
        break;
    default:
        world_fail(world, "a letter of type %d", (int)letter->type);
    }
}

// ---- beginning and end --------------------------------------------------------------------------------

void mortal_begin(struct world *world)
{
    struct random *random = &world->random;
    struct sched_options *options = &world->sched_options;
    bool faults = world->options.faults;

    world->next_client = FIRST_RETURN;
    world->frees = faults || random_percent(random, 50);
    options->records = true;
    options->orphan_us = options->recover_us = options->ttl_us = PATIENCE;
    if (faults && random_percent(random, 40)) {
        options->orphan_us = random_below(random, 20000) + 1;
        options->recover_us = random_below(random, 20000);
        options->ttl_us = random_below(random, 50000) + 1;
    }
    for (uint32_t n = random_between(random, 1, 4); n > 0; n--) {
        world_post(world, letter_new(LETTER_BROKER_DIES),
                   random_below(random, random_percent(random, 50) ? 8000 : 60000) + 1);
    }
}

bool mortal_is_over(const struct world *world)
{
    struct sched_counts counts = {.jobs = 1};

    if (!world->down) {
        sched_counts(world->sched, &counts);
    }
    return world->now > world->closing_at + (counts.jobs > 0 ? LEFT_OVER_US : SWEPT_US);
}

// Begun again although it had not failed.
static uint64_t more_of(const struct plan *plan, uint32_t l)
{
    uint64_t more = 0;

    for (uint32_t i = 0; i < plan->graph->layer[l]->tasks; i++) {
        uint32_t once = 1U + plan->failed[l][i];

        more += plan->runs[l][i] > once ? plan->runs[l][i] - once : 0;
    }
    return more;
}

static bool is_wanted(const struct plan *plan)
{
    bool wanted = false;

    for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
        wanted = wanted || plan->graph->layer[l]->wanted;
    }
    return wanted;
}

// Where only the broker dies and all come back whom it knew, nothing is done twice: but for what nobody
// waited for and was not written down, and what is needed again because more was asked for.
void mortal_check(const struct world *world)
{
    bool strict = !world->options.faults && !world->frees && !world->stranger;

    for (uint32_t p = 0; p < world->plans; p++) {
        const struct plan *plan = &world->plan[p];

        strict = strict && plan->piece == 0 && plan->other == NULL;
    }
    for (uint32_t p = 0; p < world->plans; p++) {
        const struct plan *plan = &world->plan[p];

        for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
            uint64_t more = more_of(plan, l);

            if (strict && !world->options.slow && more > 0 && is_wanted(plan)) {
                world_fail(world, "tasks of t%u of plan %u were begun %" PRIu64 " times more than once", l, p,
                           more);
            }
            for (uint32_t i = 0; world->options.counts != NULL && i < plan->graph->layer[l]->tasks; i++) {
                world->options.counts->runs += plan->runs[l][i];
            }
            if (world->options.counts != NULL) {
                world->options.counts->more += more;
            }
        }
    }
}

void mortal_end(struct world *world)
{
    ledger_fini(&world->ledger);
}
