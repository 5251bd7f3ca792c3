#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    TICK_US = 5000,
    MUTE_TICKS = 3,
    END_OF_TIME = 60 * 1000 * 1000,
    HOSTS_WANTED = 4,
    LEAVE_AFTER_US = 50000
};

void world_fail(const struct world *world, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "seed %" PRIu64 " at %" PRIu64 " us: ", world->options.seed, world->now);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nsee it with: sim --trace %" PRIu64 "\n", world->options.seed);
    abort();
}

// ---- chaos ------------------------------------------------------------------------------------------

static uint32_t living(const struct world *world)
{
    uint32_t count = 0;

    for (uint32_t h = 0; h < world->hosts; h++) {
        count += world->host[h]->alive ? 1 : 0;
    }
    return count;
}

static void start_random(struct world *world)
{
    bool shared = world->files_mode == 0 || (world->files_mode == 1 && random_percent(&world->random, 50));

    if (world->hosts < HOSTS_MAX) {
        host_start(world, random_below(&world->random, 1 << PLAN_FILES), shared,
                   !world->options.faults && world->hosts == 0);
    }
}

static struct host *pick_host(struct world *world)
{
    struct host *host = world->hosts > 0 ? world->host[random_below(&world->random, world->hosts)] : NULL;

    return host != NULL && host->alive ? host : NULL;
}

static void chaos(struct world *world)
{
    struct host *host = pick_host(world);
    uint32_t what = random_below(&world->random, 10);

    if (world->options.mortal && mortal_chaos(world)) {
        // That is enough.
    } else if (world->options.apart && apart_chaos(world)) {
        // That, too.
    } else if (world->options.leaving) {
        if (host != NULL && what < 4) {
            host_leave(world, host);
        } else if (living(world) < HOSTS_WANTED + 2) {
            start_random(world);
        }
    } else if (world->options.rot && host != NULL && !host->paused && random_percent(&world->random, 40)) {
        host_rot(world, host);
    } else if (world->options.wide && host != NULL && random_percent(&world->random, 20)) {
        host_leave(world, host);
    } else if (host != NULL && what < 3) {
        host_die(world, host);
        for (uint32_t h = 0; world->sched_options.moment_us > 0 && h < world->hosts;
             h++) { // all of them at once
            host_die(world, world->host[h]);
        }
    } else if (host != NULL && what < 6 && host->link != NULL) {
        struct letter *letter = letter_new(LETTER_HOST_CUT_OFF);

        letter->host = host;
        letter->link = host->link;
        world_cut(world, host->link);
        world_post(world, letter, world_delay(world) * (random_percent(&world->random, 30) ? 20 : 1));
    } else if (what < 9 && living(world) < HOSTS_WANTED + 2) {
        start_random(world);
    }
    if (world->now < world->chaos_until) {
        world_post(world, letter_new(LETTER_CHAOS), random_below(&world->random, 4000) + 1);
    }
}

static bool is_able(const struct host *host)
{
    bool able = !host->leaving && host->labels == (1U << PLAN_LABELS) - 1;

    for (int k = 0; k < PLAN_RESOURCES; k++) {
        able = able && host->amount[k] >= AMOUNT_MAX;
    }
    return able;
}

// After the chaos there is a host that can do everything.
static void rescue(struct world *world)
{
    bool fine = false;

    for (uint32_t h = 0; h < world->hosts; h++) {
        fine = fine || (world->host[h]->alive && world->host[h]->shared && is_able(world->host[h]));
    }
    // What was over may be done once more by a broker that was not told.
    if (!fine && world->hosts < HOSTS_MAX && (world->options.mortal || !world->closing)) {
        host_start(world, (1 << PLAN_FILES) - 1, true, true);
    }
}

// What there is to say of those that are not over.
static void say_jobs(const struct world *world)
{
    for (uint32_t p = 0; p < world->plans; p++) {
        const struct plan *plan = &world->plan[p];
        struct sched_job info;

        if (plan->over) {
            continue;
        }
        fprintf(stderr, "plan %u of customer %u%s%s%s%s: ", p, plan->owner,
                plan->submitted ? "" : ", not submitted", plan->detached ? ", detached" : "",
                plan->piece > 0 ? ", growing" : "", plan->ended ? ", done" : "");
        if (sched_job_info(world->sched, plan->job, &info) == 0) {
            fprintf(stderr,
                    "j%u in state %d, client %u, %u layers, %" PRIu64 " of %" PRIu64 " tasks done%s%s\n",
                    plan->job, (int)info.state, info.client, info.layers, info.done, info.tasks,
                    info.waiting[0] != '\0' ? ": " : "", info.waiting);
        } else {
            fprintf(stderr, "no job %u\n", plan->job);
        }
    }
}

