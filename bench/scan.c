// What the CSV scanner costs, stage by stage and for each instruction set: reading alone, reading and
// indexing, the whole scan of some columns without anything behind it.  One thread.
#include "bench/bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/kernel/csv_isa.h"
#include "worker/kernel/csv_range.h"
#include "worker/kernel/step.h"

enum { ROUNDS = 7, COLUMNS_MAX = 64, PIECE = 64 << 10 };

static const char *const missing[] = {"",     "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND",
                                      "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"};

struct bench {
    struct arena arena;
    struct budget *budget;
    struct kernel_scratch scratch;
    Dray__CsvDialect dialect;
    Dray__ScanCsv scan;
    Dray__CsvFile file;
    Dray__CsvFile *files[1];
    Dray__CsvColumn column[COLUMNS_MAX];
    Dray__CsvColumn *columns[COLUMNS_MAX];
    uint32_t field[COLUMNS_MAX];
    uint64_t rows;
    uint64_t sum;  // of what was seen, so that nothing is optimised away
    struct error err;
};

struct sink {
    struct stage stage;
    struct bench *bench;
};

static int push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct bench *b = ((struct sink *)stage)->bench;

    (void)err;
    b->rows += batch->rows;
    for (uint32_t c = 0; c < batch->columns; c++) {
        b->sum += ((const uint8_t *)batch->column[c].values)[0];
    }
    return 0;
}

static const struct stage_class sink_class = {.name = "sink", .push = push, .size = sizeof(struct sink)};

