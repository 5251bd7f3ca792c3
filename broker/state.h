// The broker's inside, shared by the files of this folder that are its parts:
// dispatch*.c (message -> event), deliver.c (action -> message), restore.c (journal -> event), recorder.c
// (action
// -> journal), relay.c, query*.c.
#ifndef DRAY_BROKER_STATE_H
#define DRAY_BROKER_STATE_H

#include "broker/absent.h"
#include "broker/broker.h"
#include "broker/core/relays.h"
#include "broker/core/sched.h"
#include "broker/gate.h"
#include "broker/journal.h"
#include "broker/kept.h"
#include "broker/leaver.h"
#include "broker/notes.h"
#include "broker/peer.h"
#include "broker/session.h"
#include "broker/turn.h"

// Not yet written: beyond it nothing new is taken.
#define JOURNAL_WAITING_MAX ((size_t)512 << 20)

struct broker {
    struct broker_options options;
    struct loop *loop;
    struct socket *socket;
    struct peers peers;
    struct sessions *sessions;
    struct sched *sched;
    struct sched_actions actions;
    struct turn turn[2]; // one gathers while the other is being delivered
    unsigned current;
    struct turn *into; // where events of who is being heard go: the current one, or the one at the gate
    struct gate gate;
    struct peer *heard;              // who; NULL: a stranger
    struct turn_mark mark;           // what there was in `into` before
    size_t taken;                    // bytes, in this turn of the loop
    uint64_t id;                     // of its state folder
    struct journal *journal;         // NULL: nothing is kept beyond this process
    uint32_t next_job;               // with a journal: numbers come from here
    uint64_t next_extend;            // ... and the ids of EXTENDs, which begin anywhere
    uint32_t workers_to, clients_to; // numbers of peers that the journal has given away
    bool is_full;                    // something that was to be written could not be
    bool has_unheard;                // clients whose EXTENDs are left out meanwhile
    bool stopping;                   // takes no more jobs (they come again); stops when all is written
    uint64_t stop_by_us;
    struct unsafe *unsafe;                    // jobs that go on with layers that are not written yet
    struct peer *addressee, **last_addressee; // whom this turn has something for
    uint64_t core_ns;                         // spent in sched_step
    uint64_t stepped_us;                      // when it last had anything but a tick
    uint64_t trimmed_us;
    bool has_freed;         // something large may be gone: a job, a client
    uint64_t jobs_seen;     // that there were with the last tick
    struct map readers;     // job -> struct readers: clients that hear of it
    struct kept kept;       // names under which jobs stay
    struct notes notes;     // of tasks
    struct absents absents; // workers that may come back after a restart
    struct leavers leavers; // workers that are asked again
    uint64_t notes_us;      // when it was looked for those of jobs that are gone
    struct relays relays;   // bytes on their way to who cannot reach a worker
    uint64_t relayed_bytes;
};

static inline struct turn *broker_turn(struct broker *broker)
{
    return broker->into;
}

// Where an event of this peer goes, whoever is being heard; its later ones go behind it.  NULL: no memory.
static inline struct turn *broker_turn_of(struct broker *broker, struct peer *peer)
{
    struct turn *turn;

    if (!gate_holds(&broker->gate, peer->gated)) {
        return &broker->turn[broker->current];
    }
    turn = gate_turn_behind(&broker->gate, &peer->gated);
    return turn;
}

// ---- dispatch.c
int dispatch_frame(struct broker *broker, struct peer *peer, const struct frame *frame,
                   struct message *message, struct error *err);
int dispatch_joined(struct broker *broker, struct peer *peer, struct error *err);
void dispatch_left(struct broker *broker, struct peer *peer, enum session_end end, const char *why);
void dispatch_full(struct broker *broker, struct peer *peer, bool full);

// One function a message; dispatch.c has the table.
// The message has been checked (proto/frame_check.c).  Negative: its sender broke the rules.
typedef int dispatch_function(struct broker *broker, struct peer *peer, const ProtobufCMessage *message,
                              struct message *frames, struct error *err);

// More waits at the gate than there may be, of this peer.
int dispatch_check_gated(const struct broker *broker, enum frame_sender role, size_t bytes,
                         struct error *err);

