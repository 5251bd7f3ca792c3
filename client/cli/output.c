#include "client/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/command.h"

enum {
    COPY_BYTES = 1 << 18,
    MODE_NEW = 0666, // and the umask
};

// A regular file is written without a name in the folder of the target (so that
// nothing is left behind by kill -9), gets a name and is renamed.  Anything else
// (a pipe, a terminal, /dev/null) gets a copy of a nameless file in $TMPDIR.
struct output {
    char *path;      // as given, NULL: standard output
    char *target;    // absolute, links followed; NULL: copy to `sink`
    char *directory; // of target
    char *spare;     // a name in the directory while the file has one that is not the target's
    int sink;
    bool sink_owned;
    mode_t mode;
    FILE *stream;
};

static const char *output_name(const struct output *output)
{
    return output->path != NULL ? output->path : "standard output";
}

static int fail(const struct output *output, int code, struct error *err)
{
    return error_set(err, code, "cannot write %s: %s", output_name(output), strerror(code));
}

static mode_t new_file_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return MODE_NEW & ~mask;
}

static int split_target(struct output *output, struct error *err)
{
    char *copy = strdup(output->target);

    if (copy != NULL) {
        output->directory = strdup(dirname(copy));
    }
    free(copy);
    return output->directory != NULL ? 0 : error_no_memory(err);
}

// A file that does not exist yet: the folder must.
static int set_new_target(struct output *output, struct error *err)
{
    char *copy = strdup(output->path);
    char *again = strdup(output->path);
    char *folder = copy != NULL ? realpath(dirname(copy), NULL) : NULL;
    int rc = 0;

    if (copy == NULL || again == NULL) {
        rc = error_no_memory(err);
    } else if (folder == NULL) {
        rc = fail(output, errno, err);
    } else if (output->path[0] == '\0' || output->path[strlen(output->path) - 1] == '/') {
        rc = fail(output, EISDIR, err);
    } else if (asprintf(&output->target, "%s/%s", folder, basename(again)) < 0) {
        output->target = NULL;
        rc = error_no_memory(err);
    }
    free(folder);
    free(again);
    free(copy);
    output->mode = new_file_mode();
    return rc != 0 ? rc : split_target(output, err);
}

// /dev/stdout, or what it goes to by its own name: others write there too, so it must stay the same file.
static bool is_open(const struct stat *info, int *fd)
{
    struct stat other;

    for (*fd = STDOUT_FILENO; *fd <= STDERR_FILENO; ++*fd) {
        if (fstat(*fd, &other) == 0 && other.st_dev == info->st_dev && other.st_ino == info->st_ino) {
            return true;
        }
    }
    return false;
}

static int set_file(struct output *output, struct error *err)
{
    struct stat info;
    int fd;

    if (stat(output->path, &info) != 0) {
        return errno == ENOENT ? set_new_target(output, err) : fail(output, errno, err);
    }
    if (S_ISDIR(info.st_mode)) {
        return fail(output, EISDIR, err);
    }
    if (!S_ISREG(info.st_mode)) {
        output->sink = open(output->path, O_WRONLY | O_CLOEXEC);
        output->sink_owned = true;
        return output->sink >= 0 ? 0 : fail(output, errno, err);
    }
    if (is_open(&info, &fd)) {
        output->sink = fd;
        return 0;
    }
    // A rename would get around a file's write protection.
    if (access(output->path, W_OK) != 0) {
        return fail(output, errno, err);
    }
    output->target = realpath(output->path, NULL);
    if (output->target == NULL) {
        return fail(output, errno, err);
    }
    output->mode = info.st_mode & 07777;
    return split_target(output, err);
}

int output_create(const char *path, struct output **out, struct error *err)
{
    struct output *output = calloc(1, sizeof(*output));
    int rc = 0;

    if (output == NULL) {
        return error_no_memory(err);
    }
    output->sink = STDOUT_FILENO;
    if (path == NULL || strcmp(path, "-") == 0) {
        rc = stdout_was_closed() ? error_set(err, EBADF, "cannot write standard output: it is closed") : 0;
    } else {
        output->path = strdup(path);
        rc = output->path == NULL ? error_no_memory(err) : set_file(output, err);
        if (rc == 0 && output->target != NULL && access(output->directory, W_OK | X_OK) != 0) {
            rc = fail(output, errno, err);
        }
    }
    if (rc != 0) {
        output_destroy(output);
        return rc;
    }
    *out = output;
    return 0;
}

