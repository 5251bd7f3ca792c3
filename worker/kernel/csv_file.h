// Finding and opening source files: data directories, and errors in words.
#ifndef DRAY_WORKER_KERNEL_CSV_FILE_H
#define DRAY_WORKER_KERNEL_CSV_FILE_H

#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"

struct csv_file {
    int fd;  // -1: closed
    uint64_t size;
    int64_t mtime_ns;
};

// Where a file lies for this worker.  Without data directories that is `path`; with them
// it is `path` when that is below one of them, else DIR/name for the first DIR that has it.
// Links that lead out of the directory are refused.
int csv_file_resolve(const char *path, const char *name, const char *const *data_dir, struct arena *arena,
                     const char **out, struct error *err);
// Resolves and opens; regular files only.
int csv_file_open(const char *path, const char *name, const char *const *data_dir, struct arena *arena,
                  struct csv_file *out, struct error *err);
// The same, and -ESTALE when it is not the file that was probed.
int csv_file_reopen(const Dray__CsvFile *probed, const char *const *data_dir, struct arena *arena,
                    struct csv_file *out, struct error *err);
void csv_file_close(struct csv_file *file);

// errno of an operation on a file, in words: "sales.csv: no such file".
int csv_file_error(int code, const char *name, struct error *err);

#endif
