// The world: a broker, hosts (worker processes), customers (client processes), links
// between them, a clock that jumps from letter to letter.
#ifndef DRAY_TESTS_SIM_WORLD_H
#define DRAY_TESTS_SIM_WORLD_H

#include <stdio.h>
#include <stdlib.h>

#include "broker/core/relays.h"
#include "broker/core/sched.h"
#include "proto/map.h"
#include "tests/sim/apart.h"
#include "tests/sim/ledger.h"
#include "tests/sim/plan.h"
#include "worker/core/agent.h"
#include "worker/core/errands.h"

enum {
    HOSTS_MAX = 256,
    PLANS_MAX = 16,
    CUSTOMERS_MAX = 32,
    LINKS_MAX = 4096,
    JOBS_MAX = 1024,
    FIRST_CUSTOMER = 1000,
    FIRST_RETURN = 100000, // peer numbers of customers that come back
};

// A session: in order both ways, all that is under way is lost with it.
struct link {
    uint32_t peer;
    bool up;
    bool bye;                        // the host has said so
    bool broker_knows;               // it took part in the handshake
    uint64_t to_broker, from_broker; // when the last letter arrives
    struct host *host;
    struct customer *customer;
    // In mortal worlds.
    uint32_t life;                    // of the broker
    bool heard, left;                 // the broker has read that it joined; that it is gone
    struct letter *gate, **gate_last; // read, and waiting for what was written before to be durable
    // Where hosts are apart.
    bool present; // the broker takes it to be there
    struct relay_end relay;
};

struct step { // a task of a bundle
    struct task_key key;
    bool begun, withdrawn;
};

struct run {         // a bundle on a thread of a host
    uint32_t bundle; // 0: none
    struct step *task;
    size_t at, count;
    uint32_t number; // of the start of the one that runs
    uint64_t value, task_ns;
    bool fails, stopped;
    struct agent_event *events; // gathered
    size_t event_count;
};

enum { RUNS_MAX = 64 };

struct host {
    uint32_t number;
    bool alive;
    uint32_t threads;
    bool shared;
    unsigned files;  // bit set
    unsigned labels; // bit set
    uint32_t amount[PLAN_RESOURCES];
    uint64_t memory; // 0: it does not say
    bool leaving;
    uint64_t leave_by; // then it goes, whatever it holds
    struct agent *agent;
    struct map store;     // value as a pointer
    struct map forgotten; // layers whose operations were
    struct run run[RUNS_MAX];
    uint32_t runs;     // started so far
    struct link *link; // NULL: not connected
    struct agent_actions actions;
    struct agent_event *later; // for the agent's next step
    size_t later_count;
    bool paused;
    struct letter *missed, **missed_last; // meanwhile
    // Where hosts are apart.
    bool session;          // with the broker
    struct detour *detour; // in order
    struct errands errands;
    uint32_t tag; // of the last that the broker was asked for
};

struct customer {
    uint32_t number;
    bool here;
    struct link *link;
};

enum letter_type {
    LETTER_TO_BROKER,
    LETTER_TO_HOST,
    LETTER_TO_CUSTOMER,
    LETTER_BROKER_TURN,
    LETTER_TASK_OVER,
    LETTER_FETCH_ASKED, // at the holder
    LETTER_FETCH_OVER,  // back at the host
    LETTER_RESULT_ASKED,
    LETTER_RESULT_OVER,
    LETTER_HOST_START,
    LETTER_HOST_CUT_OFF, // the host notices
    LETTER_HOST_CONNECT,
    LETTER_SUBMIT,
    LETTER_EXTEND,
    LETTER_ATTACH,
    LETTER_WHIM, // of a customer: cancel, leave, ask again
    LETTER_LEAVE,
    LETTER_CHAOS,
    LETTER_TICK,
    // In mortal worlds.
    LETTER_BROKER_DIES,
    LETTER_BROKER_STARTS,
    LETTER_COMMIT,
    LETTER_EXTENDED, // to a customer: so many layers are safe
    LETTER_CUSTOMER_CUT_OFF,
    LETTER_CUSTOMER_CONNECT,
    LETTER_HOST_GOES_ON,
    // Where hosts are apart.
    LETTER_DETOUR,       // the reader sees that there is no way
    LETTER_RELAY_ASKED,  // at the broker
    LETTER_RELAY_PASSED, // at the holder
    LETTER_RELAY_PIECE,  // at the broker again
    LETTER_RELAY_OVER,   // at the reader
};

