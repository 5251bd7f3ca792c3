#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "proto/number.h"
#include "proto/stopper.h"

enum {
    EXIT_USAGE = 2,
    LISTENS_MAX = 16,
    TIMEOUT_MS = 10000,
    MOMENT_SLACK_MS = 250,
    OPTION_LISTEN = 'l',
    OPTION_HEARTBEAT = 0x100,
    OPTION_TIMEOUT,
    OPTION_WORKER_TIMEOUT,
    OPTION_BACKLOG,
    OPTION_STALLED,
    OPTION_ALLOWED_FAILURES,
    OPTION_STRAGGLER,
    OPTION_TASKS_MAX,
    OPTION_JOBS_MAX,
    OPTION_MEMORY_MAX,
    OPTION_STATE,
    OPTION_RESULT_TTL,
    OPTION_ORPHAN_GRACE,
    OPTION_RECOVER_GRACE,
    OPTION_READY_FD,
    OPTION_LIFELINE,
};

struct arguments {
    const char *listen[LISTENS_MAX];
    size_t listens;
    unsigned heartbeat_ms;
    unsigned timeout_ms;        // 0: not given
    unsigned worker_timeout_ms; // 0: not given
    size_t backlog_mark;
    unsigned stalled_ms;
    const char *state;
    struct sched_options sched;
    int ready_fd;
    int lifeline;
    struct log log;
};

static const struct argp_option OPTIONS[] = {
    {"listen", OPTION_LISTEN, "ENDPOINT", 0,
     "Listen at tcp://HOST:PORT or ipc://PATH (may be given several times; tcp://127.0.0.1:8786 by default)",
     0},
    {"heartbeat", OPTION_HEARTBEAT, "SECONDS", 0, "Interval of signs of life, both ways (1)", 0},
    {"timeout", OPTION_TIMEOUT, "SECONDS", 0,
     "Nothing heard of a client for so long: it is lost; as long do clients and workers wait for the broker "
     "(10)",
     0},
    {"worker-timeout", OPTION_WORKER_TIMEOUT, "SECONDS", 0,
     "Nothing heard of a worker for so long: it is lost (two heartbeats and a second; as --timeout when that "
     "is "
     "given).  A process of the same host that dies is noticed at once",
     0},
    {"backlog", OPTION_BACKLOG, "MB", 0,
     "While a client leaves more than that unread, its results are held back; a peer that leaves four times "
     "as "
     "much is disconnected (64)",
     0},
    {"stalled", OPTION_STALLED, "SECONDS", 0,
     "A client whose results are held back and that reads nothing for so long is disconnected (60)", 0},
    {"allowed-failures", OPTION_ALLOWED_FAILURES, "N", 0,
     "A task is set aside when that many workers died while they ran it, the last one of it alone (3)", 0},
    {"straggler", OPTION_STRAGGLER, "SECONDS", 0,
     "A task that takes three times as long as its like and so much more is run a second time where somebody "
     "idles, if "
     "it may be (0.5; 0: never)",
     0},
    {"tasks-max", OPTION_TASKS_MAX, "N", 0, "Jobs with more tasks than that in all are refused (100000000)",
     0},
    {"jobs-max", OPTION_JOBS_MAX, "N", 0, "More jobs than that are refused (1000000)", 0},
    {"memory-max", OPTION_MEMORY_MAX, "MB", 0,
     "Jobs whose graphs and tasks would take more memory than that in all are refused (4096)", 0},
    {"state", OPTION_STATE, "DIR", 0,
     "Keep a journal of jobs and kept names in this folder (made when it is not there), so that all goes on "
     "after "
     "a restart with the same folder, whatever ended the broker. Without it, jobs and results are lost with "
     "the "
     "process",
     0},
    {"result-ttl", OPTION_RESULT_TTL, "SECONDS", 0,
     "Results of a detached job that is over are kept for so long after its end, or after the last client "
     "that "
     "had it left; 0: until they are freed (3600)",
     0},
    {"orphan-grace", OPTION_ORPHAN_GRACE, "SECONDS", 0,
     "A job that is not detached waits so long for a client that was lost without a goodbye; 0: not at all "
     "(30)",
     0},
    {"recover-grace", OPTION_RECOVER_GRACE, "SECONDS", 0,
     "After a restart, no task is handed out before the workers that were there are back, but for so long at "
     "most (10).  Those of this host whose process has ended are not waited for",
     0},
    {"ready-fd", OPTION_READY_FD, "FD", 0, "Write the bound endpoints there, in one line, when ready", 0},
    {"lifeline", OPTION_LIFELINE, "FD", 0, "Exit when the other end of this pipe is closed", 0},
    {"quiet", 'q', NULL, 0, "Log warnings and errors only", 0},
    {"verbose", 'v', NULL, 0, "Log more", 0},
    {0},
};

