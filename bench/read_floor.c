// The physical limits beside which the scan is judged: how fast the file's bytes
// arrive (pread into page-aligned blocks) and how fast memory is copied.
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, THREADS_MAX = 64, ROUNDS = 5 };

struct share {
    int fd;
    off_t first, end;
    uint64_t sum;  // so that nobody reads for nothing
    int code;
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *read_share(void *arg)
{
    struct share *s = arg;
    unsigned char *block = aligned_alloc(4096, BLOCK);

    if (block == NULL) {
        s->code = ENOMEM;
        return NULL;
    }
    for (off_t at = s->first; at < s->end; at += BLOCK) {
        ssize_t n = pread(s->fd, block, BLOCK, at);

        if (n <= 0) {
            s->code = n < 0 ? errno : 0;
            break;
        }
        s->sum += block[n - 1];
    }
    free(block);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

int bench_read_floor(int argc, char **argv)
{
    char *end = NULL;
    long threads = argc > 2 ? strtol(argv[2], &end, 10) : 2;

    if (argc < 2 || argc > 3 || (end != NULL && *end != '\0') || threads < 1 || threads > THREADS_MAX) {
        fputs("usage: dray-bench read-floor FILE [THREADS]\n", stderr);
        return 2;
    }
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        fprintf(stderr, "dray-bench: cannot read '%s': %s\n", argv[1], strerror(errno));
        return 1;
    }
    double reads[ROUNDS];
    double copies[ROUNDS];
    size_t copy_size = (size_t)256 << 20;
    char *from = malloc(copy_size);
    char *to = malloc(copy_size);

    if (from == NULL || to == NULL) {
        fputs("dray-bench: no memory\n", stderr);
        return 1;
    }
    memset(from, 1, copy_size);
    memset(to, 2, copy_size);
    for (int round = 0; round < ROUNDS; round++) {
        struct share share[THREADS_MAX];
        pthread_t thread[THREADS_MAX];
        off_t part = (st.st_size / threads / BLOCK + 1) * BLOCK;
        double start = seconds();

        for (long i = 0; i < threads; i++) {
            share[i] = (struct share){.fd = fd, .first = i * part, .end = (i + 1) * part};
            if (pthread_create(&thread[i], NULL, read_share, &share[i]) != 0) {
                fputs("dray-bench: cannot start a thread\n", stderr);
                return 1;
            }
        }
        for (long i = 0; i < threads; i++) {
            pthread_join(thread[i], NULL);
            if (share[i].code != 0) {
                fprintf(stderr, "dray-bench: reading '%s': %s\n", argv[1], strerror(share[i].code));
                return 1;
            }
        }
        reads[round] = seconds() - start;
        start = seconds();
        memcpy(to, from, copy_size);
        copies[round] = seconds() - start;
        from[round] = to[copy_size - 1];
    }
    double read = median(reads, ROUNDS);
    double copy = median(copies, ROUNDS);

    printf("{\"bytes\": %lld, \"threads\": %ld, \"read_s\": %.4f, \"read_gb_s\": %.2f, \"memcpy_gb_s\": %.2f}\n",
           (long long)st.st_size, threads, read, (double)st.st_size / read / 1e9, (double)copy_size / copy / 1e9);
    free(from);
    free(to);
    close(fd);
    return 0;
}
