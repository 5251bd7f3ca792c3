// The journal: a thread that writes the ledger of a state folder, so that the loop never waits for the disk.
// What a turn of the loop appended is committed together, with what came while the thread was writing.
#ifndef DRAY_BROKER_JOURNAL_H
#define DRAY_BROKER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/ledger.h"

struct journal;

// Takes the ledger over, also when it fails.
int journal_create(struct ledger *ledger, const struct log *log, struct journal **out, struct error *err);
// Writes what is appended (tries once) and closes the ledger.  NULL is fine.
void journal_destroy(struct journal *journal);

// All of these only gather; journal_send hands it to the thread.  Entries are taken over.
// Somebody waits until it is safe: the number to wait for.
uint64_t journal_append(struct journal *journal, struct entry *entry);
// Goes along with others, within LAZY_MS.
void journal_append_lazily(struct journal *journal, struct entry *entry);
// The same for tasks that are over.  -ENOMEM: they will run again should the broker die.
int journal_over(struct journal *journal, const struct task_range *range);
// The turn is over.
void journal_send(struct journal *journal);

// Readable when there are outcomes.  Then journal_next until false.
int journal_fd(const struct journal *journal);
struct outcome {
    uint64_t ticket; // of all that waits for numbers up to this one and behind that of the outcome before
    // Not written: what is refusable is forgotten, the rest will be tried again and is safe with the next
    // outcome that is whole.
    int code;
    bool is_whole; // all is written; false: something of before waits for room
    char text[ERROR_TEXT_MAX];
};
bool journal_next(struct journal *journal, struct outcome *out);
// Nothing is appended that is not written.
bool journal_is_idle(struct journal *journal);
// Bytes that wait, because the disk is full or slow.
size_t journal_waiting(struct journal *journal);

#endif
