#include "client/plan/csv_option.h"

#include <string.h>

#include "client/plan/read_csv.h"

const struct parameter read_csv_parameters[] = {
    [PATH] = {"filepath_or_buffer", TAKES_ANY, NULL, true},
    [SEP] = {"sep", TAKES_STRING, NULL, false},
    [DELIMITER] = {"delimiter", TAKES_STRING, NULL, false},
    [HEADER] = {"header", TAKES_ANY, NULL, false},
    [NAMES] = {"names", TAKES_NAMES, NULL, false},
    [USECOLS] = {"usecols", TAKES_NAMES, NULL, false},
    [DTYPE] = {"dtype", TAKES_ANY, NULL, false},
    [NA_VALUES] = {"na_values", TAKES_ANY, NULL, false},
    [KEEP_DEFAULT_NA] = {"keep_default_na", TAKES_BOOL, NULL, false},
    [NA_FILTER] = {"na_filter", TAKES_BOOL, NULL, false},
    [SKIPROWS] = {"skiprows", TAKES_ANY, NULL, false},
    [COMMENT] = {"comment", TAKES_ANY, NULL, false},
    [BLOCKSIZE] = {"blocksize", TAKES_ANY, NULL, false},
    [QUOTECHAR] = {"quotechar", TAKES_STRING, NULL, false},
    [QUOTING] = {"quoting", TAKES_ANY, NULL, false},
    [NROWS] = {"nrows", TAKES_ANY, NULL, false},
    [ENCODING] = {"encoding", TAKES_ANY, NULL, false},
    {"compression", TAKES_ONLY, "infer", false},
    {"index_col", TAKES_ONLY, "None", false},
    {"parse_dates", TAKES_ONLY, "False", false},
    {"skip_blank_lines", TAKES_ONLY, "True", false},
    {"skipinitialspace", TAKES_ONLY, "False", false},
    {"doublequote", TAKES_ONLY, "True", false},
    {"escapechar", TAKES_ONLY, "None", false},
    {"thousands", TAKES_ONLY, "None", false},
    {"decimal", TAKES_ONLY, ".", false},
    {"on_bad_lines", TAKES_ONLY, "error", false},
    {"skipfooter", TAKES_ONLY, "0", false},
    {"chunksize", TAKES_ONLY, "None", false},
    {"engine", TAKES_NOTHING, NULL, false},
    {"low_memory", TAKES_NOTHING, NULL, false},
    {"memory_map", TAKES_NOTHING, NULL, false},
    {"sample", TAKES_NOTHING, NULL, false},
    {"assume_missing", TAKES_NOTHING, NULL, false},
    {0},
};

// pandas 2's spellings of a missing value.
static const char *const na_default[] = {"",     "#N/A",   "#N/A N/A", "#NA",  "-1.#IND", "-1.#QNAN", "-NaN",
                                         "-nan", "1.#IND", "1.#QNAN",  "<NA>", "N/A",     "NA",       "NULL",
                                         "NaN",  "None",   "n/a",      "nan",  "null"};

static int one_byte(struct reader *r, int option, const char *what, uint32_t *out)
{
    const struct value *v = r->call->arg[option];

    if (v->kind != VALUE_STRING || v->size != 1 || v->text[0] == '\n' || v->text[0] == '\r' ||
        v->text[0] == '\0' || (unsigned char)v->text[0] >= 0x80) {
        return bind_fail(r->b, v->at, "%s is one ASCII character", what);
    }
    *out = (unsigned char)v->text[0];
    return 0;
}

