#include "proto/vital.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOOT_MAX = 64 };

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

int vital_watch(const char *host, uint32_t pid)
{
    char own[VITAL_HOST_MAX];

    if (host == NULL || host[0] == '\0' || pid == 0 || pid > INT32_MAX) {
        return -1;
    }
    vital_host(own);
    return strcmp(own, host) == 0 ? pidfd_open((pid_t)pid, 0) : -1;
}

bool vital_ended(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLIN) != 0;
}
