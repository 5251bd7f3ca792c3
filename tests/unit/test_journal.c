// The journal's thread: who waits is told when it is safe, and when it cannot be.
#include "broker/journal.h"

#include "tests/unit/state_folder.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "broker/ledger_state.h"
#include "proto/socket.h"

static const struct log LOG = {.program = "test", .level = LEVEL_ERROR};

struct desk {
    struct state_folder folder;
    struct ledger *ledger;
    struct journal *journal;
};

static void desk_open(struct desk *desk, uint32_t pages)
{
    struct error err = {0};

    assert_int_equal(ledger_open(desk->folder.path, &LOG, &desk->ledger, &err), 0);
    ledger_limit(desk->ledger, pages);
    assert_int_equal(journal_create(desk->ledger, &LOG, &desk->journal, &err), 0);
}

static uint64_t append(struct desk *desk, enum entry_type type, uint32_t job, size_t size)
{
    uint8_t *body = calloc(1, size + 1);
    struct entry *entry;

    assert_non_null(body);
    entry = entry_create(type, job, 0, body, size);
    free(body);
    assert_non_null(entry);
    entry->refusable = type == ENTRY_JOB;
    return journal_append(desk->journal, entry);
}

static struct outcome wait_outcome(struct desk *desk)
{
    struct pollfd poll_fd = {.fd = journal_fd(desk->journal), .events = POLLIN};
    struct outcome outcome = {0};

    while (!journal_next(desk->journal, &outcome)) {
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    }
    return outcome;
}

static int count_entries(void *arg, const struct entry *entry)
{
    unsigned *count = arg;

    count[entry->type]++;
    return 0;
}

static void check_counts(struct desk *desk, unsigned jobs, unsigned layers, unsigned overs)
{
    unsigned count[64] = {0};
    struct error err = {0};

    assert_int_equal(ledger_open(desk->folder.path, &LOG, &desk->ledger, &err), 0);
    assert_int_equal(ledger_read(desk->ledger, count_entries, count, &err), 0);
    assert_int_equal(count[ENTRY_JOB], jobs);
    assert_int_equal(count[ENTRY_LAYERS], layers);
    assert_int_equal(count[ENTRY_OVER], overs);
    ledger_close(desk->ledger);
}

static void test_who_waits_is_told(void **state)
{
    struct desk desk;
    struct state_folder copy;
    struct outcome outcome = {0};
    uint64_t ticket = 0;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 0);
    assert_true(journal_is_idle(desk.journal));
    for (uint32_t job = 1; job <= 50; job++) {
        ticket = append(&desk, ENTRY_JOB, job, 10);
        journal_send(desk.journal);
    }
    assert_int_equal(ticket, 50);
    while (outcome.ticket < ticket) {
        struct outcome next = wait_outcome(&desk);

        assert_int_equal(next.code, 0);
        assert_true(next.ticket > outcome.ticket);
        outcome = next;
    }
    // As a process that dies now leaves it.
    folder_crash(&desk.folder, &copy);
    journal_destroy(desk.journal);
    check_counts(&desk, 50, 0, 0);
    folder_end(&desk.folder);
    desk.folder = copy;
    check_counts(&desk, 50, 0, 0);
    folder_end(&copy);
}

// Gathered, but not handed over: nobody may be told, and nothing be written.
static void test_a_turn_is_whole(void **state)
{
    struct desk desk;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 0);
    append(&desk, ENTRY_JOB, 1, 10);
    assert_false(journal_is_idle(desk.journal));
    assert_int_equal(poll(&(struct pollfd){.fd = journal_fd(desk.journal), .events = POLLIN}, 1, 200), 0);
    append(&desk, ENTRY_JOB, 2, 10);
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).ticket, 2);
    journal_destroy(desk.journal);
    check_counts(&desk, 2, 0, 0);
    folder_end(&desk.folder);
}

static void test_the_rest_is_written_in_a_moment(void **state)
{
    struct desk desk;
    struct state_folder copy;
    uint64_t until = monotonic_us() + 10000000;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 0);
    append(&desk, ENTRY_JOB, 1, 10);
    journal_send(desk.journal);
    wait_outcome(&desk);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(journal_over(desk.journal, &(struct task_range){1, 0, i, 1}), 0);
        journal_send(desk.journal);
    }
    while (!journal_is_idle(desk.journal)) {
        assert_true(monotonic_us() < until);
        poll(NULL, 0, 5);
    }
    folder_crash(&desk.folder, &copy);
    journal_destroy(desk.journal);
    folder_end(&desk.folder);
    desk.folder = copy;
    check_counts(&desk, 1, 0, 1);
    folder_end(&copy);
}

