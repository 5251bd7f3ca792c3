#include "client/plan/literal.h"

#include <math.h>
#include <string.h>

#define KIND(name) DRAY__EXPR_KIND__##name

static bool is_whole(const struct value *v)
{
    return v->kind == VALUE_INT || v->kind == VALUE_BOOL;
}

static bool is_number(const struct value *v)
{
    return is_whole(v) || v->kind == VALUE_FLOAT;
}

static int64_t whole(const struct value *v)
{
    return v->kind == VALUE_BOOL ? v->boolean : v->i;
}

static double number(const struct value *v)
{
    return v->kind == VALUE_FLOAT ? v->f : (double)whole(v);
}

static int give_int(struct binder *b, int64_t i, struct place at, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_INT, at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->i = i;
    *out = v;
    return 0;
}

static int give_float(struct binder *b, double f, struct place at, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_FLOAT, at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->f = f;
    *out = v;
    return 0;
}

static int give_bool(struct binder *b, bool boolean, struct place at, const struct value **out)
{
    struct value *v = bind_value(b, VALUE_BOOL, at);

    if (v == NULL) {
        return bind_no_memory(b);
    }
    v->boolean = boolean;
    *out = v;
    return 0;
}

static int too_big(struct binder *b, struct place at)
{
    return bind_fail(b, at, "the result does not fit into 64 bits");
}

// x ** y for y >= 0; true: overflow.
static bool whole_power(int64_t x, int64_t y, int64_t *out)
{
    int64_t result = 1;

    while (y > 0) {
        if ((y & 1) && __builtin_mul_overflow(result, x, &result)) {
            return true;
        }
        y >>= 1;
        if (y > 0 && __builtin_mul_overflow(x, x, &x)) {
            return true;
        }
    }
    *out = result;
    return false;
}

static int whole_arithmetic(struct binder *b, Dray__ExprKind kind, int64_t x, int64_t y, struct place at,
                            const struct value **out)
{
    int64_t r = 0;
    bool over = false;

    switch (kind) {
    case KIND(ADD):
        over = __builtin_add_overflow(x, y, &r);
        break;
    case KIND(SUB):
        over = __builtin_sub_overflow(x, y, &r);
        break;
    case KIND(MUL):
        over = __builtin_mul_overflow(x, y, &r);
        break;
    case KIND(POW):
        if (y < 0) {
            return give_float(b, pow((double)x, (double)y), at, out);
        }
        over = whole_power(x, y, &r);
        break;
    default:
        if (y == 0) {
            return bind_fail(b, at, "division by zero");
        }
        if (kind == KIND(DIV)) {
            return give_float(b, (double)x / (double)y, at, out);
        }
        if (y == -1) {
            over = __builtin_sub_overflow((int64_t)0, x, &r);
            r = kind == KIND(MOD) ? 0 : r;
            over = over && kind != KIND(MOD);
            break;
        }
        r = kind == KIND(MOD) ? x % y : x / y;
        if (x % y != 0 && (x < 0) != (y < 0)) {
            r += kind == KIND(MOD) ? y : -1;
        }
    }
    return over ? too_big(b, at) : give_int(b, r, at, out);
}

static int arithmetic(struct binder *b, Dray__ExprKind kind, const struct value *left,
                      const struct value *right, struct place at, const struct value **out)
{
    double x = number(left);
    double y = number(right);

    if (is_whole(left) && is_whole(right)) {
        return whole_arithmetic(b, kind, whole(left), whole(right), at, out);
    }
    switch (kind) {
    case KIND(ADD):
        return give_float(b, x + y, at, out);
    case KIND(SUB):
        return give_float(b, x - y, at, out);
    case KIND(MUL):
        return give_float(b, x * y, at, out);
    case KIND(POW):
        return give_float(b, pow(x, y), at, out);
    default:
        break;
    }
    if (y == 0) {
        return bind_fail(b, at, "division by zero");
    }
    if (kind == KIND(DIV)) {
        return give_float(b, x / y, at, out);
    }
    double rest = fmod(x, y);

    if (rest != 0 && (rest < 0) != (y < 0)) {
        rest += y;
    }
    return give_float(b, kind == KIND(MOD) ? rest : floor((x - rest) / y + 0.5), at, out);
}

