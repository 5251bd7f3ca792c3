#include "broker/core/demand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { NAMES_SHOWN = 4 };

static const char plugin_prefix[] = "plugin:";

static bool is_plugin(const char *label)
{
    return strncmp(label, plugin_prefix, sizeof(plugin_prefix) - 1) == 0;
}

// ---- made of a layer ---------------------------------------------------------------------------

static uint64_t hash_of(const Dray__Layer *graph)
{
    uint64_t hash = 0;

    for (size_t k = 0; k < graph->n_worker; k++) {
        hash = XXH3_64bits_withSeed(graph->worker[k], strlen(graph->worker[k]), hash + 1);
    }
    for (size_t k = 0; k < graph->n_resource; k++) {
        const Dray__Resource *resource = graph->resource[k];

        hash = XXH3_64bits_withSeed(resource->name, strlen(resource->name), hash + resource->amount);
    }
    return hash;
}

// As it is written down: a worker name or resource comes in the same order.
static bool is_same(const struct demand *demand, const Dray__Layer *graph)
{
    if (demand->workers != graph->n_worker || demand->resources != graph->n_resource) {
        return false;
    }
    for (size_t k = 0; k < graph->n_worker; k++) {
        if (strcmp(demand->worker[k], graph->worker[k]) != 0) {
            return false;
        }
    }
    for (size_t k = 0; k < graph->n_resource; k++) {
        if (demand->resource[k].amount != graph->resource[k]->amount ||
            strcmp(demand->resource[k].name, graph->resource[k]->name) != 0) {
            return false;
        }
    }
    return true;
}

static char *text_put(char **at, const char *text)
{
    char *copy = *at;
    size_t size = strlen(text) + 1;

    memcpy(copy, text, size);
    *at += size;
    return copy;
}

static size_t able_words(const struct sched *sched)
{
    return sched->worker_capacity / 64 + 1;
}

// One block with all that it points to, but for the set of workers.
static struct demand *demand_create(const struct sched *sched, const Dray__Layer *graph)
{
    size_t bytes =
        sizeof(struct demand) + graph->n_worker * sizeof(char *) + graph->n_resource * sizeof(struct stock);
    struct demand *demand;
    char *text;

    for (size_t k = 0; k < graph->n_worker; k++) {
        bytes += strlen(graph->worker[k]) + 1;
    }
    for (size_t k = 0; k < graph->n_resource; k++) {
        bytes += strlen(graph->resource[k]->name) + 1;
    }
    demand = calloc(1, bytes);
    if (demand == NULL) {
        return NULL;
    }
    demand->able = calloc(able_words(sched), sizeof(*demand->able));
    if (demand->able == NULL) {
        free(demand);
        return NULL;
    }
    demand->words = able_words(sched);
    demand->resource = (struct stock *)(void *)(demand + 1);
    demand->worker = (char **)(void *)(demand->resource + graph->n_resource);
    text = (char *)(demand->worker + graph->n_worker);
    for (size_t k = 0; k < graph->n_worker; k++) {
        demand->worker[demand->workers++] = text_put(&text, graph->worker[k]);
        demand->plugins += is_plugin(graph->worker[k]) ? 1 : 0;
    }
    for (size_t k = 0; k < graph->n_resource; k++) {
        demand->resource[demand->resources++] = (struct stock){
            .name = text_put(&text, graph->resource[k]->name), .amount = graph->resource[k]->amount};
    }
    return demand;
}

// ---- what workers have -------------------------------------------------------------------------

int offer_init(struct worker *worker, const struct sched_event *joined)
{
    size_t labels = joined->u.joined.labels;
    size_t resources = joined->u.joined.resources;
    size_t bytes = resources * sizeof(struct stock) + labels * sizeof(char *) + 1;
    char *text;

    for (size_t k = 0; k < labels; k++) {
        bytes += strlen(joined->u.joined.label[k]) + 1;
    }
    for (size_t k = 0; k < resources; k++) {
        bytes += strlen(joined->u.joined.resource[k]->name) + 1;
    }
    worker->stock = malloc(bytes);
    if (worker->stock == NULL) {
        return -ENOMEM;
    }
    worker->label = (char **)(void *)(worker->stock + resources);
    text = (char *)(worker->label + labels);
    for (size_t k = 0; k < labels; k++) {
        worker->label[worker->labels++] = text_put(&text, joined->u.joined.label[k]);
    }
    for (size_t k = 0; k < resources; k++) {
        worker->stock[worker->stocks++] =
            (struct stock){.name = text_put(&text, joined->u.joined.resource[k]->name),
                           .amount = joined->u.joined.resource[k]->amount};
    }
    return 0;
}

void offer_fini(struct worker *worker)
{
    free(worker->stock);
}

static struct stock *stock_find(const struct worker *worker, const char *name)
{
    for (size_t k = 0; k < worker->stocks; k++) {
        if (strcmp(worker->stock[k].name, name) == 0) {
            return &worker->stock[k];
        }
    }
    return NULL;
}

