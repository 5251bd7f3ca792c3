// The database in a state folder: what the broker must know after a restart.  One connection, used by one
// thread at a time.  Each record carries a checksum.
//
//   DIR/lock           held while a broker uses the folder
//   DIR/open           there while it has the database open: it died when there is one at the start
//   DIR/journal.db     SQLite, write-ahead: tables meta, record, kept, worker
//   DIR/graphs/SEQ     the body of record SEQ, where it is large
#ifndef DRAY_BROKER_LEDGER_H
#define DRAY_BROKER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/span.h"
#include "proto/error.h"
#include "proto/log.h"

struct ledger;

// These numbers are in the database.
enum entry_type {
    // Records of a job, kept until it is forgotten.
    ENTRY_JOB = 1,      // body: a packed Submit; at: when, in us since 1970
    ENTRY_LAYERS = 2,   // body: a packed Extend; at: a number that no other one of the job has
    ENTRY_OVER = 3,     // body: spans_encode
    ENTRY_FAILED = 4,   // body: a packed TaskFailure; at: how many tasks from its index on
    ENTRY_NOTES = 5,    // body: a packed Notes
    ENTRY_ENDED = 6,    // body: a packed JobEnded
    ENTRY_GIVEN_UP = 7, // nobody has it any more, others need it
    ENTRY_DETACHED = 8, // it goes on without a client
    // Changes of what is known.
    ENTRY_FORGOTTEN = 32,   // the job, with all of its records and names
    ENTRY_KEPT = 33,        // body: a name of the job
    ENTRY_UNKEPT = 34,      // body: a name
    ENTRY_WORKER = 35,      // at: its incarnation; body: absent_describe
    ENTRY_WORKER_GONE = 36, // at: its incarnation
    ENTRY_NUMBERS = 37,     // at: workers' numbers below are not used again << 32 | clients'
    ENTRY_NOT_LAYERS = 38,  // the job's LAYERS with this `at` are none of it
};

struct entry {
    struct entry *next;
    enum entry_type type;
    bool refusable; // when it cannot be written it need not be: who wanted it is told
    // Of the journal's, not written:
    bool reads_others; // it may make sense only behind what is said of other jobs
    bool awaited;
    uint32_t job;
    uint64_t at;
    size_t size;
    uint8_t body[];
};

// Free with free().  NULL: no memory.
struct entry *entry_create(enum entry_type type, uint32_t job, uint64_t at, const void *body, size_t size);

struct ledger_numbers {
    uint32_t job; // above all that were used
    uint32_t worker, client;
};

// Creates what is not there.  -EBUSY: another process uses the folder; -EINVAL: the file is no journal of
// ours; or what the system says.  What is damaged is said to the log, and what can be read goes on.
int ledger_open(const char *dir, const struct log *log, struct ledger **out, struct error *err);
void ledger_close(struct ledger *ledger); // NULL is fine
uint64_t ledger_id(const struct ledger *ledger);
struct ledger_numbers ledger_numbers(const struct ledger *ledger);
size_t ledger_damaged(const struct ledger *ledger); // records that were left out so far

// All that there is, in the order in which it was written; workers first, names last.  An entry is borrowed.
// `read` stops with the first negative answer, which is given back.
int ledger_read(struct ledger *ledger, int (*read)(void *arg, const struct entry *entry), void *arg,
                struct error *err);
// All of it or nothing; `over` is joined in place.  `durable`: it, and all that came before, is on the disk
// when this is back; otherwise that is so with the next durable one, and a crash of the system (not of the
// process) may lose it.  -ENOSPC and others: said so that users can read it.
int ledger_write(struct ledger *ledger, const struct entry *entries, struct spans *over, bool durable,
                 struct error *err);
// Joins what many small records say, gives free pages and files back: a bounded piece of it.  True: there is
// more to do.
bool ledger_tidy(struct ledger *ledger);

// For tests: pages that the database may have; 0: as many as there is room for.
void ledger_limit(struct ledger *ledger, uint32_t pages);

#endif