// A job that is not over has tasks at workers or says why it has none.
static void check_reasons(struct world *world)
{
    uint32_t number[64];
    size_t count = world->sched != NULL ? sched_jobs(world->sched, 0, number, 64) : 0;

    for (size_t k = 0; k < count; k++) {
        struct sched_job info;
        bool runs = false;

        if (number[k] >= JOBS_MAX || sched_job_info(world->sched, number[k], &info) < 0) {
            continue;
        }
        for (uint32_t l = 0; l < info.layers && info.state <= JOB_RUNNING; l++) {
            struct sched_layer layer;

            runs = runs || (sched_layer_info(world->sched, number[k], l, &layer) == 0 && layer.in[3] > 0);
        }
        if (info.state > JOB_RUNNING || runs || info.waiting[0] != '\0') {
            world->mute[number[k]] = 0;
        } else if (++world->mute[number[k]] > MUTE_TICKS) {
            world_fail(world, "job %u neither runs nor says why", number[k]);
        }
    }
}

static void tick(struct world *world)
{
    struct letter *letter;

    if (world->closing && (!world->options.mortal || mortal_is_over(world))) {
        return;
    }
    if (world->now > END_OF_TIME) {
        say_jobs(world);
        world_fail(world, "a job neither ends nor goes on");
    }
    if (world->now >= world->chaos_until) {
        rescue(world);
    }
    check_reasons(world);
    for (uint32_t h = 0; h < world->hosts; h++) {
        if (world->host[h]->alive && !world->host[h]->paused) {
            host_tick(world, world->host[h]);
        }
    }
    letter = letter_new(LETTER_TO_BROKER);
    letter->event.type = EVENT_TICK;
    broker_hears(world, letter);
    world_post(world, letter_new(LETTER_TICK), TICK_US);
}

// ---- from beginning to end -----------------------------------------------------------------------------

void world_check_over(struct world *world)
{
    for (uint32_t p = 0; p < world->plans; p++) {
        if (!world->plan[p].over) {
            return;
        }
    }
    if (!world->closing) {
        // What they have still sent arrives before they go.
        world->closing = true;
        world->closing_at = world->now;
        for (uint32_t c = 0; c < world->customers; c++) {
            struct letter *letter = letter_new(LETTER_LEAVE);

            letter->customer = &world->customer[c];
            world_post(world, letter, LEAVE_AFTER_US);
        }
        // A detached job whose client left before its last word got through waits for anybody.
        for (uint32_t job = 1; job < JOBS_MAX; job++) {
            struct letter *letter;

            if (world->job_plan[job] == 0) {
                continue;
            }
            for (uint32_t n = world->plan[world->job_plan[job] - 1].keeps; n > 0; n--) {
                letter = letter_new(LETTER_TO_BROKER);
                letter->event.type = EVENT_KEEP;
                letter->event.u.attach.client = FIRST_CUSTOMER;
                letter->event.u.attach.job = job;
                world_post(world, letter, 2 * LEAVE_AFTER_US);
            }
            if (world->options.mortal) {
                continue; // there it has an end by itself
            }
            letter = letter_new(LETTER_TO_BROKER);

            letter->event.type = EVENT_FREE;
            letter->event.u.job.job = job;
            world_post(world, letter, 2 * LEAVE_AFTER_US);
        }
    }
}

