#include "worker/kernel/aggregate_key.h"

#include <string.h>

static bool key_missing(const struct vector *v, uint32_t row)
{
    if (!vector_present(v, row)) {
        return true;
    }
    return v->type == TYPE_FLOAT64 && ((const double *)v->values)[row] != ((const double *)v->values)[row];
}

void keys_choose(struct groups *g, const struct batch *batch, struct grouping *out)
{
    bool check = false;

    out->rows = batch->selected;
    out->row = batch->selection;
    for (uint32_t k = 0; k < g->keys; k++) {
        const struct vector *v = &batch->column[g->key[k].column];

        check = check || v->validity != NULL || v->type == TYPE_FLOAT64;
    }
    if (!check) {
        return;
    }
    uint32_t n = 0;

    for (uint32_t j = 0; j < batch->selected; j++) {
        uint32_t row = batch_row(batch, j);
        bool keep = true;

        for (uint32_t k = 0; k < g->keys; k++) {
            keep = keep && !key_missing(&batch->column[g->key[k].column], row);
        }
        g->row[n] = (uint16_t)row;
        n += keep;
    }
    out->rows = n;
    out->row = n == batch->rows ? NULL : g->row;
}

static int encode_dict(struct group_key *key, const struct vector *v, const struct grouping *rows,
                       struct memory *memory, struct error *err)
{
    const uint32_t *code = v->values;
    uint32_t *out = key->id_room;
    uint32_t n = rows->rows;
    uint32_t unknown = 0;
    uint32_t *id;
    int rc = remap_open(&key->remap, memory, v, &id, err);

    if (rc < 0) {
        return rc;
    }
    if (rows->row == NULL && key->remap.identity) {
        key->id = code;
        return 0;
    }
    if (rows->row == NULL) {
        for (uint32_t j = 0; j < n; j++) {
            out[j] = id[code[j]];
            unknown |= out[j];
        }
    } else {
        for (uint32_t j = 0; j < n; j++) {
            out[j] = id[code[rows->row[j]]];
            unknown |= out[j];
        }
    }
    key->id = out;
    if (unknown >> 31 == 0) {
        return 0;
    }
    for (uint32_t j = 0; j < n; j++) {
        uint32_t c = code[rows->row != NULL ? rows->row[j] : j];

        if (id[c] == REMAP_NONE) {
            const struct string_view *s = &v->dictionary->entry[c];

            rc = intern_add(&key->intern, *s, intern_hash(*s), &id[c], err);
            if (rc < 0) {
                return rc;
            }
        }
        out[j] = id[c];
    }
    remap_added(&key->remap);
    return 0;
}

static int encode_strings(struct groups *g, struct group_key *key, const struct vector *v,
                          const struct grouping *rows, struct error *err)
{
    const struct string_view *s = v->values;
    struct intern *intern = &key->intern;

    for (uint32_t j = 0; j < rows->rows; j++) {
        g->hash[j] = intern_hash(s[rows->row != NULL ? rows->row[j] : j]);
    }
    for (uint32_t j = 0; j < rows->rows; j++) {
        // Three memory accesses that depend on each other: the slot, the entry, its bytes.
        if (j + 3 * GROUP_AHEAD < rows->rows) {
            intern_prefetch(intern, 0, g->hash[j + 3 * GROUP_AHEAD]);
            intern_prefetch(intern, 1, g->hash[j + 2 * GROUP_AHEAD]);
            intern_prefetch(intern, 2, g->hash[j + GROUP_AHEAD]);
        }
        int rc =
            intern_add(intern, s[rows->row != NULL ? rows->row[j] : j], g->hash[j], &key->id_room[j], err);

        if (rc < 0) {
            return rc;
        }
    }
    key->id = key->id_room;
    return 0;
}

static void encode_words(struct group_key *key, const struct vector *v, const struct grouping *rows)
{
    const int64_t *in = v->values;

    key->value = in;
    if (rows->row != NULL) {
        for (uint32_t j = 0; j < rows->rows; j++) {
            key->value_room[j] = in[rows->row[j]];
        }
        key->value = key->value_room;
    }
    if (key->type == TYPE_FLOAT64) {
        // -0.0 and 0.0 are one group.
        for (uint32_t j = 0; j < rows->rows; j++) {
            double value;

            memcpy(&value, &key->value[j], sizeof(value));
            value += 0.0;
            memcpy(&key->value_room[j], &value, sizeof(value));
        }
        key->value = key->value_room;
    }
}

int keys_encode(struct groups *g, const struct batch *batch, const struct grouping *rows, struct error *err)
{
    for (uint32_t k = 0; k < g->keys; k++) {
        struct group_key *key = &g->key[k];
        const struct vector *v = &batch->column[key->column];
        int rc = 0;

        if (key->type == TYPE_BOOL) {
            const uint8_t *in = v->values;

            for (uint32_t j = 0; j < rows->rows; j++) {
                key->id_room[j] = in[rows->row != NULL ? rows->row[j] : j];
            }
            key->id = key->id_room;
        } else if (key->type != TYPE_STRING) {
            encode_words(key, v, rows);
        } else if (v->type == TYPE_DICT) {
            rc = encode_dict(key, v, rows, g->memory, err);
        } else {
            rc = encode_strings(g, key, v, rows, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}
