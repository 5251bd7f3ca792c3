#include "broker/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { NUMBERS_BLOCK = 4096 }; // numbers of peers that the journal gives away at a time

struct entry *recorder_pack(enum entry_type type, uint32_t job, uint64_t at, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    struct entry *entry = NULL;

    if (packed != NULL) {
        protobuf_c_message_pack(message, packed);
        entry = entry_create(type, job, at, packed, size);
        free(packed);
    }
    return entry;
}

static struct entry *failed_entry(const struct sched_action *action, Dray__Failure *why)
{
    Dray__TaskFailure failure = DRAY__TASK_FAILURE__INIT;

    failure.layer = action->range.layer;
    failure.index = action->range.first;
    failure.why = why;
    failure.worker = (char *)(uintptr_t)action->worker_name; // only read
    return recorder_pack(ENTRY_FAILED, action->range.job, action->range.count, &failure.base);
}

static struct entry *ended_entry(const struct sched_action *action, Dray__Failure *why)
{
    Dray__JobEnded ended = DRAY__JOB_ENDED__INIT;

    ended.job = action->range.job;
    ended.state = (Dray__JobState)action->state;
    ended.why = action->text != NULL || action->code != 0 ? why : NULL;
    ended.has_done = ended.has_failed = action->state == JOB_FAILED || action->state == JOB_CANCELLED;
    ended.done = action->done;
    ended.failed = action->failed;
    ended.has_layer = ended.has_index = action->layer_at != UINT32_MAX;
    ended.layer = action->layer_at;
    ended.index = action->index_at;
    ended.worker = (char *)(uintptr_t)action->worker_name; // only read
    return recorder_pack(ENTRY_ENDED, action->range.job, 0, &ended.base);
}

struct entry *recorder_entry(const struct sched_action *action)
{
    Dray__Failure why = DRAY__FAILURE__INIT;
    uint32_t job = action->range.job;

    why.code = action->code;
    why.text = (char *)(uintptr_t)(action->text != NULL ? action->text : ""); // only read
    switch (action->record) {
    case RECORD_TASKS_FAILED:
        return failed_entry(action, &why);
    case RECORD_JOB_ENDED:
        return ended_entry(action, &why);
    case RECORD_NOT_EXTENDED:
        return entry_create(ENTRY_NOT_LAYERS, job, action->key_lo, NULL, 0);
    case RECORD_WORKER_GONE:
        return entry_create(ENTRY_WORKER_GONE, 0, action->key_lo, NULL, 0);
    case RECORD_JOB_GIVEN_UP:
        return entry_create(ENTRY_GIVEN_UP, job, 0, NULL, 0);
    default:
        return entry_create(ENTRY_FORGOTTEN, job, 0, NULL, 0);
    }
}

static void append(struct broker *broker, struct entry *entry)
{
    if (entry != NULL) {
        journal_append_lazily(broker->journal, entry);
    } else { // what it does not know is done or said again
        log_write(broker->options.log, LEVEL_WARNING, "out of memory: the journal misses something");
    }
}

void recorder_record(struct broker *broker, const struct sched_action *action, uint64_t *wait)
{
    struct entry *entry;

    if (broker->journal == NULL) {
        return;
    }
    if (action->record == RECORD_TASKS_OVER) {
        if (journal_over(broker->journal, &action->range) != 0) {
            append(broker, NULL);
        }
        return;
    }
    entry = recorder_entry(action);
    if (wait != NULL && entry != NULL && gate_turn(&broker->gate, wait) != NULL) {
        recorder_wait(broker, entry);
    } else {
        append(broker, entry);
    }
}

void recorder_wait(struct broker *broker, struct entry *entry)
{
    gate_wait(&broker->gate, journal_append(broker->journal, entry));
}

static struct entry *numbers_entry(const struct broker *broker)
{
    return entry_create(ENTRY_NUMBERS, 0, (uint64_t)broker->workers_to << 32 | broker->clients_to, NULL, 0);
}

bool recorder_flush(struct broker *broker)
{
    // There is no sync without something that is written: what is there already will do.
    struct entry *entry = numbers_entry(broker);
    uint64_t number;

    if (entry == NULL || gate_turn(&broker->gate, &number) == NULL) {
        free(entry);
        return false;
    }
    entry->reads_others = true; // not before what waits for room
    entry->refusable = true;
    recorder_wait(broker, entry);
    return true;
}

// Before they are used up.
static void reserve_numbers(struct broker *broker)
{
    const struct peers *peers = &broker->peers;

    if (peers->next_worker + NUMBERS_BLOCK / 2 < broker->workers_to &&
        peers->next_client + NUMBERS_BLOCK / 2 < broker->clients_to) {
        return;
    }
    broker->workers_to = peers->next_worker + NUMBERS_BLOCK;
    broker->clients_to = peers->next_client + NUMBERS_BLOCK;
    append(broker, numbers_entry(broker));
}

void recorder_numbers(struct broker *broker, struct ledger *ledger)
{
    struct ledger_numbers numbers = ledger_numbers(ledger);
    struct peers *peers = &broker->peers;
    struct entry *entry;

    broker->next_job = numbers.job;
    // Any that was not used before; without random bytes the time is as good.
    if (getrandom(&broker->next_extend, sizeof(broker->next_extend), 0) != sizeof(broker->next_extend)) {
        broker->next_extend = monotonic_us();
    }
    broker->next_extend = (broker->next_extend >> 1) + 1;
    peers->next_worker = numbers.worker > peers->next_worker ? numbers.worker : peers->next_worker;
    peers->next_client = numbers.client > peers->next_client ? numbers.client : peers->next_client;
    entry = entry_create(
        ENTRY_NUMBERS, 0,
        (uint64_t)(peers->next_worker + NUMBERS_BLOCK) << 32 | (peers->next_client + NUMBERS_BLOCK), NULL, 0);
    // A full disk is no reason not to start: those that are given now are new, and it is tried again.
    if (entry != NULL && ledger_write(ledger, entry, NULL, true, NULL) == 0) {
        broker->workers_to = peers->next_worker + NUMBERS_BLOCK;
        broker->clients_to = peers->next_client + NUMBERS_BLOCK;
    }
    free(entry);
}

void recorder_peer_joined(struct broker *broker, const struct peer *peer)
{
    if (broker->journal == NULL) {
        return;
    }
    reserve_numbers(broker);
    if (peer->role == FROM_WORKER && peer->process >= 0) {
        char body[ABSENT_BODY_MAX];
        size_t size = absent_describe(peer->name, peer->pid, peer->birth, body);

        append(broker, entry_create(ENTRY_WORKER, 0, peer->incarnation, body, size));
    } else if (peer->role == FROM_WORKER) {
        append(broker, entry_create(ENTRY_WORKER, 0, peer->incarnation, peer->name, strlen(peer->name)));
    }
}

void recorder_worker_left(struct broker *broker, const struct peer *peer)
{
    if (broker->journal != NULL) {
        append(broker, entry_create(ENTRY_WORKER_GONE, 0, peer->incarnation, NULL, 0));
    }
}
