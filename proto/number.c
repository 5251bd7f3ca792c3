#include "proto/number.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "proto/number_decimal.h"

enum {
    EXACT_DIGITS = 19, // any 19 digits fit into 64 bits
    // A number half way between two doubles has at most 767 digits; what comes after
    // these can only break a tie.
    DIGITS_KEPT = 800,
    EXPONENT_MAX = 1000000,
};

// ---- big integers, for texts of more than 19 digits that are close to half way ------

// Little-endian.  Enough for 800 digits times 2^1150, or a mantissa times 5^1150.
enum { LIMBS = 72 };
struct big {
    size_t used;
    uint64_t limb[LIMBS];
};

static void big_multiply_add(struct big *b, uint64_t factor, uint64_t carry)
{
    for (size_t i = 0; i < b->used; i++) {
        number_uint128 product = (number_uint128)b->limb[i] * factor + carry;

        b->limb[i] = (uint64_t)product;
        carry = (uint64_t)(product >> 64);
    }
    if (carry != 0 && b->used < LIMBS) {
        b->limb[b->used++] = carry;
    }
}

static void big_multiply_power(struct big *b, uint64_t base, int exponent)
{
    // In steps of 5^16 or 2^16, which both fit.
    uint64_t step = 1;

    for (int i = 0; i < 16; i++) {
        step *= base;
    }
    for (; exponent >= 16; exponent -= 16) {
        big_multiply_add(b, step, 0);
    }
    for (; exponent > 0; exponent--) {
        big_multiply_add(b, base, 0);
    }
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->used != b->used) {
        return a->used < b->used ? -1 : 1;
    }
    for (size_t i = a->used; i-- > 0;) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }
    return 0;
}

// ---- parsing -----------------------------------------------------------------------

struct decimal {
    const char *digits;  // from the first that is not zero; may contain a point
    const char *end;     // of the digits
    int64_t significant; // digits between these
    int64_t exponent;    // value = digits as an integer * 10^exponent
    uint64_t head;       // the first 19 digits
    bool negative;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool parse_word(const char *text, size_t size, double *out)
{
    if (size == 3 && strncasecmp(text, "nan", 3) == 0) {
        *out = (double)NAN;
        return true;
    }
    if ((size == 3 && strncasecmp(text, "inf", 3) == 0) ||
        (size == 8 && strncasecmp(text, "infinity", 8) == 0)) {
        *out = (double)INFINITY;
        return true;
    }
    return false;
}

// text: behind the sign.
static bool scan_decimal(const char *text, const char *end, struct decimal *d)
{
    const char *p = text, *point = NULL;
    int64_t after_point = 0;

    while (p < end && *p == '0') {
        p++;
    }
    if (p < end && *p == '.') {
        point = p++;
        while (p < end && *p == '0') {
            p++;
        }
    }
    d->digits = p;
    d->significant = 0;
    d->head = 0;
    for (; p < end; p++) {
        if (is_digit(*p)) {
            if (d->significant < EXACT_DIGITS) {
                d->head = d->head * 10 + (uint64_t)(*p - '0');
            }
            d->significant++;
        } else if (*p == '.' && point == NULL) {
            point = p;
        } else {
            break;
        }
    }
    d->end = p;
    if (p - text == (point != NULL ? 1 : 0)) {
        return false; // no digit at all
    }
    if (point != NULL) {
        after_point = p - point - 1;
    }
    d->exponent = -after_point;
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool minus = false;
        int64_t exponent = 0;

        p++;
        if (p < end && (*p == '+' || *p == '-')) {
            minus = *p++ == '-';
        }
        if (p == end) {
            return false;
        }
        for (; p < end && is_digit(*p); p++) {
            // Saturates far beyond what any text of digits can make up for.
            if (exponent < INT64_MAX / 20) {
                exponent = exponent * 10 + (*p - '0');
            }
        }
        d->exponent += minus ? -exponent : exponent;
    }
    return p == end;
}

