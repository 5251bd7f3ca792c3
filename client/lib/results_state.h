// What results.c (jobs and fetching), results_message.c (what the broker says) and
// results_next.c (what the user gets) share; nobody else's business.
#ifndef DRAY_CLIENT_LIB_RESULTS_STATE_H
#define DRAY_CLIENT_LIB_RESULTS_STATE_H

#include "client/lib/results.h"

enum {
    FETCHES_MAX = 8,   // partitions under way at once
    FREE_BATCH = 256,  // results read before the broker is told without being asked
    LOST_US = 3000000, // ask for a lost result again if nothing was heard of it for so long
};

enum result_state {
    RESULT_ANNOUNCED, // waits for room
    RESULT_FETCHING,
    RESULT_READY, // its bytes are here
    RESULT_LOST,  // nobody has it: the broker announces it anew when it has been made again
    RESULT_STATES
};

struct result {
    struct result *previous, *next; // in its job's list of its state, in order of arrival
    enum result_state state;
    uint64_t lost_us;
    uint32_t layer, index;
    Dray__Result *where;       // a copy; NULL once the bytes are here
    uint64_t reserved;         // of results->bytes_held
    struct transfer *transfer; // FETCHING
    struct buffer *bytes;      // READY
    struct job *job;
};

struct note {
    struct note *next;
    uint32_t layer, index;
    size_t size;
    uint8_t data[];
};

struct layer {
    uint32_t tasks;
    bool wanted;
    struct result **result; // [tasks], made with the first result; RESULT_TAKEN: delivered
    uint8_t *noted;         // [tasks], made with the first note
    uint32_t next;          // ordered jobs: index to be delivered next
};

struct job {
    struct job *next;
    struct results *results;
    uint32_t id;
    struct results_job_options options;
    struct layer *layer;
    uint32_t layers;
    struct {
        struct result *first, *last;
    } list[RESULT_STATES];
    size_t undelivered; // results in all lists
    struct note *note, **note_end;
    struct dray_event progress; // the newest only
    bool progress_fresh;
    char waiting[256];
    struct dray_event end;
    bool ended, end_delivered;
    uint32_t *read; // layer, index pairs to tell the broker
    size_t reads;
};

struct results {
    struct uplink *uplink;
    struct transfers *transfers;
    struct job *jobs;
    uint64_t bytes_max;
    uint64_t bytes_held;
    struct buffer *current; // what the last dray_event points to
    struct note *current_note;
    char current_waiting[256];
    bool admitting;
};

// Stands in layer.result for one that was delivered.
extern struct result results_taken;
#define RESULT_TAKEN (&results_taken)

struct job *results_find_job(const struct results *results, uint32_t id);
// The job ends here, whatever the broker says of it.
void results_fail_job(struct job *job, int code, const char *text);
// They are of no more interest.
void results_drop_undelivered(struct job *job);
// Begins to fetch what there is room for.
void results_admit(struct results *results);
// Of an ordered job: the one that all others may wait for; NULL: not announced yet.
struct result *results_next_in_order(const struct job *job);

void result_append(struct result *result, enum result_state state); // to a list; it is in none
void result_move(struct result *result, enum result_state state);
void result_forget(struct result *result);
// Copies; NULL forgets.  result->where stays NULL when there is no memory.
void result_set_where(struct result *result, const Dray__Result *where);
void result_unreserve(struct result *result);
void result_make_ready(struct result *result, struct buffer *bytes); // takes the reference

#endif