// ---- writing ------------------------------------------------------------------------------

// Not every file system has files without a name: then one with a name, which goes at
// once unless it shall become the target.
static int open_named(struct output *output, const char *directory)
{
    char *path = NULL;
    int fd;

    if (asprintf(&path, "%s/.dray-XXXXXX", directory) < 0) {
        errno = ENOMEM;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0 && output->target != NULL) {
        output->spare = path;
        return fd;
    }
    if (fd >= 0) {
        unlink(path);
    }
    free(path);
    return fd;
}

static int open_scratch(struct output *output, const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT)) {
        fd = open_named(output, directory);
    }
    return fd;
}

static const char *scratch_directory(void)
{
    const char *directory = getenv("TMPDIR");

    return directory != NULL && directory[0] == '/' ? directory : "/tmp";
}

int output_begin(struct output *output, FILE **stream, struct error *err)
{
    if (output->stream == NULL) {
        const char *directory = output->target != NULL ? output->directory : scratch_directory();
        int fd = open_scratch(output, directory);

        if (fd < 0) {
            return error_set(err, errno, "cannot write %s: cannot make a file in %s: %s", output_name(output),
                             directory, strerror(errno));
        }
        output->stream = fdopen(fd, "w+");
        if (output->stream == NULL) {
            close(fd);
            return error_no_memory(err);
        }
        setvbuf(output->stream, NULL, _IOFBF, COPY_BYTES);
    } else if (fflush(output->stream) != 0 || ftruncate(fileno(output->stream), 0) != 0 ||
               fseeko(output->stream, 0, SEEK_SET) != 0) {
        return fail(output, errno, err);
    }
    *stream = output->stream;
    return 0;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int copy_to_sink(const struct output *output)
{
    char *bytes = malloc(COPY_BYTES);
    off_t at = 0;
    int rc = bytes == NULL ? -ENOMEM : 0;

    while (rc == 0) {
        ssize_t n = pread(fileno(output->stream), bytes, COPY_BYTES, at);

        if (n <= 0) {
            rc = n < 0 ? -errno : 0;
            break;
        }
        rc = write_all(output->sink, bytes, (size_t)n);
        at += n;
    }
    free(bytes);
    if (rc == 0 && output->sink_owned && close(dup(output->sink)) != 0) {
        rc = -errno; // some file systems tell of a full disk only here
    }
    return rc;
}

// Gives the nameless file a name of its own, then the target's.
static int put_in_place(struct output *output)
{
    int fd = fileno(output->stream);
    char self[64];
    int directory;

    if (fchmod(fd, output->mode) != 0 || fsync(fd) != 0) {
        return -errno;
    }
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    for (unsigned i = 0; output->spare == NULL; i++) {
        char *name = NULL;

        if (asprintf(&name, "%s/.dray-%ld-%u", output->directory, (long)getpid(), i) < 0) {
            return -ENOMEM;
        }
        if (linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            output->spare = name;
        } else {
            int code = errno;

            free(name);
            if (code != EEXIST) {
                return -code;
            }
        }
    }
    if (rename(output->spare, output->target) != 0) {
        return -errno;
    }
    free(output->spare);
    output->spare = NULL;
    directory = open(output->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        fsync(directory);
        close(directory);
    }
    return 0;
}

int output_commit(struct output *output, struct error *err)
{
    int rc;

    if (fflush(output->stream) != 0 || ferror(output->stream)) {
        return fail(output, errno != 0 ? errno : EIO, err);
    }
    rc = output->target != NULL ? put_in_place(output) : copy_to_sink(output);
    return rc != 0 ? fail(output, -rc, err) : 0;
}

void output_destroy(struct output *output)
{
    if (output == NULL) {
        return;
    }
    if (output->spare != NULL) {
        unlink(output->spare);
        free(output->spare);
    }
    if (output->stream != NULL) {
        fclose(output->stream);
    }
    if (output->sink_owned) {
        close(output->sink);
    }
    free(output->path);
    free(output->target);
    free(output->directory);
    free(output);
}
