// What the commands about jobs consist of, as far as it needs no cluster: job_source.h, job_view.h,
// listing.h, result_sink.h, job_report.h.  session.h, job_follow.h and job_wait.h are tested with real
// processes in tests/integration.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/job_report.h"
#include "client/cli/job_source.h"
#include "client/cli/job_view.h"
#include "client/cli/listing.h"
#include "client/cli/result_sink.h"
#include "proto/partition.h"

// ---- listings ------------------------------------------------------------------------------------

static const struct listing_column COLUMNS[] = {
    {"n", "number", true, false},
    {"name", "name", false, true},
    {"tags", "tags", false, true},
    {NULL, "on", false, false},
};

static struct listing *sample(void)
{
    struct listing *listing = listing_create(COLUMNS, 4);

    assert_non_null(listing);
    listing_number(listing, 7, NULL);
    listing_text(listing, "a \"quoted\"\nname that is long");
    listing_texts(listing, (char *[]){(char[]){"x"}, (char[]){"ä"}}, 2);
    listing_bool(listing, true, "yes");
    listing_number(listing, 12345678, "12M");
    listing_text(listing, NULL);
    listing_texts(listing, NULL, 0);
    listing_bool(listing, false, "");
    return listing;
}

static void expect_listing(const struct listing *listing, enum listing_format format, size_t width,
                           const char *expected)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_int_equal(listing_print(listing, format, width, out, NULL), 0);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void test_listing(void **state)
{
    struct listing *listing = sample(), *empty = listing_create(COLUMNS, 4);
    enum listing_format format;
    struct error err = {0};

    (void)state;
    expect_listing(listing, LISTING_TABLE, 0,
                   "  n  name                          tags\n"
                   "  7  a \"quoted\" name that is long  x,ä\n"
                   "12M                                \n");
    // The widest text gives way; what is narrow stays.
    expect_listing(listing, LISTING_TABLE, 25,
                   "  n  name            tags\n"
                   "  7  a \"quoted\" ...  x,ä\n"
                   "12M                  \n");
    expect_listing(
        listing, LISTING_JSON, 25,
        "[\n {\"number\": 7, \"name\": \"a \\\"quoted\\\"\\u000aname that is long\", \"tags\": [\"x\", "
        "\"ä\"], \"on\": true},\n"
        " {\"number\": 12345678, \"name\": null, \"tags\": [], \"on\": false}\n]");
    expect_listing(empty, LISTING_JSON, 0, "[]");
    expect_listing(empty, LISTING_TABLE, 0, "n  name  tags\n");
    assert_int_equal(listing_format_parse("json", &format, &err), 0);
    assert_int_equal(listing_format_parse("yaml", &format, &err), -EINVAL);
    assert_non_null(strstr(err.text, "table, json"));
    listing_destroy(listing);
    listing_destroy(empty);
}

static void test_amounts(void **state)
{
    static const struct {
        uint64_t us;
        const char *text;
    } ages[] = {{0, "0.0s"},          {9900000, "9.9s"},     {59000000, "59s"},
                {200000000, "3m20s"}, {3660000000, "1h01m"}, {90000000000, "1d01h"}};
    char out[24];

    (void)state;
    for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
        listing_age(ages[i].us, out);
        assert_string_equal(out, ages[i].text);
    }
    listing_size(0, out);
    assert_string_equal(out, "0B");
    listing_size(1536, out);
    assert_string_equal(out, "1.5K");
    listing_size((uint64_t)300 << 20, out);
    assert_string_equal(out, "300M");
}

// ---- files ---------------------------------------------------------------------------------------

struct folder {
    char path[64];
    struct arena arena;
};

