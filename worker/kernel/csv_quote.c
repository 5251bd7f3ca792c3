// The quote state behind a block for both states before it.
#include "worker/kernel/csv_range.h"
#include "worker/kernel/step.h"

static int end_state(const struct csv_range *range, const struct csv_dialect *dialect, const struct csv_file *file,
                     enum csv_state start, struct kernel_env *env, struct csv_block *block, bool *quoted,
                     struct error *err)
{
    struct csv_reader reader;
    struct csv_walk walk;
    int rc = csv_reader_open(&reader, file, range->file->codec, range->file->name,
                             range->first ? range->start : range->start - 1, range->end, env->budget, block, err);

    if (rc == 0) {
        rc = csv_range_walk(range, dialect, &reader, start, true, &walk, err);
    }
    csv_reader_close(&reader);
    if (rc == 0) {
        *quoted = walk.end_state == CSV_QUOTED;
    }
    return rc;
}

static int pack(const Dray__CsvQuoteState *state, struct partition **out, struct error *err)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(dray__csv_quote_state__get_packed_size(state), &data);

    if (bytes == NULL) {
        return error_no_memory(err);
    }
    dray__csv_quote_state__pack(state, data);
    *out = partition_from_bytes(bytes);
    return *out != NULL ? 0 : error_no_memory(err);
}

static int make(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs, struct kernel_env *env,
                struct arena *arena, struct partition **out, struct error *err)
{
    const Dray__ScanCsv *scan = step->quote_csv->scan;
    Dray__CsvQuoteState state = DRAY__CSV_QUOTE_STATE__INIT;
    struct csv_file file = {.fd = -1};
    struct csv_block block = {0};
    struct csv_dialect dialect;
    struct csv_range range;
    bool outside = false;
    bool inside = true;
    bool in_comment = false;
    int rc = csv_dialect_init(&dialect, scan->dialect, err);

    (void)inputs;
    if (rc == 0) {
        rc = csv_range_find(scan, index, &range, err);
    }
    if (rc == 0) {
        rc = csv_file_reopen(range.file, env->data_dir, arena, &file, err);
    }
    if (rc == 0) {
        rc = csv_range_in_comment(&range, &dialect, &file, env->budget, &in_comment, err);
    }
    if (rc == 0) {
        rc = end_state(&range, &dialect, &file, in_comment ? CSV_COMMENT : CSV_LINE, env, &block, &outside, err);
    }
    if (rc == 0 && !range.first) {
        rc = end_state(&range, &dialect, &file, CSV_QUOTED, env, &block, &inside, err);
    }
    if (rc == 0) {
        state.end_if_outside = outside;
        state.end_if_inside = inside;
        rc = pack(&state, out, err);
    }
    csv_block_clear(&block);
    csv_file_close(&file);
    return rc;
}

const struct maker_class csv_quote_maker = {"quote_csv", make};
