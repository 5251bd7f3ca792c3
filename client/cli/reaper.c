#include "client/cli/reaper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHILDREN_MAX = 2048,
    GRACE_MS = 700, // for children to end by themselves: they see the same end
};

struct reaper {
    pid_t pid;
    int pipe;
};

static void remove_directory(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            unlinkat(dirfd(directory), entry->d_name, 0);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    rmdir(path);
}

// A pidfd cannot mean another process that got the same number since.
static void end_child(int pidfd, int *grace_ms)
{
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};
    struct timespec before, after;

    clock_gettime(CLOCK_MONOTONIC, &before);
    if (poll(&fd, 1, *grace_ms) == 0) {
        pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        poll(&fd, 1, GRACE_MS);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    *grace_ms -= (int)((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
    if (*grace_ms < 0) {
        *grace_ms = 0;
    }
}

static void reap(int pipe, const char *directory)
{
    static int child[CHILDREN_MAX];
    size_t children = 0;
    int grace_ms = GRACE_MS;
    pid_t pid;

    // Only the pipe's end ends this process: not Ctrl-C, not the terminal's going.
    setsid();
    for (int signal = 1; signal < NSIG; signal++) {
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    }
    // Nobody shall wait for a pipe's end because it is open here.
    dup2(pipe, 0);
    close_range(1, ~0U, 0);
    while (read(0, &pid, sizeof(pid)) == (ssize_t)sizeof(pid)) {
        if (children < CHILDREN_MAX) {
            child[children] = pidfd_open(pid, 0);
            children += child[children] >= 0;
        }
    }
    for (size_t i = 0; i < children; i++) {
        end_child(child[i], &grace_ms);
    }
    remove_directory(directory);
    _exit(0);
}

int reaper_start(const char *directory, struct reaper **out, struct error *err)
{
    struct reaper *reaper = calloc(1, sizeof(*reaper));
    int ends[2];

    if (reaper == NULL) {
        return error_no_memory(err);
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(reaper);
        return error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
    }
    reaper->pid = fork();
    if (reaper->pid == 0) {
        reap(ends[0], directory);
    }
    close(ends[0]);
    if (reaper->pid < 0) {
        int code = errno;

        close(ends[1]);
        free(reaper);
        return error_set(err, code, "cannot start a process: %s", strerror(code));
    }
    reaper->pipe = ends[1];
    *out = reaper;
    return 0;
}

int reaper_watch(struct reaper *reaper, pid_t child, struct error *err)
{
    if (write(reaper->pipe, &child, sizeof(child)) != (ssize_t)sizeof(child)) {
        return error_set(err, errno, "the process that cleans up is gone: %s", strerror(errno));
    }
    return 0;
}

void reaper_finish(struct reaper *reaper)
{
    close(reaper->pipe);
    while (waitpid(reaper->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    free(reaper);
}
