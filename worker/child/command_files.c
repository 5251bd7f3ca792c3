// A command's folder and files: inputs that are put there, the output that is read.
#include "worker/child/command_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/template.h"
#include "worker/child/scratch.h"

// ---- texts ------------------------------------------------------------------------------------

int command_expand(struct job *job, const uint32_t *place, const void *text, size_t text_size, char **out,
                   size_t *size, struct error *err)
{
    return template_expand(job->command, job->task->index, place, text, text_size, &job->children->arena, out,
                           size, err);
}

static int expand_text(struct job *job, const uint32_t *place, const char *text, char **out,
                       struct error *err)
{
    size_t size;

    return command_expand(job, place, text, strlen(text), out, &size, err);
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

int command_choose_directory(struct job *job, struct error *err)
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

int command_check_bytes(const struct partition *p, uint32_t input, struct error *err)
{
    return p->kind == PARTITION_BYTES
               ? 0
               : error_set(err, EINVAL, "input %u is a table; a command takes bytes", input);
}

int command_check_list(const struct job *job, uint32_t input, struct error *err)
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

        rc = command_check_bytes(p, input, err);
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
    int rc = command_check_list(job, file->input, err);

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

void command_remove_files(struct job *job, const Dray__CommandFile *file)
{
    const uint32_t *start = job->task->inputs.start;

    for (uint32_t i = 0;
         command_check_list(job, file->input, NULL) == 0 && i < start[file->input + 1] - start[file->input];
         i++) {
        char *name, *path;

        if (expand_text(job, &i, file->path, &name, NULL) == 0 && below(job, name, &path, NULL) == 0) {
            unlink(path);
        }
    }
}

int command_prepare_files(struct job *job, size_t *written, struct error *err)
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

// ---- its output --------------------------------------------------------------------------------

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

int command_read_output(struct job *job, struct buffer **out, struct error *err)
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
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0) {
        *out = buffer;
    }
    return rc;
}
