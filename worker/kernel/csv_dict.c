#include "worker/kernel/csv_dict.h"

#include <errno.h>
#include <stdlib.h>

enum {
    FIRST_SLOTS = 256,
    SLOTS_SPARSE = 4096,  // 128 KB
    MOST_ENTRIES = 1 << 16,
    CACHE_LINES = 256,    // 8 KB
    CACHE_LINES_MAX = 4096,
    PROBES_MAX = 128,  // a run this long means bad luck or bad intent: give up the dictionary
    TEXT_CHUNK = 32 << 10,
};

struct csv_dict_text {
    struct csv_dict_text *next;
    size_t size, used;
    char data[];
};

static int take(struct csv_dict *d, uint64_t bytes, struct error *err)
{
    int rc = budget_take(d->budget, bytes, "a dictionary of strings", err);

    if (rc == 0) {
        d->taken += bytes;
    }
    return rc;
}

static int resize(struct csv_dict *d, uint32_t slots, struct error *err)
{
    uint64_t before = d->slot != NULL ? (uint64_t)(d->mask + 1) * sizeof(*d->slot) : 0;
    int rc = take(d, (uint64_t)slots * sizeof(*d->slot), err);

    if (rc < 0) {
        return rc;
    }
    struct csv_dict_slot *slot = aligned_alloc(64, slots * sizeof(*slot));

    if (slot == NULL) {
        return error_no_memory(err);
    }
    memset(slot, 0, slots * sizeof(*slot));
    for (uint32_t i = 0; d->slot != NULL && i <= d->mask; i++) {
        if (d->slot[i].size != 0) {
            uint32_t at = d->slot[i].hash & (slots - 1);

            while (slot[at].size != 0) {
                at = (at + 1) & (slots - 1);
            }
            slot[at] = d->slot[i];
        }
    }
    free(d->slot);
    budget_give(d->budget, before);
    d->taken -= before;
    d->slot = slot;
    d->mask = slots - 1;
    return 0;
}

int csv_dict_init(struct csv_dict *d, const struct csv_missing *missing, struct budget *budget, struct error *err)
{
    *d = (struct csv_dict){.missing = missing, .budget = budget};
    return resize(d, FIRST_SLOTS, err);
}

void csv_dict_fini(struct csv_dict *d)
{
    while (d->text != NULL) {
        struct csv_dict_text *next = d->text->next;

        free(d->text);
        d->text = next;
    }
    free(d->slot);
    free(d->cache);
    free(d->entry);
    free(d->invalid);
    if (d->budget != NULL) {
        budget_give(d->budget, d->taken);
    }
    *d = (struct csv_dict){0};
}

static int keep_text(struct csv_dict *d, const uint8_t *text, size_t size, const char **out, struct error *err)
{
    struct csv_dict_text *t = d->text;

    if (t == NULL || t->size - t->used < size) {
        size_t room = size > TEXT_CHUNK ? size : TEXT_CHUNK;
        int rc = take(d, sizeof(*t) + room, err);

        if (rc < 0) {
            return rc;
        }
        t = malloc(sizeof(*t) + room);
        if (t == NULL) {
            return error_no_memory(err);
        }
        *t = (struct csv_dict_text){.next = d->text, .size = room};
        d->text = t;
    }
    *out = t->data + t->used;
    if (size > 0) {
        memcpy(t->data + t->used, text, size);
    }
    t->used += size;
    return 0;
}

static int add_entry(struct csv_dict *d, const uint8_t *text, size_t size, uint32_t *code, struct error *err)
{
    uint32_t count = d->dictionary.count;
    const char *kept = NULL;

    if (count == d->room) {
        uint32_t room = d->room == 0 ? 64 : d->room * 2;
        int rc = take(d, (uint64_t)(room - d->room) * (sizeof(*d->entry) + 1), err);

        if (rc < 0) {
            return rc;
        }
        struct string_view *entry = realloc(d->entry, room * sizeof(*entry));

        if (entry == NULL) {
            return error_no_memory(err);
        }
        d->entry = entry;
        uint8_t *invalid = realloc(d->invalid, room);

        if (invalid == NULL) {
            return error_no_memory(err);
        }
        d->invalid = invalid;
        d->room = room;
    }
    int rc = keep_text(d, text, size, &kept, err);

    if (rc < 0) {
        return rc;
    }
    d->entry[count] = (struct string_view){kept, (uint32_t)size};
    d->invalid[count] = !csv_utf8_valid(text, size);
    d->any_invalid |= d->invalid[count];
    d->dictionary = (struct dictionary){d->entry, count + 1};
    *code = count;
    return 0;
}

