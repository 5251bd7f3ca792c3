#include "worker/child/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    OPEN_FOLDERS = 16,
    FULL_BYTES = 16 << 10,
    FULL_FILES = 1,
};

int scratch_create(const char *base, char **path, struct error *err)
{
    char *made = NULL;

    if (asprintf(&made, "%s/dray-XXXXXX", base) < 0) {
        return error_no_memory(err);
    }
    if (mkdtemp(made) == NULL) {
        int code = errno;

        free(made);
        return error_set(err, code, "cannot make a folder in %.300s: %s", base, strerror(code));
    }
    *path = made;
    return 0;
}

// Folders that cannot be read or written become so.
static int open_up(const char *path, const struct stat *info, int flag, struct FTW *place)
{
    (void)place;
    if ((flag == FTW_D || flag == FTW_DNR) && (info->st_mode & S_IRWXU) != S_IRWXU) {
        chmod(path, S_IRWXU);
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int flag, struct FTW *place)
{
    (void)info;
    (void)place;
    if (flag == FTW_DP || flag == FTW_DNR ? rmdir(path) : unlink(path)) {
        return errno == ENOENT ? 0 : -errno;
    }
    return 0;
}

int scratch_remove(const char *path)
{
    // Nearly always empty.
    if (rmdir(path) == 0 || errno == ENOENT) {
        return 0;
    }
    int rc = nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

    if (rc != 0) {
        // A folder opens up before what is in it is seen, one level a pass at worst.
        for (int pass = 0; pass < OPEN_FOLDERS && rc != 0; pass++) {
            nftw(path, open_up, OPEN_FOLDERS, FTW_PHYS | FTW_MOUNT);
            rc = nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        }
    }
    return rc;
}

bool scratch_is_untouched(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    struct stat info;
    bool empty;

    if (folder == NULL) {
        return false;
    }
    empty = lstat(path, &info) == 0 && S_ISDIR(info.st_mode) && (info.st_mode & 0777) == S_IRWXU;
    while (empty && (entry = readdir(folder)) != NULL) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    closedir(folder);
    return empty;
}

bool scratch_is_full(const char *path)
{
    struct statvfs fs;

    return statvfs(path, &fs) == 0 &&
           (fs.f_bavail * fs.f_frsize < FULL_BYTES || (fs.f_files > 0 && fs.f_favail < FULL_FILES));
}
