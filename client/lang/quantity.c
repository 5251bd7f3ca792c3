#include "client/lang/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

// ---- durations ----------------------------------------------------------------------------

static const struct {
    const char *name;
    double ns;
} times[] = {
    {"ms", 1e6}, {"us", 1e3}, {"ns", 1},     {"min", 60e9},
    {"s", 1e9},  {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9},
};

static int no_duration(const char *text, struct error *err)
{
    return error_set(err, EINVAL, "\"%s\" is not a time: say 30 (seconds), 1.5s, 200ms, 5m, 2h or 1h30m",
                     text);
}

int duration_parse(const char *text, uint64_t *ns, struct error *err)
{
    const char *at = text;
    double sum = 0;

    do {
        char *end = NULL;
        double number;
        size_t i = 0;

        if (!isdigit((unsigned char)at[0]) && at[0] != '.') {
            return no_duration(text, err);
        }
        number = strtod(at, &end);
        if (*end == '\0' && at == text) {
            sum = number * 1e9;
            break;
        }
        while (i < sizeof(times) / sizeof(times[0]) &&
               strncmp(end, times[i].name, strlen(times[i].name)) != 0) {
            i++;
        }
        if (i == sizeof(times) / sizeof(times[0])) {
            return no_duration(text, err);
        }
        sum += number * times[i].ns;
        at = end + strlen(times[i].name);
    } while (*at != '\0');
    if (!isfinite(sum) || sum > 9e18) {
        return error_set(err, ERANGE, "\"%s\" is longer than any time here can be", text);
    }
    *ns = (uint64_t)(sum + 0.5);
    return 0;
}
