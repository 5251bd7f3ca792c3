/* A pool of small tasks.
 *
 *   cc pool.c $(pkg-config --cflags --libs dray) -o pool
 *   dray-broker & dray-worker tcp://localhost:8786 &
 *   ./pool tcp://localhost:8786
 *
 * The tasks here only count: each makes a number, 1 + its index + the numbers of its inputs.  For work of
 * your own give a plugin's function (DRAY_TASK_CALL, .plugin, .function, see dray_task.h) or a command
 * (DRAY_TASK_COMMAND, .argv); the rest stays as it is. */
#include <dray.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS = 10000, MANY = 64 };

static void check(int rc, const char *what, const struct dray_error *error)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, error->text);
        exit(1);
    }
}

static uint64_t number(struct dray_bytes bytes)
{
    uint64_t value = 0;

    if (bytes.size == sizeof(value)) {
        memcpy(&value, bytes.data, sizeof(value));
    }
    return value;
}

/* Many at once, and their results in the order in which they become ready. */
static void as_completed(dray_t *dray, dray_pool_t *pool)
{
    const struct dray_task task = {.size = sizeof(task), .kind = DRAY_TASK_COUNT, .name = "many"};
    struct dray_future first; /* the i-th is {first.job, first.layer, i} */
    struct dray_error error;
    struct dray_event event;
    uint64_t sum = 0;
    size_t done = 0;

    check(dray_map(pool, &task, NULL, TASKS, &first, &error), "map", &error);
    while (done < TASKS) {
        check(dray_wait(dray, -1, &error), "wait", &error);
        while (dray_next(dray, &event, &error) == 1) {
            if (event.type == DRAY_PARTITION) {
                sum += number(event.value);
                done++;
            } else if (event.type == DRAY_TASK_FAILED || event.type == DRAY_FAILED) {
                check(-1, "task", &event.error);
            }
        }
    }
    printf("%zu results, sum %llu\n", done, (unsigned long long)sum);
    /* Nobody needs them any more: the workers free them. */
    for (struct dray_future f = first; f.index < TASKS; f.index++) {
        check(dray_release_futures(dray, &f, 1, &error), "release", &error);
    }
}

/* One by one, with what was made before as input: a tree that adds 64 numbers from here. */
static void tree(dray_t *dray, dray_pool_t *pool)
{
    struct dray_future node[2 * MANY];
    struct dray_error error;
    struct dray_gathered all;
    uint64_t expected = 0;
    size_t nodes = 0;

    for (uint64_t i = 0; i < MANY; i++) {
        check(dray_scatter(pool, &i, sizeof(i), &node[nodes++], &error), "scatter", &error);
        expected += i;
    }
    for (size_t next = 0; next + 1 < nodes; next += 2) {
        const struct dray_task task = {
            .size = sizeof(task),
            .kind = DRAY_TASK_COUNT,
            .name = "add",
            .input = &node[next],
            .inputs = 2,
        };

        check(dray_submit(pool, &task, &node[nodes], &error), "submit", &error);
        expected += 1 + (uint64_t)node[nodes].index;
        nodes++;
    }
    check(dray_gather(dray, &node[nodes - 1], 1, 60000, &all, &error), "gather", &error);
    printf("tree of %zu tasks, %s\n", nodes, number(all.value[0]) == expected ? "as expected" : "wrong");
    dray_gathered_free(&all);
    check(dray_release_futures(dray, node, nodes, &error), "release", &error);
}

int main(int argc, char **argv)
{
    const struct dray_pool_options options = {.size = sizeof(options), .name = "example"};
    struct dray_error error;
    dray_pool_t *pool;
    dray_t *dray;

    /* Without an argument: the environment's DRAY_BROKER. */
    check(dray_connect(argc > 1 ? argv[1] : NULL, NULL, &dray, &error), "connect", &error);
    check(dray_pool_open(dray, &options, &pool, &error), "pool", &error);
    as_completed(dray, pool);
    tree(dray, pool);
    dray_pool_close(pool);
    dray_close(dray);
    return 0;
}
