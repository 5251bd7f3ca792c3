#include "worker/kernel/kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "worker/kernel/collect.h"
#include "worker/kernel/step.h"

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

int kernel_cancelled(const struct kernel_env *env, struct error *err)
{
    if (env->deadline_ns != 0 && now_ns() > env->deadline_ns) {
        return error_set(err, ETIMEDOUT, "it took longer than its timeout");
    }
    if (env->cancelled != NULL && atomic_load_explicit(env->cancelled, memory_order_relaxed)) {
        return error_set(err, ECANCELED, "cancelled");
    }
    return 0;
}

struct pipeline {
    struct arena arena;
    size_t stages;
    struct stage **stage; // the last one collects
    uint64_t taken;       // of the budget, for the arena
};

static int open_stage(struct pipeline *p, const struct stage_class *class, const Dray__Step *step,
                      const struct schema *in, struct kernel_env *env, struct error *err)
{
    struct stage *stage = arena_zalloc(&p->arena, class->size);

    if (stage == NULL) {
        return error_no_memory(err);
    }
    stage->class = class;
    stage->env = env;
    stage->arena = &p->arena;
    if (p->stages > 0) {
        p->stage[p->stages - 1]->next = stage;
    }
    p->stage[p->stages++] = stage;

    int rc = class->open(stage, step, in, err);

    if (rc < 0) {
        error_prefix(err, "%s: ", class->name);
    }
    return rc;
}

static int open_pipeline(struct pipeline *p, const Dray__Op *op, struct schema *schema,
                         struct kernel_env *env, struct error *err)
{
    const struct schema *in = schema;

    p->stage = arena_array(&p->arena, op->n_step, sizeof(*p->stage));
    if (p->stage == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 1; i < op->n_step; i++) {
        const Dray__Step *step = op->step[i];
        const struct stage_class *class = step_class((enum step_kind)step_kind(step))->stage;
        int rc = class != NULL ? open_stage(p, class, step, in, env, err)
                               : error_set(err, EINVAL, "step %zu is not one that takes rows", i);

        if (rc < 0) {
            return rc;
        }
        in = &p->stage[p->stages - 1]->schema;
    }
    int rc = open_stage(p, &collect_stage, NULL, in, env, err);

    // The stages' fixed buffers; what grows with the data is taken as it grows.
    if (rc == 0 && env->budget != NULL) {
        rc = budget_take(env->budget, p->arena.used, "a task", err);
        p->taken = rc == 0 ? p->arena.used : 0;
    }
    return rc;
}

static int run_rows(const Dray__Op *op, const struct source_class *source, uint32_t index,
                    const struct kernel_inputs *inputs, struct kernel_env *env, struct partition **out,
                    struct error *err)
{
    struct pipeline p = {0};
    struct schema schema = {0};
    int rc;

    arena_init(&p.arena, 0);
    rc = source->schema(op->step[0], index, inputs, env, &p.arena, &schema, err);
    if (rc == 0) {
        rc = open_pipeline(&p, op, &schema, env, err);
    }
    if (rc == 0) {
        rc = source->run(op->step[0], index, inputs, env, &p.arena, p.stage[0], err);
    }
    for (size_t i = 0; rc >= 0 && i < p.stages; i++) {
        const struct stage *stage = p.stage[i];

        rc = kernel_cancelled(env, err);
        if (rc == 0 && stage->class->finish != NULL) {
            rc = stage->class->finish(p.stage[i], err);
        }
    }
    if (rc >= 0) {
        *out = partition_from_table(collect_take(p.stage[p.stages - 1]));
        rc = *out != NULL ? 0 : error_no_memory(err);
    }
    for (size_t i = 0; i < p.stages; i++) {
        if (p.stage[i]->class->close != NULL) {
            p.stage[i]->class->close(p.stage[i]);
        }
    }
    if (env->budget != NULL) {
        budget_give(env->budget, p.taken);
    }
    arena_fini(&p.arena);
    return rc;
}

static int run_maker(const Dray__Op *op, const struct maker_class *maker, uint32_t index,
                     const struct kernel_inputs *inputs, struct kernel_env *env, struct partition **out,
                     struct error *err)
{
    struct arena arena;
    int rc;

    if (op->n_step != 1) {
        return error_set(err, EINVAL, "%s makes no rows for the steps after it", maker->name);
    }
    arena_init(&arena, 0);
    rc = maker->make(op->step[0], index, inputs, env, &arena, out, err);
    arena_fini(&arena);
    return rc;
}

int kernel_run(const Dray__Op *op, uint32_t index, const struct kernel_inputs *inputs, struct kernel_env *env,
               struct partition **out, struct error *err)
{
    int kind = op->n_step > 0 ? step_kind(op->step[0]) : -1;

    for (size_t i = 0; i < op->n_step; i++) {
        if (step_kind(op->step[i]) < 0) {
            return error_set(err, EINVAL, "step %zu is not one that this worker knows", i);
        }
    }
    if (kind >= 0) {
        const struct step_class *class = step_class((enum step_kind)kind);

        if (class->maker != NULL) {
            return run_maker(op, class->maker, index, inputs, env, out, err);
        }
        if (class->source != NULL) {
            return run_rows(op, class->source, index, inputs, env, out, err);
        }
    }
    return error_set(err, EINVAL, "the operation does not start with a source");
}

void *kernel_scratch_create(void)
{
    return calloc(1, sizeof(struct kernel_scratch));
}

void kernel_scratch_destroy(void *pointer)
{
    struct kernel_scratch *scratch = pointer;

    if (scratch != NULL) {
        csv_scratch_destroy(scratch->csv);
        free(scratch);
    }
}
