// JSON as RFC 8259 has it.  Written here since the libraries for it do not keep the places of values, without
// which an error cannot say where it is.
#include <errno.h>
#include <string.h>

#include "client/submit/document_tree.h"

struct reader {
    struct tree *tree;
    const char *text;
    size_t size, at;
    char *scratch; // for a string with escapes: as long as the file, made with the first
};

static int fail(const struct reader *reader, size_t at, struct error *err, const char *what)
{
    return tree_error(reader->tree, (uint32_t)at, err, "%s", what);
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->size && strchr(" \t\r\n", reader->text[reader->at]) != NULL) {
        reader->at++;
    }
}

static bool take(struct reader *reader, char c)
{
    skip_space(reader);
    if (reader->at < reader->size && reader->text[reader->at] == c) {
        reader->at++;
        return true;
    }
    return false;
}

// ---- strings ----------------------------------------------------------------------------

static size_t put_utf8(uint32_t code, char *to)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

// Four hexadecimal digits behind \u.
static bool take_hex(struct reader *reader, uint32_t *out)
{
    uint32_t code = 0;

    if (reader->size - reader->at < 4) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        char c = reader->text[reader->at + i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : 16;

        if (digit == 16) {
            return false;
        }
        code = code << 4 | digit;
    }
    reader->at += 4;
    *out = code;
    return true;
}

// Behind the backslash.
static int read_escape(struct reader *reader, char *to, size_t *used, struct error *err)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    size_t begin = reader->at - 1;
    char c = reader->at < reader->size ? reader->text[reader->at++] : '\0';
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    uint32_t code, low;

    if (name != NULL) {
        to[(*used)++] = values[name - names];
        return 0;
    }
    if (c != 'u' || !take_hex(reader, &code)) {
        return fail(reader, begin, err,
                    "this is no escape of JSON: there are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
    }
    if (code >= 0xd800 && code < 0xdc00) {
        if (reader->size - reader->at < 2 || memcmp(reader->text + reader->at, "\\u", 2) != 0) {
            return fail(reader, begin, err, "half of a surrogate pair");
        }
        reader->at += 2;
        if (!take_hex(reader, &low) || low < 0xdc00 || low > 0xdfff) {
            return fail(reader, begin, err, "half of a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return fail(reader, begin, err, "half of a surrogate pair");
    }
    *used += put_utf8(code, to + *used);
    return 0;
}

static struct node *read_escaped(struct reader *reader, size_t begin, struct error *err)
{
    size_t used = reader->at - begin - 1;

    if (reader->scratch == NULL) {
        reader->scratch = arena_alloc(reader->tree->arena, reader->size);
        if (reader->scratch == NULL) {
            error_no_memory(err);
            return NULL;
        }
    }
    memcpy(reader->scratch, reader->text + begin + 1, used);
    while (reader->at < reader->size) {
        char c = reader->text[reader->at++];

        if (c == '"') {
            return tree_scalar(reader->tree, (uint32_t)begin, reader->scratch, used, true, err);
        }
        if ((unsigned char)c < 0x20) {
            fail(reader, reader->at - 1, err, "a control character in a string: write it as an escape");
            return NULL;
        }
        if (c != '\\') {
            reader->scratch[used++] = c;
        } else if (read_escape(reader, reader->scratch, &used, err) != 0) {
            return NULL;
        }
    }
    fail(reader, begin, err, "this string does not end");
    return NULL;
}

static struct node *read_string(struct reader *reader, struct error *err)
{
    size_t begin = reader->at++;

    while (reader->at < reader->size) {
        char c = reader->text[reader->at];

        if (c == '"') {
            reader->at++;
            return tree_scalar(reader->tree, (uint32_t)begin, reader->text + begin + 1,
                               reader->at - begin - 2, true, err);
        }
        if (c == '\\' || (unsigned char)c < 0x20) {
            return read_escaped(reader, begin, err);
        }
        reader->at++;
    }
    fail(reader, begin, err, "this string does not end");
    return NULL;
}

// ---- numbers and words --------------------------------------------------------------------

static size_t skip_digits(const struct reader *reader, size_t at)
{
    while (at < reader->size && reader->text[at] >= '0' && reader->text[at] <= '9') {
        at++;
    }
    return at;
}

static char char_at(const struct reader *reader, size_t at)
{
    return at < reader->size ? reader->text[at] : '\0';
}

// Its end; the beginning when it is no number.
static size_t number_end(const struct reader *reader)
{
    size_t at = reader->at + (char_at(reader, reader->at) == '-');
    size_t digits = skip_digits(reader, at);

    if (digits == at || (char_at(reader, at) == '0' && digits > at + 1)) {
        return reader->at;
    }
    at = digits;
    if (char_at(reader, at) == '.') {
        digits = skip_digits(reader, at + 1);
        if (digits == at + 1) {
            return reader->at;
        }
        at = digits;
    }
    if (char_at(reader, at) == 'e' || char_at(reader, at) == 'E') {
        at++;
        at += char_at(reader, at) == '+' || char_at(reader, at) == '-';
        digits = skip_digits(reader, at);
        return digits == at ? reader->at : digits;
    }
    return at;
}

static struct node *read_word(struct reader *reader, struct error *err)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t begin = reader->at;
    size_t end = number_end(reader);

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && end == begin; i++) {
        size_t size = strlen(words[i]);

        if (reader->size - begin >= size && memcmp(reader->text + begin, words[i], size) == 0) {
            end = begin + size;
        }
    }
    if (end == begin) {
        fail(reader, begin, err,
             "here JSON has a value: \"text\", a number, true, false, null, [list] or {\"key\": value}");
        return NULL;
    }
    reader->at = end;
    return tree_scalar(reader->tree, (uint32_t)begin, reader->text + begin, end - begin, false, err);
}

