// Preloaded into a broker: what it writes to the files of its journal and has not been synced yet is
// remembered in $TORN_DISK/NAME, so that torn.py can take any of it back, as a power cut would.  An entry:
// where, how many bytes were there of how many that are written, and how long the file was (little-endian, 8
// bytes each), then what was there.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at);
int ftruncate64(int fd, off64_t size);
int fdatasync(int fd);
int fsync(int fd);

// Where what is written to fd is remembered.  False: it need not be.
static int name_of(int fd, char out[8192])
{
    const char *folder = getenv("TORN_DISK");
    char link[64], path[4096];
    const char *name;
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = folder != NULL ? readlink(link, path, sizeof(path) - 1) : -1;
    if (n <= 0) {
        return 0;
    }
    path[n] = '\0';
    name = strrchr(path, '/');
    return name != NULL && strncmp(name, "/journal.db", 11) == 0 &&
           snprintf(out, 8192, "%s%s", folder, name) < 8192;
}

static void remember(int fd, size_t size, off64_t at)
{
    char name[8192];
    struct stat file;
    uint64_t *entry;
    ssize_t there = 0;
    int log;

    if (!name_of(fd, name) || fstat(fd, &file) != 0 || (entry = malloc(size + 32)) == NULL) {
        return;
    }
    if (at < file.st_size) {
        there = syscall(SYS_pread64, fd, entry + 4, size, at);
    }
    entry[0] = (uint64_t)at;
    entry[1] = (uint64_t)(there > 0 ? there : 0);
    entry[2] = size;
    entry[3] = (uint64_t)file.st_size;
    log = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log < 0 || syscall(SYS_write, log, entry, 32 + entry[1]) < 0) {
        abort();
    }
    close(log);
    free(entry);
}

static void forget(int fd)
{
    char name[8192];

    if (name_of(fd, name)) {
        unlink(name);
    }
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    remember(fd, size, at);
    return syscall(SYS_pwrite64, fd, data, size, at);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    struct stat file;

    if (fstat(fd, &file) == 0 && file.st_size > size) {
        remember(fd, (size_t)(file.st_size - size), size);
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

EXPORT int fdatasync(int fd)
{
    int rc = (int)syscall(SYS_fdatasync, fd);

    if (rc == 0) {
        forget(fd);
    }
    return rc;
}

EXPORT int fsync(int fd)
{
    int rc = (int)syscall(SYS_fsync, fd);

    if (rc == 0) {
        forget(fd);
    }
    return rc;
}
