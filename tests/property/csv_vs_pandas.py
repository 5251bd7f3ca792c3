#!/usr/bin/python3
"""Random CSV files as they are in the wild, read by Dray's scanner in blocks of any size and by pandas; the cells are compared.

usage: csv_vs_pandas.py QUERY_CASES [--seed N] [--cases N]
"""
import argparse
import csv
import io
import os
import random
import subprocess
import sys
import tempfile
import warnings

try:
    import pandas as pd
except ImportError:
    print("skipped: pandas is not installed (apt-get install python3-pandas)")
    sys.exit(77)

warnings.simplefilter("ignore")
# Left out, where pandas 1.5 is odd: integers beyond 64 bits (text when they come first), denormal numbers (they make
# a column text), "None" (missing since pandas 2).
MISSING = ["", "NA", "NaN", "nan", "null", "N/A", "n/a", "#N/A", "-nan", "<NA>", "NULL"]
TEXTS = ["Books", "a", "x y", "it's", "Übergröße", "日本", "0x1", "1 2", "--", "e5", "+", "1.2.3", "tail "]
QUOTED = ["b,c", 'say "hi"', "two\nlines", "cr\r\nlf", '"', "", "a;b|c", ","]


def cell(rng, kind):
    """The text of one cell, quoted where it must be, now and then where it need not."""
    if rng.random() < 0.04 and kind not in ("int", "bool"):
        return rng.choice(MISSING)
    if kind == "int":
        text = rng.choice([str(rng.randrange(-9, 10)), str(rng.randrange(-(2**63), 2**63)), "+7", "007"])
    elif kind == "float":
        text = rng.choice([repr(rng.uniform(-1e3, 1e3)), f"{rng.uniform(-10, 10):.3f}", repr(rng.random() * 10.0 ** rng.randrange(-30, 30)),
                           str(rng.randrange(100)), ".5", "5.", "-0.0", "1e-300", "1E5", "inf", "-inf"])
    elif kind == "bool":
        text = rng.choice(["True", "False", "true", "FALSE"])
    else:
        text = rng.choice(TEXTS) if rng.random() < 0.7 else None
        if text is None:
            return '"' + rng.choice(QUOTED).replace('"', '""') + '"'
    return f'"{text}"' if rng.random() < 0.05 else text


def make(rng, path):
    """Writes a file; gives the arguments that read it."""
    columns = rng.randrange(1, 6)
    kinds = [rng.choice(["int", "float", "bool", "text"]) for _ in range(columns)]
    late = rng.randrange(columns) if rng.random() < 0.3 else None
    rows = rng.choice([0, 1, 3, 20, 120])
    end = rng.choice(["\n", "\n", "\r\n", "\r"])
    args = {}
    lines = []
    if rng.random() < 0.2:
        args["skiprows"] = rng.randrange(1, 4)
        lines += ["leading words"] * args["skiprows"]
    names = [f"c{i}" for i in range(columns)]
    if rng.random() < 0.2:
        args["header"] = None
        args["names"] = names
        rows = max(rows, 1)
    else:
        lines.append(",".join(names))
    if rng.random() < 0.2:
        args["comment"] = "#"
    for row in range(rows):
        row_kinds = list(kinds)
        if late is not None and row > rows * 2 // 3:
            row_kinds[late] = rng.choice(["float", "text"])
        line = ",".join(cell(rng, kind) for kind in row_kinds)
        if "comment" in args:
            line = line.replace("#", "")
        if columns == 1 and line.strip() == "":
            line = "x"
        lines.append(line)
        if rng.random() < 0.05:
            lines.append("")
        if "comment" in args and rng.random() < 0.1:
            lines.append("# a remark, with \"one quote")
    text = end.join(lines) + (end if rng.random() < 0.8 else "")
    if rng.random() < 0.2 and not args:
        text = "\ufeff" + text
    if rng.random() < 0.2:
        args["usecols"] = sorted(rng.sample(names, rng.randrange(1, columns + 1)))
    with open(path, "w", newline="", encoding="utf-8") as f:
        f.write(text)
    return args


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def same(mine, theirs):
    if mine == theirs:
        return True
    try:
        return float(mine) == float(theirs) and ("." in mine or "e" in mine or "inf" in mine) == ("." in theirs or "e" in theirs or "inf" in theirs)
    except ValueError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("query_cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=400)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    compared = refused = 0
    process = subprocess.Popen([options.query_cases, "csv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "wild.csv")
        for case in range(options.cases):
            args = make(rng, path)
            try:
                frame = pd.read_csv(path, float_precision="round_trip", **args)
            except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError):
                frame = None
            for block in {rng.choice([1, 2, 7]), rng.randrange(1, 400), 1 << 20}:
                words = "".join(f", {k}={v!r}" for k, v in args.items())
                script = f"read_csv({path!r}{words}, blocksize={block})"
                process.stdin.write(f"{script}\n----\n".encode())
                process.stdin.flush()
                answer = b""
                while not answer.endswith(b"\n----\n"):
                    line = process.stdout.readline()
                    if not line:
                        sys.exit(f"case {case} of seed {options.seed}: the program died at {script}")
                    answer += line
                head, _, body = answer[: -len(b"----\n")].decode("utf-8", "replace").partition("\n")
                if frame is None:
                    if head == "error":
                        refused += 1
                        continue
                    sys.exit(f"case {case} of seed {options.seed}: pandas refuses, Dray reads\n{script}\n{open(path, 'rb').read()!r}")
                mine = rows_of(body) if head.startswith("ok") else None
                theirs = rows_of(frame.to_csv(index=False))
                if mine is None or len(mine) != len(theirs) or any(
                        len(a) != len(b) or not all(map(same, a, b)) for a, b in zip(mine, theirs)):
                    sys.exit(f"case {case} of seed {options.seed}:\n{script}\n{open(path, 'rb').read()!r}\nDray: {mine if mine is not None else body}\n"
                             f"pandas: {theirs}\n{frame.dtypes}")
                compared += 1
    process.stdin.close()
    process.wait()
    print(f"{compared} readings as pandas, {refused} refused by both")
    sys.exit(0 if compared > options.cases else 1)


if __name__ == "__main__":
    main()
