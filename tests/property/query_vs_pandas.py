#!/usr/bin/python3
"""Runs random scripts on random CSV files through Dray's planner and kernels and through pandas, and compares the values.

usage: query_vs_pandas.py QUERY_CASES [--seed N] [--cases N] [--show]
"""
import argparse
import csv
import io
import math
import os
import random
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import pandas as pd
except ImportError:
    print("skipped: pandas is not installed (apt-get install python3-pandas)")
    sys.exit(77)

warnings.simplefilter("ignore")
WORDS = ["Books", "Toys", "Home Goods", "a", "b,c", 'say "hi"', "two\nlines", "Übergröße", "x y", "Z"]
REAL_READ_CSV = pd.read_csv


class Data:
    """A table of random columns in one or more files, and what is known of the columns."""

    def __init__(self, rng, folder, number):
        self.rng = rng
        self.types = {}
        rows = rng.choice([0, 1, 2, 5, 30, 200, 500])
        self.sep = rng.choice([",", ",", ",", ";", "\t", "|"])
        self.quote_all = rng.random() < 0.1
        columns = {}
        names = ["i", "j", "x", "y", "s", "t", "flag", "count", "odd name"]
        rng.shuffle(names)
        for name in names[: rng.randrange(3, len(names) + 1)]:
            columns[name] = self.column(name, rows)
        if not any(t in ("int", "float") for t in self.types.values()):
            columns["x"] = self.column("x", rows)
        self.names = list(columns)
        files = rng.choice([1, 1, 1, 2, 3])
        self.paths = []
        for f in range(files):
            order = list(self.names)
            if f > 0:
                rng.shuffle(order)
            path = os.path.join(folder, f"data{number}_{f}.csv")
            low, high = rows * f // files, rows * (f + 1) // files
            end = rng.choice(["\n", "\n", "\r\n"])
            with open(path, "w", newline="", encoding="utf-8") as out:
                out.write(self.line(order, end))
                for row in range(low, high):
                    out.write(self.line([columns[c][row] for c in order], end))
            self.paths.append(path)
        self.rows = rows

    def line(self, cells, end):
        out = []
        for cell in cells:
            text = "" if cell is None else cell
            if self.quote_all or any(c in text for c in [self.sep, '"', "\n", "\r"]) or (cell is not None and text == ""):
                text = '"' + text.replace('"', '""') + '"'
            out.append(text)
        return self.sep.join(out) + end

    def column(self, name, rows):
        rng = self.rng
        kind = {"i": "int", "j": "int", "x": "float", "y": "float", "s": "str", "t": "str", "flag": "bool", "count": "int", "odd name": "float"}[name]
        missing = rng.choice([0, 0, 0.1, 0.5]) if kind in ("float", "str") else 0
        self.types[name] = kind
        late = rng.random() < 0.2  # the type shows at the end of the file only
        few = rng.sample(WORDS, rng.randrange(1, 6))
        out = []
        for row in range(rows):
            if rng.random() < missing:
                out.append(None)
            elif kind == "int":
                out.append(str(rng.randrange(-20, 20)))
            elif kind == "float":
                whole = late and row < rows * 0.9
                out.append(str(rng.randrange(50)) if whole else repr(rng.choice([rng.uniform(-100, 100), round(rng.uniform(0, 50), 1)])))
            elif kind == "bool":
                out.append(rng.choice(["True", "False"]))
            else:
                out.append(rng.choice(few))
        if rows and all(v is None for v in out):
            self.types[name] = "none"
        return out

    def of(self, *kinds):
        found = [n for n in self.names if self.types[n] in kinds]
        return self.rng.choice(found) if found else None


