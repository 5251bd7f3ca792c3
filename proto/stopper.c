#include "proto/stopper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void on_signal(void *arg, short revents)
{
    struct stopper *stopper = arg;
    struct signalfd_siginfo info;

    (void)revents;
    if (read(stopper->signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return;
    }
    log_write(stopper->log, LEVEL_INFO, "%s: stopping%s", strsignal((int)info.ssi_signo),
              stopper->leaving ? " at once" : "");
    if (!stopper->leaving && stopper->leave != NULL) {
        stopper->leaving = stopper->leave(stopper->arg);
        if (stopper->leaving) {
            return;
        }
    }
    loop_stop(stopper->loop);
}

static void on_lifeline(void *arg, short revents)
{
    struct stopper *stopper = arg;

    (void)revents;
    log_write(stopper->log, LEVEL_DEBUG, "the lifeline is closed: stopping");
    stopper->cut = true;
    loop_stop(stopper->loop);
}

int stopper_init(struct stopper *stopper, const struct log *log, int lifeline, struct error *err)
{
    sigset_t signals;
    int rc;

    *stopper = (struct stopper){.log = log, .signals = -1};
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    stopper->loop = loop_create();
    if (stopper->loop == NULL) {
        return error_no_memory(err);
    }
    stopper->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (stopper->signals < 0) {
        return error_set(err, errno, "cannot watch signals: %s", strerror(errno));
    }
    rc = loop_add_fd(stopper->loop, stopper->signals, POLLIN, on_signal, stopper);
    if (rc != 0) {
        return error_set(err, -rc, "cannot watch signals: %s", strerror(-rc));
    }
    if (lifeline >= 0) {
        rc = loop_add_fd(stopper->loop, lifeline, POLLIN, on_lifeline, stopper);
        if (rc != 0) {
            return error_set(err, -rc, "cannot watch file descriptor %d: %s", lifeline, strerror(-rc));
        }
    }
    return 0;
}

void stopper_fini(struct stopper *stopper)
{
    loop_destroy(stopper->loop);
    if (stopper->signals >= 0) {
        close(stopper->signals);
    }
    stopper->loop = NULL;
    stopper->signals = -1;
}
