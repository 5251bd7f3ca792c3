/* A single-threaded program with an event loop of its own that runs jobs through libdray:
 * what test_embed.py compiles against the installed library.  Arguments: endpoint, script. */
#include <dray.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A Graph of one layer with three wanted tasks, as proto/graph.proto packs it.  Its operation is a
 * take_inputs step without inputs: three empty tables. */
static const unsigned char graph[] = {
    0x0a, 10,               /* layer */
    0x08, 3,                /* tasks */
    0x12, 4,                /* op: one step */
    0x0a, 2, 0x22, 0,       /* take_inputs */
    0x30, 1,                /* wanted */
};

static int fail(const char *what, const struct dray_error *error)
{
    fprintf(stderr, "%s: %s (%d)\n", what, error->text, error->code);
    return 1;
}

static int run_loop(dray_t *dray, dray_job_t job, struct dray_error *error)
{
    int turns = 0, partitions = 0;

    for (;;) {
        struct pollfd fd = {.fd = dray_fd(dray), .events = POLLIN};
        struct dray_event event;
        int rc;

        if (poll(&fd, 1, 100) < 0 && errno != EINTR) {
            return -errno;
        }
        if (++turns > 600) {
            return -ETIMEDOUT;
        }
        if (fd.revents == 0) {
            continue; /* the program's own work would be here */
        }
        rc = dray_process(dray, error);
        if (rc != 0) {
            return rc;
        }
        while ((rc = dray_next(dray, &event, error)) == 1) {
            if (event.type == DRAY_PARTITION && event.size >= 16 && memcmp(event.data, "DPT1", 4) == 0) {
                partitions++;
            } else if (event.job == job && (event.type == DRAY_DONE || event.type == DRAY_FAILED)) {
                printf("job: %s, %d partitions\n", event.type == DRAY_DONE ? "done" : event.error.text, partitions);
                return 0;
            }
        }
        if (rc < 0) {
            return rc;
        }
    }
}

int main(int argc, char **argv)
{
    struct dray_error error = {0};
    struct dray_result *result = NULL;
    char *text = NULL;
    dray_t *dray = NULL;
    dray_job_t job;

    if (argc != 3) {
        return 2;
    }
    printf("version: %s\n", dray_version());
    if (dray_connect(argv[1], NULL, &dray, &error) != 0) {
        return fail("connect", &error);
    }
    if (dray_submit_graph(dray, graph, sizeof(graph), NULL, &job, &error) != 0) {
        return fail("submit", &error);
    }
    if (run_loop(dray, job, &error) != 0) {
        return fail("loop", &error);
    } else if (dray_release(dray, job, &error) != 0) {
        return fail("release", &error);
    }
    if (dray_run(dray, argv[2], &result, &error) != 0) {
        return fail("run", &error);
    }
    if (dray_result_text(result, "csv", &text, &error) != 0) {
        return fail("text", &error);
    }
    fputs(text, stdout);
    free(text);
    dray_result_free(result);
    dray_close(dray);
    return 0;
}
