#define XXH_INLINE_ALL
#include "worker/store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "proto/map.h"

enum { HELD_BYTES = 128, CELLS = 64, STRIDE_MIN = 8, ROOM_MIN = 4 };

// A partition that is not small: what a page has of it is a pointer.
struct held {
    struct partition *partition;
    struct buffer *note;
    uint64_t note_checksum;
    uint64_t charged;
};

// Of 64 indices, those below `room` have a place.
struct page {
    uint64_t held; // bits
    uint64_t large;
    uint64_t noted;
    uint64_t charged; // for the page itself
    uint32_t room, stride;
    uint8_t *cell;      // room * stride
    uint32_t *checksum; // room: of those that are small
    uint8_t size[CELLS];
};

struct store {
    pthread_mutex_t lock;
    struct budget *budget;
    uint64_t epoch;
    struct map map; // of struct page
    uint64_t partitions, bytes;
    struct map_key last_key;
    struct page *last;           // the page that was found last; NULL: none
    struct store_damage *damage; // not taken yet
    size_t damages, damages_max;
};

struct store *store_create(struct budget *budget)
{
    struct store *store = calloc(1, sizeof(*store));

    if (store != NULL) {
        pthread_mutex_init(&store->lock, NULL);
        store->budget = budget;
    }
    return store;
}

static uint64_t bit(uint32_t cell)
{
    return (uint64_t)1 << cell;
}

static struct held *held_at(const struct page *page, uint32_t cell)
{
    struct held *held;

    memcpy(&held, page->cell + (size_t)cell * page->stride, sizeof(held));
    return held;
}

// Outside of the lock where that is possible: the last reference may give back a lot of memory.
static void held_destroy(struct store *store, struct held *held)
{
    if (held != NULL) {
        partition_unref(held->partition);
        buffer_unref(held->note);
        budget_give(store->budget, held->charged);
        free(held);
    }
}

static void page_destroy(struct store *store, struct page *page)
{
    for (uint64_t large = page->held & page->large; large != 0; large &= large - 1) {
        held_destroy(store, held_at(page, (uint32_t)__builtin_ctzll(large)));
    }
    budget_give(store->budget, page->charged);
    free(page->cell);
    free(page->checksum);
    free(page);
}

void store_clear(struct store *store, uint64_t epoch)
{
    struct map map;
    struct page *page;
    size_t at = 0;

    pthread_mutex_lock(&store->lock);
    map = store->map;
    store->map = (struct map){0};
    store->bytes = store->partitions = 0;
    store->last = NULL;
    store->epoch = epoch;
    store->damages = 0;
    pthread_mutex_unlock(&store->lock);
    while ((page = map_next(&map, &at, NULL)) != NULL) {
        page_destroy(store, page);
    }
    map_fini(&map);
}

void store_destroy(struct store *store)
{
    if (store != NULL) {
        store_clear(store, 0);
        free(store->damage);
        pthread_mutex_destroy(&store->lock);
        free(store);
    }
}

// ---- pages, under the lock --------------------------------------------------------

static struct map_key page_key(const struct store_key *key)
{
    return map_key_task(key->job, key->layer, key->index / CELLS);
}

static struct page *page_find(struct store *store, const struct store_key *key)
{
    struct map_key at = page_key(key);

    if (store->last == NULL || store->last_key.hi != at.hi || store->last_key.lo != at.lo) {
        struct page *page = map_get(&store->map, at);

        if (page == NULL) {
            return NULL;
        }
        store->last = page;
        store->last_key = at;
    }
    return store->last;
}

static struct page *page_get(struct store *store, const struct store_key *key, struct error *err)
{
    struct page *page = page_find(store, key);

    if (page != NULL) {
        return page;
    }
    page = calloc(1, sizeof(*page));
    if (page == NULL) {
        error_no_memory(err);
        return NULL;
    }
    if (budget_take(store->budget, sizeof(*page), "a partition to be held", err) != 0) {
        free(page);
        return NULL;
    }
    page->charged = sizeof(*page);
    page->stride = STRIDE_MIN;
    if (map_put(&store->map, page_key(key), page) != 0) {
        page_destroy(store, page);
        error_no_memory(err);
        return NULL;
    }
    store->bytes += page->charged;
    return page;
}

