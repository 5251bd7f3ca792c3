#include "broker/state.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_FILES_MAX = 100000 };

static uint64_t cpu_us(void)
{
    struct timespec used = {0};

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

int query_cluster(struct broker *broker, struct peer *client, const Dray__ClusterQuery *query,
                  struct error *err)
{
    struct arena *arena = &broker_turn(broker)->arena;
    Dray__Cluster cluster = DRAY__CLUSTER__INIT;
    struct sched_counts counts;
    size_t n = broker->peers.workers;
    Dray__WorkerInfo *info = arena_array(arena, n + 1, sizeof(*info));

    cluster.worker = arena_array(arena, n + 1, sizeof(*cluster.worker));
    if (info == NULL || cluster.worker == NULL) {
        return error_no_memory(err);
    }
    for (struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        Dray__WorkerInfo *at = &info[cluster.n_worker];

        if (peer->role != FROM_WORKER) {
            continue;
        }
        dray__worker_info__init(at);
        at->worker = peer->number;
        at->name = peer->name;
        at->has_incarnation = true;
        at->incarnation = peer->incarnation;
        at->threads = peer->threads;
        at->memory = peer->memory;
        at->has_memory_used = at->has_rss = at->has_running = at->has_queued = at->has_ran = true;
        at->memory_used = peer->memory_used;
        at->rss = peer->rss;
        at->ran = peer->ran;
        at->has_leaving = peer->leaving;
        at->leaving = peer->leaving;
        at->has_damaged = true;
        at->damaged = peer->damaged;
        at->running = peer->running;
        at->queued = peer->queued;
        at->has_partitions = true;
        at->partitions = sched_worker_partitions(broker->sched, peer->number);
        at->has_data_dirs = true;
        at->data_dirs = !peer->shared_files;
        at->n_label = peer->labels;
        at->label = peer->label;
        at->n_resource = peer->resources;
        at->resource = peer->resource;
        cluster.worker[cluster.n_worker++] = at;
    }
    sched_counts(broker->sched, &counts);
    cluster.tag = query->tag;
    cluster.has_jobs = cluster.has_clients = true;
    cluster.jobs = counts.jobs > UINT32_MAX ? UINT32_MAX : (uint32_t)counts.jobs;
    cluster.clients = broker->peers.clients;
    cluster.has_cpu_us = cluster.has_core_us = true;
    cluster.cpu_us = cpu_us();
    cluster.core_us = broker->core_ns / 1000;
    cluster.has_recomputed = true;
    cluster.recomputed = counts.recomputed;
    cluster.has_handed_over = true;
    cluster.handed_over = counts.handed_over;
    cluster.has_second_runs = true;
    cluster.second_runs = counts.second_runs;
    cluster.has_relayed = true;
    cluster.relayed = broker->relayed_bytes;
    sessions_send(broker->sessions, client, FRAME_CLUSTER, &cluster.base, NULL, 0);
    return 0;
}

static bool matches(const Dray__SourceQuery *query, const char *name, const char *path)
{
    const char *pattern = strncmp(query->pattern, "./", 2) == 0 ? query->pattern + 2 : query->pattern;

    if (query->glob) {
        return fnmatch(pattern, name, FNM_PATHNAME | FNM_PERIOD) == 0 ||
               fnmatch(query->path, path, FNM_PATHNAME | FNM_PERIOD) == 0;
    }
    return strcmp(pattern, name) == 0 || strcmp(query->path, path) == 0;
}

static int compare_files(const void *a, const void *b)
{
    const Dray__SourceFile *x = *(Dray__SourceFile *const *)a, *y = *(Dray__SourceFile *const *)b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : strcmp(x->path, y->path);
}

// Sorted by name; what several workers have is there once.
static void tidy(Dray__Sources *sources)
{
    size_t kept = 0;

    if (sources->n_file == 0) {
        return;
    }
    qsort(sources->file, sources->n_file, sizeof(*sources->file), compare_files);
    for (size_t i = 1; i < sources->n_file; i++) {
        if (compare_files(&sources->file[kept], &sources->file[i]) != 0) {
            sources->file[++kept] = sources->file[i];
        }
    }
    sources->n_file = kept + 1;
}

static size_t count_matches(const struct broker *broker, const Dray__SourceQuery *query)
{
    size_t count = 0;

    for (const struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        for (size_t i = 0; i < peer->files; i++) {
            count += matches(query, peer->file[2 * i], peer->file[2 * i + 1]);
        }
    }
    return count;
}

int query_sources(struct broker *broker, struct peer *client, const Dray__SourceQuery *query,
                  struct error *err)
{
    struct arena *arena = &broker_turn(broker)->arena;
    Dray__Sources sources = DRAY__SOURCES__INIT;
    size_t n = count_matches(broker, query);
    Dray__SourceFile *file = arena_array(arena, n + 1, sizeof(*file));

    sources.file = arena_array(arena, n + 1, sizeof(*sources.file));
    sources.worker = arena_array(arena, broker->peers.workers + (size_t)1, sizeof(*sources.worker));
    if (file == NULL || sources.file == NULL || sources.worker == NULL) {
        return error_no_memory(err);
    }
    sources.tag = query->tag;
    for (struct peer *peer = broker->peers.first; peer != NULL; peer = peer->next) {
        if (peer->role != FROM_WORKER) {
            continue;
        }
        sources.shared = sources.shared || peer->shared_files;
        sources.worker[sources.n_worker++] = peer->name;
        for (size_t i = 0; i < peer->files; i++) {
            if (matches(query, peer->file[2 * i], peer->file[2 * i + 1])) {
                Dray__SourceFile *at = &file[sources.n_file];

                dray__source_file__init(at);
                at->name = peer->file[2 * i];
                at->path = peer->file[2 * i + 1];
                sources.file[sources.n_file++] = at;
            }
        }
    }
    tidy(&sources);
    sources.n_file = sources.n_file < ANSWER_FILES_MAX ? sources.n_file : ANSWER_FILES_MAX;
    sessions_send(broker->sessions, client, FRAME_SOURCES, &sources.base, NULL, 0);
    return 0;
}
