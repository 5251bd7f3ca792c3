// The CSV scanner against the slow reader: random files with all that is found in the wild, all block sizes, all
// instruction sets.  DRAY_TEST_SEED and DRAY_TEST_FILES repeat and lengthen a run.
#include "tests/unit/csv_oracle.h"

static const char *const missing_default[] = {"",     "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN",
                                              "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
                                              "NaN",  "n/a",  "nan",      "null", NULL};
static const char *const missing_odd[] = {"", "-9", "?", "a longer spelling of nothing", NULL};
static const char *const isas[] = {"baseline", "avx2", "avx512"};

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    // xorshift64*: Vigna 2016.
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * UINT64_C(2685821657736338717)) >> 33) % n;
}

static bool chance(uint32_t percent)
{
    return random_below(100) < percent;
}

enum kind { KIND_INT, KIND_REAL, KIND_BOOL, KIND_WORD, KIND_WILD, KIND_MIXED, KINDS };

struct shape {
    struct oracle_dialect dialect;
    uint32_t fields;
    enum kind kind[70];
    uint32_t missing_percent, quote_percent, blank_percent, comment_percent;
    int ends;  // 0: LF, 1: CRLF, 2: CR, 3: any
    bool wide_text;  // longer fields
};

static void make_value(const struct shape *s, enum kind kind, struct text *t)
{
    static const char *const words[] = {"Electronics", "Toys", "Home Goods", "a", "Books and more things to read",
                                        "exactly16bytes!!", "seventeen bytes!!", "na\xc3\xafve", "bad\xff\xfe utf8", "x y"};
    static const char *const odd[] = {"1e5", "-2.5E-3", "inf", "-Infinity", "+7", " 8", "9 ", "007", "1.", ".5", "-.5", ".",
                                      "-", "+", "1e", "e1", "0x10", "1_0", "--1", "9223372036854775807",
                                      "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
                                      "12345678901234567890", "0.1234567890123456789", "123456789.01234567890123",
                                      "1e400", "1e-400", "4.9e-324", "9007199254740993", "9007199254740992.5",
                                      "00000000000000000000001.5", "-0", "-0.0", "0", "1.5.2", "TRUE", "tRue", "nan", "NAN"};
    static const char wild[] = "ab \"\"'#,;\t\r\n\n019.-eNA\xc3\xa9";
    char word[64];

    switch (kind) {
    case KIND_INT:
        snprintf(word, sizeof(word), "%lld",
                 (long long)(((uint64_t)random_below(1U << 31) << 31 | random_below(1U << 31)) >> random_below(62)) *
                     (chance(20) ? -1 : 1));
        text_string(t, word);
        break;
    case KIND_REAL: {
        double x = (double)random_below(1U << 31) / (double)(1 + random_below(1000000)) * (chance(20) ? -1 : 1);

        snprintf(word, sizeof(word), "%.*f", (int)random_below(17), x);
        if (chance(50)) {
            snprintf(word, sizeof(word), "%.*g", (int)(1 + random_below(17)), x);
        }
        text_string(t, word);
        break;
    }
    case KIND_BOOL:
        text_string(t, chance(50) ? "True" : "false");
        break;
    case KIND_WORD:
        text_string(t, words[random_below(10)]);
        break;
    case KIND_WILD:
        for (uint32_t n = random_below(s->wide_text ? 150 : 9); n > 0; n--) {
            text_byte(t, wild[random_below(sizeof(wild) - 1)]);
        }
        break;
    default:
        text_string(t, odd[random_below(sizeof(odd) / sizeof(odd[0]))]);
        break;
    }
}

// A field as a file has it; quoted when it must be, and at times when it need not.
static void add_field(const struct shape *s, const struct text *value, struct text *out)
{
    const struct oracle_dialect *d = &s->dialect;
    bool must = false;

    for (size_t i = 0; i < value->size; i++) {
        char c = value->data[i];

        must |= c == d->sep || c == '\n' || c == '\r' || (c == d->comment && c != '\0') || (i == 0 && c == d->quote);
    }
    if (d->quote == '\0' || (!must && !chance(s->quote_percent))) {
        for (size_t i = 0; i < value->size; i++) {
            char c = value->data[i];

            text_byte(out, c == d->sep || c == '\n' || c == '\r' || (c == d->comment && c != '\0') ? '_' : c);
        }
        return;
    }
    text_byte(out, d->quote);
    for (size_t i = 0; i < value->size; i++) {
        if (value->data[i] == d->quote) {
            text_byte(out, d->quote);
        }
        text_byte(out, value->data[i]);
    }
    text_byte(out, d->quote);
    if (chance(4)) {
        text_string(out, chance(50) ? "tail" : "x\"y\"\"");
    }
}

