// What the broker costs, without workers and clients of ours: this process speaks the wire as one client that
// submits a layer of no-ops and as workers that answer at once, with results of 8 bytes that come along.
#include "bench/bench.h"
#include "bench/journal_size.h"

#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/graph.h"
#include "proto/number.h"
#include "proto/op.pb-c.h"
#include "proto/partition.h"
#include "proto/payload.h"
#include "proto/socket.h"

extern char **environ;

enum {
    WORKERS_MAX = 64,
    ENCODED = 24, // bytes of a partition of 8 bytes
    READ_END = 0,
    WRITE_END = 1,
    WAIT_MS = 20000,
};

struct options {
    uint32_t tasks, workers, threads, rounds;
    bool each; // a task a submit, one after another: latency
    bool frees;
    const char *state;  // folder of its journal; NULL: none
    bool recover;       // it is killed when half is done
    const char *broker; // its executable
    const char *endpoint;
};

struct peer {
    struct socket *socket;
    uint64_t session, sent;
    uint32_t number;
};

struct bench {
    struct options options;
    struct peer client, worker[WORKERS_MAX];
    struct arena arena;
    uint8_t *bytes;
    size_t bytes_max;
    uint64_t *sizes;
    uint32_t *inline_bytes;
    uint64_t done, results, sum, messages_out, messages_in;
    uint32_t job;
    bool ended, attached, halted;
    uint64_t halt_at; // tasks after which workers answer nothing more; 0: never
    uint64_t cpu_us, core_us;
    bool answered;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "dray-bench broker: %s: %s\n", what, why);
    exit(1);
}

// ---- wire -------------------------------------------------------------------------

static void say(struct bench *bench, struct peer *peer, enum frame_type type, const ProtobufCMessage *message,
                struct buffer *const *frames, size_t count)
{
    size_t size = frame_size(message);
    uint64_t start = monotonic_us();
    int rc;

    if (size > bench->bytes_max) {
        bench->bytes_max = 2 * size;
        bench->bytes = realloc(bench->bytes, bench->bytes_max);
        if (bench->bytes == NULL) {
            fail("memory", strerror(ENOMEM));
        }
    }
    frame_encode(type, peer->session, peer->sent++, message, bench->bytes);
    while ((rc = socket_send(peer->socket, NULL, 0, bench->bytes, size, frames, count)) == -EAGAIN) {
        if (monotonic_us() - start > (uint64_t)WAIT_MS * 1000) {
            fail("sending", "the broker takes nothing any more");
        }
    }
    if (rc != 0) {
        fail("sending", strerror(-rc));
    }
}

static void greet(struct bench *bench, struct peer *peer, Dray__Role role, unsigned number)
{
    const struct socket_options options = {0};
    Dray__Hello hello = DRAY__HELLO__INIT;
    char name[32];
    struct error err = {0};

    peer->socket = socket_create(SOCKET_DEALER, &options, &err);
    if (peer->socket == NULL || socket_connect(peer->socket, bench->options.endpoint, &err) != 0) {
        fail("connecting", err.text);
    }
    snprintf(name, sizeof(name), "bench-%u", number);
    hello.role = role;
    hello.protocol = FRAME_PROTOCOL;
    hello.version = (char *)(uintptr_t)DRAY_VERSION; // only read
    hello.incarnation = (uint64_t)getpid() << 32 | number;
    hello.name = name;
    if (role == DRAY__ROLE__WORKER) {
        hello.has_threads = hello.has_memory = true;
        hello.threads = bench->options.threads;
        hello.memory = (uint64_t)1 << 30;
    }
    say(bench, peer, FRAME_HELLO, &hello.base, NULL, 0);
}

// ---- worker -----------------------------------------------------------------------

static struct buffer *encode_results(const Dray__Run *run, uint32_t tasks)
{
    static const uint8_t HEAD[16] = {'D', 'P', 'T', '1', PARTITION_BYTES, 0, 0, 0, 16};
    uint8_t *data = malloc((size_t)tasks * ENCODED), *to = data;
    struct buffer *frame = NULL;

