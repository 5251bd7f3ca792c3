#include "worker/kernel/csv_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int csv_file_error(int code, const char *name, struct error *err)
{
    switch (code) {
    case ENOENT:
        return error_set(err, code, "%s: no such file", name);
    case ENOTDIR:
        return error_set(err, code, "%s: no such file (a part of its path is not a directory)", name);
    case EACCES:
    case EPERM:
        return error_set(err, code, "%s: no permission to read it", name);
    case EISDIR:
        return error_set(err, code, "%s is a directory, not a file", name);
    default:
        return error_set(err, code, "%s: %s", name, strerror(code));
    }
}

// `real` (a real path) is `dir` or below it.
static bool is_below(const char *real, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(real, dir, n) == 0 && (n == 1 || real[n] == '/' || real[n] == '\0');
}

// The real path of a candidate when it exists inside the directory: 0, or a positive errno.
static int try(const char *candidate, const char *real_dir, char real[PATH_MAX])
{
    if (realpath(candidate, real) == NULL) {
        return errno;
    }
    return is_below(real, real_dir) ? 0 : ENOENT;
}

int csv_file_resolve(const char *path, const char *name, const char *const *data_dir, struct arena *arena,
                     const char **out, struct error *err)
{
    char real[PATH_MAX];
    char real_dir[PATH_MAX];
    int worst = ENOENT;

    if (data_dir == NULL) {
        *out = path;
        return 0;
    }
    for (size_t i = 0; data_dir[i] != NULL; i++) {
        int rc;

        if (realpath(data_dir[i], real_dir) == NULL) {
            continue;
        }
        rc = try(path, real_dir, real);
        if (rc == ENOENT || rc == ENOTDIR) {
            char *candidate = arena_printf(arena, "%s/%s", real_dir, name);

            if (candidate == NULL) {
                return error_no_memory(err);
            }
            rc = try(candidate, real_dir, real);
        }
        if (rc == 0) {
            *out = arena_strdup(arena, real);
            return *out != NULL ? 0 : error_no_memory(err);
        }
        if (rc != ENOENT && rc != ENOTDIR) {
            worst = rc;
        }
    }
    if (worst == ENOENT) {
        return error_set(err, ENOENT, "%s: no such file in this worker's data directories", name);
    }
    return csv_file_error(worst, name, err);
}

int csv_file_open(const char *path, const char *name, const char *const *data_dir, struct arena *arena,
                  struct csv_file *out, struct error *err)
{
    const char *where;
    struct stat st;
    int rc = csv_file_resolve(path, name, data_dir, arena, &where, err);

    if (rc < 0) {
        return rc;
    }
    // O_NONBLOCK: opening a pipe nobody writes to must not hang; no effect on regular files.
    int fd = open(where, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        return csv_file_error(errno, name, err);
    }
    if (fstat(fd, &st) < 0) {
        rc = csv_file_error(errno, name, err);
    } else if (S_ISDIR(st.st_mode)) {
        rc = csv_file_error(EISDIR, name, err);
    } else if (!S_ISREG(st.st_mode)) {
        rc = error_set(err, EINVAL, "%s is not a regular file; blocks of it cannot be read", name);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    out->fd = fd;
    out->size = (uint64_t)st.st_size;
    out->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return 0;
}

int csv_file_reopen(const Dray__CsvFile *probed, const char *const *data_dir, struct arena *arena,
                    struct csv_file *out, struct error *err)
{
    struct csv_file file = {.fd = -1};
    int rc = csv_file_open(probed->path, probed->name, data_dir, arena, &file, err);

    if (rc < 0) {
        return rc;
    }
    if (file.size == probed->size && file.mtime_ns != probed->mtime_ns) {
        csv_file_close(&file);
        return error_set(
            err, ESTALE,
            "%s changed since the job began (its %llu bytes were written again); run the job again",
            probed->name, (unsigned long long)probed->size);
    }
    if (file.size != probed->size) {
        csv_file_close(&file);
        return error_set(
            err, ESTALE,
            "%s changed since the job began (it had %llu bytes then and has %llu now); run the job again",
            probed->name, (unsigned long long)probed->size, (unsigned long long)file.size);
    }
    *out = file;
    return 0;
}

void csv_file_close(struct csv_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
}
