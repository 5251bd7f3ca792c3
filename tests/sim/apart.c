#include "tests/sim/apart.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

enum {
    SILENCE_TIMES = 5, // delays, until it is clear that there is no way
    HEALED_PERCENT = 30,
    GUEST_PERCENT = 10,
    FIRST_GUEST = 0xF0000000,
};

// A partition that is to come by way of the broker.
struct detour {
    struct detour *next;
    struct task_key key;
    uint32_t peer; // the holder's number
    bool asked;
};

// ---- who reaches whom -------------------------------------------------------------------------------

static bool is_cut(const struct world *world, uint32_t from, uint32_t to)
{
    return (world->apart[from][to / 64] >> to % 64 & 1) != 0;
}

static void set_cut(struct world *world, uint32_t from, uint32_t to, bool cut)
{
    uint64_t bit = (uint64_t)1 << to % 64;

    world->apart[from][to / 64] = (world->apart[from][to / 64] & ~bit) | (cut ? bit : 0);
}

void apart_begin(struct world *world)
{
    static const uint32_t percent[] = {20, 60, 100};

    world->apart_percent = percent[random_below(&world->random, 3)];
}

// A firewall may be one for one direction only.
void apart_host_starts(struct world *world, const struct host *host)
{
    for (uint32_t h = 0; h < host->number; h++) {
        bool there = random_percent(&world->random, world->apart_percent);
        bool back = random_percent(&world->random, 20) ? !there : there;

        set_cut(world, host->number, h, there);
        set_cut(world, h, host->number, back);
    }
}

static const struct host *host_of(const struct world *world, uint32_t peer)
{
    for (uint32_t l = 0; l < world->links; l++) {
        if (world->link[l]->host != NULL && world->link[l]->peer == peer) {
            return world->link[l]->host;
        }
    }
    return NULL;
}

// Nobody is reached who is dead, and that is no different at first.
bool apart_are(const struct world *world, const struct host *host, uint32_t peer)
{
    const struct host *holder = host_of(world, peer);

    return holder == NULL || !holder->alive || is_cut(world, host->number, holder->number);
}

// ---- the reader ---------------------------------------------------------------------------------------

// As many as there are places for.
static void ask(struct world *world, struct host *host)
{
    for (struct detour *detour = host->detour; detour != NULL && host->session; detour = detour->next) {
        struct letter *letter;

        if (detour->asked) {
            continue;
        }
        if (errands_full(&host->errands)) {
            return;
        }
        detour->asked = true;
        letter = letter_new(LETTER_RELAY_ASKED);
        letter->key = detour->key;
        letter->number = detour->peer;
        letter->tag = ++host->tag;
        errands_add(&host->errands, letter->tag, detour, world->now);
        world_send_broker(world, host->link, letter);
    }
}

void apart_detour(struct world *world, const struct letter *fetch)
{
    struct letter *letter = letter_new(LETTER_DETOUR);

    letter->host = fetch->host;
    letter->key = fetch->key;
    letter->number = fetch->number;
    world_post(world, letter, SILENCE_TIMES * world_delay(world));
}

static void add_detour(struct world *world, const struct letter *letter)
{
    struct detour *detour = must(calloc(1, sizeof(*detour)));
    struct detour **end = &letter->host->detour;

    detour->key = letter->key;
    detour->peer = letter->number;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = detour;
    ask(world, letter->host);
}

static void end_detour(struct host *host, struct detour *detour)
{
    struct detour **at = &host->detour;

    while (*at != detour) {
        at = &(*at)->next;
    }
    *at = detour->next;
    errands_disown(&host->errands, detour);
    free(detour);
}

// What the broker was asked has no answer in another session.
void apart_session(struct world *world, struct host *host, bool up)
{
    host->session = up;
    errands_clear(&host->errands);
    for (struct detour *detour = host->detour; detour != NULL; detour = detour->next) {
        detour->asked = false;
    }
    ask(world, host);
}

void apart_host_dies(struct host *host)
{
    while (host->detour != NULL) {
        end_detour(host, host->detour);
    }
    errands_clear(&host->errands);
}