static int read_separators(struct reader *r)
{
    const struct value *const *arg = r->call->arg;
    int option = arg[SEP] != NULL ? SEP : DELIMITER;
    int rc = 0;

    r->dialect->sep = ',';
    if (arg[SEP] != NULL && arg[DELIMITER] != NULL) {
        return bind_fail(r->b, arg[DELIMITER]->at, "'sep' and 'delimiter' mean the same: give one");
    }
    if (arg[option] != NULL) {
        rc = one_byte(r, option, "the separator", &r->dialect->sep);
    }
    r->dialect->has_quote = true;
    r->dialect->quote = '"';
    if (rc == 0 && arg[QUOTECHAR] != NULL) {
        rc = one_byte(r, QUOTECHAR, "the quote", &r->dialect->quote);
    }
    if (rc == 0 && arg[QUOTING] != NULL) {
        if (arg[QUOTING]->kind != VALUE_INT || (arg[QUOTING]->i != 0 && arg[QUOTING]->i != 3)) {
            return bind_fail(r->b, arg[QUOTING]->at,
                             "'quoting' can be 0 (where needed) or 3 (quotes mean nothing)");
        }
        r->dialect->has_quote = arg[QUOTING]->i == 0;
    }
    if (rc == 0 && arg[COMMENT] != NULL && arg[COMMENT]->kind != VALUE_NONE) {
        rc = one_byte(r, COMMENT, "the comment character", &r->dialect->comment);
        r->dialect->has_comment = rc == 0;
    }
    if (rc == 0 && r->dialect->has_quote && r->dialect->quote == r->dialect->sep) {
        return bind_fail(r->b, r->call->at, "separator and quote are the same character");
    }
    if (rc == 0 && r->dialect->has_comment &&
        (r->dialect->comment == r->dialect->sep ||
         (r->dialect->has_quote && r->dialect->comment == r->dialect->quote))) {
        return bind_fail(r->b, arg[COMMENT]->at, "the comment character has another meaning already");
    }
    return rc;
}

static int read_header(struct reader *r)
{
    const struct value *v = r->call->arg[HEADER];
    const struct value *names = r->call->arg[NAMES];
    bool infer = v == NULL || (v->kind == VALUE_STRING && strcmp(v->text, "infer") == 0);

    r->given_names = names != NULL;
    r->dialect->has_header = true;
    if (infer) {
        r->dialect->header = names == NULL;
        return 0;
    }
    if (v->kind == VALUE_NONE) {
        r->dialect->header = false;
        return 0;
    }
    if (v->kind != VALUE_INT || v->i != 0) {
        return bind_fail(r->b, v->at,
                         "'header' can be 0, None or \"infer\"; skiprows passes over lines before it");
    }
    r->dialect->header = true;
    return 0;
}

static int add_na(struct reader *r, const char *text, size_t size)
{
    // Room was made for all of them by read_na.
    ProtobufCBinaryData *slot = &r->dialect->na_value[r->dialect->n_na_value++];

    slot->data = (uint8_t *)(uintptr_t)text;
    slot->len = size;
    return 0;
}

static int add_na_value(struct reader *r, const struct value *v)
{
    struct arena *arena = r->b->arena;
    const char *text;

    switch (v->kind) {
    case VALUE_STRING:
        return add_na(r, v->text, v->size);
    case VALUE_INT:
        // A number is missing in both its spellings, as in pandas.
        text = arena_printf(arena, "%lld", (long long)v->i);
        if (text == NULL) {
            return bind_no_memory(r->b);
        }
        add_na(r, text, strlen(text));
        text = arena_printf(arena, "%lld.0", (long long)v->i);
        return text == NULL ? bind_no_memory(r->b) : add_na(r, text, strlen(text));
    default:
        return bind_fail(r->b, v->at, "a missing value is spelt as a text or a whole number, this is %s",
                         value_words(v));
    }
}

