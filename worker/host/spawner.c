#include "worker/host/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "worker/child/channel.h"
#include "worker/child/scratch.h"

extern char **environ;

// What runs on a stack of its own, in memory that is not only its own.
#define NO_SANITIZE __attribute__((no_sanitize("address", "undefined", "thread")))

enum { EXIT_NO_WORDS = 70, STACK_BYTES = 64 << 10, ORPHAN_MS = 250 };

struct spawner {
    uint8_t *input;
    size_t input_size;
    char *stack;
    const char *scratch;
    char *word_list; // room for pointers, grown as needed
    size_t room;
};

// What is to be started.
struct start {
    const char *directory;
    char **argv, **env;
    const char *path; // of directories in which programs are looked for
    uint64_t memory;
    int fds[CHANNEL_FDS_MAX];
    char *program; // room for a path
    // outcome, written by the child in our memory
    int failed; // errno value
    enum channel_step step;
};

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000;
}

// ---- in the child, which shares our memory until it executes ---------------------------------

// Returns why it could not be executed; of several places, the one where there was something tells the most.
NO_SANITIZE static int try_program(const struct start *start, const char *program, int before)
{
    execve(program, start->argv, start->env);
    return before == 0 || before == ENOENT || before == ENOTDIR ? errno : before;
}

NO_SANITIZE static int find_program(const struct start *start)
{
    const char *name = start->argv[0], *at = start->path;
    size_t name_size = strlen(name);
    int tried = ENOENT;

    if (strchr(name, '/') != NULL) {
        return try_program(start, name, 0);
    }
    for (; at != NULL; at = *at == ':' ? at + 1 : NULL) {
        size_t size = strcspn(at, ":");

        memcpy(start->program, at, size);
        start->program[size] = '/';
        memcpy(start->program + size + (size > 0), name, name_size + 1);
        tried = try_program(start, start->program, tried);
        at += size;
    }
    return tried;
}

NO_SANITIZE static int become_command(void *arg)
{
    struct start *start = arg;
    const struct rlimit limit = {.rlim_cur = start->memory, .rlim_max = start->memory};

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start->step = STEP_DESCRIPTORS;
    for (int i = 0; i < CHANNEL_FDS_MAX; i++) {
        if (dup2(start->fds[i], i) < 0) {
            start->failed = errno;
            _exit(127);
        }
    }
    start->step = STEP_DIRECTORY;
    if (start->directory[0] != '\0' && chdir(start->directory) != 0) {
        start->failed = errno;
        _exit(127);
    }
    start->step = STEP_LIMIT;
    if (start->memory != 0 && setrlimit(RLIMIT_AS, &limit) != 0) {
        start->failed = errno;
        _exit(127);
    }
    start->step = STEP_EXEC;
    start->failed = find_program(start);
    _exit(127);
}

// ---- requests ---------------------------------------------------------------------------------

static bool is_same_name(const char *a, const char *b)
{
    size_t size = strcspn(a, "=");

    return strncmp(a, b, size) == 0 && b[size] == '=';
}

