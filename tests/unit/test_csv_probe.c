// Probes: which files a pattern means, names, where the data starts, types; compressed input; what is wrong in words.
#include "tests/unit/csv_oracle.h"

#include <fcntl.h>
#include <ftw.h>
#include <isa-l/igzip_lib.h>
#include <sys/stat.h>
#include <zstd.h>

static char directory[64];

static char *path_of(const char *name)
{
    static char path[8][160];
    static int next;

    next = (next + 1) % 8;
    snprintf(path[next], sizeof(path[next]), "%s/%s", directory, name);
    return path[next];
}

static void put(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void put_string(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

struct probe {
    struct arena arena;
    struct budget *budget;
    Dray__CsvDialect dialect;
    ProtobufCBinaryData missing[3];
    Dray__ProbeCsv op;
    const char *const *data_dir;
    Dray__CsvProbeResult *result;
    struct error err;
};

static void probe_init(struct probe *p)
{
    memset(p, 0, sizeof(*p));
    arena_init(&p->arena, 0);
    p->budget = budget_create(0);
    dray__csv_dialect__init(&p->dialect);
    p->dialect.sep = ',';
    p->dialect.has_quote = true;
    p->dialect.quote = '"';
    p->missing[0] = (ProtobufCBinaryData){0, (uint8_t *)""};
    p->missing[1] = (ProtobufCBinaryData){2, (uint8_t *)"NA"};
    p->dialect.na_value = p->missing;
    p->dialect.n_na_value = 2;
    dray__probe_csv__init(&p->op);
    p->op.dialect = &p->dialect;
}

static int probe_run(struct probe *p, const char *name)
{
    Dray__Step step = DRAY__STEP__INIT;
    struct kernel_env env = {.budget = p->budget, .arena = &p->arena, .data_dir = p->data_dir};
    struct partition *out = NULL;

    p->op.pattern = (char *)name;
    p->op.path = path_of(name);
    p->op.has_glob = p->op.glob = strpbrk(name, "*?[") != NULL;
    step.probe_csv = &p->op;
    int rc = csv_probe_maker.make(&step, 0, NULL, &env, &p->arena, &out, &p->err);

    if (rc == 0) {
        assert_int_equal(out->kind, PARTITION_BYTES);
        p->result = dray__csv_probe_result__unpack(&p->arena.protobuf, out->bytes->size, out->bytes->data);
        assert_non_null(p->result);
        partition_unref(out);
    }
    assert_int_equal(budget_used(p->budget), 0);
    return rc;
}

static void probe_fini(struct probe *p)
{
    arena_fini(&p->arena);
    budget_destroy(p->budget);
}

// names joined by '|', types by their first letters.
static void expect(const struct probe *p, size_t file, const char *names, const char *types, uint64_t data_start)
{
    const Dray__CsvProbeFile *f = p->result->file[file];
    struct text got = {0};
    struct text got_types = {0};

    for (size_t i = 0; i < f->n_column; i++) {
        text_string(&got, i > 0 ? "|" : "");
        text_string(&got, f->column[i]);
        text_add(&got_types, type_name((enum type)f->type[i]), 1);
    }
    assert_string_equal(field_text(&got), names);
    assert_string_equal(field_text(&got_types), types);
    assert_int_equal(f->data_start, data_start);
    free(got.data);
    free(got_types.data);
}

static void check(const char *text, const char *names, const char *types, uint64_t data_start)
{
    struct probe p;

    probe_init(&p);
    put_string("one.csv", text);
    if (probe_run(&p, "one.csv") < 0) {
        fail_msg("%s", p.err.text);
    }
    assert_int_equal(p.result->n_file, 1);
    expect(&p, 0, names, types, data_start);
    assert_string_equal(p.result->file[0]->name, "one.csv");
    assert_int_equal(p.result->file[0]->size, strlen(text));
    probe_fini(&p);
}

static void test_headers(void **state)
{
    (void)state;
    check("a,b,c\n1,2.5,x\n", "a|b|c", "ifs", 6);
    check("\xef\xbb\xbf" "a,b\r\nTrue,1\r\n", "a|b", "bi", 8);
    check("\n\n  \na,b\r1,2\r", "a|b", "ii", 9);
    check("a,a,,a,a.1\n1,1,1,1,1\n", "a|a.2|Unnamed: 2|a.3|a.1", "iiiii", 11);
    check("\"a \"\"b\"\"\nc\",d\n,NA\n", "a \"b\"\nc|d", "ff", 14);
    check("only", "only", "f", 4);
    check("a,b\n1,NA\n2,3\n", "a|b", "if", 4);
    check("a,b\nTrue,1\n3,False\n", "a|b", "ss", 4);
    check("a\n99999999999999999999\n", "a", "f", 2);
    check("a\n1\n\"x\ny\"\n", "a", "s", 2);
}

static void test_dialects(void **state)
{
    struct probe p;

    (void)state;
    probe_init(&p);
    p.dialect.sep = ';';
    p.dialect.has_comment = true;
    p.dialect.comment = '#';
    p.dialect.skip_lines = 2;
    put_string("d.csv", "junk,\"\nmore junk\n# no, not this\na;b # names\n1;2# two\n");
    assert_int_equal(probe_run(&p, "d.csv"), 0);
    expect(&p, 0, "a|b ", "ii", 44);
    probe_fini(&p);

    probe_init(&p);
    p.dialect.has_header = true;
    p.dialect.header = false;
    put_string("d.csv", "\n1,x\n");
    assert_int_equal(probe_run(&p, "d.csv"), 0);
    expect(&p, 0, "|", "is", 0);
    probe_fini(&p);
}

static void test_patterns(void **state)
{
    struct probe p;
    const char *dirs[] = {directory, NULL};
    const char *elsewhere[] = {"/usr/share", NULL};

    (void)state;
    put_string("p2.csv", "a\n1\n");
    put_string("p10.csv", "a\nx\n");
    put_string("p1.csv", "b\n1.5\n");
    probe_init(&p);
    assert_int_equal(probe_run(&p, "p*.csv"), 0);
    assert_int_equal(p.result->n_file, 3);
    assert_string_equal(p.result->file[0]->name, "p1.csv");
    assert_string_equal(p.result->file[1]->name, "p10.csv");
    assert_string_equal(p.result->file[2]->name, "p2.csv");
    assert_string_equal(p.result->file[2]->path, path_of("p2.csv"));
    assert_int_equal(probe_run(&p, "q*.csv"), -ENOENT);
    assert_non_null(strstr(p.err.text, "q*.csv: no file matches"));
    p.data_dir = dirs;
    assert_int_equal(probe_run(&p, "p2.csv"), 0);
    p.data_dir = elsewhere;
    assert_int_equal(probe_run(&p, "p2.csv"), -ENOENT);
    assert_non_null(strstr(p.err.text, "data directories"));
    assert_int_equal(probe_run(&p, "../../etc/passwd"), -ENOENT);
    probe_fini(&p);
}

static void test_what_is_wrong(void **state)
{
    struct probe p;

    (void)state;
    probe_init(&p);
    assert_int_equal(probe_run(&p, "nowhere.csv"), -ENOENT);
    assert_string_equal(p.err.text, "nowhere.csv: no such file");
    put_string("empty.csv", "");
    assert_int_equal(probe_run(&p, "empty.csv"), -ENODATA);
    assert_non_null(strstr(p.err.text, "no columns to parse"));
    put_string("blank.csv", "\n  \n\r\n");
    assert_int_equal(probe_run(&p, "blank.csv"), -ENODATA);
    put_string("open.csv", "a,\"b\n1,2\n");
    assert_int_equal(probe_run(&p, "open.csv"), -EBADMSG);
    assert_int_equal(mkdir(path_of("folder"), 0755), 0);
    assert_int_equal(probe_run(&p, "folder"), -EISDIR);
    assert_non_null(strstr(p.err.text, "is a directory"));
    rmdir(path_of("folder"));
    if (geteuid() != 0) {
        put_string("secret.csv", "a\n1\n");
        chmod(path_of("secret.csv"), 0);
        assert_int_equal(probe_run(&p, "secret.csv"), -EACCES);
        assert_non_null(strstr(p.err.text, "no permission"));
    }
    probe_fini(&p);
}

// A type that shows far below the head is found by the samples, also in a file whose lines have breaks in quotes.
static void test_samples(void **state)
{
    (void)state;
    for (int quoted = 0; quoted < 2; quoted++) {
        struct probe p;
        struct text t = {0};
        char line[100];

        text_string(&t, "a,b\n");
        for (int i = 0; i < 60000; i++) {
            snprintf(line, sizeof(line), "%d%s,%s\n", i, i > 50000 ? ".5" : "", quoted != 0 ? "\"x\ny,\"\"z\"\"\"" : "x");
            text_string(&t, line);
        }
        put("deep.csv", t.data, t.size);
        probe_init(&p);
        assert_int_equal(probe_run(&p, "deep.csv"), 0);
        expect(&p, 0, "a|b", "fs", 4);
        probe_fini(&p);
        free(t.data);
    }
}

// ---- compressed files --------------------------------------------------------------

static void gzip(struct text *out, const char *data, size_t size)
{
    struct isal_zstream z;
    size_t room = size + size / 4 + 1000;
    uint8_t *buffer = malloc(room);

    assert_non_null(buffer);
    isal_deflate_init(&z);
    z.gzip_flag = IGZIP_GZIP;
    z.end_of_stream = 1;
    z.next_in = (uint8_t *)(uintptr_t)data;
    z.avail_in = (uint32_t)size;
    z.next_out = buffer;
    z.avail_out = (uint32_t)room;
    assert_int_equal(isal_deflate(&z), COMP_OK);
    text_add(out, (const char *)buffer, z.total_out);
    free(buffer);
}

static void zstandard(struct text *out, const char *data, size_t size)
{
    size_t room = ZSTD_compressBound(size);
    char *buffer = malloc(room);

    assert_non_null(buffer);
    size_t n = ZSTD_compress(buffer, room, data, size, 3);

    assert_false(ZSTD_isError(n));
    text_add(out, buffer, n);
    free(buffer);
}

static int scan_whole(struct probe *p, struct text *rows, struct error *err)
{
    struct driver d = {.budget = p->budget};
    const Dray__CsvProbeFile *f = p->result->file[0];
    Dray__ScanCsv scan = DRAY__SCAN_CSV__INIT;
    Dray__CsvFile file = DRAY__CSV_FILE__INIT;
    Dray__CsvFile *files[1] = {&file};
    Dray__CsvColumn column[4];
    Dray__CsvColumn *columns[4];
    uint32_t field[4] = {0, 1, 2, 3};

    arena_init(&d.arena, 0);
    file.path = f->path;
    file.name = f->name;
    file.size = f->size;
    file.mtime_ns = f->mtime_ns;
    file.codec = f->codec;
    file.data_start = f->data_start;
    file.fields = (uint32_t)f->n_column;
    file.blocks = 1;
    file.field = field;
    file.n_field = f->n_column;
    for (size_t i = 0; i < f->n_column; i++) {
        dray__csv_column__init(&column[i]);
        column[i].name = f->column[i];
        column[i].type = f->type[i];
        columns[i] = &column[i];
    }
    scan.dialect = &p->dialect;
    scan.block_size = 1 << 20;
    scan.n_file = 1;
    scan.file = files;
    scan.n_column = f->n_column;
    scan.column = columns;
    d.scan = &scan;
    int rc = driver_run(&d, rows);

    *err = d.err;
    arena_fini(&d.arena);
    assert_int_equal(budget_used(p->budget), 0);
    return rc;
}

static void make_table(struct text *t, struct text *expected)
{
    text_string(t, "a,b\n");
    for (int i = 0; i < 90000; i++) {
        char line[60];

        snprintf(line, sizeof(line), "%d,%s\n", i, i % 3 == 0 ? "x" : "\"y,\n\"");
        text_string(t, line);
        snprintf(line, sizeof(line), "%d\x1f'%s\x1f\n", i, i % 3 == 0 ? "x" : "y,\n");
        text_string(expected, line);
    }
}

static void test_compressed(void **state)
{
    struct text t = {0};
    struct text expected = {0};

    (void)state;
    make_table(&t, &expected);
    for (int codec = 0; codec < 2; codec++) {
        // Two members, then what is wrong with the second one.
        for (int damage = 0; damage < 4; damage++) {
            void (*compress)(struct text *, const char *, size_t) = codec == 0 ? gzip : zstandard;
            struct text packed = {0};
            struct text rows = {0};
            struct error err;
            struct probe p;

            compress(&packed, t.data, t.size / 2);
            compress(&packed, t.data + t.size / 2, t.size - t.size / 2);
            if (damage == 1) {
                text_string(&packed, "rubbish behind it");
            } else if (damage == 2) {
                packed.size -= packed.size / 8;
            } else if (damage == 3) {
                packed.data[packed.size - packed.size / 8] ^= 0x55;
                packed.data[packed.size - 6] ^= 0x55;
            }
            put("packed", packed.data, packed.size);
            probe_init(&p);
            int rc = probe_run(&p, "packed");

            if (rc < 0) {
                // The head reaches into the second member.
                assert_true(damage > 0 && rc == -EBADMSG);
                free(packed.data);
                probe_fini(&p);
                continue;
            }
            expect(&p, 0, "a|b", "is", 4);
            assert_int_equal(p.result->file[0]->codec, codec == 0 ? DRAY__CODEC__GZIP : DRAY__CODEC__ZSTD);
            rc = scan_whole(&p, &rows, &err);

            if (damage == 0) {
                assert_int_equal(rc, 0);
                assert_int_equal(rows.size, expected.size);
                assert_memory_equal(rows.data, expected.data, rows.size);
                free(rows.data);
            } else if (codec == 0 || damage < 3) {
                // (ZSTD_compress writes no checksum.)
                assert_int_equal(rc, -EBADMSG);
                // Text that came out wrong may be found out before the checksum is.
                assert_true(damage == 3 || strstr(err.text, codec == 0 ? "gzip" : "zstd") != NULL);
            } else if (rc == 0) {
                free(rows.data);
            }
            free(packed.data);
            probe_fini(&p);
        }
    }
    free(t.data);
    free(expected.data);
}

static void test_changed_file(void **state)
{
    const struct timespec later[2] = {{.tv_sec = 2000000000}, {.tv_sec = 2000000000}};
    struct text rows = {0};
    struct error err;
    struct probe p;

    (void)state;
    probe_init(&p);
    put_string("c.csv", "a\n1\n");
    assert_int_equal(probe_run(&p, "c.csv"), 0);
    put_string("c.csv", "a\n1\n2\n");
    assert_int_equal(scan_whole(&p, &rows, &err), -ESTALE);
    assert_non_null(strstr(err.text, "changed since the job began (it had 4 bytes then and has 6 now)"));
    put_string("c.csv", "a\n2\n");
    assert_int_equal(utimensat(AT_FDCWD, path_of("c.csv"), later, 0), 0);
    assert_int_equal(scan_whole(&p, &rows, &err), -ESTALE);
    assert_non_null(strstr(err.text, "changed since the job began (its 4 bytes were written again)"));
    unlink(path_of("c.csv"));
    assert_int_equal(scan_whole(&p, &rows, &err), -ENOENT);
    probe_fini(&p);
}

// One long line needs a larger buffer than a small budget has.
static void test_budget(void **state)
{
    struct text t = {0};
    struct text rows = {0};
    struct error err;
    struct probe p;

    (void)state;
    text_string(&t, "a\nx\n");
    for (int i = 0; i < 3 << 20; i++) {
        text_byte(&t, 'y');
    }
    put("long.csv", t.data, t.size);
    probe_init(&p);
    p.op.has_sample_bytes = true;
    p.op.sample_bytes = 4;
    assert_int_equal(probe_run(&p, "long.csv"), 0);
    assert_int_equal(scan_whole(&p, &rows, &err), 0);
    assert_int_equal(rows.size, 4 + (3 << 20) + 3);
    free(rows.data);
    budget_destroy(p.budget);
    p.budget = budget_create(4 << 20);
    assert_int_equal(scan_whole(&p, &rows, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "long.csv: a line of more than"));
    probe_fini(&p);
    free(t.data);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/dray-test-probe-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),    cmocka_unit_test(test_dialects),     cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_samples),    cmocka_unit_test(test_what_is_wrong), cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_changed_file), cmocka_unit_test(test_budget),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
