#define XXH_INLINE_ALL
#include "proto/partition.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proto/arena.h"
#include "proto/schema.h"
#include "proto/table.pb-c.h"

enum { ALIGN = 64, HEADER = PARTITION_HEADER };

static const uint8_t magic[4] = {'D', 'P', 'T', '1'};

static struct partition *create(enum partition_kind kind, struct table *table, struct buffer *bytes)
{
    struct partition *p = malloc(sizeof(*p));

    if (p == NULL) {
        table_unref(table);
        buffer_unref(bytes);
        return NULL;
    }
    p->kind = kind;
    p->table = table;
    p->bytes = bytes;
    p->sealed = false;
    p->checksum = 0;
    atomic_init(&p->intact_ms, 0);
    atomic_init(&p->refs, 1);
    return p;
}

struct partition *partition_from_table(struct table *table)
{
    return create(PARTITION_TABLE, table, NULL);
}

struct partition *partition_from_bytes(struct buffer *bytes)
{
    return create(PARTITION_BYTES, NULL, bytes);
}

struct partition *partition_ref(struct partition *p)
{
    if (p != NULL) {
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    }
    return p;
}

void partition_unref(struct partition *p)
{
    if (p != NULL && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) {
        table_unref(p->table);
        buffer_unref(p->bytes);
        free(p);
    }
}

size_t partition_bytes(const struct partition *p)
{
    size_t bytes = sizeof(*p);

    if (p->bytes != NULL) {
        bytes += sizeof(*p->bytes) + p->bytes->size;
    }
    if (p->table != NULL) {
        bytes += sizeof(*p->table) + p->table->columns * sizeof(*p->table->column) + table_bytes(p->table);
    }
    return bytes;
}

