#define XXH_INLINE_ALL
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <xxhash.h>

#include "proto/partition.h"
#include "tests/unit/generate.h"

enum { COLUMNS = 5 };

static const enum type all_types[COLUMNS] = {TYPE_BOOL, TYPE_INT64, TYPE_FLOAT64, TYPE_STRING, TYPE_DICT};

static struct buffer *encode(const struct partition *p)
{
    struct buffer *encoded = NULL;
    struct error err = {0};

    if (partition_encode(p, &encoded, &err) != 0) {
        fail_msg("partition_encode: %s", err.text);
    }
    return encoded;
}

static struct buffer *copy_of(const void *data, size_t size)
{
    uint8_t *to;
    struct buffer *copy = buffer_create(size, &to);

    if (size > 0) {
        memcpy(to, data, size);
    }
    return copy;
}

static void assert_same_bytes(const struct buffer *a, const struct buffer *b)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static struct partition *random_partition(uint64_t *r, uint32_t rows_max)
{
    enum type types[8];
    uint32_t columns = random_below(r, 8);

    for (uint32_t i = 0; i < columns; i++) {
        types[i] = all_types[random_below(r, COLUMNS)];
    }
    return partition_from_table(random_table(r, types, columns, random_below(r, rows_max)));
}

static void check_piece(const struct partition *p, const struct buffer *whole, uint64_t offset,
                        uint64_t length)
{
    uint64_t rest = whole->size - offset;
    struct buffer *piece = NULL;
    uint64_t total = 0;

    assert_int_equal(partition_encode_piece(p, offset, length, &piece, &total, NULL), 0);
    assert_int_equal(total, whole->size);
    assert_int_equal(piece->size, length < rest ? length : rest);
    assert_memory_equal(piece->data, whole->data + offset, piece->size);
    buffer_unref(piece);
}

// A piece is the same bytes as there are in the whole.
static void test_pieces(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        uint64_t r = seed;
        struct partition *p = seed % 7 == 0 ? partition_from_bytes(copy_of("some bytes to be sent", 21))
                                            : random_partition(&r, seed % 5 == 0 ? 5000 : 200);
        struct buffer *whole = encode(p), *none = NULL;
        uint32_t size = (uint32_t)whole->size;
        uint64_t total;

        for (int i = 0; i < 50; i++) {
            check_piece(p, whole, random_below(&r, size), 1 + random_below(&r, i % 2 == 0 ? 100 : 2 * size));
        }
        check_piece(p, whole, size - 1, UINT64_MAX);
        assert_int_equal(partition_encode_piece(p, size, 1, &none, &total, NULL), -EINVAL);
        assert_int_equal(partition_encode_piece(p, UINT64_MAX, 1, &none, &total, NULL), -EINVAL);
        assert_null(none);
        buffer_unref(whole);
        partition_unref(p);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        uint64_t r = seed;
        struct partition *p = random_partition(&r, 300);
        struct buffer *encoded = encode(p);
        struct partition *back = NULL;
        struct error err = {0};

        if (partition_decode(encoded, &back, &err) != 0) {
            fail_msg("seed %d: %s", (int)seed, err.text);
        }
        assert_int_equal(back->kind, PARTITION_TABLE);
        assert_int_equal(back->table->rows, p->table->rows);
        assert_int_equal(back->table->columns, p->table->columns);
        for (uint32_t k = 0; k < p->table->columns; k++) {
            const struct column *a = &p->table->column[k];
            const struct column *b = &back->table->column[k];

            assert_string_equal(a->name, b->name);
            assert_int_equal(a->type, b->type);
            assert_int_equal(a->nulls, b->nulls);
            // A view, not a copy; and where loads of any width like it.
            assert_true(b->values->data >= encoded->data && b->values->data <= encoded->data + encoded->size);
            assert_int_equal((uintptr_t)b->values->data % 64, 0);
            for (int64_t i = 0; i < a->length; i++) {
                struct cell x = column_cell(a, i);
                struct cell y = column_cell(b, i);

                assert_true(cell_equal(&x, &y));
            }
        }
        struct buffer *again = encode(back);

        assert_same_bytes(encoded, again);
        buffer_unref(again);
        buffer_unref(encoded); // the partition keeps it
        assert_int_equal(table_check(back->table, &err), 0);
        assert_true(partition_bytes(back) >= table_bytes(back->table));
        partition_unref(back);
        partition_unref(p);
    }
}

