// What `dray run` is to run: a file, standard input, or the argument itself.
#ifndef DRAY_CLIENT_CLI_SOURCE_TEXT_H
#define DRAY_CLIENT_CLI_SOURCE_TEXT_H

#include <stddef.h>

#include "proto/error.h"

struct source_text {
    char *text; // owned
    size_t size;
    const char *name; // for error messages
};

// "-": standard input.  What ends in .dray or is the path of a file: that file.  Anything else is an
// expression.
int source_text_read(const char *argument, struct source_text *out, struct error *err);
void source_text_fini(struct source_text *text);

#endif
