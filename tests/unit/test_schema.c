#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/op.pb-c.h"
#include "proto/schema.h"
#include "proto/wire.pb-c.h"
#include "tests/unit/generate.h"

static int unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t size,
                  struct arena *a, const char *why)
{
    ProtobufCMessage *message = NULL;
    struct error err = {0};
    int rc = schema_unpack(descriptor, data, size, a, &message, &err);

    assert_int_equal(message != NULL, rc == 0);
    if (rc != 0 && strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
    return rc;
}

static void test_unpack(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);
    // Cancel { job = 5 }
    assert_int_equal(unpack(&dray__cancel__descriptor, "\x08\x05", 2, &a, ""), 0);
    assert_int_equal(unpack(&dray__cancel__descriptor, "", 0, &a, "not a Cancel"), -EBADMSG);
    assert_int_equal(unpack(&dray__cancel__descriptor, "\x08\x05\x50\x01", 4, &a, "no field 10 in a Cancel"),
                     -EBADMSG);
    assert_int_equal(unpack(&dray__cancel__descriptor, "\x08", 1, &a, "not a Cancel"), -EBADMSG);
    assert_int_equal(unpack(&dray__cancel__descriptor, "", SCHEMA_BYTES_MAX + 1, &a, "too long"), -EBADMSG);
    // AggregateStep { stage = 7 }: an enum deep inside, in each of its forms
    assert_int_equal(
        unpack(&dray__aggregate_step__descriptor, "\x08\x07\x12\x00", 4, &a, "stage has the unknown value 7"),
        -EBADMSG);
    assert_int_equal(unpack(&dray__aggregate_step__descriptor, "\x08\x01\x12\x04\x22\x02\x01\x06", 8, &a,
                            "aggregate.key_type has the unknown value 6"),
                     -EBADMSG);
    assert_int_equal(unpack(&dray__aggregate_step__descriptor, "\x08\x01\x12\x04\x22\x02\x01\x05", 8, &a, ""),
                     0);
    assert_int_equal(
        unpack(&dray__expr_node__descriptor, "\x08\x32\x20\x09", 4, &a, "type has the unknown value 9"),
        -EBADMSG);
    assert_int_equal(unpack(&dray__expr_node__descriptor, "\x08\x32\x20\x05", 4, &a, ""), 0);
    assert_int_equal(unpack(&dray__expr_node__descriptor, "\x08\x32", 2, &a, ""), 0);
    arena_fini(&a);
}

static void test_string_limit(void **state)
{
    (void)state;
    struct arena a;
    Dray__SourceFile file = DRAY__SOURCE_FILE__INIT;
    char *name = calloc(1, SCHEMA_STRING_MAX + 2);
    uint8_t *packed = malloc(SCHEMA_STRING_MAX + 100);

    arena_init(&a, 0);
    memset(name, 'x', SCHEMA_STRING_MAX + 1);
    file.name = name;
    file.path = name + SCHEMA_STRING_MAX + 1;
    assert_int_equal(unpack(&dray__source_file__descriptor, packed, dray__source_file__pack(&file, packed),
                            &a, "name is longer than 65536 bytes"),
                     -EBADMSG);
    file.name++;
    assert_int_equal(
        unpack(&dray__source_file__descriptor, packed, dray__source_file__pack(&file, packed), &a, ""), 0);
    free(packed);
    free(name);
    arena_fini(&a);
}

// The caller's own limit holds as well, and is as before after.
static void test_memory_limit(void **state)
{
    (void)state;
    struct arena a;
    enum { SIZE = 1 << 20 };
    uint8_t *data = calloc(1, SIZE);

    for (size_t i = 0; i + 2 <= SIZE; i += 2) { // Op of empty steps
        data[i] = 0x0a;
    }
    arena_init(&a, 1000);
    assert_int_equal(unpack(&dray__op__descriptor, data, 1000, &a, "not a Op"), -EBADMSG);
    assert_true(a.used <= 1000);
    assert_int_equal(a.limit, 1000);
    arena_fini(&a);
    arena_init(&a, 0);
    unpack(&dray__op__descriptor, data, SIZE, &a, "");
    assert_true(a.used <= ((size_t)33 << 20) + 4 * SIZE);
    assert_int_equal(a.limit, 0);
    arena_fini(&a);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_string_limit),
        cmocka_unit_test(test_memory_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
