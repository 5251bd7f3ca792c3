#include "client/lib/rejoin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "client/lib/connection.h"

enum {
    PATIENCE_MS = 30000,
    PATIENCE_MAX_S = 1000000,
    PAUSE_MS = 100,   // between two attempts that failed
    ANSWER_MS = 1000, // for an answer to the first HELLO; twice as long for each other one, up to
    ANSWER_MAX_MS = 16000,
};

int rejoin_init(struct rejoin *rejoin, int given, struct error *err)
{
    const char *text = getenv("DRAY_RECONNECT");
    uint64_t ms = PATIENCE_MS;

    if (given != 0) {
        ms = given > 0 ? (uint64_t)given : 0;
    } else if (text != NULL && text[0] != '\0') {
        char *end = NULL;
        double seconds = strtod(text, &end);

        if (end == text || *end != '\0' || !(seconds >= 0) || seconds > PATIENCE_MAX_S) {
            return error_set(err, EINVAL, "DRAY_RECONNECT is \"%.40s\", which is not a number of seconds",
                             text);
        }
        ms = (uint64_t)(seconds * 1000);
    }
    *rejoin = (struct rejoin){.patience_us = ms * 1000};
    return 0;
}

bool rejoin_deaf(const dray_t *dray)
{
    return uplink_lost(dray->uplink);
}

bool rejoin_stands(const dray_t *dray)
{
    return !dray->rejoin.away && !uplink_lost(dray->uplink) && !results_away(dray->results);
}

static void tell(const dray_t *dray)
{
    const struct rejoin *rejoin = &dray->rejoin;
    const struct client_lost now = {.why = rejoin->lost ? &rejoin->why : NULL,
                                    .patience_ms = (unsigned)(rejoin->patience_us / 1000),
                                    .away_ms = (unsigned)((monotonic_us() - rejoin->first_us) / 1000),
                                    .goes_on = results_stake(dray->results) && !rejoin->anew,
                                    .anew = rejoin->anew};

    if (rejoin->told != NULL) {
        rejoin->told(rejoin->told_arg, &now);
    }
}

// The broker has answered for all jobs.
static void note_back(dray_t *dray)
{
    if (dray->rejoin.lost && !results_away(dray->results)) {
        dray->rejoin.lost = false;
        tell(dray);
    }
}

static int give_up(dray_t *dray, struct error *err)
{
    struct rejoin *rejoin = &dray->rejoin;

    return error_set(err, ENOTCONN, "%s; it did not answer again within %g s", rejoin->why.text,
                     (double)rejoin->patience_us / 1e6);
}

// The session is lost, for the first time or while another one was looked for.
static void note_lost(dray_t *dray, const struct error *err, uint64_t now)
{
    struct rejoin *rejoin = &dray->rejoin;

    results_lost(dray->results);
    if (!rejoin->away) {
        rejoin->away = true;
        rejoin->why = *err;
        rejoin->lost_us = now;
        rejoin->attempt_us = 0; // the next one at once
        rejoin->attempts = 0;
        if (!rejoin->lost) {
            rejoin->lost = true;
            rejoin->anew = false;
            rejoin->first_us = now;
            tell(dray);
        }
    }
}

static int watch(const dray_t *dray, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    return fd < 0 ? 0 : epoll_ctl(dray->epoll, EPOLL_CTL_ADD, fd, &event);
}

static void unwatch(const dray_t *dray, int fd)
{
    if (fd >= 0) {
        epoll_ctl(dray->epoll, EPOLL_CTL_DEL, fd, NULL);
    }
}

int rejoin_watch(dray_t *dray, struct error *err)
{
    if (watch(dray, uplink_fd(dray->uplink)) != 0 || watch(dray, uplink_watch_fd(dray->uplink)) != 0) {
        return error_set(err, errno, "cannot watch a file descriptor: %s", strerror(errno));
    }
    return 0;
}

