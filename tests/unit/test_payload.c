#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/payload.h"
#include "tests/unit/generate.h"

static uint8_t *random_bytes(uint64_t *r, size_t size, unsigned alphabet)
{
    uint8_t *data = malloc(size > 0 ? size : 1);

    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)random_below(r, alphabet);
    }
    return data;
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++) {
        uint64_t r = seed;
        size_t size = seed < 20 ? seed : random_below(&r, seed % 50 == 0 ? 3000000 : 5000);
        uint8_t *data = random_bytes(&r, size, 1 + random_below(&r, 256));
        enum payload_codec codec = (enum payload_codec)((int)random_below(&r, 3) - 1);
        struct buffer *frame = NULL;
        struct buffer *raw = NULL;

        assert_int_equal(payload_encode(data, size, codec, &frame, NULL), 0);
        assert_true(frame->size <= PAYLOAD_HEADER + size);
        assert_int_equal(payload_decode(frame->data, frame->size, &raw, NULL), 0);
        assert_int_equal(raw->size, size);
        assert_memory_equal(raw->data, data, size);
        buffer_unref(raw);
        buffer_unref(frame);
        free(data);
    }
}

static void test_codec_choice(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    uint64_t r = 5;
    uint8_t *noise = random_bytes(&r, SIZE, 256);
    uint8_t *text = random_bytes(&r, SIZE, 4);
    struct buffer *frame = NULL;

    assert_int_equal(payload_encode(noise, SIZE, PAYLOAD_AUTO, &frame, NULL), 0);
    assert_int_equal(frame->data[4], PAYLOAD_RAW);
    buffer_unref(frame);
    assert_int_equal(payload_encode(noise, SIZE, PAYLOAD_LZ4, &frame, NULL), 0); // would grow
    assert_int_equal(frame->data[4], PAYLOAD_RAW);
    buffer_unref(frame);
    assert_int_equal(payload_encode(text, SIZE, PAYLOAD_AUTO, &frame, NULL), 0);
    assert_int_equal(frame->data[4], PAYLOAD_LZ4);
    assert_true(frame->size < SIZE / 10 * 9);
    buffer_unref(frame);
    assert_int_equal(payload_encode(text, SIZE, PAYLOAD_RAW, &frame, NULL), 0);
    assert_int_equal(frame->data[4], PAYLOAD_RAW);
    buffer_unref(frame);
    free(noise);
    free(text);
}

static void test_limits(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, FRAME_PAYLOAD_MAX + 1);
    struct buffer *frame = NULL;
    struct buffer *raw = NULL;

    assert_int_equal(payload_encode(data, FRAME_PAYLOAD_MAX + 1, PAYLOAD_AUTO, &frame, NULL), -EMSGSIZE);
    assert_int_equal(payload_encode(data, FRAME_PAYLOAD_MAX, PAYLOAD_AUTO, &frame, NULL), 0);
    assert_int_equal(payload_decode(frame->data, frame->size, &raw, NULL), 0);
    assert_int_equal(raw->size, FRAME_PAYLOAD_MAX);
    buffer_unref(raw);
    buffer_unref(frame);
    free(data);
}

static void test_lies(void **state)
{
    (void)state;
    struct buffer *frame = NULL;
    struct buffer *raw = NULL;
    uint8_t text[2000] = {0};
    uint8_t damaged[2000];
    struct error err = {0};

    assert_int_equal(payload_encode(text, sizeof(text), PAYLOAD_LZ4, &frame, NULL), 0);
    assert_int_equal(frame->data[4], PAYLOAD_LZ4);
    for (size_t size = 0; size < frame->size; size++) {
        assert_int_equal(payload_decode(frame->data, size, &raw, NULL), -EBADMSG);
    }
    memcpy(damaged, frame->data, frame->size);
    memcpy(damaged + 8, &(uint32_t){9 << 20}, 4);
    assert_int_equal(payload_decode(damaged, frame->size, &raw, NULL), -EBADMSG);
    memcpy(damaged + 8, &(uint32_t){1999}, 4);
    assert_int_equal(payload_decode(damaged, frame->size, &raw, NULL), -EBADMSG);
    memcpy(damaged + 8, &(uint32_t){2001}, 4);
    assert_int_equal(payload_decode(damaged, frame->size, &raw, NULL), -EBADMSG);
    // A small frame cannot make a large buffer.
    memcpy(damaged + 8, &(uint32_t){8 << 20}, 4);
    assert_int_equal(payload_decode(damaged, frame->size, &raw, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "claims"));
    memcpy(damaged, frame->data, frame->size);
    damaged[16] ^= 1;
    assert_int_equal(payload_decode(damaged, frame->size, &raw, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "checksum"));
    assert_null(raw);
    buffer_unref(frame);
}

// A damaged payload is never taken for a sound one.
static void test_damage(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        uint64_t r = seed;
        size_t size = random_below(&r, 300);
        uint8_t *data = random_bytes(&r, size, 1 + random_below(&r, 8));
        struct buffer *frame = NULL;
        struct buffer *raw = NULL;
        uint8_t damaged[PAYLOAD_HEADER + 300];

        assert_int_equal(payload_encode(data, size, seed % 2 ? PAYLOAD_LZ4 : PAYLOAD_RAW, &frame, NULL), 0);
        memcpy(damaged, frame->data, frame->size);

        size_t n = random_damage(&r, damaged, frame->size);
        uint8_t *exact = malloc(n); // so that a read past it is seen

        memcpy(exact, damaged, n);
        if (payload_decode(exact, n, &raw, NULL) == 0) {
            assert_int_equal(raw->size, size);
            assert_memory_equal(raw->data, data, size);
            buffer_unref(raw);
        }
        free(exact);
        buffer_unref(frame);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_codec_choice), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_lies),       cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