// ---- dispatch_worker.c
bool dispatch_has_vital_notes(const struct broker *broker, const Dray__Done *done);
dispatch_function dispatch_heartbeat;
dispatch_function dispatch_advertise;
dispatch_function dispatch_done;
dispatch_function dispatch_task_failed;
dispatch_function dispatch_tasks_failed;
dispatch_function dispatch_dropped;
dispatch_function dispatch_leaving;
dispatch_function dispatch_piece;

// ---- dispatch_client.c
dispatch_function dispatch_submit;
dispatch_function dispatch_extend;
dispatch_function dispatch_cancel;
dispatch_function dispatch_free;
dispatch_function dispatch_attach;
dispatch_function dispatch_keep;
dispatch_function dispatch_unkeep;
dispatch_function dispatch_retire;
dispatch_function dispatch_job_query;
dispatch_function dispatch_cluster_query;
dispatch_function dispatch_source_query;
dispatch_function dispatch_fetch;

// ---- deliver.c: sends all actions; `turn` has the payloads that came with their events.
void deliver_actions(struct broker *broker, struct turn *turn);
// The client hears which layers of the job are safe.
void deliver_extended(struct broker *broker, uint32_t client, uint32_t job);

// ---- admit.c: what waited for the journal
// Steps the scheduler through what is through the gate.
void admit_all(struct broker *broker, void (*step)(struct broker *broker, struct turn *turn));
// EXTENDED when what could not be written is.  -ENOMEM.
int admit_later(struct broker *broker, const struct extended *extended);
// How many of the job's layers the journal has; UINT32_MAX: all that the scheduler knows.
uint32_t admit_safe_layers(const struct broker *broker, uint32_t job);
// The journal has something to say.
void admit_outcomes(struct broker *broker);
void admit_fini(struct broker *broker);

// ---- recorder.c: what the journal is told; nothing without one
// What the scheduler says is worth remembering.  `wait`: NULL, or the gate's turn that waits for it (set when one does).
void recorder_record(struct broker *broker, const struct sched_action *action, uint64_t *wait);
void recorder_peer_joined(struct broker *broker, const struct peer *peer);
void recorder_worker_left(struct broker *broker, const struct peer *peer);
// Numbers go on from those that were used before.
void recorder_numbers(struct broker *broker, struct ledger *ledger);
// This turn of the gate waits for it.  Takes the entry over.
void recorder_wait(struct broker *broker, struct entry *entry);
// This turn of the gate waits until all that the journal was told is on the disk.  False: no memory.
bool recorder_flush(struct broker *broker);
// For journal or ledger: a record that the scheduler has made.  NULL: no memory (OVER is none: journal_over).
struct entry *recorder_entry(const struct sched_action *action);
struct entry *recorder_pack(enum entry_type type, uint32_t job, uint64_t at, const ProtobufCMessage *message);

// ---- restore.c: all that the journal knows, as events, before anybody is heard
// *said: what the journal is to be told of it, to be freed by the caller.
int restore_all(struct broker *broker, struct ledger *ledger, struct entry **said, struct error *err);

// ---- readers.c: which clients hear of a job
int readers_add(struct broker *broker, uint32_t job, uint32_t client);
void readers_forget_job(struct broker *broker, uint32_t job);
void readers_forget_client(struct broker *broker, uint32_t client);
// The clients of a job; valid until the next call of the others.
const uint32_t *readers_of(const struct broker *broker, uint32_t job, size_t *count);
void readers_fini(struct broker *broker);

// ---- relay.c: bytes from a worker to who cannot reach it, a client or another worker
int relay_fetch(struct broker *broker, struct peer *reader, const Dray__Fetch *fetch, struct error *err);
int relay_piece(struct broker *broker, struct peer *worker, const Dray__Piece *piece, struct message *message,
                struct error *err);
void relay_forget_peer(struct broker *broker, struct peer *peer);
void relay_fini(struct broker *broker); // before the peers

// ---- query.c
int query_cluster(struct broker *broker, struct peer *client, const Dray__ClusterQuery *query,
                  struct error *err);
// One job, or all.
int query_jobs(struct broker *broker, struct peer *client, const Dray__JobQuery *query, struct error *err);
// What there is to say of a job to who attaches; in the turn's arena.  NULL: no memory.
Dray__Attached *query_attached(struct broker *broker, uint32_t tag, const struct sched_job *job);
int query_sources(struct broker *broker, struct peer *client, const Dray__SourceQuery *query,
                  struct error *err);

#endif
