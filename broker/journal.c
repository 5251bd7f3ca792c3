#include "broker/journal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/map.h"
#include "proto/socket.h"

enum {
    LAZY_MS = 100,
    RETRY_MS = 1000,
    TIDY_MS = 1000, // at most so often
    TIDY_HURRIED_MS = 5000,
    JOB_WORDS = 64,
};

static const char NO_MEMORY[] =
    "out of memory: the journal forgets some tasks that are over (they would run again)";

// What is to be written, in order; tasks that are over apart.
struct batch {
    struct entry *first, **last;
    struct spans over;
    size_t bytes;
    uint64_t ticket;          // the last one
    uint64_t jobs[JOB_WORDS]; // bits of numbers that may be those of its jobs
};

struct result {
    struct result *next;
    struct outcome outcome;
};

struct journal {
    struct ledger *ledger;
    const struct log *log;
    pthread_t thread;
    bool has_thread;
    int fd;
    struct batch gathered; // the loop's own
    bool is_urgent;

    pthread_mutex_t mutex; // of the following
    pthread_cond_t changed;
    struct batch sent;
    bool hurry, stop;
    uint64_t lazy_us; // when the oldest of what nobody waits for was sent; 0: there is none
    struct result *result, **last_result;
    size_t waiting; // bytes: sent, and being written

    // The thread's own.
    struct batch writing;
    struct batch held; // could not be written: tried again, with what belongs behind it
    uint64_t told;     // ticket of the last outcome
    uint64_t retry_us; // when; 0: nothing is held
    bool lighter;      // ... of which not all was tried before without what was refused with it
    uint64_t tidied_us;
    bool untidy;
};

// ---- batches ----------------------------------------------------------------------

static void batch_begin(struct batch *batch)
{
    *batch = (struct batch){.ticket = batch->ticket};
    batch->last = &batch->first;
}

static bool is_empty(const struct batch *batch)
{
    return batch->first == NULL && batch->over.count == 0;
}

static void put(struct batch *batch, struct entry *entry)
{
    entry->next = NULL;
    *batch->last = entry;
    batch->last = &entry->next;
    batch->bytes += sizeof(*entry) + entry->size;
    batch->jobs[entry->job / 64 % JOB_WORDS] |= UINT64_C(1) << entry->job % 64;
}

static size_t batch_bytes(const struct batch *batch)
{
    return batch->bytes + batch->over.count * sizeof(*batch->over.span);
}

// All of `from`, behind what is there.  False: no memory for the tasks that are over, which are lost.
static bool join(struct batch *to, struct batch *from)
{
    bool whole = true;

    if (from->first != NULL) {
        *to->last = from->first;
        to->last = from->last;
        to->bytes += from->bytes;
        for (int i = 0; i < JOB_WORDS; i++) {
            to->jobs[i] |= from->jobs[i];
        }
    }
    if (to->over.count == 0) {
        struct spans over = to->over;

        to->over = from->over;
        from->over = over; // its memory is of use again
    } else {
        for (size_t i = 0; whole && i < from->over.count; i++) {
            whole = spans_add(&to->over, &from->over.span[i]) == 0;
        }
    }
    to->ticket = from->ticket;

    struct spans over = from->over;

    batch_begin(from);
    over.count = 0;
    from->over = over;
    return whole;
}

static void batch_fini(struct batch *batch)
{
    while (batch->first != NULL) {
        struct entry *entry = batch->first;

        batch->first = entry->next;
        free(entry);
    }
    spans_fini(&batch->over);
    batch_begin(batch);
}

static void drop(struct batch *batch, struct entry **link)
{
    struct entry *entry = *link;

    *link = entry->next;
    batch->bytes -= sizeof(*entry) + entry->size;
    free(entry);
}

// Who wanted them is told.
static void drop_refusable(struct batch *batch)
{
    struct entry **link = &batch->first;

    while (*link != NULL) {
        if ((*link)->refusable) {
            drop(batch, link);
        } else {
            link = &(*link)->next;
        }
    }
    batch->last = link;
}