static void add_end(const struct shape *s, struct text *t)
{
    switch (s->ends < 3 ? (uint32_t)s->ends : random_below(3)) {
    case 0:
        text_string(t, "\n");
        break;
    case 1:
        text_string(t, "\r\n");
        break;
    default:
        text_string(t, "\r");
        break;
    }
}

static void make_shape(struct shape *s)
{
    static const char seps[] = ",;\t |";

    memset(s, 0, sizeof(*s));
    s->dialect.sep = chance(70) ? ',' : seps[random_below(5)];
    s->dialect.quote = chance(85) ? '"' : chance(50) ? '\'' : '\0';
    s->dialect.comment = chance(15) ? '#' : '\0';
    s->dialect.missing = chance(80) ? missing_default : missing_odd;
    s->fields = chance(90) ? 1 + random_below(6) : 1 + random_below(69);
    bool tame = chance(40);

    for (uint32_t c = 0; c < s->fields; c++) {
        s->kind[c] = (enum kind)random_below(tame ? KIND_WORD + 1 : KINDS);
    }
    s->missing_percent = chance(50) ? 0 : random_below(40);
    s->quote_percent = chance(50) ? 0 : random_below(60);
    s->blank_percent = chance(60) ? 0 : random_below(20);
    s->comment_percent = s->dialect.comment != '\0' ? random_below(30) : 0;
    s->ends = chance(60) ? 0 : (int)random_below(4);
    s->wide_text = chance(10);
}

static void make_rows(const struct shape *s, uint32_t rows, struct text *t)
{
    bool late = chance(15);  // a value of another type far down

    for (uint32_t r = 0; r < rows; r++) {
        if (chance(s->blank_percent)) {
            text_string(t, chance(50) ? "" : s->dialect.sep == ' ' || s->dialect.sep == '\t' ? "" : "  \t");
            add_end(s, t);
        }
        if (chance(s->comment_percent)) {
            text_string(t, "#, a comment, \"here\", \"there\n" + (chance(50) ? 0 : 8));
            t->size--;
            add_end(s, t);
        }
        for (uint32_t c = 0; c < s->fields; c++) {
            struct text value = {0};
            uint32_t n = 0;

            if (c > 0) {
                text_byte(t, s->dialect.sep);
            }
            while (s->dialect.missing[n] != NULL) {
                n++;
            }
            if (chance(s->missing_percent)) {
                text_string(&value, chance(60) ? "" : s->dialect.missing[random_below(n)]);
            } else {
                make_value(s, late && r + 3 >= rows ? KIND_MIXED : s->kind[c], &value);
            }
            add_field(s, &value, t);
            free(value.data);
        }
        if (chance(s->comment_percent)) {
            text_string(t, "# and \"then, some");
        }
        if (r + 1 < rows || chance(70)) {
            add_end(s, t);
        }
    }
}

static char *write_file(const struct text *t, struct stat *st)
{
    static char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/dev/shm/dray-test-csv-%d", (int)getpid());
    f = fopen(path, "w");
    if (f == NULL) {
        snprintf(path, sizeof(path), "/tmp/dray-test-csv-%d", (int)getpid());
        f = fopen(path, "w");
    }
    assert_non_null(f);
    assert_int_equal(fwrite(t->data == NULL ? "" : t->data, 1, t->size, f), t->size);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(stat(path, st), 0);
    return path;
}

