// The clients and workers that said HELLO, by number and by routing id.
#ifndef DRAY_BROKER_PEER_H
#define DRAY_BROKER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/backlog.h"
#include "broker/core/relays.h"
#include "proto/frame.h"
#include "proto/map.h"
#include "proto/socket.h"

#define PEERS_MAX 10000
#define PEER_NAME_MAX 128
// Workers are numbered from 1, clients from here on; no number is used twice.
#define PEER_FIRST_CLIENT 0x80000000U

struct batch;
struct results;

struct peer {
    uint32_t number;
    enum frame_sender role; // FROM_CLIENT or FROM_WORKER
    bool gone;              // its session is over; the struct lives until peers_sweep
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    uint8_t route_size;
    uint64_t session;
    uint64_t sent;     // seq of the next message to it
    uint64_t received; // seq of the next message from it
    uint64_t incarnation;
    uint64_t heard_us;
    uint64_t cut_us; // since when its connection is no more; 0: it is there
    int process;     // for vital_ended; -1: not of this host
    uint32_t pid;    // ... and what finds it again, by vital_find
    uint64_t birth;
    char name[PEER_NAME_MAX];
    struct backlog *backlog;
    struct peer *next;           // all that are here, in order of arrival
    struct peer **link;          // what points here
    struct peer *next_route;     // same hash
    struct peer *next_addressee; // with `addressed`: whom this turn has something for
    bool addressed;
    struct relay_end relay;
    uint64_t gated;     // number of the last turn at the gate that has something of it
    size_t gated_bytes; // of it that wait there

    // workers only
    uint32_t threads;
    uint64_t memory;
    char **endpoint; // of its exchange
    size_t endpoints;
    bool shared_files;
    bool leaving; // said so
    uint64_t memory_used, rss, ran, damaged;
    uint32_t running, queued;
    char **file; // below its data dirs: name, path, name, path, ...
    size_t files;
    struct batch *batch; // what this turn has for it
    uint8_t *told;       // bit a worker number: it knows that one's endpoints
    size_t told_bytes;
    char **label;
    size_t labels;
    Dray__Resource **resource;
    size_t resources;

    // clients only
    struct results *results; // what this turn has for it
    bool full;               // the scheduler keeps its results back
    uint64_t full_us;        // since when nothing of its backlog went out
    uint64_t full_passed;    // what had gone out by then
    bool unheard;            // its EXTENDs are left out until it connects anew
};

struct peers {
    struct peer *first;
    struct peer **last;
    struct peer *gone;
    uint32_t count, workers, clients;
    uint32_t next_worker, next_client;
    struct map by_number;
    struct map by_route; // by hash, chained through next_route
};

void peers_init(struct peers *peers);
void peers_fini(struct peers *peers);

// With the next number of its role; everything else is the caller's to fill in.
// NULL: no memory, or numbers have run out.
struct peer *peers_add(struct peers *peers, enum frame_sender role, const void *route, size_t route_size,
                       size_t backlog_max);
struct peer *peers_by_number(const struct peers *peers, uint32_t number); // NULL: not here
struct peer *peers_by_route(const struct peers *peers, const void *route, size_t route_size);
struct peer *peers_by_incarnation(const struct peers *peers, uint64_t incarnation);
// Found no more; freed by peers_sweep, when nobody holds a pointer to it.
void peers_remove(struct peers *peers, struct peer *peer);
// But not those of whom something is still at the gate: turns above `passed`.
void peers_sweep(struct peers *peers, uint64_t passed);
// The last turn at the gate that has something of an earlier session of this process; 0: none.
uint64_t peers_gated(const struct peers *peers, uint64_t incarnation);
size_t peers_gated_bytes(const struct peers *peers, uint64_t incarnation);

// A copy of what HELLO says of a worker.  -ENOMEM.
int peer_set_endpoints(struct peer *peer, char *const *endpoint, size_t count);
int peer_set_labels(struct peer *peer, char *const *label, size_t count);
int peer_set_resources(struct peer *peer, Dray__Resource *const *resource, size_t count);
// Replaces its files; takes over the array and its strings.
void peer_set_files(struct peer *peer, char **file, size_t files);
// False the first time: it was not told of that worker yet (and is from now on).
bool peer_was_told(struct peer *peer, uint32_t worker);

#endif
