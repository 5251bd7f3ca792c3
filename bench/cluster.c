#include "bench/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/process.h"
#include "client/lib/client.h"

extern char **environ;

enum {
    WORKERS_MAX = 64,
    OPTIONS_MAX = 32,
    READY_MS = 10000,
    STOP_MS = 3000,
    LOOK_NS = 300000,
    RAN_MS = 5000
};

struct cluster {
    struct cluster_options options;
    char endpoint[256];
    int lifeline[2]; // closed when this process ends, however it does
    pid_t broker;
    pid_t worker[WORKERS_MAX];
    uint32_t workers;
    uint64_t born_ns, listen_ns;
};

// The executable beside this one.
static int find_program(const char *name, char path[PATH_MAX], struct error *err)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    char *slash;

    if (n < 0) {
        return error_set(err, errno, "cannot find this program: %s", strerror(errno));
    }
    path[n] = '\0';
    slash = strrchr(path, '/');
    snprintf(slash + 1, (size_t)(path + PATH_MAX - slash - 1), "%s", name);
    if (access(path, X_OK) != 0) {
        return error_set(err, errno, "there is no %s beside this program: build it first", path);
    }
    return 0;
}

// fd: one more that it shall inherit; -1: none.
static int start(const struct cluster *cluster, const char *name, char **argv, int fd, pid_t *out,
                 struct error *err)
{
    posix_spawn_file_actions_t actions;
    char path[PATH_MAX];
    int rc = find_program(name, path, err);