void world_handle(struct world *world, struct letter *letter)
{
    bool arrives = letter->link == NULL || letter->link->up;

    if (host_misses(world, letter)) {
        return;
    }
    switch (letter->type) {
    case LETTER_TO_BROKER:
        // What the broker finds out by itself has no link.
        if (arrives) {
            broker_hears(world, letter);
            return;
        }
        break;
    case LETTER_TO_HOST:
        if (arrives && letter->link->host->alive) {
            host_events(world, letter->link->host, letter->events, letter->count);
        }
        break;
    case LETTER_TO_CUSTOMER:
        if (arrives) {
            customer_hears(world, letter->link->customer, &letter->action);
        }
        break;
    case LETTER_BROKER_TURN:
        broker_turn(world);
        break;
    case LETTER_TASK_OVER:
        host_task_over(world, letter);
        break;
    case LETTER_FETCH_ASKED:
        host_fetch_asked(world, letter);
        break;
    case LETTER_FETCH_OVER:
        host_fetch_over(world, letter);
        break;
    case LETTER_RESULT_ASKED:
        customer_result_asked(world, letter);
        break;
    case LETTER_RESULT_OVER:
        customer_result_over(world, letter);
        break;
    case LETTER_HOST_START:
        start_random(world);
        break;
    case LETTER_HOST_CUT_OFF:
        if (letter->host->alive && letter->host->link == letter->link) {
            struct agent_event gone = {.type = AGENT_DISCONNECTED};
            struct letter *back = letter_new(LETTER_HOST_CONNECT);

            letter->host->link = NULL;
            host_events(world, letter->host, &gone, 1);
            back->host = letter->host;
            world_post(world, back, world_delay(world));
        }
        break;
    case LETTER_HOST_CONNECT:
        if (letter->host->alive) {
            host_connect(world, letter->host);
        }
        break;
    case LETTER_SUBMIT:
        customer_submit(world, letter);
        break;
    case LETTER_EXTEND:
        customer_extend(world, letter);
        break;
    case LETTER_ATTACH:
        customer_attach(world, letter);
        break;
    case LETTER_WHIM:
        customer_whim(world, letter->customer);
        break;
    case LETTER_LEAVE:
        customer_leave(world, letter->customer);
        break;
    case LETTER_CHAOS:
        chaos(world);
        break;
    case LETTER_TICK:
        tick(world);
        break;
    case LETTER_DETOUR:
    case LETTER_RELAY_ASKED:
    case LETTER_RELAY_PASSED:
    case LETTER_RELAY_PIECE:
    case LETTER_RELAY_OVER:
        apart_handle(world, letter);
        break;
    default:
        mortal_handle(world, letter);
        break;
    }
    letter_free(letter);
}

// It, or one that it reads, was refused more layers.
static bool is_cut_short(const struct plan *plan)
{
    return (plan->rejected && plan->job != 0) || (plan->other != NULL && is_cut_short(plan->other));
}

// What was released before a job grew may be needed again, of that job and of those that it reads.
static bool runs_again(const struct world *world, const struct plan *plan)
{
    bool again = plan->piece > 0;

    for (uint32_t p = 0; p < world->plans; p++) {
        again = again || (world->plan[p].piece > 0 && world->plan[p].other != NULL);
    }
    return again;
}

// Without faults nothing is lost, whoever leaves.
static void check_recomputed(struct world *world, const struct sched_counts *counts)
{
    bool again = world->options.faults || world->options.mortal;

    for (uint32_t p = 0; p < world->plans; p++) {
        again = again || runs_again(world, &world->plan[p]);
    }
    if (counts->recomputed > 0 && !again) {
        world_fail(world, "%" PRIu64 " tasks were done again", counts->recomputed);
    }
}

static void check_left_overs(struct world *world)
{
    struct sched_counts counts;

    sched_counts(world->sched, &counts);
    apart_check_over(world);
    if (world->options.counts != NULL) {
        world->options.counts->second_runs += counts.second_runs;
    }
    check_recomputed(world, &counts);
    if (counts.jobs + counts.tasks + counts.partitions + counts.tasks_assigned + counts.clients > 0) {
        world_fail(world,
                   "the broker is left with %" PRIu64 " jobs, %" PRIu64 " tasks, %" PRIu64 " partitions",
                   counts.jobs, counts.tasks, counts.partitions);
    }
    for (uint32_t h = 0; h < world->hosts; h++) {
        struct host *host = world->host[h];
        struct agent_counts mine;

        if (!host->alive) {
            continue;
        }
        agent_counts(host->agent, &mine);
        if (mine.queued + mine.running + mine.fetching + mine.partitions + host->store.count > 0) {
            world_fail(world,
                       "host %u is left with %u queued, %u running, %" PRIu64 " partitions (%zu stored)", h,
                       mine.queued, mine.running, mine.partitions, host->store.count);
        }
    }
    for (uint32_t p = 0; p < world->plans && !world->options.faults && !world->options.mortal; p++) {
        const struct plan *plan = &world->plan[p];
        bool again = runs_again(world, plan);

        // One that was refused more layers has run as far as it came.
        for (uint32_t l = 0; !is_cut_short(plan) && l < plan->graph->n_layer; l++) {
            for (uint32_t i = 0; i < plan->graph->layer[l]->tasks; i++) {
                uint32_t once = plan->needed[l][i] && !plan->rejected ? 1U + plan->failed[l][i] : 0;

                // What takes long may run a second time.
                again = again || world->options.slow;
                if (again && once > 0 ? plan->runs[l][i] < once : plan->runs[l][i] != once) {
                    world_fail(world, "t%u.%u of plan %u ran %u times", l, i, p, plan->runs[l][i]);
                }
            }
        }
    }
}

