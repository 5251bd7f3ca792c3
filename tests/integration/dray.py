"""Real processes for the integration tests: a broker, workers, the client."""
import faulthandler
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import processes

BIN = os.environ.get("DRAY_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/release/bin")
DRAY = os.path.join(BIN, "dray")
# Sanitizers make everything slower; limits of time are multiplied by this.
SLOW = 8 if os.environ.get("DRAY_SANITIZE") else 1
PATIENCE = 20  # s, at least, for what has to come: a machine that others use as well pauses for seconds
# A test that hangs says where, before it is ended from outside.
faulthandler.dump_traceback_later(480, exit=True)
# Who runs tests in the background may have it ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**more):
    env = {k: v for k, v in os.environ.items() if k != "DRAY_BROKER"}
    env["LC_ALL"] = "C.UTF-8"
    env.update(more)
    return env


def start(*args, **options):
    """The client, in the background, with its output in pipes."""
    options.setdefault("env", environment())
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([DRAY, *args], **options)


def run(*args, timeout=60, **options):
    """The client, to its end."""
    options.setdefault("env", environment())
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if "input" in options:
        del options["stdin"]
    return subprocess.run([DRAY, *args], capture_output=True, timeout=timeout * SLOW, **options)


def wait_for(condition, seconds, what):
    seconds = max(seconds, PATIENCE) * SLOW
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end
        value = condition()
        if value:
            return value
        if late:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def once_within(seconds, attempt, tries=5):
    """attempt() does it and returns how long that took: short enough at least once, whatever else the machine does."""
    took = []
    while not took or took[-1] >= seconds * SLOW:
        if len(took) == tries:
            raise AssertionError(f"not once within {seconds * SLOW} s: {took}")
        took.append(attempt())


def children(pid):
    """(pid, name) of the live processes whose parent is pid."""
    return [(child, name) for child, (name, parent, state) in processes.table().items() if parent == pid and state != "Z"]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid):
    """What runs as pid, and in which state, for a message."""
    try:
        with open(f"/proc/{pid}/cmdline") as f, open(f"/proc/{pid}/stat") as g:
            return f"{pid} {f.read()!r} {g.read()}"
    except OSError as e:
        return f"{pid} {e}"


def broker_timeouts(options, slow):
    """Long ones, unless a test has its own: who pauses with the machine, or is a test that does something else, is not lost."""
    if "--timeout" in options:
        return ()
    return "--timeout", str(60 * slow), *(() if "--worker-timeout" in options else ("--worker-timeout", str(30 * slow)))


class Cluster:
    """A broker and workers that a test starts, hurts and stops."""

    def __init__(self, workers=2, threads=1, memory="256M", worker_options=(), broker_options=()):
        self.directory = tempfile.mkdtemp(prefix="dray-it-")
        self.endpoint = f"ipc://{self.directory}/broker"
        self.log = open(os.path.join(self.directory, "log"), "w+")
        self.threads, self.memory, self.worker_options = threads, memory, list(worker_options)
        self.workers = []
        read, write = os.pipe()
        self.broker = subprocess.Popen(
            [os.path.join(BIN, "dray-broker"), "--listen", self.endpoint, "--ready-fd", str(write),
             *broker_timeouts(broker_options, SLOW), *broker_options],
            pass_fds=[write], stderr=self.log, stdin=subprocess.DEVNULL)
        os.close(write)
        os.read(read, 1000)
        os.close(read)
        for _ in range(workers):
            self.add_worker()
        if workers:
            self.await_workers(workers)

    def add_worker(self, *options):
        worker = subprocess.Popen(
            [os.path.join(BIN, "dray-worker"), self.endpoint, "--threads", str(self.threads), "--memory",
             self.memory, *self.worker_options, *options], stderr=self.log, stdin=subprocess.DEVNULL)
        self.workers.append(worker)
        return worker

    def await_workers(self, count):
        def there():
            out = run("workers", "--broker", self.endpoint).stdout.decode()
            return re.search(rf"^{count} worker", out, re.M)
        wait_for(there, 10, f"{count} workers")

    def await_jobs(self, count):
        wait_for(lambda: len(json.loads(self.ask("jobs"))) >= count, 20, f"{count} jobs")

    def ask(self, what):
        return run(what, "-f", "json", "--broker", self.endpoint).stdout

    def run(self, *args, **options):
        return run("run", "--broker", self.endpoint, *args, **options)

    def start(self, *args, **options):
        return start("run", "--broker", self.endpoint, *args, **options)

    def text_of_log(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def close(self):
        for process in [*self.workers, self.broker]:
            if self.broker.poll() is not None:
                process.kill()  # a worker would wait for another broker, to hand over what it has
            elif process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in [*self.workers, self.broker]:
            try:
                process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def write_sales(path, rows, seed=1):
    """A small cousin of dray-bench gen-sales; the rows as well."""
    rng = random.Random(seed)
    categories = ["Electronics", "Clothing", "Groceries", "Home Goods", "Toys", "Books"]
    data = [(rng.choice(categories), rng.uniform(10, 1000), rng.randint(1, 4)) for _ in range(rows)]
    with open(path, "w") as f:
        f.write("category,price,quantity\n")
        f.writelines(f"{c},{p!r},{q}\n" for c, p, q in data)
    return data


class TestCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="dray-it-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def ok(self, done):
        """Standard output of a client that shall have gone well."""
        self.assertEqual((done.returncode, done.stderr.decode()), (0, ""))
        return done.stdout.decode()

    def fails(self, done, status, *words):
        """Standard error of a client that shall have failed, with these words in it."""
        text = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, text)
        self.assertEqual(done.stdout, b"")
        self.assertTrue(text.startswith("dray"), text)
        for word in words:
            self.assertIn(word, text)
        return text