static void page_drop_if_empty(struct store *store, struct page *page, const struct store_key *key)
{
    if (page->held == 0) {
        map_remove(&store->map, page_key(key));
        store->bytes -= page->charged;
        if (store->last == page) {
            store->last = NULL;
        }
        page_destroy(store, page);
    }
}

// Room for cells below `room` of `stride` bytes each.
static int page_reserve(struct store *store, struct page *page, uint32_t room, size_t stride,
                        struct error *err)
{
    uint32_t new_room = page->room > 0 ? page->room : ROOM_MIN;
    uint32_t new_stride = page->stride;
    uint8_t *cell;
    int rc;

    if (room <= page->room && stride <= page->stride) {
        return 0;
    }
    while (new_room < room) {
        new_room *= 4;
    }
    while (new_stride < stride) {
        new_stride *= 2;
    }
    uint64_t more = (uint64_t)new_room * (new_stride + sizeof(*page->checksum)) -
                    (uint64_t)page->room * (page->stride + sizeof(*page->checksum));
    uint32_t *checksum;

    rc = budget_take(store->budget, more, "a partition to be held", err);
    if (rc != 0) {
        return rc;
    }
    checksum = realloc(page->checksum, (size_t)new_room * sizeof(*checksum));
    page->checksum = checksum != NULL ? checksum : page->checksum;
    cell = checksum != NULL ? malloc((size_t)new_room * new_stride) : NULL;
    if (cell == NULL) {
        budget_give(store->budget, more);
        return error_no_memory(err);
    }
    for (uint32_t i = 0; i < page->room; i++) {
        memcpy(cell + (size_t)i * new_stride, page->cell + (size_t)i * page->stride, page->stride);
    }
    free(page->cell);
    page->cell = cell;
    page->room = new_room;
    page->stride = new_stride;
    page->charged += more;
    store->bytes += more;
    return 0;
}

static uint32_t checksum_of(const uint8_t *data, size_t size)
{
    return (uint32_t)XXH3_64bits(data, size);
}

// Of one that is small.
static bool cell_is_intact(const struct page *page, uint32_t cell)
{
    return page->size[cell] <= page->stride && page->size[cell] <= STORE_SMALL &&
           checksum_of(page->cell + (size_t)cell * page->stride, page->size[cell]) == page->checksum[cell];
}

// What is there goes: the large one for who destroys it, NULL if it was small or not there.
static struct held *page_remove(struct store *store, struct page *page, uint32_t cell)
{
    struct held *held = NULL;

    if ((page->held & bit(cell)) == 0) {
        return NULL;
    }
    if ((page->large & bit(cell)) != 0) {
        held = held_at(page, cell);
        store->bytes -= held->charged;
    }
    page->held &= ~bit(cell);
    page->large &= ~bit(cell);
    page->noted &= ~bit(cell);
    store->partitions--;
    return held;
}

// It is told later.  Without memory for that it stays, and is found again: false.
static bool damage_add(struct store *store, const struct store_key *key, uint64_t bytes)
{
    if (store->damages == store->damages_max) {
        size_t max = store->damages_max == 0 ? 16 : store->damages_max * 2;
        struct store_damage *grown = realloc(store->damage, max * sizeof(*grown));

        if (grown == NULL) {
            return false;
        }
        store->damage = grown;
        store->damages_max = max;
    }
    store->damage[store->damages++] = (struct store_damage){*key, bytes};
    return true;
}

// The large one comes back for who destroys it; the page may be empty now.
static struct held *page_spoil(struct store *store, struct page *page, const struct store_key *key)
{
    uint32_t cell = key->index % CELLS;
    bool large = (page->large & bit(cell)) != 0;
    uint64_t bytes = large ? partition_bytes(held_at(page, cell)->partition) : page->size[cell];

    return damage_add(store, key, bytes) ? page_remove(store, page, cell) : NULL;
}

// ---- in -----------------------------------------------------------------------------

static int put_large(struct store *store, const struct store_key *key, struct held *held,
                     struct held **before, struct error *err)
{
    struct page *page = page_get(store, key, err);
    uint32_t cell = key->index % CELLS;
    int rc = page == NULL ? -ENOMEM : page_reserve(store, page, cell + 1, sizeof(struct held *), err);