static size_t padded(size_t size)
{
    return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

// ---- what the header says about the buffers ------------------------------------------

enum { PIECES_MAX = 4 };

// The buffers of one column, in the order in which they are encoded.
struct layout {
    size_t size[PIECES_MAX];
    size_t count;
};

static void add_piece(struct layout *l, uint64_t size)
{
    l->size[l->count++] = size;
}

// Sizes are below 2^60 for rows, entries and string_bytes below 2^56.
static void column_layout(enum type type, uint64_t rows, bool nulls, uint64_t entries, uint64_t string_bytes,
                          struct layout *l)
{
    l->count = 0;
    if (nulls) {
        add_piece(l, (rows + 7) / 8);
    }
    switch (type) {
    case TYPE_BOOL:
        add_piece(l, (rows + 7) / 8);
        break;
    case TYPE_INT64:
    case TYPE_FLOAT64:
        add_piece(l, rows * 8);
        break;
    case TYPE_STRING:
        add_piece(l, (rows + 1) * 4);
        add_piece(l, string_bytes);
        break;
    case TYPE_DICT:
        add_piece(l, rows * 4);
        add_piece(l, (entries + 1) * 4);
        add_piece(l, string_bytes);
        break;
    }
}

// ---- encode --------------------------------------------------------------------------

static const int32_t *offsets_of(const struct column *strings)
{
    static const int32_t none[1] = {0};

    return strings->offsets != NULL ? (const int32_t *)(const void *)strings->offsets->data : none;
}

static uint64_t strings_size(const struct column *strings)
{
    const int32_t *offset = offsets_of(strings);

    return (uint64_t)(offset[strings->length] - offset[0]);
}

// What the offsets say is there: they may have been damaged since they were checked.
static bool strings_fit(const struct column *strings)
{
    const int32_t *offset = offsets_of(strings);
    int64_t end = offset[strings->length];

    return offset[0] >= 0 && end >= offset[0] &&
           (end == offset[0] || (strings->values != NULL && (uint64_t)end <= strings->values->size));
}

static int make_header(const struct table *table, struct arena *arena, Dray__TableHeader *header)
{
    dray__table_header__init(header);
    header->rows = (uint64_t)table->rows;
    header->n_column = table->columns;
    header->column = arena_array(arena, table->columns, sizeof(Dray__ColumnHeader *));

    Dray__ColumnHeader *column = arena_array(arena, table->columns, sizeof(Dray__ColumnHeader));

    if (header->column == NULL || column == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < table->columns; i++) {
        const struct column *c = &table->column[i];
        const struct column *strings = c->type == TYPE_DICT ? c->dictionary : c;
        Dray__ColumnHeader *h = &column[i];

        dray__column_header__init(h);
        header->column[i] = h;
        h->name.data = (uint8_t *)c->name;
        h->name.len = strlen(c->name);
        h->type = (uint32_t)c->type;
        h->has_nulls = c->nulls > 0;
        h->nulls = (uint64_t)c->nulls;
        if (strings->type == TYPE_STRING) {
            if (!strings_fit(strings)) {
                return -EBADMSG;
            }
            h->has_string_bytes = true;
            h->string_bytes = strings_size(strings);
        }
        if (c->type == TYPE_DICT) {
            h->has_entries = true;
            h->entries = (uint64_t)strings->length;
        }
    }
    return 0;
}

// Bytes [begin, end) of an encoding, which is written from its start to its end.
struct window {
    uint8_t *to;
    uint64_t begin, end;
    uint64_t at;
    XXH3_state_t *hash; // all of it goes in there instead; NULL: it does not
};

static void hash_zeros(XXH3_state_t *hash, uint64_t size)
{
    static const uint8_t zeros[ALIGN] = {0};

    for (; size > ALIGN; size -= ALIGN) {
        XXH3_64bits_update(hash, zeros, ALIGN);
    }
    XXH3_64bits_update(hash, zeros, (size_t)size);
}

// `from` NULL: zeros.
static void put(struct window *w, const void *from, uint64_t size)
{
    uint64_t first = w->at > w->begin ? w->at : w->begin;
    uint64_t last = w->at + size < w->end ? w->at + size : w->end;

    if (w->hash != NULL) {
        if (from == NULL) {
            hash_zeros(w->hash, size);
        } else {
            XXH3_64bits_update(w->hash, from, (size_t)size);
        }
    } else if (first < last && from == NULL) {
        memset(w->to + (first - w->begin), 0, last - first);
    } else if (first < last) {
        memcpy(w->to + (first - w->begin), (const uint8_t *)from + (first - w->at), last - first);
    }
    w->at += size;
}

static void put_padding(struct window *w)
{
    put(w, NULL, padded(w->at) - w->at);
}

// A bitmap with the bits past its end cleared, so that equal tables have equal encodings.
static void put_bits(struct window *w, const struct buffer *bits, int64_t length)
{
    size_t whole = (size_t)length / 8;

    if (whole > 0) {
        put(w, bits->data, whole);
    }
    if (length % 8 != 0) {
        uint8_t last = (uint8_t)(bits->data[whole] & ((1U << (length % 8)) - 1));

        put(w, &last, 1);
    }
    put_padding(w);
}

// Offsets from 0 up.
static void put_offsets(struct window *w, const struct column *strings)
{
    const int32_t *offset = offsets_of(strings);
    uint64_t count = (uint64_t)strings->length + 1;
    uint64_t i = w->begin > w->at ? (w->begin - w->at) / sizeof(int32_t) : 0; // before the window
    int32_t some[1024];

    if (offset[0] == 0) {
        put(w, offset, count * sizeof(int32_t)); // as they are
        put_padding(w);
        return;
    }
    i = i < count ? i : count;
    w->at += i * sizeof(int32_t);
    while (i < count && w->at < w->end) {
        uint64_t n = count - i < 1024 ? count - i : 1024;

        for (uint64_t k = 0; k < n; k++) {
            some[k] = offset[i + k] - offset[0];
        }
        put(w, some, n * sizeof(int32_t));
        i += n;
    }
    w->at += (count - i) * sizeof(int32_t);
    put_padding(w);
}

// Offsets, then the bytes between the first and the last of them.
static void put_strings(struct window *w, const struct column *strings)
{
    put_offsets(w, strings);
    if (strings_size(strings) > 0) {
        put(w, strings->values->data + offsets_of(strings)[0], strings_size(strings));
    }
    put_padding(w);
}

static void put_values(struct window *w, const struct column *c, size_t width)
{
    if (c->length > 0) {
        put(w, c->values->data, (uint64_t)c->length * width);
    }
    put_padding(w);
}

// The pieces in the order of column_layout.
static void put_column(struct window *w, const struct column *c)
{
    if (c->nulls > 0) {
        put_bits(w, c->validity, c->length);
    }
    switch (c->type) {
    case TYPE_BOOL:
        put_bits(w, c->values, c->length);
        break;
    case TYPE_INT64:
    case TYPE_FLOAT64:
        put_values(w, c, sizeof(int64_t));
        break;
    case TYPE_DICT:
        put_values(w, c, sizeof(int32_t));
        put_strings(w, c->dictionary);
        break;
    case TYPE_STRING:
        put_strings(w, c);
        break;
    }
}

static void put_header(struct window *w, enum partition_kind kind, uint32_t header_size)
{
    uint8_t header[HEADER] = {0};

    memcpy(header, magic, sizeof(magic));
    header[4] = (uint8_t)kind;
    memcpy(header + 8, &header_size, sizeof(header_size));
    put(w, header, sizeof(header));
}

// A buffer for bytes [offset, offset + length) of `total`, cut at the end.
static int open_window(struct window *w, uint64_t offset, uint64_t length, uint64_t total,
                       struct buffer **out, struct error *err)
{
    if (offset >= total) {
        return error_set(err, EINVAL, "there is no byte %llu in an encoding of %llu",
                         (unsigned long long)offset, (unsigned long long)total);
    }
    w->begin = offset;
    w->end = length < total - offset ? offset + length : total;
    w->at = 0;
    w->hash = NULL;
    *out = buffer_create((size_t)(w->end - w->begin), &w->to);
    return *out != NULL ? 0 : error_no_memory(err);
}

void partition_encode_bytes(const uint8_t *data, size_t size, uint8_t *out)
{
    static const uint8_t header[HEADER] = {'D', 'P', 'T', '1', PARTITION_BYTES};

    memcpy(out, header, HEADER);
    if (size > 0) {
        memcpy(out + HEADER, data, size);
    }
}

static int encode_bytes(const struct buffer *bytes, uint64_t offset, uint64_t length, struct buffer **out,
                        uint64_t *total, struct error *err)
{
    struct window w;
    int rc = open_window(&w, offset, length, HEADER + bytes->size, out, err);

    if (rc < 0) {
        return rc;
    }
    put_header(&w, PARTITION_BYTES, 0);
    if (bytes->size > 0) {
        put(&w, bytes->data, bytes->size);
    }
    *total = w.at;
    return 0;
}

static uint64_t table_encoded_bytes(const Dray__TableHeader *header, size_t header_size)
{
    uint64_t total = padded(HEADER + header_size);

    for (size_t i = 0; i < header->n_column; i++) {
        const Dray__ColumnHeader *h = header->column[i];
        struct layout layout;

        column_layout((enum type)h->type, header->rows, h->nulls > 0, h->entries, h->string_bytes, &layout);
        for (size_t k = 0; k < layout.count; k++) {
            total += padded(layout.size[k]);
        }
    }
    return total;
}

// `out` NULL: the whole goes to `to`, which has room for `length` bytes, or into `hash`, or (both NULL) is
// only measured.
static int encode_table(const struct table *table, uint64_t offset, uint64_t length, uint8_t *to,
                        XXH3_state_t *hash, struct buffer **out, uint64_t *total, struct error *err)
{
    struct arena arena;
    Dray__TableHeader header;
    struct window w;
    uint8_t *packed;
    size_t header_size;
    uint64_t size;
    int rc;

    arena_init(&arena, 0);
    rc = make_header(table, &arena, &header);
    if (rc < 0) {
        rc = rc == -EBADMSG
                 ? error_set(err, EBADMSG, "a table was damaged in memory: its offsets point outside")
                 : rc;
        goto out;
    }
    header_size = dray__table_header__get_packed_size(&header);
    if (header_size > SCHEMA_BYTES_MAX) {
        rc = error_set(err, EFBIG, "the column names of a table are too long: %zu bytes", header_size);
        goto out;
    }
    size = table_encoded_bytes(&header, header_size);
    if (out == NULL && to == NULL && hash == NULL) {
        *total = size;
        rc = 0;
        goto out;
    }
    packed = arena_alloc(&arena, header_size);
    if (packed == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    dray__table_header__pack(&header, packed);
    w = (struct window){.to = to, .end = size, .hash = hash};
    if (out != NULL) {
        rc = open_window(&w, offset, length, size, out, err);
    } else if (hash == NULL) {
        rc = size == length ? 0
                            : error_set(err, EINVAL, "an encoding of %llu bytes does not go to %llu",
                                        (unsigned long long)size, (unsigned long long)length);
    }
    if (rc < 0) {
        goto out;
    }
    put_header(&w, PARTITION_TABLE, (uint32_t)header_size);
    put(&w, packed, header_size);
    put_padding(&w);
    for (uint32_t i = 0; i < table->columns; i++) {
        put_column(&w, &table->column[i]);
    }
    *total = w.at;
out:
    arena_fini(&arena);
    return rc == -ENOMEM ? error_no_memory(err) : rc;
}

int partition_encoded_bytes(const struct partition *p, uint64_t *size, struct error *err)
{
    if (p->kind == PARTITION_TABLE) {
        return encode_table(p->table, 0, 0, NULL, NULL, NULL, size, err);
    }
    *size = HEADER + p->bytes->size;
    return 0;
}

int partition_encode_to(const struct partition *p, uint8_t *to, uint64_t size, struct error *err)
{
    if (p->kind == PARTITION_TABLE) {
        uint64_t total;

        return encode_table(p->table, 0, size, to, NULL, NULL, &total, err);
    }
    if (size != HEADER + p->bytes->size) {
        return error_set(err, EINVAL, "an encoding of %zu bytes does not go to %llu", HEADER + p->bytes->size,
                         (unsigned long long)size);
    }
    struct window w = {.to = to, .end = size};

    put_header(&w, PARTITION_BYTES, 0);
    if (p->bytes->size > 0) {
        put(&w, p->bytes->data, p->bytes->size);
    }
    return 0;
}

int partition_encode_piece(const struct partition *p, uint64_t offset, uint64_t length, struct buffer **out,
                           uint64_t *total, struct error *err)
{
    return p->kind == PARTITION_TABLE ? encode_table(p->table, offset, length, NULL, NULL, out, total, err)
                                      : encode_bytes(p->bytes, offset, length, out, total, err);
}

int partition_encode(const struct partition *p, struct buffer **out, struct error *err)
{
    uint64_t total;

    return partition_encode_piece(p, 0, UINT64_MAX, out, &total, err);
}

// ---- checksum ------------------------------------------------------------------------

static int make_checksum(const struct partition *p, uint64_t *out, struct error *err)
{
    XXH3_state_t hash;
    uint64_t total;
    int rc = 0;

    XXH3_64bits_reset(&hash);
    if (p->kind == PARTITION_TABLE) {
        rc = encode_table(p->table, 0, 0, NULL, &hash, NULL, &total, err);
    } else {
        struct window w = {.end = HEADER + p->bytes->size, .hash = &hash};

        put_header(&w, PARTITION_BYTES, 0);
        if (p->bytes->size > 0) {
            put(&w, p->bytes->data, p->bytes->size);
        }
    }
    if (rc == 0) {
        *out = XXH3_64bits_digest(&hash);
    }
    return rc;
}

int partition_seal(struct partition *p, struct error *err)
{
    int rc;

    if (p->sealed) { // and perhaps shared: nothing is written any more
        return 0;
    }
    rc = make_checksum(p, &p->checksum, err);
    p->sealed = rc == 0;
    return rc;
}

bool partition_intact(const struct partition *p)
{
    uint64_t checksum;
    int rc = p->sealed ? make_checksum(p, &checksum, NULL) : -ENOMEM;

    return rc == -ENOMEM || (rc == 0 && checksum == p->checksum);
}

// ---- decode --------------------------------------------------------------------------

// Where the next buffer of an encoding begins.
struct reader {
    struct buffer *encoded;
    size_t at;
};

// The next `size` bytes as a slice; *out stays NULL on failure.
static int take_piece(struct reader *r, size_t size, struct buffer **out, struct error *err)
{
    // An encoding is a multiple of ALIGN long, so what is padded fits when the bytes do.
    if (size > r->encoded->size - r->at) {
        return error_set(err, EBADMSG,
                         "a partition is cut off: a buffer of %zu bytes begins at byte %zu of %zu", size,
                         r->at, r->encoded->size);
    }
    *out = buffer_slice(r->encoded, r->at, size);
    if (*out == NULL) {
        return error_no_memory(err);
    }
    r->at += padded(size);
    return 0;
}

static int check_column_header(const Dray__ColumnHeader *h, struct error *err)
{
    if (h->type < TYPE_BOOL || h->type > TYPE_DICT) {
        return error_set(err, EBADMSG, "a partition has a column of the unknown type %u", h->type);
    }
    bool strings = h->type == TYPE_STRING || h->type == TYPE_DICT;

    if (h->has_string_bytes != strings || h->has_entries != (h->type == TYPE_DICT) ||
        h->string_bytes > INT32_MAX || h->entries > INT32_MAX) {
        return error_set(err, EBADMSG, "a partition has a column of type %s with impossible sizes",
                         type_name((enum type)h->type));
    }
    if (memchr(h->name.data, '\0', h->name.len) != NULL) {
        return error_set(err, EBADMSG, "a partition has a column with a zero byte in its name");
    }
    return 0;
}

static int read_column(struct reader *r, const Dray__ColumnHeader *h, int64_t rows, struct column *c,
                       struct error *err)
{
    struct layout l;
    struct buffer **piece[PIECES_MAX];
    size_t pieces = 0;
    int rc = check_column_header(h, err);

    if (rc < 0) {
        return rc;
    }
    c->type = (enum type)h->type;
    c->length = rows;
    c->nulls = (int64_t)h->nulls;
    c->name = strndup(h->name.len > 0 ? (const char *)h->name.data : "", h->name.len);
    if (c->name == NULL) {
        return error_no_memory(err);
    }
    if (h->nulls > 0) {
        piece[pieces++] = &c->validity;
    }
    if (c->type == TYPE_STRING) {
        piece[pieces++] = &c->offsets;
    }
    piece[pieces++] = &c->values;
    if (c->type == TYPE_DICT) {
        struct column *d = calloc(1, sizeof(*d));

        if (d == NULL || (d->name = strdup("")) == NULL) {
            free(d);
            return error_no_memory(err);
        }
        c->dictionary = d;
        d->type = TYPE_STRING;
        d->length = (int64_t)h->entries;
        piece[pieces++] = &d->offsets;
        piece[pieces++] = &d->values;
    }
    column_layout(c->type, (uint64_t)rows, h->nulls > 0, h->entries, h->string_bytes, &l);
    for (size_t i = 0; i < l.count && rc == 0; i++) {
        rc = take_piece(r, l.size[i], piece[i], err);
    }
    return rc;
}

static int decode_table(struct buffer *encoded, uint32_t header_size, struct partition **out,
                        struct error *err)
{
    struct arena arena;
    ProtobufCMessage *message;
    struct table *table = NULL;
    struct partition *p;
    int rc;

    arena_init(&arena, 0);
    if (encoded->size % ALIGN != 0 || header_size > encoded->size - HEADER) {
        rc = error_set(err, EBADMSG, "a partition of %zu bytes with a header of %u bytes is cut off",
                       encoded->size, header_size);
        goto out;
    }
    rc = schema_unpack(&dray__table_header__descriptor, encoded->data + HEADER, header_size, &arena, &message,
                       err);
    if (rc < 0) {
        goto out;
    }
    const Dray__TableHeader *header = (const Dray__TableHeader *)message;

    // No column holds more than 8 rows a byte; a table without columns is only a count.
    if (header->n_column > TABLE_COLUMNS_MAX || header->rows > (uint64_t)INT64_MAX / 4096) {
        rc = error_set(err, EBADMSG, "a partition claims %llu rows and %zu columns",
                       (unsigned long long)header->rows, header->n_column);
        goto out;
    }
    table = table_create((uint32_t)header->n_column, (int64_t)header->rows);
    if (table == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    struct reader r = {.encoded = encoded, .at = padded(HEADER + (size_t)header_size)};

    for (uint32_t i = 0; i < table->columns && rc == 0; i++) {
        rc = read_column(&r, header->column[i], table->rows, &table->column[i], err);
    }
    if (rc == 0 && r.at != encoded->size) {
        rc = error_set(err, EBADMSG, "a partition has %zu bytes too many", encoded->size - r.at);
    }
    if (rc == 0) {
        rc = table_check(table, err);
    }
    if (rc < 0) {
        goto out;
    }
    p = partition_from_table(table);
    table = NULL;
    if (p == NULL) {
        rc = error_no_memory(err);
        goto out;
    }
    *out = p;
out:
    table_unref(table);
    arena_fini(&arena);
    return rc;
}

static int decode_bytes(struct buffer *encoded, struct partition **out, struct error *err)
{
    struct buffer *bytes = buffer_slice(encoded, HEADER, encoded->size - HEADER);
    struct partition *p = bytes != NULL ? partition_from_bytes(bytes) : NULL;

    if (p == NULL) {
        return error_no_memory(err);
    }
    *out = p;
    return 0;
}

// Bytes that begin at an odd place (inside a socket's frame) are moved once.
static struct buffer *aligned(struct buffer *encoded)
{
    uint8_t *data;

    if ((uintptr_t)encoded->data % sizeof(int64_t) == 0) {
        return buffer_ref(encoded);
    }
    struct buffer *copy = buffer_create(encoded->size, &data);

    if (copy != NULL) {
        memcpy(data, encoded->data, encoded->size);
    }
    return copy;
}

int partition_decode(struct buffer *encoded, struct partition **out, struct error *err)
{
    const uint8_t *data = encoded->data;
    uint32_t header_size;
    uint32_t zero;

    if (encoded->size < HEADER || memcmp(data, magic, sizeof(magic)) != 0) {
        return error_set(err, EBADMSG, "%zu bytes are not a partition", encoded->size);
    }
    memcpy(&header_size, data + 8, sizeof(header_size));
    memcpy(&zero, data + 12, sizeof(zero));
    if (data[5] != 0 || data[6] != 0 || data[7] != 0 || zero != 0) {
        return error_set(err, EBADMSG, "a partition has a header with stray bytes");
    }
    if (data[4] == PARTITION_BYTES && header_size == 0) {
        return decode_bytes(encoded, out, err);
    }
    if (data[4] == PARTITION_TABLE) {
        struct buffer *at = aligned(encoded);
        int rc = at != NULL ? decode_table(at, header_size, out, err) : error_no_memory(err);

        buffer_unref(at);
        return rc;
    }
    return error_set(err, EBADMSG, "a partition is of the unknown kind %u", data[4]);
}