// The op for a file; everything lives in the arena.
static Dray__ScanCsv *make_scan(struct arena *a, const struct shape *s, const char *path, const struct stat *st,
                                uint64_t data_start, uint64_t block, const uint32_t *field, const enum type *type,
                                uint32_t columns)
{
    Dray__ScanCsv *scan = arena_alloc(a, sizeof(*scan));
    Dray__CsvDialect *dialect = arena_alloc(a, sizeof(*dialect));
    Dray__CsvFile *file = arena_alloc(a, sizeof(*file));
    size_t n = 0;

    dray__scan_csv__init(scan);
    dray__csv_dialect__init(dialect);
    dray__csv_file__init(file);
    dialect->sep = (uint8_t)s->dialect.sep;
    dialect->has_quote = s->dialect.quote != '\0';
    dialect->quote = (uint8_t)s->dialect.quote;
    dialect->has_comment = s->dialect.comment != '\0';
    dialect->comment = (uint8_t)s->dialect.comment;
    while (s->dialect.missing[n] != NULL) {
        n++;
    }
    dialect->n_na_value = n;
    dialect->na_value = arena_array(a, n, sizeof(*dialect->na_value));
    for (size_t i = 0; i < n; i++) {
        dialect->na_value[i].data = (uint8_t *)arena_strdup(a, s->dialect.missing[i]);
        dialect->na_value[i].len = strlen(s->dialect.missing[i]);
    }
    file->path = file->name = arena_strdup(a, path);
    file->size = (uint64_t)st->st_size;
    file->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    file->codec = DRAY__CODEC__PLAIN;
    file->data_start = data_start;
    file->fields = s->fields;
    file->n_field = columns;
    file->field = arena_copy(a, field, columns * sizeof(*field));
    file->blocks = (uint32_t)((file->size - data_start + block - 1) / block);
    file->blocks += file->blocks == 0;
    scan->dialect = dialect;
    scan->block_size = block;
    scan->n_file = 1;
    scan->file = arena_alloc(a, sizeof(*scan->file));
    scan->file[0] = file;
    scan->n_column = columns;
    scan->column = arena_array(a, columns + 1, sizeof(*scan->column));
    for (uint32_t c = 0; c < columns; c++) {
        scan->column[c] = arena_alloc(a, sizeof(**scan->column));
        dray__csv_column__init(scan->column[c]);
        scan->column[c]->name = arena_printf(a, "c%u", c);
        scan->column[c]->type = (Dray__Type)type[c];
        scan->column[c]->has_group_key = true;
        scan->column[c]->group_key = chance(50);
    }
    return scan;
}

