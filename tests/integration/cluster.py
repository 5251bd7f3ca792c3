"""Brokers and workers as processes, for the tests of this folder."""
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import dray

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("DRAY_BIN", ROOT / "build/release/bin"))
BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", BIN.parent))
SANITIZED = bool(os.environ.get("DRAY_SANITIZE"))
SLOW = 5 if SANITIZED else 1  # sanitizers make everything slower

# What AddressSanitizer keeps aside after a free would look like a leak.
os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=1")


def memory_available():
    return int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) << 10


class Process:
    """A child whose standard error is read as it comes."""

    def __init__(self, *argv, **kwargs):
        self.argv = [str(a) for a in argv]
        self.child = subprocess.Popen(self.argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stdin=subprocess.DEVNULL, **kwargs)
        self.pid = self.child.pid
        self.text = ""
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in iter(self.child.stderr.readline, b""):
            with self.changed:
                self.text += line.decode("utf-8", "replace")
                self.changed.notify_all()

    def wait_text(self, pattern, timeout=10, count=1):
        """Waits until standard error has `count` matches."""
        timeout = max(timeout, dray.PATIENCE) * SLOW
        deadline = time.monotonic() + timeout
        with self.changed:
            while len(re.findall(pattern, self.text)) < count:
                left = deadline - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    raise AssertionError(f"no {pattern!r} on standard error of {self.argv[0]} within {timeout} s:\n"
                                         f"{self.text}")

    def wait_exit(self, timeout=10):
        try:
            code = self.child.wait(max(timeout, dray.PATIENCE) * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv} does not end:\n{self.text}") from None
        self.reader.join(5)
        return code

    def signal(self, number):
        self.child.send_signal(number)

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def processor_seconds(self):
        """All that its threads have taken so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.reader.join(5)
        self.child.stdout.close()
        self.child.stderr.close()


class ClusterTest(unittest.TestCase):
    """Each test has a folder and processes of its own, which end with it."""

    def setUp(self):
        self.processes = []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dray-test-", dir="/tmp"))

    def tearDown(self):
        for process in self.processes:
            process.kill()
        result = getattr(self, "_outcome", None)
        errors = getattr(getattr(result, "result", None), "failures", []) if result else []
        if any(test is self for test, _ in errors):
            for process in self.processes:
                print(f"---- {process.argv}\n{process.text}", file=sys.stderr)
        for process in self.processes:
            self.assertNotIn("Sanitizer", process.text)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *argv, **kwargs):
        process = Process(*argv, **kwargs)
        self.processes.append(process)
        return process

    @staticmethod
    def tcp_endpoint():
        """For brokers that come again: a port that nobody else gets in between, as those might that the system gives away."""
        lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        while True:
            port = random.randrange(min(10000, lowest // 2), lowest)
            with socket.socket() as tried, contextlib.suppress(OSError):
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(("127.0.0.1", port))
                return f"tcp://127.0.0.1:{port}"

    broker_options = ()  # of every broker of a class of tests

    def broker(self, *options, listen=None):
        """Started and listening; its endpoint is in .endpoint."""
        reading, writing = os.pipe()
        listen = listen or f"ipc://{self.folder}/b"
        options = *self.broker_options, *options
        process = self.start(BIN / "dray-broker", "--listen", listen, "--ready-fd", writing,
                             *dray.broker_timeouts(options, SLOW), *options, pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as pipe:
            process.endpoint = pipe.readline().strip()
        self.assertTrue(process.endpoint, process.text)
        return process

    def worker(self, endpoint, *options, connected=True):
        process = self.start(BIN / "dray-worker", endpoint, "--threads", "1", "--memory", "256M", *options)
        if connected:
            process.wait_text("connected to the broker")
        return process

    def stop(self, process, number=signal.SIGTERM, code=0):
        process.signal(number)
        self.assertEqual(process.wait_exit(), code, process.text)

    def assert_grown_less(self, process, before, bytes_):
        """Its resident memory; a sanitizer's own is not counted."""
        if not SANITIZED:
            self.assertLess(process.rss() - before, bytes_)

    def assert_no_files(self):
        """No local sockets are left behind."""
        self.assertEqual([str(p) for p in self.folder.iterdir() if p.is_socket()], [])
