#!/usr/bin/python3
"""Habits that are checked so that nobody has to remember them.

- one-way dependencies: proto <- broker, worker, client; core does no I/O
- root-relative includes, the own header first
- banned calls
- every module (X.c with X.h) is named in some test
- no file grows past what one sitting can read
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAY_INCLUDE = {
    "proto": {"proto"},
    "broker": {"proto", "broker"},
    "worker": {"proto", "worker"},
    "client": {"proto", "client"},
    "bench": {"proto", "client", "worker", "bench", "broker/core"},
    "tests": {"proto", "broker", "worker", "client", "bench", "tests"},
}
# core means no I/O, no clock, no threads.
CORE_BANNED_HEADERS = {
    "zmq.h", "czmq.h", "pthread.h", "unistd.h", "fcntl.h", "poll.h", "time.h", "sys/socket.h", "sys/time.h", "sys/epoll.h",
    "stdatomic.h", "proto/socket.h", "proto/loop.h",
}
ZMQ_ONLY_IN = {"proto/socket.c", "proto/monitor.c", "proto/loop.c"}
BANNED_CALLS = {
    "strcpy": "use memcpy or snprintf", "strcat": "use snprintf", "sprintf": "use snprintf", "vsprintf": "use vsnprintf",
    "gets": "use fgets", "strtok": "use strcspn", "alloca": "use an arena", "atoi": "use strtol with a check",
    "atof": "use number_parse_float64", "tmpnam": "use mkstemp", "system": "use posix_spawn", "fork": "use posix_spawn",
    "rand": "use a seeded generator of your own", "srand": "use a seeded generator of your own",
    "usleep": "wait for the event", "signal": "use sigaction",
}
LIBRARY_BANNED = {"exit": "library code returns an error", "abort": "library code returns an error",
                  "printf": "library code never prints", "perror": "library code never prints"}
# A banned call with a reason to be where it is.
ALLOWED = {("client/cli/reaper.c", "fork")}  # goes on in this program's code, before any thread or large memory
LINES_MAX = 1000
problems = []


def complain(path, line, text):
    problems.append(f"{path}:{line}: {text}")


def code_of(text):
    """The text without comments and strings, line numbers kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def check_includes(path, text):
    top = path.parts[0]
    in_core = len(path.parts) > 2 and path.parts[1] == "core"
    first = True
    own = str(path.with_suffix(".h"))
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if not match:
            continue
        name = match.group(2)
        if match.group(1) == '"':
            if name.startswith("."):
                complain(path, number, f"include '{name}' from the root of the tree")
            folder = name.split("/")[0]
            if "/" in name and folder in MAY_INCLUDE and not {folder, "/".join(name.split("/")[:2])} & MAY_INCLUDE[top]:
                complain(path, number, f"{top}/ must not include {folder}/ ({name})")
        if in_core and name in CORE_BANNED_HEADERS:
            complain(path, number, f"core does no I/O: {name}")
        if in_core and path.parts[0] == "broker" and name.startswith("broker/") and not name.startswith("broker/core/"):
            complain(path, number, f"core includes the shell: {name}")
        if name in ("zmq.h", "czmq.h") and top != "tests" and str(path) not in ZMQ_ONLY_IN:
            complain(path, number, f"{name} is hidden behind proto/socket.h")
        if first and path.suffix == ".c" and (ROOT / own).exists() and name != own:
            complain(path, number, f"the own header {own} comes first")
        first = False


def check_calls(path, text):
    top = path.parts[0]
    library = top in ("proto", "client") and not {"cli", "examples"} & set(path.parts)
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for name, why in BANNED_CALLS.items():
            if re.search(rf"(?<![\w.>]){name}\s*\(", line) and (str(path), name) not in ALLOWED:
                complain(path, number, f"{name}() is banned: {why}")
        if library:
            for name, why in LIBRARY_BANNED.items():
                if re.search(rf"(?<![\w.>]){name}\s*\(", line):
                    complain(path, number, f"{name}() is banned here: {why}")


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\n")
    files = sorted(pathlib.Path(f) for f in files if f and (ROOT / f).exists())
    tests = "\n".join((ROOT / f).read_text(errors="replace") for f in files if f.parts[0] == "tests")
    programs = " ".join(f.stem for f in files if f.parts[0] == "tests")
    for path in files:
        text = (ROOT / path).read_text(errors="replace")
        check_includes(path, text)
        check_calls(path, text)
        lines = text.count("\n")
        if lines > LINES_MAX and "table" not in path.stem:
            complain(path, lines, f"{lines} lines: it holds two concepts, part them (at most {LINES_MAX})")
        if path.suffix == ".c" and path.parts[0] in ("proto", "broker", "worker", "client"):
            header = path.with_suffix(".h")
            # test_csv_scan.c stands for the parts csv_*.c that it drives.
            family = f"test_{path.stem.split('_')[0]}"
            if header in files and str(header) not in tests and path.stem not in tests and family not in programs:
                complain(path, 1, "no test includes or names this module")
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
