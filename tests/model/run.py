#!/usr/bin/python3
"""Checks the model of sessions and recovery with spin: each small mixture of faults in full, and that each rule is needed.

run.py            what ctest runs: seconds
run.py --all      larger mixtures: minutes, and some GB of memory
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = pathlib.Path(__file__).resolve().with_name("recovery.pml")
SMALL = [
    "one broker death, one client death", "-DWORKERS=1 -DWORKER_DEATHS=0 -DCUTS=0",
    "one cut, one client death", "-DWORKERS=1 -DWORKER_DEATHS=0 -DBROKER_DEATHS=0",
    "one worker death", "-DWORKERS=2 -DCLIENT_DEATHS=0 -DBROKER_DEATHS=0 -DCUTS=0",
]
LARGE = [
    "one broker death, one cut", "-DWORKERS=1 -DWORKER_DEATHS=0 -DCLIENT_DEATHS=0",
    "one broker death, one client death, one cut", "-DWORKERS=1 -DWORKER_DEATHS=0",
    "one broker death, one client death, two workers", "-DWORKER_DEATHS=0 -DCUTS=0",
    "one broker death, one cut, two workers", "-DWORKER_DEATHS=0 -DCLIENT_DEATHS=0",
]
BROKEN = [
    "a job that runs before its submit is durable", "-DWORKERS=1 -DWORKER_DEATHS=0 -DCUTS=0 -DEAGER",
    "an acknowledgement before the submit is durable", "-DWORKERS=1 -DWORKER_DEATHS=0 -DCUTS=0 -DFORGET",
]


def check(folder, defines):
    """(errors, states) of the full search."""
    subprocess.run(["spin", "-a", *defines, str(MODEL)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["gcc", "-O2", "-w", "-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE", "-DMEMLIM=8000", "-o", "pan", "pan.c"],
                   cwd=folder, check=True)
    out = subprocess.run(["./pan", "-m1000000"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "max search depth too small" in out or "out of memory" in out:
        sys.exit(f"the search did not come to its end:\n{out}")
    error = re.search(r"pan:\d+: .*", out)
    if error:
        print(error.group(0))
    return int(re.search(r"errors: (\d+)", out).group(1)), int(re.search(r"(\d+) states, stored", out).group(1))


def pairs(values):
    return zip(values[::2], values[1::2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="larger mixtures too")
    arguments = parser.parse_args()
    if shutil.which("spin") is None:
        print("skipped: spin is not installed")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for faults, defines in pairs(SMALL + (LARGE if arguments.all else [])):
            errors, states = check(folder, defines.split())
            print(f"{faults}: {states} states, {errors} errors", flush=True)
            failed += errors
        for rule, defines in pairs(BROKEN):
            errors, _ = check(folder, defines.split())
            print(f"{rule}: {'found' if errors else 'NOT FOUND'}", flush=True)
            failed += errors == 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