// What is said of a job before that it is forgotten need not be written: there may never be room for it. (Nor
// is anything said of it behind that.)
static void drop_forgotten(struct batch *batch)
{
    struct map forgotten = {0}; // without memory it stays
    struct entry **link = &batch->first;

    for (struct entry *entry = batch->first; entry != NULL; entry = entry->next) {
        if (entry->type == ENTRY_FORGOTTEN &&
            map_put(&forgotten, (struct map_key){0, entry->job}, entry) != 0) {
            break;
        }
    }
    while (forgotten.count > 0 && *link != NULL) {
        if ((*link)->type < ENTRY_FORGOTTEN &&
            map_get(&forgotten, (struct map_key){0, (*link)->job}) != NULL) {
            drop(batch, link);
        } else {
            link = &(*link)->next;
        }
    }
    if (forgotten.count > 0) {
        batch->last = link;
    }
    map_fini(&forgotten);
}

static bool has_job(const struct batch *batch, uint32_t job)
{
    const struct entry *entry =
        job != 0 && (batch->jobs[job / 64 % JOB_WORDS] >> job % 64 & 1) != 0 ? batch->first : NULL;

    while (entry != NULL && entry->job != job) {
        entry = entry->next;
    }
    return entry != NULL;
}

// What nobody waits for follows what it belongs to.
static void hold_back(struct batch *held, struct batch *batch)
{
    struct entry **link = &batch->first;
    bool forgets = false;

    while (*link != NULL) {
        struct entry *entry = *link;

        if (entry->awaited || !has_job(held, entry->job)) {
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        batch->bytes -= sizeof(*entry) + entry->size;
        put(held, entry);
        forgets = forgets || entry->type == ENTRY_FORGOTTEN;
    }
    batch->last = link;
    if (forgets) {
        drop_forgotten(held);
    }
}

// Nothing of it makes sense only behind what is held.  (Tasks that are over do, as a set.)
static bool is_apart(const struct batch *batch, const struct batch *held)
{
    const struct entry *entry = batch->first;

    while (entry != NULL && !entry->reads_others && !has_job(held, entry->job)) {
        entry = entry->next;
    }
    return entry == NULL;
}

// ---- the thread -------------------------------------------------------------------

static struct timespec at_time(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
}

// When there is something to do next; UINT64_MAX: nothing.  The mutex is held.
static uint64_t due_at(const struct journal *journal)
{
    uint64_t due = UINT64_MAX;

    if (journal->hurry || journal->stop) {
        return 0;
    }
    if (journal->lazy_us != 0) {
        due = journal->lazy_us + LAZY_MS * 1000;
    }
    if (journal->retry_us != 0) {
        due = journal->retry_us < due ? journal->retry_us : due;
    }
    if (journal->untidy) {
        due = journal->tidied_us + TIDY_MS * 1000 < due ? journal->tidied_us + TIDY_MS * 1000 : due;
    }
    return due;
}

// Until something is to be done.  True: to be on the disk at once.
static bool wait_for_work(struct journal *journal, bool *stop)
{
    bool hurry;

    pthread_mutex_lock(&journal->mutex);
    for (uint64_t due = due_at(journal); due > monotonic_us(); due = due_at(journal)) {
        if (due == UINT64_MAX) {
            pthread_cond_wait(&journal->changed, &journal->mutex);
        } else {
            struct timespec until = at_time(due);

            pthread_cond_timedwait(&journal->changed, &journal->mutex, &until);
        }
    }
    if (!join(&journal->writing, &journal->sent)) {
        log_write(journal->log, LEVEL_WARNING, NO_MEMORY);
    }
    hurry = journal->hurry || journal->stop;
    *stop = journal->stop;
    journal->hurry = false;
    journal->lazy_us = 0;
    pthread_mutex_unlock(&journal->mutex);
    return hurry;
}

// What is said to the loop; `result` may be NULL: it only learns how much waits.
static void publish(struct journal *journal, struct result *result, int code, const char *text)
{
    uint64_t one = 1;

    pthread_mutex_lock(&journal->mutex);
    if (result != NULL) {
        *result = (struct result){.outcome = {.ticket = journal->writing.ticket,
                                              .code = code,
                                              .is_whole = is_empty(&journal->held)}};
        snprintf(result->outcome.text, sizeof(result->outcome.text), "%s", text);
        *journal->last_result = result;
        journal->last_result = &result->next;
        journal->told = journal->writing.ticket;
    }
    journal->waiting =
        batch_bytes(&journal->sent) + batch_bytes(&journal->writing) + batch_bytes(&journal->held);
    pthread_mutex_unlock(&journal->mutex);
    if (result == NULL) {
        return; // it looks when it wants to know
    }
    if (write(journal->fd, &one, sizeof(one)) < 0) {
        return; // it is readable already
    }
}

// `again`: also who was told that it could not be.
static void tell_written(struct journal *journal, bool again)
{
    bool due = journal->writing.ticket > journal->told || again;

    publish(journal, due ? malloc(sizeof(struct result)) : NULL, 0, ""); // without memory: with the next one
}

static void batch_clear(struct batch *batch)
{
    uint64_t ticket = batch->ticket;

    batch_fini(batch);
    batch->ticket = ticket;
}

// `all`: what was held as well.
static void on_written(struct journal *journal, bool all)
{
    bool again = all && journal->retry_us != 0;

    journal->untidy = true;
    batch_clear(&journal->writing);
    if (again) {
        log_write(journal->log, LEVEL_INFO, "the journal can be written again");
        batch_clear(&journal->held);
        journal->retry_us = 0;
    }
    tell_written(journal, again);
}

static void hold(struct journal *journal)
{
    uint64_t ticket = journal->writing.ticket;

    if (!join(&journal->held, &journal->writing)) {
        log_write(journal->log, LEVEL_WARNING, NO_MEMORY);
    }
    journal->writing.ticket = ticket;
    drop_forgotten(&journal->held);
}

static void on_failed(struct journal *journal, const struct error *err)
{
    bool due = journal->writing.ticket > journal->told;
    struct result *result = due ? malloc(sizeof(*result)) : NULL;

    if (journal->retry_us == 0) {
        log_write(journal->log, LEVEL_ERROR,
                  "%s: nothing new is taken before that goes again; what runs goes on", err->text);
    }
    journal->retry_us = monotonic_us() + RETRY_MS * 1000;
    if (!due || result != NULL) { // nothing is dropped that nobody can be told of
        size_t bytes = journal->writing.bytes;

        drop_refusable(&journal->writing);
        journal->lighter = journal->writing.bytes < bytes;
    }
    hold(journal);
    publish(journal, result, err->code, err->text);
    if (result != NULL && is_empty(&journal->held)) {
        journal->retry_us = 0;
        tell_written(journal, true); // nothing is left to be tried again
    }
}

// All of it, in order, or nothing.
static int write_all(struct journal *journal, bool durable, struct error *err)
{
    struct batch *held = &journal->held, *writing = &journal->writing;
    struct spans over = {0};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < held->over.count; i++) {
        rc = spans_add(&over, &held->over.span[i]);
    }
    for (size_t i = 0; rc == 0 && i < writing->over.count; i++) {
        rc = spans_add(&over, &writing->over.span[i]);
    }
    *held->last = writing->first;
    rc = rc == 0 ? ledger_write(journal->ledger, held->first, &over, durable, err) : error_no_memory(err);
    *held->last = NULL;
    spans_fini(&over);
    return rc;
}

