// A played cluster (tests/unit/sched_play.h) whose scheduler is made anew from what was recorded.  Include
// after cmocka.h.
#ifndef DRAY_TESTS_UNIT_RECOVERY_PLAY_H
#define DRAY_TESTS_UNIT_RECOVERY_PLAY_H

#include "tests/unit/sched_play.h"

enum { RECOVER_US = 5000, ORPHAN_US = 1000 };

static inline void begin(struct play *play)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = 2;
    options.records = true;
    options.orphan_us = ORPHAN_US;
    options.recover_us = RECOVER_US;
    play_begin_with(play, &options);
}

static inline void expect(struct play *play, uint64_t incarnation, const char *name)
{
    struct sched_event event = event_of(play, EVENT_EXPECT);

    event.u.expect.incarnation = incarnation;
    event.u.expect.name = name;
    assert_int_equal(step(play, &event), 0);
}

static inline void restore_submit(struct play *play, struct build *build, uint32_t number, bool detached)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.number = number;
    event.u.submit.key_lo = number;
    event.u.submit.detached = detached;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static inline void restore_tasks(struct play *play, enum restore_state over, struct task_range range)
{
    struct sched_event event = event_of(play, EVENT_RESTORE_TASKS);

    event.u.restore.over = over;
    event.u.restore.range = range;
    if (over == RESTORE_FAILED) {
        event.u.restore.code = EINVAL;
        event.u.restore.text = "no such column";
        event.u.restore.worker_name = "ant";
    }
    assert_int_equal(step(play, &event), 0);
}

static inline void restore_job(struct play *play, uint32_t job, enum job_state state, bool given_up)
{
    struct sched_event event = event_of(play, EVENT_RESTORE_JOB);

    event.u.restore.range.job = job;
    event.u.restore.state = state;
    event.u.restore.given_up = given_up;
    event.u.restore.layer_at = event.u.restore.index_at = UINT32_MAX;
    event.u.restore.submitted_us = 5;
    if (state == JOB_FAILED) {
        event.u.restore.code = EINVAL;
        event.u.restore.text = "no such column";
        event.u.restore.layer_at = 0;
        event.u.restore.index_at = 3;
        event.u.restore.worker_name = "ant";
    }
    assert_int_equal(step(play, &event), 0);
    assert_null(find(play, ACTION_RECORD, 0));
}

static inline void come_back(struct play *play, uint32_t worker, uint64_t incarnation)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = 1;
    event.u.joined.shared_files = true;
    event.u.joined.name = "one";
    event.u.joined.incarnation = incarnation;
    assert_int_equal(step(play, &event), 0);
}

// All that it holds, and what it is still to do.
static inline void say_all(struct play *play, uint32_t worker, const struct task_range *add, size_t adds,
                           const struct task_range *has, size_t hases)
{
    struct sched_event event = holding_of(play, worker, true, add, adds);

    event.u.holding.has = has;
    event.u.holding.hases = hases;
    assert_int_equal(step(play, &event), 0);
}

static inline void attach(struct play *play, uint32_t job)
{
    struct sched_event event = event_of(play, EVENT_ATTACH);

    event.u.attach.client = CLIENT;
    event.u.attach.job = job;
    assert_int_equal(step(play, &event), 0);
}

static inline void free_job(struct play *play, uint32_t job)
{
    struct sched_event event = event_of(play, EVENT_FREE);

    event.u.job.client = CLIENT;
    event.u.job.job = job;
    assert_int_equal(step(play, &event), 0);
}

// A scenario whose job 1 is this one, of so many tasks, from its beginning ...
static inline void begin_restored(struct play *play, struct build *build, uint32_t tasks, bool detached)
{
    begin(play);
    flat(build, tasks);
    restore_submit(play, build, 1, detached);
}

// ... to its end.
static inline void end(struct play *play, struct build *build)
{
    free_job(play, 1);
    build_fini(build);
    play_end(play);
}

static inline const char *waiting(struct play *play, uint32_t job)
{
    static struct sched_job info;

    assert_int_equal(sched_job_info(play->sched, job, &info), 0);
    return info.waiting;
}

#endif
