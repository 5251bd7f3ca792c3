#include "worker/kernel/project.h"

#include "worker/kernel/expr.h"

struct project {
    struct stage stage;
    struct expr **expr;
    struct vector *vector;
};

static int project_open(struct stage *stage, const Dray__Step *step, const struct schema *in,
                        struct error *err)
{
    struct project *project = (struct project *)stage;
    const Dray__Project *message = step->project;
    uint32_t columns = (uint32_t)message->n_column;

    project->expr = arena_array(stage->arena, columns, sizeof(*project->expr));
    project->vector = arena_array(stage->arena, columns, sizeof(*project->vector));
    if (project->expr == NULL || project->vector == NULL ||
        schema_create(&stage->schema, columns, stage->arena) < 0) {
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < columns; i++) {
        const Dray__Named *named = message->column[i];
        int rc = expr_open(named->expr, in, stage->arena, &project->expr[i], err);

        if (rc < 0) {
            error_prefix(err, "column '%.200s': ", named->name);
            return rc;
        }
        stage->schema.name[i] = named->name;
        stage->schema.type[i] = expr_type(project->expr[i]);
    }
    return 0;
}

static int project_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct project *project = (struct project *)stage;
    struct batch out = *batch;

    out.columns = stage->schema.columns;
    out.column = project->vector;
    for (uint32_t i = 0; i < out.columns; i++) {
        int rc = expr_eval(project->expr[i], batch, &project->vector[i], err);

        if (rc < 0) {
            error_prefix(err, "project: column '%.200s': ", stage->schema.name[i]);
            return rc;
        }
    }
    return stage_push(stage->next, &out, err);
}

const struct stage_class project_stage = {
    .name = "project",
    .open = project_open,
    .push = project_push,
    .size = sizeof(struct project),
};