static void begin_jobs(struct world *world)
{
    struct plan_shape shape = {
        .layers_max = random_between(&world->random, 1, 8),
        .tasks_max = random_percent(&world->random, 10) ? 100 : 16,
        .sources = random_percent(&world->random, 40),
        .poison = world->options.faults && random_percent(&world->random, 20),
        .killer = world->killers,
        .wide = world->options.wide,
    };

    world->plans = random_between(&world->random, 1, 4);
    for (uint32_t p = 0; p < world->plans; p++) {
        struct letter *letter = letter_new(LETTER_SUBMIT);

        if (shape.wide) {
            shape.other = p > 0 && random_percent(&world->random, 60)
                              ? &world->plan[random_below(&world->random, p)]
                              : NULL;
        }
        plan_random(&world->plan[p], &world->random, &shape);
        for (uint32_t l = 0; world->options.slow && l < world->plan[p].build.graph.n_layer; l++) {
            Dray__Layer *layer = world->plan[p].build.layer[l];

            layer->has_speculate = layer->speculate = random_percent(&world->random, 80);
        }
        world->plan[p].key = 100 + p;
        letter->number = p;
        letter->customer = p > 0 && random_percent(&world->random, 40)
                               ? &world->customer[world->customers - 1]
                               : customer_join(world);
        world_post(world, letter, random_below(&world->random, 3000) + 1);
    }
}

static void begin(struct world *world)
{
    struct random *random = &world->random;
    struct sched_options options;
    bool faults = world->options.faults;

    world->next_peer = 1;
    world->threads_max = random_between(random, 1, 4);
    world->delay_max = random_percent(random, 30) ? 1000 : 60;
    world->duration_max = random_percent(random, 30) ? 3000 : 200;
    world->depth = random_between(random, 0, 4);
    world->files_mode = faults ? random_below(random, 3) : 0;
    world->killers = faults && random_percent(random, 10);
    world->chaos_until = faults || world->options.leaving ? random_below(random, 60000) : 0;
    sched_options_default(&options);
    options.ahead = world->options.seed % 3 != 0;
    options.queue_depth = world->depth;
    options.attempts_max = world->killers ? 3 : 1000;
    // Without a draw: worlds stay as they were.
    options.moment_us =
        world->killers && world->options.seed % 2 == 0 ? 100 + world->options.seed % 7 * 500 : 0;
    options.progress_us = 2000;
    options.straggler_us = world->options.slow ? 300 : 0;
    world->sched_options = options;
    if (world->options.mortal) {
        mortal_begin(world);
        options = world->sched_options;
    }
    if (world->options.apart) {
        apart_begin(world);
    }
    world->sched = must(sched_create(&options));
    sched_actions_init(&world->actions);
    for (uint32_t h = random_between(random, faults ? 0 : 1, 5); h > 0; h--) {
        world_post(world, letter_new(LETTER_HOST_START), random_below(random, 2000));
    }
    begin_jobs(world);
    if (world->options.tight) {
        tight_begin(world);
    }
    if (faults || world->options.leaving) {
        world_post(world, letter_new(LETTER_CHAOS), 500);
    }
    world_post(world, letter_new(LETTER_TICK), 1);
}

static void end(struct world *world)
{
    mortal_end(world);
    sched_destroy(world->sched);
    sched_actions_fini(&world->actions);
    for (uint32_t h = 0; h < world->hosts; h++) {
        host_free(world->host[h]);
    }
    for (uint32_t l = 0; l < world->links; l++) {
        free(world->link[l]);
    }
    for (uint32_t p = 0; p < world->plans; p++) {
        plan_fini(&world->plan[p]);
    }
    free(world->heap);
    free(world->inbox);
    free(world);
}

void world_run(const struct world_options *options)
{
    struct world *world = must(calloc(1, sizeof(*world)));

    world->options = *options;
    world->random.state = options->seed * 0x9e3779b97f4a7c15U;
    begin(world);
    while (world->letters > 0) {
        struct letter *letter = world_next(world);

        world->now = letter->at;
        world_handle(world, letter);
    }
    if (!world->closing) {
        world_fail(world, "nothing happens any more");
    }
    check_left_overs(world);
    if (world->options.mortal) {
        mortal_check(world);
    }
    end(world);
}