// What is held, or the little that it may be, bars the way to nobody else.
// `last`: there is no other time.
static void write_batch(struct journal *journal, bool hurry, bool last)
{
    struct batch *writing = &journal->writing;
    bool held = journal->retry_us != 0, apart;
    bool due = held && (last || journal->lighter || monotonic_us() >= journal->retry_us);
    struct error err = {0};

    hold_back(&journal->held, writing);
    apart = held && !is_empty(writing) && is_apart(writing, &journal->held);
    if (!held && is_empty(writing)) {
        tell_written(journal, false);
        return;
    }
    if (!held ? ledger_write(journal->ledger, writing->first, &writing->over, hurry, &err) == 0
              : (due || !apart) && write_all(journal, true, &err) == 0) { // somebody may still wait
        on_written(journal, true);
    } else if (apart && ledger_write(journal->ledger, writing->first, &writing->over, hurry, &err) == 0) {
        journal->retry_us = due ? monotonic_us() + RETRY_MS * 1000 : journal->retry_us;
        journal->lighter = journal->lighter && !due;
        on_written(journal, false);
    } else {
        on_failed(journal, &err);
    }
}

static void tidy(struct journal *journal, bool hurry)
{
    uint64_t now = monotonic_us();

    // What hurries goes first, but not for ever.
    if (!journal->untidy || now - journal->tidied_us < (hurry ? TIDY_HURRIED_MS : TIDY_MS) * 1000) {
        return;
    }
    journal->tidied_us = now;
    journal->untidy = ledger_tidy(journal->ledger);
}

