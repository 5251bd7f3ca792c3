// A command in one line, for people: what cannot be printed as \n, \r, \t and \xNN, and not all of what is
// long.
#ifndef DRAY_WORKER_CHILD_LINE_H
#define DRAY_WORKER_CHILD_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_BYTES 200

// All zeros is an empty one.
struct line {
    char text[LINE_BYTES + sizeof("...")];
    size_t used;
    bool cut; // it ends with "..."; nothing is added any more
};

void line_add(struct line *line, const char *text, size_t size);
// Behind a blank, unless it is the first; in double quotes where it would not be seen to be one word.
void line_add_word(struct line *line, const char *text, size_t size);

#endif
