#include "client/cli/result_sink.h"

#include <errno.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/listing.h"
#include "client/cli/output.h"
#include "client/cli/patient.h"
#include "proto/partition.h"

enum { COPY_BYTES = 1 << 16 };

struct layer {
    uint64_t left;  // selected, and not there yet
    FILE *spool;    // results that came before the turn of their layer
    uint64_t *open; // bits: selected, and not there yet; NULL: none
};

struct result_sink {
    struct result_sink_options options;
    const struct job_view *view;
    const struct job_ranges *ranges;
    struct layer *layer;
    uint32_t current; // layer that is being written; all before it are through
    uint64_t left;
    struct output *output; // NULL: a directory, or nothing
    FILE *stream;
    FILE *patient; // it, when it is standard output
    int (*idle)(void *arg);
    void *idle_arg;
    bool terminal;
};

static int stream_error(const struct result_sink *sink, struct error *err)
{
    int code = errno != 0 ? errno : EIO;

    return error_set(err, code, "cannot write %s: %s",
                     sink->options.output != NULL && strcmp(sink->options.output, "-") != 0
                         ? sink->options.output
                         : "standard output",
                     strerror(code));
}

static int idle(void *arg)
{
    const struct result_sink *sink = arg;

    return sink->idle != NULL ? sink->idle(sink->idle_arg) : 0;
}

void result_sink_while_waiting(struct result_sink *sink, int (*idle_function)(void *arg), void *arg)
{
    sink->idle = idle_function;
    sink->idle_arg = arg;
}

// ---- making ----------------------------------------------------------------------------------------

static int make_directory(const char *path, struct error *err)
{
    struct stat status;

    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return error_set(err, errno, "cannot make the folder %s: %s", path, strerror(errno));
    }
    if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode)) {
        return error_set(err, ENOTDIR, "cannot write into %s: %s", path, strerror(ENOTDIR));
    }
    if (access(path, W_OK | X_OK) != 0) {
        return error_set(err, errno, "cannot write into %s: %s", path, strerror(errno));
    }
    return 0;
}

static int open_output(struct result_sink *sink, struct error *err)
{
    const char *path = sink->options.output;
    int rc;

    if (sink->options.discard) {
        return 0;
    }
    if (sink->options.directory != NULL) {
        return make_directory(sink->options.directory, err);
    }
    if (path == NULL || strcmp(path, "-") == 0) {
        if (stdout_was_closed()) {
            return error_set(err, EBADF, "cannot write standard output: it is closed");
        }
        sink->stream = sink->patient = patient_open(STDOUT_FILENO, idle, sink);
        if (sink->stream == NULL) {
            return error_no_memory(err);
        }
        sink->terminal = isatty(STDOUT_FILENO);
        if (sink->terminal) {
            setvbuf(sink->stream, NULL, _IOLBF, BUFSIZ);
        }
        return 0;
    }
    rc = output_create(path, &sink->output, err);
    return rc == 0 ? output_begin(sink->output, &sink->stream, err) : rc;
}

static int count_selected(struct result_sink *sink, struct error *err)
{
    for (size_t i = 0; i < sink->ranges->count; i++) {
        const struct client_range *range = &sink->ranges->range[i];
        struct layer *layer = &sink->layer[range->layer];

        if (layer->open == NULL) {
            layer->open = calloc((sink->view->layer[range->layer].tasks + 63) / 64, sizeof(uint64_t));
            if (layer->open == NULL) {
                return error_no_memory(err);
            }
        }
        for (uint32_t k = range->first; k < range->first + range->count; k++) {
            uint64_t bit = UINT64_C(1) << (k % 64);

            layer->left += (layer->open[k / 64] & bit) == 0;
            layer->open[k / 64] |= bit;
        }
    }
    for (uint32_t l = 0; l < sink->view->layers; l++) {
        sink->left += sink->layer[l].left;
    }
    return 0;
}

