// A state folder for a test, and what a crash would leave of it.
#ifndef DRAY_TESTS_UNIT_STATE_FOLDER_H
#define DRAY_TESTS_UNIT_STATE_FOLDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct state_folder {
    char path[64];
};

static inline void folder_begin(struct state_folder *folder)
{
    snprintf(folder->path, sizeof(folder->path), "/tmp/dray-state-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static inline int folder_remove_entry(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void folder_end(struct state_folder *folder)
{
    nftw(folder->path, folder_remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline uint8_t *folder_slurp(const struct state_folder *folder, const char *name, size_t *size)
{
    char path[400];
    FILE *file;
    uint8_t *bytes = NULL;
    long length;

    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    file = fopen(path, "rbe");
    if (file == NULL) {
        return NULL;
    }
    fseek(file, 0, SEEK_END);
    length = ftell(file);
    rewind(file);
    bytes = malloc((size_t)length + 1);
    assert_non_null(bytes);
    *size = fread(bytes, 1, (size_t)length, file);
    fclose(file);
    return bytes;
}

static inline void folder_put(const struct state_folder *folder, const char *name, const void *bytes,
                              size_t size)
{
    char path[400];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    file = fopen(path, "wbe");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static inline void folder_copy_file(const struct state_folder *from, const struct state_folder *to,
                                    const char *name)
{
    size_t size = 0;
    uint8_t *bytes = folder_slurp(from, name, &size);

    if (bytes != NULL) {
        folder_put(to, name, bytes, size);
        free(bytes);
    }
}

// What a process that dies now leaves behind, in a folder of its own.
static inline void folder_crash(const struct state_folder *from, struct state_folder *to)
{
    char path[100], name[300];
    DIR *dir;
    const struct dirent *entry;

    folder_begin(to);
    snprintf(path, sizeof(path), "%s/graphs", to->path);
    assert_int_equal(mkdir(path, 0700), 0);
    folder_copy_file(from, to, "journal.db");
    folder_copy_file(from, to, "journal.db-wal");
    snprintf(path, sizeof(path), "%s/graphs", from->path);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof(name), "graphs/%s", entry->d_name);
            folder_copy_file(from, to, name);
        }
    }
    closedir(dir);
}

static inline size_t folder_files(const struct state_folder *folder, const char *within)
{
    char path[100];
    DIR *dir;
    const struct dirent *entry;
    size_t count = 0;

    snprintf(path, sizeof(path), "%s/%s", folder->path, within);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

#endif
