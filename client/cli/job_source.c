#include "client/cli/job_source.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_BYTES = 1 << 16 };

// malloc'd, with a zero byte behind it.
static int read_descriptor(int fd, const char *name, char **out, size_t *size, struct error *err)
{
    size_t capacity = FIRST_BYTES, used = 0;
    char *text = malloc(capacity + 1);

    while (text != NULL) {
        ssize_t n = read(fd, text + used, capacity - used);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            int code = errno;

            free(text);
            return error_set(err, code, "cannot read %s: %s", name, strerror(code));
        }
        used += (size_t)n;
        if (n == 0) {
            text[used] = '\0';
            *out = text;
            *size = used;
            return 0;
        }
        if (used > DOCUMENT_BYTES_MAX) {
            free(text);
            return error_set(err, EFBIG, "%s is longer than %zu MB", name, DOCUMENT_BYTES_MAX >> 20);
        }
        if (used == capacity) {
            char *grown = realloc(text, 2 * capacity + 1);

            if (grown == NULL) {
                free(text);
            }
            text = grown;
            capacity *= 2;
        }
    }
    return error_no_memory(err);
}

static int read_file(const char *path, const char *name, struct arena *arena, const char **out, size_t *size,
                     struct error *err)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char *text = NULL;
    int rc;

    if (fd < 0) {
        return error_set(err, errno, "cannot read %s: %s", name, strerror(errno));
    }
    rc = read_descriptor(fd, name, &text, size, err);
    if (!standard) {
        close(fd);
    }
    if (rc == 0) {
        *out = arena_copy(arena, text, *size + 1);
        rc = *out == NULL ? error_no_memory(err) : 0;
    }
    free(text);
    return rc;
}

int job_source_read(const char *path, struct arena *arena, struct job_source *out, struct error *err)
{
    struct job_source source = {.name = strcmp(path, "-") == 0 ? "standard input" : path};
    int rc = read_file(path, source.name, arena, &source.text, &source.size, err);

    if (rc == 0) {
        *out = source;
    }
    return rc;
}

// ---- parameters ------------------------------------------------------------------------------

static int read_lines(void *context, const char *path, struct arena *arena, struct lines *out,
                      struct error *err)
{
    const char *text, *at;
    struct lines lines = {0};
    size_t size, room = 1;
    int rc;

    (void)context;
    if (strcmp(path, "-") == 0) {
        return error_set(err, EINVAL, "'-' is not a file here");
    }
    rc = read_file(path, path, arena, &text, &size, err);
    if (rc != 0) {
        return rc;
    }
    if (memchr(text, '\0', size) != NULL) {
        return error_set(err, EINVAL, "%s has a zero byte: it is no text file", path);
    }
    for (size_t i = 0; i < size; i++) {
        room += text[i] == '\n';
    }
    lines.line = arena_array(arena, room, sizeof(*lines.line));
    if (lines.line == NULL) {
        return error_no_memory(err);
    }
    for (at = text; at < text + size;) {
        char *end = strchr(at, '\n');
        char *stop = end != NULL ? end : (char *)(uintptr_t)text + size;

        if (stop > at && stop[-1] == '\r') {
            stop[-1] = '\0';
        }
        *stop = '\0'; // the copy in the arena is ours
        lines.line[lines.count++] = at;
        at = stop + 1;
    }
    *out = lines;
    return 0;
}

static int find_paths(void *context, const char *pattern, struct arena *arena, struct lines *out,
                      struct error *err)
{
    struct lines lines = {0};
    glob_t found = {0};
    int rc = glob(pattern, GLOB_ERR, NULL, &found);

    (void)context;
    if (rc == GLOB_NOMATCH) {
        globfree(&found);
        return error_set(err, ENOENT, "no file matches '%.200s'", pattern);
    }
    if (rc != 0) {
        int code = rc == GLOB_NOSPACE ? ENOMEM : errno != 0 ? errno : EIO;

        globfree(&found);
        return error_set(err, code, "cannot look for '%.200s': %s", pattern, strerror(code));
    }
    lines.line = arena_array(arena, found.gl_pathc + 1, sizeof(*lines.line));
    for (size_t i = 0; lines.line != NULL && i < found.gl_pathc; i++) {
        lines.line[i] = arena_strdup(arena, found.gl_pathv[i]);
        if (lines.line[i] == NULL) {
            lines.line = NULL;
        } else {
            lines.count++;
        }
    }
    globfree(&found);
    if (lines.line == NULL) {
        return error_no_memory(err);
    }
    *out = lines;
    return 0;
}

int job_source_host(struct arena *arena, struct job_file_host *out, struct error *err)
{
    char *directory = getcwd(NULL, 0);
    const char *copy;

    if (directory == NULL) {
        return error_set(err, errno, "cannot tell the working directory: %s", strerror(errno));
    }
    copy = arena_strdup(arena, directory);
    free(directory);
    if (copy == NULL) {
        return error_no_memory(err);
    }
    *out = (struct job_file_host){.directory = copy, .lines = read_lines, .glob = find_paths};
    return 0;
}
