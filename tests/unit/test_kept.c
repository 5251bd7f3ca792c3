// Names under which jobs are kept.
#include "broker/kept.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_names_and_jobs(void **state)
{
    struct kept kept;
    struct error err = {0};
    unsigned names = 0;

    (void)state;
    kept_init(&kept);
    assert_int_equal(kept_find(&kept, "sales"), 0);
    assert_int_equal(kept_add(&kept, "sales", 7, &err), 1);
    assert_int_equal(kept_add(&kept, "sales", 7, &err), 0);
    assert_int_equal(kept_add(&kept, "sales", 8, &err), -EEXIST);
    assert_non_null(strstr(err.text, "job 7 is kept as \"sales\""));
    assert_int_equal(kept_add(&kept, "sales of may", 7, &err), 1);
    assert_int_equal(kept_find(&kept, "sales"), 7);
    for (const struct kept_name *at = kept_first(&kept, 7); at != NULL; at = kept_next(at)) {
        assert_int_equal(strncmp(at->name, "sales", 5), 0);
        names++;
    }
    assert_int_equal(names, 2);
    assert_null(kept_first(&kept, 8));
    assert_int_equal(kept_remove(&kept, "sales"), 7);
    assert_int_equal(kept_remove(&kept, "sales"), 0);
    assert_int_equal(kept_serial(&kept, "sales"), 0);
    assert_int_equal(kept_add(&kept, "sales", 8, &err), 1);
    assert_int_equal(kept_serial(&kept, "sales"), 3); // not that of before
    kept_forget_job(&kept, 7);
    kept_forget_job(&kept, 7);
    assert_int_equal(kept_find(&kept, "sales of may"), 0);
    assert_int_equal(kept_find(&kept, "sales"), 8);
    kept_fini(&kept);
}

static void test_what_is_no_name(void **state)
{
    struct kept kept;
    char longer[KEPT_NAME_MAX + 2];

    (void)state;
    memset(longer, 'x', sizeof(longer));
    longer[KEPT_NAME_MAX + 1] = '\0';
    kept_init(&kept);
    assert_int_equal(kept_add(&kept, "", 1, NULL), -EINVAL);
    assert_int_equal(kept_add(&kept, "a\nb", 1, NULL), -EINVAL);
    assert_int_equal(kept_add(&kept, longer, 1, NULL), -EINVAL);
    longer[KEPT_NAME_MAX] = '\0';
    assert_int_equal(kept_add(&kept, longer, 1, NULL), 1);
    kept_fini(&kept);
}

static void test_as_many_as_it_takes(void **state)
{
    struct kept kept;
    char name[32];

    (void)state;
    kept_init(&kept);
    for (uint32_t i = 0; i < KEPT_MAX; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(kept_add(&kept, name, 1 + i / 100, NULL), 1);
    }
    assert_int_equal(kept_add(&kept, "one more", 1, NULL), -ENOSPC);
    for (uint32_t job = 1; job <= KEPT_MAX / 100; job += 2) {
        kept_forget_job(&kept, job);
    }
    for (uint32_t i = 0; i < KEPT_MAX; i++) {
        uint32_t job = 1 + i / 100;

        snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(kept_find(&kept, name), job % 2 == 0 ? job : 0);
    }
    assert_int_equal(kept_add(&kept, "one more", 1, NULL), 1);
    kept_fini(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_jobs),
        cmocka_unit_test(test_what_is_no_name),
        cmocka_unit_test(test_as_many_as_it_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
