#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "client/cli/command.h"

static bool no_stdout;

int standard_streams_keep(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            no_stdout = no_stdout || fd == STDOUT_FILENO;
            if (open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) < 0) {
                return -errno;
            }
        }
    }
    return 0;
}

bool stdout_was_closed(void)
{
    return no_stdout;
}

void complain_text(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("dray: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void complain(const struct error *err)
{
    complain_text("%s", err->text);
}
