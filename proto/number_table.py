"""Writes the table of powers of ten that proto/number.c parses and prints with.

usage: number_table.py OUT.c

Row q is the 128 most significant bits of 10^q (which are those of 5^q), high word
first.  Rows -27..-1 are rounded up and all others down, as Eisel-Lemire wants them
(D. Lemire, "Number parsing at a gigabyte per second", 2021, appendix B); rows 0..55
are exact.
"""
import sys

FIRST, LAST = -342, 324  # as in proto/number_decimal.h


def row(q):
    if q >= 0:
        power = 5**q
        shift = power.bit_length() - 128
        return power >> shift if shift > 0 else power << -shift
    power = 5**-q
    if q >= -27:
        return 2 ** (power.bit_length() + 127) // power + 1
    return 2 ** (power.bit_length() + 127) // power


with open(sys.argv[1], "w") as out:
    print("// Made by proto/number_table.py.", file=out)
    print('#include "proto/number_decimal.h"\n', file=out)
    print("const struct number_power number_powers[NUMBER_POWER_LAST - NUMBER_POWER_FIRST + 1] = {", file=out)
    for q in range(FIRST, LAST + 1):
        bits = row(q)
        assert bits >> 127 == 1
        print(f"    {{0x{bits >> 64:016x}U, 0x{bits & (2**64 - 1):016x}U}},  // {q}", file=out)
    print("};", file=out)
