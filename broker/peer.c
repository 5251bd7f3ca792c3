#include "broker/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/batch.h"
#include "broker/results.h"

// FNV-1a (Fowler, Noll, Vo).
static struct map_key route_key(const void *route, size_t size)
{
    const uint8_t *bytes = route;
    uint64_t hash = 0xcbf29ce484222325U;

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3U;
    }
    return (struct map_key){size, hash};
}

static struct map_key number_key(uint32_t number)
{
    return (struct map_key){0, number};
}

static void free_strings(char **string, size_t count)
{
    for (size_t i = 0; string != NULL && i < count; i++) {
        free(string[i]);
    }
    free(string);
}

static void free_resources(Dray__Resource **resource, size_t count)
{
    for (size_t i = 0; resource != NULL && i < count; i++) {
        if (resource[i] != NULL) {
            free(resource[i]->name);
        }
        free(resource[i]);
    }
    free(resource);
}

static void peer_destroy(struct peer *peer)
{
    free_strings(peer->endpoint, peer->endpoints);
    free_strings(peer->file, 2 * peer->files);
    backlog_destroy(peer->backlog);
    free_strings(peer->label, peer->labels);
    free_resources(peer->resource, peer->resources);
    batch_destroy(peer->batch);
    results_destroy(peer->results);
    free(peer->told);
    if (peer->process >= 0) {
        close(peer->process);
    }
    free(peer);
}

void peers_init(struct peers *peers)
{
    *peers = (struct peers){.next_worker = 1, .next_client = PEER_FIRST_CLIENT};
    peers->last = &peers->first;
}

void peers_fini(struct peers *peers)
{
    while (peers->first != NULL) {
        peers_remove(peers, peers->first);
    }
    peers_sweep(peers, UINT64_MAX);
    map_fini(&peers->by_number);
    map_fini(&peers->by_route);
}

struct peer *peers_by_number(const struct peers *peers, uint32_t number)
{
    return map_get(&peers->by_number, number_key(number));
}

struct peer *peers_by_route(const struct peers *peers, const void *route, size_t route_size)
{
    struct peer *peer = map_get(&peers->by_route, route_key(route, route_size));

    while (peer != NULL && (peer->route_size != route_size || memcmp(peer->route, route, route_size) != 0)) {
        peer = peer->next_route;
    }
    return peer;
}

struct peer *peers_by_incarnation(const struct peers *peers, uint64_t incarnation)
{
    for (struct peer *peer = peers->first; peer != NULL; peer = peer->next) {
        if (peer->incarnation == incarnation) {
            return peer;
        }
    }
    return NULL;
}

