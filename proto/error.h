// The one error convention: a function returns 0 or a negative errno, leaves
// its outputs untouched on failure, and fills an optional struct error with a
// sentence for the person: what was asked, what was found, where, what to do.
#ifndef DRAY_PROTO_ERROR_H
#define DRAY_PROTO_ERROR_H

#define ERROR_TEXT_MAX 1024

struct error {
    int code;                   // positive errno value, 0 when nothing is set
    char text[ERROR_TEXT_MAX];  // no newline at the end
};

// Fills *err (which may be NULL) and returns -code, so that a caller can write
// `return error_set(err, ENOENT, "...")`.  Cuts off a text that is too long.
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts a prefix ("task scan[3] on worker w2: ") before a text that is set.
void error_prefix(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// -ENOMEM with the standard sentence.
int error_no_memory(struct error *err);

#endif