// Equal tables are equal bytes: neither stray bits, nor unused room, nor a first offset shows.
static void test_canonical(void **state)
{
    (void)state;
    struct table *plain = table_create(2, 3);
    struct table *odd = table_create(2, 3);
    struct buffer *buffer;
    uint8_t *data;

    for (int i = 0; i < 2; i++) {
        struct table *t = i == 0 ? plain : odd;

        t->column[0] = (struct column){.type = TYPE_BOOL, .name = strdup("b"), .length = 3};
        t->column[1] = (struct column){.type = TYPE_STRING, .name = strdup("s"), .length = 3};
    }
    plain->column[0].values = buffer = buffer_create(1, &data);
    data[0] = 0x05;
    odd->column[0].values = buffer_create(100, &data);
    memset(data, 0xfd, 100);
    plain->column[1].offsets = buffer_create(16, &data);
    memcpy(data, (int32_t[]){0, 1, 1, 3}, 16);
    plain->column[1].values = copy_of("xyz", 3);
    odd->column[1].offsets = buffer_create(16, &data);
    memcpy(data, (int32_t[]){4, 5, 5, 7}, 16);
    odd->column[1].values = copy_of("....xyz....", 11);

    struct partition *a = partition_from_table(plain);
    struct partition *b = partition_from_table(odd);
    struct buffer *x = encode(a);
    struct buffer *y = encode(b);

    assert_same_bytes(x, y);
    buffer_unref(x);
    buffer_unref(y);
    partition_unref(a);
    partition_unref(b);
}

static void test_bytes(void **state)
{
    (void)state;
    struct partition *p = partition_from_bytes(copy_of("hello", 5));
    struct buffer *encoded = encode(p);
    struct partition *back = NULL;

    assert_int_equal(partition_decode(encoded, &back, NULL), 0);
    assert_int_equal(back->kind, PARTITION_BYTES);
    assert_int_equal(back->bytes->size, 5);
    assert_memory_equal(back->bytes->data, "hello", 5);
    assert_ptr_equal(back->bytes->data, encoded->data + 16);
    partition_ref(back);
    partition_unref(back);
    buffer_unref(encoded);
    partition_unref(back);
    partition_unref(p);
    p = partition_from_bytes(copy_of("", 0));
    encoded = encode(p);
    assert_int_equal(encoded->size, 16);
    assert_int_equal(partition_decode(encoded, &back, NULL), 0);
    assert_int_equal(back->bytes->size, 0);
    partition_unref(back);
    buffer_unref(encoded);
    partition_unref(p);
    partition_unref(NULL);
    assert_null(partition_ref(NULL));
}

// Every prefix, and one byte too many.
static void test_cut_off(void **state)
{
    (void)state;
    uint64_t r = 3;
    struct partition *p = partition_from_table(random_table(&r, all_types, COLUMNS, 20));
    struct buffer *encoded = encode(p);
    struct partition *none = NULL;

    for (size_t size = 0; size < encoded->size; size++) {
        struct buffer *part = copy_of(encoded->data, size);

        assert_int_equal(partition_decode(part, &none, NULL), -EBADMSG);
        buffer_unref(part);
    }
    uint8_t *data;
    struct buffer *longer = buffer_create(encoded->size + 64, &data);

    memset(data, 0, encoded->size + 64);
    memcpy(data, encoded->data, encoded->size);
    assert_int_equal(partition_decode(longer, &none, NULL), -EBADMSG);
    buffer_unref(longer);
    assert_null(none);
    buffer_unref(encoded);
    partition_unref(p);
}

// Bytes inside a frame may begin anywhere.
static void test_unaligned(void **state)
{
    (void)state;
    uint64_t r = 4;
    struct partition *p = partition_from_table(random_table(&r, all_types, COLUMNS, 50));
    struct buffer *encoded = encode(p);
    uint8_t *data;
    struct buffer *wide = buffer_create(encoded->size + 3, &data);

    memcpy(data + 3, encoded->data, encoded->size);

    struct buffer *shifted = buffer_slice(wide, 3, encoded->size);
    struct partition *back = NULL;

    assert_int_equal(partition_decode(shifted, &back, NULL), 0);

    struct buffer *again = encode(back);

    assert_same_bytes(encoded, again);
    buffer_unref(again);
    buffer_unref(shifted);
    buffer_unref(wide);
    buffer_unref(encoded);
    partition_unref(back);
    partition_unref(p);
}

