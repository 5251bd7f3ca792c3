#include "broker/absent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t absent_describe(const char *name, uint32_t pid, uint64_t birth, char out[ABSENT_BODY_MAX])
{
    char host[VITAL_HOST_MAX];

    vital_host(host);
    return (size_t)snprintf(out, ABSENT_BODY_MAX, "%.*s\n%s\n%" PRIu32 " %" PRIu64, PEER_NAME_MAX, name, host,
                            pid, birth);
}

// Where the last line begins; 0: there is but one.
static size_t last_line(const char *text, size_t size)
{
    while (size > 0 && text[size - 1] != '\n') {
        size--;
    }
    return size;
}

size_t absent_name(const char *body, size_t size)
{
    size_t process = last_line(body, size);
    size_t host = process > 0 ? last_line(body, process - 1) : 0;

    return host > 0 ? host - 1 : size;
}

// Where it runs, as vital_find says.
static int find(const char *body, size_t size)
{
    size_t process = last_line(body, size), name = absent_name(body, size);
    char host[VITAL_HOST_MAX], numbers[64];
    uint32_t pid = 0;
    uint64_t birth = 0;

    if (name == size || process - name - 2 >= sizeof(host) || size - process >= sizeof(numbers)) {
        return -ENOENT;
    }
    memcpy(host, body + name + 1, process - name - 2);
    host[process - name - 2] = '\0';
    memcpy(numbers, body + process, size - process);
    numbers[size - process] = '\0';
    return sscanf(numbers, "%" SCNu32 " %" SCNu64, &pid, &birth) == 2 ? vital_find(host, pid, birth)
                                                                      : -ENOENT;
}

int absents_add(struct absents *absents, uint64_t incarnation, const char *body, size_t size)
{
    int process = find(body, size);
    struct absent *more;

    if (process < 0) {
        return process == -ESRCH;
    }
    more = realloc(absents->absent, (absents->count + 1) * sizeof(*more));
    if (more == NULL) {
        close(process);
        return 0; // then it is waited for as one elsewhere is
    }
    absents->absent = more;
    more[absents->count++] = (struct absent){incarnation, process};
    return 0;
}

bool absents_ended(struct absents *absents, uint64_t now_us, uint64_t *incarnation)
{
    if (absents->count > 0 && now_us > absents->until_us) {
        absents_fini(absents);
    }
    for (size_t i = 0; i < absents->count; i++) {
        if (vital_ended(absents->absent[i].process)) {
            *incarnation = absents->absent[i].incarnation;
            close(absents->absent[i].process);
            absents->absent[i] = absents->absent[--absents->count];
            return true;
        }
    }
    return false;
}

void absents_fini(struct absents *absents)
{
    while (absents->count > 0) {
        close(absents->absent[--absents->count].process);
    }
    free(absents->absent);
    absents->absent = NULL;
}
