// The demo's data: category,price,quantity.
//
// Rows come in chunks of CHUNK_ROWS.  A chunk's random numbers depend on the seed
// and the chunk's number alone, so that the file is the same whatever the
// number of threads; chunks are written in order.
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/number.h"

enum { CHUNK_ROWS = 20000, ROW_MAX = 64, THREADS = 2 };

static const char header[] = "category,price,quantity\n";
static const char *const categories[] = {"Electronics", "Clothing", "Groceries", "Home Goods", "Toys", "Books"};

struct generator {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    uint64_t seed;
    uint64_t size;     // bytes wanted
    uint64_t written;
    uint64_t next_chunk;   // to be made
    uint64_t write_chunk;  // to be written
    int fd;
    int code;  // errno of a failed write
    bool full;
};

// splitmix64 (Steele, Lea, Flood 2014).
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static size_t make_chunk(uint64_t seed, uint64_t chunk, char *out)
{
    uint64_t mix = seed;
    uint64_t state = next_random(&mix) ^ (chunk * 0xd1342543de82ef95U);
    char *p = out;

    for (int i = 0; i < CHUNK_ROWS; i++) {
        uint64_t r = next_random(&state);
        const char *category = categories[(r & 0xffffffffU) % 6];
        double price = 10.0 + 990.0 * ((double)(next_random(&state) >> 11) * 0x1p-53);
        char number[NUMBER_TEXT_MAX];
        size_t n = strlen(category);

        memcpy(p, category, n);
        p += n;
        *p++ = ',';
        n = number_print_float64(price, number);
        memcpy(p, number, n);
        p += n;
        *p++ = ',';
        *p++ = (char)('1' + (r >> 62));
        *p++ = '\n';
    }
    return (size_t)(p - out);
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

// The part of a chunk that still fits, whole lines only.
static size_t cut(const char *data, size_t size, uint64_t room)
{
    if (size <= room) {
        return size;
    }
    size = (size_t)room;
    while (size > 0 && data[size - 1] != '\n') {
        size--;
    }
    return size;
}

static void *generate(void *arg)
{
    struct generator *g = arg;
    char *buffer = malloc((size_t)CHUNK_ROWS * ROW_MAX);

    pthread_mutex_lock(&g->lock);
    if (buffer == NULL) {
        g->code = ENOMEM;
        g->full = true;
    }
    while (!g->full) {
        uint64_t chunk = g->next_chunk++;

        pthread_mutex_unlock(&g->lock);
        size_t size = make_chunk(g->seed, chunk, buffer);

        pthread_mutex_lock(&g->lock);
        while (!g->full && g->write_chunk != chunk) {
            pthread_cond_wait(&g->turn, &g->lock);
        }
        if (!g->full) {
            size_t part = cut(buffer, size, g->size - g->written);

            g->code = write_all(g->fd, buffer, part);
            g->written += part;
            g->full = part < size || g->code != 0;
            g->write_chunk++;
        }
        pthread_cond_broadcast(&g->turn);
    }
    pthread_cond_broadcast(&g->turn);
    pthread_mutex_unlock(&g->lock);
    free(buffer);
    return NULL;
}

static bool parse_size(const char *text, uint64_t *out)
{
    char *end;
    double value = strtod(text, &end);
    double unit = 1;

    switch (*end) {
    case 'k': case 'K': unit = 1024.0; end++; break;
    case 'm': case 'M': unit = 1024.0 * 1024; end++; break;
    case 'g': case 'G': unit = 1024.0 * 1024 * 1024; end++; break;
    default: break;
    }
    if (end == text || *end != '\0' || !(value * unit >= (double)sizeof(header)) || value * unit > 1e15) {
        return false;
    }
    *out = (uint64_t)(value * unit);
    return true;
}

int bench_gen_sales(int argc, char **argv)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
    struct generator g = {.size = (uint64_t)3 << 30, .seed = 42};
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        char *end = NULL;

        if (opt == 's' && parse_size(optarg, &g.size)) {
            continue;
        }
        if (opt == 'r') {
            g.seed = strtoull(optarg, &end, 10);
            if (end != optarg && *end == '\0') {
                continue;
            }
        }
        fputs("usage: dray-bench gen-sales [--size 3G] [--seed 42] FILE\n", stderr);
        return 2;
    }
    if (optind != argc - 1) {
        fputs("usage: dray-bench gen-sales [--size 3G] [--seed 42] FILE\n", stderr);
        return 2;
    }
    const char *path = argv[optind];

    g.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (g.fd < 0) {
        fprintf(stderr, "dray-bench: cannot write '%s': %s\n", path, strerror(errno));
        return 1;
    }
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.turn, NULL);
    g.code = write_all(g.fd, header, sizeof(header) - 1);
    g.written = sizeof(header) - 1;
    g.full = g.code != 0;

    pthread_t thread[THREADS];
    int started = 0;

    while (started < THREADS && pthread_create(&thread[started], NULL, generate, &g) == 0) {
        started++;
    }
    if (started == 0) {
        generate(&g);
    }
    while (started > 0) {
        pthread_join(thread[--started], NULL);
    }
    pthread_cond_destroy(&g.turn);
    pthread_mutex_destroy(&g.lock);
    if (close(g.fd) != 0 && g.code == 0) {
        g.code = errno;
    }
    if (g.code != 0) {
        fprintf(stderr, "dray-bench: writing '%s' failed: %s\n", path, strerror(g.code));
        unlink(path);
        return 1;
    }
    return 0;
}
