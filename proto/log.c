#include "proto/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proto/error.h"

enum { LINE_MAX_BYTES = ERROR_TEXT_MAX + 512 };

static const char *const LEVEL_NAME[] = {"error", "warning", "info", "debug"};

void log_write(const struct log *log, enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    struct timespec now;
    struct tm local;
    va_list args;
    size_t used;
    int more;

    if (level > log->level) {
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    used = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &local);
    more = snprintf(line + used, sizeof(line) - used, ".%03ld %s %s: ", now.tv_nsec / 1000000, log->program,
                    LEVEL_NAME[level]);
    used += more > 0 ? (size_t)more : 0;
    va_start(args, format);
    more = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    more = more > 0 ? more : 0;
    size_t end = used + (size_t)more;

    if (end > sizeof(line) - 2) {
        end = sizeof(line) - 2;
    }
    for (size_t i = used; i < end; i++) {
        unsigned char c = (unsigned char)line[i];

        if (c < 0x20 || c == 0x7f) {
            line[i] = c == '\n' ? ' ' : '?'; // failures of programs have lines
        }
    }
    line[end++] = '\n';
    // Standard error that is gone is no reason to stop.
    ssize_t written = write(STDERR_FILENO, line, end);

    (void)written;
}
