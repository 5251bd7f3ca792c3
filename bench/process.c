#include "bench/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 300 };

uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

// The first number of a file, or of the line of it that begins with `key`.
static uint64_t read_number(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    uint64_t number = 0;
    char line[512];

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t n = key == NULL ? 0 : strlen(key);

        if (n == 0 || strncmp(line, key, n) == 0) {
            number = strtoull(line + n, NULL, 10);
            break;
        }
    }
    fclose(file);
    return number;
}

// Without scheduler statistics: user and system time in clock ticks.
static uint64_t cpu_by_ticks(pid_t pid)
{
    char path[PATH_BYTES], line[1024];
    uint64_t user = 0, system = 0;
    const char *at;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    at = fgets(line, sizeof(line), file) == NULL ? NULL : strrchr(line, ')');
    fclose(file);
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
                             &user, &system) != 2) {
        return 0;
    }
    return (user + system) * (1000000000U / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t process_cpu_ns(pid_t pid)
{
    char path[PATH_BYTES];
    uint64_t sum = 0;
    const struct dirent *entry;
    DIR *threads;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    threads = opendir(path);
    if (threads == NULL) {
        return 0;
    }
    while ((entry = readdir(threads)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, entry->d_name);
            sum += read_number(path, NULL);
        }
    }
    closedir(threads);
    return sum > 0 ? sum : cpu_by_ticks(pid);
}

uint64_t process_rss(pid_t pid)
{
    char path[PATH_BYTES];
    uint64_t kilobytes;

    // Exact, where the counters of status lag behind by some pages a thread.
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    kilobytes = read_number(path, "Rss:");
    if (kilobytes == 0) {
        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        kilobytes = read_number(path, "VmRSS:");
    }
    return kilobytes * 1024;
}

uint64_t process_peak_rss(pid_t pid)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    return read_number(path, "VmHWM:") * 1024;
}

uint64_t process_written(pid_t pid)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
    return read_number(path, "write_bytes:");
}
