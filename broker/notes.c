#include "broker/notes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// What the notes of a job begin with.
struct job_notes {
    struct hash_node by_job;
    uint32_t job;
    struct note *first, **last;
};

static uint64_t hash_task(uint32_t job, uint32_t layer, uint32_t index)
{
    return hash_mix(hash_mix((uint64_t)job << 32 | layer) ^ index);
}

static struct job_notes *find_job(const struct notes *notes, uint32_t job)
{
    struct hash_node *node = hash_first(&notes->jobs, hash_mix(job));

    while (node != NULL && hash_entry(node, struct job_notes, by_job)->job != job) {
        node = hash_next(node);
    }
    return node == NULL ? NULL : hash_entry(node, struct job_notes, by_job);
}

// Read by hand: for each command that is done, and one that cannot be read may be vital.
bool notes_is_vital(const void *bytes, size_t size)
{
    enum { USE = 4, DELIMITED = 2, SHORT = 0x7f };
    const uint8_t *at = bytes;

    return size < 2 || at[0] != (USE << 3 | DELIMITED) || at[1] > SHORT || (size_t)at[1] + 2 != size;
}

void notes_init(struct notes *notes)
{
    hash_init(&notes->by_task);
    hash_init(&notes->jobs);
    notes->bytes = 0;
}

static void drop(struct notes *notes, struct job_notes *job)
{
    while (job->first != NULL) {
        struct note *note = job->first;

        job->first = note->next;
        hash_remove(&notes->by_task, &note->by_task);
        notes->bytes -= sizeof(*note) + note->size;
        free(note);
    }
    hash_remove(&notes->jobs, &job->by_job);
    free(job);
}

void notes_fini(struct notes *notes)
{
    struct hash_node *node;

    while ((node = hash_any(&notes->jobs)) != NULL) {
        drop(notes, hash_entry(node, struct job_notes, by_job));
    }
    hash_fini(&notes->by_task);
    hash_fini(&notes->jobs);
}

bool notes_has(const struct notes *notes, uint32_t job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&notes->by_task, hash_task(job, layer, index));

    for (; node != NULL; node = hash_next(node)) {
        const struct note *note = hash_entry(node, struct note, by_task);

        if (note->job == job && note->layer == layer && note->index == index) {
            return true;
        }
    }
    return false;
}

int notes_add(struct notes *notes, uint32_t job, uint32_t layer, uint32_t index, const void *bytes,
              size_t size)
{
    struct job_notes *of = find_job(notes, job);
    struct note *note;

    if (notes_has(notes, job, layer, index)) {
        return 0;
    }
    if (size > NOTES_BYTES_MAX || notes->bytes > NOTES_BYTES_MAX - size) {
        return -ENOSPC;
    }
    note = malloc(sizeof(*note) + size);
    if (note == NULL) {
        return -ENOMEM;
    }
    if (of == NULL) {
        of = calloc(1, sizeof(*of));
        if (of == NULL) {
            free(note);
            return -ENOMEM;
        }
        of->job = job;
        of->last = &of->first;
        hash_add(&notes->jobs, &of->by_job, hash_mix(job));
    }
    note->next = NULL;
    note->job = job;
    note->layer = layer;
    note->index = index;
    note->size = size;
    if (size > 0) {
        memcpy(note->bytes, bytes, size);
    }
    *of->last = note;
    of->last = &note->next;
    hash_add(&notes->by_task, &note->by_task, hash_task(job, layer, index));
    notes->bytes += sizeof(*note) + size;
    return 1;
}

const struct note *notes_of(const struct notes *notes, uint32_t job)
{
    const struct job_notes *of = find_job(notes, job);

    return of == NULL ? NULL : of->first;
}

void notes_forget(struct notes *notes, uint32_t job)
{
    struct job_notes *of = find_job(notes, job);

    if (of != NULL) {
        drop(notes, of);
    }
}

void notes_sweep(struct notes *notes, bool (*is_here)(void *arg, uint32_t job), void *arg)
{
    for (size_t b = 0; b <= notes->jobs.mask; b++) {
        struct hash_node *next, *node = notes->jobs.bucket[b];

        for (; node != NULL; node = next) {
            struct job_notes *of = hash_entry(node, struct job_notes, by_job);

            next = node->next;
            if (!is_here(arg, of->job)) {
                drop(notes, of);
            }
        }
    }
}
