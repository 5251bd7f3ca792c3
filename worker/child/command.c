// Commands: a process each, started by a small helper (worker/host/spawner.h says why), its pipes read here.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/template.h"
#include "worker/child/capture.h"
#include "worker/child/children_state.h"
#include "worker/child/scratch.h"

enum {
    START_SECONDS = 60,
    MESSAGE_ARGV = 100,
    QUIET_MS = 3,
};
#define NS_PER_MS UINT64_C(1000000)

// One command.
struct job {
    struct children *children;
    const Dray__Command *command;
    struct child_task *task;
    const char *directory; // in which it runs
    bool scratch;          // that is its own
    char *output;          // path; NULL: standard output
    struct stat before;    // of it
    bool was_there;
    const char *program; // as in argv, for people
    int out, err, in;    // our ends of its pipes; -1: none, or closed
    struct capture capture;
    struct tail tail;
    // standard input
    const uint8_t *in_text; // unless it is partitions
    size_t in_size;
    size_t in_at, in_count;
    size_t in_done; // bytes of the current piece
    // its end
    bool exited;
    struct channel_word exit;
    int ending; // errno value why it was ended
    struct error why;
    uint64_t kill_ns; // when asking turns into ending; 0: not asked
    bool killed;
};

// ---- the helper -------------------------------------------------------------------------------

