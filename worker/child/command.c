// Commands: a process each, started by a small helper (worker/host/spawner.h says why), its pipes read here.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/child/command_state.h"
#include "worker/child/line.h"
#include "worker/child/scratch.h"

enum {
    START_SECONDS = 60,
    QUIET_MS = 3,
};
#define NS_PER_MS UINT64_C(1000000)

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
    int rc = command_expand(job, NULL, text->data, text->len, &expanded, &size, err);

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
        rc = command_expand(job, NULL, given->data, given->len, &text, &job->in_size, err);
        job->in_text = (const uint8_t *)text;
        job->in_count = 1;
    } else if (job->command->has_stdin) {
        job->in_text = given->data;
        job->in_size = given->len;
        job->in_count = 1;
    } else if (job->command->has_stdin_input) {
        rc = command_check_list(job, list, err);
        if (rc == 0) {
            job->in_count = inputs->start[list + 1] - inputs->start[list];
        }
        for (size_t i = 0; i < job->in_count && rc == 0; i++) {
            rc = command_check_bytes(inputs->partition[inputs->start[list] + i], list, err);
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

static int take_result(struct job *job, struct error *err)
{
    struct buffer *buffer = NULL;
    int rc = job->output != NULL ? command_read_output(job, &buffer, err)
                                 : capture_finish(&job->capture, job->children, &buffer, err);

    if (rc == 0) {
        job->task->partition = partition_from_bytes(buffer);
        rc = job->task->partition != NULL ? 0 : error_no_memory(err);
    }
    return rc;
}

// ---- one command ------------------------------------------------------------------------------

// It may have been killed while there was nothing to do.
static bool has_ended(const struct process *process)
{
    struct pollfd fd = {.fd = process->pidfd, .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

static int run(struct job *job, uint32_t timeout_ms, size_t *files, struct error *err)
{
    uint64_t deadline = timeout_ms != 0 ? process_now_ns() + timeout_ms * NS_PER_MS : 0;
    int rc = 0;

    if (job->children->spawner.pid != 0 && has_ended(&job->children->spawner)) {
        process_end(&job->children->spawner, 0);
    }
    if (job->children->spawner.pid == 0) {
        rc = start_spawner(job->children, err);
    }
    if (rc == 0) {
        rc = command_choose_directory(job, err);
    }
    if (rc == 0) {
        rc = command_prepare_files(job, files, err);
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

// With what ran for this task: its index, parameters and columns are in it.
static void name_error(struct job *job, struct error *err)
{
    const Dray__Command *command = job->command;
    struct line line = {0};

    for (size_t i = 0; i < command->n_argv && !line.cut; i++) {
        const ProtobufCBinaryData *word = &command->argv[i];
        char *text;
        size_t size;

        if (command_expand(job, NULL, word->data, word->len, &text, &size, NULL) != 0) {
            text = (char *)word->data; // it is too large, which may be just what went wrong
            size = word->len;
        }
        if (command->shell && i == 0) {
            line_add(&line, text, size);
        } else {
            line_add_word(&line, text, size);
        }
    }
    error_prefix(err, "command '%s': ", line.text);
}

// What fails while the disk of the scratch folders is full is taken to fail for that: not the task's fault.
static void blame_disk(struct job *job)
{
    struct error *err = &job->task->err;

    if (job->ending == 0 && job->scratch && scratch_is_full(job->directory)) {
        error_prefix(err, "the disk of its --scratch folder is full: ");
        err->code = ENOSPC;
        job->task->rc = -ENOSPC;
    }
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
        blame_disk(&job);
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
        command_remove_files(&job, command->file[i]);
    }
    if (children->spawner.pid != 0) {
        process_trim(&children->spawner);
    }
    arena_reset(&children->arena);
}
