/* A program that calls the example plugin: pi from many tasks, their mean by one more, on the cluster.
 *
 *   cc call.c $(pkg-config --cflags --libs dray) -o call
 *   ./call tcp://127.0.0.1:8786 */
#include <dray.h>
#include <dray_task.h>

#include <stdio.h>
#include <stdlib.h>

enum { TASKS = 100 };

static void check(int rc, const char *what, const struct dray_error *error)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, error->text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const struct dray_pool_options options = {.size = sizeof(options), .name = "pi"};
    struct dray_task points = {
        .size = sizeof(points), .kind = DRAY_TASK_CALL, .plugin = "stats", .function = "pi"};
    struct dray_task sum = {
        .size = sizeof(sum), .kind = DRAY_TASK_CALL, .plugin = "stats", .function = "sum"};
    struct dray_future part[TASKS], total;
    struct dray_gathered result;
    struct dray_error error;
    dray_pool_t *pool;
    dray_t *dray;

    check(dray_connect(argc > 1 ? argv[1] : NULL, NULL, &dray, &error), "connect", &error);
    check(dray_pool_open(dray, &options, &pool, &error), "pool", &error);
    points.argument.data = "1000000";
    points.argument.size = 7;
    check(dray_map(pool, &points, NULL, TASKS, &part[0], &error), "map", &error);
    for (uint32_t i = 1; i < TASKS; i++) {
        part[i] = part[0];
        part[i].index = i;
    }
    sum.input = part;
    sum.inputs = TASKS;
    check(dray_submit(pool, &sum, &total, &error), "submit", &error);
    check(dray_gather(dray, &total, 1, 60000, &result, &error), "gather", &error);
    printf("pi is about %.4f\n", dray_load_double(result.value[0].data) / TASKS);
    dray_gathered_free(&result);
    dray_pool_close(pool);
    dray_close(dray);
    return 0;
}