static bool is_called(const struct worker *worker, const char *name)
{
    bool found = strcmp(worker->name, name) == 0;

    for (size_t k = 0; !found && k < worker->labels; k++) {
        found = strcmp(worker->label[k], name) == 0;
    }
    return found;
}

// One of the names, when there are any.
static bool is_named(const struct demand *demand, const struct worker *worker)
{
    bool found = demand->workers == demand->plugins;

    for (size_t k = 0; !found && k < demand->workers; k++) {
        found = !is_plugin(demand->worker[k]) && is_called(worker, demand->worker[k]);
    }
    return found;
}

// All plugins.
static bool has_plugins(const struct demand *demand, const struct worker *worker)
{
    bool all = true;

    for (size_t k = 0; demand->plugins > 0 && all && k < demand->workers; k++) {
        all = !is_plugin(demand->worker[k]) || is_called(worker, demand->worker[k]);
    }
    return all;
}

// Of a resource that is asked for twice, both.
static uint64_t asked_of(const struct demand *demand, const char *name)
{
    uint64_t amount = 0;

    for (size_t k = 0; k < demand->resources; k++) {
        amount += strcmp(demand->resource[k].name, name) == 0 ? demand->resource[k].amount : 0;
    }
    return amount;
}

static bool has_enough(const struct demand *demand, const struct worker *worker)
{
    bool enough = true;

    for (size_t k = 0; enough && k < demand->resources; k++) {
        const char *name = demand->resource[k].name;
        const struct stock *stock = stock_find(worker, name);

        enough = stock != NULL && stock->amount >= asked_of(demand, name);
    }
    return enough;
}

static void meet(struct demand *demand, const struct worker *worker)
{
    if (is_named(demand, worker) && has_plugins(demand, worker) && has_enough(demand, worker)) {
        demand->able[worker->number / 64] |= UINT64_C(1) << (worker->number % 64);
        demand->threads += worker->threads;
    }
}

// ---- who can meet it ---------------------------------------------------------------------------

int demand_get(struct sched *sched, const Dray__Layer *graph, struct demand **out)
{
    uint64_t hash = hash_of(graph);
    struct demand *demand = NULL;

    if (graph->n_worker == 0 && graph->n_resource == 0) {
        *out = NULL;
        return 0;
    }
    for (struct hash_node *node = hash_first(&sched->demands, hash); node != NULL; node = hash_next(node)) {
        if (is_same(hash_entry(node, struct demand, node), graph)) {
            demand = hash_entry(node, struct demand, node);
            break;
        }
    }
    if (demand == NULL) {
        demand = demand_create(sched, graph);
        if (demand == NULL) {
            return -ENOMEM;
        }
        for (uint32_t s = 0; s < sched->worker_slots; s++) {
            if (sched->worker[s] != NULL) {
                meet(demand, sched->worker[s]);
            }
        }
        hash_add(&sched->demands, &demand->node, hash);
    }
    demand->users++;
    *out = demand;
    return 0;
}

void demand_put(struct sched *sched, struct demand *demand)
{
    if (demand != NULL && --demand->users == 0) {
        hash_remove(&sched->demands, &demand->node);
        free(demand->able);
        free(demand);
    }
}