static double next_up(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    bits++;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// All digits of *d against the middle between `below` and the double above it.
static double round_exactly(const struct decimal *d, double below)
{
    struct big decimal = {.used = 0}, middle = {.used = 1};
    uint64_t bits, mantissa;
    int64_t kept = 0, power10;
    bool rest = false;
    int power2, order;

    for (const char *p = d->digits; p < d->end; p++) {
        if (*p == '.') {
            continue;
        }
        if (kept < DIGITS_KEPT) {
            big_multiply_add(&decimal, 10, (uint64_t)(*p - '0'));
            kept++;
        } else if (*p != '0') {
            rest = true;
            break;
        }
    }
    power10 = d->exponent + d->significant - kept;

    memcpy(&bits, &below, sizeof(bits));
    mantissa = bits & (((uint64_t)1 << 52) - 1);
    power2 = (int)(bits >> 52);
    if (power2 == 0) {
        power2 = 1;
    } else {
        mantissa |= (uint64_t)1 << 52;
    }
    power2 -= 1076;
    middle.limb[0] = 2 * mantissa + 1;

    // decimal * 10^power10 ? middle * 2^power2, with every power on the side where it is positive.
    if (power10 >= 0) {
        big_multiply_power(&decimal, 5, (int)power10);
    } else {
        big_multiply_power(&middle, 5, (int)-power10);
    }
    int twos = (int)power10 - power2;

    big_multiply_power(twos >= 0 ? &decimal : &middle, 2, twos >= 0 ? twos : -twos);
    order = big_compare(&decimal, &middle);
    if (order == 0) {
        order = rest || (mantissa & 1) != 0 ? 1 : -1;
    }
    return order > 0 ? next_up(below) : below;
}

static double decimal_value(const struct decimal *d)
{
    int64_t dropped = d->significant > EXACT_DIGITS ? d->significant - EXACT_DIGITS : 0;
    int64_t exponent = d->exponent + dropped;

    if (d->head == 0) {
        return 0.0;
    }
    if (exponent > EXPONENT_MAX || exponent < -EXPONENT_MAX) {
        return exponent > 0 ? (double)INFINITY : 0.0;
    }
    double value = number_decimal(d->head, (int32_t)exponent);

    if (dropped > 0) {
        // The truth lies between these two, which are the same or neighbours.
        double above = number_decimal(d->head + 1, (int32_t)exponent);

        if (above != value) {
            value = round_exactly(d, value);
        }
    }
    return value;
}

bool number_parse_float64(const char *text, size_t size, double *out)
{
    const char *end = text + size;
    struct decimal d;
    double value;
    bool negative;

    if (size == 0) {
        return false;
    }
    negative = *text == '-';
    if (negative || *text == '+') {
        text++;
    }
    if (text < end && (is_digit(*text) || *text == '.')) {
        if (!scan_decimal(text, end, &d)) {
            return false;
        }
        value = decimal_value(&d);
    } else if (!parse_word(text, (size_t)(end - text), &value)) {
        return false;
    }
    *out = negative ? -value : value;
    return true;
}

bool number_from_decimal(uint64_t w, int32_t q, double *out)
{
    *out = number_decimal(w, q);
    return true;
}

bool number_parse_int64(const char *text, size_t size, int64_t *out)
{
    const char *end = text + size;
    int64_t value = 0;
    bool negative;

    if (size == 0) {
        return false;
    }
    negative = *text == '-';
    if (negative || *text == '+') {
        text++;
    }
    if (text == end) {
        return false;
    }
    for (; text < end; text++) {
        int digit = *text - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            (negative ? __builtin_sub_overflow(value, digit, &value)
                      : __builtin_add_overflow(value, digit, &value))) {
            return false;
        }
    }
    *out = value;
    return true;
}

// ---- printing ------------------------------------------------------------------------

// The high word of g * c, its last bit set if anything is lost below it.
static uint64_t round_to_odd(const struct number_power *g, uint64_t c)
{
    uint64_t low = (uint64_t)(((number_uint128)g->low * c) >> 64);
    number_uint128 product = (number_uint128)g->high * c + low;

    return (uint64_t)(product >> 64) | ((uint64_t)product > 1);
}

