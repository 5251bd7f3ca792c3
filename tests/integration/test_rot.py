"""Bytes that turn over in a worker's memory, or on the way from one to another: never an answer, always made again."""
import hashlib
import json
import os
import select
import socket
import threading
import unittest

from dray import Cluster, TestCase, environment, run, wait_for

MB = 1 << 20
MARK = 4096  # where a piece of it begins by which it is found


def turn_over(pid, mark):
    """Turns a bit over behind each place in the process's memory that has `mark`; how many there were."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            where, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            begin, end = (int(x, 16) for x in where.split("-"))
            if end - begin > 1 << 28:
                continue  # a sanitizer's shadow
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except OSError:
                continue
            at = data.find(mark)
            while at >= 0:
                place = begin + at + len(mark) - 1
                memory.seek(place)
                memory.write(bytes([mark[-1] ^ 1]))
                found += 1
                at = data.find(mark, at + 1)
    return found


class Proxy:
    """Between a worker's exchange and who connects to it: turns one bit over, in the middle of the first bulk."""

    def __init__(self, path):
        self.real = path + ".real"
        os.rename(path, self.real)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.turned = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.real)
            threading.Thread(target=self.carry, args=(near, far), daemon=True).start()

    def carry(self, near, far):
        while True:
            for one in select.select([near, far], [], [])[0]:
                data = bytearray(one.recv(1 << 16))
                if not data:
                    near.close()
                    far.close()
                    return
                if one is far and len(data) > 30000 and not self.turned:
                    self.turned += 1
                    data[20000] ^= 1
                (near if one is far else far).sendall(data)


class Rot(TestCase):
    def begin(self, workers=1, **options):
        self.cluster = Cluster(workers=workers, threads=2, **options)
        self.addCleanup(self.cluster.close)
        self.env = environment(DRAY_BROKER=self.cluster.endpoint)
        self.bytes = os.urandom(3 * MB)
        self.file = self.path("file")
        with open(self.file, "wb") as f:
            f.write(self.bytes)

    def dray(self, *args, **options):
        return run(*args, env=self.env, **options)

    def submit(self, text):
        return self.ok(self.dray("submit", "--detach", "-", input=text.encode())).strip()

    def layer(self, job, name, state):
        layers = json.loads(self.ok(self.dray("job", job, "-f", "json")))["layers"]
        return [x[state] for x in layers if x["task"] == name][0]

    def log(self):
        with open(self.cluster.log.name) as f:
            return f.read()

    def damaged(self):
        return sum(x["damaged"] for x in json.loads(self.ok(self.dray("workers", "-f", "json")))["workers"])

    def rot(self, size):
        self.assertGreater(turn_over(self.cluster.workers[0].pid, self.bytes[MARK:MARK + size]), 0)

    def check_found(self, text):
        wait_for(lambda: self.damaged() == 1, 5, lambda: self.log())
        self.assertEqual(self.log().count(text), 1)

    def test_input_of_a_task(self):
        self.begin()
        go = self.path("go")
        job = self.submit(f"tasks: {{big: {{shell: 'echo >> {go}.runs; cat {self.file}'}}, "
                          f"nap: {{shell: 'while [ ! -e {go} ]; do sleep 0.02; done'}}, "
                          "sum: {shell: md5sum, inputs: {task: big, stdin: true}, after: nap}}")
        wait_for(lambda: self.layer(job, "big", "held") == 1, 10, "the partition")
        self.rot(64)
        threading.Event().wait(0.2)  # what was put so lately is trusted
        open(go, "w").close()
        self.dray("wait", "-q", job)
        self.assertEqual(self.ok(self.dray("result", job)).split()[0], hashlib.md5(self.bytes).hexdigest())
        self.check_found("was damaged in memory")
        with open(go + ".runs") as f:
            self.assertEqual(f.read(), "\n\n")

    def test_result(self):
        """Of a job that was done long ago; its worker does not give it away."""
        self.begin()
        for size in (3 * MB, 100000, 5000):
            with open(self.file, "wb") as f:
                f.write(self.bytes[:size])
            job = self.submit(f"tasks: {{big: {{shell: 'cat {self.file}'}}}}")
            self.dray("wait", "-q", job)
            self.rot(64)
            before = self.damaged()
            self.assertEqual(self.dray("result", job).stdout, self.bytes[:size])
            self.assertIn(f"job {job} ", self.log())
            wait_for(lambda: self.damaged() == before + 1, 5, self.log)
            self.ok(self.dray("cancel", job))

    def test_on_the_way(self):
        """From one worker to another."""
        self.begin(workers=0)
        exchange = self.path("exchange")
        self.cluster.add_worker("--name", "one", "--listen", "ipc://" + exchange)
        self.cluster.add_worker("--name", "two")
        self.cluster.await_workers(2)
        proxy = Proxy(exchange)
        job = self.submit(f"tasks: {{big: {{shell: 'cat {self.file}', workers: [one]}}, "
                          "sum: {shell: md5sum, inputs: {task: big, stdin: true}, workers: [two]}}")
        self.dray("wait", "-q", job)
        self.assertEqual(self.ok(self.dray("result", job)).split()[0], hashlib.md5(self.bytes).hexdigest())
        self.assertEqual(proxy.turned, 1)
        self.check_found("came damaged from worker")


if __name__ == "__main__":
    unittest.main(verbosity=2)
