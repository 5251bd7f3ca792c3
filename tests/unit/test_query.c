// Scripts on real files with the real kernels in one process: rounds, and the same bits however blocks are
// cut.  Each round goes on from the note that its job would carry (query_note).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/plan/query_note.h"
#include "tests/unit/generate.h"
#include "tests/unit/query_fixture.h"

static char folder[] = "/tmp/dray-test-query-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", folder, name);

    FILE *out = fopen(path, "w");

    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

// The value as CSV, or the error.
static char *run(const char *script, unsigned *rounds)
{
    struct error err = {0};
    struct local local;
    char *text = NULL;
    int rc = local_create(&local, script, folder, &err);

    if (rc == 0) {
        rc = local_run(&local, PRINT_CSV, &text, &err);
    }
    if (rounds != NULL) {
        *rounds = local.rounds;
    }
    if (rc < 0) {
        free(text);
        text = strdup(err.text);
    }
    local_fini(&local);
    return text;
}

static void check(const char *script, const char *expected, unsigned most_rounds)
{
    unsigned rounds;
    char *text = run(script, &rounds);

    assert_string_equal(text, expected);
    assert_true(rounds <= most_rounds);
    free(text);
}

static void test_main_job(void **state)
{
    (void)state;
    write_file("sales.csv", "category,price,quantity\nToys,1.5,2\nBooks,2,1\nToys,2.5,3\n");
    for (int block = 1; block < 70; block++) {
        char script[200];

        snprintf(script, sizeof(script),
                 "read_csv(\"sales.csv\", blocksize=%d).groupby(\"category\")[\"price\"].mean()", block);
        check(script, "category,price\nBooks,2.0\nToys,2.0\n", 1);
    }
}

static void test_type_seen_late(void **state)
{
    char text[8000];
    size_t used = (size_t)snprintf(text, sizeof(text), "k,v\n");

    (void)state;
    for (int i = 0; i < 500; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "a,%d\n", i % 10);
    }
    snprintf(text + used, sizeof(text) - used, "a,0.5\n");
    write_file("late.csv", text);
    // The probe sees all of so small a file; a type that is seen later than that is test_lower's.
    check("read_csv('late.csv', blocksize=50).groupby('k').v.sum()", "k,v\na,2250.5\n", 2);
}

static void test_quoted_line_breaks(void **state)
{
    char expected[64];

    (void)state;
    write_file("quoted.csv", "a,b\n\"x\ny\",1\n\"\n\n,\"\"\",2\nz,3\n\"x\ny\",4\n");
    for (int block = 1; block < 45; block++) {
        char script[200];

        snprintf(script, sizeof(script), "read_csv('quoted.csv', blocksize=%d).groupby('a').b.sum()", block);
        snprintf(expected, sizeof(expected), "a,b\n\"\n\n,\"\"\",2\n\"x\ny\",5\nz,3\n");
        check(script, expected, 3);
        snprintf(script, sizeof(script), "read_csv('quoted.csv', blocksize=%d).b.sum()", block);
        check(script, "10\n", 3);
        snprintf(script, sizeof(script), "len(read_csv('quoted.csv', blocksize=%d))", block);
        check(script, "4\n", 3);
        snprintf(script, sizeof(script), "read_csv('quoted.csv', blocksize=%d).head(2)[['b']]", block);
        check(script, "b\n1\n2\n", 20);
    }
}

static void test_notes_that_cannot_be(void **state)
{
    struct query *query = NULL;
    struct error err = {0};
    uint8_t note[] = {0x12, 4, 'D', 'P', 'A', 'Y'}; // the beginning of a payload

    (void)state;
    assert_int_equal(query_restore(NULL, 0, &query, &err), -ENOMSG);
    assert_int_equal(query_restore("\x0a\x02\x08\x01", 4, &query, &err), -ENOMSG);
    assert_int_equal(query_restore(note, sizeof(note), &query, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "note with its script"));
    assert_null(query);
}

static void test_empty_files(void **state)
{
    (void)state;
    write_file("header.csv", "a,b\n");
    check("len(read_csv('header.csv'))", "0\n", 1);
    check("df = read_csv('header.csv')\ndf[(df.a == 'x') & (df.b > 3)].b.sum()", "0.0\n", 1);
    check("df = read_csv('header.csv')\ndf.groupby('a').b.mean()", "a,b\n", 1);
    check("read_csv('header.csv')", "a,b\n", 1);
}

static void test_known_and_lists(void **state)
{
    (void)state;
    write_file("t.csv", "a,b,c\n1,x,True\n2,,False\n3,y,True\n");
    check("df = read_csv('t.csv')\ndf.shape", "3\n3\n", 1);
    check("df = read_csv('t.csv')\n(df.a.min(), df.a.max(), 'x')", "1\n3\nx\n", 1);
    check("df = read_csv('t.csv')\ndf.count()", ",0\na,3\nb,2\nc,3\n", 1);
    check("df = read_csv('t.csv')\ndf.c.sum()", "2\n", 1);
    check("df = read_csv('t.csv')\ndf[df.c & df.b.notna()].a.sum() * 2", "8\n", 1);
    check("df = read_csv('t.csv')\nlen(df.groupby('b'))", "2\n", 1);
    check("df = read_csv('t.csv')\ndf.a.astype(float).agg(['min', 'max'])", ",a\nmin,1.0\nmax,3.0\n", 1);
    check("read_csv('t.csv', nrows=2, blocksize=3).a.sum()", "3\n", 20);
}

// The same rows whatever the size of a block: sums of whole numbers to the bit.
static void test_blocks_change_nothing(void **state)
{
    static const char *const scripts[] = {
        "df.groupby('k').n.sum()",
        "df[df.n > 3].groupby(['k', 'n']).size()",
        "df.sort_values(['n', 'k']).head(7)",
        "df.nlargest(4, 'n')",
        "df.head(5)",
        "df[df.k == 'b']",
        "df.groupby('k').agg(lo=('n', 'min'), hi=('n', 'max'), f=('n', 'first'), l=('n', 'last'))",
        "df.k.value_counts()",
        "(df.n.max() - df.n.min()) * len(df)",
    };
    uint64_t random = 5;
    char text[4000];
    size_t used = (size_t)snprintf(text, sizeof(text), "k,n\n");

    (void)state;
    for (int i = 0; i < 200; i++) {
        static const char *const keys[] = {"a", "b", "\"c,\nd\"", "\"\"\"q\"\"\"", ""};

        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s,%u\n", keys[random_below(&random, 5)],
                                 random_below(&random, 9));
    }
    write_file("blocks.csv", text);
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        char *whole = NULL;

        for (int n = 0; n < 12; n++) {
            char script[300];

            snprintf(script, sizeof(script), "df = read_csv('blocks.csv', blocksize=%u)\n%s",
                     n == 0 ? 1000000 : 1 + random_below(&random, n < 6 ? 10 : 500), scripts[i]);

            char *now = run(script, NULL);

            if (n == 0) {
                whole = now;
                assert_null(strstr(now, "script:"));
            } else {
                assert_string_equal(now, whole);
                free(now);
            }
        }
        free(whole);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"sales.csv",  "late.csv", "quoted.csv",
                                        "header.csv", "t.csv",    "blocks.csv"};
    char path[200];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_main_job),
        cmocka_unit_test(test_type_seen_late),
        cmocka_unit_test(test_quoted_line_breaks),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_known_and_lists),
        cmocka_unit_test(test_blocks_change_nothing),
        cmocka_unit_test(test_notes_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
