// Tables of proto/table.h to and from the Arrow C Data Interface.
#ifndef DRAY_WORKER_HOST_ARROW_H
#define DRAY_WORKER_HOST_ARROW_H

#include "proto/dray_task.h"
#include "proto/error.h"
#include "proto/table.h"

// A struct array whose children share the table's buffers; takes over one reference, also on failure.  Either
// may be released first, children may be moved out, as the interface allows.
int arrow_export(struct table *table, struct ArrowSchema *schema, struct ArrowArray *array,
                 struct error *err);
// Takes both over and releases them, also on failure; buffers are shared where the layouts are the same (then
// `array` is released with the last of them), else converted.  -EINVAL: another type, or malformed; -EFBIG.
// What the buffers contain is checked as far as their sizes are known: offsets ascend, codes are in range.
int arrow_import(struct ArrowSchema *schema, struct ArrowArray *array, struct table **out, struct error *err);

#endif