static bool text_equal(const struct text *a, const struct text *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

struct trial {
    struct shape shape;
    struct text text;
    uint64_t data_start;
    uint32_t columns;
    uint32_t field[8];
    enum type first[8];   // what the probe said
    enum type final[8];   // what it must come to
    struct oracle oracle;
    struct text expected;
};

static void run_trial(const struct trial *t, const char *path, const struct stat *st, uint64_t block, uint64_t seed,
                      struct kernel_scratch *scratch)
{
    for (size_t isa = 0; isa < 3; isa++) {
        struct driver d = {.budget = budget_create(0), .scratch = chance(50) ? scratch : NULL};
        struct text rows = {0};
        char place[80];

        setenv("DRAY_ISA", isas[isa], 1);
        arena_init(&d.arena, 0);
        d.scan = make_scan(&d.arena, &t->shape, path, st, t->data_start, block, t->field, t->first, t->columns);
        if (getenv("DRAY_TEST_VERBOSE") != NULL) {
            print_message("seed %llu, block %llu, %s\n", (unsigned long long)seed, (unsigned long long)block, isas[isa]);
        }
        int rc = driver_run(&d, &rows);

        if (t->oracle.bad != NULL) {
            if (rc != -EBADMSG) {
                print_message("seed %llu, block %llu, %s: %s at %zu not found (%d %s)\n", (unsigned long long)seed,
                              (unsigned long long)block, isas[isa], t->oracle.bad, t->oracle.bad_at, rc, d.err.text);
            }
            assert_int_equal(rc, -EBADMSG);
            snprintf(place, sizeof(place), "line %zu (byte %zu)", t->oracle.bad_line, t->oracle.bad_at);
            if (strstr(d.err.text, place) == NULL) {
                print_message("seed %llu, block %llu, %s: expected %s, got %s\n", (unsigned long long)seed,
                              (unsigned long long)block, isas[isa], place, d.err.text);
            }
            assert_non_null(strstr(d.err.text, place));
        } else {
            if (rc < 0 || !text_equal(&rows, &t->expected)) {
                print_message("seed %llu, block %llu, %s: rc %d %s\nexpected:\n%s\ngot:\n%s\n",
                              (unsigned long long)seed, (unsigned long long)block, isas[isa], rc, d.err.text,
                              field_text(&t->expected), field_text(&rows));
            }
            assert_int_equal(rc, 0);
            assert_true(text_equal(&rows, &t->expected));
            for (uint32_t c = 0; c < t->columns; c++) {
                assert_int_equal(d.scan->column[c]->type, t->final[c]);
            }
        }
        free(rows.data);
        assert_int_equal(budget_used(d.budget), 0);
        budget_destroy(d.budget);
        arena_fini(&d.arena);
    }
}

static void make_trial(struct trial *t, uint32_t rows)
{
    memset(t, 0, sizeof(*t));
    make_shape(&t->shape);
    if (chance(70)) {
        text_string(&t->text, "head, \"line\"\n");
        t->data_start = t->text.size;
    }
    make_rows(&t->shape, rows, &t->text);
    if (chance(6) && t->text.size > t->data_start) {
        // Something is wrong: a byte more or less anywhere.
        static const char bytes[] = "\",\n\rx";

        t->text.data[t->data_start + random_below((uint32_t)(t->text.size - t->data_start))] = bytes[random_below(5)];
    }
    t->columns = random_below(t->shape.fields < 7 ? t->shape.fields + 2 : 8);
    t->oracle = oracle_read(&t->shape.dialect, t->text.data == NULL ? "" : t->text.data, t->data_start, t->text.size,
                            t->shape.fields);
    for (uint32_t c = 0; c < t->columns; c++) {
        int seen = 0;
        int all = 0;

        t->field[c] = random_below(t->shape.fields);
        for (size_t r = 0; r < t->oracle.rows; r++) {
            int kind = oracle_kind(&t->shape.dialect, &t->oracle.row[r].field[t->field[c]]);

            all |= kind;
            seen |= r < 3 || chance(5) ? kind : 0;
        }
        t->first[c] = oracle_least(seen);
        t->final[c] = oracle_widen(t->first[c], all);
    }
    if (t->oracle.bad == NULL) {
        oracle_expect(&t->shape.dialect, &t->oracle, t->field, t->final, t->columns, &t->expected);
    }
}

static void free_trial(struct trial *t)
{
    oracle_free(&t->oracle);
    free(t->text.data);
    free(t->expected.data);
}

static uint64_t environment_number(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);

    return value != NULL ? strtoull(value, NULL, 10) : otherwise;
}

static void test_random_files(void **state)
{
    uint64_t seed = environment_number("DRAY_TEST_SEED", 1);
    uint64_t files = environment_number("DRAY_TEST_FILES", 1500);
    struct kernel_scratch scratch = {0};

    (void)state;
    for (uint64_t i = 0; i < files; i++, seed++) {
        struct trial t;
        struct stat st;

        random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        make_trial(&t, chance(85) ? random_below(20) : random_below(400));
        char *path = write_file(&t.text, &st);
        uint64_t size = t.text.size - t.data_start;
        uint64_t blocks[4] = {1 + random_below(3), 1 + random_below(40), 1 + random_below(400), size + 1};

        for (int b = size > 3000 ? 2 : size > 600 ? 1 : 0; b < 4; b++) {
            run_trial(&t, path, &st, blocks[b], seed, &scratch);
        }
        free_trial(&t);
        unlink(path);
    }
    csv_scratch_destroy(scratch.csv);
}

// Files larger than a read window, with lines longer than one at times.
static void test_large_files(void **state)
{
    uint64_t seed = environment_number("DRAY_TEST_SEED", 1) + 1000000;
    struct kernel_scratch scratch = {0};

    (void)state;
    for (int i = 0; i < 8; i++, seed++) {
        struct trial t;
        struct stat st;

        random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        make_trial(&t, 9000 + random_below(20000));
        char *path = write_file(&t.text, &st);

        run_trial(&t, path, &st, 100000 + random_below(900000), seed, &scratch);
        run_trial(&t, path, &st, t.text.size + 1, seed, &scratch);
        free_trial(&t);
        unlink(path);
    }
    csv_scratch_destroy(scratch.csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_files),
        cmocka_unit_test(test_large_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
