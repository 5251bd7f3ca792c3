#include "worker/kernel/csv_names.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Names so far, and how often each was wanted.
struct slot {
    const char *name;
    uint32_t wanted;
    bool given;  // false: only known to be in the header
};

struct set {
    struct slot *slot;
    size_t mask;
};

static struct slot *find(struct set *set, const char *name)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (const char *p = name; *p != '\0'; p++) {
        h = (h ^ (uint8_t)*p) * UINT64_C(1099511628211);
    }
    size_t at = (size_t)(h ^ (h >> 32)) & set->mask;

    while (set->slot[at].name != NULL && strcmp(set->slot[at].name, name) != 0) {
        at = (at + 1) & set->mask;
    }
    return &set->slot[at];
}

int csv_names_make(const struct csv_record *header, struct arena *arena, char **names, struct error *err)
{
    struct set set = {.mask = 63};

    // Each column adds two names at most.
    while (set.mask < header->fields * 4) {
        set.mask = set.mask * 2 + 1;
    }
    set.slot = arena_zalloc(arena, (set.mask + 1) * sizeof(*set.slot));
    if (set.slot == NULL) {
        return error_no_memory(err);
    }
    for (size_t i = 0; i < header->fields; i++) {
        const struct string_view *f = &header->field[i];

        names[i] = f->size > 0 ? arena_strndup(arena, f->data, f->size) : arena_printf(arena, "Unnamed: %zu", i);
        if (names[i] == NULL) {
            return error_no_memory(err);
        }
        find(&set, names[i])->name = names[i];
    }
    for (size_t i = 0; i < header->fields; i++) {
        struct slot *wanted = find(&set, names[i]);

        if (!wanted->given) {
            wanted->given = true;
            continue;
        }
        for (;;) {
            char *name = arena_printf(arena, "%s.%u", names[i], ++wanted->wanted);

            if (name == NULL) {
                return error_no_memory(err);
            }
            struct slot *slot = find(&set, name);

            if (slot->name == NULL) {
                *slot = (struct slot){.name = name, .given = true};
                names[i] = name;
                break;
            }
        }
    }
    return 0;
}
