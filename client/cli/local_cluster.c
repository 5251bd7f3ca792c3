#include "client/cli/local_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/reaper.h"
#include "client/cli/signals.h"
#include "proto/socket.h"

extern char **environ;

enum {
    READY_MS = 10000, // a broker that does not listen after so long never will
    STOP_MS = 1000,   // then the children are killed
    // The longest name that is made in the folder, and its zero: "/broker-exchange-XXXXXXXXXX".
    NAME_ROOM = 32,
};

struct local_cluster {
    char *directory;
    char *endpoint;
    struct reaper *reaper;
    int lifeline[2]; // closed when this process ends, however it does
    pid_t broker;
    pid_t *worker;
    uint32_t workers;
};

uint32_t local_cluster_processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;

    return n > 0 ? (uint32_t)n : 1;
}

static uint64_t half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages / 2 * (uint64_t)size : (uint64_t)1 << 30;
}

// ---- the folder -----------------------------------------------------------------------

static char *make_directory_in(const char *base)
{
    struct sockaddr_un address;
    char *path = NULL;

    if (base == NULL || base[0] != '/' || access(base, W_OK | X_OK) != 0) {
        return NULL;
    }
    if (asprintf(&path, "%s/dray-XXXXXX", base) < 0) {
        return NULL;
    }
    if (strlen(path) + NAME_ROOM > sizeof(address.sun_path) || mkdtemp(path) == NULL) {
        free(path);
        return NULL;
    }
    return path;
}

static int make_directory(struct local_cluster *cluster, struct error *err)
{
    const char *base[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};

    for (size_t i = 0; i < sizeof(base) / sizeof(base[0]) && cluster->directory == NULL; i++) {
        cluster->directory = make_directory_in(base[i]);
    }
    if (cluster->directory == NULL) {
        return error_set(
            err, EACCES,
            "cannot make a folder for the cluster's sockets in $XDG_RUNTIME_DIR, $TMPDIR or /tmp");
    }
    if (asprintf(&cluster->endpoint, "ipc://%s/broker", cluster->directory) < 0) {
        cluster->endpoint = NULL;
        return error_no_memory(err);
    }
    return 0;
}

// ---- children ---------------------------------------------------------------------------

// The executable beside this one, or the name alone, to be found in PATH.
static void find_program(const char *name, char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    char *slash;

    if (n > 0) {
        path[n] = '\0';
        slash = strrchr(path, '/');
        if (slash != NULL && (size_t)(slash + 1 - path) + strlen(name) < PATH_MAX) {
            memcpy(slash + 1, name, strlen(name) + 1);
            if (access(path, X_OK) == 0) {
                return;
            }
        }
    }
    snprintf(path, PATH_MAX, "%s", name);
}

struct child {
    const char *name;
    char **argv;
    int keep[2]; // descriptors that it shall inherit; -1: none
    pid_t group; // 0: its own
};

static int spawn(const struct child *child, pid_t *pid, struct error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults, none;
    char path[PATH_MAX];
    int rc;

    find_program(child->name, path);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    // The result is the client's to print; a pipe must not stay open through a child.
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    for (int i = 0; i < 2; i++) {
        if (child->keep[i] >= 0) {
            posix_spawn_file_actions_adddup2(&actions, child->keep[i], child->keep[i]);
        }
    }
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    // Ctrl-C is for the client alone, which then takes its cluster down.
    posix_spawnattr_setpgroup(&attributes, child->group);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    rc = posix_spawnp(pid, path, &actions, &attributes, child->argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        return error_set(err, rc, "cannot start %s: %s%s", path, strerror(rc),
                         rc == ENOENT ? " (it is looked for beside dray and in PATH)" : "");
    }
    return 0;
}

