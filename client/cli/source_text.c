#include "client/cli/source_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SCRIPT_BYTES_MAX = 16 << 20,
    FIRST_BYTES = 4096,
};

static int read_all(int fd, const char *name, struct source_text *out, struct error *err)
{
    size_t capacity = 0, size = 0;
    char *text = NULL;

    for (;;) {
        ssize_t n;

        if (size == capacity) {
            size_t larger = capacity == 0 ? FIRST_BYTES : 2 * capacity;
            char *grown = larger > 2 * (size_t)SCRIPT_BYTES_MAX ? NULL : realloc(text, larger);

            if (grown == NULL) {
                free(text);
                return error_set(err, EFBIG, "%s is too long for a script (more than %d MB)", name,
                                 SCRIPT_BYTES_MAX >> 20);
            }
            text = grown;
            capacity = larger;
        }
        n = read(fd, text + size, capacity - size);
        if (n < 0 && errno != EINTR) {
            int code = errno;

            free(text);
            return error_set(err, code, "cannot read the script %s: %s", name, strerror(code));
        }
        if (n == 0) {
            break;
        }
        size += n > 0 ? (size_t)n : 0;
    }
    out->text = text;
    out->size = size;
    out->name = name;
    return 0;
}

static bool is_script_file(const char *argument)
{
    size_t size = strlen(argument);
    struct stat info;

    return (size >= 5 && strcmp(argument + size - 5, ".dray") == 0) ||
           (stat(argument, &info) == 0 && !S_ISDIR(info.st_mode));
}

// No expression of use: somebody means the scripts in it, or its data.
static bool is_folder(const char *argument)
{
    struct stat info;

    return strchr(argument, '/') != NULL && stat(argument, &info) == 0 && S_ISDIR(info.st_mode);
}

int source_text_read(const char *argument, struct source_text *out, struct error *err)
{
    int fd, rc;

    if (strcmp(argument, "-") == 0) {
        return read_all(STDIN_FILENO, "standard input", out, err);
    }
    if (is_folder(argument)) {
        return error_set(err, EISDIR, "%s is a folder: give a script in it, or an expression", argument);
    }
    if (!is_script_file(argument)) {
        out->text = strdup(argument);
        if (out->text == NULL) {
            return error_no_memory(err);
        }
        out->size = strlen(argument);
        out->name = "expression";
        return 0;
    }
    fd = open(argument, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set(err, errno, "cannot read the script %s: %s", argument, strerror(errno));
    }
    rc = read_all(fd, argument, out, err);
    close(fd);
    return rc;
}

void source_text_fini(struct source_text *text)
{
    free(text->text);
    text->text = NULL;
}
