#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/number.h"
#include "proto/stopper.h"
#include "worker/daemon.h"

enum {
    EXIT_USAGE = 2,
    DATA_DIRS_MAX = 64,
    PLUGINS_MAX = 64,
    LABELS_MAX = 64,
    RESOURCES_MAX = 64,
    NAME_MAX_BYTES = 100,
    THREADS_MAX = 1024,
    MEMORY_MIN = 16 << 20,
    OPTION_MEMORY = 'm',
    OPTION_THREADS = 't',
    OPTION_DATA_DIR = 'd',
    OPTION_NAME = 'n',
    OPTION_LISTEN = 'l',
    OPTION_PLUGIN = 'p',
    OPTION_SCRATCH = 's',
    OPTION_LIFELINE = 0x100,
    OPTION_RECONNECT,
    OPTION_WAIT,
    OPTION_PLUGIN_MEMORY,
    OPTION_LABEL,
    OPTION_RESOURCES,
    OPTION_GRACE,
    OPTION_LIFETIME,
    OPTION_STAGGER,
};

struct arguments {
    const char *broker;
    const char *listen;
    const char *name;
    uint32_t threads;
    uint64_t memory;
    const char *data_dir[DATA_DIRS_MAX + 1];
    size_t data_dirs;
    const char *plugin[PLUGINS_MAX + 1];
    size_t plugins;
    uint64_t plugin_memory; // 0: as `memory`
    const char *scratch;
    const char *label[LABELS_MAX];
    size_t labels;
    struct agent_resource resource[RESOURCES_MAX];
    size_t resources;
    unsigned reconnect_ms;
    unsigned grace_ms;
    uint64_t lifetime_ms, stagger_ms;
    int lifeline;
    struct log log;
};

static const struct argp_option OPTIONS[] = {
    {"threads", OPTION_THREADS, "N", 0, "Tasks that run at once (as many as processors)", 0},
    {"memory", OPTION_MEMORY, "SIZE", 0,
     "What tasks and partitions may take: 256M, 1.5G (half of the machine's)", 0},
    {"data-dir", OPTION_DATA_DIR, "DIR", 0,
     "Only files below it are read here (may be given several times; by default all workers are taken to see "
     "the "
     "same files)",
     0},
    {"name", OPTION_NAME, "NAME", 0, "For people (HOST-PID)", 0},
    {"listen", OPTION_LISTEN, "ENDPOINT", 0,
     "Where other workers fetch partitions: tcp://HOST:PORT (* for any port) or ipc://PATH (by default it "
     "goes with "
     "the broker's address)",
     0},
    {"plugin", OPTION_PLUGIN, "FILE", 0,
     "Shared object with functions for tasks, as dray_task.h says (may be given several times); they run in "
     "processes of "
     "their own",
     0},
    {"plugin-memory", OPTION_PLUGIN_MEMORY, "SIZE", 0, "What each process of a plugin may take (as --memory)",
     0},
    {"scratch", OPTION_SCRATCH, "DIR", 0, "Commands get their working folders below it (TMPDIR, or /tmp)", 0},
    {"label", OPTION_LABEL, "LABEL", 0,
     "Tasks may ask for workers that have it (may be given several times; each plugin is the label "
     "plugin:NAME)",
     0},
    {"resources", OPTION_RESOURCES, "NAME=N,...", 0,
     "What tasks may ask for that there is only so much of, as gpu=2,licence=1 (may be given several times)",
     0},
    {"grace", OPTION_GRACE, "SECONDS", 0,
     "Asked to stop: wait so long for tasks that run, and for other workers to take what is here alone; each "
     "partition that "
     "goes over begins the time anew (10)",
     0},
    {"lifetime", OPTION_LIFETIME, "TIME", 0,
     "Leave by itself after that, as if asked to stop: 90 (seconds), 15m, 12h, 2d (never)", 0},
    {"lifetime-stagger", OPTION_STAGGER, "TIME", 0,
     "Up to so much earlier or later, at random, so that not all workers leave at once (0)", 0},
    {"reconnect", OPTION_RECONNECT, "SECONDS", 0, "Without a broker for so long: give up (60)", 0},
    {"wait", OPTION_WAIT, "SECONDS", OPTION_HIDDEN, "The same", 0},
    {"lifeline", OPTION_LIFELINE, "FD", 0, "Exit when the other end of this pipe is closed", 0},
    {"quiet", 'q', NULL, 0, "Log warnings and errors only", 0},
    {"verbose", 'v', NULL, 0, "Log more", 0},
    {0},
};

// ---- options ----------------------------------------------------------------------