// Damaged encodings are refused, or are sound tables all the same.
static void test_damage(void **state)
{
    (void)state;
    int refused = 0;
    int taken = 0;

    for (uint64_t seed = 0; seed < 20000; seed++) {
        uint64_t r = seed;
        struct partition *p = random_partition(&r, 20);
        struct buffer *encoded = encode(p);
        uint8_t *data = (uint8_t *)(uintptr_t)encoded->data;
        // Mostly in the headers, where it matters.
        size_t reach = random_below(&r, 2) == 0 && encoded->size > 128 ? 128 : encoded->size;
        size_t size = random_damage(&r, data, reach);
        struct buffer *damaged = copy_of(data, reach < encoded->size && size == reach ? encoded->size : size);
        struct partition *back = NULL;
        struct error err = {0};
        int rc = partition_decode(damaged, &back, &err);

        if (rc == 0) {
            taken++;
            if (back->kind == PARTITION_TABLE) {
                assert_int_equal(table_check(back->table, &err), 0);
                for (uint32_t k = 0; k < back->table->columns; k++) {
                    for (int64_t i = 0; i < back->table->rows; i++) {
                        column_cell(&back->table->column[k], i);
                    }
                }
                buffer_unref(encode(back));
            }
        } else {
            refused++;
            assert_int_equal(rc, -EBADMSG);
            assert_null(back);
            assert_true(err.text[0] != '\0');
        }
        partition_unref(back);
        buffer_unref(damaged);
        buffer_unref(encoded);
        partition_unref(p);
    }
    assert_true(refused > 1000 && taken > 1000);
}

// The checksum is that of the encoding, on either side of the wire.
static void test_checksum(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t r = seed;
        struct partition *p = seed % 7 == 0 ? partition_from_bytes(copy_of("some bytes to be kept", 21))
                                            : random_partition(&r, seed % 5 == 0 ? 5000 : 200);
        struct partition *there = NULL;
        struct buffer *whole = encode(p);

        assert_true(partition_intact(p)); // nothing to compare with yet
        assert_int_equal(partition_seal(p, NULL), 0);
        assert_true(p->checksum == XXH3_64bits(whole->data, whole->size));
        assert_true(partition_intact(p));
        assert_int_equal(partition_decode(whole, &there, NULL), 0);
        assert_int_equal(partition_seal(there, NULL), 0);
        assert_true(there->checksum == p->checksum);
        partition_unref(there);
        partition_unref(p);
        buffer_unref(whole);
    }
}

// A bit that is not what it was is noticed wherever it matters, offsets that point anywhere among them.
static void test_rot(void **state)
{
    uint32_t noticed = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        uint64_t r = seed;
        struct partition *made = seed % 7 == 0 ? partition_from_bytes(copy_of("some bytes to be kept", 21))
                                               : random_partition(&r, 60);
        struct buffer *whole = encode(made);
        struct buffer *own = copy_of(whole->data, whole->size), *again = NULL;
        struct partition *p = NULL;
        uint32_t at = random_below(&r, (uint32_t)whole->size);

        assert_int_equal(partition_decode(own, &p, NULL), 0);
        assert_int_equal(partition_seal(p, NULL), 0);
        ((uint8_t *)(uintptr_t)own->data)[at] ^= (uint8_t)(1U << random_below(&r, 8));
        bool same = partition_encode(p, &again, NULL) == 0 && again->size == whole->size &&
                    memcmp(again->data, whole->data, whole->size) == 0;

        assert_int_equal(partition_intact(p), same); // padding is nobody's
        noticed += !same;
        buffer_unref(again);
        partition_unref(p);
        partition_unref(made);
        buffer_unref(own);
        buffer_unref(whole);
    }
    assert_true(noticed > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_pieces),   cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_cut_off),  cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_checksum), cmocka_unit_test(test_rot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
