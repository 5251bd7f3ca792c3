#define XXH_INLINE_ALL
#include "broker/graphfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { NAME_MAX_BYTES = 32 };

static void name_of(int64_t seq, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, "%" PRId64, seq);
}

struct graphfile graphfile_of(int64_t seq, const void *data, size_t size)
{
    return (struct graphfile){seq, size, XXH3_64bits(data, size)};
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);

        if (written < 0 && errno != EINTR) {
            return -errno;
        }
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

// Of one that does not fit not all is written that does, again and again.
static int make_room(int fd, uint64_t size)
{
    return fallocate(fd, 0, 0, (off_t)size) != 0 && (errno == ENOSPC || errno == EDQUOT) ? -errno : 0;
}

int graphfile_write(int folder, const char *path, const struct graphfile *file, const void *data,
                    struct error *err)
{
    char name[NAME_MAX_BYTES];
    int fd = openat(folder, "tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : make_room(fd, file->size);

    rc = rc == 0 ? write_all(fd, data, file->size) : rc;
    name_of(file->seq, name);
    if (rc == 0 && fsync(fd) != 0) {
        rc = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0 && renameat(folder, "tmp", folder, name) != 0) {
        rc = -errno;
    }
    if (rc == 0 && fsync(folder) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        unlinkat(folder, "tmp", 0);
        return error_set(err, -rc, "cannot write %s/%s: %s", path, name, strerror(-rc));
    }
    return 0;
}

static int read_all(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t got = read(fd, data, size);

        if (got == 0) {
            return -EBADMSG;
        }
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got > 0) {
            data += got;
            size -= (size_t)got;
        }
    }
    return 0;
}

int graphfile_read(int folder, const char *path, const struct graphfile *file, uint8_t **out,
                   struct error *err)
{
    char name[NAME_MAX_BYTES];
    struct stat stat;
    uint8_t *data = NULL;
    int fd, rc;

    name_of(file->seq, name);
    fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    rc = fd < 0 || fstat(fd, &stat) != 0 ? -errno : 0;
    // Before memory of that size is asked for.
    if (rc == 0 && (uint64_t)stat.st_size != file->size) {
        rc = -EBADMSG;
    }
    if (rc == 0) {
        data = malloc(file->size + 1);
        rc = data == NULL ? -ENOMEM : read_all(fd, data, file->size);
    }
    if (rc == 0 && XXH3_64bits(data, file->size) != file->sum) {
        rc = -EBADMSG;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc != 0) {
        free(data);
        return error_set(err, -rc, "cannot read %s/%s: %s", path, name,
                         rc == -EBADMSG ? "it is damaged" : strerror(-rc));
    }
    *out = data;
    return 0;
}

void graphfile_remove(int folder, int64_t seq)
{
    char name[NAME_MAX_BYTES];

    name_of(seq, name);
    unlinkat(folder, name, 0);
}

void graphfiles_sweep(int folder, bool (*wanted)(void *arg, int64_t seq), void *arg)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;

    if (dir == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        int64_t seq;
        int end = 0;
        bool is_ours = sscanf(entry->d_name, "%" SCNd64 "%n", &seq, &end) == 1 && entry->d_name[end] == '\0';

        if (strcmp(entry->d_name, "tmp") == 0 || (is_ours && !wanted(arg, seq))) {
            unlinkat(folder, entry->d_name, 0);
        }
    }
    closedir(dir);
}
