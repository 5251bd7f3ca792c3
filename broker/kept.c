#define XXH_INLINE_ALL
#include "broker/kept.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static struct kept_name *of_name(struct hash_node *node)
{
    return node == NULL ? NULL : hash_entry(node, struct kept_name, by_name);
}

static struct kept_name *of_job(struct hash_node *node)
{
    return node == NULL ? NULL : hash_entry(node, struct kept_name, by_job);
}

static uint64_t hash_name(const char *name)
{
    return XXH3_64bits(name, strlen(name));
}

static void drop(struct kept *kept, struct kept_name *entry)
{
    hash_remove(&kept->by_name, &entry->by_name);
    hash_remove(&kept->by_job, &entry->by_job);
    free(entry);
}

void kept_init(struct kept *kept)
{
    hash_init(&kept->by_name);
    hash_init(&kept->by_job);
    kept->serial = 0;
}

void kept_fini(struct kept *kept)
{
    struct hash_node *node;

    while ((node = hash_any(&kept->by_name)) != NULL) {
        drop(kept, of_name(node));
    }
    hash_fini(&kept->by_name);
    hash_fini(&kept->by_job);
}

static struct kept_name *find(const struct kept *kept, const char *name)
{
    struct kept_name *entry = of_name(hash_first(&kept->by_name, hash_name(name)));

    while (entry != NULL && strcmp(entry->name, name) != 0) {
        entry = of_name(hash_next(&entry->by_name));
    }
    return entry;
}

static int check_name(const char *name, struct error *err)
{
    size_t size = strlen(name);

    if (size == 0 || size > KEPT_NAME_MAX) {
        return error_set(err, EINVAL, "a name to keep a job under has 1 to %d bytes, not %zu", KEPT_NAME_MAX,
                         size);
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return error_set(err, EINVAL, "a name to keep a job under has no control characters");
        }
    }
    return 0;
}

int kept_add(struct kept *kept, const char *name, uint32_t job, struct error *err)
{
    struct kept_name *entry = find(kept, name);
    size_t size = strlen(name) + 1;
    int rc;

    if (entry != NULL) {
        return entry->job == job
                   ? 0
                   : error_set(err, EEXIST,
                               "job %" PRIu32 " is kept as \"%s\": choose another name, or take "
                               "that one back first (dray unkeep)",
                               entry->job, name);
    }
    rc = check_name(name, err);
    if (rc != 0) {
        return rc;
    }
    if (kept->by_name.count >= KEPT_MAX) {
        return error_set(err, ENOSPC,
                         "this broker keeps %d names and takes no more: take some back (dray unkeep)",
                         KEPT_MAX);
    }
    entry = malloc(sizeof(*entry) + size);
    if (entry == NULL) {
        return error_no_memory(err);
    }
    memcpy(entry->name, name, size);
    entry->job = job;
    entry->serial = ++kept->serial;
    hash_add(&kept->by_name, &entry->by_name, hash_name(name));
    hash_add(&kept->by_job, &entry->by_job, hash_mix(job));
    return 1;
}

uint32_t kept_find(const struct kept *kept, const char *name)
{
    const struct kept_name *entry = find(kept, name);

    return entry == NULL ? 0 : entry->job;
}

uint64_t kept_serial(const struct kept *kept, const char *name)
{
    const struct kept_name *entry = find(kept, name);

    return entry == NULL ? 0 : entry->serial;
}

uint32_t kept_remove(struct kept *kept, const char *name)
{
    struct kept_name *entry = find(kept, name);
    uint32_t job = kept_find(kept, name);

    if (entry != NULL) {
        drop(kept, entry);
    }
    return job;
}

void kept_forget_job(struct kept *kept, uint32_t job)
{
    const struct kept_name *entry;

    while ((entry = kept_first(kept, job)) != NULL) {
        kept_remove(kept, entry->name);
    }
}

static const struct kept_name *at_job(struct hash_node *node, uint32_t job)
{
    struct kept_name *entry = of_job(node);

    while (entry != NULL && entry->job != job) {
        entry = of_job(hash_next(&entry->by_job));
    }
    return entry;
}

const struct kept_name *kept_first(const struct kept *kept, uint32_t job)
{
    return at_job(hash_first(&kept->by_job, hash_mix(job)), job);
}

const struct kept_name *kept_next(const struct kept_name *name)
{
    return at_job(hash_next(&name->by_job), name->job);
}
