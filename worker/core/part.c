// Partitions: held, on their way, needed.
#include "worker/core/state.h"

#include <stdlib.h>
#include <string.h>

struct part *part_find(const struct agent *agent, uint32_t job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&agent->parts, key_hash(job, layer, index));

    for (; node != NULL; node = hash_next(node)) {
        struct part *part = hash_entry(node, struct part, node);

        if (part->key.job == job && part->key.layer == layer && part->key.index == index) {
            return part;
        }
    }
    return NULL;
}

static void join_job(struct agent_job *job, struct part *part)
{
    part->job = job;
    part->job_prev = job->part_tail;
    if (job->part_tail != NULL) {
        job->part_tail->job_next = part;
    } else {
        job->part_head = part;
    }
    job->part_tail = part;
}

void part_enter(struct agent *agent, struct agent_job *job, struct task_key key, struct part *part)
{
    part->key = key;
    join_job(job, part);
    hash_add(&agent->parts, &part->node, key_hash(key.job, key.layer, key.index));
    agent->copies++;
    part_check(agent, part);
}

struct part *part_get(struct agent *agent, struct agent_job *job, struct task_key key)
{
    struct part *part = part_find(agent, key.job, key.layer, key.index);

    if (part != NULL) {
        if (part->job == NULL) {
            join_job(job, part);
        }
        return part;
    }
    part = calloc(1, sizeof(*part));
    if (part != NULL) {
        part_enter(agent, job, key, part);
    }
    return part;
}

static void leave_job(struct part *part)
{
    if (part->job == NULL) {
        return;
    }
    if (part->job_prev != NULL) {
        part->job_prev->job_next = part->job_next;
    } else {
        part->job->part_head = part->job_next;
    }
    if (part->job_next != NULL) {
        part->job_next->job_prev = part->job_prev;
    } else {
        part->job->part_tail = part->job_prev;
    }
    part->job = NULL;
    part->job_prev = part->job_next = NULL;
}

void part_leave_line(struct agent *agent, struct part *part)
{
    if (!part->in_line) {
        return;
    }
    if (part->line_prev != NULL) {
        part->line_prev->line_next = part->line_next;
    } else {
        agent->line_head = part->line_next;
    }
    if (part->line_next != NULL) {
        part->line_next->line_prev = part->line_prev;
    } else {
        agent->line_tail = part->line_prev;
    }
    part->line_prev = part->line_next = NULL;
    part->in_line = false;
}

static void join_line(struct agent *agent, struct part *part)
{
    if (part->in_line) {
        return;
    }
    part->line_prev = agent->line_tail;
    if (agent->line_tail != NULL) {
        agent->line_tail->line_next = part;
    } else {
        agent->line_head = part;
    }
    agent->line_tail = part;
    part->in_line = true;
}

static void leave_check(struct agent *agent, struct part *part)
{
    if (!part->in_check) {
        return;
    }
    if (part->check_prev != NULL) {
        part->check_prev->check_next = part->check_next;
    } else {
        agent->check_head = part->check_next;
    }
    if (part->check_next != NULL) {
        part->check_next->check_prev = part->check_prev;
    } else {
        agent->check_tail = part->check_prev;
    }
    part->check_prev = part->check_next = NULL;
    part->in_check = false;
}

void part_destroy(struct agent *agent, struct part *part)
{
    leave_check(agent, part);
    part_leave_line(agent, part);
    leave_job(part);
    hash_remove(&agent->parts, &part->node);
    agent->copies -= part->own ? 0 : 1;
    free(part);
}

void part_check(struct agent *agent, struct part *part)
{
    if (part->in_check) {
        return;
    }
    part->in_check = true;
    part->check_prev = agent->check_tail;
    if (agent->check_tail != NULL) {
        agent->check_tail->check_next = part;
    } else {
        agent->check_head = part;
    }
    agent->check_tail = part;
}

void part_hold(struct agent *agent, struct part *part, uint64_t bytes, bool own)
{
    if (own && !part->own) {
        part->own = true;
        agent->copies--;
    }
    part->bytes = bytes;
    if (!part->held) {
        part->held = true;
        agent->held++;
        for (struct need *need = part->needs; need != NULL; need = need->next) {
            task_found(agent, need->task);
        }
    }
    part_leave_line(agent, part);
    part_check(agent, part);
}

void part_drop(struct agent *agent, struct part *part)
{
    if (part->own) {
        part->own = false;
        agent->copies++;
    }
    part->sticky = false;
    if (part->held) {
        part->held = false;
        agent->held--;
        action_push(agent, AGENT_FREE, part->key);
        for (struct need *need = part->needs; need != NULL; need = need->next) {
            task_missed(agent, need->task);
        }
    }
    part_check(agent, part);
}

// Nobody knows where it is: the broker has to find out, for every task that waits for it.
static void report_missing(struct agent *agent, struct part *part)
{
    struct need *need = part->needs;

    while (need != NULL) {
        struct task *task = need->task;

        need = need->next;
        // The same task may need it twice.
        while (need != NULL && need->task == task) {
            need = need->next;
        }
        if (task->state == AGENT_TASK_QUEUED) {
            struct agent_action *action = action_push(agent, AGENT_REPORT_FAILED, task->key);

            action->missing_input = true;
            action->missing = part->key;
            action->worker = part->fetch_from;
            action->text = "an input could not be fetched";
            task_destroy(agent, task);
        }
    }
    part->fetch_from = 0;
}

static void settle(struct agent *agent, struct part *part)
{
    bool lacking = part->waiting > 0 && !part->held && !part->fetching;

    if (lacking && part->located) {
        join_line(agent, part);
        return;
    }
    part_leave_line(agent, part);
    if (lacking) {
        report_missing(agent, part);
    }
    if (part->needs != NULL) {
        return;
    }
    if (part->held && !part->own && !part->sticky) {
        part->held = false;
        agent->held--;
        action_push(agent, AGENT_FREE, part->key);
    }
    if (!part->held && !part->fetching) {
        part_destroy(agent, part);
    }
}

void parts_settle(struct agent *agent)
{
    while (agent->check_head != NULL) {
        struct part *part = agent->check_head;

        leave_check(agent, part);
        settle(agent, part);
    }
}

void parts_fetch(struct agent *agent)
{
    while (agent->line_head != NULL && agent->fetching < agent->options.fetches_max) {
        struct part *part = agent->line_head;

        part_leave_line(agent, part);
        part->fetching = true;
        part->fetch_from = part->location;
        agent->fetching++;
        action_push(agent, AGENT_FETCH, part->key)->worker = part->location;
    }
}