static double parse_seconds(const char *text, const char *option, struct argp_state *state)
{
    double seconds = 0;

    if (!number_parse_float64(text, strlen(text), &seconds) || !(seconds >= 0.01 && seconds <= 86400)) {
        argp_error(state, "--%s is a time of 0.01 to 86400 seconds, not \"%s\"", option, text);
    }
    return seconds;
}

// Of none at all as well, and much longer; in microseconds.
static uint64_t parse_grace(const char *text, const char *option, struct argp_state *state)
{
    double seconds = 0;

    if (!number_parse_float64(text, strlen(text), &seconds) || !(seconds >= 0 && seconds <= 1e8)) {
        argp_error(state, "--%s is a time of 0 to 100000000 seconds, not \"%s\"", option, text);
    }
    return (uint64_t)(seconds * 1e6);
}

static long parse_whole(const char *text, const char *option, long least, long most, struct argp_state *state)
{
    int64_t value = 0;

    if (!number_parse_int64(text, strlen(text), &value) || value < least || value > most) {
        argp_error(state, "--%s is a number from %ld to %ld, not \"%s\"", option, least, most, text);
    }
    return (long)value;
}

static int parse_fd(const char *text, const char *option, struct argp_state *state)
{
    int fd = (int)parse_whole(text, option, 0, 1 << 20, state);

    if (fcntl(fd, F_GETFD) < 0) {
        argp_error(state, "--%s: file descriptor %d is not open", option, fd);
    }
    return fd;
}