static void hear_answer(struct world *world, struct letter *letter)
{
    struct host *host = letter->link->host;
    struct errand errand;
    struct detour *detour;

    if (!errands_take(&host->errands, letter->tag, &errand)) {
        world_fail(world, "host %u hears of what it has not asked for", host->number);
    }
    detour = errand.whose;
    if (detour != NULL) {
        struct letter *over = letter_new(LETTER_FETCH_OVER);

        over->host = host;
        over->key = detour->key;
        over->number = detour->peer;
        over->value = letter->value;
        over->relayed = true;
        end_detour(host, detour);
        if (world->options.counts != NULL) {
            world->options.counts->relayed += letter->value != 0 ? 1 : 0;
            world->options.counts->not_relayed += letter->value == 0 ? 1 : 0;
        }
        world_post(world, over, 0);
    }
    ask(world, host);
}

// There is a way again: what the broker was asked for is asked for there, and its answers are of no more use.
static void go_direct(struct world *world, struct host *host, uint32_t to)
{
    struct detour *next;

    for (struct detour *detour = host->detour; detour != NULL; detour = next) {
        const struct host *holder = host_of(world, detour->peer);
        struct letter *letter;

        next = detour->next;
        if (holder == NULL || holder->number != to) {
            continue;
        }
        letter = letter_new(LETTER_FETCH_ASKED);
        letter->host = host;
        letter->key = detour->key;
        letter->number = detour->peer;
        end_detour(host, detour);
        world_post(world, letter, world_delay(world));
    }
}

bool apart_chaos(struct world *world)
{
    uint32_t from, to;

    if (world->hosts < 2 || !random_percent(&world->random, 30)) {
        return false;
    }
    from = random_below(&world->random, world->hosts);
    to = random_below(&world->random, world->hosts);
    if (from == to) {
        return false;
    }
    set_cut(world, from, to, !random_percent(&world->random, HEALED_PERCENT));
    if (!is_cut(world, from, to)) {
        go_direct(world, world->host[from], to);
    }
    return true;
}

// ---- the broker ---------------------------------------------------------------------------------------

static struct link *link_at_broker(const struct world *world, uint32_t peer)
{
    for (uint32_t l = 0; l < world->links; l++) {
        if (world->link[l]->present && world->link[l]->peer == peer) {
            return world->link[l];
        }
    }
    return NULL;
}

static void answer(struct world *world, uint32_t reader, uint32_t tag, uint64_t value)
{
    struct link *link = link_at_broker(world, reader);
    struct letter *letter;

    if (link == NULL) {
        return;
    }
    letter = letter_new(LETTER_RELAY_OVER);
    letter->link = link;
    letter->tag = tag;
    letter->value = value;
    world_post_in_order(world, letter, &link->from_broker);
}

static void pass_on(struct world *world)
{
    struct relay *relay;

    while ((relay = relays_next(&world->relays)) != NULL) {
        struct link *link = link_at_broker(world, relay->worker);
        struct letter *letter;

        if (link == NULL) {
            continue; // it goes at this moment
        }
        letter = letter_new(LETTER_RELAY_PASSED);
        letter->link = link;
        letter->key = (struct task_key){relay->job, relay->layer, relay->index};
        letter->number = relay->reader;
        letter->tag = relay->tag;
        world_post_in_order(world, letter, &link->from_broker);
    }
}

// A worker that has come back has another number, and what it held.
static struct link *find_worker(const struct world *world, uint32_t peer)
{
    struct link *link = link_at_broker(world, peer);
    const struct host *host = host_of(world, peer);

    for (uint32_t l = 0; link == NULL && l < world->links; l++) {
        if (world->link[l]->present && world->link[l]->host != NULL && world->link[l]->host == host) {
            link = world->link[l];
        }
    }
    return link;
}

static void add(struct world *world, uint32_t reader, struct relay_end *from, struct link *worker,
                struct task_key key, uint32_t tag)
{
    Dray__Fetch fetch = DRAY__FETCH__INIT;

    fetch.tag = tag;
    fetch.job = key.job;
    fetch.layer = key.layer;
    fetch.index = key.index;
    must(relays_add(&world->relays, reader, from, worker->peer, &worker->relay, &fetch));
}

// Somebody who asks for more than a worker is passed at once, and may not wait for it.
static void visit(struct world *world, struct link *worker, struct task_key key)
{
    world->guest_number += world->guest.asks == 0 ? 1 : 0;
    for (uint32_t n = 0; n < RELAYS_TO_WORKER_MAX + 2; n++) {
        add(world, FIRST_GUEST + world->guest_number, &world->guest, worker, key, ++world->guest_tag);
    }
    pass_on(world);
    if (random_percent(&world->random, 50)) {
        relays_reader_gone(&world->relays, &world->guest);
    }
}