    if (data == NULL) {
        fail("memory", strerror(ENOMEM));
    }
    for (size_t i = 0; i < run->n_first; i++) {
        for (uint32_t k = 0; k < run->count[i]; k++, to += ENCODED) {
            uint64_t value = (uint64_t)run->first[i] + k + 1;

            memcpy(to, HEAD, sizeof(HEAD));
            memcpy(to + sizeof(HEAD), &value, sizeof(value));
        }
    }
    if (payload_encode(data, (size_t)tasks * ENCODED, PAYLOAD_RAW, &frame, NULL) != 0) {
        fail("memory", strerror(ENOMEM));
    }
    free(data);
    return frame;
}

static void work(struct bench *bench, struct peer *peer, const Dray__Assign *assign)
{
    Dray__Done done = DRAY__DONE__INIT;
    Dray__Completed *completed = arena_array(&bench->arena, assign->n_run, sizeof(*completed));
    struct buffer **frame = arena_array(&bench->arena, assign->n_run, sizeof(struct buffer *));

    if (bench->halt_at > 0 && bench->done >= bench->halt_at) {
        return;
    }
    done.completed = arena_array(&bench->arena, assign->n_run, sizeof(*done.completed));
    for (size_t i = 0; i < assign->n_run; i++) {
        Dray__Run *run = assign->run[i];
        uint32_t tasks = 0;

        for (size_t k = 0; k < run->n_count; k++) {
            tasks += run->count[k];
        }
        dray__completed__init(&completed[i]);
        completed[i].job = run->job;
        completed[i].layer = run->layer;
        completed[i].n_first = completed[i].n_count = run->n_first;
        completed[i].first = run->first;
        completed[i].count = run->count;
        completed[i].n_bytes = completed[i].n_inline_bytes = tasks;
        completed[i].bytes = bench->sizes;
        completed[i].inline_bytes = bench->inline_bytes;
        completed[i].has_busy_us = true;
        completed[i].busy_us = 1 + tasks / 20;
        frame[i] = encode_results(run, tasks);
        done.completed[done.n_completed++] = &completed[i];
        bench->done += tasks;
    }
    say(bench, peer, FRAME_DONE, &done.base, frame, assign->n_run);
    bench->messages_out++;
    for (size_t i = 0; i < assign->n_run; i++) {
        buffer_unref(frame[i]);
    }
}

// ---- client -----------------------------------------------------------------------

static void submit(struct bench *bench, uint32_t tasks, uint64_t key)
{
    Dray__Submit submit = DRAY__SUBMIT__INIT;
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer layer = DRAY__LAYER__INIT, *layers[] = {&layer};
    Dray__Op op = DRAY__OP__INIT;
    Dray__Step step = DRAY__STEP__INIT, *steps[] = {&step};
    Dray__Count count = DRAY__COUNT__INIT;
    uint8_t op_bytes[64], graph_bytes[256];

    step.count = &count;
    op.n_step = 1;
    op.step = steps;
    layer.op.len = dray__op__pack(&op, op_bytes);
    layer.op.data = op_bytes;
    layer.tasks = tasks;
    layer.has_wanted = layer.wanted = true;
    graph.n_layer = 1;
    graph.layer = layers;
    submit.graph.len = dray__graph__pack(&graph, graph_bytes);
    submit.graph.data = graph_bytes;
    submit.key_hi = (uint64_t)getpid();
    submit.key_lo = key;
    say(bench, &bench->client, FRAME_SUBMIT, &submit.base, NULL, 0);
}

static void free_batch(struct bench *bench, const Dray__ResultBatch *batch)
{
    Dray__Free message = DRAY__FREE__INIT;
    Dray__Run run = DRAY__RUN__INIT, *runs[] = {&run};

    run.job = message.job = batch->job;
    run.layer = batch->layer;
    run.n_first = run.n_count = batch->n_first;
    run.first = batch->first;
    run.count = batch->count;
    message.n_run = 1;
    message.run = runs;
    say(bench, &bench->client, FRAME_FREE, &message.base, NULL, 0);
}

static void free_job(struct bench *bench)
{
    Dray__Free message = DRAY__FREE__INIT;

    message.job = bench->job;
    say(bench, &bench->client, FRAME_FREE, &message.base, NULL, 0);
}

