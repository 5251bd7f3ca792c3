#include "worker/kernel/csv_trace.h"

int csv_trace(const struct csv_dialect *d, const struct csv_file *file, Dray__Codec codec, const char *name,
              uint64_t data_start, uint64_t to, struct budget *budget, enum csv_state *state, uint64_t *breaks,
              struct error *err)
{
    struct csv_block block = {0};
    struct csv_reader r;
    enum csv_state s = CSV_LINE;
    uint64_t count = 0;
    uint64_t at = 0;
    uint8_t last = 0;
    uint32_t moved;
    int rc = csv_reader_open(&r, file, codec, name, 0, to, budget, &block, err);

    while (rc == 0 && at < to && !(r.ended && r.data == r.end)) {
        rc = csv_reader_fill(&r, r.end, &moved, err);
        if (rc < 0) {
            break;
        }
        for (const uint8_t *p = r.data; p < r.end && at < to; p++, at++) {
            // A CR counts when it is seen, the LF behind it does not.
            count += *p == '\r' || (*p == '\n' && last != '\r');
            last = *p;
            if (at >= data_start) {
                s = csv_next(d, s, *p);
            }
        }
        if (r.ended) {
            break;
        }
    }
    csv_reader_close(&r);
    csv_block_clear(&block);
    if (rc == 0) {
        *state = s;
        *breaks = count;
    }
    return rc;
}