struct peer *peers_add(struct peers *peers, enum frame_sender role, const void *route, size_t route_size,
                       size_t backlog_max)
{
    uint32_t *next = role == FROM_WORKER ? &peers->next_worker : &peers->next_client;
    struct peer *peer;

    if (route_size > SOCKET_ROUTING_ID_MAX || *next == 0 ||
        (role == FROM_WORKER && *next >= PEER_FIRST_CLIENT)) {
        return NULL;
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    peer->number = *next;
    peer->process = -1;
    peer->role = role;
    peer->route_size = (uint8_t)route_size;
    memcpy(peer->route, route, route_size);
    peer->backlog = backlog_create(backlog_max);
    peer->next_route = map_get(&peers->by_route, route_key(route, route_size));
    if (peer->backlog == NULL || map_put(&peers->by_number, number_key(peer->number), peer) != 0) {
        peer_destroy(peer);
        return NULL;
    }
    if (map_put(&peers->by_route, route_key(route, route_size), peer) != 0) {
        map_remove(&peers->by_number, number_key(peer->number));
        peer_destroy(peer);
        return NULL;
    }
    peer->link = peers->last;
    *peers->last = peer;
    peers->last = &peer->next;
    (*next)++;
    peers->count++;
    peers->workers += role == FROM_WORKER;
    peers->clients += role == FROM_CLIENT;
    return peer;
}

static void unlink_route(struct peers *peers, struct peer *peer)
{
    struct map_key key = route_key(peer->route, peer->route_size);
    struct peer *head = map_get(&peers->by_route, key);

    if (head == peer) {
        if (peer->next_route == NULL) {
            map_remove(&peers->by_route, key);
        } else {
            map_put(&peers->by_route, key, peer->next_route); // replaces: needs no memory
        }
        return;
    }
    while (head->next_route != peer) {
        head = head->next_route;
    }
    head->next_route = peer->next_route;
}

void peers_remove(struct peers *peers, struct peer *peer)
{
    unlink_route(peers, peer);
    map_remove(&peers->by_number, number_key(peer->number));
    *peer->link = peer->next;
    if (peer->next != NULL) {
        peer->next->link = peer->link;
    } else {
        peers->last = peer->link;
    }
    peers->count--;
    peers->workers -= peer->role == FROM_WORKER;
    peers->clients -= peer->role == FROM_CLIENT;
    peer->gone = true;
    // `next` stays as it was for a loop that is under way over the list: gone ones are
    // chained through `next_route`.
    peer->next_route = peers->gone;
    peers->gone = peer;
}

void peers_sweep(struct peers *peers, uint64_t passed)
{
    struct peer **link = &peers->gone;

    while (*link != NULL) {
        struct peer *peer = *link;

        if (peer->gated > passed) {
            link = &peer->next_route;
        } else {
            *link = peer->next_route;
            peer_destroy(peer);
        }
    }
}

uint64_t peers_gated(const struct peers *peers, uint64_t incarnation)
{
    uint64_t gated = 0;

    for (const struct peer *peer = peers->gone; peer != NULL; peer = peer->next_route) {
        gated = peer->incarnation == incarnation && peer->gated > gated ? peer->gated : gated;
    }
    return gated;
}

size_t peers_gated_bytes(const struct peers *peers, uint64_t incarnation)
{
    size_t bytes = 0;

    for (const struct peer *peer = peers->gone; peer != NULL; peer = peer->next_route) {
        bytes += peer->incarnation == incarnation ? peer->gated_bytes : 0;
    }
    return bytes;
}

// A copy of the list, NULL: no memory.
static char **copy_strings(char *const *string, size_t count)
{
    char **copy = calloc(count + 1, sizeof(*copy));

    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = strdup(string[i]);
        if (copy[i] == NULL) {
            free_strings(copy, i);
            return NULL;
        }
    }
    return copy;
}

int peer_set_endpoints(struct peer *peer, char *const *endpoint, size_t count)
{
    char **copy = copy_strings(endpoint, count);

    if (copy == NULL) {
        return -ENOMEM;
    }
    free_strings(peer->endpoint, peer->endpoints);
    peer->endpoint = copy;
    peer->endpoints = count;
    return 0;
}

int peer_set_labels(struct peer *peer, char *const *label, size_t count)
{
    char **copy = copy_strings(label, count);

    if (copy == NULL) {
        return -ENOMEM;
    }
    free_strings(peer->label, peer->labels);
    peer->label = copy;
    peer->labels = count;
    return 0;
}

int peer_set_resources(struct peer *peer, Dray__Resource *const *resource, size_t count)
{
    Dray__Resource **copy = calloc(count + 1, sizeof(*copy));

    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = malloc(sizeof(*copy[i]));
        if (copy[i] != NULL) {
            dray__resource__init(copy[i]);
            copy[i]->name = strdup(resource[i]->name);
            copy[i]->amount = resource[i]->amount;
        }
        if (copy[i] == NULL || copy[i]->name == NULL) {
            free_resources(copy, i + 1);
            return -ENOMEM;
        }
    }
    if (copy == NULL) {
        return -ENOMEM;
    }
    free_resources(peer->resource, peer->resources);
    peer->resource = copy;
    peer->resources = count;
    return 0;
}

void peer_set_files(struct peer *peer, char **file, size_t files)
{
    free_strings(peer->file, 2 * peer->files);
    peer->file = file;
    peer->files = files;
}

bool peer_was_told(struct peer *peer, uint32_t worker)
{
    size_t byte = worker / 8;

    if (byte >= peer->told_bytes) {
        size_t bytes = (byte + 64) * 2;
        uint8_t *told = realloc(peer->told, bytes);

        if (told == NULL) {
            return false; // told twice does no harm
        }
        memset(told + peer->told_bytes, 0, bytes - peer->told_bytes);
        peer->told = told;
        peer->told_bytes = bytes;
    }
    bool was = (peer->told[byte] >> (worker % 8)) & 1;

    peer->told[byte] = (uint8_t)(peer->told[byte] | 1U << (worker % 8));
    return was;
}
