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
    size_t result_bytes_max; /* of results that came and were not taken yet; 0: 64 MiB */
    int reconnect_ms; /* a lost connection is looked for so long; 0: DRAY_RECONNECT seconds of the environment, or
                         30000; -1: not at all */
};

/* A connection that is lost (the network was cut, the broker died, this process was stopped for long) is looked for,
 * and its jobs go on as if nothing had happened: what was sent and not confirmed is sent again, results that come
 * twice are given once.  Calls that wait for the broker wait on meanwhile.  A broker that comes back without what it
 * knew (it has no --state) ends each job in DRAY_FAILED with ENOTCONN, and then the connection. */

/* endpoint: "tcp://host:8786", "ipc:///path"; NULL: the environment's DRAY_BROKER.  Waits for
 * the handshake.  -ETIMEDOUT: nobody answered; -EPROTO: another version. */
DRAY_API int dray_connect(const char *endpoint, const struct dray_options *options, dray_t **out,
                          struct dray_error *err);
/* Jobs that were not submitted as detached end. */
DRAY_API void dray_close(dray_t *dray);

/* Readable while dray_process or dray_next has something to do (level-triggered).  Valid until
 * dray_close; only to be polled. */
DRAY_API int dray_fd(const dray_t *dray);
/* 1: the connection stands; 0: it was lost and is looked for; -ENOTCONN: the broker is gone for good. */
DRAY_API int dray_connected(const dray_t *dray);
/* Handles what has arrived, without waiting.  -ENOTCONN: the broker is gone for good; results that
 * have arrived can still be had from dray_next. */
DRAY_API int dray_process(dray_t *dray, struct dray_error *err);
/* Waits until dray_next has something, at most timeout_ms (-1: for ever).  1: there is, 0: time is
 * up; -EINTR: a signal handler ran. */
DRAY_API int dray_wait(dray_t *dray, int timeout_ms, struct dray_error *err);

/* ---- jobs -------------------------------------------------------------------- */

typedef uint32_t dray_job_t;

struct dray_bytes {
    const void *data;
    size_t size;
};

struct dray_submit_options {
    size_t size;     /* sizeof(struct dray_submit_options) */
    uint64_t key[2]; /* the same key twice is one job; both 0: a random one */
    int priority;    /* higher first */
    int detached;    /* goes on without this client */
    int ordered;     /* results come in index order of their layer */
    uint32_t failures_max; /* so many tasks may fail for good (DRAY_TASK_FAILED) before the job does */
    const char *name;      /* for people; NULL: none */
    int open;              /* more layers come (dray_extend_graph); it is not over before the last ones */
    struct dray_bytes note; /* kept with the job, for whoever takes it over */
};

/* A packed Graph of proto/graph.proto; NULL: none yet (open).  Waits for the broker's word.  -EINVAL: refused,
 * with layer and task in the text. */
DRAY_API int dray_submit_graph(dray_t *dray, const void *graph, size_t size,
                               const struct dray_submit_options *options, dray_job_t *job,
                               struct dray_error *err);
/* More layers for an open job, numbered on from those that it has; `last`: there will be no others (graph may
 * then be NULL).  Does not wait: should the broker refuse, the job fails. */
DRAY_API int dray_extend_graph(dray_t *dray, dray_job_t job, const void *graph, size_t size, int last,
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
    DRAY_TASK_FAILED = 7, /* of a pool, or with failures_max: layer, index; error says why */
};

struct dray_event {
    enum dray_event_type type;
    dray_job_t job;
    uint32_t layer, index;
    const void *data; /* encoded as proto/partition.h says; valid until the next dray_next or dray_close */
    size_t size;
    struct dray_bytes value; /* PARTITION that is bytes (of a pool's tasks): the bytes; otherwise NULL */
    uint64_t tasks, done, failed, rows, source_bytes; /* PROGRESS */
    uint32_t workers;
    const char *waiting; /* PROGRESS: why nothing runs, or NULL */
    int stuck;           /* PROGRESS: no worker that is there can run any of what is left */
    struct dray_error error;
};

/* 1: *event is the next one, results one by one as they become ready; 0: none yet. */
DRAY_API int dray_next(dray_t *dray, struct dray_event *event, struct dray_error *err);

