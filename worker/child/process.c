#include "worker/child/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
    FIRST_FREE_FD = 10, // above those that the helper expects at fixed places
    TRIM_ABOVE = 4 << 20,
};

uint64_t process_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

// ---- start ------------------------------------------------------------------------------

int process_find_helper(char *to, size_t size, struct error *err)
{
    static const char *const PLACES[] = {"dray-child", "../libexec/dray/dray-child"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n > 0) {
        self[n] = '\0';

        char *slash = strrchr(self, '/');

        for (size_t i = 0; slash != NULL && i < sizeof(PLACES) / sizeof(PLACES[0]); i++) {
            int length = snprintf(to, size, "%.*s/%s", (int)(slash - self), self, PLACES[i]);

            if (length > 0 && (size_t)length < size && access(to, X_OK) == 0) {
                return 0;
            }
        }
    }
    return error_set(
        err, ENOENT,
        "cannot find dray-child, the process in which plugins and commands run: it belongs beside this "
        "executable or in ../libexec/dray");
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

// The descriptors that the helper gets, away from the places where it gets them.
struct ends {
    int socket, output, memory, input;
};

static int move_up(int *fd)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);

    if (moved < 0) {
        return -errno;
    }
    close(*fd);
    *fd = moved;
    return 0;
}

static int map_memory(struct process *p, struct ends *ends)
{
    ends->memory = memfd_create("dray-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ends->input = memfd_create("dray-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    // Nothing that the other side does can make a page that we touch go away.
    if (ends->memory < 0 || ends->input < 0 || ftruncate(ends->memory, sizeof(struct channel)) != 0 ||
        ftruncate(ends->input, CHANNEL_INPUT) != 0 ||
        fcntl(ends->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0 ||
        fcntl(ends->input, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return -errno;
    }
    void *channel = mmap(NULL, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, ends->memory, 0);
    void *input = mmap(NULL, CHANNEL_INPUT, PROT_READ | PROT_WRITE, MAP_SHARED, ends->input, 0);

    p->channel = channel == MAP_FAILED ? NULL : channel;
    p->input = input == MAP_FAILED ? NULL : input;
    p->input_size = CHANNEL_INPUT;
    return p->channel == NULL || p->input == NULL ? -ENOMEM : 0;
}

static int make_ends(struct process *p, struct ends *ends)
{
    int pair[2], pipes[2];
    int rc = map_memory(p, ends);

    if (rc != 0) {
        return rc;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return -errno;
    }
    p->socket = pair[0];
    ends->socket = pair[1];
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        return -errno;
    }
    p->output = pipes[0];
    ends->output = pipes[1];
    p->input_fd = fcntl(ends->input, F_DUPFD_CLOEXEC, 0);
    if (p->input_fd < 0 || fcntl(p->output, F_SETFL, O_NONBLOCK) != 0) {
        return -errno;
    }
    rc = move_up(&ends->socket);
    rc = rc == 0 ? move_up(&ends->output) : rc;
    rc = rc == 0 ? move_up(&ends->memory) : rc;
    return rc == 0 ? move_up(&ends->input) : rc;
}

static int spawn(struct process *p, const char *helper, const struct process_options *options,
                 const struct ends *ends)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    char memory[24];
    char *argv[] = {(char[]){"dray-child"}, (char *)(uintptr_t)options->mode,
                    (char *)(uintptr_t)(options->path != NULL ? options->path : ""), memory, NULL};
    int rc;

    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)options->memory);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends->output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends->output, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends->socket, CHANNEL_FD_SOCKET);
    posix_spawn_file_actions_adddup2(&actions, ends->memory, CHANNEL_FD_MEMORY);
    posix_spawn_file_actions_adddup2(&actions, ends->input, CHANNEL_FD_INPUT);
    posix_spawn_file_actions_addclosefrom_np(&actions, CHANNEL_FD_INPUT + 1);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    rc = posix_spawn(&p->pid, helper, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        p->pid = 0;
        return -rc;
    }
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    return p->pidfd < 0 ? -errno : 0;
}

static void release(struct process *p)
{
    close_fd(&p->socket);
    close_fd(&p->output);
    close_fd(&p->pidfd);
    close_fd(&p->input_fd);
    if (p->channel != NULL) {
        munmap(p->channel, sizeof(*p->channel));
    }
    if (p->input != NULL) {
        munmap(p->input, p->input_size);
    }
    p->channel = NULL;
    p->input = NULL;
    p->pid = 0;
}

