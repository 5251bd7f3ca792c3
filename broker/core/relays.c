#include "broker/core/relays.h"

#include <stdlib.h>
#include <string.h>

enum { BY_READER, BY_WORKER }; // links

// ---- lists ----------------------------------------------------------------------------

static void push(struct relay_list *list, struct relay *relay, int by)
{
    relay->link[by].next = NULL;
    relay->link[by].previous = list->last;
    *(list->last != NULL ? &list->last->link[by].next : &list->first) = relay;
    list->last = relay;
}

static void pull(struct relay_list *list, struct relay *relay, int by)
{
    struct relay *next = relay->link[by].next, *previous = relay->link[by].previous;

    *(previous != NULL ? &previous->link[by].next : &list->first) = next;
    *(next != NULL ? &next->link[by].previous : &list->last) = previous;
}

// The worker's turn comes, if it can be passed anything.
static void line_up(struct relays *relays, struct relay_end *to)
{
    if (to->ready || to->waiting.first == NULL || to->under_way == RELAYS_TO_WORKER_MAX) {
        return;
    }
    to->ready = true;
    to->next = NULL;
    to->previous = relays->last;
    *(relays->last != NULL ? &relays->last->next : &relays->first) = to;
    relays->last = to;
}

static void step_out(struct relays *relays, struct relay_end *to)
{
    if (to->ready) {
        to->ready = false;
        *(to->previous != NULL ? &to->previous->next : &relays->first) = to->next;
        *(to->next != NULL ? &to->next->previous : &relays->last) = to->previous;
    }
}

// ---- what becomes of one --------------------------------------------------------------

struct relay *relays_add(struct relays *relays, uint32_t reader, struct relay_end *from, uint32_t worker,
                         struct relay_end *to, const Dray__Fetch *fetch)
{
    struct relay *relay = calloc(1, sizeof(*relay) + fetch->n_also * sizeof(relay->also[0]));

    if (relay == NULL) {
        return NULL;
    }
    relay->reader = reader;
    relay->worker = worker;
    relay->tag = fetch->tag;
    relay->job = fetch->job;
    relay->layer = fetch->layer;
    relay->index = fetch->index;
    relay->offset = fetch->offset;
    relay->length = fetch->length;
    relay->from = from;
    relay->to = to;
    relay->n_also = fetch->n_also;
    if (fetch->n_also > 0) {
        memcpy(relay->also, fetch->also, fetch->n_also * sizeof(relay->also[0]));
    }
    push(&from->asked, relay, BY_READER);
    from->asks++;
    push(&to->waiting, relay, BY_WORKER);
    relays->waiting++;
    line_up(relays, to);
    return relay;
}

struct relay *relays_next(struct relays *relays)
{
    struct relay_end *to = relays->first;
    struct relay *relay;

    if (to == NULL || relays->under_way >= RELAYS_UNDER_WAY_MAX) {
        return NULL;
    }
    relay = to->waiting.first;
    pull(&to->waiting, relay, BY_WORKER);
    push(&to->passed, relay, BY_WORKER);
    relay->passed = true;
    relays->waiting--;
    relays->under_way++;
    to->under_way++;
    step_out(relays, to);
    line_up(relays, to);
    return relay;
}

struct relay *relays_find(const struct relay_end *to, uint32_t reader, uint32_t tag)
{
    struct relay *relay = to->passed.first;

    while (relay != NULL && (relay->reader != reader || relay->tag != tag)) {
        relay = relay->link[BY_WORKER].next;
    }
    return relay;
}

void relays_end(struct relays *relays, struct relay *relay)
{
    struct relay_end *to = relay->to;

    if (relay->from != NULL) {
        pull(&relay->from->asked, relay, BY_READER);
        relay->from->asks--;
    }
    pull(relay->passed ? &to->passed : &to->waiting, relay, BY_WORKER);
    if (relay->passed) {
        relays->under_way--;
        to->under_way--;
    } else {
        relays->waiting--;
    }
    if (to->waiting.first == NULL) {
        step_out(relays, to);
    } else {
        line_up(relays, to);
    }
    free(relay);
}

// ---- who goes -------------------------------------------------------------------------

void relays_reader_gone(struct relays *relays, struct relay_end *from)
{
    while (from->asked.first != NULL) {
        struct relay *relay = from->asked.first;

        if (!relay->passed) {
            relays_end(relays, relay);
            continue;
        }
        pull(&from->asked, relay, BY_READER);
        from->asks--;
        relay->from = NULL;
    }
}

struct relay *relays_of_worker(const struct relay_end *to)
{
    return to->passed.first != NULL ? to->passed.first : to->waiting.first;
}