    if (rc != 0) {
        if (page != NULL) {
            page_drop_if_empty(store, page, key);
        }
        return rc;
    }
    *before = page_remove(store, page, cell);
    memcpy(page->cell + (size_t)cell * page->stride, &held, sizeof(struct held *));
    page->held |= bit(cell);
    page->large |= bit(cell);
    page->noted |= held->note != NULL ? bit(cell) : 0;
    store->partitions++;
    store->bytes += held->charged;
    return 0;
}

static bool is_small(const struct partition *partition, const struct buffer *note)
{
    return note == NULL && partition->kind == PARTITION_BYTES && partition->bytes->size <= STORE_SMALL;
}

static uint32_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

static uint64_t note_checksum(const struct buffer *note)
{
    return note != NULL ? XXH3_64bits(note->data, note->size) : 0;
}

int store_put(struct store *store, uint64_t epoch, const struct store_key *key, struct partition *partition,
              struct buffer *note, uint64_t charged, struct error *err)
{
    uint64_t wanted = partition_bytes(partition) + (note == NULL ? 0 : note->size) + HELD_BYTES;
    struct held *held = NULL;
    struct held *before = NULL;
    int rc = 0;

    if (is_small(partition, note)) {
        uint8_t size = (uint8_t)partition->bytes->size;
        uint8_t data[STORE_SMALL] = {0};

        budget_give(store->budget, charged);
        charged = 0;
        if (size > 0) {
            memcpy(data, partition->bytes->data, size);
        }
        rc = store_put_small(store, epoch, key, 1, &size, data, err);
        goto out;
    }
    held = malloc(sizeof(*held));
    if (held == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    if (wanted > charged) {
        rc = budget_take(store->budget, wanted - charged, "a partition to be held", err);
        if (rc != 0) {
            goto out;
        }
    } else {
        budget_give(store->budget, charged - wanted);
    }
    charged = wanted;
    if (!partition->sealed) {
        rc = partition_seal(partition, err);
        if (rc != 0) {
            goto out;
        }
        atomic_store_explicit(&partition->intact_ms, now_ms(), memory_order_relaxed);
    }
    *held = (struct held){partition, note, note_checksum(note), wanted};
    pthread_mutex_lock(&store->lock);
    rc = store->epoch != epoch ? error_set(err, ECANCELED, "cancelled")
                               : put_large(store, key, held, &before, err);
    pthread_mutex_unlock(&store->lock);
    if (rc != 0) {
        goto out;
    }
    held = NULL;
    partition = NULL;
    note = NULL;
    charged = 0;
out:
    held_destroy(store, before);
    free(held);
    partition_unref(partition);
    buffer_unref(note);
    budget_give(store->budget, charged);
    return rc;
}

static int put_in_page(struct store *store, const struct store_key *key, uint32_t count, const uint8_t *size,
                       const uint8_t *data, struct error *err)
{
    struct page *page = page_get(store, key, err);
    uint32_t from = key->index % CELLS;
    size_t most = 1;
    int rc = page == NULL ? -ENOMEM : 0;

    for (uint32_t i = 0; i < count; i++) {
        most = size[i] > most ? size[i] : most;
    }
    if (rc == 0) {
        rc = page_reserve(store, page, from + count, most, err);
    }
    if (rc != 0) {
        if (page != NULL) {
            page_drop_if_empty(store, page, key);
        }
        return rc;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *to = page->cell + (size_t)(from + i) * page->stride;

        if ((page->held & bit(from + i)) != 0) {
            held_destroy(store, page_remove(store, page, from + i)); // rare
        }
        if (page->stride == sizeof(uint64_t)) {
            memcpy(to, data + (size_t)i * STORE_SMALL,
                   sizeof(uint64_t)); // what is beyond its size does not matter
        } else {
            memcpy(to, data + (size_t)i * STORE_SMALL, size[i]);
        }
        page->size[from + i] = size[i];
        page->checksum[from + i] = checksum_of(data + (size_t)i * STORE_SMALL, size[i]);
    }
    page->held |= (count == CELLS ? ~(uint64_t)0 : bit(count) - 1) << from;
    store->partitions += count;
    return 0;
}

int store_put_small(struct store *store, uint64_t epoch, const struct store_key *first, uint32_t count,
                    const uint8_t *size, const uint8_t *data, struct error *err)
{
    struct store_key key = *first;
    int rc = 0;

    pthread_mutex_lock(&store->lock);
    if (store->epoch != epoch) {
        rc = error_set(err, ECANCELED, "cancelled");
    }
    for (uint32_t done = 0; rc == 0 && done < count;) {
        uint32_t some = CELLS - key.index % CELLS;

        some = some < count - done ? some : count - done;
        rc = put_in_page(store, &key, some, size + done, data + (size_t)done * STORE_SMALL, err);
        done += some;
        key.index += some;
    }
    pthread_mutex_unlock(&store->lock);
    return rc;
}

// ---- out ----------------------------------------------------------------------------

static bool read_one(struct store *store, const struct store_key *key, struct store_value *value)
{
    struct page *page = page_find(store, key);
    uint32_t cell = key->index % CELLS;

    if (page == NULL || (page->held & bit(cell)) == 0) {
        return false;
    }
    if ((page->large & bit(cell)) != 0) {
        value->partition = partition_ref(held_at(page, cell)->partition);
        value->size = 0;
        return true;
    }
    if (!cell_is_intact(page, cell)) {
        page_spoil(store, page, key);
        page_drop_if_empty(store, page, key);
        return false;
    }
    value->partition = NULL;
    value->size = page->size[cell];
    if (page->stride == sizeof(uint64_t)) {
        memcpy(value->small, page->cell + (size_t)cell * sizeof(uint64_t), sizeof(uint64_t));
    } else {
        memcpy(value->small, page->cell + (size_t)cell * page->stride, value->size);
    }
    return true;
}

// Outside of the lock: it may take long.
static bool is_intact(struct partition *partition)
{
    uint32_t now = now_ms();

    if (now - atomic_load_explicit(&partition->intact_ms, memory_order_relaxed) <= STORE_TRUST_MS) {
        return true;
    }
    if (!partition_intact(partition)) {
        return false;
    }
    atomic_store_explicit(&partition->intact_ms, now, memory_order_relaxed);
    return true;
}

bool store_read(struct store *store, uint64_t epoch, const struct store_key *key, size_t count,
                struct store_value *value)
{
    size_t read = 0;
    bool intact = true;

