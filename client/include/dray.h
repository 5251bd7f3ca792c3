/* libdray: a client of a Dray cluster.
 *
 * A connection may be used from one thread at a time.  Nothing here logs, prints,
 * exits or installs signal handlers.  A function that can fail returns 0 or a
 * negative errno and fills an optional struct dray_error; outputs are untouched
 * on failure.  What a dray_* function gives out stays valid as its comment says.
 *
 * From an event loop: poll dray_fd() for reading; when it is readable call
 * dray_process(), then dray_next() until it gives 0.  A client that calls nothing
 * for longer than the broker's timeout (10 s by default) is taken for gone.
 */
#ifndef DRAY_H
#define DRAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DRAY_API __attribute__((visibility("default")))
#else
#define DRAY_API
#endif

#define DRAY_ERROR_TEXT 1024

struct dray_error {
    int code;                   /* errno value */
    char text[DRAY_ERROR_TEXT]; /* what happened, where, what to do */
};

DRAY_API const char *dray_version(void);

/* ---- connection ------------------------------------------------------------ */

typedef struct dray dray_t;

struct dray_options {
    size_t size;         /* sizeof(struct dray_options), for later versions */
    unsigned connect_ms; /* give up when the broker has not answered; 0: 5000 */
    const char *name;    /* for people; NULL: host-pid */
};

/* endpoint: "tcp://host:8786", "ipc:///path"; NULL: the environment's DRAY_BROKER.  Waits for
 * the handshake.  -ETIMEDOUT: nobody answered; -EPROTO: another version. */
DRAY_API int dray_connect(const char *endpoint, const struct dray_options *options, dray_t **out,
                          struct dray_error *err);
/* Jobs that were not submitted as detached end. */
DRAY_API void dray_close(dray_t *dray);

/* Readable while dray_process or dray_next has something to do (level-triggered).  Valid until
 * dray_close; only to be polled. */
DRAY_API int dray_fd(const dray_t *dray);
/* Handles what has arrived, without waiting.  -ENOTCONN: the broker is gone for good; results that
 * have arrived can still be had from dray_next. */
DRAY_API int dray_process(dray_t *dray, struct dray_error *err);
/* Waits until dray_next has something, at most timeout_ms (-1: for ever).  1: there is, 0: time is
 * up; -EINTR: a signal handler ran. */
DRAY_API int dray_wait(dray_t *dray, int timeout_ms, struct dray_error *err);

/* ---- jobs -------------------------------------------------------------------- */

typedef uint32_t dray_job_t;

struct dray_submit_options {
    size_t size;     /* sizeof(struct dray_submit_options) */
    uint64_t key[2]; /* the same key twice is one job; both 0: a random one */
    int priority;    /* higher first */
    int detached;    /* goes on without this client */
    int ordered;     /* results come in index order of their layer */
};

/* A packed Graph of proto/graph.proto.  Waits for the broker's word.  -EINVAL: refused, with layer and task
 * in the text. */
DRAY_API int dray_submit_graph(dray_t *dray, const void *graph, size_t size,
                               const struct dray_submit_options *options, dray_job_t *job,
                               struct dray_error *err);
DRAY_API int dray_cancel(dray_t *dray, dray_job_t job, struct dray_error *err);
/* The job is of no more interest, whatever its state: no more events, and the workers free its
 * results.  (Those of a job that is not detached are freed one by one as they arrive.) */
DRAY_API int dray_release(dray_t *dray, dray_job_t job, struct dray_error *err);

enum dray_event_type {
    DRAY_PARTITION = 1, /* a result: layer, index, data, size */
    DRAY_NOTE = 2,      /* word from a task: layer, index, data, size (a packed Note of op.proto) */
    DRAY_PROGRESS = 3,
    DRAY_DONE = 4,   /* after all results */
    DRAY_FAILED = 5, /* error says why */
    DRAY_CANCELLED = 6,
};

struct dray_event {
    enum dray_event_type type;
    dray_job_t job;
    uint32_t layer, index;
    const void *data; /* encoded as proto/partition.h says; valid until the next dray_next or dray_close */
    size_t size;
    uint64_t tasks, done, rows, source_bytes; /* PROGRESS */
    uint32_t workers;
    const char *waiting; /* PROGRESS: why nothing runs, or NULL */
    struct dray_error error;
};

/* 1: *event is the next one, results one by one as they become ready; 0: none yet. */
DRAY_API int dray_next(dray_t *dray, struct dray_event *event, struct dray_error *err);

/* ---- expressions --------------------------------------------------------------- */

/* Runs a script in Dray's expression language and waits for its value; signals do not end the wait. */
struct dray_result;
DRAY_API int dray_run(dray_t *dray, const char *script, struct dray_result **out, struct dray_error *err);
/* As `dray run` prints it; format "table", "csv" or "json".  Text is the caller's to free(). */
DRAY_API int dray_result_text(const struct dray_result *result, const char *format, char **text,
                              struct dray_error *err);
DRAY_API void dray_result_free(struct dray_result *result);

#ifdef __cplusplus
}
#endif
#endif
