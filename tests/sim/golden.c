#include "tests/sim/golden.h"

#include <stdlib.h>
#include <string.h>

#include "broker/core/sched.h"
#include "tests/sim/build.h"

struct story {
    struct sched *sched;
    struct sched_actions actions;
    uint64_t now;
    FILE *out;
};

static void happen(struct story *story, struct sched_event *event)
{
    event->now_us = story->now += 10;
    fprintf(story->out, "[%4llu] ", (unsigned long long)event->now_us);
    sched_event_print(event, story->out);
    fputc('\n', story->out);
    if (sched_step(story->sched, event, 1, &story->actions) < 0) {
        abort();
    }
    for (size_t k = 0; k < story->actions.count; k++) {
        fprintf(story->out, "         -> ");
        sched_action_print(&story->actions.action[k], story->out);
        fputc('\n', story->out);
    }
    sched_check(story->sched);
}

static void join(struct story *story, uint32_t worker, uint32_t threads, bool shared)
{
    static const char *const name[] = {"", "ant", "bee", "cat"};
    struct sched_event event = {.type = EVENT_WORKER_JOINED};

    event.u.joined.worker = worker;
    event.u.joined.threads = threads;
    event.u.joined.shared_files = shared;
    event.u.joined.name = name[worker];
    happen(story, &event);
}

static void reads(struct story *story, uint32_t worker, const char *name)
{
    struct sched_event event = {.type = EVENT_SOURCES};

    event.u.sources.worker = worker;
    event.u.sources.count = 1;
    event.u.sources.name = &name;
    event.u.sources.path = &name;
    happen(story, &event);
}

static void lose(struct story *story, uint32_t worker)
{
    struct sched_event event = {.type = EVENT_WORKER_LEFT};

    event.u.left.worker = worker;
    event.u.left.why = "no heartbeat for 5 s";
    happen(story, &event);
}

static void client(struct story *story, enum sched_event_type type)
{
    struct sched_event event = {.type = type, .u.client = {100}};

    happen(story, &event);
}

static void submit(struct story *story, struct build *build)
{
    struct sched_event event = {.type = EVENT_SUBMIT};

    event.u.submit.client = 100;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(build);
    happen(story, &event);
}

static void done(struct story *story, uint32_t worker, uint32_t layer, uint32_t first, uint32_t count)
{
    struct sched_event event = {.type = EVENT_TASKS_DONE};
    struct task_range range = {1, layer, first, count};
    uint64_t bytes[16] = {0};

    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = bytes;
    happen(story, &event);
}

static void give_back(struct story *story, uint32_t worker, uint32_t layer, uint32_t first, uint32_t count)
{
    struct sched_event event = {.type = EVENT_TASKS_DROPPED};
    struct task_range range = {1, layer, first, count};

    event.u.dropped.worker = worker;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &range;
    happen(story, &event);
}

static void of_job(struct story *story, enum sched_event_type type)
{
    struct sched_event event = {.type = type};

    event.u.job.client = 100;
    event.u.job.job = 1;
    happen(story, &event);
}

// ---- stories -------------------------------------------------------------------------------

static void worker_lost(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, build_layer(&build, 1), 1, DRAY__PATTERN__FAN_IN, 4);
    build_wanted(&build, 2);
    join(story, 1, 1, true);
    join(story, 2, 1, true);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    done(story, 1, 0, 0, 1);
    done(story, 2, 0, 2, 1);
    done(story, 1, 1, 0, 1);
    done(story, 2, 0, 3, 1);
    done(story, 2, 1, 2, 1);
    fputs("Its partitions and what it had queued: t0.0 was released, but t1.0 needs it again.\n", story->out);
    lose(story, 1);
    done(story, 2, 1, 3, 1);
    done(story, 2, 0, 0, 1);
    done(story, 2, 0, 1, 1);
    done(story, 2, 1, 0, 1);
    done(story, 2, 1, 1, 1);
    done(story, 2, 2, 0, 1);
    of_job(story, EVENT_FREE);
    build_fini(&build);
}

static void source_restriction(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 6);
    build_source(&build, 0, "sales.csv", 0, 3);
    build_source(&build, 0, "stock.csv", 3, 3);
    build_wanted(&build, 0);
    join(story, 1, 2, false);
    join(story, 2, 2, false);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    fputs("Nobody has said yet what there is to read.\n", story->out);
    reads(story, 1, "sales.csv");
    reads(story, 2, "stock.csv");
    done(story, 1, 0, 0, 3);
    fputs("w1 has nothing left that it can read; when w2 goes, nobody has stock.csv.\n", story->out);
    lose(story, 2);
    build_fini(&build);
}