static void take_results(struct bench *bench, const Dray__Results *results, struct message *message)
{
    size_t frame = 1;

    bench->messages_in++;
    for (size_t i = 0; i < results->n_batch; i++) {
        const Dray__ResultBatch *batch = results->batch[i];
        struct buffer *raw = NULL;
        struct error err = {0};

        if (batch->n_inline_bytes == 0) {
            fail("results", "some did not come along");
        }
        if (frame == message->frames ||
            payload_decode(message->frame[frame].data, message->frame[frame].size, &raw, &err) != 0) {
            fail("results", err.text);
        }
        frame++;
        for (size_t at = 0; at < raw->size; at += ENCODED) {
            uint64_t value;

            memcpy(&value, raw->data + at + ENCODED - sizeof(value), sizeof(value));
            bench->sum += value;
            bench->results++;
        }
        buffer_unref(raw);
        if (bench->options.frees) {
            free_batch(bench, batch);
        }
    }
    bench->halted = bench->halt_at > 0 && bench->results >= bench->halt_at && bench->results == bench->done;
}

// ---- turns ------------------------------------------------------------------------

static void handle(struct bench *bench, struct peer *peer, struct message *message)
{
    struct frame frame;
    struct error err = {0};

    arena_reset(&bench->arena);
    if (frame_decode(message->frame[0].data, message->frame[0].size, FROM_BROKER, &bench->arena, &frame,
                     &err) != 0) {
        fail("a message of the broker", err.text);
    }
    switch (frame.info->type) {
    case FRAME_WELCOME:
        peer->session = ((const Dray__Welcome *)frame.message)->session;
        peer->number = ((const Dray__Welcome *)frame.message)->peer;
        break;
    case FRAME_ASSIGN:
        work(bench, peer, (const Dray__Assign *)frame.message);
        break;
    case FRAME_ACCEPTED:
        bench->job = ((const Dray__Accepted *)frame.message)->job;
        break;
    case FRAME_ATTACHED:
        if (((const Dray__Attached *)frame.message)->why != NULL) {
            fail("the job", ((const Dray__Attached *)frame.message)->why->text);
        }
        bench->attached = true;
        break;
    case FRAME_RESULTS:
        take_results(bench, (const Dray__Results *)frame.message, message);
        break;
    case FRAME_JOB_ENDED:
        if (((const Dray__JobEnded *)frame.message)->state != DRAY__JOB_STATE__DONE) {
            fail("the job", ((const Dray__JobEnded *)frame.message)->why->text);
        }
        bench->ended = true;
        break;
    case FRAME_CLUSTER:
        bench->cpu_us = ((const Dray__Cluster *)frame.message)->cpu_us;
        bench->core_us = ((const Dray__Cluster *)frame.message)->core_us;
        bench->answered = true;
        break;
    case FRAME_HEARTBEAT: {
        Dray__Heartbeat beat = DRAY__HEARTBEAT__INIT;

        beat.time_us = monotonic_us();
        say(bench, peer, FRAME_HEARTBEAT, &beat.base, NULL, 0);
        break;
    }
    case FRAME_REJECTED:
        fail("the job", ((const Dray__Rejected *)frame.message)->why->text);
        break;
    case FRAME_BYE:
    case FRAME_REFUSE:
        fail("the broker", "it ended the session");
        break;
    default:
        break;
    }
}

static bool drain(struct bench *bench, struct peer *peer)
{
    static struct message message;
    bool any = false;

    while (socket_receive(peer->socket, &message) > 0) {
        handle(bench, peer, &message);
        message_fini(&message);
        any = true;
    }
    return any;
}

// Serves the sockets until *done.
static void serve(struct bench *bench, const bool *done)
{
    struct pollfd poll_fd[WORKERS_MAX + 1];
    uint64_t start = monotonic_us();

    while (!*done) {
        bool any = drain(bench, &bench->client);

        poll_fd[0] = (struct pollfd){.fd = socket_fd(bench->client.socket), .events = POLLIN};
        for (uint32_t i = 0; i < bench->options.workers; i++) {
            any = drain(bench, &bench->worker[i]) || any;
            poll_fd[i + 1] = (struct pollfd){.fd = socket_fd(bench->worker[i].socket), .events = POLLIN};
        }
        if (!any && poll(poll_fd, bench->options.workers + 1, 1000) == 0 &&
            monotonic_us() - start > (uint64_t)WAIT_MS * 1000) {
            fail("waiting", "the broker says nothing any more");
        }
    }
}