static double seconds(void)
{
    struct timespec t;

    // Of this thread alone: other programs on the machine add less noise to it than to the clock on the wall.
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int probe(struct bench *b, const char *path, char **names, int count)
{
    Dray__ProbeCsv probe = DRAY__PROBE_CSV__INIT;
    Dray__Step step = DRAY__STEP__INIT;
    struct kernel_env env = {.budget = b->budget, .arena = &b->arena};
    struct partition *p = NULL;

    probe.dialect = &b->dialect;
    probe.path = (char *)path;
    probe.pattern = (char *)path;
    step.probe_csv = &probe;
    int rc = csv_probe_maker.make(&step, 0, NULL, &env, &b->arena, &p, &b->err);

    if (rc < 0) {
        return rc;
    }
    Dray__CsvProbeResult *result = dray__csv_probe_result__unpack(&b->arena.protobuf, p->bytes->size, p->bytes->data);
    Dray__CsvProbeFile *f = result->file[0];

    partition_unref(p);
    dray__csv_file__init(&b->file);
    b->file.path = f->path;
    b->file.name = f->name;
    b->file.size = f->size;
    b->file.mtime_ns = f->mtime_ns;
    b->file.codec = f->codec;
    b->file.data_start = f->data_start;
    b->file.fields = (uint32_t)f->n_column;
    for (size_t c = 0; c < f->n_column && b->scan.n_column < COLUMNS_MAX; c++) {
        bool wanted = count == 0;

        for (int i = 0; i < count; i++) {
            wanted |= strcmp(names[i], f->column[c]) == 0;
        }
        if (!wanted) {
            continue;
        }
        size_t n = b->scan.n_column++;

        dray__csv_column__init(&b->column[n]);
        b->column[n].name = f->column[c];
        b->column[n].type = f->type[c];
        b->column[n].has_group_key = b->column[n].group_key = f->type[c] == DRAY__TYPE__STRING;
        b->columns[n] = &b->column[n];
        b->field[n] = (uint32_t)c;
    }
    b->file.field = b->field;
    b->file.n_field = b->scan.n_column;
    b->files[0] = &b->file;
    b->scan.dialect = &b->dialect;
    b->scan.n_file = 1;
    b->scan.file = b->files;
    b->scan.column = b->columns;
    b->scan.block_size = 64 << 20;
    b->file.blocks = b->file.codec != DRAY__CODEC__PLAIN
                         ? 1
                         : (uint32_t)((b->file.size - b->file.data_start) / b->scan.block_size + 1);
    return 0;
}

static int scan(struct bench *b)
{
    Dray__Step step = DRAY__STEP__INIT;
    int rc = 0;

    step.scan_csv = &b->scan;
    b->rows = 0;
    for (uint32_t i = 0; i < b->file.blocks && rc == 0; i++) {
        struct kernel_env env = {.budget = b->budget, .arena = &b->arena, .scratch = &b->scratch};
        struct sink sink = {.stage = {.class = &sink_class, .env = &env}, .bench = b};
        struct arena arena;

        dray__note__init(&env.note);
        arena_init(&arena, 0);
        rc = csv_scan_source.run(&step, i, NULL, &env, &arena, &sink.stage, &b->err);
        if (rc == 0 && env.note.n_widen > 0) {
            rc = error_set(&b->err, 1, "column %u is not of the type that was probed", env.note.widen[0]->column);
        }
        arena_fini(&arena);
    }
    return rc;
}

// index: NULL reads only.
static int read_all(struct bench *b, csv_index_fn *index_fn)
{
    struct csv_file file = {.fd = -1};
    struct csv_block block = {0};
    struct csv_reader reader = {.fd = -1};
    struct csv_dialect dialect;
    struct csv_index index = {.place = malloc((PIECE + CSV_INDEX_SLACK + 1) * sizeof(uint32_t)),
                              .room = PIECE + CSV_INDEX_SLACK};
    uint32_t moved;
    int rc = csv_dialect_init(&dialect, &b->dialect, &b->err);

    csv_index_init(&index, b->file.fields);
    if (rc == 0) {
        rc = csv_file_reopen(&b->file, NULL, &b->arena, &file, &b->err);
    }
    if (rc == 0) {
        rc = csv_reader_open(&reader, &file, b->file.codec, b->file.name, 0, UINT64_MAX, b->budget, &block, &b->err);
    }
    while (rc == 0 && !reader.ended) {
        rc = csv_reader_fill(&reader, reader.end, &moved, &b->err);
        for (const uint8_t *p = reader.data; index_fn != NULL && p < reader.end; p += PIECE) {
            uint32_t from = (uint32_t)(p - reader.base);
            uint32_t size = reader.end - p < PIECE ? (uint32_t)(reader.end - p) : PIECE;

            index.count = 0;
            index_fn(&dialect, reader.base, from, from + size, &index);
            b->sum += index.count;
        }
    }
    csv_reader_close(&reader);
    csv_block_clear(&block);
    csv_file_close(&file);
    free(index.place);
    return rc;
}

static int compare(const void *x, const void *y)
{
    double a = *(const double *)x;
    double b = *(const double *)y;

    return (a > b) - (a < b);
}

static void report(const struct bench *b, const char *isa, const char *stage, double *took)
{
    qsort(took, ROUNDS, sizeof(*took), compare);
    printf("%-9s %-6s  min %6.2f  median %6.2f ns a row  %6.2f GB/s\n", isa, stage, took[0] / (double)b->rows * 1e9,
           took[ROUNDS / 2] / (double)b->rows * 1e9, (double)b->file.size / took[0] / 1e9);
}

int bench_scan(int argc, char **argv)
{
    static const char *const isas[] = {"baseline", "avx2", "avx512"};
    struct bench b = {.dialect = DRAY__CSV_DIALECT__INIT, .scan = DRAY__SCAN_CSV__INIT, .budget = budget_create(0)};
    ProtobufCBinaryData na[sizeof(missing) / sizeof(missing[0])];
    double took[ROUNDS];

    if (argc < 2) {
        fputs("usage: dray-bench scan FILE [COLUMN...]\n", stderr);
        return 2;
    }
    arena_init(&b.arena, 0);
    b.dialect.sep = ',';
    b.dialect.has_quote = true;
    b.dialect.quote = '"';
    b.dialect.na_value = na;
    for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
        na[b.dialect.n_na_value++] = (ProtobufCBinaryData){strlen(missing[i]), (uint8_t *)missing[i]};
    }
    int rc = probe(&b, argv[1], argv + 2, argc - 2);

    for (size_t i = 0; i < 3 && rc == 0; i++) {
        setenv("DRAY_ISA", isas[i], 1);
        const struct csv_isa *isa = csv_isa_choose();

        if (strcmp(isa->name, isas[i]) != 0) {
            continue;
        }
        rc = scan(&b);  // warms up, counts rows
        for (int stage = i == 0 ? 0 : 1; stage < 3 && rc == 0; stage++) {
            for (int round = 0; round < ROUNDS && rc == 0; round++) {
                double start = seconds();

                rc = stage == 2 ? scan(&b) : read_all(&b, stage == 1 ? isa->index : NULL);
                took[round] = seconds() - start;
            }
            if (rc == 0) {
                report(&b, stage == 0 ? "any" : isa->name, stage == 0 ? "read" : stage == 1 ? "index" : "scan", took);
            }
        }
    }
    if (rc < 0) {
        fprintf(stderr, "dray-bench: %s\n", b.err.text);
    }
    csv_scratch_destroy(b.scratch.csv);
    arena_fini(&b.arena);
    budget_destroy(b.budget);
    return rc < 0;
}