static int start_broker(struct local_cluster *cluster, int ready, struct error *err)
{
    char ready_text[16], lifeline_text[16];
    // Whose process ends is missed at once: who is silent has been held up, with the machine perhaps.
    char *argv[] = {(char[]){"dray-broker"}, (char[]){"--listen"},   cluster->endpoint,
                    (char[]){"--quiet"},     (char[]){"--ready-fd"}, ready_text,
                    (char[]){"--lifeline"},  lifeline_text,          (char[]){"--timeout"},
                    (char[]){"60"},          NULL};
    const struct child child = {"dray-broker", argv, {ready, cluster->lifeline[0]}, 0};
    int rc;

    snprintf(ready_text, sizeof(ready_text), "%d", ready);
    snprintf(lifeline_text, sizeof(lifeline_text), "%d", cluster->lifeline[0]);
    rc = spawn(&child, &cluster->broker, err);
    return rc == 0 ? reaper_watch(cluster->reaper, cluster->broker, err) : rc;
}

static int start_worker(struct local_cluster *cluster, const struct local_cluster_options *options,
                        struct error *err)
{
    char threads[16], memory[32], lifeline[16], name[32];
    // Options that may be left out come last.
    char *argv[14 + 2 * LOCAL_PLUGINS_MAX] = {(char[]){"dray-worker"},
                                              cluster->endpoint,
                                              (char[]){"--quiet"},
                                              (char[]){"--threads"},
                                              threads,
                                              (char[]){"--name"},
                                              name,
                                              (char[]){"--lifeline"},
                                              lifeline};
    size_t count = 9;
    const struct child child = {"dray-worker", argv, {cluster->lifeline[0], -1}, cluster->broker};
    int rc;

    snprintf(threads, sizeof(threads), "%u", options->threads);
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)options->memory);
    snprintf(lifeline, sizeof(lifeline), "%d", cluster->lifeline[0]);
    snprintf(name, sizeof(name), "local-%u", cluster->workers + 1);
    // 0: the worker's own default.
    if (options->memory != 0) {
        argv[count++] = (char *)(uintptr_t) "--memory";
        argv[count++] = memory;
    }
    for (size_t i = 0; options->plugin != NULL && options->plugin[i] != NULL && i < LOCAL_PLUGINS_MAX; i++) {
        argv[count++] = (char *)(uintptr_t) "--plugin";
        argv[count++] = (char *)(uintptr_t)options->plugin[i];
    }
    if (options->resources != NULL) {
        argv[count++] = (char *)(uintptr_t) "--resources";
        argv[count++] = (char *)(uintptr_t)options->resources;
    }
    rc = spawn(&child, &cluster->worker[cluster->workers], err);
    if (rc != 0) {
        return rc;
    }
    cluster->workers++;
    return reaper_watch(cluster->reaper, cluster->worker[cluster->workers - 1], err);
}

static void describe_end(const char *name, int status, struct error *err)
{
    if (WIFSIGNALED(status)) {
        error_set(err, ECHILD, "%s of the local cluster was ended by signal %d (%s)", name, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    } else {
        error_set(err, ECHILD, "%s of the local cluster ended with status %d", name, WEXITSTATUS(status));
    }
}

int local_cluster_check(const struct local_cluster *cluster, int wait_ms, struct error *err)
{
    struct pollfd fd = {.fd = signals_fd(), .events = POLLIN};
    int status;
    pid_t pid;

    // Its connection may end a moment before the process has.
    if (wait_ms > 0) {
        poll(&fd, 1, wait_ms);
    }
    pid = signals_child(&status);
    if (pid == 0) {
        return 0;
    }
    describe_end(pid == cluster->broker ? "the broker" : "the last worker", status, err);
    return -ECHILD;
}

static int await_ready(struct local_cluster *cluster, int ready, struct error *err)
{
    struct pollfd fd[] = {{.fd = ready, .events = POLLIN}, {.fd = signals_fd(), .events = POLLIN}};
    uint64_t end = monotonic_us() + (uint64_t)READY_MS * 1000;
    char line[256];

    for (;;) {
        uint64_t now = monotonic_us();
        int n = now < end ? poll(fd, 2, (int)((end - now) / 1000) + 1) : 0;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n > 0 && fd[0].revents != 0) {
            if (read(ready, line, sizeof(line)) > 0) {
                return 0;
            }
            return error_set(err, ECHILD, "the local cluster's broker could not start");
        }
        if (n > 0 && local_cluster_check(cluster, 0, err) != 0) {
            return -ECHILD;
        }
        if (n > 0) {
            return error_set(err, EINTR, "interrupted");
        }
        return error_set(err, ETIMEDOUT, "the local cluster's broker did not start within %d s",
                         READY_MS / 1000);
    }
}