class Script:
    """Lines that mean the same in Dray and in pandas."""

    def __init__(self, rng, data):
        self.rng, self.data = rng, data
        self.types = dict(data.types)
        self.names = list(data.names)
        path = data.paths[0] if len(data.paths) == 1 else data.paths
        options = [repr(path), f"blocksize={rng.choice([1, 7, 50, 333, 4096, 1 << 20])}"]
        if data.sep != ",":
            options.append(f"sep={data.sep!r}")
        if rng.random() < 0.1:
            keep = [n for n in self.names if rng.random() < 0.7] or self.names[:1]
            options.append(f"usecols={keep!r}")
            self.names = [n for n in self.names if n in keep]
        if rng.random() < 0.1:
            options.append("dtype={%r: 'str'}" % self.names[0])
            self.types[self.names[0]] = "str" if self.types[self.names[0]] != "none" else "none"
        self.lines = [f"df = read_csv({', '.join(options)})"]
        for _ in range(rng.randrange(4)):
            self.step()
        self.final()

    def text(self):
        return "\n".join(self.lines) + "\n"

    def pick(self, *kinds):
        found = [n for n in self.names if self.types[n] in kinds]
        return self.rng.choice(found) if found else None

    def ref(self, name):
        if name.isidentifier() and name not in ("count",) and self.rng.random() < 0.5:
            return f"df.{name}"
        return f"df[{name!r}]"

    def number(self, depth=0):
        """An expression of numbers: text and type."""
        rng = self.rng
        name = self.pick("int", "float")
        if name is None or (depth > 0 and rng.random() < 0.3):
            value = rng.choice([1, 2, 3, -2, 0.5, 10, 2.25])
            if name is None:
                return None, None
            return f"({value})" if value < 0 else str(value), "int" if isinstance(value, int) else "float"
        if depth > 2 or rng.random() < 0.4:
            return self.ref(name), self.types[name]
        left, lt = self.ref(name), self.types[name]
        op = rng.choice(["+", "-", "*", "/", "+", "*", "//", "%"])
        right, rt = self.number(depth + 1)
        if op in ("//", "%"):
            right, rt = str(rng.choice([1, 2, 3, 7, 2.5])), "float"
            rt = "int" if "." not in right else "float"
        kind = "float" if op == "/" or "float" in (lt, rt) else "int"
        if rng.random() < 0.1:
            return f"-{left}", lt
        return f"({left} {op} {right})", kind

    def condition(self, depth=0):
        rng = self.rng
        roll = rng.random()
        if depth < 2 and roll < 0.3:
            left, right = self.condition(depth + 1), self.condition(depth + 1)
            return f"({left}) {rng.choice(['&', '|', '^'])} ({right})"
        if depth < 2 and roll < 0.4:
            return f"~({self.condition(depth + 1)})"
        name = self.pick("str")
        if name is not None and roll < 0.55:
            word = rng.choice(WORDS)
            return f"{self.ref(name)} {rng.choice(['==', '!='])} {word!r}"
        if name is not None and roll < 0.62:
            return f"{self.ref(name)}.isin({rng.sample(WORDS, rng.randrange(0, 4))!r})"
        if roll < 0.68:
            name = rng.choice(self.names)
            return f"{self.ref(name)}.{rng.choice(['isna', 'notna'])}()"
        name = self.pick("bool")
        if name is not None and roll < 0.75:
            return self.ref(name)
        text, _ = self.number()
        if text is None:
            return f"{self.ref(self.names[0])}.notna()"
        if roll < 0.8 and text.startswith("df"):
            return f"{text}.between({rng.randrange(-20, 0)}, {rng.randrange(0, 30)})"
        if not text.startswith(("df", "(", "-")):
            text = self.ref(self.pick("int", "float"))
        return f"{text} {rng.choice(['<', '<=', '>', '>=', '==', '!='])} {rng.choice([0, 1, 5, -3, 12.5])}"

    def step(self):
        rng = self.rng
        roll = rng.random()
        if roll < 0.35:
            self.lines.append(f"df = df[{self.condition()}]")
        elif roll < 0.65:
            text, kind = self.number()
            if text is None or not text.strip("(-").startswith("df"):
                return
            new = rng.choice(["z", "w", self.names[0]])
            if rng.random() < 0.5:
                self.lines.append(f"df[{new!r}] = {text}")
            elif new.isidentifier():
                self.lines.append(f"df = df.assign({new}={text})")
            else:
                return
            if new not in self.names:
                self.names.append(new)
            self.types[new] = kind
        elif roll < 0.75:
            old = rng.choice(self.names)
            new = old + "_2"
            self.lines.append(f"df = df.rename(columns={{{old!r}: {new!r}}})")
            self.names[self.names.index(old)] = new
            self.types[new] = self.types[old]
        elif roll < 0.85 and len(self.names) > 2:
            gone = rng.choice(self.names)
            self.lines.append(f"df = df.drop(columns=[{gone!r}])")
            self.names.remove(gone)
        elif len(self.names) > 2:
            keep = rng.sample(self.names, rng.randrange(1, len(self.names)))
            if self.pick("int", "float") and not any(self.types[k] in ("int", "float") for k in keep):
                keep.append(self.pick("int", "float"))
            self.lines.append(f"df = df[{keep!r}]")
            self.names = keep

    def aggregation(self, kind):
        if kind in ("str", "none"):
            return self.rng.choice(["count", "count", "min", "max"]) if kind == "str" else "count"
        return self.rng.choice(["sum", "mean", "count", "min", "max", "std", "var"])

    def named(self, kind):
        """For agg(), where size() has a name as the others have."""
        return "size" if self.rng.random() < 0.1 else self.aggregation(kind)

    def final(self):
        rng = self.rng
        roll = rng.random()
        if roll < 0.5:
            self.grouped()
        elif roll < 0.6:
            name = rng.choice(self.names)
            self.lines.append(f"df[{name!r}].{self.aggregation(self.types[name])}()")
        elif roll < 0.65:
            self.lines.append("len(df)")
        elif roll < 0.7:
            self.lines.append("df.count()")
        elif roll < 0.75:
            name = self.pick("int", "float")
            if name is None:
                self.lines.append("len(df)")
            else:
                self.lines.append(f"df[{name!r}].sum() {rng.choice('+-*/')} {rng.choice(['3', 'len(df)', f'df[{name!r}].count()'])}")
        elif roll < 0.85:
            name = self.pick("int", "float")
            if name is None:
                self.lines.append(f"df.head({rng.randrange(10)})")
            else:
                # Ties come in any order in pandas: sort by everything.
                by = [name] + [n for n in self.names if n != name]
                self.lines.append(f"df.sort_values({by!r}, ascending={rng.choice([True, False])}).head({rng.randrange(20)})")
        elif roll < 0.93:
            self.lines.append(f"df.head({rng.randrange(30)})")
        else:
            self.lines.append("df")

    def grouped(self):
        rng = self.rng
        keys = [n for n in self.names if self.types[n] in ("str", "int", "bool", "float")]
        rng.shuffle(keys)
        keys = keys[: rng.choice([1, 1, 1, 2, 3])]
        rest = [n for n in self.names if n not in keys]
        if not keys or not rest:
            self.lines.append("len(df)")
            return
        by = repr(keys[0]) if len(keys) == 1 and rng.random() < 0.8 else repr(keys)
        roll = rng.random()
        name = rng.choice(rest)
        group = f"df.groupby({by})"
        if rng.random() < 0.1:
            group = f"df.groupby({by}, as_index=False)"
        if roll < 0.35:
            fn = rng.choice([self.aggregation(self.types[name])] * 3 + ["first", "last"])
            line = f"{group}[{name!r}].{fn}()"
        elif roll < 0.45:
            line = f"{group}.size()"
        elif roll < 0.6:
            chosen = rng.sample(rest, rng.randrange(1, len(rest) + 1))
            spec = {c: self.named(self.types[c]) for c in chosen}
            line = f"{group}.agg({spec!r})"
        elif roll < 0.75:
            chosen = rng.sample(rest, rng.randrange(1, len(rest) + 1))
            spec = {c: [self.named(self.types[c])] for c in chosen}
            spec[chosen[0]] = sorted({self.named(self.types[chosen[0]]) for _ in range(2)})
            line = f"df.groupby({by}).agg({spec!r})"
        elif roll < 0.9:
            named = ", ".join(f"r{i}=({c!r}, {self.named(self.types[c])!r})" for i, c in enumerate(rng.sample(rest, min(2, len(rest)))))
            line = f"{group}.agg({named})"
        else:
            line = f"{group}[{name!r}].count()"
        if rng.random() < 0.15 and "as_index" not in line and "size" not in line and ": [" not in line:
            line += ".reset_index()"
        self.lines.append(line)