    if (rc != 0) {
        return rc;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    // Onto itself: without the close-on-exec flag.
    posix_spawn_file_actions_adddup2(&actions, cluster->lifeline[0], cluster->lifeline[0]);
    if (fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, fd, fd);
    }
    rc = posix_spawn(out, path, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? 0 : error_set(err, rc, "cannot start %s: %s", path, strerror(rc));
}

// The line that the broker writes when it listens; the last word is its address.
static int read_endpoint(struct cluster *cluster, int fd, struct error *err)
{
    char line[256];
    size_t used = 0;
    const char *word;

    while (used < sizeof(line) - 1 && (used == 0 || line[used - 1] != '\n')) {
        struct pollfd ready = {fd, POLLIN, 0};
        ssize_t n;

        if (poll(&ready, 1, READY_MS) <= 0 || (n = read(fd, line + used, sizeof(line) - 1 - used)) <= 0) {
            return error_set(err, ETIMEDOUT, "dray-broker did not start");
        }
        used += (size_t)n;
    }
    line[strcspn(line, "\n")] = '\0';
    word = strrchr(line, ' ') == NULL ? line : strrchr(line, ' ') + 1;
    snprintf(cluster->endpoint, sizeof(cluster->endpoint), "%s", word);
    return 0;
}

static int start_broker(struct cluster *cluster, struct error *err)
{
    char ready[16], lifeline[16];
    char *argv[] = {(char[]){"dray-broker"},
                    (char[]){"--listen"},
                    (char[]){"tcp://127.0.0.1:0"},
                    (char[]){"--quiet"},
                    (char[]){"--ready-fd"},
                    ready,
                    (char[]){"--lifeline"},
                    lifeline,
                    cluster->options.state != NULL ? (char[]){"--state"} : NULL,
                    (char *)(uintptr_t)cluster->options.state,
                    NULL};
    int pipe[2], rc;

    if (pipe2(pipe, O_CLOEXEC) != 0) {
        return error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
    }
    snprintf(ready, sizeof(ready), "%d", pipe[1]);
    snprintf(lifeline, sizeof(lifeline), "%d", cluster->lifeline[0]);
    cluster->born_ns = monotonic_ns();
    rc = start(cluster, "dray-broker", argv, pipe[1], &cluster->broker, err);
    close(pipe[1]);
    if (rc == 0) {
        rc = read_endpoint(cluster, pipe[0], err);
        cluster->listen_ns = monotonic_ns();
    }
    close(pipe[0]);
    return rc;
}

int cluster_add_workers(struct cluster *cluster, uint32_t count, struct error *err)
{
    char threads[16], lifeline[16], memory[32];
    const char *const *option = cluster->options.option;
    char *argv[OPTIONS_MAX] = {(char[]){"dray-worker"},
                               cluster->endpoint,
                               (char[]){"--quiet"},
                               (char[]){"--threads"},
                               threads,
                               (char[]){"--memory"},
                               memory,
                               (char[]){"--lifeline"},
                               lifeline};
    size_t arguments = 9;

    snprintf(threads, sizeof(threads), "%u", cluster->options.threads > 0 ? cluster->options.threads : 1);
    snprintf(memory, sizeof(memory), "%s",
             cluster->options.memory != NULL ? cluster->options.memory : "512M");
    snprintf(lifeline, sizeof(lifeline), "%d", cluster->lifeline[0]);
    for (size_t i = 0; option != NULL && option[i] != NULL && arguments < OPTIONS_MAX - 1; i++) {
        argv[arguments++] = (char *)(uintptr_t)option[i];
    }
    if (count > WORKERS_MAX - cluster->workers) {
        return error_set(err, EINVAL, "at most %d workers", WORKERS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        int rc = start(cluster, "dray-worker", argv, -1, &cluster->worker[cluster->workers], err);

        if (rc != 0) {
            return rc;
        }
        cluster->workers++;
    }
    return 0;
}

int cluster_create(const struct cluster_options *options, struct cluster **out, struct error *err)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    int rc;

    if (cluster == NULL) {
        return error_no_memory(err);
    }
    cluster->options = *options;
    cluster->lifeline[0] = cluster->lifeline[1] = -1;
    if (pipe2(cluster->lifeline, O_CLOEXEC) != 0) {
        rc = error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
    } else {
        rc = start_broker(cluster, err);
    }
    if (rc == 0) {
        rc = cluster_add_workers(cluster, options->workers, err);
    }
    if (rc != 0) {
        cluster_destroy(cluster);
        return rc;
    }
    *out = cluster;
    return 0;
}

static void await_end(pid_t pid, uint64_t deadline_ns)
{
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (monotonic_ns() > deadline_ns) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            return;
        }
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

void cluster_destroy(struct cluster *cluster)
{
    uint64_t deadline;

    if (cluster == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cluster->workers; i++) {
        kill(cluster->worker[i], SIGTERM);
    }
    deadline = monotonic_ns() + STOP_MS * 1000000ULL;
    for (uint32_t i = 0; i < cluster->workers; i++) {
        await_end(cluster->worker[i], deadline);
    }
    if (cluster->broker > 0) {
        kill(cluster->broker, SIGTERM);
        await_end(cluster->broker, deadline);
    }
    for (int i = 0; i < 2; i++) {
        if (cluster->lifeline[i] >= 0) {
            close(cluster->lifeline[i]);
        }
    }
    free(cluster);
}

const char *cluster_endpoint(const struct cluster *cluster)
{
    return cluster->endpoint;
}

static int look(dray_t *dray, uint32_t *workers, uint64_t *ran, struct error *err)
{
    const Dray__Cluster *found;
    struct arena arena;
    int rc;

    arena_init(&arena, 0);
    rc = client_cluster(dray, &arena, &found, err);
    if (rc == 0) {
        *workers = (uint32_t)found->n_worker;
        *ran = 0;
        for (size_t i = 0; i < found->n_worker; i++) {
            *ran += found->worker[i]->ran;
        }
    }
    arena_fini(&arena);
    return rc;
}

int cluster_await_workers(const struct cluster *cluster, dray_t *dray, struct error *err)
{
    uint64_t deadline = monotonic_ns() + READY_MS * 1000000ULL, ran;
    uint32_t workers;

    for (;;) {
        int rc = look(dray, &workers, &ran, err);

        if (rc != 0 || workers >= cluster->workers) {
            return rc;
        }
        if (monotonic_ns() > deadline) {
            return error_set(err, ETIMEDOUT, "only %u of %u workers came", workers, cluster->workers);
        }
        nanosleep(&(struct timespec){0, LOOK_NS}, NULL);
    }
}

int cluster_ran(dray_t *dray, uint64_t expected, uint64_t *ran, struct error *err)
{
    uint64_t begun = monotonic_ns(), last = 0;
    uint32_t workers;

    // Heartbeats carry it: one more after the count was reached tells of what came on top.
    for (;;) {
        int rc = look(dray, &workers, ran, err);
        uint64_t now = monotonic_ns();

        if (rc != 0 || now - begun > RAN_MS * 1000000ULL) {
            return rc;
        }
        if (*ran >= expected && last == 0) {
            last = now;
        }
        if (last > 0 && now - last > 1200000000U) {
            return 0;
        }
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
}

uint64_t cluster_listen_ns(const struct cluster *cluster)
{
    return cluster->listen_ns - cluster->born_ns;
}

uint64_t cluster_born_ns(const struct cluster *cluster)
{
    return cluster->born_ns;
}

static uint64_t own_cpu_ns(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000U +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000U;
}

void cluster_use(const struct cluster *cluster, struct cluster_use *use)
{
    *use = (struct cluster_use){
        .broker_ns = process_cpu_ns(cluster->broker),
        .client_ns = own_cpu_ns(),
        .broker_rss = process_rss(cluster->broker),
        .broker_peak = process_peak_rss(cluster->broker),
        .broker_written = process_written(cluster->broker),
    };
    for (uint32_t i = 0; i < cluster->workers; i++) {
        use->workers_ns += process_cpu_ns(cluster->worker[i]);
        use->workers_peak += process_peak_rss(cluster->worker[i]);
    }
}