static int read_na(struct reader *r)
{
    const struct value *given = r->call->arg[NA_VALUES];
    const struct value *keep = r->call->arg[KEEP_DEFAULT_NA];
    const struct value *filter = r->call->arg[NA_FILTER];
    size_t defaults = sizeof(na_default) / sizeof(na_default[0]);
    bool many = given != NULL && (given->kind == VALUE_LIST || given->kind == VALUE_TUPLE);
    size_t count = given == NULL ? 0 : many ? given->items : 1;
    int rc = 0;

    r->dialect->na_value = arena_array(r->b->arena, defaults + 2 * count, sizeof(*r->dialect->na_value));
    if (r->dialect->na_value == NULL) {
        return bind_no_memory(r->b);
    }
    if (filter != NULL && !filter->boolean) {
        return 0;
    }
    for (size_t i = 0; i < defaults && (keep == NULL || keep->boolean); i++) {
        add_na(r, na_default[i], strlen(na_default[i]));
    }
    if (given != NULL && given->kind == VALUE_NONE) {
        return 0;
    }
    if (given != NULL && given->kind == VALUE_DICT) {
        return bind_fail(r->b, given->at,
                         "'na_values' by column is not there yet: a list for all columns is");
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = add_na_value(r, many ? given->item[i] : given);
    }
    return rc;
}

static int read_lines(struct reader *r)
{
    const struct value *v = r->call->arg[SKIPROWS];
    const struct value *encoding = r->call->arg[ENCODING];

    if (v != NULL && v->kind != VALUE_NONE) {
        if (v->kind != VALUE_INT || v->i < 0) {
            return bind_fail(r->b, v->at, "'skiprows' takes the number of lines to pass over at the start");
        }
        r->dialect->has_skip_lines = true;
        r->dialect->skip_lines = (uint64_t)v->i;
    }
    if (encoding != NULL && encoding->kind != VALUE_NONE) {
        static const char *const utf8[] = {"utf-8", "utf8", "UTF-8", "utf_8", "utf-8-sig", "ascii"};
        bool ok = false;

        for (size_t i = 0; i < sizeof(utf8) / sizeof(utf8[0]) && encoding->kind == VALUE_STRING; i++) {
            ok |= strcmp(encoding->text, utf8[i]) == 0;
        }
        if (!ok) {
            return bind_fail(r->b, encoding->at,
                             "'encoding' can be \"utf-8\" only, others are not there yet");
        }
    }
    return 0;
}

// "64MB", "16MiB", "1e6", 1000000
static int read_blocksize(struct reader *r)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"", 1},           {"B", 1},           {"K", 1000},     {"KB", 1000},
                 {"KIB", 1 << 10},  {"M", 1000000},     {"MB", 1000000}, {"MIB", 1 << 20},
                 {"G", 1000000000}, {"GB", 1000000000}, {"GIB", 1 << 30}};
    const struct value *v = r->call->arg[BLOCKSIZE];
    uint64_t number = 0;
    size_t at = 0;

    r->source->block_size = CSV_BLOCK_DEFAULT;
    if (v == NULL || (v->kind == VALUE_STRING && strcmp(v->text, "default") == 0)) {
        return 0;
    }
    if (v->kind == VALUE_NONE) {
        r->source->block_size = (uint64_t)1 << 62;
        return 0;
    }
    if ((v->kind == VALUE_INT && v->i >= 1) || (v->kind == VALUE_FLOAT && v->f >= 1 && v->f < 4e18)) {
        r->source->block_size = v->kind == VALUE_INT ? (uint64_t)v->i : (uint64_t)v->f;
        return 0;
    }
    while (v->kind == VALUE_STRING && v->text[at] >= '0' && v->text[at] <= '9' && number < 1000000000) {
        number = number * 10 + (uint64_t)(v->text[at++] - '0');
    }
    if (number > 0) {
        at += strspn(v->text + at, " ");
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strcasecmp(v->text + at, units[i].unit) == 0) {
                r->source->block_size = number * units[i].factor;
                return 0;
            }
        }
    }
    return bind_fail(r->b, v->at,
                     "'blocksize' is a number of bytes from 1, a size such as \"64MB\", or None");
}

int csv_option_read(struct reader *r)
{
    int rc = read_separators(r);

    if (rc == 0) {
        rc = read_header(r);
    }
    if (rc == 0) {
        rc = read_na(r);
    }
    if (rc == 0) {
        rc = read_lines(r);
    }
    return rc == 0 ? read_blocksize(r) : rc;
}