struct letter {
    uint64_t at;
    uint64_t sequence;
    enum letter_type type;
    struct link *link;
    struct sched_event event;   // TO_BROKER; arrays are owned
    struct agent_event *events; // TO_HOST; owned
    size_t count;
    struct sched_action action; // TO_CUSTOMER
    struct host *host;
    struct customer *customer;
    struct task_key key;
    uint32_t number;
    bool good;
    uint64_t value;
    uint32_t tag; // of what goes by way of the broker
    bool relayed; // FETCH_OVER: it has come so
    struct letter *next;
    struct link *about; // what the broker finds out by itself
    bool read;          // by the broker, which heeds it even though its link has been cut since
    size_t waits_for;   // entries of the ledger
};

struct world_options {
    uint64_t seed;
    bool faults;
    bool wide;    // jobs that grow and read others, demands, workers that leave, jobs that are kept
    bool rot;     // partitions are damaged where they are held
    bool tight;   // workers have room for few copies
    bool slow;    // some tasks take very long where they run first
    bool mortal;  // the broker dies and comes back
    bool apart;   // there are hosts that do not reach one another
    bool leaving; // no faults, but workers come and leave all the time, and wait until others have what they
                  // held
    FILE *trace;
    struct world_counts *counts; // NULL: not asked for
};

// Of all worlds that were run.
struct world_counts {
    uint64_t deaths;               // of brokers
    uint64_t lost;                 // entries of their ledgers that were cut off
    uint64_t second_runs;          // of tasks that took long
    uint64_t relayed, not_relayed; // partitions that came by way of the broker, and that did not
    uint64_t runs, more; // tasks that were begun; those that were begun again, without having failed
};

struct world {
    struct world_options options;
    struct random random;
    uint64_t now;
    uint64_t sequence;
    struct letter **heap;
    size_t letters, letter_capacity;
    struct sched *sched;
    struct sched_actions actions;
    struct letter **inbox;
    size_t inbox_count, inbox_capacity;
    bool turn_due;
    struct host *host[HOSTS_MAX];
    uint32_t hosts;
    struct link *link[LINKS_MAX];
    uint32_t links;
    uint32_t next_peer;
    struct plan plan[PLANS_MAX];
    uint32_t plans;
    uint32_t job_plan[JOBS_MAX]; // which plan a job number was given to, plus one
    struct customer customer[CUSTOMERS_MAX];
    uint32_t customers;
    uint64_t chaos_until;
    uint32_t threads_max, delay_max, duration_max, depth, files_mode;
    bool killers;
    uint32_t room;          // of each host, for copies; 0: enough
    bool closing;           // all jobs are over
    uint8_t mute[JOBS_MAX]; // ticks for which a job has neither run nor said why
    uint64_t steps;
    // In mortal worlds.
    struct sched_options sched_options;
    struct ledger ledger;
    bool down;
    bool frees; // single results
    uint32_t life;
    uint32_t next_client;
    uint32_t commit; // number of the commit that is under way or due
    bool committing; // somebody waits for it
    size_t writing;
    uint64_t closing_at;
    struct letter *held;
    bool stranger; // a worker joined, and that was not written down
    // Where hosts are apart.
    uint64_t apart[HOSTS_MAX][HOSTS_MAX / 64]; // bit: does not reach that one
    uint32_t apart_percent;
    struct relays relays;
    struct relay_end guest; // one that reads from them all, comes and goes
    uint32_t guest_number, guest_tag;
};

// Makes a world from its seed, lets it run to its end, checks all.  Aborts when something
// is wrong, after saying which seed.
void world_run(const struct world_options *options);

// ---- between the files of the simulation ---------------------------------------------------
void world_fail(const struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
static inline void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "no memory\n");
        abort();
    }
    return pointer;
}