// Of a string longer than a key: all of it.
static uint32_t hash_long(const uint8_t *text, size_t size)
{
    uint64_t h = size * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = 0;

    for (; size - i >= 8; i += 8) {
        uint64_t word;

        memcpy(&word, text + i, 8);
        h = (h ^ word) * UINT64_C(0xd6e8feb86659fd93);
        h ^= h >> 32;
    }
    if (i < size) {
        uint64_t word;

        memcpy(&word, text + size - 8, 8);
        h = (h ^ word) * UINT64_C(0xd6e8feb86659fd93);
    }
    return (uint32_t)(h >> 32);
}

static int add_slot(struct csv_dict *d, struct csv_dict_slot want, uint32_t at, const uint8_t *text, uint32_t *code,
                    struct error *err)
{
    int rc = 0;

    want.code = CSV_DICT_MISSING;
    if (csv_is_missing(d->missing, text, want.size)) {
        if (want.size > CSV_DICT_KEY) {
            // Its text is kept nowhere: told apart each time.
            *code = CSV_DICT_MISSING;
            return 0;
        }
    } else {
        rc = add_entry(d, text, want.size, &want.code, err);
    }
    if (rc < 0) {
        return rc;
    }
    d->slot[at] = want;
    d->used++;
    *code = want.code;
    // Only what lies in its own slot is found fast: a small table grows until all do.
    bool is_displaced = at != (want.hash & d->mask) && d->mask < SLOTS_SPARSE;

    return is_displaced || d->used * 2 > d->mask ? resize(d, (d->mask + 1) * 2, err) : 0;
}

static int add_empty(struct csv_dict *d, uint32_t *code, struct error *err)
{
    int rc = 0;

    if (!d->has_empty) {
        d->empty_code = CSV_DICT_MISSING;
        if (!d->missing->empty) {
            rc = add_entry(d, (const uint8_t *)"", 0, &d->empty_code, err);
        }
        d->has_empty = rc == 0;
    }
    *code = d->empty_code;
    return rc;
}

int csv_dict_add(struct csv_dict *d, const uint8_t *text, size_t size, uint32_t *code, struct error *err)
{
    if (size == 0) {
        return add_empty(d, code, err);
    }
    struct csv_dict_key key = csv_dict_key(text, (uint32_t)size);
    bool is_short = size <= CSV_DICT_KEY;
    struct csv_dict_slot want = {key.first, key.last, (uint32_t)size, 0,
                                 is_short ? csv_dict_hash(key, (uint32_t)size) : hash_long(text, size), 0};
    uint32_t at = want.hash & d->mask;
    int probes = 0;

    for (; d->slot[at].size != 0; at = (at + 1) & d->mask) {
        const struct csv_dict_slot *s = &d->slot[at];

        if (s->size == want.size && s->first == want.first && s->last == want.last &&
            (is_short || (s->hash == want.hash && memcmp(d->entry[s->code].data, text, size) == 0))) {
            *code = s->code;
            return 0;
        }
        if (++probes > PROBES_MAX) {
            return 1;
        }
    }
    if (d->dictionary.count >= MOST_ENTRIES) {
        return 1;
    }
    return add_slot(d, want, at, text, code, err);
}

int csv_dict_cache_grow(struct csv_dict *d, struct error *err)
{
    uint32_t old = d->cache == NULL ? 0 : d->cache_mask + 1;
    uint32_t lines = old == 0 ? CACHE_LINES : old * 2;

    d->cache_conflicts = 0;
    if (lines > CACHE_LINES_MAX) {
        return 0;
    }
    int rc = take(d, (lines - old) * sizeof(*d->cache), err);

    if (rc < 0) {
        return rc;
    }
    struct csv_cache_line *cache = aligned_alloc(64, lines * sizeof(*cache));

    if (cache == NULL) {
        return error_no_memory(err);
    }
    // No string has this size.
    memset(cache, 0xff, lines * sizeof(*cache));
    free(d->cache);
    d->cache = cache;
    d->cache_mask = lines - 1;
    return 0;
}

bool csv_dict_is_invalid(const struct csv_dict *d, uint32_t code)
{
    return d->invalid[code] != 0;
}
