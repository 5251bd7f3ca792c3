// The connection as libdray's own parts see it: taking in what has come, waiting, answers.
#ifndef DRAY_CLIENT_LIB_CONNECTION_H
#define DRAY_CLIENT_LIB_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lib/client.h"
#include "client/lib/rejoin.h"
#include "client/lib/results.h"
#include "client/lib/uplink.h"

// The answer that a call is waiting for.
struct awaited {
    enum { AWAIT_NOTHING, AWAIT_SUBMIT, AWAIT_TAG } kind;
    bool here;
    unsigned session;        // that the question was sent in; 0: none yet
    bool again;              // it was sent in more than one
    uint64_t key_hi, key_lo; // SUBMIT
    const Dray__Graph *graph;
    struct results_job_options options;
    uint32_t job;
    struct error refused; // code 0: accepted
    enum frame_type type; // TAG
    uint32_t tag;
    bool attach; // ATTACHED: the job becomes one of ours before its results come
    struct arena *arena;
    ProtobufCMessage *answer;
};

struct dray {
    struct uplink *uplink;
    struct results *results;
    struct dray_pool *pools; // that are open
    int epoll;
    int timer;
    int interrupt; // borrowed; -1: none
    int wake;      // readable while something is to be done that no fd would tell of
    bool woken;
    unsigned timer_ms;
    uint64_t timer_us; // when it is due
    bool timer_came;   // since it was set
    uint32_t tag;
    struct awaited awaited;
    bool repeated; // the last question was asked in more than one session
    struct rejoin rejoin;
    struct error broken; // code 0: the connection stands, or is looked for
};

// Sends what pools have gathered, handles what has come, says what is to be said, without waiting.
// awaiting: for a call that waits inside.  Otherwise nothing more is taken in while results that the user
// does not take fill their room.
int connection_take_in(dray_t *dray, bool awaiting, struct error *err);
// Makes the file descriptor agree with what there is to do; at the end of every call.
void connection_settle(dray_t *dray);

// monotonic_us that is timeout_ms from now; UINT64_MAX for -1.
uint64_t connection_deadline(int timeout_ms);
// 1: there is something to take in; 0: time is up; -EINTR: the interrupt fd says so, or (unless stubborn) a
// signal came.  To the user's own events it does not listen.
int connection_wait(dray_t *dray, uint64_t deadline_us, bool stubborn, struct error *err);
// Sends a question and waits for dray->awaited, which the caller has filled in, at most timeout_ms.
int connection_ask(dray_t *dray, enum frame_type type, const ProtobufCMessage *question, int timeout_ms,
                   const char *what, struct error *err);

#endif