static uint64_t parse_size(const char *text, const char *option, struct argp_state *state)
{
    static const char UNITS[] = "KMGT";
    size_t size = strlen(text);
    double value = 0, scale = 1, step = 1024;

    // As everywhere: M and MiB are 1024 KiB, MB is 1000 KB.
    if (size > 1 && (text[size - 1] == 'B' || text[size - 1] == 'b')) {
        size--;
        step = 1000;
    }
    if (size > 1 && (text[size - 1] == 'i')) {
        size--;
        step = 1024;
    }
    for (size_t i = 0; i < sizeof(UNITS) - 1; i++) {
        scale *= step;
        if (size > 1 && (text[size - 1] == UNITS[i] || text[size - 1] == UNITS[i] + ('a' - 'A'))) {
            size--;
            value = scale;
            break;
        }
    }
    scale = value == 0 ? 1 : value;
    if (!number_parse_float64(text, size, &value) || !(value > 0 && value * scale < 1e18)) {
        argp_error(state, "--%s is a size as 256M or 1.5G, not \"%s\"", option, text);
    }
    value *= scale;
    if (value < MEMORY_MIN) {
        argp_error(state, "--%s %s is too little: %d MB are needed at least", option, text, MEMORY_MIN >> 20);
    }
    return (uint64_t)value;
}

static long parse_whole(const char *text, const char *option, long least, long most, struct argp_state *state)
{
    int64_t value = 0;

    if (!number_parse_int64(text, strlen(text), &value) || value < least || value > most) {
        argp_error(state, "--%s is a number from %ld to %ld, not \"%s\"", option, least, most, text);
    }
    return (long)value;
}

static unsigned parse_seconds(const char *text, const char *option, struct argp_state *state)
{
    double seconds = 0;

    if (!number_parse_float64(text, strlen(text), &seconds) || !(seconds >= 0 && seconds <= 1e6)) {
        argp_error(state, "--%s is a time in seconds, not \"%s\"", option, text);
    }
    return (unsigned)(seconds * 1000);
}

// 90, 90s, 15m, 12h, 2d: in milliseconds.
static uint64_t parse_time(const char *text, const char *option, struct argp_state *state)
{
    static const struct {
        char unit;
        double ms;
    } UNITS[] = {{'s', 1e3}, {'m', 60e3}, {'h', 3600e3}, {'d', 86400e3}};
    size_t size = strlen(text);
    double value = 0, scale = 1e3;

    for (size_t i = 0; i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        if (size > 1 && text[size - 1] == UNITS[i].unit) {
            scale = UNITS[i].ms;
            size--;
            break;
        }
    }
    if (!number_parse_float64(text, size, &value) || !(value >= 0 && value * scale <= 1e14)) {
        argp_error(state, "--%s is a time as 90, 15m, 12h or 2d, not \"%s\"", option, text);
    }
    return (uint64_t)(value * scale);
}

static void add_label(struct arguments *arguments, const char *value, struct argp_state *state)
{
    if (value[0] == '\0' || strlen(value) > NAME_MAX_BYTES) {
        argp_error(state, "--label has 1 to %d characters", NAME_MAX_BYTES);
    }
    if (arguments->labels == LABELS_MAX) {
        argp_error(state, "--label may be given %d times at most", LABELS_MAX);
    }
    arguments->label[arguments->labels++] = value;
}

// One NAME=N, which is cut at the =.
static void add_resource(struct arguments *arguments, char *item, struct argp_state *state)
{
    char *equals = strchr(item, '=');
    struct agent_resource *resource = &arguments->resource[arguments->resources];

    if (equals == NULL || equals == item || equals - item > NAME_MAX_BYTES) {
        argp_error(state, "--resources are names and numbers as gpu=2,licence=1, not \"%s\"", item);
    }
    *equals = '\0';
    for (size_t i = 0; i < arguments->resources; i++) {
        if (strcmp(arguments->resource[i].name, item) == 0) {
            argp_error(state, "--resources has \"%s\" twice", item);
        }
    }
    if (arguments->resources == RESOURCES_MAX) {
        argp_error(state, "--resources has more than %d names", RESOURCES_MAX);
    }
    resource->name = item;
    resource->amount = (uint32_t)parse_whole(equals + 1, "resources NAME", 1, INT32_MAX, state);
    arguments->resources++;
}

static void add_resources(struct arguments *arguments, char *value, struct argp_state *state)
{
    char *rest = value;

    for (char *item; (item = strsep(&rest, ",")) != NULL;) {
        add_resource(arguments, item, state);
    }
}

