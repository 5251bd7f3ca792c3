// The ledger's inside: ledger.c (open, write), ledger_folder.c, ledger_read.c, ledger_wal.c, ledger_repair.c.
#ifndef DRAY_BROKER_LEDGER_STATE_H
#define DRAY_BROKER_LEDGER_STATE_H

#include <sqlite3.h>

#include "broker/graphfile.h"
#include "broker/ledger.h"

#define LEDGER_WAL_NAME "journal.db-wal" // SQLite's write-ahead log

enum {
    LEDGER_VERSION = 1,
    LEDGER_APPLICATION = 0x44726179, // "Dray"
    KIND_IN_FILE = 64,               // added to a kind: the body is size and sum of a file in graphs/
    FILE_FROM = 1 << 20,             // bytes
    NUMBERS_LEAP = 1 << 20,          // more than can have been used of what a damaged database does not tell
};

enum ledger_statement {
    INSERT_RECORD,
    INSERT_KEPT,
    INSERT_WORKER,
    INSERT_META,
    DELETE_JOB,
    DELETE_JOB_KEPT,
    DELETE_KEPT,
    DELETE_WORKER,
    DELETE_OVER,
    DELETE_LAYERS,
    SELECT_FILES,
    SELECT_LAYERS_FILE,
    SELECT_OVER,
    SELECT_MANY_OVER,
    LEDGER_STATEMENTS,
};

struct ledger_file {
    int64_t seq;
    bool is_new; // remove it when the transaction fails; otherwise when it is through
};

struct ledger {
    sqlite3 *db;
    sqlite3_stmt *statement[LEDGER_STATEMENTS];
    const struct log *log;
    char *dir, *path, *graphs_path;
    char *place;              // the folder as it is called everywhere on this host
    int lock, folder, graphs; // file descriptors
    uint64_t inode;           // of the database
    uint64_t id;
    int64_t seq; // of the next record
    struct ledger_numbers numbers;
    uint32_t written_job,
        writing_job; // numbers.job as it is in the database, and will be with the transaction
    size_t damaged;
    bool repaired; // it was damaged when it was opened
    int mark, wal; // file descriptors of ledger_wal.c; -1: not open
    bool durable;     // what PRAGMA synchronous says now
    unsigned overs;   // records of ENTRY_OVER since they were joined, and their bytes
    size_t over_bytes;
    uint8_t *scratch; // for encoding
    size_t scratch_bytes;
    // Of what is gone but may come back with a crash of the system (the first `pending`), and of this
    // transaction.
    struct ledger_file *file;
    size_t pending, files, files_max;
};

enum { KIND_META = 128 }; // for sums of the table meta

// A checksum over all that a row says.
int64_t ledger_sum(int kind, int64_t seq, uint32_t job, uint64_t at, const void *body, size_t size);
// Opens and prepares the database at a path; creates its tables.
int ledger_connect(struct ledger *ledger, const char *path, struct error *err);
void ledger_disconnect(struct ledger *ledger);
// When all that was committed is on the disk.
void ledger_remove_pending(struct ledger *ledger);
// Instead of all that the job's records of tasks that are over say.
int ledger_replace_over(struct ledger *ledger, uint32_t job, struct spans *over, struct error *err);
// -errno in words, of the last failure of the database.
int ledger_error(const struct ledger *ledger, const char *path, const char *what, struct error *err);

// ---- ledger_folder.c
// Makes the folder when it is not there.
int ledger_open_folder(const char *path, int *out, struct error *err);
// The state folder, locked.  -EBUSY: another broker has it.
int ledger_take_folder(struct ledger *ledger, struct error *err);
// Before SQLite sees it: what is where the journal should be.  1: nothing is; what is left of one that was
// there is said and put aside.  -EINVAL: what is there is none.
int ledger_look_at_file(struct ledger *ledger, struct error *err);
// While it is in use: remembers which file it is, and whether that is where the next broker will look for it.
// -ESTALE: somebody has removed or replaced it.
void ledger_note_file(struct ledger *ledger);
int ledger_check_file(const struct ledger *ledger, struct error *err);
// Of a failure for want of room: where, and how much there is.
void ledger_say_full(const struct ledger *ledger, struct error *err);

// ---- ledger_wal.c
// Before the database is opened: says what of the write-ahead log is lost, and sets `repaired` then.
void ledger_look_at_wal(struct ledger *ledger);
// A mark in the folder that the database is in use: who finds it knows that nobody closed it, and what was safe in
// its log.  From then on it follows each commit of a connection that is watched.
void ledger_mark_open(struct ledger *ledger);
// Before the database is closed, and its log goes: a broker that is killed in between has lost nothing.
void ledger_mark_closing(struct ledger *ledger);
// Behind that: one that could not use the folder has no mark, and leaves none of its forerunner whose log it
// has brought into the database.
void ledger_mark_closed(const struct ledger *ledger);
void ledger_mark_none(const struct ledger *ledger); // before the log is replaced, or emptied
void ledger_watch_commits(struct ledger *ledger);

// ---- ledger_repair.c
// Takes what can be read of a damaged database into a new one, which takes its place.
int ledger_repair(struct ledger *ledger, const char *why, struct error *err);
// Where no database is: 1: one that was repaired was about to take that place, and has.  0: none.
int ledger_finish_repair(struct ledger *ledger, struct error *err);

#endif