static void folder_open(struct folder *folder)
{
    snprintf(folder->path, sizeof(folder->path), "/tmp/dray-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    arena_init(&folder->arena, 0);
}

static void folder_write(const struct folder *folder, const char *name, const char *text, size_t size)
{
    char path[128];
    FILE *out;

    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    out = fopen(path, "we");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    fclose(out);
}

static void folder_expect(const struct folder *folder, const char *name, const char *text)
{
    char path[128], found[256];
    FILE *in;
    size_t size;

    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    in = fopen(path, "re");
    if (in == NULL) {
        fail_msg("%s is not there", path);
        return;
    }
    size = fread(found, 1, sizeof(found) - 1, in);
    found[size] = '\0';
    fclose(in);
    assert_string_equal(found, text);
    unlink(path);
}

static void folder_close(struct folder *folder)
{
    assert_int_equal(rmdir(folder->path), 0); // and nothing else was left there
    arena_fini(&folder->arena);
}

static void test_source(void **state)
{
    struct job_file_host host;
    struct job_source source;
    struct folder folder;
    struct error err = {0};
    struct lines lines;
    char path[128], *large = malloc(300000);

    (void)state;
    folder_open(&folder);
    memset(large, 'x', 300000);
    folder_write(&folder, "large", large, 300000);
    folder_write(&folder, "lines", "one\r\n\ntwo words\nlast", 20);
    folder_write(&folder, "zero", "a\0b", 3);
    snprintf(path, sizeof(path), "%s/large", folder.path);
    assert_int_equal(job_source_read(path, &folder.arena, &source, &err), 0);
    assert_int_equal(source.size, 300000);
    assert_int_equal(source.text[300000], 0);
    assert_string_equal(source.name, path);
    assert_int_equal(job_source_read("/nonexistent/job.yaml", &folder.arena, &source, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/job.yaml"));

    assert_int_equal(job_source_host(&folder.arena, &host, &err), 0);
    assert_int_equal(host.directory[0], '/');
    snprintf(path, sizeof(path), "%s/lines", folder.path);
    assert_int_equal(host.lines(NULL, path, &folder.arena, &lines, &err), 0);
    assert_int_equal(lines.count, 4);
    assert_string_equal(lines.line[0], "one");
    assert_string_equal(lines.line[1], "");
    assert_string_equal(lines.line[2], "two words");
    assert_string_equal(lines.line[3], "last");
    snprintf(path, sizeof(path), "%s/zero", folder.path);
    assert_int_equal(host.lines(NULL, path, &folder.arena, &lines, &err), -EINVAL);
    snprintf(path, sizeof(path), "%s/[lz]*", folder.path);
    assert_int_equal(host.glob(NULL, path, &folder.arena, &lines, &err), 0);
    assert_int_equal(lines.count, 3);
    assert_non_null(strstr(lines.line[0], "/large"));
    assert_int_equal(host.glob(NULL, "/nonexistent/*", &folder.arena, &lines, &err), -ENOENT);

    folder_expect(&folder, "lines", "one\r\n\ntwo words\nlast");
    folder_expect(&folder, "zero", "a");
    snprintf(path, sizeof(path), "%s/large", folder.path);
    unlink(path);
    free(large);
    folder_close(&folder);
}

// ---- names of tasks ---------------------------------------------------------------------------------

static const char JOB[] = "tasks:\n"
                          "  one: {count: }\n"
                          "  many: {array: 10..20..2, count: }\n"
                          "  list: {array: '7,3,5', count: , inputs: {task: many, elements: all}}\n"
                          "  last.part: {count: , array: [0]}\n";

static void read_job(struct arena *arena, struct job_file *job)
{
    struct job_file_host host = {.directory = "/"};
    struct error err = {0};
    int rc = job_file_read("t.yaml", JOB, strlen(JOB), document_format_of("t.yaml", JOB, strlen(JOB)), &host,
                           arena, job, &err);

    if (rc != 0) {
        fail_msg("%s", err.text);
    }
}

// As the broker would say it.
static void attach_view(struct arena *arena, const struct job_file *job, struct job_view *view)
{
    Dray__Attached attached = DRAY__ATTACHED__INIT;
    Dray__AttachedLayer layer[8];
    Dray__AttachedLayer *pointer[8];
    struct dray_bytes note;

    assert_int_equal(job_view_note(job, arena, &note, NULL), 0);
    attached.has_job = true;
    attached.job = 5;
    attached.n_layer = job->tasks;
    attached.layer = pointer;
    for (uint32_t i = 0; i < job->tasks; i++) {
        dray__attached_layer__init(&layer[i]);
        layer[i].tasks = job->graph->layer[i]->tasks;
        layer[i].name = job->graph->layer[i]->name;
        layer[i].has_wanted = true;
        layer[i].wanted = job->task[i].wanted;
        pointer[i] = &layer[i];
    }
    attached.has_note = note.data != NULL;
    attached.note.data = (uint8_t *)(uintptr_t)note.data;
    attached.note.len = note.size;
    assert_int_equal(job_view_from_attached(&attached, arena, view, NULL), 0);
}

static void expect_label(const struct job_view *view, uint32_t layer, uint32_t index, const char *expected)
{
    char label[JOB_LABEL_MAX];

    job_view_label(view, layer, index, label);
    assert_string_equal(label, expected);
}

static void check_names(const struct job_view *view, struct arena *arena)
{
    struct job_ranges ranges = {0};
    struct error err = {0};

    expect_label(view, 0, 0, "one");
    expect_label(view, 1, 0, "many.10");
    expect_label(view, 1, 5, "many.20");
    expect_label(view, 2, 1, "list.3");
    expect_label(view, 3, 0, "last.part.0");
    expect_label(view, 99, 7, "99");
    assert_int_equal(job_view_select(view, "many", arena, &ranges, &err), 0);
    assert_int_equal(ranges.count, 1);
    assert_int_equal(ranges.range[0].count, 6);
    assert_int_equal(job_view_select(view, "many.14..18..2", arena, &ranges, &err), 0);
    assert_int_equal(ranges.count, 2);
    assert_int_equal(ranges.range[1].first, 2);
    assert_int_equal(ranges.range[1].count, 3);
    assert_int_equal(job_view_select(view, "list.5,7", arena, &ranges, &err), 0);
    assert_int_equal(ranges.count, 4);
    assert_int_equal(ranges.range[2].first, 2);
    assert_int_equal(ranges.range[3].first, 0);
    assert_int_equal(job_view_select(view, "last.part", arena, &ranges, &err), 0);
    assert_int_equal(job_view_select(view, "last.part.0", arena, &ranges, &err), 0);
    assert_int_equal(job_view_select(view, "one", arena, &ranges, &err), 0);
    assert_int_equal(job_view_select(view, "many.11", arena, &ranges, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no element 11"));
    assert_int_equal(job_view_select(view, "manny", arena, &ranges, &err), -ENOENT);
    assert_non_null(strstr(err.text, "did you mean 'many'?"));
    assert_int_equal(job_view_select(view, "many.x", arena, &ranges, &err), -EINVAL);
    assert_int_equal(job_view_select(view, "", arena, &ranges, &err), -ENOENT);
    assert_int_equal(job_view_select(view, ".", arena, &ranges, &err), -ENOENT);
    assert_int_equal(job_view_select(view, "0", arena, &ranges, &err), -ENOENT);
}

static void test_view(void **state)
{
    struct job_view own, attached;
    struct job_file job;
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    read_job(&arena, &job);
    assert_int_equal(job_view_from_file(&job, 5, &arena, &own, NULL), 0);
    check_names(&own, &arena);
    attach_view(&arena, &job, &attached);
    check_names(&attached, &arena);
    assert_false(attached.layer[1].wanted);
    assert_string_equal(job_view_reason(&own, 1, 2, "many, task 2 on worker w: x"), "on worker w: x");
    assert_null(job_view_reason(&own, 1, 3, "many, task 2 on worker w: x"));
    assert_null(job_view_reason(&own, 9, 2, "many, task 2 on worker w: x"));
    assert_null(job_view_reason(&own, 1, 2, "cancelled"));
    // By the name that its file has for it, also where the attempts before are told.
    assert_string_equal(
        job_view_text(&own, "many, task 2 on worker w: x\n    attempt 1: many, task 2 on worker v: y",
                      &arena),
        "many.14 on worker w: x\n    attempt 1: many.14 on worker v: y");
    assert_string_equal(job_view_text(&own, "on worker w: x", &arena), "on worker w: x");
    arena_fini(&arena);
}

// Jobs of other programs have layers without names, and notes of their own.
static void test_view_of_others(void **state)
{
    static uint8_t junk[] = {0xff, 0xff, 0xff, 0xff, 7};
    Dray__AttachedLayer layer = DRAY__ATTACHED_LAYER__INIT, *pointer = &layer;
    Dray__Attached attached = DRAY__ATTACHED__INIT;
    struct job_ranges ranges = {0};
    struct job_view view;
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    layer.tasks = 3;
    attached.job = 9;
    attached.n_layer = 1;
    attached.layer = &pointer;
    attached.has_note = true;
    attached.note.data = junk;
    attached.note.len = sizeof(junk);
    assert_int_equal(job_view_from_attached(&attached, &arena, &view, NULL), 0);
    expect_label(&view, 0, 2, "0.2");
    assert_int_equal(job_view_select(&view, "0.1..2", &arena, &ranges, NULL), 0);
    assert_int_equal(ranges.range[0].first, 1);
    assert_int_equal(ranges.range[0].count, 2);
    assert_int_equal(job_view_select(&view, "1", &arena, &ranges, NULL), -ENOENT);
    arena_fini(&arena);
}

// ---- results ----------------------------------------------------------------------------------------

static struct buffer *encoded(const char *text)
{
    struct partition *partition = NULL;
    struct buffer *bytes, *out = NULL;
    uint8_t *data;

    bytes = buffer_create(strlen(text), &data);
    assert_non_null(bytes);
    memcpy(data, text, strlen(text));
    partition = partition_from_bytes(bytes);
    assert_non_null(partition);
    assert_int_equal(partition_encode(partition, &out, NULL), 0);
    partition_unref(partition);
    return out;
}

static void put(struct result_sink *sink, uint32_t layer, uint32_t index, const char *text)
{
    struct buffer *bytes = encoded(text);
    struct error err = {0};

    if (result_sink_put(sink, layer, index, bytes, &err) != 0) {
        fail_msg("%s", err.text);
    }
    buffer_unref(bytes);
}

static const struct client_range ALL[] = {{.layer = 0, .first = 0, .count = 1},
                                          {.layer = 1, .first = 1, .count = 3}};

struct sink_test {
    struct folder folder;
    struct job_file job;
    struct job_view view;
    struct job_ranges ranges;
    char path[128];
};

static void sink_test_open(struct sink_test *test)
{
    folder_open(&test->folder);
    read_job(&test->folder.arena, &test->job);
    assert_int_equal(job_view_from_file(&test->job, 1, &test->folder.arena, &test->view, NULL), 0);
    test->ranges = (struct job_ranges){.range = (struct client_range *)(uintptr_t)ALL, .count = 2};
    snprintf(test->path, sizeof(test->path), "%s/out", test->folder.path);
}

// In order of layers, whichever comes first; what was not asked for is dropped.
static void test_sink_file(void **state)
{
    struct result_sink *sink = NULL;
    struct sink_test test;
    struct result_sink_options options = {.output = test.path};

    (void)state;
    sink_test_open(&test);
    assert_int_equal(result_sink_create(&options, &test.view, &test.ranges, &sink, NULL), 0);
    assert_int_equal(result_sink_left(sink), 4);
    put(sink, 1, 0, "not asked for\n");
    put(sink, 1, 1, "many 12\n");
    assert_true(result_sink_selected(sink, 0, 0));
    assert_false(result_sink_selected(sink, 3, 0));
    put(sink, 0, 0, "one\n");
    assert_int_equal(result_sink_missing(sink, 1, 2, NULL), 0);
    put(sink, 1, 3, "many 16\n");
    put(sink, 1, 3, "twice\n");
    assert_int_equal(result_sink_left(sink), 0);
    assert_int_not_equal(access(test.path, F_OK), 0); // not before it is complete
    assert_int_equal(result_sink_finish(sink, NULL), 0);
    result_sink_destroy(sink);
    folder_expect(&test.folder, "out", "one\nmany 12\nmany 16\n");
    folder_close(&test.folder);
}

static void test_sink_abandoned(void **state)
{
    struct result_sink *sink = NULL;
    struct sink_test test;
    struct result_sink_options options = {.output = test.path};

    (void)state;
    sink_test_open(&test);
    assert_int_equal(result_sink_create(&options, &test.view, &test.ranges, &sink, NULL), 0);
    put(sink, 0, 0, "one\n");
    put(sink, 1, 1, "many 12\n");
    result_sink_destroy(sink);
    folder_close(&test.folder); // is empty
}

static void test_sink_directory(void **state)
{
    struct result_sink *sink = NULL;
    struct sink_test test;
    struct result_sink_options options = {.directory = test.path};
    struct error err = {0};
    struct folder inner;

    (void)state;
    sink_test_open(&test);
    assert_int_equal(result_sink_create(&options, &test.view, &test.ranges, &sink, NULL), 0);
    put(sink, 1, 2, "b");
    put(sink, 1, 1, "a");
    put(sink, 0, 0, "");
    assert_int_equal(result_sink_finish(sink, NULL), 0);
    result_sink_destroy(sink);
    memcpy(inner.path, test.path, sizeof(inner.path));
    folder_expect(&inner, "many.14", "b");
    folder_expect(&inner, "many.12", "a");
    folder_expect(&inner, "one", "");
    assert_int_equal(rmdir(test.path), 0);
    options.directory = "/nonexistent/folder";
    assert_int_equal(result_sink_create(&options, &test.view, &test.ranges, &sink, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/folder"));
    folder_close(&test.folder);
}

// What a worker sends is checked.
static void test_sink_broken(void **state)
{
    struct result_sink *sink = NULL;
    uint8_t *data;
    struct buffer *bytes = buffer_create(5, &data);
    struct sink_test test;
    struct result_sink_options options = {.output = test.path};
    struct error err = {0};

    (void)state;
    sink_test_open(&test);
    memset(data, 0xee, 5);
    assert_int_equal(result_sink_create(&options, &test.view, &test.ranges, &sink, NULL), 0);
    assert_true(result_sink_put(sink, 0, 0, bytes, &err) < 0);
    assert_non_null(strstr(err.text, "one: "));
    buffer_unref(bytes);
    result_sink_destroy(sink);
    folder_close(&test.folder);
}

// ---- reports -----------------------------------------------------------------------------------------

static void test_report(void **state)
{
    uint32_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    Dray__LayerInfo layer = DRAY__LAYER_INFO__INIT, *layers = &layer;
    Dray__TaskFailure failure = DRAY__TASK_FAILURE__INIT, *failures = &failure;
    Dray__Failure why = DRAY__FAILURE__INIT;
    Dray__JobInfo info = DRAY__JOB_INFO__INIT, *infos = &info;
    Dray__Jobs jobs = DRAY__JOBS__INIT;
    struct job_view_layer shown = {
        .name = (char[]){"lay"}, .tasks = 36, .is_array = true, .indices = {36, 0, 1, NULL, NULL}};
    const struct job_view view = {.job = 4, .layer = &shown, .layers = 1};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    layer.name = shown.name == NULL ? NULL : (char[]){"lay"};
    layer.tasks = 36;
    layer.in_state = in;
    layer.n_in_state = 8;
    why.code = 5;
    why.text = (char[]){"lay, task 3 on worker w1: it broke\nbadly"};
    failure.index = 3;
    failure.why = &why;
    failure.worker = (char[]){"w1"};
    info.job = 4;
    info.state = DRAY__JOB_STATE__RUNNING;
    info.tasks = 36;
    info.done = 11;
    info.has_failed = true;
    info.failed = 7;
    info.age_us = 1500000;
    info.waiting = (char[]){"no worker has gpu"};
    info.n_layer = info.n_failure = 1;
    info.layer = &layers;
    info.failure = &failures;
    jobs.n_job = 1;
    jobs.job = &infos;
    assert_int_equal(job_report_one(&info, &view, LISTING_TABLE, 0, out, NULL), 0);
    assert_int_equal(job_report_all(&jobs, LISTING_TABLE, 40, out, NULL), 0);
    fclose(out);
    assert_string_equal(
        text, "job 4: running\n"
              "  tasks     36: 11 done, 4 at workers, 7 failed\n"
              "  waiting   no worker has gpu\n"
              "  age       1.5s\n"
              "  priority  0\n"
              "  client    none\n"
              "  results   0B\n"
              "\n"
              "task  tasks  waiting  ready  to retry  at workers  done  failed\n"
              "lay      36        3      3         8           4    11       7\n"
              "\n"
              "lay.3 on worker w1: it broke\n"
              "    badly\n"
              "... and 6 more\n"
              "job  name  state    tasks  done  failed  priority   age  results  client  kept as  why\n"
              "  4        running     36    11       7         0  1.5s       0B                   no wo...\n"
              "1 job\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listing),        cmocka_unit_test(test_amounts),
        cmocka_unit_test(test_source),         cmocka_unit_test(test_view),
        cmocka_unit_test(test_view_of_others), cmocka_unit_test(test_sink_file),
        cmocka_unit_test(test_sink_abandoned), cmocka_unit_test(test_sink_directory),
        cmocka_unit_test(test_sink_broken),    cmocka_unit_test(test_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
