#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/number.h"
#include "proto/op.h"

// Long operations are cut: this is for people.
enum { TEXT_MAX = 4096, PART_MAX = 512, LIST_MAX = 8, STACK_MAX = 64, LITERAL_MAX = 40 };

struct text {
    char data[TEXT_MAX];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(t->data + t->size, sizeof(t->data) - t->size, format, args);

    va_end(args);
    if (n > 0) {
        t->size += (size_t)n;
    }
    if (t->size > sizeof(t->data) - 1) {
        t->size = sizeof(t->data) - 1;
        memcpy(t->data + t->size - 3, "...", 3);
    }
}

// ---- expressions -----------------------------------------------------------------------

// By binding strength, as in Python.
struct symbol {
    const char *text;
    int strength;
};

enum { WEAKEST = 0, UNARY = 8, ATOM = 10 };

static struct symbol binary_symbol(Dray__ExprKind kind)
{
    switch (kind) {
    case DRAY__EXPR_KIND__ADD:
        return (struct symbol){"+", 5};
    case DRAY__EXPR_KIND__SUB:
        return (struct symbol){"-", 5};
    case DRAY__EXPR_KIND__MUL:
        return (struct symbol){"*", 6};
    case DRAY__EXPR_KIND__DIV:
        return (struct symbol){"/", 6};
    case DRAY__EXPR_KIND__FLOORDIV:
        return (struct symbol){"//", 6};
    case DRAY__EXPR_KIND__MOD:
        return (struct symbol){"%", 6};
    case DRAY__EXPR_KIND__POW:
        return (struct symbol){"**", 9};
    case DRAY__EXPR_KIND__EQ:
        return (struct symbol){"==", 1};
    case DRAY__EXPR_KIND__NE:
        return (struct symbol){"!=", 1};
    case DRAY__EXPR_KIND__LT:
        return (struct symbol){"<", 1};
    case DRAY__EXPR_KIND__LE:
        return (struct symbol){"<=", 1};
    case DRAY__EXPR_KIND__GT:
        return (struct symbol){">", 1};
    case DRAY__EXPR_KIND__GE:
        return (struct symbol){">=", 1};
    case DRAY__EXPR_KIND__AND:
        return (struct symbol){"&", 4};
    case DRAY__EXPR_KIND__XOR:
        return (struct symbol){"^", 3};
    case DRAY__EXPR_KIND__OR:
        return (struct symbol){"|", 2};
    default:
        return (struct symbol){NULL, 0};
    }
}

static const char *type_word(Dray__Type type)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&dray__type__descriptor, (int)type);

    return value != NULL ? value->name : "?";
}

struct part {
    char *text;
    int strength;
};

static char *literal_text(const Dray__Literal *l, struct arena *arena)
{
    if (l->has_b) {
        return arena_printf(arena, "%s", l->b ? "True" : "False");
    }
    if (l->has_i) {
        return arena_printf(arena, "%" PRId64, l->i);
    }
    if (l->has_f) {
        char digits[NUMBER_TEXT_MAX];

        return arena_strndup(arena, digits, number_print_float64(l->f, digits));
    }
    if (l->has_s) {
        int shown = l->s.len > LITERAL_MAX ? LITERAL_MAX : (int)l->s.len;

        return arena_printf(arena, "\"%.*s%s\"", shown, shown > 0 ? (const char *)l->s.data : "",
                            l->s.len > LITERAL_MAX ? "..." : "");
    }
    return arena_printf(arena, "None");
}

// The operand as it stands beside an operator of that strength.
static const char *operand(const struct part *part, int strength, struct arena *arena)
{
    return part->strength < strength ? arena_printf(arena, "(%s)", part->text) : part->text;
}

static char *unary_text(const Dray__ExprNode *node, const struct part *x, struct arena *arena)
{
    switch (node->kind) {
    case DRAY__EXPR_KIND__NEG:
        return arena_printf(arena, "-%s", operand(x, UNARY, arena));
    case DRAY__EXPR_KIND__NOT:
        return arena_printf(arena, "~%s", operand(x, UNARY, arena));
    case DRAY__EXPR_KIND__ABS:
        return arena_printf(arena, "abs(%s)", x->text);
    case DRAY__EXPR_KIND__IS_NULL:
        return arena_printf(arena, "isna(%s)", x->text);
    case DRAY__EXPR_KIND__NOT_NULL:
        return arena_printf(arena, "notna(%s)", x->text);
    default:
        return arena_printf(arena, "%s(%s)", type_word(node->type), x->text);
    }
}

static bool is_prefix(Dray__ExprKind kind)
{
    return kind == DRAY__EXPR_KIND__NEG || kind == DRAY__EXPR_KIND__NOT;
}

// NULL: no memory.
static const char *expr_text(const Dray__Expr *expr, struct arena *arena)
{
    struct part stack[STACK_MAX];
    size_t depth = 0;

    for (size_t i = 0; i < expr->n_node; i++) {
        const Dray__ExprNode *node = expr->node[i];
        struct symbol symbol = binary_symbol(node->kind);
        struct part part = {.strength = ATOM};

        if (symbol.text != NULL) {
            const struct part *y = &stack[--depth];
            const struct part *x = &stack[--depth];

            part.strength = symbol.strength;
            part.text = arena_printf(arena, "%s %s %s", operand(x, symbol.strength, arena), symbol.text,
                                     operand(y, symbol.strength + 1, arena));
        } else if (node->kind == DRAY__EXPR_KIND__COLUMN) {
            part.text = arena_printf(arena, "#%u", node->column);
        } else if (node->kind == DRAY__EXPR_KIND__LITERAL) {
            part.text = literal_text(node->literal, arena);
        } else {
            part.strength = is_prefix(node->kind) ? UNARY : ATOM;
            part.text = unary_text(node, &stack[--depth], arena);
        }
        if (part.text == NULL) {
            return NULL;
        }
        if (strlen(part.text) > PART_MAX) {
            part = (struct part){.text = arena_strdup(arena, "..."), .strength = ATOM};
        }
        stack[depth++] = part;
    }
    return stack[0].text;
}

