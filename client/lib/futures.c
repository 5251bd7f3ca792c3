// What dray.h says of futures once they are submitted.
#include "client/lib/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/gather.h"
#include "client/lib/pool.h"

static int wait_for_all(dray_t *dray, struct gather *gather, size_t count, int timeout_ms, struct error *err)
{
    uint64_t until = connection_deadline(timeout_ms);

    for (;;) {
        int rc = gather_advance(gather, err);

        if (rc == 0) {
            rc = connection_take_in(dray, true, err);
        }
        if (rc == 0) {
            rc = gather_advance(gather, err);
        }
        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
        rc = connection_wait(dray, until, false, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            return error_set(err, ETIMEDOUT, "%zu of %zu results are not here after %g s",
                             gather_left(gather), count, timeout_ms / 1000.0);
        }
    }
}

int dray_gather(dray_t *dray, const struct dray_future *future, size_t count, int timeout_ms,
                struct dray_gathered *out, struct dray_error *error)
{
    struct gather *gather = NULL;
    struct error err = {0};
    int rc = gather_create(dray->results, future, count, &gather, &err);

    if (rc == 0) {
        rc = wait_for_all(dray, gather, count, timeout_ms, &err);
    }
    if (rc == 0) {
        gather_finish(gather, out);
    }
    gather_destroy(gather);
    connection_settle(dray);
    return client_error(rc, &err, error);
}

int dray_future_done(dray_t *dray, const struct dray_future *future)
{
    struct error err;
    int rc = results_done(dray->results, future, NULL);

    if (rc == 0) { // who asks again and again shall see it happen
        rc = connection_take_in(dray, true, &err);
        if (rc == 0) {
            rc = results_done(dray->results, future, NULL);
        }
        connection_settle(dray);
    }
    return rc;
}

// How many futures from `at` on are neighbours.
static size_t run_length(const struct dray_future *future, size_t at, size_t count)
{
    size_t n = 1;

    while (at + n < count && future[at + n].job == future[at].job &&
           future[at + n].layer == future[at].layer && future[at + n].index == future[at].index + n) {
        n++;
    }
    return n;
}

// What the broker does not know of cannot be cancelled or released.
static int send_them(dray_t *dray, const struct dray_future *future, size_t count, struct error *err)
{
    for (size_t at = 0; at < count; at += run_length(future, at, count)) {
        if (results_unsent(dray->results, &future[at])) {
            return pools_push(dray->pools, err);
        }
    }
    return 0;
}

int dray_cancel_futures(dray_t *dray, const struct dray_future *future, size_t count,
                        struct dray_error *error)
{
    struct client_range *range = malloc((count + 1) * sizeof(*range));
    struct error err = {0};
    int rc = 0;

    if (range == NULL) {
        return client_error(error_no_memory(&err), &err, error);
    }
    rc = send_them(dray, future, count, &err);
    for (size_t at = 0; at < count && rc == 0;) {
        uint32_t job = future[at].job;
        size_t ranges = 0;

        while (at < count && future[at].job == job) {
            size_t n = run_length(future, at, count);

            range[ranges++] = (struct client_range){future[at].layer, future[at].index, (uint32_t)n};
            at += n;
        }
        rc = client_cancel(dray, job, range, ranges, &err);
    }
    free(range);
    connection_settle(dray);
    return client_error(rc, &err, error);
}

int dray_release_futures(dray_t *dray, const struct dray_future *future, size_t count,
                         struct dray_error *error)
{
    struct error err = {0};
    int rc = send_them(dray, future, count, &err);

    for (size_t at = 0; at < count && rc == 0;) {
        size_t n = run_length(future, at, count);

        results_release(dray->results, future[at].job, future[at].layer, future[at].index, (uint32_t)n);
        at += n;
    }
    connection_settle(dray);
    return client_error(rc, &err, error);
}
