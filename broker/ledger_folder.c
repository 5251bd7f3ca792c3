// The state folder itself: who has it, whether what is in it can be a journal, whether there is room.
#include "broker/ledger_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static const char FILE_NAME[] = "journal.db";
static const char GRAPHS_NAME[] = "graphs";

int ledger_open_folder(const char *path, int *out, struct error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return error_set(err, errno, "cannot make the folder %s: %s", path, strerror(errno));
    }
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *out >= 0 ? 0 : error_set(err, errno, "cannot open the folder %s: %s", path, strerror(errno));
}

// The lock goes with the process, however it ends; what is written in it is for people.
static int take_lock(struct ledger *ledger, struct error *err)
{
    char text[32] = "";
    ssize_t size;

    ledger->lock = openat(ledger->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ledger->lock < 0) {
        return error_set(err, errno,
                         "cannot write %s/lock: %s (a broker must be able to write in its state folder)",
                         ledger->dir, strerror(errno));
    }
    if (flock(ledger->lock, LOCK_EX | LOCK_NB) != 0) {
        int code = errno;

        if (code != EWOULDBLOCK) {
            return error_set(err, code, "cannot lock %s/lock: %s", ledger->dir, strerror(code));
        }
        size = pread(ledger->lock, text, sizeof(text) - 1, 0);
        text[size > 0 ? size : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
        return error_set(err, EBUSY,
                         "the state folder %s is in use by another broker%s%s: two cannot share one",
                         ledger->dir, text[0] != '\0' ? ", process " : "", text);
    }
    size = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(ledger->lock, 0) != 0 || pwrite(ledger->lock, text, (size_t)size, 0) != size) {
        return 0; // a full disk is no reason: it is locked
    }
    return 0;
}

int ledger_take_folder(struct ledger *ledger, struct error *err)
{
    int rc = ledger_open_folder(ledger->dir, &ledger->folder, err);

    if (rc != 0) {
        return rc;
    }
    ledger->place = realpath(ledger->dir, NULL); // without memory: as it was said
    return take_lock(ledger, err);
}

// ---- what is there ----------------------------------------------------------------

static bool has_files(const struct ledger *ledger, const char *name)
{
    int fd = openat(ledger->folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    bool any = false;

    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    while (!any && (entry = readdir(dir)) != NULL) {
        any = entry->d_name[0] != '.';
    }
    closedir(dir);
    return any;
}

static bool is_there(const struct ledger *ledger, const char *name)
{
    return faccessat(ledger->folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

// What belongs to a journal that is not there would be removed otherwise.  Appends what it did to `text`.
static void put_aside(const struct ledger *ledger, const char *name, char *text, size_t size)
{
    char aside[64];
    size_t length = strlen(text);

    snprintf(aside, sizeof(aside), "%s.left-%lld", name, (long long)time(NULL));
    if (renameat(ledger->folder, name, ledger->folder, aside) == 0) {
        snprintf(text + length, size - length, "%s%s as %s",
                 length > 0 ? ", " : "; what belonged to it is kept: ", name, aside);
    }
}

static int begin_anew(const struct ledger *ledger, bool empty)
{
    char kept[256] = "";

    if (!is_there(ledger, GRAPHS_NAME) && !is_there(ledger, LEDGER_WAL_NAME)) {
        return 1; // nobody has been here
    }
    if (is_there(ledger, LEDGER_WAL_NAME)) {
        put_aside(ledger, LEDGER_WAL_NAME, kept, sizeof(kept));
    }
    if (has_files(ledger, GRAPHS_NAME)) {
        put_aside(ledger, GRAPHS_NAME, kept, sizeof(kept));
    }
    log_write(
        ledger->log, LEVEL_WARNING,
        "%s is %s, although a broker has used this folder before: a new journal begins, and what the old "
        "one knew is lost (jobs, what became of them, names of kept results); workers and clients that were "
        "there take this for another broker. If the file is elsewhere, stop this broker and put it back%s",
        ledger->path, empty ? "empty" : "gone", kept);
    return 1;
}

int ledger_look_at_file(struct ledger *ledger, struct error *err)
{
    struct stat file;

    if (fstatat(ledger->folder, FILE_NAME, &file, AT_SYMLINK_NOFOLLOW) != 0) {
        int rc = errno == ENOENT
                     ? ledger_finish_repair(ledger, err)
                     : error_set(err, errno, "cannot look at %s: %s", ledger->path, strerror(errno));

        return rc == 0 ? begin_anew(ledger, false) : rc > 0 ? 0 : rc;
    }
    if (S_ISLNK(file.st_mode)) {
        return error_set(
            err, EINVAL,
            "%s is a symbolic link, and what belongs to the journal (its log, its lock) would be in "
            "another folder than itself: name that folder with --state, or link the whole folder",
            ledger->path);
    }
    if (!S_ISREG(file.st_mode)) {
        return error_set(err, EINVAL,
                         "%s is no journal of a broker (it is %s): move it away, or name another folder",
                         ledger->path, S_ISDIR(file.st_mode) ? "a folder" : "no regular file");
    }
    if (faccessat(ledger->folder, FILE_NAME, R_OK | W_OK, AT_EACCESS) != 0) {
        return error_set(
            err, errno,
            "cannot read and write %s: %s (it belongs to user %ju, and this broker runs as user %ju)",
            ledger->path, strerror(errno), (uintmax_t)file.st_uid, (uintmax_t)geteuid());
    }
    return file.st_size == 0 ? begin_anew(ledger, true) : 0;
}

static uint64_t inode_of(const struct ledger *ledger)
{
    struct stat file;

    return fstatat(ledger->folder, FILE_NAME, &file, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)file.st_ino : 0;
}

void ledger_note_file(struct ledger *ledger)
{
    ledger->inode = inode_of(ledger);
}

int ledger_check_file(const struct ledger *ledger, struct error *err)
{
    if (ledger->inode == 0 || inode_of(ledger) == ledger->inode) {
        return 0;
    }
    return error_set(
        err, ESTALE,
        "%s was removed or replaced while this broker writes to it: what it takes from now on would "
        "be lost with it; let the jobs that run end, then stop the broker and start it again",
        ledger->path);
}

// ---- room -------------------------------------------------------------------------

void ledger_say_full(const struct ledger *ledger, struct error *err)
{
    const char *place = ledger->place != NULL ? ledger->place : ledger->dir;
    struct statvfs disk;
    int code = err->code;

    if (fstatvfs(ledger->folder, &disk) != 0) {
        error_set(err, code, "the disk of the state folder %s is full: %s", place, strerror(code));
        return;
    }
    error_set(err, code, "the disk of the state folder %s is full (%.1f of %.1f MB are free): %s", place,
              (double)disk.f_bavail * (double)disk.f_frsize / 1e6,
              (double)disk.f_blocks * (double)disk.f_frsize / 1e6, strerror(code));
}
