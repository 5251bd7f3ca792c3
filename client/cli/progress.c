#include "client/cli/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/socket.h"

enum {
    FIRST_US = 200000, // a job that is faster needs no bar
    INTERVAL_US = 100000,
    BAR_MAX = 40,
    LINE_MAX_BYTES = 512,
};

struct progress {
    bool shown;
    bool on;
    bool terminal;
    uint64_t start_us;
    uint64_t shown_us;
};

struct progress *progress_create(enum progress_mode mode)
{
    struct progress *progress = calloc(1, sizeof(*progress));

    if (progress != NULL) {
        const char *term = getenv("TERM");

        progress->terminal = isatty(STDERR_FILENO);
        progress->on = mode == PROGRESS_ALWAYS || (mode == PROGRESS_AUTO && progress->terminal &&
                                                   (term == NULL || strcmp(term, "dumb") != 0));
        progress->start_us = monotonic_us();
    }
    return progress;
}

static void scaled(double value, const char *unit, char *out, size_t size)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T"};
    size_t i = 0;

    while (value >= 999.5 && i + 1 < sizeof(prefixes) / sizeof(prefixes[0])) {
        value /= 1000;
        i++;
    }
    snprintf(out, size, "%.*f %s%s",
             value < 9.995   ? 2
             : value < 99.95 ? 1
                             : 0,
             value, prefixes[i], i == 0 && unit[0] == ' ' ? unit + 1 : unit);
}

int progress_mode_parse(const char *name, enum progress_mode *out, struct error *err)
{
    static const char *const names[] = {
        [PROGRESS_AUTO] = "auto", [PROGRESS_NEVER] = "never", [PROGRESS_ALWAYS] = "always"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum progress_mode)i;
            return 0;
        }
    }
    return error_set(err, EINVAL, "\"%s\" is not one of auto, never, always", name);
}

void progress_format(const struct query_progress *now, double seconds, unsigned columns, char *out,
                     size_t size)
{
    char tail[LINE_MAX_BYTES], rows[32], bytes[32];
    double part = now->tasks > 0 ? (double)now->done / (double)now->tasks : 0;
    size_t used, bar;

    if (size == 0) {
        return;
    }
    if (part > 1) {
        part = 1;
    }
    if (now->waiting != NULL && now->waiting[0] != '\0') {
        snprintf(tail, sizeof(tail), "%3d%%  waiting: %s", (int)(part * 100), now->waiting);
    } else if (seconds > 0 && now->rows > 0) {
        scaled((double)now->rows / seconds, " rows/s", rows, sizeof(rows));
        scaled((double)now->source_bytes / seconds, "B/s", bytes, sizeof(bytes));
        snprintf(tail, sizeof(tail), "%3d%%  %s  %s  %" PRIu64 "/%" PRIu64 " tasks  %u worker%s",
                 (int)(part * 100), rows, bytes, now->done, now->tasks, now->workers,
                 now->workers == 1 ? "" : "s");
    } else {
        char failed[32] = "", workers[32] = "";

        if (now->failed > 0) {
            snprintf(failed, sizeof(failed), ", %" PRIu64 " failed", now->failed);
        }
        if (now->workers != WORKERS_UNKNOWN) {
            snprintf(workers, sizeof(workers), "  %u worker%s", now->workers, now->workers == 1 ? "" : "s");
        }
        snprintf(tail, sizeof(tail), "%3d%%  %" PRIu64 "/%" PRIu64 " tasks%s%s", (int)(part * 100), now->done,
                 now->tasks, failed, workers);
    }
    used = strlen(tail);
    // What does not fit is left out from the right; the bar goes first.
    if (used >= columns) {
        tail[columns > 0 ? columns - 1 : 0] = '\0';
        snprintf(out, size, "%s", tail);
        return;
    }
    bar = columns - 1 - used;
    bar = bar > BAR_MAX + 3 ? BAR_MAX : bar > 3 ? bar - 3 : 0;
    if (bar < 5 || bar + 4 + used > size) {
        snprintf(out, size, "%s", tail);
        return;
    }

    char *at = out;

    *at++ = '[';
    for (size_t i = 0; i < bar; i++) {
        *at++ = (double)i < part * (double)bar ? '#' : ' ';
    }
    *at++ = ']';
    *at++ = ' ';
    memcpy(at, tail, used + 1);
}

static unsigned terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool progress_is_on(const struct progress *progress)
{
    return progress != NULL && progress->on;
}

void progress_show(struct progress *progress, const struct query_progress *now)
{
    uint64_t time = monotonic_us();
    char line[LINE_MAX_BYTES];

    if (progress == NULL || !progress->on || time - progress->start_us < FIRST_US ||
        (progress->shown && time - progress->shown_us < INTERVAL_US)) {
        return;
    }
    progress_format(now, (double)(time - progress->start_us) / 1e6, terminal_columns(), line, sizeof(line));
    // --progress always into a file: lines.
    fprintf(stderr, progress->terminal ? "\r%s\033[K" : "%s\n", line);
    fflush(stderr);
    progress->shown = true;
    progress->shown_us = time;
}

void progress_clear(struct progress *progress)
{
    if (progress != NULL && progress->shown) {
        if (progress->terminal) {
            fputs("\r\033[K", stderr);
            fflush(stderr);
        }
        progress->shown = false;
    }
}

void progress_destroy(struct progress *progress)
{
    progress_clear(progress);
    free(progress);
}