    pthread_mutex_lock(&store->lock);
    while (store->epoch == epoch && read < count && read_one(store, &key[read], &value[read])) {
        read++;
    }
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; i < read; i++) {
        if (value[i].partition != NULL && !is_intact(value[i].partition)) {
            store_spoil(store, &key[i], value[i].partition);
            intact = false;
        }
    }
    if (read == count && intact) {
        return true;
    }
    while (read > 0) {
        partition_unref(value[--read].partition);
    }
    return false;
}

static struct partition *make_partition(const struct store_value *value)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(value->size, &data);

    if (bytes == NULL) {
        return NULL;
    }
    if (value->size > 0) {
        memcpy(data, value->small, value->size);
    }
    return partition_from_bytes(bytes);
}

struct partition *store_get(struct store *store, uint32_t job, uint32_t layer, uint32_t index)
{
    const struct store_key key = {job, layer, index};
    struct store_value value;
    bool found;

    pthread_mutex_lock(&store->lock);
    found = read_one(store, &key, &value);
    pthread_mutex_unlock(&store->lock);
    if (!found) {
        return NULL;
    }
    return value.partition != NULL ? value.partition : make_partition(&value);
}

void store_spoil(struct store *store, const struct store_key *key, const struct partition *partition)
{
    struct held *held = NULL;
    struct page *page;
    uint32_t cell = key->index % CELLS;

    pthread_mutex_lock(&store->lock);
    page = page_find(store, key);
    if (page != NULL && (page->held & bit(cell)) != 0 &&
        (partition == NULL ||
         ((page->large & bit(cell)) != 0 && held_at(page, cell)->partition == partition))) {
        held = page_spoil(store, page, key);
        page_drop_if_empty(store, page, key);
    }
    pthread_mutex_unlock(&store->lock);
    held_destroy(store, held);
}

bool store_take_damage(struct store *store, struct store_damage *out)
{
    bool any;

    pthread_mutex_lock(&store->lock);
    any = store->damages > 0;
    if (any) {
        *out = store->damage[--store->damages];
    }
    pthread_mutex_unlock(&store->lock);
    return any;
}