/* ---- tasks and futures --------------------------------------------------------------
 * A pool is a job that grows.  Tasks are submitted to it one by one or many at once; each may depend on others, of
 * this pool or of jobs that are still held, and is named by a future: three integers, copied freely.  What is
 * submitted is gathered and sent in batches: when there is enough of it, by the next call that waits or processes,
 * or by dray_pool_flush.
 *
 * A result lives on the cluster until its future is released (dray_release_futures) or its pool is closed.
 * Completions come in dray_next as DRAY_PARTITION or as DRAY_TASK_FAILED, in the order in which they become known:
 * that is as_completed.  Small results travel along; of a large one, or when results that nobody takes fill
 * result_bytes_max, data is NULL and size says how much dray_gather would fetch.  What dray_gather gave does not come in
 * dray_next any more. */

typedef struct dray_pool dray_pool_t;

struct dray_future {
    dray_job_t job;
    uint32_t layer, index;
};

struct dray_resource {
    const char *name;
    uint32_t amount;
};

struct dray_pool_options {
    size_t size;           /* sizeof(struct dray_pool_options) */
    const char *name;      /* for people; NULL: none */
    int priority;          /* higher first */
    int detached;          /* goes on without this client */
    size_t unfinished_max; /* a submit waits while so many tasks are unfinished; 0: 1,000,000 */
};

enum dray_task_kind {
    DRAY_TASK_COUNT = 1, /* 1 + index + the inputs' values: 8 bytes.  For measuring and trying out */
    DRAY_TASK_BUSY,      /* computes for `nanoseconds`, then as COUNT, with `output_bytes` */
    DRAY_TASK_CALL,      /* a plugin's function (dray_task.h) */
    DRAY_TASK_COMMAND,   /* a process */
    DRAY_TASK_DATA,      /* `argument` as it is; see also dray_scatter */
};

/* Zero what is not used. */
struct dray_task {
    size_t size; /* sizeof(struct dray_task) */
    enum dray_task_kind kind;
    const char *name; /* for people */
    /* Of this connection's pools, or of jobs that it submitted or attached to.  The function gets them in this order. */
    const struct dray_future *input;
    size_t inputs;
    int input_each;              /* dray_map: `input` has `inputs` entries for each task, one task after another */
    struct dray_bytes argument;  /* CALL: its argument.  COMMAND: its {param}.  DATA: the value */
    uint64_t nanoseconds;        /* BUSY */
    uint64_t iterations;         /* BUSY, instead: of the kernel, 64 multiply-adds each */
    uint64_t output_bytes;       /* BUSY; 0: 8 */
    const char *plugin, *function; /* CALL */
    const char *const *argv;     /* COMMAND: NULL-terminated; {index}, {param} are replaced */
    const char *shell;           /* COMMAND: instead of argv, a text for /bin/sh -c */
    const char *const *env;      /* COMMAND: NAME=value, NULL-terminated */
    int clear_env;               /* COMMAND: nothing of the worker's own environment */
    const char *directory;       /* COMMAND: NULL: a scratch folder of its own */
    struct dray_bytes standard_input; /* COMMAND */
    int input_as_stdin;          /* COMMAND: the first input is its standard input */
    const char *const *input_file; /* COMMAND: `inputs` names of files in its folder that the inputs become, NULL
                                      entries: none; or NULL */
    const char *output;          /* COMMAND: file that is its result; NULL: standard output */
    uint64_t memory;             /* COMMAND: limit in bytes */
    /* what it asks for */
    const struct dray_resource *resource;
    size_t resources;
    const char *const *worker; /* names or labels, NULL-terminated; NULL: any */
    int priority;              /* within the pool */
    uint32_t retries, retry_delay_ms;
    uint32_t timeout_ms; /* of one attempt */
    int speculate; /* CALL, COMMAND: should one take far longer than the others of its kind, it may be run a second time
                      meanwhile, where somebody idles: it has no effect but its result, which is always the same */
};

DRAY_API int dray_pool_open(dray_t *dray, const struct dray_pool_options *options, dray_pool_t **out,
                            struct dray_error *err);
