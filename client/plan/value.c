#include "client/plan/value.h"

const char *value_words(const struct value *value)
{
    switch (value->kind) {
    case VALUE_NONE:
        return "None";
    case VALUE_BOOL:
        return "a truth value";
    case VALUE_INT:
        return "a whole number";
    case VALUE_FLOAT:
        return "a number";
    case VALUE_STRING:
        return "a text";
    case VALUE_LIST:
        return "a list";
    case VALUE_TUPLE:
        return "a tuple";
    case VALUE_DICT:
        return "a dict";
    case VALUE_TYPE:
        return "a type";
    case VALUE_MODULE:
        return "a module";
    case VALUE_METHOD:
        return "a method without its call";
    case VALUE_FRAME:
        return "a table";
    case VALUE_SERIES:
        return "a column";
    case VALUE_GROUPS:
        return "a groupby";
    case VALUE_SCALARS:
        return value->scalars.name == NULL ? "a value computed from the data"
                                           : "a row computed from the data";
    case VALUE_DTYPES:
        return "a list of types";
    }
    return "something";
}

bool value_is_literal(const struct value *value)
{
    return value->kind <= VALUE_STRING;
}
