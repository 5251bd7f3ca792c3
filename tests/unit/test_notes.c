// Notes of tasks, kept with their jobs.
#include "broker/notes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/op.pb-c.h"

static bool is_odd(void *arg, uint32_t job)
{
    (void)arg;
    return job % 2 == 1;
}

static void test_in_the_order_in_which_they_came(void **state)
{
    struct notes notes;
    const struct note *note;

    (void)state;
    notes_init(&notes);
    assert_null(notes_of(&notes, 1));
    assert_int_equal(notes_add(&notes, 1, 0, 7, "seven", 5), 1);
    assert_int_equal(notes_add(&notes, 1, 0, 3, "three", 5), 1);
    assert_int_equal(notes_add(&notes, 2, 0, 7, "", 0), 1);
    assert_int_equal(notes_add(&notes, 1, 0, 7, "again", 5), 0);
    assert_true(notes_has(&notes, 1, 0, 3));
    assert_false(notes_has(&notes, 1, 1, 3));
    note = notes_of(&notes, 1);
    assert_int_equal(note->index, 7);
    assert_memory_equal(note->bytes, "seven", 5);
    assert_int_equal(note->next->index, 3);
    assert_null(note->next->next);
    notes_forget(&notes, 1);
    notes_forget(&notes, 1);
    assert_null(notes_of(&notes, 1));
    assert_int_equal(notes_of(&notes, 2)->size, 0);
    notes_fini(&notes);
}

static void test_many_jobs_and_what_is_gone(void **state)
{
    struct notes notes;

    (void)state;
    notes_init(&notes);
    for (uint32_t job = 1; job <= 1000; job++) {
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(notes_add(&notes, job, i, job, &i, sizeof(i)), 1);
        }
    }
    notes_sweep(&notes, is_odd, NULL);
    for (uint32_t job = 1; job <= 1000; job++) {
        assert_int_equal(notes_of(&notes, job) != NULL, job % 2);
    }
    for (uint32_t job = 1; job <= 1000; job++) {
        notes_forget(&notes, job);
    }
    assert_int_equal(notes.bytes, 0);
    notes_fini(&notes);
}

static void test_there_is_a_limit(void **state)
{
    struct notes notes;
    size_t size = (size_t)64 << 20;
    uint8_t *large = calloc(1, size);
    int rc = 1;

    (void)state;
    assert_non_null(large);
    notes_init(&notes);
    for (uint32_t i = 0; rc == 1; i++) {
        rc = notes_add(&notes, 1, 0, i, large, size);
        assert_true(i < 10);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(notes_add(&notes, 1, 0, 1, large, size), 0); // one that is there
    notes_forget(&notes, 1);
    assert_int_equal(notes_add(&notes, 2, 0, 0, large, size), 1);
    notes_fini(&notes);
    free(large);
}

static bool is_vital(const Dray__Note *note)
{
    uint8_t bytes[200];

    return notes_is_vital(bytes, dray__note__pack(note, bytes));
}

// What a command took is nice to know; all else says how to read a result.
static void test_what_is_vital(void **state)
{
    Dray__Note note = DRAY__NOTE__INIT;
    Dray__CommandUse use = DRAY__COMMAND_USE__INIT;

    (void)state;
    use.exit_code = -9;
    use.wall_us = use.cpu_us = use.peak_bytes = UINT64_MAX;
    assert_true(is_vital(&note));
    note.use = &use;
    assert_false(is_vital(&note));
    note.has_invalid_utf8 = true;
    note.invalid_utf8 = 3;
    assert_true(is_vital(&note));
    note.use = NULL;
    assert_true(is_vital(&note));
    assert_true(notes_is_vital("\x22\x05", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_the_order_in_which_they_came),
        cmocka_unit_test(test_many_jobs_and_what_is_gone),
        cmocka_unit_test(test_there_is_a_limit),
        cmocka_unit_test(test_what_is_vital),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