// Of one page; a list of the large ones comes back.
static void drop_in_page(struct store *store, const struct store_key *key, uint32_t count, struct held **gone,
                         size_t *gones)
{
    struct page *page = page_find(store, key);
    uint32_t from = key->index % CELLS;
    uint64_t mask = (count == CELLS ? ~(uint64_t)0 : bit(count) - 1) << from;

    if (page == NULL) {
        return;
    }
    for (uint64_t large = page->held & page->large & mask; large != 0; large &= large - 1) {
        gone[(*gones)++] = page_remove(store, page, (uint32_t)__builtin_ctzll(large));
    }
    store->partitions -= (uint64_t)__builtin_popcountll(page->held & mask);
    page->held &= ~mask;
    page_drop_if_empty(store, page, key);
}

void store_drop(struct store *store, const struct store_key *first, uint32_t count)
{
    struct store_key key = *first;
    struct held *gone[CELLS];

    while (count > 0) {
        uint32_t some = CELLS - key.index % CELLS;
        size_t gones = 0;

        // Many pages without large ones go under one lock.
        pthread_mutex_lock(&store->lock);
        do {
            some = CELLS - key.index % CELLS;
            some = some < count ? some : count;
            drop_in_page(store, &key, some, gone, &gones);
            key.index += some;
            count -= some;
        } while (count > 0 && gones == 0);
        pthread_mutex_unlock(&store->lock);
        while (gones > 0) {
            held_destroy(store, gone[--gones]);
        }
    }
}

static void item_of(const struct page *page, uint32_t cell, struct store_item *item)
{
    item->partition = NULL;
    item->note = NULL;
    item->small = NULL;
    if ((page->large & bit(cell)) != 0) {
        const struct held *held = held_at(page, cell);

        item->partition = held->partition;
        item->note = held->note;
        item->bytes = partition_bytes(held->partition);
        item->small_size = 0;
        item->damaged = held->note_checksum != note_checksum(held->note);
    } else {
        item->small = page->cell + (size_t)cell * page->stride;
        item->small_size = item->bytes = page->size[cell];
        item->damaged = !cell_is_intact(page, cell);
    }
}

void store_visit(struct store *store, const struct store_key *first, uint32_t count,
                 bool (*visit)(void *arg, const struct store_item *item), void *arg)
{
    uint64_t end = (uint64_t)first->index + count;
    struct store_key key = *first;
    bool go_on = true;

    pthread_mutex_lock(&store->lock);
    for (uint64_t at = first->index; at < end && go_on; at = (at / CELLS + 1) * CELLS) {
        key.index = (uint32_t)at;

        const struct page *page = page_find(store, &key);
        uint32_t from = key.index % CELLS;
        uint64_t some = page == NULL ? 0 : page->held & (~(uint64_t)0 << from);

        if (end - (at - from) < CELLS) {
            some &= bit((uint32_t)(end - (at - from))) - 1;
        }
        for (; some != 0 && go_on; some &= some - 1) {
            struct store_item item = {.index = key.index - from + (uint32_t)__builtin_ctzll(some)};

            item_of(page, item.index % CELLS, &item);
            go_on = visit(arg, &item);
        }
    }
    pthread_mutex_unlock(&store->lock);
}

void store_notes(struct store *store,
                 void (*visit)(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note),
                 void *arg)
{
    struct map_key at_key;
    struct page *page;

    pthread_mutex_lock(&store->lock);
    for (size_t at = 0; (page = map_next(&store->map, &at, &at_key)) != NULL;) {
        for (uint64_t noted = page->noted; noted != 0; noted &= noted - 1) {
            uint32_t cell = (uint32_t)__builtin_ctzll(noted);
            const struct held *held = held_at(page, cell);
            const struct store_key key = {(uint32_t)at_key.hi, (uint32_t)(at_key.lo >> 32),
                                          (uint32_t)at_key.lo * CELLS + cell};

            if (held->note_checksum == note_checksum(held->note)) {
                visit(arg, key.job, key.layer, key.index, held->note);
            } else {
                held_destroy(store, page_spoil(store, page, &key)); // rare; its page stays
            }
        }
    }
    pthread_mutex_unlock(&store->lock);
}

struct store_counts store_counts(struct store *store)
{
    struct store_counts counts;

    pthread_mutex_lock(&store->lock);
    counts = (struct store_counts){store->partitions, store->bytes};
    pthread_mutex_unlock(&store->lock);
    return counts;
}