// ---- values -------------------------------------------------------------------------------

static int read_value(struct reader *reader, unsigned depth, struct error *err);

static int read_key(struct reader *reader, struct error *err)
{
    struct node *key;

    skip_space(reader);
    if (char_at(reader, reader->at) != '"') {
        return fail(reader, reader->at, err, "here JSON has a key in double quotes");
    }
    key = read_string(reader, err);
    if (key == NULL || tree_push(reader->tree, key, err) != 0) {
        return -EINVAL;
    }
    return take(reader, ':')
               ? 0
               : fail(reader, reader->at, err, "here JSON has a colon, and the key's value behind it");
}

static struct node *read_collection(struct reader *reader, unsigned depth, struct error *err)
{
    bool map = reader->text[reader->at] == '{';
    char close = map ? '}' : ']';
    size_t begin = reader->at++;
    size_t pushed = reader->tree->count;
    bool more = !take(reader, close);

    if (depth >= DOCUMENT_DEPTH_MAX) {
        tree_error(reader->tree, (uint32_t)begin, err, "lists and maps within one another, more than %d deep",
                   DOCUMENT_DEPTH_MAX);
        return NULL;
    }
    while (more) {
        if ((map && read_key(reader, err) != 0) || read_value(reader, depth + 1, err) != 0) {
            return NULL;
        }
        more = take(reader, ',');
        if (!more && !take(reader, close)) {
            fail(reader, reader->at, err,
                 map ? "here JSON has a comma or the } that ends the map"
                     : "here JSON has a comma or the ] that ends the list");
            return NULL;
        }
    }
    return tree_collection(reader->tree, map ? NODE_MAP : NODE_LIST, (uint32_t)begin, pushed, err);
}

static int read_value(struct reader *reader, unsigned depth, struct error *err)
{
    struct node *node;
    char c;

    skip_space(reader);
    c = char_at(reader, reader->at);
    if (c == '{' || c == '[') {
        node = read_collection(reader, depth, err);
    } else if (c == '"') {
        node = read_string(reader, err);
    } else {
        node = read_word(reader, err);
    }
    return node != NULL ? tree_push(reader->tree, node, err) : -EINVAL;
}

int document_read_json(struct tree *tree, struct error *err)
{
    struct reader reader = {
        .tree = tree, .text = tree->document->script.text, .size = tree->document->script.size};
    int rc = read_value(&reader, 1, err);

    if (rc == 0) {
        skip_space(&reader);
        rc = reader.at < reader.size
                 ? fail(&reader, reader.at, err, "something stands behind the end of the JSON text")
                 : 0;
    }
    if (rc == 0) {
        tree->document->root = tree->pushed[0];
    }
    return rc;
}
