#include "worker/sources.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/map.h"
#include "worker/thread.h"

enum { STOP_SECONDS = 1, DEPTH_MAX = 64, STACK_BYTES = 256 << 10, NAME_BYTES_MAX = 4096 };

// ---- one walk ---------------------------------------------------------------------

struct walk {
    struct source_files *files;
    size_t capacity;
    struct map visited; // folders, by device and inode: symbolic links may lead in circles
};

void source_files_destroy(struct source_files *files)
{
    if (files == NULL) {
        return;
    }
    for (size_t i = 0; i < files->count; i++) {
        free(files->name[i]);
        free(files->path[i]);
    }
    free(files->name);
    free(files->path);
    free(files);
}

static int add_file(struct walk *walk, const char *name, const char *path)
{
    struct source_files *files = walk->files;

    if (files->count == walk->capacity) {
        size_t capacity = walk->capacity == 0 ? 64 : walk->capacity * 2;
        char **names = realloc(files->name, capacity * sizeof(*names));

        if (names == NULL) {
            return -ENOMEM;
        }
        files->name = names;

        char **paths = realloc(files->path, capacity * sizeof(*paths));

        if (paths == NULL) {
            return -ENOMEM;
        }
        files->path = paths;
        walk->capacity = capacity;
    }
    char *own_name = strdup(name), *own_path = strdup(path);

    if (own_name == NULL || own_path == NULL) {
        free(own_name);
        free(own_path);
        return -ENOMEM;
    }
    files->name[files->count] = own_name;
    files->path[files->count++] = own_path;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Names of a folder, sorted, so that a list that is cut off is the same each time.
static int list_folder(const char *path, char ***out, size_t *out_count)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char **names = NULL;
    size_t count = 0, capacity = 0;

    *out = NULL;
    *out_count = 0;
    if (dir == NULL) {
        return 0; // no permission, or gone meanwhile
    }
    while (count < SOURCES_FILES_MAX && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (count == capacity) {
            char **grown = realloc(names, (capacity == 0 ? 32 : capacity * 2) * sizeof(*grown));

            if (grown == NULL) {
                break;
            }
            names = grown;
            capacity = capacity == 0 ? 32 : capacity * 2;
        }
        names[count] = strdup(entry->d_name);
        if (names[count] == NULL) {
            break;
        }
        count++;
    }
    closedir(dir);
    if (count > 0) {
        qsort(names, count, sizeof(*names), compare_names);
    }
    *out = names;
    *out_count = count;
    return 0;
}

static int visit(struct walk *walk, const char *path, size_t root_size, const struct stat *st, int depth);