static void hear_fetch(struct world *world, const struct letter *letter)
{
    struct link *reader = letter->link;
    struct link *worker = find_worker(world, letter->number);

    if (!reader->present) {
        return; // it was taken to be gone
    }
    if (worker == NULL) {
        answer(world, reader->peer, letter->tag, 0);
        return;
    }
    if (random_percent(&world->random, GUEST_PERCENT)) {
        visit(world, worker, letter->key);
    }
    add(world, reader->peer, &reader->relay, worker, letter->key, letter->tag);
    if (reader->relay.asks > RELAYS_OF_READER_MAX) {
        world_fail(world, "host %u asks the broker for %zu pieces at once", reader->host->number,
                   reader->relay.asks);
    }
    pass_on(world);
}

static void hear_piece(struct world *world, const struct letter *letter)
{
    struct link *worker = letter->link;
    struct relay *relay = relays_find(&worker->relay, letter->number, letter->tag);

    if (!worker->present) {
        return;
    }
    if (relay == NULL) {
        world_fail(world, "host %u answers what it was not asked", worker->host->number);
    }
    relays_end(&world->relays, relay);
    answer(world, letter->number, letter->tag, letter->value);
    pass_on(world);
}

static void forget(struct world *world, struct link *link)
{
    struct relay *relay;

    if (!link->present) {
        return;
    }
    link->present = false;
    relays_reader_gone(&world->relays, &link->relay);
    while ((relay = relays_of_worker(&link->relay)) != NULL) {
        uint32_t reader = relay->reader, tag = relay->tag;

        relays_end(&world->relays, relay);
        answer(world, reader, tag, 0);
    }
    pass_on(world);
}

void apart_broker_hears(struct world *world, const struct letter *letter)
{
    const struct sched_event *event = &letter->event;

    if (event->type == EVENT_WORKER_LEFT) {
        struct link *link = link_at_broker(world, event->u.left.worker);

        if (link != NULL) {
            forget(world, link);
        }
    } else if (event->type == EVENT_WORKER_JOINED && letter->link->up) {
        // The same process has another connection.
        for (uint32_t l = 0; l < world->links; l++) {
            if (world->link[l]->host == letter->link->host) {
                forget(world, world->link[l]);
            }
        }
        letter->link->present = true;
    }
}

void apart_broker_dies(struct world *world)
{
    for (uint32_t l = 0; l < world->links; l++) {
        struct relay *relay;

        world->link[l]->present = false;
        relays_reader_gone(&world->relays, &world->link[l]->relay);
        while ((relay = relays_of_worker(&world->link[l]->relay)) != NULL) {
            relays_end(&world->relays, relay);
        }
    }
}

// ---- letters ------------------------------------------------------------------------------------------

// The holder: at once, like all that the broker says.
static void serve(struct world *world, const struct letter *letter)
{
    struct letter *piece = letter_new(LETTER_RELAY_PIECE);

    piece->number = letter->number;
    piece->tag = letter->tag;
    piece->value = host_value(letter->link->host, letter->key);
    world_send_broker(world, letter->link, piece);
}

void apart_handle(struct world *world, struct letter *letter)
{
    if (letter->type == LETTER_DETOUR) {
        if (letter->host->alive) {
            add_detour(world, letter);
        }
        return;
    }
    if (!letter->link->up || world->down) {
        return;
    }
    if (letter->type == LETTER_RELAY_ASKED) {
        hear_fetch(world, letter);
    } else if (letter->type == LETTER_RELAY_PIECE) {
        hear_piece(world, letter);
    } else if (letter->link->host->alive && letter->link->host->link == letter->link) {
        if (letter->type == LETTER_RELAY_PASSED) {
            serve(world, letter);
        } else {
            hear_answer(world, letter);
        }
    }
}

void apart_check_over(const struct world *world)
{
    if (world->relays.waiting + world->relays.under_way > 0) {
        world_fail(world, "the broker is left with %zu pieces that wait and %zu under way",
                   world->relays.waiting, world->relays.under_way);
    }
    for (uint32_t h = 0; h < world->hosts; h++) {
        if (world->host[h]->alive && world->host[h]->detour != NULL) {
            world_fail(world, "host %u is left with what was to come by way of the broker", h);
        }
    }
}