static void ask(struct bench *bench)
{
    Dray__ClusterQuery query = DRAY__CLUSTER_QUERY__INIT;

    bench->answered = false;
    say(bench, &bench->client, FRAME_CLUSTER_QUERY, &query.base, NULL, 0);
    serve(bench, &bench->answered);
}

static int compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

// One job after another, of one task.
static void run_each(struct bench *bench)
{
    uint64_t *us = calloc(bench->options.tasks, sizeof(*us));
    uint64_t cpu_us, core_us;

    if (us == NULL) {
        fail("memory", strerror(ENOMEM));
    }
    ask(bench);
    cpu_us = bench->cpu_us;
    core_us = bench->core_us;
    for (uint32_t i = 0; i < bench->options.tasks; i++) {
        uint64_t start = monotonic_us();

        bench->ended = false;
        submit(bench, 1, i);
        serve(bench, &bench->ended);
        us[i] = monotonic_us() - start;
        free_job(bench);
    }
    ask(bench);
    qsort(us, bench->options.tasks, sizeof(*us), compare_times);
    printf("{\"tasks\": %u, \"p50_us\": %llu, \"p99_us\": %llu, \"broker_cpu_us_per_task\": %.2f, "
           "\"core_us_per_task\": %.2f}\n",
           bench->options.tasks, (unsigned long long)us[bench->options.tasks / 2],
           (unsigned long long)us[bench->options.tasks / 100 * 99],
           (double)(bench->cpu_us - cpu_us) / bench->options.tasks,
           (double)(bench->core_us - core_us) / bench->options.tasks);
    free(us);
}

static void run_layer(struct bench *bench, uint32_t round)
{
    double tasks = bench->options.tasks;
    uint64_t start, us, cpu_us, core_us;

    ask(bench);
    cpu_us = bench->cpu_us;
    core_us = bench->core_us;
    bench->ended = false;
    bench->done = bench->results = bench->sum = bench->messages_out = bench->messages_in = 0;
    start = monotonic_us();
    submit(bench, bench->options.tasks, ((uint64_t)1 << 32) + round);
    serve(bench, &bench->ended);
    us = monotonic_us() - start;
    free_job(bench);
    ask(bench);
    if (bench->done != bench->options.tasks || bench->results != bench->options.tasks ||
        bench->sum != (uint64_t)bench->options.tasks * (bench->options.tasks + (uint64_t)1) / 2) {
        fprintf(stderr, "%llu tasks were run and %llu results came\n", (unsigned long long)bench->done,
                (unsigned long long)bench->results);
        fail("the outcome", "not every task ran once");
    }
    cpu_us = bench->cpu_us - cpu_us;
    core_us = bench->core_us - core_us;
    printf("{\"tasks\": %u, \"seconds\": %.4f, \"tasks_per_s\": %.0f, \"broker_cpu_ns_per_task\": %.1f, "
           "\"core_ns_per_task\": %.1f, \"outside_ns_per_task\": %.1f, \"done_messages\": %llu, "
           "\"results_messages\": %llu}\n",
           bench->options.tasks, (double)us / 1e6, tasks / ((double)us / 1e6), 1e3 * (double)cpu_us / tasks,
           1e3 * (double)core_us / tasks, 1e3 * (double)(cpu_us - core_us) / tasks,
           (unsigned long long)bench->messages_out, (unsigned long long)bench->messages_in);
}

// ---- the broker -------------------------------------------------------------------