struct letter *letter_new(enum letter_type type);
void letter_free(struct letter *letter);
struct letter *world_next(struct world *world); // the first there is
void world_post(struct world *world, struct letter *letter, uint64_t delay);
void world_trace(struct world *world, const struct sched_event *events, size_t count);
uint64_t world_delay(struct world *world);
struct link *world_link(struct world *world);
struct link *world_link_of(struct world *world, uint32_t peer);
// Never before what was sent earlier that way.
void world_post_in_order(struct world *world, struct letter *letter, uint64_t *last);
void world_send_broker(struct world *world, struct link *link, struct letter *letter);
void world_cut(struct world *world, struct link *link);
struct plan *world_plan(struct world *world, uint32_t job);
struct host *world_holder(struct world *world, uint32_t peer);
void world_check_over(struct world *world);
void world_handle(struct world *world, struct letter *letter);

void broker_hears(struct world *world, struct letter *letter); // read when its turn is due
void broker_reads(struct world *world, struct letter *letter); // the same, past the gate
void broker_turn(struct world *world);

void host_start(struct world *world, unsigned files, bool shared, bool able);
void host_leave(struct world *world, struct host *host);
void host_connect(struct world *world, struct host *host);
void host_die(struct world *world, struct host *host);
void host_events(struct world *world, struct host *host, const struct agent_event *events, size_t count);
void host_tick(struct world *world, struct host *host);
void host_run_start(struct world *world, struct host *host, const struct agent_action *action);
void host_withdraw(struct world *world, struct host *host, const struct agent_action *action);
void host_forget_runs(struct host *host);
void host_task_over(struct world *world, struct letter *letter);
void host_report(struct world *world, struct host *host, const struct agent_action *action);
// All that is to be said from this action on; how many that were.
size_t host_advertise(struct world *world, struct host *host, size_t at, bool full);
void host_put(struct host *host, struct task_key key, uint64_t value);
void host_fetch_asked(struct world *world, struct letter *letter);
void host_fetch_over(struct world *world, struct letter *letter);
void host_rot(struct world *world, struct host *host);
void tight_begin(struct world *world);
bool host_has_room(const struct world *world, const struct host *host);
void host_free(struct host *host);
uint64_t host_value(const struct host *host, struct task_key key); // 0: not there

bool host_misses(struct world *world, struct letter *letter); // it is paused: will read that later

// Mortal worlds.
void mortal_begin(struct world *world);
void mortal_check(const struct world *world);
void mortal_end(struct world *world);
bool mortal_chaos(struct world *world); // true: something happened
bool mortal_is_over(const struct world *world);
void mortal_handle(struct world *world, struct letter *letter);
bool mortal_gate(struct world *world, struct letter *letter); // it waits for the disk, or for one that does
void mortal_reads(struct world *world, const struct letter *letter);
void mortal_hold(struct world *world, struct letter *letter); // sent when what was written is durable
void mortal_step_over(struct world *world, const struct sched_event *events, size_t count);
void customer_extended(struct world *world, const struct letter *letter);
void customer_gone(struct world *world, struct customer *customer, struct plan *plan);
void customer_not_heard(struct world *world, struct customer *customer); // the broker is not there
void customer_cut_off(struct world *world, struct letter *letter);
void customer_connect(struct world *world, struct customer *customer);
void customer_say(struct world *world, struct customer *customer, enum sched_event_type type, uint32_t job);
void customer_say_submit(struct world *world, struct customer *customer, struct plan *plan);
void customer_extend_later(struct world *world, struct customer *customer, struct plan *plan);
void customer_bequeath(struct world *world, struct plan *plan);
void customer_plan_over(struct world *world, struct plan *plan);

struct customer *customer_join(struct world *world);
void customer_leave(struct world *world, struct customer *customer);
void customer_submit(struct world *world, struct letter *letter);
void customer_extend(struct world *world, struct letter *letter);
void customer_arrives(struct world *world, const struct letter *letter);
void customer_attach(struct world *world, struct letter *letter);
void customer_whim(struct world *world, struct customer *customer);
void customer_hears(struct world *world, struct customer *customer, const struct sched_action *action);
void customer_result_asked(struct world *world, struct letter *letter);
void customer_result_over(struct world *world, struct letter *letter);

#endif
