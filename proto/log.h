// Log lines of the executables, on standard error: time, program, level, text.
// Libraries never log; what logs is handed a struct log by main.
#ifndef DRAY_PROTO_LOG_H
#define DRAY_PROTO_LOG_H

enum log_level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG };

struct log {
    const char *program;
    enum log_level level; // lines above it are dropped
};

// One line, written at once so that lines of several threads or processes do not
// mix.  Control characters in the text become '?': it may quote strangers.
void log_write(const struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