int result_sink_create(const struct result_sink_options *options, const struct job_view *view,
                       const struct job_ranges *ranges, struct result_sink **out, struct error *err)
{
    struct result_sink *sink = calloc(1, sizeof(*sink));
    int rc;

    if (sink == NULL) {
        return error_no_memory(err);
    }
    sink->options = *options;
    sink->view = view;
    sink->ranges = ranges;
    sink->layer = calloc((size_t)view->layers + 1, sizeof(*sink->layer));
    rc = sink->layer == NULL ? error_no_memory(err) : count_selected(sink, err);
    rc = rc == 0 ? open_output(sink, err) : rc;
    if (rc != 0) {
        result_sink_destroy(sink);
        return rc;
    }
    *out = sink;
    return 0;
}

void result_sink_destroy(struct result_sink *sink)
{
    if (sink == NULL) {
        return;
    }
    for (uint32_t l = 0; sink->layer != NULL && l < sink->view->layers; l++) {
        if (sink->layer[l].spool != NULL) {
            fclose(sink->layer[l].spool);
        }
        free(sink->layer[l].open);
    }
    output_destroy(sink->output);
    if (sink->patient != NULL) {
        __fpurge(sink->patient); // what result_sink_finish did not write shall not be waited for
        fclose(sink->patient);
    }
    free(sink->layer);
    free(sink);
}

// ---- one result --------------------------------------------------------------------------------------

static bool is_text(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] < 0x20 && data[i] != '\n' && data[i] != '\t' && data[i] != '\r') {
            return false;
        }
    }
    return true;
}

static int write_bytes(struct result_sink *sink, const char *label, const struct buffer *bytes, FILE *out)
{
    // What is no text would do no good to a terminal.
    if (sink->terminal && !is_text(bytes->data, bytes->size)) {
        char size[24];

        listing_size(bytes->size, size);
        fprintf(out, "[%s: %s that are no text; --output or --directory saves them]\n", label, size);
        return 0;
    }
    fwrite(bytes->data, 1, bytes->size, out);
    return 0;
}

static int write_table(const struct result_sink *sink, const struct table *table, FILE *out,
                       struct error *err)
{
    const struct shape shape = {.kind = SHAPE_FRAME};
    struct printer *printer = printer_create(sink->options.format, &shape,
                                             (int)(sink->terminal ? listing_terminal(stdout) : 0), out);
    int rc;

    if (printer == NULL) {
        return error_no_memory(err);
    }
    rc = printer_table(printer, table, err);
    rc = rc == 0 ? printer_finish(printer, err) : rc;
    printer_destroy(printer);
    return rc;
}

static int write_result(struct result_sink *sink, const char *label, struct buffer *encoded, FILE *out,
                        struct error *err)
{
    struct partition *partition = NULL;
    int rc = partition_decode(encoded, &partition, err);

    if (rc != 0) {
        error_prefix(err, "%s: ", label);
        return rc;
    }
    errno = 0;
    rc = partition->kind == PARTITION_TABLE ? write_table(sink, partition->table, out, err)
                                            : write_bytes(sink, label, partition->bytes, out);
    partition_unref(partition);
    return rc == 0 && out == sink->stream && ferror(out) ? stream_error(sink, err) : rc;
}

// The name is the task's, which may be anybody's choice.
static void make_file_name(char *label)
{
    for (char *at = label; *at != '\0'; at++) {
        if (*at == '/' || (unsigned char)*at < 0x20) {
            *at = '_';
        }
    }
    if (label[0] == '.') {
        label[0] = '_';
    }
}

static int save_result(struct result_sink *sink, char *label, struct buffer *encoded, struct error *err)
{
    char *path = NULL, *spare = NULL;
    FILE *out;
    int rc = 0;

    make_file_name(label);
    if (asprintf(&path, "%s/%s", sink->options.directory, label) < 0) {
        return error_no_memory(err);
    }
    if (asprintf(&spare, "%s/.dray-%ld", sink->options.directory, (long)getpid()) < 0) {
        free(path);
        return error_no_memory(err);
    }
    out = fopen(spare, "we");
    if (out == NULL) {
        rc = error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
    } else {
        rc = write_result(sink, label, encoded, out, err);
        if (rc == 0 && ferror(out)) {
            errno = errno != 0 ? errno : EIO;
            rc = error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
        }
        if (fclose(out) != 0 && rc == 0) {
            rc = error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
        }
        if (rc == 0 && rename(spare, path) != 0) {
            rc = error_set(err, errno, "cannot write %s: %s", path, strerror(errno));
        }
        if (rc != 0) {
            unlink(spare);
        }
    }
    free(spare);
    free(path);
    return rc;
}

