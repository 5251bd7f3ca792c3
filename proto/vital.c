#include "proto/vital.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BOOT_MAX = 64,
    STAT_MAX = 1024,
    STAT_BIRTH = 20, // fields behind the program's name: see proc(5), starttime
};

void vital_host(char host[VITAL_HOST_MAX])
{
    char boot[BOOT_MAX];
    struct stat st;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, boot, sizeof(boot) - 1);

    if (fd >= 0) {
        close(fd);
    }
    host[0] = '\0';
    if (size <= 0 || stat("/proc/self/ns/pid", &st) != 0) {
        return;
    }
    boot[size] = '\0';
    boot[strcspn(boot, "\n")] = '\0';
    snprintf(host, VITAL_HOST_MAX, "%s:%" PRIu64, boot, (uint64_t)st.st_ino);
}

static bool is_here(const char *host, uint32_t pid)
{
    char own[VITAL_HOST_MAX];

    if (host == NULL || host[0] == '\0' || pid == 0 || pid > INT32_MAX) {
        return false;
    }
    vital_host(own);
    return strcmp(own, host) == 0;
}

int vital_watch(const char *host, uint32_t pid)
{
    return is_here(host, pid) ? pidfd_open((pid_t)pid, 0) : -1;
}

bool vital_ended(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLIN) != 0;
}

uint64_t vital_birth(uint32_t pid)
{
    char path[48], text[STAT_MAX];
    const char *at;
    ssize_t size = -1;
    int fd;

    snprintf(path, sizeof(path), "/proc/%" PRIu32 "/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        size = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    if (size <= 0) {
        return 0;
    }
    text[size] = '\0';
    at = strrchr(text, ')'); // the name may have any bytes
    for (int field = 0; at != NULL && field < STAT_BIRTH; field++) {
        at = strchr(at + 1, ' ');
    }
    return at != NULL ? strtoull(at + 1, NULL, 10) : 0;
}

int vital_find(const char *host, uint32_t pid, uint64_t birth)
{
    uint64_t born;
    int fd;

    if (!is_here(host, pid)) {
        return -ENOENT;
    }
    fd = pidfd_open((pid_t)pid, 0);
    if (fd < 0) {
        return errno == ESRCH ? -ESRCH : -ENOENT;
    }
    born = vital_birth(pid);
    if (vital_ended(fd) || (birth != 0 && born != 0 && born != birth)) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}
