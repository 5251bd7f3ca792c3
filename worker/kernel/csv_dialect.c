#include "worker/kernel/csv_dialect.h"

#include <errno.h>
#include <string.h>

static int check(uint32_t byte, const char *what, struct error *err)
{
    if (byte == 0 || byte > 255 || byte == '\n' || byte == '\r') {
        return error_set(err, EINVAL, "read_csv: the %s must be one byte and not a line break", what);
    }
    return 0;
}

static void fill_next(struct csv_dialect *d)
{
    static const uint8_t next[CSV_STATES][CSV_CLASSES] = {
        //               other        sep         break     quote       hash
        [CSV_LINE] = {CSV_PLAIN, CSV_FIELD, CSV_LINE, CSV_QUOTED, CSV_COMMENT},
        [CSV_FIELD] = {CSV_PLAIN, CSV_FIELD, CSV_LINE, CSV_QUOTED, CSV_COMMENT},
        [CSV_PLAIN] = {CSV_PLAIN, CSV_FIELD, CSV_LINE, CSV_PLAIN, CSV_COMMENT},
        [CSV_QUOTED] = {CSV_QUOTED, CSV_QUOTED, CSV_QUOTED, CSV_CLOSED, CSV_QUOTED},
        [CSV_CLOSED] = {CSV_PLAIN, CSV_FIELD, CSV_LINE, CSV_QUOTED, CSV_PLAIN},
        [CSV_COMMENT] = {CSV_COMMENT, CSV_COMMENT, CSV_LINE, CSV_COMMENT, CSV_COMMENT},
    };

    memcpy(d->next, next, sizeof(next));
}

int csv_dialect_init(struct csv_dialect *d, const Dray__CsvDialect *proto, struct error *err)
{
    struct csv_dialect made = {0};
    int rc = check(proto->sep, "separator", err);

    if (rc == 0 && proto->has_quote) {
        rc = check(proto->quote, "quote character", err);
    }
    if (rc == 0 && proto->has_comment) {
        rc = check(proto->comment, "comment character", err);
    }
    if (rc < 0) {
        return rc;
    }
    if ((proto->has_quote && proto->quote == proto->sep) || (proto->has_comment && proto->comment == proto->sep) ||
        (proto->has_quote && proto->has_comment && proto->quote == proto->comment)) {
        return error_set(err, EINVAL, "read_csv: separator, quote and comment character must differ");
    }
    made.sep = (uint8_t)proto->sep;
    made.has_quote = proto->has_quote;
    made.has_comment = proto->has_comment;
    made.class_of['\n'] = CSV_BREAK;
    made.class_of['\r'] = CSV_BREAK;
    made.class_of[made.sep] = CSV_SEP;
    if (made.has_quote) {
        made.quote = (uint8_t)proto->quote;
        made.class_of[made.quote] = CSV_QUOTE;
    }
    if (made.has_comment) {
        made.comment = (uint8_t)proto->comment;
        made.class_of[made.comment] = CSV_HASH;
    }
    fill_next(&made);
    *d = made;
    return 0;
}