static void cancel(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 100);
    build_wanted(&build, 0);
    join(story, 1, 2, true);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    done(story, 1, 0, 0, 1);
    of_job(story, EVENT_CANCEL);
    fputs("What was under way comes too late.\n", story->out);
    done(story, 1, 0, 1, 1);
    client(story, EVENT_CLIENT_LEFT);
    build_fini(&build);
}

static void steal(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 6);
    build_wanted(&build, 0);
    join(story, 1, 2, true);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    fputs("w2 finds nothing to do: half of what w1 has not started comes back.\n", story->out);
    join(story, 2, 2, true);
    give_back(story, 1, 0, 4, 2);
    done(story, 2, 0, 4, 2);
    fputs("And again one is asked back; it has been started by then, so it is done where it is.\n",
          story->out);
    done(story, 1, 0, 0, 2);
    done(story, 1, 0, 2, 2);
    of_job(story, EVENT_FREE);
    build_fini(&build);
}

static void diamond(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, build_layer(&build, 2), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_layer(&build, 2);
    build_input(&build, 3, 1, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, 3, 2, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 3);
    join(story, 1, 1, true);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    fputs("Later layers come first, and the top is released when both sides have read it.\n", story->out);
    done(story, 1, 0, 0, 1);
    done(story, 1, 0, 1, 1);
    done(story, 1, 2, 0, 1);
    done(story, 1, 1, 0, 1);
    done(story, 1, 3, 0, 1);
    done(story, 1, 2, 1, 1);
    done(story, 1, 1, 1, 1);
    done(story, 1, 3, 1, 1);
    of_job(story, EVENT_FREE);
    build_fini(&build);
}

// As done, with how long they took.
static void done_in(struct story *story, uint32_t worker, uint32_t layer, uint32_t first, uint32_t count,
                    uint64_t busy_us)
{
    struct sched_event event = {.type = EVENT_TASKS_DONE};
    struct task_range range = {1, layer, first, count};
    uint64_t bytes[16] = {0};

    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = bytes;
    event.u.done.busy_us = busy_us;
    happen(story, &event);
}

static void ahead(struct story *story)
{
    struct build build;

    build_init(&build);
    build_layer(&build, 12);
    for (uint32_t l = 1; l < 4; l++) {
        build_input(&build, build_layer(&build, 12), l - 1, DRAY__PATTERN__WINDOW, 1);
    }
    build_wanted(&build, 3);
    join(story, 1, 1, true);
    join(story, 2, 1, true);
    client(story, EVENT_CLIENT_JOINED);
    submit(story, &build);
    fputs("0.1 ms each: there is room for all, and what follows from a worker's own tasks is given to it\n"
          "before they are done.\n",
          story->out);
    done_in(story, 1, 0, 0, 2, 200);
    done_in(story, 2, 0, 6, 3, 300);
    fputs("What lies between the two is ready when both are done, and the rest follows from that.\n",
          story->out);
    done_in(story, 2, 0, 9, 3, 300);
    done_in(story, 1, 0, 2, 4, 400);
    fputs("A task could not have its input and comes back; what waits for it comes back unasked.\n",
          story->out);
    give_back(story, 2, 2, 8, 1);
    give_back(story, 2, 3, 9, 1);
    lose(story, 2);
    build_fini(&build);
}

static const struct {
    const char *name;
    void (*tell)(struct story *);
    bool ahead;
} stories[] = {
    {"worker_lost", worker_lost, false}, {"source_restriction", source_restriction, false},
    {"cancel", cancel, false},           {"steal", steal, false},
    {"diamond", diamond, false},         {"ahead", ahead, true},
};

bool golden_tell(const char *name, FILE *out)
{
    for (size_t k = 0; k < sizeof(stories) / sizeof(*stories); k++) {
        struct story story = {.out = out};
        struct sched_options options;

        if (strcmp(stories[k].name, name) != 0) {
            continue;
        }
        sched_options_default(&options);
        options.ahead = stories[k].ahead;
        story.sched = sched_create(&options);
        if (story.sched == NULL) {
            abort();
        }
        sched_actions_init(&story.actions);
        stories[k].tell(&story);
        sched_destroy(story.sched);
        sched_actions_fini(&story.actions);
        return true;
    }
    return false;
}

void golden_list(FILE *out)
{
    for (size_t k = 0; k < sizeof(stories) / sizeof(*stories); k++) {
        fprintf(out, "%s\n", stories[k].name);
    }
}
