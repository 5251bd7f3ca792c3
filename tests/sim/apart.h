// Hosts that do not reach one another, but the broker: what they want of each other goes by way of it, as in
// worker/download_route.c and broker/relay.c, whose pure parts (worker/core/errands.h, broker/core/relays.h)
// are used here.
#ifndef DRAY_TESTS_SIM_APART_H
#define DRAY_TESTS_SIM_APART_H

#include <stdbool.h>
#include <stdint.h>

struct world;
struct host;
struct letter;
struct link;

void apart_begin(struct world *world);
void apart_host_starts(struct world *world, const struct host *host); // whom it reaches
bool apart_chaos(struct world *world);                                // true: something happened
void apart_handle(struct world *world, struct letter *letter);

// There is no way from this host to the process that had this number.
bool apart_are(const struct world *world, const struct host *host, uint32_t peer);
// The fetch goes by way of the broker, some time from now.
void apart_detour(struct world *world, const struct letter *fetch);

void apart_session(struct world *world, struct host *host, bool up);
void apart_host_dies(struct host *host);
void apart_broker_hears(struct world *world, const struct letter *letter); // who comes and goes
void apart_broker_dies(struct world *world);
void apart_check_over(const struct world *world);

#endif