static void test_full_and_not_full(void **state)
{
    struct desk desk;
    struct outcome outcome;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 40);
    append(&desk, ENTRY_JOB, 1, 10);
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).code, 0);
    // Too large together: what can be refused is, the rest waits.
    append(&desk, ENTRY_LAYERS, 1, 50000);
    append(&desk, ENTRY_JOB, 2, 150000);
    journal_over(desk.journal, &(struct task_range){1, 0, 0, 5});
    journal_send(desk.journal);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, ENOSPC);
    assert_int_equal(outcome.ticket, 3);
    assert_non_null(strstr(outcome.text, desk.folder.path));
    assert_false(journal_is_idle(desk.journal));
    assert_true(journal_waiting(desk.journal) < 60000);
    // What came meanwhile brings it along.
    append(&desk, ENTRY_JOB, 3, 10);
    journal_send(desk.journal);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(outcome.ticket, 4);
    assert_true(journal_is_idle(desk.journal));
    journal_destroy(desk.journal);
    check_counts(&desk, 2, 1, 1);
    folder_end(&desk.folder);
}

// Tried again by itself: then it is as safe as if it had gone well the first time.
static void test_what_is_tried_again_is_durable(void **state)
{
    struct desk desk;
    struct outcome outcome;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 40);
    append(&desk, ENTRY_LAYERS, 1, 50000);
    append(&desk, ENTRY_JOB, 2, 150000);
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).code, ENOSPC);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(outcome.ticket, 2);
    assert_true(desk.ledger->durable);
    journal_destroy(desk.journal);
    check_counts(&desk, 0, 1, 0);
    folder_end(&desk.folder);
}

// All that could not be written was refused: whoever waits for the rest need not wait for another one.
static void test_nothing_is_left_to_be_tried_again(void **state)
{
    struct desk desk;
    struct outcome outcome;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 40);
    append(&desk, ENTRY_JOB, 1, 300000);
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).code, ENOSPC);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(outcome.ticket, 1);
    assert_true(journal_is_idle(desk.journal));
    journal_destroy(desk.journal);
    check_counts(&desk, 0, 0, 0);
    folder_end(&desk.folder);
}

// Layers that do not fit bar the way to nobody: what is small and reads nothing of them is written, what
// belongs behind them is refused in words, and when their job is forgotten nothing waits any more.
static void test_small_ones_pass_large_ones(void **state)
{
    struct desk desk;
    struct outcome outcome;
    struct entry *reader;

    (void)state;
    folder_begin(&desk.folder);
    desk_open(&desk, 40);
    append(&desk, ENTRY_LAYERS, 1, 300000);
    journal_send(desk.journal);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, ENOSPC);
    assert_false(outcome.is_whole);
    for (uint32_t job = 2; job < 12; job++) {
        append(&desk, ENTRY_JOB, job, 10);
        journal_over(desk.journal, &(struct task_range){1, 0, job, 1});
        journal_append_lazily(desk.journal, entry_create(ENTRY_ENDED, 1, 0, "", 0)); // behind the layers
        journal_send(desk.journal);
        outcome = wait_outcome(&desk);
        assert_int_equal(outcome.code, 0);
        assert_int_equal(outcome.ticket, job);
        assert_false(outcome.is_whole);
    }
    reader = entry_create(ENTRY_JOB, 12, 0, "", 0);
    assert_non_null(reader);
    reader->refusable = reader->reads_others = true;
    journal_append(desk.journal, reader);
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).code, ENOSPC);
    append(&desk, ENTRY_LAYERS, 1, 10); // of the same job
    journal_send(desk.journal);
    assert_int_equal(wait_outcome(&desk).code, ENOSPC);
    assert_false(journal_is_idle(desk.journal));
    journal_append_lazily(desk.journal, entry_create(ENTRY_FORGOTTEN, 1, 0, NULL, 0));
    journal_send(desk.journal);
    outcome = wait_outcome(&desk);
    assert_int_equal(outcome.code, 0);
    assert_true(outcome.is_whole);
    assert_true(journal_is_idle(desk.journal));
    journal_destroy(desk.journal);
    check_counts(&desk, 10, 0, 0);
    folder_end(&desk.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_waits_is_told),
        cmocka_unit_test(test_a_turn_is_whole),
        cmocka_unit_test(test_the_rest_is_written_in_a_moment),
        cmocka_unit_test(test_full_and_not_full),
        cmocka_unit_test(test_what_is_tried_again_is_durable),
        cmocka_unit_test(test_nothing_is_left_to_be_tried_again),
        cmocka_unit_test(test_small_ones_pass_large_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