def read_csv(path, blocksize=None, **options):
    paths = path if isinstance(path, list) else [path]
    options.setdefault("keep_default_na", True)
    return pd.concat([REAL_READ_CSV(p, **options) for p in paths], ignore_index=True)


def run_pandas(script):
    lines = script.strip("\n").split("\n")
    scope = {"read_csv": read_csv, "len": len}
    exec("\n".join(lines[:-1]), scope)
    return eval(lines[-1], scope)


def plain(value):
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    return str(value)


def rows_of(result):
    """Rows of plain values, and the names of a table's columns."""
    if isinstance(result, pd.Series):
        frame = result.to_frame(name="value")
        numbered = isinstance(frame.index, pd.RangeIndex)
        if not numbered:
            frame.index.names = [f"k{i}" for i in range(frame.index.nlevels)]
            frame = frame.reset_index()
        return [[plain(v) for v in row] for row in frame.itertuples(index=False)], None
    if isinstance(result, pd.DataFrame):
        frame = result
        if isinstance(frame.columns, pd.MultiIndex):
            frame = frame.copy()
            frame.columns = ["_".join(c) for c in frame.columns]
        if any(n is not None for n in frame.index.names):
            frame = frame.reset_index()
        return [[plain(v) for v in row] for row in frame.itertuples(index=False)], list(frame.columns)
    return [[plain(result)]], None