// ---- steps -----------------------------------------------------------------------------

static void put_scan(struct text *t, const Dray__ScanCsv *scan)
{
    uint64_t blocks = 0;

    for (size_t i = 0; i < scan->n_file; i++) {
        blocks += scan->file[i]->blocks;
    }
    put(t, "%.200s", scan->file[0]->name);
    if (scan->n_file > 1) {
        put(t, " and %zu more", scan->n_file - 1);
    }
    put(t, ", %" PRIu64 " block%s", blocks, blocks == 1 ? "" : "s");
}

static void put_project(struct text *t, const Dray__Project *project, struct arena *arena)
{
    for (size_t i = 0; i < project->n_column; i++) {
        if (i == LIST_MAX) {
            put(t, ", %zu more", project->n_column - i);
            break;
        }
        const char *expr = expr_text(project->column[i]->expr, arena);

        put(t, "%s%.100s = %s", i > 0 ? ", " : "", project->column[i]->name, expr != NULL ? expr : "...");
    }
}

static void put_sort(struct text *t, const Dray__Sort *sort)
{
    for (size_t i = 0; i < sort->n_key && i < LIST_MAX; i++) {
        put(t, "%s#%u%s", i > 0 ? ", " : "", sort->key[i]->column,
            sort->key[i]->descending ? " descending" : "");
    }
    if (sort->n_key > LIST_MAX) {
        put(t, ", %zu more", sort->n_key - LIST_MAX);
    }
    if (sort->has_limit) {
        put(t, "; first %" PRIu64, sort->limit);
    }
}

// The name of an enum's value in small letters.
static const char *small(const ProtobufCEnumDescriptor *descriptor, int number, char out[32])
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);
    size_t i = 0;

    for (; value != NULL && i < 31 && value->name[i] != '\0'; i++) {
        char c = value->name[i];

        out[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c == '_' ? ' ' : c);
    }
    out[i] = '\0';
    return out;
}

static void put_aggregate(struct text *t, const Dray__AggregateStep *step)
{
    const Dray__Aggregate *a = step->aggregate;
    char word[32];

    put(t, "%s", small(&dray__agg_stage__descriptor, (int)step->stage, word));
    for (size_t i = 0; i < a->n_key && i < LIST_MAX; i++) {
        put(t, "%s#%u", i > 0 ? ", " : "; key ", a->key[i]);
    }
    for (size_t i = 0; i < a->n_agg && i < LIST_MAX; i++) {
        put(t, "; %s", small(&dray__agg_fn__descriptor, (int)a->agg[i]->fn, word));
        if (a->agg[i]->fn != DRAY__AGG_FN__SIZE) {
            put(t, " #%u", a->agg[i]->column);
        }
    }
    if (a->n_agg > LIST_MAX) {
        put(t, "; %zu more", a->n_agg - LIST_MAX);
    }
}

static void put_command(struct text *t, const Dray__Command *command)
{
    for (size_t i = 0; i < command->n_argv && i < LIST_MAX; i++) {
        const ProtobufCBinaryData *word = &command->argv[i];

        put(t, "%s%.*s", i > 0 ? " " : "", word->len < PART_MAX ? (int)word->len : PART_MAX,
            (const char *)word->data);
    }
    if (command->n_argv > LIST_MAX) {
        put(t, " ...");
    }
}

static void put_step(struct text *t, const Dray__Step *step, struct arena *arena)
{
    const char *expr;
    int kind = step_kind(step);

    if (kind < 0) {
        put(t, "unknown");
        return;
    }
    put(t, "%s(", step_info((enum step_kind)kind)->name);
    switch ((enum step_kind)kind) {
    case STEP_SCAN_CSV:
        put_scan(t, step->scan_csv);
        break;
    case STEP_QUOTE_CSV:
        put_scan(t, step->quote_csv->scan);
        break;
    case STEP_PROBE_CSV:
        put(t, "%.200s", step->probe_csv->pattern);
        break;
    case STEP_FILTER:
        expr = expr_text(step->filter->predicate, arena);
        put(t, "%s", expr != NULL ? expr : "...");
        break;
    case STEP_PROJECT:
        put_project(t, step->project, arena);
        break;
    case STEP_HEAD:
        put(t, "%" PRIu64, step->head->rows);
        break;
    case STEP_SORT:
        put_sort(t, step->sort);
        break;
    case STEP_AGGREGATE:
        put_aggregate(t, step->aggregate);
        break;
    case STEP_BUSY:
        put(t, "%" PRIu64 "%s, %" PRIu64 " bytes", step->busy->has_nanoseconds ? step->busy->nanoseconds : step->busy->iterations,
            step->busy->has_nanoseconds ? " ns" : " iterations", step->busy->output_bytes);
        break;
    case STEP_CALL:
        put(t, "%.100s.%.100s", step->call->plugin, step->call->function);
        break;
    case STEP_COMMAND:
        put_command(t, step->command);
        break;
    case STEP_COUNT:
    case STEP_DATA:
    case STEP_TAKE_INPUTS:
    case STEP_KINDS:
        break;
    }
    put(t, ")");
}

char *op_describe(const Dray__Op *op, struct arena *arena)
{
    struct text text = {.size = 0};

    for (size_t i = 0; i < op->n_step; i++) {
        put(&text, "%s", i > 0 ? " | " : "");
        put_step(&text, op->step[i], arena);
    }
    return arena_strndup(arena, text.data, text.size);
}