static int visit_folder(struct walk *walk, const char *path, size_t root_size, const struct stat *st,
                        int depth)
{
    struct map_key key = {(uint64_t)st->st_dev, (uint64_t)st->st_ino};
    char **names;
    size_t count;
    int rc;

    if (depth > DEPTH_MAX || map_get(&walk->visited, key) != NULL) {
        return 0;
    }
    rc = map_put(&walk->visited, key, walk);
    if (rc == 0) {
        rc = list_folder(path, &names, &count);
    }
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        char *child = NULL;
        struct stat child_st;

        if (rc == 0 && walk->files->count < SOURCES_FILES_MAX &&
            asprintf(&child, "%s/%s", path, names[i]) >= 0) {
            if (strlen(child) < NAME_BYTES_MAX && stat(child, &child_st) == 0) {
                rc = visit(walk, child, root_size, &child_st, depth + 1);
            }
            free(child);
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int visit(struct walk *walk, const char *path, size_t root_size, const struct stat *st, int depth)
{
    if (S_ISDIR(st->st_mode)) {
        return visit_folder(walk, path, root_size, st, depth);
    }
    if (S_ISREG(st->st_mode) && access(path, R_OK) == 0) {
        return add_file(walk, path + root_size + 1, path);
    }
    return 0;
}

int source_files_walk(const char *const *data_dir, struct source_files **out, struct error *err)
{
    struct walk walk = {.files = calloc(1, sizeof(struct source_files))};
    int rc = walk.files == NULL ? error_no_memory(err) : 0;

    for (size_t i = 0; rc == 0 && data_dir[i] != NULL; i++) {
        char *root = realpath(data_dir[i], NULL);
        struct stat st;

        if (root == NULL || stat(root, &st) != 0) {
            rc = error_set(err, errno, "--data-dir %s: %s", data_dir[i], strerror(errno));
        } else if (!S_ISDIR(st.st_mode)) {
            rc = error_set(err, ENOTDIR, "--data-dir %s: it is no folder", data_dir[i]);
        } else {
            rc = visit(&walk, root, strcmp(root, "/") == 0 ? 0 : strlen(root), &st, 0);
            if (rc != 0) {
                error_no_memory(err);
            }
        }
        free(root);
    }
    map_fini(&walk.visited);
    if (rc != 0) {
        source_files_destroy(walk.files);
        return rc;
    }
    *out = walk.files;
    return 0;
}

// ---- again and again --------------------------------------------------------------

struct sources {
    const char *const *data_dir;
    unsigned interval_ms;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping, started;
    struct source_files *fresh; // not taken yet
    uint64_t digest;            // of the last walk
    int fd;
};

// FNV-1a (Fowler, Noll, Vo) over all paths.
static uint64_t digest_files(const struct source_files *files)
{
    uint64_t hash = 0xcbf29ce484222325U;

    for (size_t i = 0; i < files->count; i++) {
        for (const char *at = files->path[i];; at++) {
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3U;
            if (*at == '\0') {
                break;
            }
        }
    }
    return hash;
}

// Takes over the files; under the lock.
static void publish(struct sources *sources, struct source_files *files)
{
    const uint64_t one = 1;
    uint64_t digest = digest_files(files);

    if (digest == sources->digest) {
        source_files_destroy(files);
        return;
    }
    source_files_destroy(sources->fresh);
    sources->fresh = files;
    sources->digest = digest;

    ssize_t written = write(sources->fd, &one, sizeof(one));

    (void)written; // full: it is readable anyway
}

static void *sources_main(void *arg)
{
    struct sources *sources = arg;

    pthread_mutex_lock(&sources->lock);
    while (!sources->stopping) {
        struct timespec deadline;
        struct source_files *files = NULL;

        clock_gettime(CLOCK_MONOTONIC, &deadline);
        deadline.tv_sec += sources->interval_ms / 1000;
        deadline.tv_nsec += (long)(sources->interval_ms % 1000) * 1000000;
        if (deadline.tv_nsec >= 1000000000) {
            deadline.tv_nsec -= 1000000000;
            deadline.tv_sec++;
        }
        if (pthread_cond_timedwait(&sources->wake, &sources->lock, &deadline) != ETIMEDOUT) {
            continue;
        }
        pthread_mutex_unlock(&sources->lock);

        // A folder that is gone for now keeps its files: their tasks say what is wrong.
        int rc = source_files_walk(sources->data_dir, &files, NULL);

        pthread_mutex_lock(&sources->lock);
        if (rc == 0) {
            publish(sources, files);
        }
    }
    pthread_mutex_unlock(&sources->lock);
    return NULL;
}

static int start_thread(struct sources *sources)
{
    int rc = thread_start(&sources->thread, STACK_BYTES, sources_main, sources);

    sources->started = rc == 0;
    return rc;
}

int sources_create(const char *const *data_dir, unsigned interval_ms, struct sources **out, struct error *err)
{
    struct sources *sources = calloc(1, sizeof(*sources));
    struct source_files *files;
    pthread_condattr_t attr;
    int rc;

    if (sources == NULL) {
        return error_no_memory(err);
    }
    sources->data_dir = data_dir;
    sources->interval_ms = interval_ms;
    sources->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&sources->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sources->wake, &attr);
    pthread_condattr_destroy(&attr);
    rc = sources->fd < 0 ? error_set(err, errno, "cannot watch --data-dir: %s", strerror(errno))
                         : source_files_walk(data_dir, &files, err);
    if (rc == 0) {
        publish(sources, files);
        rc = start_thread(sources);
        if (rc != 0) {
            error_set(err, -rc, "cannot start a thread: %s", strerror(-rc));
        }
    }
    if (rc != 0) {
        sources_destroy(sources);
        return rc;
    }
    *out = sources;
    return 0;
}

void sources_destroy(struct sources *sources)
{
    struct timespec deadline;

    if (sources == NULL) {
        return;
    }
    if (sources->started) {
        pthread_mutex_lock(&sources->lock);
        sources->stopping = true;
        pthread_cond_signal(&sources->wake);
        pthread_mutex_unlock(&sources->lock);
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += STOP_SECONDS;
        if (pthread_timedjoin_np(sources->thread, NULL, &deadline) != 0) {
            return; // stuck in a dead file system: what it uses stays
        }
    }
    source_files_destroy(sources->fresh);
    if (sources->fd >= 0) {
        close(sources->fd);
    }
    pthread_cond_destroy(&sources->wake);
    pthread_mutex_destroy(&sources->lock);
    free(sources);
}

int sources_fd(const struct sources *sources)
{
    return sources->fd;
}

struct source_files *sources_take(struct sources *sources)
{
    struct source_files *files;
    uint64_t count;

    pthread_mutex_lock(&sources->lock);

    ssize_t got = read(sources->fd, &count, sizeof(count));

    (void)got; // nothing there is fine
    files = sources->fresh;
    sources->fresh = NULL;
    pthread_mutex_unlock(&sources->lock);
    return files;
}
