#include "client/include/dray.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/client.h"
#include "client/lib/query_run.h"
#include "client/print/print.h"

enum {
    WORKERS_WAIT_MS = 30000,
};

struct dray_result {
    struct query_run *run;
    dray_t *dray; // borrowed while it runs
    struct table **table;
    size_t tables;
    size_t capacity;
};

const char *dray_version(void)
{
    return DRAY_VERSION;
}

static int lend_connection(void *context, dray_t **out, struct error *err)
{
    struct dray_result *result = context;

    (void)err;
    *out = result->dray;
    return 0;
}

static void drop_tables(struct dray_result *result)
{
    for (size_t i = 0; i < result->tables; i++) {
        table_unref(result->table[i]);
    }
    result->tables = 0;
}

static int begin(void *context, const struct shape *shape, struct error *err)
{
    (void)shape;
    (void)err;
    drop_tables(context);
    return 0;
}

static int keep_table(void *context, struct table *table, struct error *err)
{
    struct dray_result *result = context;

    if (result->tables == result->capacity) {
        size_t capacity = result->capacity == 0 ? 8 : 2 * result->capacity;
        struct table **grown = realloc(result->table, capacity * sizeof(struct table *));

        if (grown == NULL) {
            return error_no_memory(err);
        }
        result->table = grown;
        result->capacity = capacity;
    }
    result->table[result->tables++] = table_ref(table);
    return 0;
}

int dray_run(dray_t *dray, const char *script, struct dray_result **out, struct dray_error *error)
{
    struct dray_result *result = calloc(1, sizeof(*result));
    const struct query_run_host host = {
        .context = result,
        .connect = lend_connection,
        .wait_ms = WORKERS_WAIT_MS,
        .begin = begin,
        .table = keep_table,
    };
    enum query_outcome outcome;
    struct error err = {0};
    int rc;

    if (result == NULL) {
        return client_error(error_no_memory(&err), &err, error);
    }
    result->dray = dray;
    rc = query_run_create(script, strlen(script), "script", &host, &result->run, &outcome, &err);
    if (rc == 0) {
        rc = query_run_value(result->run, &outcome, &err);
    }
    result->dray = NULL;
    if (rc != 0) {
        dray_result_free(result);
        return client_error(rc, &err, error);
    }
    *out = result;
    return 0;
}

int dray_result_text(const struct dray_result *result, const char *format, char **text,
                     struct dray_error *error)
{
    struct printer *printer = NULL;
    enum print_format parsed;
    struct error err = {0};
    char *written = NULL;
    FILE *stream = NULL;
    size_t size = 0;
    int rc = print_format_parse(format, &parsed, &err);

    if (rc != 0) {
        goto out;
    }
    stream = open_memstream(&written, &size);
    if (stream != NULL) {
        printer = printer_create(parsed, query_shape(query_run_query(result->run)), 0, stream);
    }
    if (stream == NULL || printer == NULL) {
        rc = error_no_memory(&err);
        goto out;
    }
    for (size_t i = 0; i < result->tables && rc == 0; i++) {
        rc = printer_table(printer, result->table[i], &err);
    }
    if (rc == 0) {
        rc = printer_finish(printer, &err);
    }
out:
    printer_destroy(printer);
    if (stream != NULL && fclose(stream) != 0 && rc == 0) {
        rc = error_no_memory(&err);
    }
    if (rc == 0) {
        *text = written;
        written = NULL;
    }
    free(written);
    return client_error(rc, &err, error);
}

void dray_result_free(struct dray_result *result)
{
    if (result == NULL) {
        return;
    }
    drop_tables(result);
    free(result->table);
    query_run_destroy(result->run);
    free(result);
}
