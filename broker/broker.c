#include "broker/broker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/state.h"

enum {
    TICK_MS = 50,
    TURN_MESSAGES_MAX = 2000, // then the scheduler has its say
    TURN_BYTES_MAX = 64 << 20,
    STEPS_MAX = 16,       // of the scheduler in one turn of the loop
    QUEUE_MESSAGES = 200, // ZeroMQ's, to one peer; the backlog is behind it
    READ_AHEAD = 16,      // ... and from one peer, of up to FRAME_BODY_MAX (each half of it costs a wake-up)
    LINGER_MS = 200,
    // A HELLO is small; libzmq needs 64 bytes for a frame of none, so this may be 8 MiB of its memory.
    STRANGER_BYTES_MAX = 256 << 10,
    MESSAGE_BYTES_MAX = 256 << 20, // the body, and payloads
    BACKLOG_FACTOR = 4,            // a peer with so many times the mark unread is disconnected
    EXACT_FROM = 16 << 10,         // bytes that events of a turn point to
    DRAIN_US = 5000000,            // that what was taken may need to be written at the end
    NOTES_SWEEP_US = 1000000,
    TRIM_FREE_BYTES = 4 << 20, // of the heap, worth giving back
    TRIM_QUIET_US = 200000,    // when nothing happens ...
    TRIM_US = 10000000,        // ... or so long after the last time
};

static int on_joined(void *arg, struct peer *peer, const Dray__Hello *hello, struct error *err)
{
    (void)hello;
    return dispatch_joined(arg, peer, err);
}

static struct turn *current(struct broker *broker)
{
    return &broker->turn[broker->current];
}

// What it says from now on waits for the journal; `keep`: this as well.  False: no memory.
static bool enter_gate(struct broker *broker, struct peer *peer, bool keep)
{
    struct turn *turn =
        keep ? gate_turn(&broker->gate, &peer->gated) : gate_turn_behind(&broker->gate, &peer->gated);

    if (turn != NULL) {
        broker->into = turn;
        broker->mark = turn_mark(turn);
    }
    return turn != NULL;
}

// Messages that must be safe before anything comes of them; more that come of DONE are found in on_received.
static bool is_to_keep(unsigned type)
{
    return type == FRAME_SUBMIT || type == FRAME_EXTEND || type == FRAME_KEEP || type == FRAME_UNKEEP ||
           type == FRAME_ATTACH;
}

static struct arena *on_begun(void *arg, struct peer *peer, unsigned type)
{
    struct broker *broker = arg;

    broker->into = current(broker);
    broker->mark = turn_mark(broker->into);
    broker->heard = peer;
    if (broker->journal != NULL && peer != NULL && type != FRAME_HEARTBEAT &&
        (is_to_keep(type) || gate_holds(&broker->gate, peer->gated)) &&
        !enter_gate(broker, peer, is_to_keep(type))) {
        return NULL;
    }
    return &broker->into->arena;
}

static int on_received(void *arg, struct peer *peer, const struct frame *frame, struct message *message,
                       struct error *err)
{
    struct broker *broker = arg;
    struct frame again;
    int rc;