// ---- in order ------------------------------------------------------------------------------------------

static int unspool(struct result_sink *sink, FILE *spool, struct error *err)
{
    char *bytes = malloc(COPY_BYTES);
    size_t n;

    if (bytes == NULL) {
        return error_no_memory(err);
    }
    rewind(spool);
    errno = 0;
    while ((n = fread(bytes, 1, COPY_BYTES, spool)) > 0) {
        fwrite(bytes, 1, n, sink->stream);
    }
    free(bytes);
    return ferror(spool) || ferror(sink->stream) ? stream_error(sink, err) : 0;
}

// Goes on to the next layer that has something to come.
static int advance(struct result_sink *sink, bool to_end, struct error *err)
{
    int rc = 0;

    while (rc == 0 && sink->current < sink->view->layers &&
           (to_end || sink->layer[sink->current].left == 0)) {
        sink->current++;
        if (sink->current < sink->view->layers && sink->layer[sink->current].spool != NULL) {
            rc = unspool(sink, sink->layer[sink->current].spool, err);
            fclose(sink->layer[sink->current].spool);
            sink->layer[sink->current].spool = NULL;
        }
    }
    return rc;
}

bool result_sink_selected(const struct result_sink *sink, uint32_t layer, uint32_t index)
{
    return layer < sink->view->layers && index < sink->view->layer[layer].tasks &&
           sink->layer[layer].open != NULL && (sink->layer[layer].open[index / 64] >> (index % 64) & 1) != 0;
}

static void close_task(struct result_sink *sink, uint32_t layer, uint32_t index)
{
    sink->layer[layer].open[index / 64] &= ~(UINT64_C(1) << (index % 64));
    sink->layer[layer].left--;
    sink->left--;
}

static int place_result(struct result_sink *sink, uint32_t layer, char *label, struct buffer *encoded,
                        struct error *err)
{
    int rc;

    if (sink->options.discard) {
        return 0;
    }
    if (sink->options.directory != NULL) {
        return save_result(sink, label, encoded, err);
    }
    if (layer == sink->current) {
        return write_result(sink, label, encoded, sink->stream, err);
    }
    if (sink->layer[layer].spool == NULL) {
        sink->layer[layer].spool = tmpfile();
        if (sink->layer[layer].spool == NULL) {
            return error_set(err, errno, "cannot make a temporary file: %s", strerror(errno));
        }
    }
    rc = write_result(sink, label, encoded, sink->layer[layer].spool, err);
    return rc == 0 && ferror(sink->layer[layer].spool)
               ? error_set(err, errno != 0 ? errno : EIO, "cannot write a temporary file: %s",
                           strerror(errno != 0 ? errno : EIO))
               : rc;
}

int result_sink_put(struct result_sink *sink, uint32_t layer, uint32_t index, struct buffer *encoded,
                    struct error *err)
{
    char label[JOB_LABEL_MAX];
    int rc = advance(sink, false, err);

    if (rc != 0 || !result_sink_selected(sink, layer, index)) {
        return rc;
    }
    job_view_label(sink->view, layer, index, label);
    rc = place_result(sink, layer, label, encoded, err);
    if (rc == 0) {
        close_task(sink, layer, index);
        rc = advance(sink, false, err);
    }
    return rc;
}

int result_sink_missing(struct result_sink *sink, uint32_t layer, uint32_t index, struct error *err)
{
    if (!result_sink_selected(sink, layer, index)) {
        return 0;
    }
    close_task(sink, layer, index);
    return advance(sink, false, err);
}

uint64_t result_sink_left(const struct result_sink *sink)
{
    return sink->left;
}

int result_sink_flush(struct result_sink *sink, struct error *err)
{
    errno = 0;
    return sink->patient != NULL && (fflush(sink->patient) != 0 || ferror(sink->patient))
               ? stream_error(sink, err)
               : 0;
}

int result_sink_finish(struct result_sink *sink, struct error *err)
{
    int rc = sink->stream != NULL ? advance(sink, true, err) : 0;

    if (rc == 0 && sink->output != NULL) {
        rc = output_commit(sink->output, err);
    }
    return rc == 0 ? result_sink_flush(sink, err) : rc;
}