static bool able_grow(struct demand *demand, size_t words)
{
    uint64_t *grown;

    if (demand->words >= words) {
        return true;
    }
    grown = realloc(demand->able, words * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    memset(grown + demand->words, 0, (words - demand->words) * sizeof(*grown));
    demand->able = grown;
    demand->words = words;
    return true;
}

int demands_meet(struct sched *sched, const struct worker *worker)
{
    struct hash_node *node;

    for (size_t b = 0; b <= sched->demands.mask; b++) {
        for (node = sched->demands.bucket[b]; node != NULL; node = node->next) {
            if (!able_grow(hash_entry(node, struct demand, node), able_words(sched))) {
                return -ENOMEM;
            }
        }
    }
    for (size_t b = 0; b <= sched->demands.mask; b++) {
        for (node = sched->demands.bucket[b]; node != NULL; node = node->next) {
            meet(hash_entry(node, struct demand, node), worker);
        }
    }
    return 0;
}

void demands_part(struct sched *sched, const struct worker *worker)
{
    for (size_t b = 0; b <= sched->demands.mask; b++) {
        for (struct hash_node *node = sched->demands.bucket[b]; node != NULL; node = node->next) {
            struct demand *demand = hash_entry(node, struct demand, node);

            if (demand_is_met(demand, worker)) {
                demand->able[worker->number / 64] &= ~(UINT64_C(1) << (worker->number % 64));
                demand->threads -= worker->threads;
            }
        }
    }
}

uint32_t demand_room(const struct demand *demand, const struct worker *worker)
{
    uint64_t room = UINT32_MAX;

    if (!demand_is_met(demand, worker)) {
        return 0;
    }
    for (size_t k = 0; k < demand->resources; k++) {
        const struct stock *stock = stock_find(worker, demand->resource[k].name);
        uint64_t some = (stock->amount - stock->taken) / asked_of(demand, stock->name);

        room = some < room ? some : room;
    }
    return (uint32_t)room;
}

void demand_take(const struct demand *demand, struct worker *worker)
{
    for (size_t k = 0; k < demand->resources; k++) {
        stock_find(worker, demand->resource[k].name)->taken += demand->resource[k].amount;
    }
}

void demand_give(const struct demand *demand, struct worker *worker)
{
    for (size_t k = 0; k < demand->resources; k++) {
        stock_find(worker, demand->resource[k].name)->taken -= demand->resource[k].amount;
    }
}

// ---- in words ----------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static void add(char *out, size_t size, const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;

    va_start(args, format);
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

// "a, b or c", of those that are plugins or of those that are not.
static void add_names(const struct demand *demand, bool plugins, char *out, size_t size)
{
    size_t left = plugins ? demand->plugins : demand->workers - demand->plugins;
    size_t shown = 0;

    for (size_t k = 0; k < demand->workers && shown < NAMES_SHOWN; k++) {
        if (is_plugin(demand->worker[k]) == plugins) {
            shown++;
            left--;
            add(out, size, "%.60s%s", demand->worker[k],
                left == 0              ? ""
                : shown == NAMES_SHOWN ? ", ..."
                : left > 1             ? ", "
                : plugins              ? " and "
                                       : " or ");
        }
    }
}

// What the workers have of one resource.
struct supply {
    uint32_t largest;
    uint32_t having; // workers
};

static struct supply supply_of(const struct sched *sched, const char *name)
{
    struct supply supply = {0, 0};

    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        const struct worker *worker = sched->worker[s];
        const struct stock *stock = worker != NULL && !worker->leaving ? stock_find(worker, name) : NULL;

        if (stock != NULL) {
            supply.having++;
            supply.largest = stock->amount > supply.largest ? stock->amount : supply.largest;
        }
    }
    return supply;
}

typedef bool (*quality)(const struct demand *demand, const struct worker *worker);

static bool anyone(const struct sched *sched, const struct demand *demand, quality has)
{
    for (uint32_t s = 0; s < sched->worker_slots; s++) {
        if (sched->worker[s] != NULL && !sched->worker[s]->leaving && has(demand, sched->worker[s])) {
            return true;
        }
    }
    return false;
}

static bool has_free(const struct demand *demand, const struct worker *worker)
{
    return demand_room(demand, worker) > 0;
}

// Of each quality there is somebody, but nobody has all of them.
static void say_all(const struct demand *demand, char *out, size_t size)
{
    const char *between = "";

    add(out, size, "no worker with all of this: ");
    if (demand->workers > demand->plugins) {
        add(out, size, "named ");
        add_names(demand, false, out, size);
        between = "; ";
    }
    if (demand->plugins > 0) {
        add(out, size, "%s", between);
        add_names(demand, true, out, size);
        between = "; ";
    }
    for (size_t k = 0; k < demand->resources; k++) {
        add(out, size, "%s%u of resource %.60s", between, demand->resource[k].amount,
            demand->resource[k].name);
        between = ", ";
    }
}

// The first resource of which nobody has enough.  False: there is none such.
static bool say_resource(const struct sched *sched, const struct demand *demand, char *out, size_t size)
{
    for (size_t k = 0; k < demand->resources; k++) {
        const char *name = demand->resource[k].name;
        struct supply supply = supply_of(sched, name);
        uint64_t asked = asked_of(demand, name);

        if (supply.largest >= asked) {
            continue;
        }
        add(out, size, "no worker with resource %.100s (%llu asked", name, (unsigned long long)asked);
        if (supply.having > 0) {
            add(out, size, ", largest %u", supply.largest);
        }
        add(out, size, ")");
        return true;
    }
    return false;
}

bool demand_has_worker(const struct sched *sched, const struct demand *demand)
{
    return anyone(sched, demand, demand_is_met);
}

void demand_why(const struct sched *sched, const struct demand *demand, char *out, size_t size)
{
    out[0] = '\0';
    if (demand_has_worker(sched, demand)) {
        if (!anyone(sched, demand, has_free)) {
            add(out, size, "all that the workers have of resource %.100s is in use",
                demand->resource[0].name);
        }
    } else if (!anyone(sched, demand, is_named)) {
        add(out, size, "no worker named ");
        add_names(demand, false, out, size);
        add(out, size, " (nor with such a label)");
    } else if (!anyone(sched, demand, has_plugins)) {
        add(out, size, "no worker with ");
        add_names(demand, true, out, size);
    } else if (!say_resource(sched, demand, out, size)) {
        say_all(demand, out, size);
    }
}
