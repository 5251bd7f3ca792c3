#include "client/cli/session.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "client/cli/signals.h"

static const struct argp_option OPTIONS[] = {
    {"broker", 'b', "ENDPOINT", 0, "The broker at tcp://HOST:PORT or ipc://PATH (default: $DRAY_BROKER)", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    const char **broker = state->input;
    struct error err = {0};

    switch (key) {
    case 'b':
        *broker = value;
        return 0;
    case ARGP_KEY_END:
        if (*broker == NULL) {
            *broker = getenv("DRAY_BROKER");
        }
        if (*broker == NULL || (*broker)[0] == '\0') {
            argp_error(state, "which cluster? Give --broker, or set DRAY_BROKER");
        }
        if (endpoint_check(*broker, &err) != 0) {
            argp_error(state, "%s", err.text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp session_required_argp = {.options = OPTIONS, .parser = parse_option};

int session_open(struct session *session, const char *broker, struct error *err)
{
    const struct dray_options options = {.size = sizeof(options)};
    int rc;

    session->dray = NULL;
    session->lost = (struct lost){0};
    arena_init(&session->arena, 0);
    rc = signals_init(err);
    rc = rc == 0 ? client_connect(broker, &options, signals_fd(), &session->dray, err) : rc;
    if (rc == 0) {
        lost_listen(&session->lost, session->dray);
    }
    return rc;
}

void session_close(struct session *session)
{
    dray_close(session->dray);
    arena_fini(&session->arena);
}

int session_status(int rc, const struct error *err)
{
    if (rc == 0) {
        return STATUS_OK;
    }
    if (signals_caught() != 0) {
        return STATUS_SIGNAL + signals_caught();
    }
    complain(err);
    return rc == -ENOENT || rc == -EINVAL || rc == -EEXIST ? STATUS_USAGE : STATUS_BROKER;
}

int session_finish_stdout(void)
{
    int code = stdout_was_closed() ? EBADF : fflush(stdout) != 0 || ferror(stdout) ? errno : 0;

    if (code == EPIPE) {
        return STATUS_SIGNAL + SIGPIPE;
    }
    if (code != 0) {
        complain_text("cannot write standard output: %s", strerror(code));
        return STATUS_OUTPUT;
    }
    return STATUS_OK;
}

static bool is_number(const char *text)
{
    size_t size = strlen(text);

    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return size > 0;
}

int session_job(struct session *session, const char *argument, uint32_t *job, struct error *err)
{
    const struct client_attach how = {.kept = argument, .look = true};
    const Dray__Attached *attached = NULL;
    int rc;

    if (is_number(argument)) {
        if (count_parse(argument, UINT32_MAX, job, err) != 0) {
            return error_set(err, EINVAL, "\"%s\" is not the number of a job", argument);
        }
        return 0;
    }
    rc = client_attach(session->dray, &how, &session->arena, &attached, err);
    if (rc == 0) {
        *job = attached->job;
    }
    return rc;
}
