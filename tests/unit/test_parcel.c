// Payload frames that came with DONE, found by worker and range.
#include "broker/parcel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/payload.h"

enum { TASKS_MAX = 64 };

// Encodings of 20 + i % 3 bytes, each full of its number.
static uint32_t sizes[TASKS_MAX];

static struct buffer *make_frame(uint32_t tasks, uint8_t number)
{
    uint8_t data[TASKS_MAX * 24];
    struct buffer *frame = NULL;
    size_t used = 0;

    for (uint32_t i = 0; i < tasks; i++) {
        sizes[i] = 20 + i % 3;
        memset(data + used, number + (int)i, sizes[i]);
        used += sizes[i];
    }
    assert_int_equal(payload_encode(data, used, PAYLOAD_AUTO, &frame, NULL), 0);
    return frame;
}

static void name(struct parcels *parcels, uint32_t job, uint32_t layer, uint32_t first, uint32_t count)
{
    assert_int_equal(parcels_name(parcels, &(struct task_range){job, layer, first, count}), 0);
}

static void test_found_by_range(void **state)
{
    struct parcels parcels = {0};
    const struct segment *segment;
    const uint8_t *data;
    size_t size;

    (void)state;
    assert_null(parcels_find(&parcels, 1, 1, 0, 0));
    // One frame for two ranges of a layer, not in order; another worker's for the same tasks.
    assert_int_equal(parcels_add(&parcels, 1, make_frame(30, 0), 30, sizes, NULL), 0);
    name(&parcels, 5, 2, 100, 10);
    name(&parcels, 5, 2, 50, 20);
    assert_int_equal(parcels_add(&parcels, 2, make_frame(1, 99), 1, sizes, NULL), 0);
    name(&parcels, 5, 2, 55, 1);

    segment = parcels_find(&parcels, 1, 5, 2, 55);
    assert_non_null(segment);
    assert_int_equal(segment->range.first, 50);
    assert_int_equal(segment->at, 10);
    assert_int_equal(segment->parcel, 0);
    assert_int_equal(parcel_open(&parcels.parcel[0], 15, 2, &data, &size, NULL), 0);
    assert_int_equal(size, sizes[15] + sizes[16]);
    assert_int_equal(data[0], 15);
    assert_int_equal(data[size - 1], 16);

    // Behind and between: the next one; of another worker, layer, job: none.
    assert_int_equal(parcels_find(&parcels, 1, 5, 2, 0)->range.first, 50);
    assert_int_equal(parcels_find(&parcels, 1, 5, 2, 70)->range.first, 100);
    assert_null(parcels_find(&parcels, 1, 5, 2, 110));
    assert_null(parcels_find(&parcels, 1, 5, 3, 55));
    assert_null(parcels_find(&parcels, 1, 4, 2, 55));
    assert_null(parcels_find(&parcels, 3, 5, 2, 55));
    assert_int_equal(parcels_find(&parcels, 2, 5, 2, 0)->parcel, 1);

    parcels_reset(&parcels);
    assert_null(parcels_find(&parcels, 1, 5, 2, 55));
    assert_int_equal(parcels.bytes, 0);
    parcels_fini(&parcels);
}

// Against a plain array of who said what first.
static void test_overlaps(void **state)
{
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct parcels parcels = {0};
        int said[200][2];

        memset(said, -1, sizeof(said));
        for (int p = 0; p < 12; p++) {
            uint32_t first = (uint32_t)(rand_r(&seed) % 100), count = 1 + (uint32_t)(rand_r(&seed) % 40);

            assert_int_equal(parcels_add(&parcels, 1, make_frame(count, 0), count, sizes, NULL), 0);
            name(&parcels, 1, 0, first, count);
            for (uint32_t i = 0; i < count; i++) {
                said[first + i][0] = 1;
            }
        }
        for (uint32_t i = 0; i < 200; i++) {
            const struct segment *segment = parcels_find(&parcels, 1, 1, 0, i);
            bool here = segment != NULL && segment->range.first <= i;

            assert_int_equal(here, said[i][0] == 1);
            if (here) { // and its place is within the frame
                assert_true(segment->at + (i - segment->range.first) < parcels.parcel[segment->parcel].tasks);
            }
        }
        parcels_fini(&parcels);
    }
}

static void test_sizes_that_lie(void **state)
{
    struct parcels parcels = {0};
    struct error err = {0};
    struct buffer *frame = make_frame(3, 0);
    uint8_t *copy;
    struct buffer *damaged = buffer_create(frame->size, &copy);
    const uint8_t *data;
    size_t size;

    (void)state;
    assert_int_equal(parcels_add(&parcels, 1, buffer_ref(frame), 2, sizes, &err), -EBADMSG);
    assert_int_equal(parcels.count, 0);
    memcpy(copy, frame->data, frame->size);
    copy[frame->size - 1] ^= 1;
    assert_int_equal(parcels_add(&parcels, 1, damaged, 3, sizes, &err), 0); // nobody has looked yet
    assert_int_equal(parcel_open(&parcels.parcel[0], 0, 1, &data, &size, &err), -EBADMSG);
    copy = NULL;
    assert_int_equal(parcels_add(&parcels, 1, buffer_slice(frame, 0, 10), 3, sizes, &err), -EBADMSG);
    buffer_unref(frame);
    parcels_fini(&parcels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_range),
        cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_sizes_that_lie),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