int process_start(struct process *p, const struct process_options *options, struct error *err)
{
    struct ends ends = {-1, -1, -1, -1};
    char found[PATH_MAX];
    const char *helper = options->helper;
    int rc = 0;

    *p = (struct process){.pidfd = -1, .socket = -1, .output = -1, .input_fd = -1};
    if (helper == NULL) {
        rc = process_find_helper(found, sizeof(found), err);
        if (rc != 0) {
            return rc;
        }
        helper = found;
    }
    rc = make_ends(p, &ends);
    if (rc == 0) {
        rc = spawn(p, helper, options, &ends);
    }
    close_fd(&ends.socket);
    close_fd(&ends.output);
    close_fd(&ends.memory);
    close_fd(&ends.input);
    if (rc != 0) {
        if (p->pid != 0) {
            process_end(p, 0);
        } else {
            release(p);
        }
        return error_set(err, -rc, "cannot start %.300s: %s", helper, strerror(-rc));
    }
    return 0;
}

// ---- words ------------------------------------------------------------------------------

static int timeout_ms(uint64_t deadline_ns)
{
    uint64_t now;

    if (deadline_ns == 0) {
        return -1;
    }
    now = process_now_ns();
    if (now >= deadline_ns) {
        return 0;
    }
    uint64_t left = (deadline_ns - now + 999999) / 1000000;

    return left > INT_MAX ? INT_MAX : (int)left;
}

enum process_event process_wait(struct process *p, int wake, uint64_t deadline_ns, struct channel_word *word)
{
    struct pollfd fds[] = {
        {.fd = p->socket, .events = POLLIN},
        {.fd = p->pidfd, .events = POLLIN},
        {.fd = wake, .events = POLLIN},
        {.fd = p->output, .events = POLLIN},
    };

    for (;;) {
        int n = poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms(deadline_ns));
        int rc;

        if (n < 0 && errno != EINTR) {
            return PROCESS_ENDED;
        }
        if (n == 0) {
            return PROCESS_TIMEOUT;
        }
        if (n < 0) {
            continue;
        }
        if (fds[3].revents != 0 && tail_read(&p->tail, p->output) <= 0) {
            fds[3].fd = -1;
        }
        // What it said before it ended comes first.
        if ((fds[0].revents | fds[1].revents) != 0) {
            rc = channel_receive(p->socket, word, NULL, false);
            if (rc == 1) {
                return PROCESS_WORD;
            }
            if (rc != -EAGAIN || fds[1].revents != 0) {
                return PROCESS_ENDED;
            }
        }
        if (fds[2].revents != 0) {
            uint64_t count;

            rc = (int)read(wake, &count, sizeof(count));
            return PROCESS_WOKEN;
        }
    }
}

// ---- input memory -----------------------------------------------------------------------

int process_reserve(struct process *p, size_t size, struct error *err)
{
    size_t want = (size + CHANNEL_INPUT - 1) / CHANNEL_INPUT * CHANNEL_INPUT;
    void *moved;

    if (size > p->input_used) {
        p->input_used = size;
    }
    if (size <= p->input_size) {
        return 0;
    }
    if (size > SIZE_MAX / 4) {
        return error_no_memory(err);
    }
    if (ftruncate(p->input_fd, (off_t)want) != 0) {
        return error_set(err, errno, "cannot share %zu bytes with a child process: %s", want,
                         strerror(errno));
    }
    moved = mremap(p->input, p->input_size, want, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) {
        return error_set(err, errno, "cannot share %zu bytes with a child process: %s", want,
                         strerror(errno));
    }
    p->input = moved;
    p->input_size = want;
    return 0;
}

void process_trim(struct process *p)
{
    if (p->input_used > TRIM_ABOVE) {
        fallocate(p->input_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHANNEL_INPUT,
                  (off_t)(p->input_size - CHANNEL_INPUT));
    }
    p->input_used = 0;
}

// ---- the end ----------------------------------------------------------------------------

void process_say_goodbye(struct process *p)
{
    if (p->pid != 0) {
        close_fd(&p->socket);
    }
}

unsigned process_ms_left(uint64_t deadline_ns)
{
    uint64_t now = process_now_ns();

    return now < deadline_ns ? (unsigned)((deadline_ns - now) / 1000000) : 0;
}

int process_end(struct process *p, unsigned wait_ms)
{
    struct rusage use = {0};
    int status = 0;

    if (p->pid == 0) {
        return 0;
    }
    struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

    close_fd(&p->socket);
    if (wait_ms > 0 && p->pidfd >= 0) {
        poll(&fd, 1, (int)wait_ms);
    }
    // While nobody has waited for it, its number is nobody else's.
    kill(-p->pid, SIGKILL);
    while (wait4(p->pid, &status, 0, &use) < 0 && errno == EINTR) {
    }
    p->peak_bytes = (uint64_t)use.ru_maxrss * 1024;
    tail_read(&p->tail, p->output);
    release(p);
    return status;
}

void process_describe(int status, char *to, size_t size)
{
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        const char *name = sigabbrev_np(number), *text = sigdescr_np(number);

        snprintf(to, size, "was ended by signal %d (SIG%s, %s)%s", number, name != NULL ? name : "?",
                 text != NULL ? text : "unknown", WCOREDUMP(status) ? ", core dumped" : "");
    } else {
        snprintf(to, size, "ended with exit code %d", WEXITSTATUS(status));
    }
}
