/* An example of a plugin: numbers, bytes, arrays and tables in and out, errors, a long task that can be
 * cancelled. */
#include <dray_task.h>

#include <stdlib.h>

/* The sum of the numbers of all inputs, however many partitions they have. */
static int sum(struct dray_call *call)
{
    double total = 0;

    for (size_t i = 0; i < dray_inputs(call); i++) {
        for (size_t k = 0; k < dray_partitions(call, i); k++) {
            double value;

            if (dray_input_double(call, i, k, &value) != 0) {
                return dray_fail(call, EINVAL, "partition %zu of input %zu is not a number", k, i);
            }
            total += value;
        }
    }
    return dray_result_double(call, total);
}

/* An estimate of pi from as many random points as the argument says; the task's index is the seed, so that a
 * repeated task gives the same.  It may take long: it says so (DRAY_POLLS) and asks now and then whether
 * anybody still wants it. */
static int pi(struct dray_call *call)
{
    size_t size;
    const char *text = (const char *)dray_argument(call, &size);
    char number[32] = "";
    uint64_t points, inside = 0, state = 88172645463325252U + dray_index(call) * UINT64_C(0x9E3779B97F4A7C15);

    memcpy(number, text, size < sizeof(number) - 1 ? size : sizeof(number) - 1);
    points = strtoull(number, NULL, 10);
    if (points == 0) {
        return dray_fail(call, EINVAL, "pi takes a number of points, not \"%s\"", number);
    }
    for (uint64_t i = 0; i < points; i++) {
        double x, y;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        x = (double)(state >> 32) / 4294967296.0;
        y = (double)(state & 0xFFFFFFFFU) / 4294967296.0;
        inside += x * x + y * y < 1;
        if (i % 65536 == 0 && dray_cancelled(call)) {
            return -ECANCELED;
        }
    }
    return dray_result_double(call, 4 * (double)inside / (double)points);
}

/* Bytes that occur how often: an array of 256 numbers. */
static int histogram(struct dray_call *call)
{
    const uint64_t shape[] = {256};
    uint64_t *count = (uint64_t *)dray_result_array(call, DRAY_TYPE_UINT64, 1, shape);

    if (count == NULL) {
        return -errno;
    }
    memset(count, 0, 256 * sizeof(*count));
    for (size_t k = 0; k < dray_partitions(call, 0); k++) {
        size_t size;
        const unsigned char *data = (const unsigned char *)dray_input(call, 0, k, &size);

        if (data == NULL) {
            return dray_fail(call, EINVAL, "histogram takes bytes; partition %zu is a table", k);
        }
        for (size_t i = 0; i < size; i++) {
            count[data[i]]++;
        }
    }
    return 0;
}

/* ---- a table in, a table out (Arrow's C data interface) ------------------------------------------------ */

static int is_null(const struct ArrowArray *column, int64_t row)
{
    const unsigned char *valid = (const unsigned char *)column->buffers[0];
    int64_t at = row + column->offset;

    return valid != NULL && (valid[at / 8] >> (at % 8) & 1) == 0;
}

static double column_mean(const struct ArrowSchema *type, const struct ArrowArray *column)
{
    double total = 0;
    int64_t rows = 0;

    for (int64_t row = 0; row < column->length; row++) {
        if (!is_null(column, row)) {
            total += type->format[0] == 'g'
                         ? ((const double *)column->buffers[1])[row + column->offset]
                         : (double)((const int64_t *)column->buffers[1])[row + column->offset];
            rows++;
        }
    }
    return rows > 0 ? total / (double)rows : 0;
}

/* One row of float64 columns, all in one block that lives until `run` has returned: dray_result_table has
 * copied what it needs when it returns, so there is nothing to release. */
struct row {
    struct ArrowSchema *schema_list;
    struct ArrowSchema **schema;
    struct ArrowArray *array_list;
    struct ArrowArray **array;
    const void **buffer; /* two a column: no validity, then the value */
    double *value;
};