int local_cluster_start(const struct local_cluster_options *given, struct local_cluster **out,
                        struct error *err)
{
    struct local_cluster_options options = *given;
    struct local_cluster *cluster = calloc(1, sizeof(*cluster));
    int ready[2] = {-1, -1};
    int rc;

    if (cluster == NULL) {
        return error_no_memory(err);
    }
    cluster->lifeline[0] = cluster->lifeline[1] = -1;
    if (options.workers == 0) {
        options.workers = 1;
    }
    if (options.threads == 0) {
        options.threads = local_cluster_processors() / options.workers;
        options.threads = options.threads > 0 ? options.threads : 1;
    }
    // A worker alone knows its own default.
    if (options.memory == 0 && options.workers > 1) {
        options.memory = half_of_memory() / options.workers;
    }
    cluster->worker = calloc(options.workers, sizeof(*cluster->worker));
    if (cluster->worker == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    rc = make_directory(cluster, err);
    if (rc != 0) {
        goto out;
    }
    rc = reaper_start(cluster->directory, &cluster->reaper, err);
    if (rc != 0) {
        goto out;
    }
    if (pipe2(cluster->lifeline, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0) {
        rc = error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
        goto out;
    }
    rc = start_broker(cluster, ready[1], err);
    while (rc == 0 && cluster->workers < options.workers) {
        rc = start_worker(cluster, &options, err);
    }
    if (rc != 0) {
        goto out;
    }
    close(ready[1]);
    ready[1] = -1;
    signals_watch(cluster->broker, cluster->worker, cluster->workers);
    rc = await_ready(cluster, ready[0], err);
    if (rc == 0) {
        *out = cluster;
        cluster = NULL;
    }
out:
    for (int i = 0; i < 2; i++) {
        if (ready[i] >= 0) {
            close(ready[i]);
        }
    }
    local_cluster_stop(cluster);
    return rc;
}

// ---- the end ----------------------------------------------------------------------------------

// -ECHILD: it is known to be gone.
static bool has_ended(pid_t pid)
{
    pid_t ended = waitpid(pid, NULL, WNOHANG);

    return ended == pid || (ended < 0 && errno == ECHILD);
}

static void end_children(struct local_cluster *cluster, const pid_t *pid, size_t count)
{
    const struct timespec nap = {.tv_nsec = 200000};
    uint64_t end = monotonic_us() + (uint64_t)STOP_MS * 1000;

    (void)cluster;
    for (size_t i = 0; i < count; i++) {
        while (pid[i] > 0 && !has_ended(pid[i])) {
            if (monotonic_us() > end) {
                kill(pid[i], SIGKILL);
                waitpid(pid[i], NULL, 0);
                break;
            }
            nanosleep(&nap, NULL);
        }
    }
}

void local_cluster_stop(struct local_cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    signals_unwatch();
    // Both know the lifeline's end as a request to stop.
    for (int i = 0; i < 2; i++) {
        if (cluster->lifeline[i] >= 0) {
            close(cluster->lifeline[i]);
        }
    }
    end_children(cluster, cluster->worker, cluster->worker != NULL ? cluster->workers : 0);
    end_children(cluster, &cluster->broker, 1);
    if (cluster->reaper != NULL) {
        reaper_finish(cluster->reaper);
    } else if (cluster->directory != NULL) {
        rmdir(cluster->directory);
    }
    free(cluster->worker);
    free(cluster->endpoint);
    free(cluster->directory);
    free(cluster);
}

const char *local_cluster_endpoint(const struct local_cluster *cluster)
{
    return cluster->endpoint;
}