// Ours (unless cleared) with the given entries instead of or behind them.
static size_t merge_environment(char **to, char *const *given, uint32_t count, bool clear)
{
    size_t used = 0;

    for (char **own = environ; !clear && *own != NULL; own++) {
        bool replaced = false;

        for (uint32_t i = 0; i < count && !replaced; i++) {
            replaced = is_same_name(given[i], *own);
        }
        if (!replaced) {
            to[used++] = *own;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        bool replaced = false;

        for (uint32_t k = i + 1; k < count && !replaced; k++) {
            replaced = is_same_name(given[k], given[i]);
        }
        if (!replaced) {
            to[used++] = given[i];
        }
    }
    to[used] = NULL;
    return used;
}

static size_t count_environment(void)
{
    size_t count = 0;

    while (environ[count] != NULL) {
        count++;
    }
    return count;
}

static const char *find_path(char **env)
{
    for (; *env != NULL; env++) {
        if (strncmp(*env, "PATH=", 5) == 0) {
            return *env + 5;
        }
    }
    return "/usr/local/bin:/usr/bin:/bin";
}

// Pointers into the request; the worker wrote it as channel.h says.
static int read_request(struct spawner *spawner, struct start *start)
{
    const struct channel_command *command = (const void *)spawner->input;
    char *at = (char *)spawner->input + sizeof(*command);
    size_t own = count_environment();
    size_t pointers = (size_t)command->words + 1 + command->entries + own + command->entries + 1;
    size_t room;
    char **words, **given;

    start->directory = at;
    at += strlen(at) + 1;
    // Behind the pointers: room for the program's path.
    room = pointers * sizeof(char *) + command->size + strlen(find_path(environ)) + 4096;
    if (room > spawner->room) {
        free(spawner->word_list);
        spawner->word_list = malloc(room);
        spawner->room = spawner->word_list != NULL ? room : 0;
    }
    if (spawner->word_list == NULL) {
        return ENOMEM;
    }
    words = (char **)(void *)spawner->word_list;
    for (uint32_t i = 0; i < command->words; i++) {
        words[i] = at;
        at += strlen(at) + 1;
    }
    words[command->words] = NULL;
    given = words + command->words + 1;
    for (uint32_t i = 0; i < command->entries; i++) {
        given[i] = at;
        at += strlen(at) + 1;
    }
    start->argv = words;
    start->env = given + command->entries;
    merge_environment(start->env, given, command->entries, command->clear_env != 0);
    start->path = find_path(start->env);
    start->program = spawner->word_list + pointers * sizeof(char *);
    start->memory = command->memory;
    return 0;
}

static int map_input(struct spawner *spawner, size_t size)
{
    void *moved;

    if (size == spawner->input_size) {
        return 0;
    }
    moved = mremap(spawner->input, spawner->input_size, size, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) {
        return errno;
    }
    spawner->input = moved;
    spawner->input_size = size;
    return 0;
}

// ---- one command ------------------------------------------------------------------------------

// The worker is gone: so is what it has started.
static void end_as_orphan(const struct spawner *spawner, pid_t pid, int pidfd)
{
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};

    if (pid > 0) {
        kill(-pid, SIGTERM);
        poll(&fd, 1, ORPHAN_MS);
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    if (spawner->scratch[0] != '\0') {
        scratch_remove(spawner->scratch);
    }
    _exit(0);
}

static void wait_for_command(const struct spawner *spawner, pid_t pid, int pidfd)
{
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = CHANNEL_FD_SOCKET, .events = POLLIN}};
    struct channel_word word;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            _exit(EXIT_NO_WORDS);
        }
        if (fds[0].revents != 0) {
            return;
        }
        if (fds[1].revents != 0) {
            if (channel_receive(CHANNEL_FD_SOCKET, &word, NULL, false) != 1) {
                end_as_orphan(spawner, pid, pidfd);
            } else if (word.kind == WORD_SIGNAL) {
                kill(-pid, (int)word.number);
            }
        }
    }
}

static void run_command(struct spawner *spawner, const struct channel_word *request, int fds[CHANNEL_FDS_MAX])
{
    struct channel_word word = {.kind = WORD_EXIT};
    struct start start = {.step = STEP_REQUEST};
    uint64_t begin = now_us();
    struct rusage use;
    int pidfd = -1, status = 0;
    pid_t pid = -1;

    memcpy(start.fds, fds, sizeof(start.fds));
    start.failed = map_input(spawner, request->size);
    if (start.failed == 0) {
        start.failed = read_request(spawner, &start);
    }
    if (start.failed == 0) {
        pid = clone(become_command, spawner->stack + STACK_BYTES,
                    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &start, &pidfd);
        if (pid < 0) {
            start.step = STEP_CLONE;
            start.failed = errno;
        }
    }
    for (int i = 0; i < CHANNEL_FDS_MAX; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    if (pid > 0) {
        wait_for_command(spawner, pid, pidfd);
        // What it left behind in its group ends with it; until it is waited for, the number is its own.
        kill(-pid, SIGKILL);
        wait4(pid, &status, 0, &use);
        word.wall_us = now_us() - begin;
        word.cpu_us = (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000U +
                      (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
        word.peak_bytes = (uint64_t)use.ru_maxrss * 1024;
        word.status = status;
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    if (start.failed != 0) {
        word.code = start.failed;
        word.number = (uint64_t)start.step;
    }
    if (channel_send(CHANNEL_FD_SOCKET, &word, NULL, 0) != 0) {
        end_as_orphan(spawner, 0, -1);
    }
}

int spawner_main(const char *scratch)
{
    struct spawner spawner = {.scratch = scratch, .input_size = CHANNEL_INPUT};
    struct channel_word word = {.kind = WORD_HELLO, .number = CHANNEL_VERSION};
    void *input = mmap(NULL, CHANNEL_INPUT, PROT_READ | PROT_WRITE, MAP_SHARED, CHANNEL_FD_INPUT, 0);
    void *stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    int fds[CHANNEL_FDS_MAX];

    if (input == MAP_FAILED || stack == MAP_FAILED || channel_send(CHANNEL_FD_SOCKET, &word, NULL, 0) != 0) {
        return EXIT_NO_WORDS;
    }
    spawner.input = input;
    spawner.stack = stack;
    while (channel_receive(CHANNEL_FD_SOCKET, &word, fds, true) == 1) {
        if (word.kind == WORD_SPAWN) {
            run_command(&spawner, &word, fds);
        }
        // A signal for a command that has just ended has no one to go to.
    }
    end_as_orphan(&spawner, 0, -1);
    return 0;
}