static void check_broker(const struct arguments *arguments, struct argp_state *state)
{
    if (arguments->broker == NULL) {
        argp_error(state, "the broker's address is missing, for example tcp://127.0.0.1:8786");
    }
    if (strncmp(arguments->broker, "tcp://", 6) != 0 && strncmp(arguments->broker, "ipc://", 6) != 0) {
        argp_error(state, "\"%s\" is no address of a broker: expected tcp://HOST:PORT or ipc://PATH",
                   arguments->broker);
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case OPTION_THREADS:
        arguments->threads = (uint32_t)parse_whole(value, "threads", 1, THREADS_MAX, state);
        return 0;
    case OPTION_MEMORY:
        arguments->memory = parse_size(value, "memory", state);
        return 0;
    case OPTION_PLUGIN:
        if (arguments->plugins == PLUGINS_MAX) {
            argp_error(state, "--plugin may be given %d times at most", PLUGINS_MAX);
        }
        arguments->plugin[arguments->plugins++] = value;
        return 0;
    case OPTION_PLUGIN_MEMORY:
        arguments->plugin_memory = parse_size(value, "plugin-memory", state);
        return 0;
    case OPTION_SCRATCH:
        arguments->scratch = value;
        return 0;
    case OPTION_DATA_DIR:
        if (arguments->data_dirs == DATA_DIRS_MAX) {
            argp_error(state, "--data-dir may be given %d times at most", DATA_DIRS_MAX);
        }
        arguments->data_dir[arguments->data_dirs++] = value;
        return 0;
    case OPTION_NAME:
        if (value[0] == '\0' || strlen(value) > 100) {
            argp_error(state, "--name has 1 to 100 characters");
        }
        arguments->name = value;
        return 0;
    case OPTION_LISTEN:
        arguments->listen = value;
        return 0;
    case OPTION_RECONNECT:
    case OPTION_WAIT:
        arguments->reconnect_ms = parse_seconds(value, "reconnect", state);
        return 0;
    case OPTION_LABEL:
        add_label(arguments, value, state);
        return 0;
    case OPTION_RESOURCES:
        add_resources(arguments, value, state);
        return 0;
    case OPTION_GRACE:
        arguments->grace_ms = parse_seconds(value, "grace", state);
        return 0;
    case OPTION_LIFETIME:
        arguments->lifetime_ms = parse_time(value, "lifetime", state);
        return 0;
    case OPTION_STAGGER:
        arguments->stagger_ms = parse_time(value, "lifetime-stagger", state);
        return 0;
    case OPTION_LIFELINE:
        arguments->lifeline = (int)parse_whole(value, "lifeline", 0, 1 << 20, state);
        if (fcntl(arguments->lifeline, F_GETFD) < 0) {
            argp_error(state, "--lifeline: file descriptor %d is not open", arguments->lifeline);
        }
        return 0;
    case 'q':
        arguments->log.level = LEVEL_WARNING;
        return 0;
    case 'v':
        arguments->log.level = LEVEL_DEBUG;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->broker != NULL) {
            argp_error(state, "\"%s\" is one argument too many", value);
        }
        arguments->broker = value;
        return 0;
    case ARGP_KEY_END:
        check_broker(arguments, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp ARGP = {
    .options = OPTIONS,
    .parser = parse_option,
    .args_doc = "BROKER",
    .doc = "Dray's worker: runs tasks for the broker at BROKER, tcp://HOST:PORT or ipc://PATH.\v"
           "SIGTERM and SIGINT: gives back what has not started, finishes what runs, hands over to other workers "
           "what it alone holds (for --grace), says goodbye and exits; at the second one at once. `dray workers "
           "retire` and --lifetime have the same effect.\n"
           "Exit codes: 0 asked to stop, by a signal or the broker; 1 could not start or go on; 2 wrong "
           "options; "
           "3 the broker was away for too long or refused.",
};

static void print_version(FILE *out, struct argp_state *state)
{
    (void)state;
    fprintf(out, "dray-worker %s\n", DRAY_VERSION);
}

// ---- the machine ------------------------------------------------------------------

static uint32_t count_processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
}

// Half of the memory that this machine or its control group has.
static uint64_t choose_memory(void)
{
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "re");
    unsigned long long limit;

    if (file != NULL) {
        if (fscanf(file, "%llu", &limit) == 1 && limit < total) {
            total = limit;
        }
        fclose(file);
    }
    return total / 2 < MEMORY_MIN ? MEMORY_MIN : total / 2;
}

// With the stagger: never 0 when there is a lifetime.
static uint64_t choose_lifetime(const struct arguments *arguments)
{
    uint64_t lifetime = arguments->lifetime_ms;
    uint64_t random = 0;

    if (lifetime == 0 || arguments->stagger_ms == 0 ||
        getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return lifetime;
    }
    lifetime += arguments->stagger_ms;
    random %= 2 * arguments->stagger_ms + 1;
    return lifetime > random ? lifetime - random : 1;
}