static void set_timeouts(struct arguments *arguments)
{
    // What goes off together is missed within a heartbeat.
    arguments->sched.moment_us = ((uint64_t)arguments->heartbeat_ms + MOMENT_SLACK_MS) * 1000;
    if (arguments->worker_timeout_ms == 0) {
        arguments->worker_timeout_ms =
            arguments->timeout_ms != 0 ? arguments->timeout_ms : 2 * arguments->heartbeat_ms + 1000;
    }
    if (arguments->timeout_ms == 0) {
        arguments->timeout_ms =
            arguments->worker_timeout_ms > TIMEOUT_MS ? arguments->worker_timeout_ms : TIMEOUT_MS;
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case OPTION_LISTEN:
        if (arguments->listens == LISTENS_MAX) {
            argp_error(state, "--listen may be given %d times at most", LISTENS_MAX);
        }
        arguments->listen[arguments->listens++] = value;
        return 0;
    case OPTION_HEARTBEAT:
        arguments->heartbeat_ms = (unsigned)(parse_seconds(value, "heartbeat", state) * 1000);
        return 0;
    case OPTION_TIMEOUT:
        arguments->timeout_ms = (unsigned)(parse_seconds(value, "timeout", state) * 1000);
        return 0;
    case OPTION_WORKER_TIMEOUT:
        arguments->worker_timeout_ms = (unsigned)(parse_seconds(value, "worker-timeout", state) * 1000);
        return 0;
    case OPTION_BACKLOG:
        arguments->backlog_mark = (size_t)parse_whole(value, "backlog", 1, 1 << 20, state) << 20;
        return 0;
    case OPTION_STALLED:
        arguments->stalled_ms = (unsigned)(parse_seconds(value, "stalled", state) * 1000);
        return 0;
    case OPTION_ALLOWED_FAILURES:
        arguments->sched.attempts_max = (uint32_t)parse_whole(value, "allowed-failures", 1, 1000000, state);
        return 0;
    case OPTION_STRAGGLER:
        arguments->sched.straggler_us =
            strcmp(value, "0") == 0 ? 0 : (uint64_t)(parse_seconds(value, "straggler", state) * 1e6);
        return 0;
    case OPTION_TASKS_MAX:
        arguments->sched.tasks_max = (uint64_t)parse_whole(value, "tasks-max", 1, 1L << 40, state);
        return 0;
    case OPTION_JOBS_MAX:
        arguments->sched.jobs_max = (uint32_t)parse_whole(value, "jobs-max", 1, 1 << 30, state);
        return 0;
    case OPTION_MEMORY_MAX:
        arguments->sched.bytes_max = (uint64_t)parse_whole(value, "memory-max", 1, 1L << 30, state) << 20;
        return 0;
    case OPTION_STATE:
        if (value[0] == '\0') {
            argp_error(state, "--state is the name of a folder");
        }
        arguments->state = value;
        return 0;
    case OPTION_RESULT_TTL:
        arguments->sched.ttl_us = parse_grace(value, "result-ttl", state);
        return 0;
    case OPTION_ORPHAN_GRACE:
        arguments->sched.orphan_us = parse_grace(value, "orphan-grace", state);
        return 0;
    case OPTION_RECOVER_GRACE:
        arguments->sched.recover_us = parse_grace(value, "recover-grace", state);
        return 0;
    case OPTION_READY_FD:
        arguments->ready_fd = parse_fd(value, "ready-fd", state);
        return 0;
    case OPTION_LIFELINE:
        arguments->lifeline = parse_fd(value, "lifeline", state);
        return 0;
    case 'q':
        arguments->log.level = LEVEL_WARNING;
        return 0;
    case 'v':
        arguments->log.level = LEVEL_DEBUG;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is one argument too many: addresses go with --listen", value);
        return 0;
    case ARGP_KEY_END:
        set_timeouts(arguments);
        if (arguments->timeout_ms <= arguments->heartbeat_ms) {
            argp_error(state, "--timeout must be longer than --heartbeat (%.2f s)",
                       arguments->heartbeat_ms / 1000.0);
        }
        if (arguments->worker_timeout_ms <= arguments->heartbeat_ms) {
            argp_error(state, "--worker-timeout must be longer than --heartbeat (%.2f s)",
                       arguments->heartbeat_ms / 1000.0);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .doc =
        "Dray's broker: takes jobs from clients and hands out their tasks to workers.\v"
        "SIGTERM and SIGINT: writes what it has taken (with --state), says goodbye to everybody and exits.\n"
        "Exit codes: 0 asked to stop; 1 could not start or go on; 2 wrong options.",
};

static void print_version(FILE *out, struct argp_state *state)
{
    (void)state;
    fprintf(out, "dray-broker %s\n", DRAY_VERSION);
}

static void say_ready(int fd, const char *endpoints)
{
    // Who asked for it and does not read it has a problem of its own.
    if (fd >= 0 && dprintf(fd, "%s\n", endpoints) >= 0 && fd > STDERR_FILENO) {
        close(fd);
    }
}

static bool leave(void *arg)
{
    return broker_drain(arg);
}

static int serve(const struct arguments *arguments)
{
    const struct broker_options options = {
        .listen = arguments->listen,
        .listens = arguments->listens,
        .heartbeat_ms = arguments->heartbeat_ms,
        .timeout_ms = arguments->timeout_ms,
        .worker_timeout_ms = arguments->worker_timeout_ms,
        .backlog_mark = arguments->backlog_mark,
        .stalled_ms = arguments->stalled_ms,
        .state = arguments->state,
        .sched = arguments->sched,
        .log = &arguments->log,
    };
    struct stopper stopper;
    struct broker *broker = NULL;
    char *endpoints = NULL;
    struct error err = {0};
    int rc;

    // Before libzmq has threads.
    rc = stopper_init(&stopper, &arguments->log, arguments->lifeline, &err);
    sockets_init();
    if (rc != 0) {
        goto out;
    }
    rc = broker_create(&options, stopper.loop, &broker, &endpoints, &err);
    if (rc != 0) {
        goto out;
    }
    log_write(&arguments->log, LEVEL_INFO, "listening at %s", endpoints);
    if (arguments->state == NULL) {
        log_write(
            &arguments->log, LEVEL_INFO,
            "jobs and results are kept in memory only and are lost when this process ends (--state DIR keeps "
            "them)");
    }
    stopper.leave = leave;
    stopper.arg = broker;
    say_ready(arguments->ready_fd, endpoints);
    rc = loop_run(stopper.loop);
    if (rc != 0) {
        error_set(&err, -rc, "cannot wait for messages: %s", strerror(-rc));
    }
out:
    if (rc != 0) {
        log_write(&arguments->log, LEVEL_ERROR, "%s", err.text);
    }
    broker_destroy(broker, arguments->state != NULL
                               ? "the broker stops; it goes on from its journal when it is started again"
                               : "the broker stops");
    stopper_fini(&stopper);
    sockets_fini();
    free(endpoints);
    // EINVAL: an address of --listen that none can be.
    return rc == 0 ? EXIT_SUCCESS : rc == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {
        .heartbeat_ms = 1000,
        .backlog_mark = (size_t)64 << 20,
        .stalled_ms = 60000,
        .ready_fd = -1,
        .lifeline = -1,
        .log = {.program = "dray-broker", .level = LEVEL_INFO},
    };

    sched_options_default(&arguments.sched);
    arguments.sched.ahead = true;
    arguments.sched.ttl_us = 3600 * UINT64_C(1000000);
    arguments.sched.orphan_us = 30 * UINT64_C(1000000);
    arguments.sched.recover_us = 10 * UINT64_C(1000000);
    mallopt(M_ARENA_MAX, 1);
    // What a large graph took goes back to the system when it goes.
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    argp_err_exit_status = EXIT_USAGE;
    argp_program_version_hook = print_version;
    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    if (arguments.listens == 0) {
        arguments.listen[arguments.listens++] = "tcp://127.0.0.1:8786";
    }
    return serve(&arguments);
}