// The shortest decimal that reads back, of these the closest: R. Giulietti, "The Schubfach
// way to render doubles", 2021.  value = *digits * 10^(the result).
static int schubfach(uint64_t bits, uint64_t *digits)
{
    uint64_t fraction = bits & (((uint64_t)1 << 52) - 1), c;
    int biased = (int)(bits >> 52) & 0x7ff, q;

    if (biased != 0) {
        c = fraction | (uint64_t)1 << 52;
        q = biased - 1075;
        if (q <= 0 && q > -53 && (c & (((uint64_t)1 << -q) - 1)) == 0) {
            *digits = c >> -q; // an integer below 2^53
            return 0;
        }
    } else {
        c = fraction;
        q = -1074;
    }
    // Below a power of two the neighbour is at half the distance.
    bool closer_below = fraction == 0 && biased > 1;
    int k = (q * 1262611 - (closer_below ? 524031 : 0)) >> 22; // floor(log10(the interval))
    int h = q + ((-k * 1741647) >> 19) + 1;
    struct number_power g = number_powers[-k - NUMBER_POWER_FIRST];

    if (-k < -27 || -k > 55) { // Schubfach wants what is not exact rounded up
        g.low++;
        g.high += g.low == 0;
    }
    uint64_t lower = round_to_odd(&g, (4 * c - 2 + closer_below) << h);
    uint64_t middle = round_to_odd(&g, (4 * c) << h);
    uint64_t upper = round_to_odd(&g, (4 * c + 2) << h);

    if ((c & 1) != 0) { // the ends of the interval would round to the even neighbours
        lower++;
        upper--;
    }
    uint64_t s = middle / 4;

    if (s >= 10) {
        uint64_t tens = s / 10;
        bool below_in = lower <= 40 * tens, above_in = 40 * tens + 40 <= upper;

        if (below_in != above_in) {
            *digits = tens + above_in;
            return k + 1;
        }
    }
    bool below_in = lower <= 4 * s, above_in = 4 * s + 4 <= upper;

    if (below_in != above_in) {
        *digits = s + above_in;
    } else {
        uint64_t half = 4 * s + 2;

        *digits = s + (middle > half || (middle == half && (s & 1) != 0));
    }
    return k;
}

static int print_digits(uint64_t value, char out[20])
{
    char reversed[20];
    int count = 0;

    do {
        reversed[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (int i = 0; i < count; i++) {
        out[i] = reversed[count - 1 - i];
    }
    return count;
}

int number_shortest(double value, char digits[17], int *exponent)
{
    uint64_t bits, decimal;
    char text[20];
    int power, count;

    memcpy(&bits, &value, sizeof(bits));
    power = schubfach(bits, &decimal);
    count = print_digits(decimal, text);
    *exponent = power + count;
    while (count > 1 && text[count - 1] == '0') {
        count--;
    }
    memcpy(digits, text, (size_t)count);
    return count;
}

static char *put(char *p, const char *text, size_t size)
{
    memcpy(p, text, size);
    return p + size;
}

static char *put_zeros(char *p, int count)
{
    memset(p, '0', (size_t)count);
    return p + count;
}

size_t number_print_float64(double value, char out[NUMBER_TEXT_MAX])
{
    char digits[17], *p = out;
    int count, exponent;

    if (isnan(value)) {
        return (size_t)(put(p, "nan", 3) - out);
    }
    if (signbit(value)) {
        *p++ = '-';
        value = -value;
    }
    if (isinf(value)) {
        return (size_t)(put(p, "inf", 3) - out);
    }
    if (value == 0) {
        return (size_t)(put(p, "0.0", 3) - out);
    }
    count = number_shortest(value, digits, &exponent);
    if (exponent > 16 || exponent <= -4) {
        *p++ = digits[0];
        if (count > 1) {
            *p++ = '.';
            p = put(p, digits + 1, (size_t)(count - 1));
        }
        exponent--;
        *p++ = 'e';
        *p++ = exponent < 0 ? '-' : '+';
        exponent = exponent < 0 ? -exponent : exponent;
        if (exponent < 10) {
            *p++ = '0';
        }
        p += print_digits((uint64_t)exponent, p);
    } else if (exponent <= 0) {
        p = put(p, "0.", 2);
        p = put_zeros(p, -exponent);
        p = put(p, digits, (size_t)count);
    } else if (exponent >= count) {
        p = put(p, digits, (size_t)count);
        p = put_zeros(p, exponent - count);
        p = put(p, ".0", 2);
    } else {
        p = put(p, digits, (size_t)exponent);
        *p++ = '.';
        p = put(p, digits + exponent, (size_t)(count - exponent));
    }
    return (size_t)(p - out);
}

size_t number_print_int64(int64_t value, char out[NUMBER_TEXT_MAX])
{
    char *p = out;
    uint64_t magnitude = (uint64_t)value;

    if (value < 0) {
        *p++ = '-';
        magnitude = 0 - magnitude;
    }
    return (size_t)(p + print_digits(magnitude, p) - out);
}
