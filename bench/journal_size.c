#include "bench/journal_size.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
enum { WAL_HEADER = 32, FRAME_HEADER_BYTES = 24, PAGE_MIN = 512, PAGE_MAX = 65536, PATH_BYTES = 4096 };

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t file_size(const char *path)
{
    struct stat of;

    return stat(path, &of) == 0 && S_ISREG(of.st_mode) ? (uint64_t)of.st_size : 0;
}

// What the last commit in the log says that the database has; 0: there is none.
static uint64_t size_by_wal(const char *path)
{
    uint8_t header[WAL_HEADER], frame[FRAME_HEADER_BYTES];
    FILE *file = fopen(path, "re");
    uint64_t page = 0, size = 0;

    if (file == NULL) {
        return 0;
    }
    if (fread(header, sizeof(header), 1, file) == 1) {
        page = big_endian(header + 8);
    }
    while (page >= PAGE_MIN && page <= PAGE_MAX && fread(frame, sizeof(frame), 1, file) == 1 &&
           memcmp(frame + 8, header + 16, 8) == 0) { // those of an earlier use have other salts
        if (big_endian(frame + 4) != 0) {
            size = big_endian(frame + 4) * page;
        }
        if (fseek(file, (long)page, SEEK_CUR) != 0) {
            break;
        }
    }
    fclose(file);
    return size;
}

static uint64_t graphs_size(const char *folder)
{
    char path[PATH_BYTES];
    const struct dirent *entry;
    uint64_t size = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/graphs", folder);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        bool fits = snprintf(path, sizeof(path), "%s/graphs/%s", folder, entry->d_name) < PATH_BYTES;

        size += fits && entry->d_name[0] != '.' ? file_size(path) : 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return size;
}

uint64_t journal_size(const char *folder)
{
    char path[PATH_BYTES];
    uint64_t size;

    snprintf(path, sizeof(path), "%s/journal.db-wal", folder);
    size = size_by_wal(path);
    if (size == 0) {
        snprintf(path, sizeof(path), "%s/journal.db", folder);
        size = file_size(path);
    }
    return size + graphs_size(folder);
}
