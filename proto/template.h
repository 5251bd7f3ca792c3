// The texts of a command: "{index}" is the task's index, "{param}" its parameter, "{name}" its value in the
// column of that name (Column in proto/op.proto), "{{" a brace.  Any other brace is itself.
#ifndef DRAY_PROTO_TEMPLATE_H
#define DRAY_PROTO_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"

#define TEMPLATE_COLUMNS_MAX 64
#define TEMPLATE_NAME_MAX 64
#define TEMPLATE_BYTES_MAX ((size_t)16 << 20) // of one text, expanded

// A letter or _, then letters, digits and _.
bool template_name_is_valid(const char *name, size_t size);
// Names, counts and values of the columns.
int template_check_columns(const Dray__Command *command, struct error *err);
// Values that a column has, all its repetitions left out.
uint64_t template_column_count(const Dray__Column *column);

// The text of task `index`, in the arena, with a zero byte behind it that *size does not count.  place: what
// "{i}" stands for, NULL: itself.  -E2BIG: longer than TEMPLATE_BYTES_MAX.
int template_expand(const Dray__Command *command, uint32_t index, const uint32_t *place, const void *text,
                    size_t text_size, struct arena *arena, char **out, size_t *size, struct error *err);

#endif
