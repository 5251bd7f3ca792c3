#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"

int endpoint_check(const char *text, struct error *err)
{
    const char *port = strrchr(text, ':');
    char *end = NULL;
    long number;

    if (strncmp(text, "ipc://", 6) == 0 && text[6] != '\0') {
        return 0;
    }
    if (strncmp(text, "tcp://", 6) == 0 && port > text + 6 && isdigit((unsigned char)port[1])) {
        number = strtol(port + 1, &end, 10);
        if (*end == '\0' && number > 0 && number < 65536) {
            return 0;
        }
    }
    return error_set(err, EINVAL, "\"%s\" is not an address: say tcp://HOST:8786 or ipc:///PATH", text);
}

int count_parse(const char *text, uint32_t max, uint32_t *out, struct error *err)
{
    char *end = NULL;
    unsigned long number = 0;

    if (isdigit((unsigned char)text[0])) {
        errno = 0;
        number = strtoul(text, &end, 10);
    }
    if (end == NULL || *end != '\0' || errno != 0 || number < 1 || number > max) {
        return error_set(err, EINVAL, "\"%s\" is not a whole number from 1 to %u", text, max);
    }
    *out = (uint32_t)number;
    return 0;
}

int seconds_parse(const char *text, uint32_t *ms, struct error *err)
{
    char *end = NULL;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0) || seconds > 1e6) {
        return error_set(err, EINVAL, "\"%s\" is not a number of seconds", text);
    }
    *ms = (uint32_t)(seconds * 1000);
    return 0;
}
