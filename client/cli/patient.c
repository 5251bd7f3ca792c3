#include "client/cli/patient.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

struct patient {
    int fd;
    int (*idle)(void *arg);
    void *arg;
};

// So much at a time does not block when poll says that there is room (PIPE_BUF: pipe(7)).
static ssize_t write_some(struct patient *patient, const char *data, size_t size)
{
    struct pollfd fd = {.fd = patient->fd, .events = POLLOUT};

    for (;;) {
        int rc, n = poll(&fd, 1, PATIENT_MS);

        if (n > 0) {
            return write(patient->fd, data, size < PIPE_BUF ? size : PIPE_BUF);
        }
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        rc = patient->idle(patient->arg);
        if (rc != 0) {
            errno = -rc;
            return -1;
        }
    }
}

static ssize_t patient_write(void *cookie, const char *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = write_some(cookie, data + done, size - done);

        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return 0; // stdio's word for an error here
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)done;
}

static int patient_close(void *cookie)
{
    free(cookie);
    return 0;
}

FILE *patient_open(int fd, int (*idle)(void *arg), void *arg)
{
    const cookie_io_functions_t functions = {.write = patient_write, .close = patient_close};
    struct patient *patient = malloc(sizeof(*patient));
    FILE *stream;

    if (patient == NULL) {
        return NULL;
    }
    *patient = (struct patient){fd, idle, arg};
    stream = fopencookie(patient, "w", functions);
    if (stream == NULL) {
        free(patient);
    }
    return stream;
}