static pid_t start_broker(struct options *options, const char *self)
{
    static char endpoint[512];
    char beside[4096], fd[16], listen[512];
    char *argv[] = {beside,
                    (char *)(uintptr_t) "--listen",
                    listen,
                    (char *)(uintptr_t) "--quiet",
                    (char *)(uintptr_t) "--ready-fd",
                    fd,
                    options->state != NULL ? (char *)(uintptr_t) "--state" : NULL,
                    (char *)(uintptr_t)options->state,
                    NULL};
    posix_spawn_file_actions_t actions;
    int pipes[2], rc;
    ssize_t n;
    pid_t pid;

    // Again: where it was.
    snprintf(listen, sizeof(listen), "%s", options->endpoint != NULL ? endpoint : "tcp://127.0.0.1:0");
    if (options->broker != NULL) {
        snprintf(beside, sizeof(beside), "%s", options->broker);
    } else {
        n = readlink(self, beside, sizeof(beside) - sizeof("dray-broker"));
        char *slash = n > 0 ? memrchr(beside, '/', (size_t)n) : NULL;

        memcpy(slash == NULL ? beside : slash + 1, "dray-broker", sizeof("dray-broker"));
    }
    if (pipe(pipes) != 0) {
        fail("pipe", strerror(errno));
    }
    snprintf(fd, sizeof(fd), "%d", pipes[WRITE_END]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, pipes[READ_END]);
    rc = posix_spawn(&pid, beside, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[WRITE_END]);
    if (rc != 0) {
        fail(beside, strerror(rc));
    }
    n = read(pipes[READ_END], endpoint, sizeof(endpoint) - 1);
    close(pipes[READ_END]);
    if (n <= 0) {
        fail(beside, "it did not start");
    }
    endpoint[n] = '\0';
    endpoint[strcspn(endpoint, " \n")] = '\0';
    options->endpoint = endpoint;
    return pid;
}

// ---- a broker that dies -------------------------------------------------------------

static void greet_all(struct bench *bench)
{
    bool here = false;

    greet(bench, &bench->client, DRAY__ROLE__CLIENT, 0);
    for (uint32_t i = 0; i < bench->options.workers; i++) {
        greet(bench, &bench->worker[i], DRAY__ROLE__WORKER, i + 1);
    }
    while (!here) {
        drain(bench, &bench->client);
        here = bench->client.session != 0;
        for (uint32_t i = 0; i < bench->options.workers; i++) {
            drain(bench, &bench->worker[i]);
            here = here && bench->worker[i].session != 0;
        }
    }
}

static void part_all(struct bench *bench)
{
    socket_destroy(bench->client.socket, 0);
    bench->client = (struct peer){0};
    for (uint32_t i = 0; i < bench->options.workers; i++) {
        socket_destroy(bench->worker[i].socket, 0);
        bench->worker[i] = (struct peer){0};
    }
}

