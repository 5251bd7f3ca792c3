#!/usr/bin/python3
"""Prints random tables with Dray's printer and with pandas, and compares byte for byte.

usage: test_print.py PRINT_CASES [--seed N] [--cases N]
"""
import argparse
import json
import math
import os
import random
import subprocess
import sys
import warnings

try:
    import numpy as np
    import pandas as pd
except ImportError:
    print("skipped: pandas is not installed (apt-get install python3-pandas)")
    sys.exit(77)

warnings.simplefilter("ignore", FutureWarning)
BOOL, INT64, FLOAT64, STRING = 1, 2, 3, 4
TABLE, CSV, JSON = 0, 1, 2
SCALAR, SERIES, FRAME, LIST = 1, 2, 3, 4
WORDS = ["Books", "Home Goods", "Toys", "a", "", "Übergröße", "日本語", "x" * 60, "tab\there", "two\nlines", 'quo"te', "a,b", "😀", "-",
         "NaN", "None", "0.5", "true"]


def hexed(text):
    return "-" if text is None else "x" + text.encode().hex()


def random_float(rng):
    kind = rng.randrange(8)
    if kind == 0:
        return float(rng.randrange(-100, 100))
    if kind == 1:
        return round(rng.uniform(-1000, 1000), rng.randrange(1, 5))
    if kind == 2:
        return rng.uniform(10, 1000)
    if kind == 3:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-8, 10)
    if kind == 4:
        return rng.choice([0.0, -0.0, 1e-7, 1e6, 1000000.5, 123456789.123, 1e16, 1e300, 5e-324, math.inf, -math.inf, 0.1, 1e22])
    return rng.uniform(0, 10)


def random_values(rng, kind, rows, nulls):
    tame = rng.random() < 0.5
    few = [rng.choice(WORDS) for _ in range(rng.randrange(1, 5))]
    scale = rng.choice([10, 1000, 10**6, 2**62])
    out = []
    for _ in range(rows):
        if nulls and rng.random() < 0.3:
            out.append(None)
        elif kind == BOOL:
            out.append(rng.random() < 0.5)
        elif kind == INT64:
            out.append(rng.randrange(-scale if not tame else 0, scale))
        elif kind == FLOAT64:
            out.append(rng.choice([rng.uniform(10, 1000), round(rng.uniform(0, 100), 2)]) if tame else random_float(rng))
        else:
            out.append(rng.choice(few) if tame else rng.choice(WORDS) + str(rng.randrange(100)))
    return out


def array(kind, values):
    """As pandas' read_csv would hold these values."""
    missing = any(v is None for v in values)
    if kind == FLOAT64 or (kind == INT64 and missing):
        return np.array([np.nan if v is None else v for v in values], dtype=float)
    if kind == INT64:
        return np.array(values, dtype="int64")
    if kind == BOOL and not missing:
        return np.array(values, dtype=bool)
    out = np.empty(len(values), dtype=object)
    out[:] = [np.nan if v is None else v for v in values]
    return out


def spell(kind, value):
    if value is None:
        return "-"
    if kind == STRING:
        return hexed(value)
    return str(int(value)) if kind in (BOOL, INT64) else repr(float(value))


