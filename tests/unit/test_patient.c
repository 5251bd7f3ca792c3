// A stream with a reader that takes its time.
#include "client/cli/patient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { BYTES = 1 << 20, EARLY = 3 };

struct reader {
    int fd;
    unsigned calls;
    size_t got;
    int rc;
};

// Reads nothing for a while.
static int idle(void *arg)
{
    struct reader *reader = arg;
    char bytes[65536];
    ssize_t n;

    if (++reader->calls <= EARLY) {
        return reader->rc;
    }
    n = read(reader->fd, bytes, sizeof(bytes));
    for (ssize_t i = 0; i < n; i++) {
        assert_int_equal((uint8_t)bytes[i], (uint8_t)((reader->got + (size_t)i) * 7));
    }
    reader->got += n > 0 ? (size_t)n : 0;
    return 0;
}

static void test_slow_reader(void **state)
{
    struct reader reader = {0};
    int ends[2];
    FILE *stream;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    reader.fd = ends[0];
    stream = patient_open(ends[1], idle, &reader);
    assert_non_null(stream);
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_not_equal(fputc((uint8_t)(i * 7), stream), EOF);
    }
    assert_int_equal(fclose(stream), 0);
    assert_true(reader.calls > EARLY);
    close(ends[1]);
    while (reader.got < BYTES) {
        idle(&reader);
    }
    assert_int_equal(reader.got, BYTES);
    close(ends[0]);
}

static void test_errors(void **state)
{
    struct reader reader = {.rc = -ECANCELED};
    char *bytes = calloc(1, BYTES);
    int ends[2];
    FILE *stream;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    reader.fd = ends[0];
    stream = patient_open(ends[1], idle, &reader);
    fwrite(bytes, 1, BYTES, stream);
    assert_int_equal(errno, ECANCELED);
    assert_true(ferror(stream));
    fclose(stream);
    close(ends[0]);
    close(ends[1]);
    stream = patient_open(-1, idle, &reader); // poll ignores it, and so it is idle for ever
    fputs("some", stream);
    assert_int_equal(fflush(stream), EOF);
    fclose(stream);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_errors)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