def same(ours, theirs, scale):
    if theirs == "":
        return ours in ("", "nan")
    if isinstance(theirs, bool):
        # pandas sums an object column of bools to a bool.
        return ours in (str(theirs), str(int(theirs)))
    if isinstance(theirs, (int, float)):
        try:
            value = float(ours)
        except ValueError:
            return False
        if isinstance(theirs, int) and "." in ours and not value.is_integer():
            return False
        return math.isclose(value, theirs, rel_tol=1e-9, abs_tol=1e-9 * scale) or value == theirs
    return ours == theirs.replace("\r\n", "\n")


def compare(answer, result):
    ours = list(csv.reader(io.StringIO(answer, newline="")))
    rows, names = rows_of(result)
    is_table = isinstance(result, (pd.Series, pd.DataFrame))
    if is_table:
        header, ours = ours[0], ours[1:]
        # pandas 1.5 loses columns of groupby(as_index=False): of no rows, and the least of texts some of which are missing.
        if names is not None and set(header) > {str(n) for n in names}:
            return None
        if names is not None and header != [str(n) for n in names]:
            return f"columns {header} instead of {names}"
    if len(rows) != len(ours):
        return f"{len(ours)} rows instead of {len(rows)}"
    for number, (a, b) in enumerate(zip(ours, rows)):
        if len(a) != len(b) and not (a == [] and b == [""]):
            return f"row {number}: {a} instead of {b}"
        for x, y in zip(a, b):
            if not same(x, y, 1e4):
                return f"row {number}: {a} instead of {b}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    failures = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        scripts, expected = [], []
        for case in range(args.cases):
            rng = random.Random(args.seed * 1000003 + case)
            script = Script(rng, Data(rng, folder, case)).text()
            try:
                expected.append((run_pandas(script), None))
            except Exception as error:  # what pandas refuses, Dray may refuse or answer
                expected.append((None, error))
            scripts.append(script)
        done = subprocess.run([args.program, "csv"], input="".join(s + "----\n" for s in scripts), capture_output=True, text=True)
        answers = done.stdout.split("----\n")
        if done.returncode != 0 or len(answers) != len(scripts) + 1:
            print(f"the program ended with {done.returncode} after {len(answers) - 1} of {len(scripts)} scripts\n{done.stderr[-4000:]}")
            print("next script:\n" + scripts[min(len(answers) - 1, len(scripts) - 1)])
            sys.exit(1)
        for case, (script, answer, (result, error)) in enumerate(zip(scripts, answers, expected)):
            if error is not None:
                refused += 1
                continue
            head, _, body = answer.partition("\n")
            why = compare(body, result) if head.startswith("ok") else "refused: " + body
            if why is not None:
                failures += 1
                if failures <= 8 or args.show:
                    print(f"--- case {case} of seed {args.seed}: {why}\n{script}pandas:\n{result}\nDray:\n{body}")
    print(f"{args.cases} scripts, {refused} that pandas refuses, {failures} that differ")
    sys.exit(1 if failures else 0)


main()
