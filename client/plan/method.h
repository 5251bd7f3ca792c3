// The table of what can be called: one row a method, function or property.
#ifndef DRAY_CLIENT_PLAN_METHOD_H
#define DRAY_CLIENT_PLAN_METHOD_H

#include "client/plan/bind.h"

#define METHOD_PARAMETERS_MAX 40

enum receiver {
    ON_FRAME = 1,
    ON_SERIES = 2,
    ON_GROUPS = 4,
    ON_COLUMN_GROUPS = 8, // groupby("k")["x"]
    ON_SCALARS = 16,
    ON_MODULE = 32,
    ON_NOTHING = 64, // functions
    ON_OTHER = 128,  // literals and lists: nothing so far
};

enum parameter_kind {
    TAKES_ANY,
    TAKES_BOOL,
    TAKES_INT,
    TAKES_STRING,
    TAKES_NAMES, // a text or a list of texts
    TAKES_DICT,
    TAKES_NOTHING, // accepted and ignored: it changes nothing here
    TAKES_ONLY,    // accepted with the value `only`, a literal as Python writes it
};
struct parameter {
    const char *name; // NULL: end of the list
    enum parameter_kind kind;
    const char *only;
    bool required;
};

// Arguments by place in the parameter list; NULL: not given.
struct call {
    const struct method *method;
    const struct value *self; // NULL for a function
    struct place at;          // of the name
    const struct value *arg[METHOD_PARAMETERS_MAX];
    // What a method with `extra` was given by other names.
    const char **extra_name;
    struct place *extra_at;
    const struct value **extra;
    uint32_t extras;
};

struct method {
    unsigned receivers;
    const char *name;
    bool property; // no call: df.columns
    bool extra;    // takes keyword arguments of any name
    int (*run)(struct binder *b, const struct call *call, const struct value **out);
    int detail; // for the handler
    const struct parameter *parameter;
    const char *advice; // run == NULL: not there yet, and what to write instead (or "")
};

struct method_table {
    const struct method *method;
    size_t count;
};
extern const struct method_table frame_methods, series_methods, group_methods, functions, later_methods;

// A mask with one bit.
enum receiver method_receiver(const struct value *self);
// NULL: no such name.  A row without `run` is a name of pandas' that is not there yet.
const struct method *method_find(enum receiver receiver, const char *name);
// Calls fn for the name of each method that is there.
void method_each(enum receiver receiver, void (*fn)(void *context, const char *name), void *context);

// Matches a call's arguments to the parameters and runs the handler.
int method_call(struct binder *b, const struct method *method, const struct value *self,
                const struct ast *ast, const struct value *const *arg, const struct value **out);
int method_property(struct binder *b, const struct method *method, const struct value *self, struct place at,
                    const struct value **out);

#endif