static int logical(struct binder *b, Dray__ExprKind kind, const struct value *left, const struct value *right,
                   struct place at, const struct value **out)
{
    int64_t x = whole(left);
    int64_t y = whole(right);
    int64_t r = kind == KIND(AND) ? x & y : kind == KIND(OR) ? x | y : x ^ y;

    return left->kind == VALUE_BOOL && right->kind == VALUE_BOOL ? give_bool(b, r != 0, at, out)
                                                                 : give_int(b, r, at, out);
}

static bool compare(Dray__ExprKind kind, int order)
{
    switch (kind) {
    case KIND(EQ):
        return order == 0;
    case KIND(NE):
        return order != 0;
    case KIND(LT):
        return order < 0;
    case KIND(LE):
        return order <= 0;
    case KIND(GT):
        return order > 0;
    default:
        return order >= 0;
    }
}

static int text_order(const struct value *left, const struct value *right)
{
    uint32_t least = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->text, right->text, least);

    return order != 0 ? order : (left->size > right->size) - (left->size < right->size);
}

static int join(struct binder *b, const struct value *left, const struct value *right, struct place at,
                const struct value **out)
{
    struct value *v = bind_value(b, VALUE_STRING, at);
    char *text = arena_alloc(b->arena, (size_t)left->size + right->size + 1);

    if (v == NULL || text == NULL) {
        return bind_no_memory(b);
    }
    memcpy(text, left->text, left->size);
    memcpy(text + left->size, right->text, right->size);
    v->size = left->size + right->size;
    text[v->size] = '\0';
    v->text = text;
    *out = v;
    return 0;
}

int literal_binary(struct binder *b, Dray__ExprKind kind, const struct value *left, const struct value *right,
                   struct place at, const struct value **out)
{
    bool numbers = is_number(left) && is_number(right);
    bool texts = left->kind == VALUE_STRING && right->kind == VALUE_STRING;

    if (kind >= KIND(EQ) && kind <= KIND(GE) && (numbers || texts)) {
        double x = numbers ? number(left) : 0;
        double y = numbers ? number(right) : 0;
        int order = texts ? text_order(left, right) : (x > y) - (x < y);

        if (is_whole(left) && is_whole(right)) {
            order = (whole(left) > whole(right)) - (whole(left) < whole(right));
        }
        return give_bool(b, x != x || y != y ? kind == KIND(NE) : compare(kind, order), at, out);
    }
    if (kind >= KIND(AND) && kind <= KIND(XOR) && is_whole(left) && is_whole(right)) {
        return logical(b, kind, left, right, at, out);
    }
    if (kind >= KIND(ADD) && kind <= KIND(POW) && numbers) {
        return arithmetic(b, kind, left, right, at, out);
    }
    if (kind == KIND(ADD) && texts) {
        return join(b, left, right, at, out);
    }
    return bind_fail(b, at, "%s and %s do not go together here", value_words(left), value_words(right));
}

int literal_unary(struct binder *b, Dray__ExprKind kind, const struct value *operand, struct place at,
                  const struct value **out)
{
    if (kind == KIND(NOT) && operand->kind == VALUE_BOOL) {
        // Python says ~True == -2; nobody who writes that means it.
        return give_bool(b, !operand->boolean, at, out);
    }
    if (kind == KIND(NOT) && operand->kind == VALUE_INT) {
        return give_int(b, ~operand->i, at, out);
    }
    if (kind == KIND(NEG) && is_whole(operand)) {
        int64_t x = whole(operand);

        return x == INT64_MIN ? too_big(b, at) : give_int(b, -x, at, out);
    }
    if (kind == KIND(ABS) && is_whole(operand)) {
        int64_t x = whole(operand);

        return x == INT64_MIN ? too_big(b, at) : give_int(b, x < 0 ? -x : x, at, out);
    }
    if (operand->kind == VALUE_FLOAT && (kind == KIND(NEG) || kind == KIND(ABS))) {
        return give_float(b, kind == KIND(NEG) ? -operand->f : fabs(operand->f), at, out);
    }
    return bind_fail(b, at, "this cannot be done with %s", value_words(operand));
}
