#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/cli/command.h"

static const struct {
    const char *name;
    double factor;
} units[] = {
    {"", 1},
    {"b", 1},
    {"k", 1024},
    {"m", 1048576},
    {"g", 1073741824},
    {"t", 1099511627776},
    {"kib", 1024},
    {"mib", 1048576},
    {"gib", 1073741824},
    {"tib", 1099511627776},
    {"kb", 1e3},
    {"mb", 1e6},
    {"gb", 1e9},
    {"tb", 1e12},
};

int size_parse(const char *text, uint64_t *out, struct error *err)
{
    char *end = NULL;
    double number;

    if (!isdigit((unsigned char)text[0]) && text[0] != '.') {
        return error_set(err, EINVAL, "\"%s\" is not a size: say 256M, 1.5G, 64MB or 16MiB", text);
    }
    number = strtod(text, &end);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcasecmp(end, units[i].name) == 0) {
            double bytes = number * units[i].factor;

            if (!isfinite(bytes) || bytes < 1 || bytes > 9e18) {
                return error_set(err, ERANGE, "\"%s\" is no size that can be", text);
            }
            *out = (uint64_t)bytes;
            return 0;
        }
    }
    return error_set(err, EINVAL, "\"%s\" has the unknown unit \"%s\": say 256M, 1.5G, 64MB or 16MiB", text,
                     end);
}

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
