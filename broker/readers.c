#include "broker/state.h"

#include <errno.h>
#include <stdlib.h>

struct readers {
    size_t count;
    uint32_t client[];
};

static struct map_key job_key(uint32_t job)
{
    return (struct map_key){0, job};
}

const uint32_t *readers_of(const struct broker *broker, uint32_t job, size_t *count)
{
    const struct readers *readers = map_get(&broker->readers, job_key(job));

    *count = readers == NULL ? 0 : readers->count;
    return readers == NULL ? NULL : readers->client;
}

int readers_add(struct broker *broker, uint32_t job, uint32_t client)
{
    struct readers *before = map_get(&broker->readers, job_key(job));
    size_t count = before == NULL ? 0 : before->count;
    struct readers *after;

    for (size_t i = 0; i < count; i++) {
        if (before->client[i] == client) {
            return 0;
        }
    }
    after = malloc(sizeof(*after) + (count + 1) * sizeof(after->client[0]));
    if (after == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        after->client[i] = before->client[i];
    }
    after->client[count] = client;
    after->count = count + 1;
    if (map_put(&broker->readers, job_key(job), after) != 0) {
        free(after);
        return -ENOMEM;
    }
    free(before);
    return 0;
}

void readers_forget_job(struct broker *broker, uint32_t job)
{
    free(map_remove(&broker->readers, job_key(job)));
}

void readers_forget_client(struct broker *broker, uint32_t client)
{
    struct map_key key;
    struct readers *readers;

    for (size_t at = 0; (readers = map_next(&broker->readers, &at, &key)) != NULL;) {
        for (size_t i = 0; i < readers->count; i++) {
            if (readers->client[i] == client) {
                readers->client[i] = readers->client[--readers->count];
                break;
            }
        }
        if (readers->count == 0) {
            size_t before = broker->readers.capacity;

            free(map_remove(&broker->readers, key));
            // What stood behind it may have moved up, or, in a smaller map, anywhere.
            at = broker->readers.capacity == before ? at - 1 : 0;
        }
    }
}

void readers_fini(struct broker *broker)
{
    struct readers *readers;

    for (size_t at = 0; (readers = map_next(&broker->readers, &at, NULL)) != NULL;) {
        free(readers);
    }
    map_fini(&broker->readers);
}
