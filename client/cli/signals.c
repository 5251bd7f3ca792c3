#include "client/cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int event_fd = -1;
static volatile sig_atomic_t caught;

static volatile pid_t vital_pid;
static const pid_t *volatile other_pid;
static volatile size_t others;
static volatile sig_atomic_t others_ended;
static volatile pid_t ended_pid;
static volatile int ended_status;

static void notify(void)
{
    uint64_t one = 1;
    int saved = errno;

    if (write(event_fd, &one, sizeof(one)) < 0) {
        _exit(128 + SIGABRT); // cannot be: nobody would ever wake up
    }
    errno = saved;
}

static void on_stop_request(int signal)
{
    if (caught != 0) {
        // Asked twice: go.  The lifeline takes the cluster down.
        _exit(128 + signal);
    }
    caught = signal;
    notify();
}

static void on_child(int signal)
{
    int saved = errno;
    int status;

    (void)signal;
    if (vital_pid > 0 && ended_pid == 0 && waitpid(vital_pid, &status, WNOHANG) == vital_pid) {
        ended_pid = vital_pid;
        ended_status = status;
        notify();
    }
    for (size_t i = 0; i < others; i++) {
        pid_t pid = other_pid[i];

        if (waitpid(pid, &status, WNOHANG) == pid && (size_t)++others_ended == others && ended_pid == 0) {
            ended_pid = pid;
            ended_status = status;
            notify();
        }
    }
    errno = saved;
}

// Ctrl-Z stops the cluster as well: it would take this process for lost otherwise.
static void on_terminal_stop(int signal)
{
    int saved = errno;

    (void)signal;
    if (vital_pid > 0 && ended_pid == 0) {
        kill(-vital_pid, SIGSTOP);
    }
    raise(SIGSTOP);
    if (vital_pid > 0 && ended_pid == 0) {
        kill(-vital_pid, SIGCONT);
    }
    errno = saved;
}

static int handle(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    sigemptyset(&action.sa_mask);
    return sigaction(signal, &action, NULL);
}

int signals_init(struct error *err)
{
    static const int requests[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction before;

    if (event_fd >= 0) {
        return 0;
    }
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) {
        return error_set(err, errno, "cannot make a file descriptor: %s", strerror(errno));
    }
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        // What nohup or a shell's background job ignores stays ignored.
        if (sigaction(requests[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            handle(requests[i], on_stop_request, 0);
        }
    }
    handle(SIGPIPE, SIG_IGN, 0);
    return 0;
}

int signals_fd(void)
{
    return event_fd;
}

int signals_caught(void)
{
    return caught;
}

void signals_watch(pid_t vital, const pid_t *other, size_t count)
{
    vital_pid = vital;
    other_pid = other;
    others = count;
    others_ended = 0;
    ended_pid = 0;
    handle(SIGCHLD, on_child, SA_RESTART | SA_NOCLDSTOP);
    handle(SIGTSTP, on_terminal_stop, SA_RESTART);
    on_child(SIGCHLD); // one that ended before
}

void signals_unwatch(void)
{
    handle(SIGCHLD, SIG_DFL, 0);
    handle(SIGTSTP, SIG_DFL, 0);
    vital_pid = 0;
    others = 0;
}

pid_t signals_child(int *status)
{
    *status = ended_status;
    return ended_pid;
}
