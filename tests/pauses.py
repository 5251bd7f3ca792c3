#!/usr/bin/python3
"""Runs a command while the machine pauses: now and then all that it has started, or one process of it, is frozen.

    tests/pauses.py --longest 0.9 ctest --preset release -j2 -L 'unit|integration' -LE 'fault|bench|long'

A test that fails only with pauses takes an order of events for granted that nothing enforces, or is about a moment that a
machine which others use as well does not keep (the timeouts of --heartbeat and --worker-timeout are such moments: a pause
that is longer than these is a loss).  The pauses do not depend on the processes' own signals: a control group is frozen.
Needs root and version 2 of these (a mount of cgroup2).
"""
import argparse
import os
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "integration"))
import processes  # noqa: E402


def mounted():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(folder)
    sys.exit("tests/pauses.py: no cgroup2 is mounted here")


class Freezer:
    def __init__(self):
        self.mount = mounted()
        self.group = self.mount / f"dray-pauses-{os.getpid()}"
        self.group.mkdir()
        self.homes = {}

    @staticmethod
    def _write(path, text):
        try:
            path.write_text(text)
        except OSError:
            pass  # the process has ended

    def pause(self, chosen, seconds):
        for process in chosen:
            try:
                groups = pathlib.Path(f"/proc/{process}/cgroup").read_text().splitlines()
            except OSError:
                continue
            home = next(line[3:] for line in groups if line.startswith("0::"))
            self.homes[process] = self.mount / home.lstrip("/") / "cgroup.procs"
            self._write(self.group / "cgroup.procs", str(process))
        self._write(self.group / "cgroup.freeze", "1")
        try:
            time.sleep(seconds)
        finally:
            self._write(self.group / "cgroup.freeze", "0")
            home = next(iter(self.homes.values()), None)  # of those that were started meanwhile, too
            for process in (self.group / "cgroup.procs").read_text().split():
                self._write(self.homes.get(int(process), home), process)
            self.homes.clear()

    def close(self):
        for _ in range(100):
            try:
                self.group.rmdir()
                return
            except OSError:
                time.sleep(0.05)  # one that is ending


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=float, default=0.9, help="seconds of a pause (0.9)")
    parser.add_argument("--between", type=float, default=0.3, help="seconds from one to the next, at most (0.3)")
    parser.add_argument("--all", type=float, default=0.1, help="so many of them are pauses of everything (0.1)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the choices")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("a command is missing")
    dice, pauses, freezer = random.Random(options.seed), 0, Freezer()
    command = subprocess.Popen(options.command)
    try:
        while command.poll() is None:
            time.sleep(dice.uniform(0.02, options.between))
            started = list(processes.below(command.pid))
            if started:
                chosen = started if dice.random() < options.all else [dice.choice(started)]
                freezer.pause(chosen, dice.uniform(0.02, options.longest))
                pauses += 1
    except KeyboardInterrupt:
        command.wait()
    finally:
        freezer.close()
    print(f"{pauses} pauses (seed {options.seed})", file=sys.stderr)
    sys.exit(command.returncode if command.returncode >= 0 else 128 - command.returncode)


if __name__ == "__main__":
    main()