class Case:
    def __init__(self, rng):
        self.rng = rng
        self.format = rng.choice([TABLE, TABLE, TABLE, CSV, JSON])
        self.kind = rng.choice([SERIES, FRAME, FRAME])
        self.width = rng.choice([0, 80, 80, 40, 120, 17])
        self.parts = rng.randrange(1, 5)
        rows = rng.choice([0, 1, 2, 3, 7, 20, 59, 60, 61, 62, 100, 101, 250])
        self.index_columns = rng.choice([0, 1, 1, 2, 3])
        self.index_is_names = self.index_columns == 1 and rng.random() < 0.2
        values = 1 if self.kind == SERIES else rng.choice([1, 1, 2, 3, 5, 12, 30, 90, 130])
        if values > 12:
            rows = min(rows, 62)
        self.series_name = None
        if self.kind == SERIES and rng.random() < 0.8:
            self.series_name = rng.choice(["price", "a\tb", "größe", "0"])
        self.dtype = None
        self.columns = []
        for i in range(self.index_columns + values):
            is_index = i < self.index_columns
            kind = rng.choice([BOOL, INT64, FLOAT64, STRING])
            # Keys of a group have no nulls.
            nulls = rng.random() < 0.3 and not (is_index and self.index_columns > 1)
            data = random_values(rng, kind, rows, nulls)
            if is_index and self.index_columns > 1 and rng.random() < 0.7:
                few = data[: rng.randrange(1, 4)]
                data = sorted(rng.choice(few) for _ in range(rows)) if few else []
            if is_index and kind == FLOAT64:
                # Levels of a MultiIndex show 0.0 for -0.0 after it, and the other way round.
                data = [0.0 if v == 0 else v for v in data]
            name = rng.choice(["price", "category", "a", "long name of a column", "ü", "x" * 55, "t\tb"]) if rng.random() < 0.3 else f"c{i}"
            self.columns.append((name, kind, data))
        self.rows = rows

    def spell(self):
        fields = [self.format, self.kind, self.width, self.index_columns, int(self.index_is_names), hexed(self.series_name),
                  hexed(self.dtype), self.parts, len(self.columns), self.rows]
        for name, kind, data in self.columns:
            fields += [hexed(name), kind] + [spell(kind, v) for v in data]
        return " ".join(map(str, fields))

    def pandas(self):
        n = self.index_columns
        names = [None if self.index_is_names else c[0] for c in self.columns[:n]]
        arrays = [array(kind, data) for _, kind, data in self.columns[:n]]
        if n == 0:
            index = pd.RangeIndex(self.rows)
        elif n == 1:
            index = pd.Index(arrays[0], name=names[0])
        else:
            index = pd.MultiIndex.from_arrays(arrays, names=names)
        if self.kind == SERIES:
            return pd.Series(array(self.columns[n][1], self.columns[n][2]), index=index, name=self.series_name)
        data = {i: pd.Series(array(kind, data), index=index) for i, (_, kind, data) in enumerate(self.columns[n:])}
        frame = pd.DataFrame(data, index=index)
        frame.columns = pd.Index([c[0] for c in self.columns[n:]], dtype=object)
        return frame

    def expect(self):
        value = self.pandas()
        if self.format == TABLE:
            os.environ["COLUMNS"] = str(self.width or 80)
            return repr(value) + "\n"
        if self.format == CSV:
            return value.to_csv(index=self.index_columns > 0)
        return None

    def check_json(self, got):
        def plain(value):
            return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
        want = {
            "columns": [None if i < self.index_columns and self.index_is_names
                        else self.series_name if i >= self.index_columns and self.kind == SERIES else c[0]
                        for i, c in enumerate(self.columns)],
            "index_columns": self.index_columns,
            "data": [[plain(c[2][r]) for c in self.columns] for r in range(self.rows)],
        }
        return json.loads(got) == want and repr(json.loads(got)) == repr(want)

    def is_fair(self):
        """Where pandas does what no CSV of ours should do."""
        if self.format == CSV:
            for _, kind, data in self.columns:
                # An integer column with a hole in it stays exact here.
                if kind == INT64 and None in data:
                    return False
        return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=600)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    cases = []
    while len(cases) < options.cases:
        case = Case(rng)
        if case.is_fair():
            cases.append(case)
    output = subprocess.run([options.program], input="\n".join(c.spell() for c in cases).encode(), stdout=subprocess.PIPE,
                            check=True).stdout
    bad = 0
    at = 0
    for number, case in enumerate(cases):
        end = output.index(b"\n", at)
        size = int(output[at:end])
        got = output[end + 1 : end + 1 + size].decode()
        at = end + 1 + size
        if case.format == JSON:
            if not case.check_json(got):
                bad += 1
                print(f"---- case {number} (seed {options.seed}): JSON\n{got}")
            continue
        want = case.expect()
        if got != want:
            bad += 1
            if bad <= 5:
                print(f"---- case {number} (seed {options.seed}): width {case.width}, {case.parts} parts, index {case.index_columns}")
                print(f"pandas {pd.__version__}:\n{want}\nDray:\n{got}")
                for a, b in zip(want.split("\n"), got.split("\n")):
                    if a != b:
                        print(f"first difference:\n{a!r}\n{b!r}")
                        break
    print(f"{len(cases)} cases, {bad} differ (seed {options.seed})")
    sys.exit(1 if bad else 0)


main()