    if (broker->into != current(broker)) {
        rc = dispatch_check_gated(broker, peer->role, peer->gated_bytes, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (broker->journal == NULL || frame->info->type != FRAME_DONE ||
        gate_is_open(&broker->gate, broker->into) ||
        !dispatch_has_vital_notes(broker, (const Dray__Done *)frame->message)) {
        return dispatch_frame(broker, peer, frame, message, err);
    }
    if (!enter_gate(broker, peer, true)) {
        return error_no_memory(err);
    }
    // Once more, into memory that lives until it is through.
    rc = frame_decode(message->frame[1].data, message->frame[1].size, peer->role, &broker->into->arena,
                      &again, err);
    return rc == 0 ? dispatch_frame(broker, peer, &again, message, err) : rc;
}

static void on_left(void *arg, struct peer *peer, enum session_end end, const char *why)
{
    dispatch_left(arg, peer, end, why);
}

static void on_full(void *arg, struct peer *peer, bool full)
{
    dispatch_full(arg, peer, full);
}

// Gives memory back when much of it has become free.
static void trim(struct broker *broker)
{
    uint64_t now = monotonic_us();

    if (!broker->has_freed ||
        (now - broker->stepped_us < TRIM_QUIET_US && now - broker->trimmed_us < TRIM_US)) {
        return;
    }
    broker->has_freed = false;
    broker->trimmed_us = now;
    if (mallinfo2().fordblks > TRIM_FREE_BYTES) {
        malloc_trim(0);
    }
}

// A batch that is worth the two system calls is measured by the thread's own clock.
static uint64_t core_clock_ns(bool exact)
{
    struct timespec now;

    clock_gettime(exact ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int run_core(struct broker *broker, struct turn *turn)
{
    bool exact = turn->arena.used > EXACT_FROM;
    uint64_t start = core_clock_ns(exact);
    int rc = sched_step(broker->sched, turn->event, turn->events, &broker->actions);

    broker->core_ns += core_clock_ns(exact) - start;
    if (turn->event[0].type != EVENT_TICK) {
        broker->stepped_us = turn->event[0].now_us;
    }
    return rc;
}

// Steps the scheduler through a turn and sends what comes of it.
static void step_turn(struct broker *broker, struct turn *turn)
{
    int rc = 0;

    if (turn->events > 0) {
        rc = run_core(broker, turn);
    } else { // only answers that waited
        broker->actions.count = 0;
    }
    if (rc != 0) {
        log_write(broker->options.log, LEVEL_ERROR, "the scheduler: %s", strerror(-rc));
    }
    deliver_actions(broker, turn);
}

// What has come in, and again when delivering ended sessions.
static void step(struct broker *broker)
{
    for (int i = 0; i < STEPS_MAX && current(broker)->events > 0; i++) {
        struct turn *turn = current(broker);

        broker->current ^= 1;
        broker->into = current(broker);
        step_turn(broker, turn);
        turn_reset(turn);
    }
}

// As step, of what waited.
static void step_admitted(struct broker *broker, struct turn *turn)
{
    step_turn(broker, turn);
    step(broker);
}

// What the last message takes, and whose it is while it waits.
static void account(struct broker *broker)
{
    size_t bytes = turn_bytes_since(broker->into, &broker->mark);

    broker->taken += bytes;
    if (broker->into != current(broker)) {
        gate_charge(&broker->gate, &broker->heard->gated_bytes, bytes);
    }
}

static void on_readable(void *arg)
{
    struct broker *broker = arg;

    broker->taken = 0;
    for (int i = 0; i < TURN_MESSAGES_MAX && broker->taken <= TURN_BYTES_MAX; i++) {
        broker->into = current(broker);
        broker->mark = turn_mark(broker->into);
        if (!sessions_receive(broker->sessions)) {
            break;
        }
        account(broker);
    }
    broker->into = current(broker);
}

static void on_outcomes(void *arg, short revents)
{
    (void)revents;
    admit_outcomes(arg);
}

static bool is_here(void *arg, uint32_t job)
{
    const struct broker *broker = arg;
    struct sched_brief brief;

    return sched_job_brief(broker->sched, job, &brief) == 0;
}

static void on_watch(void *arg, short revents)
{
    struct broker *broker = arg;

    (void)revents;
    sessions_watch(broker->sessions);
}

// Jobs also go when their time is over, and nobody says so then.
static void look_for_freed(struct broker *broker)
{
    struct sched_counts counts;

    sched_counts(broker->sched, &counts);
    broker->has_freed = broker->has_freed || counts.jobs < broker->jobs_seen;
    broker->jobs_seen = counts.jobs;
}

// Clients whose layers were left out while too much waited for the journal come again with them.
static void hear_again(struct broker *broker)
{
    struct peer *next;

    if (!broker->has_unheard || journal_waiting(broker->journal) > JOURNAL_WAITING_MAX / 2) {
        return;
    }
    broker->has_unheard = false;
    for (struct peer *peer = broker->peers.first; peer != NULL; peer = next) {
        next = peer->next;
        if (peer->unheard) {
            sessions_end(
                broker->sessions, peer, ERESTART,
                "there is room again for what waits for the journal of this broker: what was added to "
                "jobs meanwhile is to be said again");
        }
    }
}

// Workers that are waited for, and have died meanwhile.
static void look_for_absent(struct broker *broker, uint64_t now)
{
    uint64_t incarnation;

    while (absents_ended(&broker->absents, now, &incarnation)) {
        struct sched_event *event = turn_add(current(broker), EVENT_EXPECT);

        if (event == NULL) {
            return; // the time will tell
        }
        event->u.expect.incarnation = incarnation;
        event->u.expect.gone = true;
    }
}

static void on_tick(void *arg)
{
    struct broker *broker = arg;
    uint64_t now = monotonic_us();

    sessions_tick(broker->sessions);
    look_for_freed(broker);
    hear_again(broker);
    look_for_absent(broker, now);
    turn_add(current(broker), EVENT_TICK);
    if (now - broker->notes_us > NOTES_SWEEP_US) {
        broker->notes_us = now;
        notes_sweep(&broker->notes, is_here, broker);
    }
    trim(broker);
}

static void stop_when_written(struct broker *broker)
{
    if (gate_is_empty(&broker->gate) && journal_is_idle(broker->journal)) {
        loop_stop(broker->loop);
    } else if (monotonic_us() > broker->stop_by_us) {
        log_write(
            broker->options.log, LEVEL_ERROR,
            "%zu bytes cannot be written to the journal: stopping without them; what a client was told to be "
            "taken is there",
            journal_waiting(broker->journal));
        loop_stop(broker->loop);
    }
}

static void on_turn(void *arg)
{
    struct broker *broker = arg;

    step(broker);
    if (broker->journal != NULL) {
        gate_seal(&broker->gate);
        journal_send(broker->journal);
        admit_all(broker, step_admitted);
        gate_seal(&broker->gate); // before the journal speaks of it
        journal_send(broker->journal);
        if (broker->stopping) {
            stop_when_written(broker);
        }
    }
    if (current(broker)->events == 0) {
        turn_reset(current(broker));
        peers_sweep(&broker->peers, broker->gate.passed);
    }
    sessions_flush(broker->sessions);
}

bool broker_drain(struct broker *broker)
{
    if (broker->journal == NULL) {
        return false;
    }
    broker->stopping = true;
    broker->stop_by_us = monotonic_us() + DRAIN_US;
    return true;
}

// All that was known before, and then the journal for what comes.
static int open_journal(struct broker *broker, struct error *err)
{
    struct ledger *ledger = NULL;
    struct entry *said = NULL;
    int rc = ledger_open(broker->options.state, broker->options.log, &ledger, err);

    if (rc != 0) {
        return rc;
    }
    broker->id = ledger_id(ledger);
    recorder_numbers(broker, ledger);
    rc = restore_all(broker, ledger, &said, err);
    if (rc != 0) {
        ledger_close(ledger);
        return rc;
    }
    rc = journal_create(ledger, broker->options.log, &broker->journal, err);
    while (said != NULL) {
        struct entry *next = said->next;

        if (rc == 0) {
            journal_append_lazily(broker->journal, said);
        } else {
            free(said);
        }
        said = next;
    }
    if (rc == 0 && loop_add_fd(broker->loop, journal_fd(broker->journal), POLLIN, on_outcomes, broker) != 0) {
        rc = error_no_memory(err);
    }
    return rc;
}

static int listen_all(struct broker *broker, char **endpoints, struct error *err)
{
    size_t size = 0;

    for (size_t i = 0; i < broker->options.listens; i++) {
        int rc = socket_bind(broker->socket, broker->options.listen[i], err);
        const char *bound = socket_endpoint(broker->socket);
        char *longer;

        if (rc != 0) {
            return rc;
        }
        longer = realloc(*endpoints, size + strlen(bound) + 2);
        if (longer == NULL) {
            return error_no_memory(err);
        }
        *endpoints = longer;
        if (size > 0) {
            longer[size++] = ' ';
        }
        memcpy(longer + size, bound, strlen(bound) + 1);
        size += strlen(bound);
    }
    return 0;
}

static int open_parts(struct broker *broker, char **endpoints, struct error *err)
{
    const struct socket_options socket_options = {
        .frame_bytes_max = FRAME_HEADER + FRAME_BODY_MAX,
        .send_messages_max = QUEUE_MESSAGES,
        .receive_messages_max = READ_AHEAD,
        .unfinished_bytes_max = STRANGER_BYTES_MAX,
        .unfinished_trusted_max = MESSAGE_BYTES_MAX,
        .watch = true,
    };
    struct session_options session_options = {
        .heartbeat_ms = broker->options.heartbeat_ms,
        .timeout_ms = broker->options.timeout_ms,
        .worker_timeout_ms = broker->options.worker_timeout_ms,
        .backlog_mark = broker->options.backlog_mark,
        .backlog_max = broker->options.backlog_mark * BACKLOG_FACTOR,
        .stalled_ms = broker->options.stalled_ms,
        .log = broker->options.log,
    };
    const struct session_handler handler = {broker, on_begun, on_joined, on_received, on_left, on_full};
    int rc;

    broker->options.sched.records = broker->options.state != NULL;
    broker->sched = sched_create(&broker->options.sched);
    if (broker->sched == NULL) {
        return error_no_memory(err);
    }
    broker->socket = socket_create(SOCKET_ROUTER, &socket_options, err);
    if (broker->socket == NULL) {
        return -err->code;
    }
    // First, so that who cannot listen leaves no folder behind; nothing is received before the loop runs.
    rc = listen_all(broker, endpoints, err);
    if (rc == 0 && broker->options.state != NULL) {
        rc = open_journal(broker, err);
        rc = rc == -EINVAL ? -EBADF : rc; // what is no journal is no wrong option
        session_options.incarnation = broker->id;
    }
    if (rc == 0) {
        rc = sessions_create(broker->socket, &broker->peers, &session_options, &handler, &broker->sessions,
                             err);
    }
    if (rc != 0) {
        return rc;
    }
    if (loop_add_socket(broker->loop, broker->socket, on_readable, broker) != 0 ||
        loop_add_fd(broker->loop, socket_watch_fd(broker->socket), POLLIN, on_watch, broker) != 0 ||
        loop_add_timer(broker->loop, TICK_MS, on_tick, broker) != 0) {
        return error_no_memory(err);
    }
    loop_set_turn(broker->loop, on_turn, broker);
    return 0;
}

int broker_create(const struct broker_options *options, struct loop *loop, struct broker **out,
                  char **endpoints, struct error *err)
{
    struct broker *broker = calloc(1, sizeof(*broker));
    char *bound = NULL;
    int rc;

    if (broker == NULL) {
        return error_no_memory(err);
    }
    broker->options = *options;
    broker->loop = loop;
    broker->last_addressee = &broker->addressee;
    peers_init(&broker->peers);
    kept_init(&broker->kept);
    notes_init(&broker->notes);
    gate_init(&broker->gate);
    turn_init(&broker->turn[0]);
    turn_init(&broker->turn[1]);
    broker->into = current(broker);
    sched_actions_init(&broker->actions);
    rc = open_parts(broker, &bound, err);
    if (rc != 0) {
        free(bound);
        broker_destroy(broker, "it could not start");
        return rc;
    }
    *out = broker;
    *endpoints = bound;
    return 0;
}

void broker_destroy(struct broker *broker, const char *why)
{
    if (broker == NULL) {
        return;
    }
    if (broker->sessions != NULL && why != NULL) {
        sessions_close(broker->sessions, broker->journal != NULL ? ERESTART : ESHUTDOWN, why);
    }
    if (broker->socket != NULL) {
        loop_remove_socket(broker->loop, broker->socket);
        loop_remove_fd(broker->loop, socket_watch_fd(broker->socket));
        socket_destroy(broker->socket, why != NULL ? LINGER_MS : 0);
    }
    sessions_destroy(broker->sessions);
    relay_fini(broker);
    peers_fini(&broker->peers);
    readers_fini(broker);
    kept_fini(&broker->kept);
    notes_fini(&broker->notes);
    if (broker->journal != NULL) {
        loop_remove_fd(broker->loop, journal_fd(broker->journal));
    }
    journal_destroy(broker->journal);
    gate_fini(&broker->gate);
    admit_fini(broker);
    absents_fini(&broker->absents);
    leavers_fini(&broker->leavers);
    sched_actions_fini(&broker->actions);
    sched_destroy(broker->sched);
    turn_fini(&broker->turn[0]);
    turn_fini(&broker->turn[1]);
    free(broker);
}