static int start_spawner(struct children *children, struct error *err)
{
    const struct plugins *plugins = children->options.plugins;
    struct process_options options = {.helper = children->options.helper, .mode = "spawn"};
    struct channel_word word;
    int rc = 0;

    if (options.helper == NULL && plugins != NULL) {
        options.helper = plugins->helper;
    }
    if (children->scratch == NULL) {
        rc = scratch_create(children->options.scratch != NULL ? children->options.scratch : "/tmp",
                            &children->scratch, err);
    }
    if (rc == 0) {
        options.path = children->scratch;
        rc = process_start(&children->spawner, &options, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (process_wait(&children->spawner, -1, process_now_ns() + START_SECONDS * 1000 * NS_PER_MS, &word) !=
        PROCESS_WORD) {
        rc = error_set(err, EOWNERDEAD, "the process that starts commands did not start");
    } else {
        rc = plugins_hello(&children->spawner, &word, err);
    }
    if (rc != 0) {
        process_end(&children->spawner, 0);
    }
    return rc;
}

// ---- texts ------------------------------------------------------------------------------------

static int expand(struct job *job, const uint32_t *place, const void *text, size_t text_size, char **out,
                  size_t *size, struct error *err)
{
    return template_expand(job->command, job->task->index, place, text, text_size, &job->children->arena, out,
                           size, err);
}

static int expand_text(struct job *job, const uint32_t *place, const char *text, char **out,
                       struct error *err)
{
    size_t size;

    return expand(job, place, text, strlen(text), out, &size, err);
}

// Parameters went into it: still below the working directory?
static int check_below(const char *path, struct error *err)
{
    const char *at = path;

    if (path[0] == '/' || path[0] == '\0') {
        return error_set(err, EINVAL, "the path '%.300s' is not below the working directory", path);
    }
    for (; at != NULL; at = strchr(at, '/'), at = at != NULL ? at + 1 : NULL) {
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0')) {
            return error_set(err, EINVAL, "the path '%.300s' leaves the working directory", path);
        }
    }
    return 0;
}

static int below(struct job *job, const char *path, char **out, struct error *err)
{
    int rc = check_below(path, err);

    if (rc == 0) {
        *out = arena_printf(&job->children->arena, "%s/%s", job->directory, path);
        rc = *out != NULL ? 0 : error_no_memory(err);
    }
    return rc;
}

// ---- its folder and files ---------------------------------------------------------------------

static int choose_directory(struct job *job, struct error *err)
{
    struct children *children = job->children;
    char *directory;
    int rc;

    if (job->command->directory != NULL) {
        rc = expand_text(job, NULL, job->command->directory, &directory, err);
        if (rc == 0) {
            job->directory = directory;
        }
        return rc;
    }
    directory = arena_printf(&children->arena, "%s/%llu", children->scratch,
                             (unsigned long long)(children->folders + !children->spare));
    if (directory == NULL) {
        return error_no_memory(err);
    }
    // The one of the command before, when that has left it as it was and it is still there.
    if (children->spare && scratch_is_untouched(directory)) {
        job->directory = directory;
        job->scratch = true;
        return 0;
    }
    if (children->spare) {
        scratch_remove(directory);
    }
    children->folders += !children->spare;
    children->spare = false;
    if (mkdir(directory, S_IRWXU) != 0) {
        int code = errno;

        // Somebody cleaned up: once more from the start.
        if (code == ENOENT && mkdir(children->scratch, S_IRWXU) == 0 && mkdir(directory, S_IRWXU) == 0) {
            code = 0;
        }
        if (code != 0) {
            return error_set(err, code, "cannot make the scratch folder %.300s: %s", directory,
                             strerror(code));
        }
    }
    job->directory = directory;
    job->scratch = true;
    return 0;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size < (size_t)1 << 30 ? size : (size_t)1 << 30);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int check_bytes(const struct partition *p, uint32_t input, struct error *err)
{
    return p->kind == PARTITION_BYTES
               ? 0
               : error_set(err, EINVAL, "input %u is a table; a command takes bytes", input);
}

static int check_list(const struct job *job, uint32_t input, struct error *err)
{
    size_t lists = job->task->inputs.lists;

    return input < lists ? 0 : error_set(err, EINVAL, "there is no input %u: the task has %zu", input, lists);
}

static void make_parents(struct job *job, char *path)
{
    // Folders below the working directory alone.
    for (char *at = path + strlen(job->directory) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(path, S_IRWXU);
        *at = '/';
    }
}

// A file with partitions [first, last) of all of the task's.
static int write_file(struct job *job, const char *name, uint32_t input, uint32_t first, uint32_t last,
                      struct error *err)
{
    char *path;
    int fd, rc = below(job, name, &path, err);

    if (rc != 0) {
        return rc;
    }
    make_parents(job, path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return error_set(err, errno, "cannot make the input file %.300s: %s", path, strerror(errno));
    }
    for (uint32_t i = first; i < last && rc == 0; i++) {
        const struct partition *p = job->task->inputs.partition[i];

        rc = check_bytes(p, input, err);
        if (rc == 0) {
            rc = write_all(fd, p->bytes->data, p->bytes->size);
            if (rc != 0) {
                error_set(err, -rc, "cannot write the input file %.300s: %s", path, strerror(-rc));
            }
        }
    }
    close(fd);
    return rc;
}

// "{i}" makes it a file for each partition.
static int write_files(struct job *job, const Dray__CommandFile *file, struct error *err)
{
    static const uint32_t zero = 0, one = 1;
    const uint32_t *start = job->task->inputs.start;
    char *first, *second;
    int rc = check_list(job, file->input, err);

    rc = rc == 0 ? expand_text(job, &zero, file->path, &first, err) : rc;
    rc = rc == 0 ? expand_text(job, &one, file->path, &second, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (strcmp(first, second) == 0) {
        return write_file(job, first, file->input, start[file->input], start[file->input + 1], err);
    }
    for (uint32_t i = start[file->input]; i < start[file->input + 1] && rc == 0; i++) {
        uint32_t place = i - start[file->input];

        rc = expand_text(job, &place, file->path, &first, err);
        if (rc == 0) {
            rc = write_file(job, first, file->input, i, i + 1, err);
        }
    }
    return rc;
}

// Those that were put into a folder which is not its own.
static void remove_files(struct job *job, const Dray__CommandFile *file)
{
    const uint32_t *start = job->task->inputs.start;

    for (uint32_t i = 0;
         check_list(job, file->input, NULL) == 0 && i < start[file->input + 1] - start[file->input]; i++) {
        char *name, *path;

        if (expand_text(job, &i, file->path, &name, NULL) == 0 && below(job, name, &path, NULL) == 0) {
            unlink(path);
        }
    }
}

static int prepare_files(struct job *job, size_t *written, struct error *err)
{
    const Dray__Command *command = job->command;
    char *name;
    int rc = 0;

    for (size_t i = 0; i < command->n_file && rc == 0; i++) {
        rc = write_files(job, command->file[i], err);
        *written += rc == 0;
    }
    if (rc == 0 && command->output != NULL) {
        rc = expand_text(job, NULL, command->output, &name, err);
        rc = rc == 0 ? below(job, name, &job->output, err) : rc;
        if (rc == 0) {
            job->was_there = stat(job->output, &job->before) == 0;
        }
    }
    return rc;
}

// ---- the request ------------------------------------------------------------------------------

struct piece {
    const char *text;
    size_t size;
};

static int add_piece(struct piece *piece, size_t *count, uint64_t *total, const char *text, size_t size)
{
    piece[(*count)++] = (struct piece){text, size + 1};
    *total += size + 1;
    return 0;
}

static int add_expanded(struct job *job, struct piece *piece, size_t *count, uint64_t *total,
                        const ProtobufCBinaryData *text, struct error *err)
{
    char *expanded;
    size_t size;
    int rc = expand(job, NULL, text->data, text->len, &expanded, &size, err);

    return rc == 0 ? add_piece(piece, count, total, expanded, size) : rc;
}

// Writes the command into the helper's input memory.
static int put_request(struct job *job, struct error *err)
{
    const Dray__Command *command = job->command;
    struct process *spawner = &job->children->spawner;
    struct channel_command header = {.memory = command->memory,
                                     .words = (uint32_t)command->n_argv + (command->shell ? 2 : 0),
                                     .entries = (uint32_t)command->n_env,
                                     .clear_env = command->clear_env ? 1 : 0};
    struct piece *piece =
        arena_array(&job->children->arena, command->n_argv + command->n_env + 3, sizeof(*piece));
    size_t count = 0, at = sizeof(header);
    int rc = piece != NULL ? 0 : error_no_memory(err);

    if (rc == 0) {
        add_piece(piece, &count, &header.size, job->directory, strlen(job->directory));
    }
    if (rc == 0 && command->shell) {
        add_piece(piece, &count, &header.size, "/bin/sh", strlen("/bin/sh"));
        add_piece(piece, &count, &header.size, "-c", strlen("-c"));
    }
    for (size_t i = 0; i < command->n_argv && rc == 0; i++) {
        rc = add_expanded(job, piece, &count, &header.size, &command->argv[i], err);
    }
    for (size_t i = 0; i < command->n_env && rc == 0; i++) {
        rc = add_expanded(job, piece, &count, &header.size, &command->env[i], err);
    }
    if (rc == 0) {
        rc = process_reserve(spawner, sizeof(header) + header.size, err);
    }
    if (rc != 0) {
        return rc;
    }
    job->program = piece[1].text;
    memcpy(spawner->input, &header, sizeof(header));
    for (size_t i = 0; i < count; i++) {
        memcpy(spawner->input + at, piece[i].text, piece[i].size);
        at += piece[i].size;
    }
    return 0;
}

// ---- pipes ------------------------------------------------------------------------------------

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

// Our end does not block; the other one does, as programs expect.
static int open_pipe(int *ours, int *theirs, bool we_read)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -errno;
    }
    *ours = fds[we_read ? 0 : 1];
    *theirs = fds[we_read ? 1 : 0];
    return fcntl(*ours, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

static bool has_input(const struct job *job)
{
    return job->command->has_stdin || job->command->has_stdin_input;
}

static int start(struct job *job, struct error *err)
{
    struct process *spawner = &job->children->spawner;
    const struct channel_word word = {.kind = WORD_SPAWN, .size = spawner->input_size};
    int fds[CHANNEL_FDS_MAX] = {-1, -1, -1};
    int rc = 0;

    if (has_input(job)) {
        rc = open_pipe(&job->in, &fds[0], false);
    }
    if (rc == 0) {
        rc = open_pipe(&job->err, &fds[2], true);
    }
    if (rc == 0 && job->output == NULL) {
        rc = open_pipe(&job->out, &fds[1], true);
    }
    if (rc == 0) {
        const int given[CHANNEL_FDS_MAX] = {fds[0] >= 0 ? fds[0] : job->children->null,
                                            fds[1] >= 0 ? fds[1] : fds[2], fds[2]};

        rc = channel_send(spawner->socket, &word, given, CHANNEL_FDS_MAX);
    }
    for (int i = 0; i < CHANNEL_FDS_MAX; i++) {
        close_fd(&fds[i]);
    }
    return rc == 0 ? 0 : error_set(err, -rc, "cannot start a command: %s", strerror(-rc));
}

// Partition or bytes number `at` of standard input.
static const uint8_t *input_piece(const struct job *job, size_t at, size_t *size)
{
    if (job->command->has_stdin) {
        *size = job->in_size;
        return job->in_text;
    }
    const struct buffer *bytes =
        job->task->inputs.partition[job->task->inputs.start[job->command->stdin_input] + at]->bytes;

    *size = bytes->size;
    return bytes->data;
}

static int open_input(struct job *job, struct error *err)
{
    const ProtobufCBinaryData *given = &job->command->stdin;
    uint32_t list = job->command->stdin_input;
    const struct kernel_inputs *inputs = &job->task->inputs;
    char *text;
    int rc = 0;

    if (job->command->has_stdin && job->command->stdin_template) {
        rc = expand(job, NULL, given->data, given->len, &text, &job->in_size, err);
        job->in_text = (const uint8_t *)text;
        job->in_count = 1;
    } else if (job->command->has_stdin) {
        job->in_text = given->data;
        job->in_size = given->len;
        job->in_count = 1;
    } else if (job->command->has_stdin_input) {
        rc = check_list(job, list, err);
        if (rc == 0) {
            job->in_count = inputs->start[list + 1] - inputs->start[list];
        }
        for (size_t i = 0; i < job->in_count && rc == 0; i++) {
            rc = check_bytes(inputs->partition[inputs->start[list] + i], list, err);
        }
    }
    return rc;
}

// As much as the pipe takes; closes it at the end, or when nobody reads it any more.
static void feed(struct job *job)
{
    while (job->in_at < job->in_count) {
        size_t size;
        const uint8_t *data = input_piece(job, job->in_at, &size);

        while (job->in_done < size) {
            ssize_t n = write(job->in, data + job->in_done, size - job->in_done);

            if (n < 0 && errno == EAGAIN) {
                return;
            }
            if (n < 0 && errno != EINTR) {
                close_fd(&job->in);
                return;
            }
            job->in_done += n > 0 ? (size_t)n : 0;
        }
        job->in_at++;
        job->in_done = 0;
    }
    close_fd(&job->in);
}

// ---- while it runs ----------------------------------------------------------------------------

static void send_signal(struct job *job, int number)
{
    const struct channel_word word = {.kind = WORD_SIGNAL, .number = (uint64_t)number};

    channel_send(job->children->spawner.socket, &word, NULL, 0);
}

// at_once: without asking first.
static void end_command(struct job *job, int code, bool at_once)
{
    if (job->ending != 0) {
        return;
    }
    job->ending = code;
    job->killed = at_once;
    job->kill_ns = process_now_ns() + GRACE_MS * NS_PER_MS;
    send_signal(job, at_once ? SIGKILL : SIGTERM);
}

static void look_at_time(struct job *job, uint64_t deadline)
{
    uint64_t now = process_now_ns();

    if (job->ending != 0 && !job->killed && now >= job->kill_ns) {
        send_signal(job, SIGKILL);
        job->killed = true;
    } else if (job->ending == 0 && deadline != 0 && now >= deadline) {
        end_command(job, ETIMEDOUT, false);
    }
}

// quiet_ns: nobody looks at its output until then.
static int poll_ms(const struct job *job, uint64_t deadline, uint64_t quiet_ns)
{
    uint64_t at = job->ending == 0 ? deadline : job->killed ? 0 : job->kill_ns;
    uint64_t now;

    if (quiet_ns != 0 && (at == 0 || at > quiet_ns)) {
        at = quiet_ns;
    }
    if (at == 0) {
        return -1;
    }
    now = process_now_ns();
    if (at <= now) {
        return 0;
    }
    at = (at - now + NS_PER_MS - 1) / NS_PER_MS;
    return at > INT_MAX ? INT_MAX : (int)at;
}

static void drain(struct job *job)
{
    if (job->out >= 0) {
        int rc = capture_read(&job->capture, job->children, job->out, &job->why);

        if (rc < 0) {
            end_command(job, ENOMEM, true);
        }
        if (rc <= 0) {
            close_fd(&job->out);
        }
    }
    if (job->err >= 0 && tail_read(&job->tail, job->err) <= 0) {
        close_fd(&job->err);
    }
}

enum { AT_SOCKET, AT_PROCESS, AT_WAKE, AT_OUT, AT_ERR, AT_IN, PLACES };

// 0: it has ended, job->exit says how.  -EOWNERDEAD: the helper has.
static int wait_for_exit(struct job *job, uint64_t deadline)
{
    struct children *children = job->children;
    struct process *spawner = &children->spawner;
    // What a short command writes fits into its pipes and is read at its end: one wake-up instead of three.
    uint64_t quiet_ns = process_now_ns() + QUIET_MS * NS_PER_MS;

    for (;;) {
        struct pollfd fds[PLACES] = {
            [AT_SOCKET] = {.fd = spawner->socket, .events = POLLIN},
            [AT_PROCESS] = {.fd = spawner->pidfd, .events = POLLIN},
            [AT_WAKE] = {.fd = children->wake, .events = POLLIN},
            [AT_OUT] = {.fd = quiet_ns != 0 ? -1 : job->out, .events = POLLIN},
            [AT_ERR] = {.fd = quiet_ns != 0 ? -1 : job->err, .events = POLLIN},
            [AT_IN] = {.fd = job->in, .events = POLLOUT},
        };
        uint64_t count;
        int n = poll(fds, PLACES, poll_ms(job, deadline, quiet_ns));

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        look_at_time(job, deadline);
        if (quiet_ns != 0 && process_now_ns() >= quiet_ns) {
            quiet_ns = 0;
        }
        if (n <= 0) {
            continue;
        }
        if (fds[AT_WAKE].revents != 0 && read(children->wake, &count, sizeof(count)) > 0 &&
            child_task_is_cancelled(job->task)) {
            end_command(job, ECANCELED, false);
        }
        if (fds[AT_IN].revents != 0) {
            feed(job);
        }
        if ((fds[AT_OUT].revents | fds[AT_ERR].revents) != 0) {
            drain(job);
        }
        if ((fds[AT_SOCKET].revents | fds[AT_PROCESS].revents) != 0) {
            int rc = channel_receive(spawner->socket, &job->exit, NULL, false);

            if (rc == 1 && job->exit.kind == WORD_EXIT) {
                job->exited = true;
                drain(job); // what is in the pipes; nobody is left who would write more
                return 0;
            }
            if (rc != -EAGAIN || fds[AT_PROCESS].revents != 0) {
                return -EOWNERDEAD;
            }
        }
    }
}

// A pipe without a reader is an error code here, never a signal.
static int run_with_pipes(struct job *job, uint64_t deadline)
{
    const struct timespec now = {0};
    sigset_t pipes, before, pending;
    int rc;

    if (job->in < 0) {
        return wait_for_exit(job, deadline);
    }
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    feed(job);
    rc = wait_for_exit(job, deadline);
    if (!sigismember(&pending, SIGPIPE)) {
        sigtimedwait(&pipes, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

// ---- how it went ------------------------------------------------------------------------------

static int not_started(struct job *job, struct error *err)
{
    int code = job->exit.code > 0 ? job->exit.code : EPROTO;

    switch ((enum channel_step)job->exit.number) {
    case STEP_DIRECTORY:
        return error_set(err, code, "cannot go to its working directory %.300s: %s", job->directory,
                         strerror(code));
    case STEP_LIMIT:
        return error_set(err, code, "cannot limit its memory to %llu bytes: %s",
                         (unsigned long long)job->command->memory, strerror(code));
    case STEP_EXEC:
        if (code == ENOENT && strchr(job->program, '/') == NULL) {
            return error_set(err, code, "there is no such program in the worker's PATH");
        }
        return error_set(err, code, "cannot be executed: %s", strerror(code));
    case STEP_REQUEST:
    case STEP_CLONE:
    case STEP_DESCRIPTORS:
        break;
    }
    return error_set(err, code, "cannot be started: %s", strerror(code));
}

static void keep_use(struct job *job)
{
    int status = (int)job->exit.status;
    Dray__CommandUse *use = &job->task->use;

    dray__command_use__init(use);
    use->exit_code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    use->wall_us = job->exit.wall_us;
    use->cpu_us = job->exit.cpu_us;
    use->peak_bytes = job->exit.peak_bytes;
    job->task->has_use = true;
}

static int judge(struct job *job, uint32_t timeout_ms, struct error *err)
{
    int status = (int)job->exit.status;
    char how[200];
    int rc;

    if (job->exit.code != 0) {
        return not_started(job, err);
    }
    keep_use(job);
    if (job->ending == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    process_describe(status, how, sizeof(how));
    if (job->ending == ECANCELED) {
        return error_set(err, ECANCELED, "cancelled while it ran");
    }
    if (job->ending == ETIMEDOUT) {
        rc = error_set(err, ETIMEDOUT, "did not end within %u ms", timeout_ms);
    } else if (job->ending != 0) {
        *err = job->why;
        return -job->ending;
    } else {
        rc = error_set(err, WIFSIGNALED(status) ? EOWNERDEAD : EREMOTEIO, "%s", how);
        if (job->command->memory != 0) {
            rc = error_set(err, -rc, "%s (it may take %.0f MiB of address space)", how,
                           (double)job->command->memory / (1024 * 1024));
        }
    }
    return rc;
}

static int read_file(int fd, uint8_t *to, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, to, size < (size_t)1 << 30 ? size : (size_t)1 << 30);

        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return n == 0 ? -EIO : -errno;
        }
        if (n > 0) {
            to += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static bool is_untouched(const struct job *job, const struct stat *now)
{
    return job->was_there && job->before.st_ino == now->st_ino && job->before.st_size == now->st_size &&
           job->before.st_mtim.tv_sec == now->st_mtim.tv_sec &&
           job->before.st_mtim.tv_nsec == now->st_mtim.tv_nsec;
}

static int read_output_file(struct job *job, struct buffer **out, struct error *err)
{
    int fd = open(job->output, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const char *name = job->output + strlen(job->directory) + 1;
    struct buffer *buffer = NULL;
    struct stat info;
    uint8_t *data;
    int rc = 0;

    if (fd < 0 || fstat(fd, &info) != 0) {
        rc = error_set(err, errno, "ended well, but its output file %.200s cannot be read: %s", name,
                       strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        rc = error_set(err, EINVAL, "its output file %.200s is not a regular file", name);
    } else if (is_untouched(job, &info)) {
        rc = error_set(err, ENOENT,
                       "ended well, but did not write its output file %.200s: the one there is older", name);
    } else {
        rc = children_take(job->children, (uint64_t)info.st_size, "its output file", err);
    }
    if (rc == 0) {
        buffer = buffer_create((size_t)info.st_size, &data);
        rc = buffer == NULL ? error_no_memory(err) : read_file(fd, data, (size_t)info.st_size);
        if (rc != 0 && buffer != NULL) {
            error_set(err, -rc, "cannot read its output file %.200s: %s", name, strerror(-rc));
            buffer_unref(buffer);
        }
    }
    close_fd(&fd);
    if (rc == 0) {
        *out = buffer;
    }
    return rc;
}

static int take_result(struct job *job, struct error *err)
{
    struct buffer *buffer = NULL;
    int rc = job->output != NULL ? read_output_file(job, &buffer, err)
                                 : capture_finish(&job->capture, job->children, &buffer, err);

    if (rc == 0) {
        job->task->partition = partition_from_bytes(buffer);
        rc = job->task->partition != NULL ? 0 : error_no_memory(err);
    }
    return rc;
}

// ---- one command ------------------------------------------------------------------------------

static int run(struct job *job, uint32_t timeout_ms, size_t *files, struct error *err)
{
    uint64_t deadline = timeout_ms != 0 ? process_now_ns() + timeout_ms * NS_PER_MS : 0;
    int rc = job->children->spawner.pid == 0 ? start_spawner(job->children, err) : 0;

    if (rc == 0) {
        rc = choose_directory(job, err);
    }
    if (rc == 0) {
        rc = prepare_files(job, files, err);
    }
    if (rc == 0) {
        rc = open_input(job, err);
    }
    if (rc == 0) {
        rc = put_request(job, err);
    }
    if (rc == 0) {
        rc = start(job, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = run_with_pipes(job, deadline);
    if (rc != 0) {
        process_end(&job->children->spawner, 0);
        return error_set(err, EOWNERDEAD, "the process that starts commands has ended, and this one with it");
    }
    rc = judge(job, timeout_ms, err);
    if (rc != 0) {
        tail_append(&job->tail, err);
        return rc;
    }
    return take_result(job, err);
}

static void name_error(const struct job *job, struct error *err)
{
    const ProtobufCBinaryData *first = &job->command->argv[0];
    const char *text = job->program;
    size_t size = text != NULL ? strlen(text) : first->len;

    if (text == NULL) {
        text = (const char *)first->data;
    }
    if (job->command->shell) {
        text = (const char *)first->data;
        size = first->len;
    }
    error_prefix(err, "command '%.*s%s': ", (int)(size < MESSAGE_ARGV ? size : MESSAGE_ARGV), text,
                 size > MESSAGE_ARGV ? "..." : "");
}

void command_run(struct children *children, const Dray__Command *command, uint32_t timeout_ms,
                 struct child_task *task)
{
    struct job job = {.children = children, .command = command, .task = task, .out = -1, .err = -1, .in = -1};
    size_t files = 0;

    if (child_task_is_cancelled(task)) {
        task->rc = error_set(&task->err, ECANCELED, "cancelled");
        return;
    }
    task->rc = run(&job, timeout_ms, &files, &task->err);
    if (task->rc != 0) {
        name_error(&job, &task->err);
    }
    close_fd(&job.in);
    close_fd(&job.out);
    close_fd(&job.err);
    if (job.capture.room > 0) {
        capture_drop(&job.capture, children);
    }
    if (job.scratch) {
        children->spare = scratch_is_untouched(job.directory);
        if (!children->spare) {
            scratch_remove(job.directory);
        }
    }
    for (size_t i = 0; i < files && !job.scratch; i++) {
        remove_files(&job, command->file[i]);
    }
    if (children->spawner.pid != 0) {
        process_trim(&children->spawner);
    }
    arena_reset(&children->arena);
}
