#include "broker/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A client that waits for EXTENDED while the disk is full.
struct unsafe {
    struct unsafe *next;
    uint32_t client, job;
    uint32_t layers; // of the job that are safe
};

uint32_t admit_safe_layers(const struct broker *broker, uint32_t job)
{
    uint32_t layers = UINT32_MAX;

    for (const struct unsafe *unsafe = broker->unsafe; unsafe != NULL; unsafe = unsafe->next) {
        layers = unsafe->job == job && unsafe->layers < layers ? unsafe->layers : layers;
    }
    return layers;
}

int admit_later(struct broker *broker, const struct extended *extended)
{
    struct unsafe *unsafe = broker->unsafe;
    struct sched_brief brief = {.layers = UINT32_MAX};

    while (unsafe != NULL && (unsafe->job != extended->job || unsafe->client != extended->client)) {
        unsafe = unsafe->next;
    }
    if (unsafe != NULL) {
        return 0;
    }
    unsafe = malloc(sizeof(*unsafe));
    if (unsafe == NULL) {
        return -ENOMEM;
    }
    // Those that could not be written come to the scheduler only now.
    sched_job_brief(broker->sched, extended->job, &brief);
    *unsafe = (struct unsafe){broker->unsafe, extended->client, extended->job, brief.layers};
    broker->unsafe = unsafe;
    return 0;
}

static void tell_safe(struct broker *broker)
{
    while (broker->unsafe != NULL) {
        struct unsafe *unsafe = broker->unsafe;

        broker->unsafe = unsafe->next;
        deliver_extended(broker, unsafe->client, unsafe->job);
        free(unsafe);
    }
}

void admit_fini(struct broker *broker)
{
    while (broker->unsafe != NULL) {
        struct unsafe *unsafe = broker->unsafe;

        broker->unsafe = unsafe->next;
        free(unsafe);
    }
}

static void refuse_submit(struct broker *broker, const struct sched_event *event, Dray__Failure *why)
{
    struct peer *peer = peers_by_number(&broker->peers, event->u.submit.client);
    Dray__Rejected message = DRAY__REJECTED__INIT;

    message.key_hi = event->u.submit.key_hi;
    message.key_lo = event->u.submit.key_lo;
    message.why = why;
    if (peer != NULL) {
        sessions_send(broker->sessions, peer, FRAME_REJECTED, &message.base, NULL, 0);
    }
}

// The scheduler does not hear of it.
static void drop_keep(struct turn *turn, const struct reply *reply)
{
    for (size_t i = 0; i < turn->events; i++) {
        const struct sched_event *event = &turn->event[i];

        if (event->type == EVENT_KEEP && event->u.attach.keep && event->u.attach.job == reply->job &&
            event->u.attach.client == reply->client) {
            memmove(&turn->event[i], &turn->event[i + 1], (turn->events - i - 1) * sizeof(*event));
            turn->events--;
            return;
        }
    }
}

static void say_refused(const struct gated *gated, char text[ERROR_TEXT_MAX])
{
    snprintf(text, ERROR_TEXT_MAX, "the broker takes no new jobs and names at present: %.900s; %s",
             gated->text,
             gated->code == ENOSPC || gated->code == EDQUOT
                 ? "make room there and try again (what was taken before goes on)"
                 : "see its log (what was taken before goes on)");
}

// False: it goes out as it is, when the turn is through.
static bool refuse_reply(struct broker *broker, struct gated *gated, const struct reply *reply,
                         Dray__Failure *why)
{
    if (reply->job == 0) { // it is cancelled, and will be written in time: until then it is told as it is
        snprintf(why->text, ERROR_TEXT_MAX,
                 "it is cancelled, but that cannot be written down yet: %.800s; should the broker end before "
                 "it can "
                 "be, it goes on again",
                 gated->text);
        return true;
    }
    if (reply->name == NULL || reply->serial == 0) { // UNKEEP will be written in time
        return false;
    }
    if (kept_serial(&broker->kept, reply->name) == reply->serial) { // or it was taken back meanwhile
        kept_remove(&broker->kept, reply->name);
        drop_keep(&gated->turn, reply);
    }
    say_refused(gated, why->text);
    return true;
}

static void refuse_replies(struct broker *broker, struct gated *gated, Dray__Failure *why)
{
    struct reply **link = &gated->turn.replies;

    while (*link != NULL) {
        const struct reply *reply = *link;
        struct peer *peer = peers_by_number(&broker->peers, reply->client);
        Dray__Reply message = DRAY__REPLY__INIT;

        if (!refuse_reply(broker, gated, reply, why)) {
            link = &(*link)->next;
            continue;
        }
        message.tag = reply->tag;
        message.why = why;
        if (peer != NULL) {
            sessions_send(broker->sessions, peer, FRAME_REPLY, &message.base, NULL, 0);
        }
        *link = reply->next;
    }
}

// What could not be written: new jobs and names are refused, all else goes on and is written when that can
// be.
static void refuse(struct broker *broker, struct gated *gated)
{
    struct turn *turn = &gated->turn;
    Dray__Failure why = DRAY__FAILURE__INIT;
    char text[ERROR_TEXT_MAX];
    size_t kept = 0;

    say_refused(gated, text);
    why.code = gated->code;
    why.text = text;
    for (size_t i = 0; i < turn->events; i++) {
        const struct sched_event *event = &turn->event[i];

        if (event->type == EVENT_SUBMIT && event->u.submit.number != 0) {
            refuse_submit(broker, event, &why);
        } else {
            turn->event[kept++] = *event;
        }
    }
    turn->events = kept;
    refuse_replies(broker, gated, &why);
    for (const struct extended *extended = turn->extended; extended != NULL; extended = extended->next) {
        admit_later(broker, extended); // without memory: with the next layers of the job
    }
    turn->extended = NULL;
}

void admit_outcomes(struct broker *broker)
{
    struct outcome outcome;

    while (journal_next(broker->journal, &outcome)) {
        gate_settle(&broker->gate, outcome.ticket, outcome.code, outcome.text);
        broker->is_full = !outcome.is_whole;
    }
}

void admit_all(struct broker *broker, void (*step)(struct broker *broker, struct turn *turn))
{
    struct gated *gated;

    while ((gated = gate_next(&broker->gate)) != NULL) {
        uint64_t now_us = monotonic_us();

        if (gated->code != 0) {
            refuse(broker, gated);
        }
        // They happen now: time does not go back.
        for (size_t i = 0; i < gated->turn.events; i++) {
            gated->turn.event[i].now_us = now_us;
        }
        step(broker, &gated->turn);
        gate_done(&broker->gate, gated);
    }
    if (!broker->is_full) {
        tell_safe(broker);
    }
}