// ---- run --------------------------------------------------------------------------

static bool leave(void *arg)
{
    return daemon_leave(arg);
}

static int work_until_stopped(const struct arguments *arguments, const struct plugins *plugins,
                              struct stopper *stopper, struct error *err)
{
    const struct daemon_options options = {
        .broker = arguments->broker,
        .listen = arguments->listen,
        .name = arguments->name,
        .threads = arguments->threads,
        .memory = arguments->memory,
        .data_dir = arguments->data_dirs == 0 ? NULL : arguments->data_dir,
        .plugins = plugins,
        .scratch = arguments->scratch,
        .reconnect_ms = arguments->reconnect_ms,
        .grace_ms = arguments->grace_ms,
        .lifetime_ms = choose_lifetime(arguments),
        .label = arguments->label,
        .labels = arguments->labels,
        .resource = arguments->resource,
        .resources = arguments->resources,
        .log = &arguments->log,
    };
    struct daemon *daemon = NULL;
    int rc = daemon_create(&options, stopper->loop, &daemon, err);
    // EINVAL: an address that none can be.
    int code = rc == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;

    if (rc == 0) {
        stopper->leave = leave;
        stopper->arg = daemon;
        rc = loop_run(stopper->loop);
        if (rc != 0) {
            error_set(err, -rc, "cannot wait for messages: %s", strerror(-rc));
        } else {
            rc = daemon_outcome(daemon, err);
        }
    }
    if (rc != 0) {
        log_write(&arguments->log, LEVEL_ERROR, "%s", err->text);
        code = rc == -ETIMEDOUT || rc == -EPROTO ? 3 : code;
    } else {
        code = EXIT_SUCCESS;
    }
    if (!daemon_destroy(daemon, !stopper->cut)) {
        log_write(&arguments->log, LEVEL_WARNING, "a task does not stop: ending without it");
        _exit(code);
    }
    return code;
}

static int load_plugins(const struct arguments *arguments, struct plugins **out, struct error *err)
{
    const struct plugins_options options = {.path = arguments->plugin, .memory = arguments->plugin_memory};
    int rc = plugins_create(&options, out, err);

    for (size_t i = 0; rc == 0 && i < (*out)->count; i++) {
        const struct plugin *plugin = &(*out)->plugin[i];

        log_write(&arguments->log, LEVEL_INFO, "plugin %s %s: %zu functions", plugin->name, plugin->version,
                  plugin->functions);
    }
    return rc;
}

static int serve(const struct arguments *arguments)
{
    struct plugins *plugins = NULL;
    struct stopper stopper;
    struct error err = {0};
    int code = EXIT_FAILURE;
    // Before libzmq has threads.
    int rc = stopper_init(&stopper, &arguments->log, arguments->lifeline, &err);

    sockets_init();
    if (rc == 0) {
        rc = load_plugins(arguments, &plugins, &err);
    }
    if (rc == 0) {
        code = work_until_stopped(arguments, plugins, &stopper, &err);
    } else {
        log_write(&arguments->log, LEVEL_ERROR, "%s", err.text);
    }
    plugins_destroy(plugins);
    stopper_fini(&stopper);
    sockets_fini();
    return code;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {
        .reconnect_ms = 60000,
        .grace_ms = 10000,
        .lifeline = -1,
        .log = {.program = "dray-worker", .level = LEVEL_INFO},
    };
    char host[64] = "worker", name[100];

    // One heap for all threads, and large blocks go back to the system when they are freed.
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    argp_err_exit_status = EXIT_USAGE;
    argp_program_version_hook = print_version;
    argp_parse(&ARGP, argc, argv, 0, NULL, &arguments);
    if (arguments.name == NULL) {
        gethostname(host, sizeof(host) - 1);
        snprintf(name, sizeof(name), "%s-%ld", host, (long)getpid());
        arguments.name = name;
    }
    if (arguments.threads == 0) {
        arguments.threads = count_processors();
    }
    if (arguments.memory == 0) {
        arguments.memory = choose_memory();
    }
    if (arguments.plugin_memory == 0) {
        arguments.plugin_memory = arguments.memory;
    }
    if (arguments.scratch == NULL) {
        arguments.scratch = getenv("TMPDIR");
    } else if (access(arguments.scratch, W_OK | X_OK) != 0) {
        // Commands would fail here, at once, and one after another.
        fprintf(stderr, "dray-worker: --scratch: no folders can be made in %s: %s\n", arguments.scratch,
                strerror(errno));
        return 2;
    }
    return serve(&arguments);
}