static void run_recover(struct bench *bench, pid_t *pid)
{
    Dray__Attach attach = DRAY__ATTACH__INIT;
    Dray__Advertise advertise = DRAY__ADVERTISE__INIT;
    uint64_t start, listens_us, attached_us, over_us, empty, half, rest, written;

    bench->halt_at = bench->options.tasks / 2;
    ask(bench);
    empty = journal_size(bench->options.state);
    submit(bench, bench->options.tasks, (uint64_t)monotonic_us());
    serve(bench, &bench->halted);
    nanosleep(&(struct timespec){0, 300000000}, NULL); // what nobody waits for is written within 0.1 s
    half = bench->results;
    written = journal_size(bench->options.state);
    kill(*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    part_all(bench);
    bench->halt_at = bench->results = bench->done = 0;
    start = monotonic_us();
    *pid = start_broker(&bench->options, "/proc/self/exe");
    listens_us = monotonic_us() - start;
    greet_all(bench);
    advertise.has_full = advertise.full = true;
    for (uint32_t i = 0; i < bench->options.workers; i++) {
        say(bench, &bench->worker[i], FRAME_ADVERTISE, &advertise.base, NULL, 0);
    }
    attach.tag = 1;
    attach.has_job = true;
    attach.job = bench->job;
    say(bench, &bench->client, FRAME_ATTACH, &attach.base, NULL, 0);
    serve(bench, &bench->attached);
    attached_us = monotonic_us() - start;
    serve(bench, &bench->ended);
    over_us = monotonic_us() - start;
    rest = bench->results;
    if (half + rest != bench->options.tasks) {
        fail("the outcome", "not every task was done once");
    }
    free_job(bench);
    ask(bench);
    printf("{\"tasks\": %u, \"done_before\": %llu, \"journal_bytes\": %llu, \"journal_bytes_per_task_done\": "
           "%.2f, "
           "\"listens_s\": %.3f, \"attached_s\": %.3f, \"over_s\": %.3f}\n",
           bench->options.tasks, (unsigned long long)half, (unsigned long long)(written - empty),
           (double)(written - empty) / (double)half, (double)listens_us / 1e6, (double)attached_us / 1e6,
           (double)over_us / 1e6);
}

static uint32_t parse_count(const char *text, const char *option, int64_t most, struct argp_state *state)
{
    int64_t value = 0;

    if (!number_parse_int64(text, strlen(text), &value) || value < 1 || value > most) {
        argp_error(state, "--%s is a number from 1 to %lld, not \"%s\"", option, (long long)most, text);
    }
    return (uint32_t)value;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 't':
        options->tasks = parse_count(value, "tasks", GRAPH_TASKS_MAX, state);
        return 0;
    case 'w':
        options->workers = parse_count(value, "workers", WORKERS_MAX, state);
        return 0;
    case 'T':
        options->threads = parse_count(value, "threads", 4096, state);
        return 0;
    case 'r':
        options->rounds = parse_count(value, "rounds", 1000, state);
        return 0;
    case 'e':
        options->each = true;
        return 0;
    case 'f':
        options->frees = true;
        return 0;
    case 'b':
        options->broker = value;
        return 0;
    case 'c':
        options->endpoint = value;
        return 0;
    case 's':
        options->state = value;
        return 0;
    case 'R':
        options->recover = options->frees = true;
        return 0;
    case ARGP_KEY_END:
        if (options->recover && (options->state == NULL || options->endpoint != NULL)) {
            argp_error(state, "--recover goes with --state, and with a broker that is started here");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int bench_broker(int argc, char **argv)
{
    static const struct argp_option OPTIONS[] = {
        {"tasks", 't', "N", 0, "In the layer (1000000)", 0},
        {"workers", 'w', "N", 0, "That this process plays (2)", 0},
        {"threads", 'T', "N", 0, "That each of them claims to have (1): more tasks under way", 0},
        {"rounds", 'r', "N", 0, "Jobs one after another (3)", 0},
        {"each", 'e', NULL, 0, "A job for each task, one after another: how long one takes", 0},
        {"free", 'f', NULL, 0, "Give results back as they come", 0},
        {"executable", 'b', "FILE", 0, "The broker to start (the one beside this program)", 0},
        {"state", 's', "DIR", 0, "The broker keeps a journal there", 0},
        {"recover", 'R', NULL, 0,
         "With --state: the broker is killed when half of the layer is done and read, and started again: "
         "bytes of "
         "the journal, and how long it takes until the job goes on and until it is over",
         0},
        {"connect", 'c', "ENDPOINT", 0, "A broker that runs already", 0},
        {0},
    };
    static const struct argp ARGP = {
        .options = OPTIONS,
        .parser = parse_option,
        .doc = "What dray-broker costs by itself: no-ops that are answered at once, with results of 8 bytes.",
    };
    struct bench *bench = calloc(1, sizeof(*bench));
    pid_t pid = 0;

    if (bench == NULL) {
        return 1;
    }
    bench->options = (struct options){.tasks = 1000000, .workers = 2, .threads = 1, .rounds = 3};
    argp_parse(&ARGP, argc, argv, 0, NULL, &bench->options);
    sockets_init();
    arena_init(&bench->arena, 0);
    bench->sizes = malloc(bench->options.tasks * sizeof(*bench->sizes));
    bench->inline_bytes = malloc(bench->options.tasks * sizeof(*bench->inline_bytes));
    if (bench->sizes == NULL || bench->inline_bytes == NULL) {
        fail("memory", strerror(ENOMEM));
    }
    for (uint32_t i = 0; i < bench->options.tasks; i++) {
        bench->sizes[i] = 8;
        bench->inline_bytes[i] = ENCODED;
    }
    if (bench->options.endpoint == NULL) {
        pid = start_broker(&bench->options, "/proc/self/exe");
    }
    greet_all(bench);
    if (bench->options.recover) {
        run_recover(bench, &pid);
    } else if (bench->options.each) {
        run_each(bench);
    } else {
        for (uint32_t round = 0; round < bench->options.rounds; round++) {
            run_layer(bench, round);
        }
    }
    if (pid > 0) {
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    part_all(bench);
    sockets_fini();
    arena_fini(&bench->arena);
    free(bench->sizes);
    free(bench->inline_bytes);
    free(bench->bytes);
    free(bench);
    return 0;
}
