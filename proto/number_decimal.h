// Decimal to binary, inline for the loops that convert tens of millions of numbers a
// second.  Everybody else: proto/number.h.
#ifndef DRAY_PROTO_NUMBER_DECIMAL_H
#define DRAY_PROTO_NUMBER_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// The 128 leading bits of 10^q; see proto/number_table.py.
#define NUMBER_POWER_FIRST (-342)
#define NUMBER_POWER_LAST 324

struct number_power {
    uint64_t high, low;
};
extern const struct number_power number_powers[NUMBER_POWER_LAST - NUMBER_POWER_FIRST + 1];

__extension__ typedef unsigned __int128 number_uint128;

// w * 10^q rounded to nearest even, for any w != 0 and any q; overflow gives inf,
// underflow 0.  Exact without a fallback: Eisel-Lemire with N. Mushtak and D. Lemire, "Fast number
// parsing without fallback", 2023.
static inline double number_decimal(uint64_t w, int32_t q)
{
    uint64_t bits, mantissa, high, low;
    double out;

    if (__builtin_expect(q < NUMBER_POWER_FIRST || q > 308, 0)) {
        return q < 0 ? 0.0 : __builtin_inf();
    }
    const struct number_power *power = &number_powers[q - NUMBER_POWER_FIRST];
    int zeros = __builtin_clzll(w);

    w <<= zeros;
    number_uint128 product = (number_uint128)w * power->high;

    high = (uint64_t)(product >> 64);
    low = (uint64_t)product;
    // The nine bits below the mantissa decide unless all are ones.
    if (__builtin_expect((high & 0x1ff) == 0x1ff, 0)) {
        uint64_t second = (uint64_t)(((number_uint128)w * power->low) >> 64);

        low += second;
        high += low < second;
    }
    int upper = (int)(high >> 63);
    int shift = upper + 9;
    // floor(q * log2(10)), and the bias.
    int exponent = (int)((217706 * (int64_t)q) >> 16) + 63 + upper - zeros + 1023;

    mantissa = high >> shift; // 53 bits and one to round by
    if (__builtin_expect(exponent <= 0, 0)) {
        if (exponent <= -63) {
            return 0.0;
        }
        mantissa >>= 1 - exponent;
        mantissa = (mantissa + (mantissa & 1)) >> 1;
        bits = mantissa; // a carry into the exponent makes the least normal number
        memcpy(&out, &bits, sizeof(out));
        return out;
    }
    // Half way exactly: possible only where 5^|q| is small.
    if (__builtin_expect(low <= 1 && q >= -4 && q <= 23 && (mantissa & 3) == 1 && mantissa << shift == high,
                         0)) {
        mantissa--;
    }
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    // The hidden bit adds one to the exponent, and so does a carry.
    bits = ((uint64_t)(exponent - 1) << 52) + mantissa;
    if (__builtin_expect(bits >= (uint64_t)0x7ff << 52, 0)) {
        return __builtin_inf();
    }
    memcpy(&out, &bits, sizeof(out));
    return out;
}

#endif
