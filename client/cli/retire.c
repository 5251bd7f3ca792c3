// dray workers retire: workers that are to leave.
#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/session.h"
#include "client/cli/signals.h"
#include "proto/socket.h"

enum {
    OPTION_WAIT = 'w',
    LOOK_MS = 100,
    BACK_MS = 12000, // behind its broker, a worker is back
};

// A worker that was asked.  Its process may connect anew, or the broker start anew, meanwhile.
struct leaver {
    uint64_t incarnation;
    uint32_t number; // that it had when it was asked
};

struct arguments {
    const char *broker;
    bool wait;
    char **name; // room for all that argv has
    size_t names;
};

static const struct argp_option OPTIONS[] = {
    {"wait", OPTION_WAIT, NULL, 0, "Return when they have gone", 1},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    (void)value;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->broker;
        return 0;
    case OPTION_WAIT:
        arguments->wait = true;
        return 0;
    case ARGP_KEY_ARG:
        arguments->name[arguments->names++] = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "give the names of workers; `dray workers` lists them");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child CHILDREN[] = {{&session_required_argp, 0, NULL, 0}, {0}};
static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .children = CHILDREN,
    .args_doc = "NAME...",
    .doc = "Ask the workers of these names to leave: each takes no more tasks, finishes what it runs, hands over to "
           "other workers what it alone holds, and ends. Nothing is computed again."
           "\vWith one name that no worker has, nobody is asked. A worker that can hand over to nobody stays for its "
           "own --grace, and then says what is lost.\n\n" STATUS_HELP,
};

static bool is_named(const struct arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->names; i++) {
        if (strcmp(arguments->name[i], name) == 0) {
            return true;
        }
    }
    return false;
}

// Before they are asked: others of the same names may come.
static int find_workers(const struct arguments *arguments, struct session *session, struct leaver **leaver,
                        size_t *count, struct error *err)
{
    const Dray__Cluster *cluster;
    int rc = client_cluster(session->dray, &session->arena, &cluster, err);

    if (rc != 0) {
        return rc;
    }
    *leaver = calloc(cluster->n_worker + 1, sizeof(**leaver));
    if (*leaver == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < cluster->n_worker; i++) {
        if (is_named(arguments, cluster->worker[i]->name)) {
            (*leaver)[(*count)++] = (struct leaver){cluster->worker[i]->incarnation, cluster->worker[i]->worker};
        }
    }
    return 0;
}

// How many are there.  One that has connected anew, and that does not leave, has not heard that it is to.
static int look(struct session *session, struct leaver *leaver, size_t count, size_t *there, struct error *err)
{
    const Dray__Cluster *cluster;
    int rc = client_cluster(session->dray, &session->arena, &cluster, err);

    *there = 0;
    for (size_t i = 0; rc == 0 && i < cluster->n_worker; i++) {
        Dray__WorkerInfo *worker = cluster->worker[i];

        for (size_t k = 0; k < count; k++) {
            if (leaver[k].incarnation != worker->incarnation) {
                continue;
            }
            ++*there;
            if (leaver[k].number != worker->worker && !worker->leaving) {
                rc = client_retire(session->dray, &worker->name, 1, err);
                rc = rc == -ENOENT ? 0 : rc; // it has gone since
            }
            leaver[k].number = worker->worker;
        }
    }
    return rc;
}

static int wait_for(struct session *session, struct leaver *leaver, size_t count, struct error *err)
{
    struct pollfd signals = {.fd = signals_fd(), .events = POLLIN};

    for (;;) {
        uint64_t back_us;
        size_t there;
        int rc;

        arena_reset(&session->arena);
        rc = look(session, leaver, count, &there, err);
        back_us = session->lost.back_us;
        // Behind a broker that was away workers come back, too.
        if (rc != 0 || (there == 0 && (back_us == 0 || monotonic_us() - back_us > BACK_MS * 1000))) {
            return rc;
        }
        poll(&signals, 1, LOOK_MS); // the next call hears of a signal
    }
}

int retire_main(int argc, char **argv)
{
    static char called[] = "dray workers retire";
    struct arguments arguments = {0};
    struct session session;
    struct error err = {0};
    struct leaver *leaver = NULL;
    size_t count = 0;
    int status;
    int rc;

    argv[0] = program_invocation_name = program_invocation_short_name = called;
    arguments.name = calloc((size_t)argc, sizeof(*arguments.name));
    if (arguments.name == NULL) {
        error_no_memory(&err);
        complain(&err);
        return STATUS_BROKER;
    }
    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    rc = session_open(&session, arguments.broker, &err);
    rc = rc == 0 ? find_workers(&arguments, &session, &leaver, &count, &err) : rc;
    rc = rc == 0 ? client_retire(session.dray, arguments.name, arguments.names, &err) : rc;
    rc = rc == 0 && arguments.wait ? wait_for(&session, leaver, count, &err) : rc;
    status = session_status(rc, &err);
    session_close(&session);
    free(leaver);
    free(arguments.name);
    return status;
}