static void keep_schema(struct ArrowSchema *schema)
{
    schema->release = NULL;
}

static void keep_array(struct ArrowArray *array)
{
    array->release = NULL;
}

static int give_row(struct dray_call *call, struct row *row, int64_t columns)
{
    static const void *no_validity[1] = {NULL};
    struct ArrowSchema schema;
    struct ArrowArray array;

    memset(&schema, 0, sizeof(schema));
    memset(&array, 0, sizeof(array));
    schema.format = "+s";
    schema.name = "";
    schema.n_children = columns;
    schema.children = row->schema;
    schema.release = keep_schema;
    array.length = 1;
    array.n_buffers = 1;
    array.buffers = no_validity;
    array.n_children = columns;
    array.children = row->array;
    array.release = keep_array;
    return dray_result_table(call, &schema, &array);
}

static void add_column(struct row *row, int64_t at, const char *name, double value)
{
    row->value[at] = value;
    row->buffer[2 * at + 1] = &row->value[at];
    row->schema_list[at].format = "g";
    row->schema_list[at].name = name;
    row->schema_list[at].release = keep_schema;
    row->array_list[at].length = 1;
    row->array_list[at].n_buffers = 2;
    row->array_list[at].buffers = &row->buffer[2 * at];
    row->array_list[at].release = keep_array;
    row->schema[at] = &row->schema_list[at];
    row->array[at] = &row->array_list[at];
}

static int make_row(struct row *row, size_t columns)
{
    row->schema_list = (struct ArrowSchema *)calloc(columns, sizeof(*row->schema_list));
    row->schema = (struct ArrowSchema **)calloc(columns, sizeof(*row->schema));
    row->array_list = (struct ArrowArray *)calloc(columns, sizeof(*row->array_list));
    row->array = (struct ArrowArray **)calloc(columns, sizeof(*row->array));
    row->buffer = (const void **)calloc(2 * columns, sizeof(*row->buffer));
    row->value = (double *)calloc(columns, sizeof(*row->value));
    return row->schema_list != NULL && row->schema != NULL && row->array_list != NULL && row->array != NULL &&
                   row->buffer != NULL && row->value != NULL
               ? 0
               : -ENOMEM;
}

static void free_row(struct row *row)
{
    free(row->schema_list);
    free(row->schema);
    free(row->array_list);
    free(row->array);
    free((void *)row->buffer);
    free(row->value);
}

/* The mean of each numeric column of the first input. */
static int means(struct dray_call *call)
{
    struct ArrowSchema schema;
    struct ArrowArray table;
    struct row row;
    int64_t columns = 0;
    int rc = dray_input_table(call, 0, 0, &schema, &table);

    if (rc != 0) {
        return dray_fail(call, -rc, "means takes a table");
    }
    rc = make_row(&row, (size_t)table.n_children + 1);
    if (rc == 0) {
        for (int64_t i = 0; i < table.n_children; i++) {
            const char *format = schema.children[i]->format;

            if (schema.children[i]->dictionary == NULL &&
                (strcmp(format, "g") == 0 || strcmp(format, "l") == 0)) {
                add_column(&row, columns++, schema.children[i]->name,
                           column_mean(schema.children[i], table.children[i]));
            }
        }
        rc = columns > 0 ? give_row(call, &row, columns)
                         : dray_fail(call, EINVAL, "none of the table's %lld columns is a number",
                                     (long long)table.n_children);
    }
    free_row(&row);
    table.release(&table);
    schema.release(&schema);
    return rc;
}

static const struct dray_function functions[] = {
    {"sum", sum, 0, "the sum of all numbers of all inputs"},
    {"pi", pi, DRAY_POLLS, "pi from as many random points as the argument says"},
    {"histogram", histogram, 0, "how often each byte occurs in input 0: 256 numbers"},
    {"means", means, 0, "a table of one row: the mean of each numeric column of input 0"},
};

const struct dray_plugin dray_plugin = DRAY_PLUGIN("stats", "1.0", functions);
