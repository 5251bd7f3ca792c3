#include "worker/kernel/aggregate_sum.h"

#include <string.h>

static double add_lanes(const double *l)
{
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

static double sum_all(const double *restrict value, uint32_t rows)
{
    double lane[8] = {0};
    uint32_t j = 0;

    for (; j + 8 <= rows; j += 8) {
        for (uint32_t k = 0; k < 8; k++) {
            lane[k] += value[j + k];
        }
    }
    for (; j < rows; j++) {
        lane[j & 7] += value[j];
    }
    return add_lanes(lane);
}

static void sum_few(struct sums *s, const struct grouping *g, const double *restrict value, double *out)
{
    double *restrict lane = s->lane.real;
    const uint16_t *local = g->local;
    uint32_t j = 0;

    memset(lane, 0, (size_t)g->locals * 8 * sizeof(*lane));
    for (; j + 8 <= g->rows; j += 8) {
        lane[local[j] * 8] += value[j];
        lane[local[j + 1] * 8 + 1] += value[j + 1];
        lane[local[j + 2] * 8 + 2] += value[j + 2];
        lane[local[j + 3] * 8 + 3] += value[j + 3];
        lane[local[j + 4] * 8 + 4] += value[j + 4];
        lane[local[j + 5] * 8 + 5] += value[j + 5];
        lane[local[j + 6] * 8 + 6] += value[j + 6];
        lane[local[j + 7] * 8 + 7] += value[j + 7];
    }
    for (; j < g->rows; j++) {
        lane[local[j] * 8 + (j & 7)] += value[j];
    }
    for (uint32_t l = 0; l < g->locals; l++) {
        out[l] = add_lanes(lane + (size_t)l * 8);
    }
}

// Rows in order of local number, each number's rows in their own order.
static void order_rows_by_local(struct sums *s, const struct grouping *g)
{
    uint32_t at = 0;

    if (s->ordered) {
        return;
    }
    for (uint32_t l = 0; l < g->locals; l++) {
        s->start[l] = at;
        at += g->size[l];
    }
    for (uint32_t j = 0; j < g->rows; j++) {
        s->order[s->start[g->local[j]]++] = (uint16_t)j;
    }
    // Each start has moved to its end, which is where the next begins.
    for (uint32_t l = g->locals; l > 0; l--) {
        s->start[l] = s->start[l - 1];
    }
    s->start[0] = 0;
    s->ordered = true;
}

static void sum_many(struct sums *s, const struct grouping *g, const double *value, double *out)
{
    order_rows_by_local(s, g);
    for (uint32_t l = 0; l < g->locals; l++) {
        const uint16_t *row = s->order + s->start[l];
        uint32_t rows = s->start[l + 1] - s->start[l];

        // Lanes that no row reaches are 0.0, so one or two values need no lanes.
        if (rows == 1) {
            out[l] = 0.0 + value[row[0]];
        } else if (rows == 2) {
            out[l] = 0.0 + value[row[0]] + value[row[1]];
        } else {
            double lane[8] = {0};

            for (uint32_t i = 0; i < rows; i++) {
                lane[row[i] & 7] += value[row[i]];
            }
            out[l] = add_lanes(lane);
        }
    }
}

void sums_float64(struct sums *s, const struct grouping *g, const double *value, double *out)
{
    if (g->locals == 1) {
        out[0] = sum_all(value, g->rows);
    } else if (g->locals <= FEW_GROUPS) {
        sum_few(s, g, value, out);
    } else {
        sum_many(s, g, value, out);
    }
}

// ---- integers: any order gives the same --------------------------------------------

static void sum_words(struct sums *s, const struct grouping *g, const int64_t *restrict value, int64_t *out)
{
    const uint16_t *local = g->local;
    uint32_t j = 0;

    if (g->locals == 1) {
        int64_t sum = 0;

        for (; j < g->rows; j++) {
            sum += value[j];
        }
        out[0] = sum;
        return;
    }
    if (g->locals > FEW_GROUPS) {
        memset(out, 0, g->locals * sizeof(*out));
        for (; j < g->rows; j++) {
            out[local[j]] += value[j];
        }
        return;
    }
    int64_t *restrict lane = s->lane.word;

    memset(lane, 0, (size_t)g->locals * 4 * sizeof(*lane));
    for (; j + 4 <= g->rows; j += 4) {
        lane[local[j] * 4] += value[j];
        lane[local[j + 1] * 4 + 1] += value[j + 1];
        lane[local[j + 2] * 4 + 2] += value[j + 2];
        lane[local[j + 3] * 4 + 3] += value[j + 3];
    }
    for (; j < g->rows; j++) {
        lane[local[j] * 4] += value[j];
    }
    for (uint32_t l = 0; l < g->locals; l++) {
        const int64_t *p = lane + (size_t)l * 4;

        out[l] = p[0] + p[1] + p[2] + p[3];
    }
}

void sums_int64(struct sums *s, const struct grouping *g, const int64_t *value, int64_t *low, int64_t *high)
{
    uint64_t spread = 0;

    for (uint32_t j = 0; j < g->rows; j++) {
        spread |= (uint64_t)(value[j] ^ (value[j] >> 63));
    }
    // 4,096 values below 2^51 stay below 2^63.
    if (spread >> 51 == 0) {
        sum_words(s, g, value, low);
        for (uint32_t l = 0; l < g->locals; l++) {
            high[l] = low[l] >> 63;
        }
        return;
    }
    for (uint32_t j = 0; j < g->rows; j++) {
        s->part[0][j] = value[j] & 0xffffffff;
        s->part[1][j] = value[j] >> 32;
    }
    sum_words(s, g, s->part[0], low);
    sum_words(s, g, s->part[1], high);
    for (uint32_t l = 0; l < g->locals; l++) {
        __int128 sum = (__int128)high[l] * ((__int128)1 << 32) + low[l];

        low[l] = (int64_t)(uint64_t)sum;
        high[l] = (int64_t)(sum >> 64);
    }
}

void sums_count(struct sums *s, const struct grouping *g, const uint8_t *present, uint32_t *out)
{
    (void)s;
    memset(out, 0, g->locals * sizeof(*out));
    for (uint32_t j = 0; j < g->rows; j++) {
        out[g->local[j]] += present[j];
    }
}

void sums_least(struct sums *s, const struct grouping *g, const int64_t *restrict value, int64_t *out)
{
    const uint16_t *local = g->local;
    uint32_t lanes = g->locals <= FEW_GROUPS ? 4 : 1;
    int64_t *restrict lane = lanes == 4 ? s->lane.word : out;
    uint32_t j = 0;

    for (uint32_t i = 0; i < g->locals * lanes; i++) {
        lane[i] = INT64_MAX;
    }
    if (lanes == 4) {
        for (; j + 4 <= g->rows; j += 4) {
            for (uint32_t k = 0; k < 4; k++) {
                int64_t *p = &lane[local[j + k] * 4 + k];

                *p = value[j + k] < *p ? value[j + k] : *p;
            }
        }
    }
    for (; j < g->rows; j++) {
        int64_t *p = &lane[local[j] * lanes];

        *p = value[j] < *p ? value[j] : *p;
    }
    for (uint32_t l = 0; lanes == 4 && l < g->locals; l++) {
        const int64_t *p = lane + (size_t)l * 4;
        int64_t a = p[0] < p[1] ? p[0] : p[1];
        int64_t b = p[2] < p[3] ? p[2] : p[3];

        out[l] = a < b ? a : b;
    }
}

void sums_greatest(struct sums *s, const struct grouping *g, const int64_t *restrict value, int64_t *out)
{
    const uint16_t *local = g->local;
    uint32_t lanes = g->locals <= FEW_GROUPS ? 4 : 1;
    int64_t *restrict lane = lanes == 4 ? s->lane.word : out;
    uint32_t j = 0;

    for (uint32_t i = 0; i < g->locals * lanes; i++) {
        lane[i] = INT64_MIN;
    }
    if (lanes == 4) {
        for (; j + 4 <= g->rows; j += 4) {
            for (uint32_t k = 0; k < 4; k++) {
                int64_t *p = &lane[local[j + k] * 4 + k];

                *p = value[j + k] > *p ? value[j + k] : *p;
            }
        }
    }
    for (; j < g->rows; j++) {
        int64_t *p = &lane[local[j] * lanes];

        *p = value[j] > *p ? value[j] : *p;
    }
    for (uint32_t l = 0; lanes == 4 && l < g->locals; l++) {
        const int64_t *p = lane + (size_t)l * 4;
        int64_t a = p[0] > p[1] ? p[0] : p[1];
        int64_t b = p[2] > p[3] ? p[2] : p[3];

        out[l] = a > b ? a : b;
    }
}
