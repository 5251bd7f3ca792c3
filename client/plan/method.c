#include "client/plan/method.h"

#include <stdio.h>
#include <string.h>

#include "client/lang/spell.h"
#include "proto/number.h"

static const struct method_table *const tables[] = {&frame_methods, &series_methods, &group_methods,
                                                    &functions, &later_methods};

enum receiver method_receiver(const struct value *self)
{
    switch (self->kind) {
    case VALUE_FRAME:
        return ON_FRAME;
    case VALUE_SERIES:
        return ON_SERIES;
    case VALUE_GROUPS:
        return self->groups.single ? ON_COLUMN_GROUPS : ON_GROUPS;
    case VALUE_SCALARS:
        return ON_SCALARS;
    case VALUE_MODULE:
        return ON_MODULE;
    default:
        return ON_OTHER;
    }
}

const struct method *method_find(enum receiver receiver, const char *name)
{
    const struct method *later = NULL;

    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const struct method *m = &tables[t]->method[i];

            if ((m->receivers & receiver) && strcmp(m->name, name) == 0) {
                if (m->run != NULL) {
                    return m;
                }
                later = m;
            }
        }
    }
    return later;
}

void method_each(enum receiver receiver, void (*fn)(void *context, const char *name), void *context)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const struct method *m = &tables[t]->method[i];

            if ((m->receivers & receiver) && m->run != NULL) {
                fn(context, m->name);
            }
        }
    }
}

// A literal as Python writes it, to compare with parameter.only.
static bool is_written(const struct value *v, const char *text)
{
    char number[NUMBER_TEXT_MAX + 1];

    switch (v->kind) {
    case VALUE_NONE:
        return strcmp(text, "None") == 0;
    case VALUE_BOOL:
        return strcmp(text, v->boolean ? "True" : "False") == 0;
    case VALUE_INT:
        snprintf(number, sizeof(number), "%lld", (long long)v->i);
        return strcmp(text, number) == 0;
    case VALUE_STRING:
        return strcmp(text, v->text) == 0;
    default:
        return false;
    }
}

static int check_kind(struct binder *b, const struct parameter *p, const struct value *v)
{
    const char *wanted = NULL;

    switch (p->kind) {
    case TAKES_BOOL:
        wanted = v->kind == VALUE_BOOL ? NULL : "True or False";
        break;
    case TAKES_INT:
        wanted = v->kind == VALUE_INT ? NULL : "a whole number";
        break;
    case TAKES_STRING:
        wanted = v->kind == VALUE_STRING ? NULL : "a text";
        break;
    case TAKES_NAMES:
        wanted =
            v->kind == VALUE_STRING || v->kind == VALUE_INT || v->kind == VALUE_LIST || v->kind == VALUE_TUPLE
                ? NULL
                : "a name or a list of names";
        break;
    case TAKES_DICT:
        wanted = v->kind == VALUE_DICT ? NULL : "a dict";
        break;
    case TAKES_ONLY:
        if (!is_written(v, p->only)) {
            return bind_fail(b, v->at, "'%s' can be %s only, other values are not there yet", p->name,
                             p->only);
        }
        break;
    default:
        break;
    }
    return wanted == NULL ? 0
                          : bind_fail(b, v->at, "'%s' takes %s, this is %s", p->name, wanted, value_words(v));
}

static int find_parameter(const struct method *method, const char *name)
{
    for (int i = 0; method->parameter != NULL && method->parameter[i].name != NULL; i++) {
        if (strcmp(method->parameter[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int unknown_keyword(struct binder *b, const struct method *method, const char *name, struct place at)
{
    struct spell spell = {.word = name};

    for (int i = 0; method->parameter != NULL && method->parameter[i].name != NULL; i++) {
        spell_try(&spell, method->parameter[i].name);
    }
    if (spell.best == NULL) {
        return bind_fail(b, at, "%s() takes no argument '%s'", method->name, name);
    }
    return bind_fail(b, at, "%s() takes no argument '%s'%s '%s'%s", method->name, name,
                     spell_is_near(&spell) ? ": did you mean" : " yet; the nearest that it takes:",
                     spell.best, spell_is_near(&spell) ? "?" : "");
}

static int take(struct binder *b, struct call *call, const struct ast *ast, uint32_t i, const struct value *v,
                int *positional)
{
    const struct method *method = call->method;
    const char *keyword = ast->keyword[i];
    int place;

    if (keyword == NULL) {
        place = (*positional)++;
        if (method->parameter == NULL || place >= METHOD_PARAMETERS_MAX ||
            method->parameter[place].name == NULL) {
            return place == 0
                       ? bind_fail(b, ast->item[i]->at, "%s() takes no argument without a name", method->name)
                       : bind_fail(b, ast->item[i]->at, "%s() takes %d argument%s at most", method->name,
                                   place, place == 1 ? "" : "s");
        }
    } else {
        place = find_parameter(method, keyword);
        if (place < 0 && method->extra) {
            call->extra_name[call->extras] = keyword;
            call->extra_at[call->extras] = ast->keyword_at[i];
            call->extra[call->extras++] = v;
            return 0;
        }
        if (place < 0) {
            return unknown_keyword(b, method, keyword, ast->keyword_at[i]);
        }
    }
    if (call->arg[place] != NULL) {
        return bind_fail(b, ast->item[i]->at, "'%s' is given twice", method->parameter[place].name);
    }
    call->arg[place] = v;
    return check_kind(b, &method->parameter[place], v);
}

int method_call(struct binder *b, const struct method *method, const struct value *self,
                const struct ast *ast, const struct value *const *arg, const struct value **out)
{
    struct call *call = arena_zalloc(b->arena, sizeof(*call));
    int positional = 0;
    int rc = 0;

    if (call == NULL) {
        return bind_no_memory(b);
    }
    call->method = method;
    call->self = self;
    call->at = ast->a->word;
    call->extra_name = arena_array(b->arena, ast->items, sizeof(*call->extra_name));
    call->extra_at = arena_array(b->arena, ast->items, sizeof(*call->extra_at));
    call->extra = arena_array(b->arena, ast->items, sizeof(*call->extra));
    if (call->extra_name == NULL || call->extra_at == NULL || call->extra == NULL) {
        return bind_no_memory(b);
    }
    for (uint32_t i = 0; i < ast->items && rc == 0; i++) {
        rc = take(b, call, ast, i, arg[i], &positional);
    }
    for (int i = 0; rc == 0 && method->parameter != NULL && method->parameter[i].name != NULL; i++) {
        if (method->parameter[i].required && call->arg[i] == NULL) {
            return bind_fail(b, call->at, "%s() needs '%s'", method->name, method->parameter[i].name);
        }
    }
    return rc < 0 ? rc : method->run(b, call, out);
}

int method_property(struct binder *b, const struct method *method, const struct value *self, struct place at,
                    const struct value **out)
{
    struct call call = {.method = method, .self = self, .at = at};

    return method->run(b, &call, out);
}