static void *run(void *arg)
{
    struct journal *journal = arg;
    bool stop = false;

    while (!stop) {
        bool hurry = wait_for_work(journal, &stop);

        write_batch(journal, hurry, stop);
        if (!stop) {
            tidy(journal, hurry);
        }
    }
    return NULL;
}

// ---- the loop's side --------------------------------------------------------------

int journal_create(struct ledger *ledger, const struct log *log, struct journal **out, struct error *err)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    pthread_condattr_t clock;
    int rc;

    if (journal == NULL) {
        ledger_close(ledger);
        return error_no_memory(err);
    }
    journal->ledger = ledger;
    journal->log = log;
    batch_begin(&journal->gathered);
    batch_begin(&journal->sent);
    batch_begin(&journal->writing);
    batch_begin(&journal->held);
    journal->last_result = &journal->result;
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->changed, &clock);
    pthread_condattr_destroy(&clock);
    journal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = journal->fd < 0 ? errno : pthread_create(&journal->thread, NULL, run, journal);
    journal->has_thread = rc == 0;
    if (rc != 0) {
        journal_destroy(journal);
        return error_set(err, rc, "cannot start the journal's thread: %s", strerror(rc));
    }
    *out = journal;
    return 0;
}

void journal_destroy(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    if (journal->has_thread) {
        journal_send(journal);
        pthread_mutex_lock(&journal->mutex);
        journal->stop = true;
        pthread_cond_signal(&journal->changed);
        pthread_mutex_unlock(&journal->mutex);
        pthread_join(journal->thread, NULL);
    }
    if (journal->fd >= 0) {
        close(journal->fd);
    }
    while (journal->result != NULL) {
        struct result *result = journal->result;

        journal->result = result->next;
        free(result);
    }
    batch_fini(&journal->gathered);
    batch_fini(&journal->sent);
    batch_fini(&journal->writing);
    batch_fini(&journal->held);
    pthread_cond_destroy(&journal->changed);
    pthread_mutex_destroy(&journal->mutex);
    ledger_close(journal->ledger);
    free(journal);
}

uint64_t journal_append(struct journal *journal, struct entry *entry)
{
    entry->awaited = true;
    put(&journal->gathered, entry);
    journal->is_urgent = true;
    return ++journal->gathered.ticket;
}

void journal_append_lazily(struct journal *journal, struct entry *entry)
{
    put(&journal->gathered, entry);
}

int journal_over(struct journal *journal, const struct task_range *range)
{
    return spans_add(&journal->gathered.over, range);
}

void journal_send(struct journal *journal)
{
    bool wake;

    if (is_empty(&journal->gathered)) {
        return;
    }
    pthread_mutex_lock(&journal->mutex);
    wake = journal->is_urgent || journal->lazy_us == 0;
    if (journal->lazy_us == 0) {
        journal->lazy_us = monotonic_us();
    }
    journal->hurry = journal->hurry || journal->is_urgent;
    journal->waiting += batch_bytes(&journal->gathered);
    if (!join(&journal->sent, &journal->gathered)) {
        log_write(journal->log, LEVEL_WARNING, NO_MEMORY);
    }
    if (wake) {
        pthread_cond_signal(&journal->changed);
    }
    pthread_mutex_unlock(&journal->mutex);
    journal->is_urgent = false;
}

int journal_fd(const struct journal *journal)
{
    return journal->fd;
}

bool journal_next(struct journal *journal, struct outcome *out)
{
    struct result *result;
    uint64_t count;

    pthread_mutex_lock(&journal->mutex);
    result = journal->result;
    if (result != NULL) {
        journal->result = result->next;
        journal->last_result = journal->result == NULL ? &journal->result : journal->last_result;
    } else if (read(journal->fd, &count, sizeof(count)) < 0) {
        count = 0; // it was not readable
    }
    pthread_mutex_unlock(&journal->mutex);
    if (result == NULL) {
        return false;
    }
    *out = result->outcome;
    free(result);
    return true;
}

bool journal_is_idle(struct journal *journal)
{
    return is_empty(&journal->gathered) && journal_waiting(journal) == 0;
}

size_t journal_waiting(struct journal *journal)
{
    size_t waiting;

    pthread_mutex_lock(&journal->mutex);
    waiting = journal->waiting;
    pthread_mutex_unlock(&journal->mutex);
    return waiting;
}