/* No more tasks come.  A detached pool's go on, and its results stay.  Otherwise, tasks that are there are cancelled,
 * and results freed unless the job is kept (dray_keep): then its tasks go on as well.  Futures of the pool are
 * unknown after this.  NULL is fine; so is a pool whose connection is gone, but not one that was closed. */
DRAY_API void dray_pool_close(dray_pool_t *pool);
/* The job whose number the next task gets; a pool moves on to another one when a job is full. */
DRAY_API dray_job_t dray_pool_job(const dray_pool_t *pool);

/* One task.  Its index is any: neighbours of equal kind share a layer. */
DRAY_API int dray_submit(dray_pool_t *pool, const struct dray_task *task, struct dray_future *out,
                         struct dray_error *err);
/* `count` tasks that differ in their argument only (argument NULL: in their index only), and with input_each in their
 * inputs.  They are a layer of their own: the i-th is {out->job, out->layer, i}.  -E2BIG: more than DRAY_MAP_MAX
 * arguments or DRAY_ARGUMENT_BYTES_MAX bytes: use several calls. */
#define DRAY_MAP_MAX ((size_t)1 << 20)
#define DRAY_ARGUMENT_BYTES_MAX ((size_t)32 << 20)
DRAY_API int dray_map(dray_pool_t *pool, const struct dray_task *task, const struct dray_bytes *argument,
                      size_t count, struct dray_future *out, struct dray_error *err);
/* Data from here becomes a partition, which is copied to wherever it is used.  The bytes are copied before the call
 * returns.  -E2BIG: more than DRAY_ARGUMENT_BYTES_MAX; part it, or let the tasks read a file. */
DRAY_API int dray_scatter(dray_pool_t *pool, const void *data, size_t size, struct dray_future *out,
                          struct dray_error *err);
/* Sends what was submitted and not sent yet. */
DRAY_API int dray_pool_flush(dray_pool_t *pool, struct dray_error *err);
/* Tasks that were submitted and have neither a result nor failed, as far as is known here. */
DRAY_API size_t dray_pool_unfinished(const dray_pool_t *pool);

/* Waits for all of them and fetches their results.  Of each, in the order given: its bytes (a table: encoded as
 * proto/partition.h says), valid until dray_gathered_free.  As soon as one has failed: its error (-ECANCELED, ...), the
 * task named in the text.  -ETIMEDOUT after timeout_ms (-1: never); -EINTR: a signal handler ran; -ENOENT: one is unknown or
 * released.  The results stay on the cluster until they are released. */
struct dray_gathered {
    size_t count;
    struct dray_bytes *value;
    void *memory; /* that value and its data are in */
};
DRAY_API int dray_gather(dray_t *dray, const struct dray_future *future, size_t count, int timeout_ms,
                         struct dray_gathered *out, struct dray_error *err);
DRAY_API void dray_gathered_free(struct dray_gathered *gathered);
/* 1: it is done (or failed); 0: not yet; -ENOENT: unknown or released; -ENOTCONN. */
DRAY_API int dray_future_done(dray_t *dray, const struct dray_future *future);
/* These tasks, running or not, fail with ECANCELED, and those that depend on them. */
DRAY_API int dray_cancel_futures(dray_t *dray, const struct dray_future *future, size_t count,
                                 struct dray_error *err);
/* Their results are of no more use here: freed on the cluster once no other task needs them.  Nothing more comes of
 * them in dray_next. */
DRAY_API int dray_release_futures(dray_t *dray, const struct dray_future *future, size_t count,
                                  struct dray_error *err);

/* ---- kept results --------------------------------------------------------------------- */

/* The job and its results stay under this name, visible to all clients, until dray_unkeep. */
DRAY_API int dray_keep(dray_t *dray, dray_job_t job, const char *name, struct dray_error *err);
DRAY_API int dray_unkeep(dray_t *dray, const char *name, struct dray_error *err);
/* Takes over a job, by number or (kept not NULL) by name: its results come here, those that are there at once, and
 * its tasks can be inputs of others.  They are not freed by being read: dray_release says that the job is of no more
 * use here.  For the client that had it, it fails with EBUSY.  -ENOENT: there is none. */
DRAY_API int dray_attach(dray_t *dray, dray_job_t job, const char *kept, dray_job_t *out, struct dray_error *err);

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