static void attempt(dray_t *dray, uint64_t now)
{
    struct error err = {0};

    dray->rejoin.attempt_us = now;
    dray->rejoin.attempts++;
    unwatch(dray, uplink_fd(dray->uplink));
    unwatch(dray, uplink_watch_fd(dray->uplink));
    if (uplink_renew(dray->uplink, &err) == 0 && rejoin_watch(dray, &err) != 0) {
        uplink_abandon(dray->uplink, err.text);
    }
}

uint64_t rejoin_greet(dray_t *dray)
{
    struct rejoin *rejoin = &dray->rejoin;
    uint64_t now = monotonic_us();

    if (!uplink_unheard(dray->uplink)) {
        return UINT64_MAX;
    }
    if (now - rejoin->attempt_us > PAUSE_MS * 1000) {
        attempt(dray, now);
    }
    return rejoin->attempt_us + PAUSE_MS * 1000;
}

static uint64_t answer_us(const struct rejoin *rejoin)
{
    uint64_t ms = ANSWER_MS;

    for (unsigned i = 1; i < rejoin->attempts && ms < ANSWER_MAX_MS; i++) {
        ms *= 2;
    }
    return ms * 1000;
}

// Another session stands.
static int return_to(dray_t *dray, struct error *err)
{
    struct rejoin *rejoin = &dray->rejoin;
    const char *endpoint = uplink_endpoint(dray->uplink);
    int rc;

    rejoin->anew = rejoin->anew || (rejoin->broker != 0 && uplink_broker(dray->uplink) != rejoin->broker);
    if (uplink_broker(dray->uplink) != rejoin->broker && results_stake(dray->results)) {
        if (rejoin->lost) { // it is not away any more
            rejoin->lost = false;
            tell(dray);
        }
        error_set(err, ENOTCONN, "the broker at %s was started anew without what it knew", endpoint);
        results_fail_all(dray->results, ENOTCONN, err->text);
        return -ENOTCONN; // numbers of its jobs are other jobs now
    }
    if (uplink_broker(dray->uplink) != rejoin->broker) {
        results_forget_farewells(dray->results);
    }
    rejoin->broker = uplink_broker(dray->uplink);
    rejoin->away = false;
    rc = results_return(dray->results, &dray->tag);
    if (rc != 0) {
        return error_set(err, -rc, "no memory to go on with the jobs of a lost connection");
    }
    return 0;
}

int rejoin_step(dray_t *dray, int rc, struct error *err)
{
    struct rejoin *rejoin = &dray->rejoin;
    uint64_t now;

    if (!rejoin->away && rc == 0 && !results_away(dray->results)) {
        if (rejoin->broker == 0 && uplink_welcomed(dray->uplink)) {
            rejoin->broker = uplink_broker(dray->uplink);
        }
        return 0;
    }
    now = monotonic_us();
    if (uplink_lost(dray->uplink)) {
        struct error why = {0};

        if (rejoin->patience_us == 0) {
            return uplink_error(dray->uplink, err);
        }
        uplink_error(dray->uplink, &why);
        note_lost(dray, &why, now);
        if (err != NULL) {
            *err = (struct error){0}; // of the session, not of who asks
        }
        rc = 0;
    }
    if (rc != 0) {
        return rc;
    }
    if (rejoin->away && uplink_welcomed(dray->uplink)) {
        rc = return_to(dray, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (!rejoin->away) {
        rc = results_go_on(dray->results, &dray->tag);
        if (rc != 0) {
            return error_set(err, -rc, "no memory to go on with the jobs of a lost connection");
        }
        note_back(dray);
        return 0;
    }
    if (now - rejoin->lost_us > rejoin->patience_us) {
        return give_up(dray, err);
    }
    if (now - rejoin->attempt_us > (uplink_lost(dray->uplink) ? PAUSE_MS * 1000 : answer_us(rejoin))) {
        attempt(dray, now);
    }
    return 0;
}
