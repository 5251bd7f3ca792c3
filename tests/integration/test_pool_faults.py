#!/usr/bin/python3
"""What pools must stand: bad graphs, clients that die, foreign code that falls, results as large as memory, a million
failures, one key twice.  Each has one clear outcome, the cluster goes on, and the broker's memory returns."""
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

import cluster
import wire

MB = 1 << 20
COUNT = wire.op(dict(count={}))
BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", cluster.BIN.parent))
CLIENT = BUILD / "tests/bin/pool_client"
HOSTILE = BUILD / "tests/hostile_plugin.so"
STATE = wire.SCHEMA.enums["JobState"]


def call(function, plugin="hostile"):
    return wire.op(dict(call=dict(plugin=plugin, function=function)))


def shell(text):
    return wire.op(dict(command=dict(argv=[b"/bin/sh", b"-c", text.encode()])))


class PoolFaults(cluster.ClusterTest):
    broker_options = ("--orphan-grace", "0")  # who goes is gone

    def setUp(self):
        super().setUp()
        self.hub = self.broker()

    def peer(self, **fields):
        return wire.Peer(self.hub.endpoint, **fields)

    def rejected(self, layers, *texts, code=74):
        kind, message = self.peer().submit(layers)
        self.assertEqual((kind, message["why"]["code"]), ("REJECTED", code), message)
        for text in texts:
            self.assertIn(text, message["why"]["text"])

    def run_job(self, layers, timeout=60, peer=None, **fields):
        """({(layer, index): value or what went wrong}, JOB_ENDED)"""
        client = peer or self.peer()
        kind, accepted = client.submit(layers, **fields)
        self.assertEqual(kind, "ACCEPTED", accepted)
        results = {}
        while True:
            kind, message, payload = client.hear_kind("RESULT", "JOB_ENDED", timeout=timeout)
            if kind == "JOB_ENDED":
                client.say("FREE", job=accepted["job"])
                if peer is None:
                    client.close()
                return results, message
            key = message["layer"], message["index"]
            self.assertNotIn(key, results)
            results[key] = message["why"]["text"] if "why" in message else wire.unwrap_payload(payload[0])[16:]

    def check_works(self, tasks=100):
        results, ended = self.run_job([dict(tasks=tasks, op=COUNT, wanted=True)])
        self.assertEqual((ended["state"], len(results)), (STATE["DONE"], tasks))

    def wait_rss(self, most, seconds=20):
        deadline = time.monotonic() + seconds * cluster.SLOW
        while not cluster.SANITIZED and self.hub.rss() > most:
            self.assertLess(time.monotonic(), deadline, f"{self.hub.rss()} bytes, not {most}")
            time.sleep(0.05)

    def jobs(self):
        peer = self.peer()
        peer.say("CLUSTER_QUERY", tag=1)
        return peer.hear_kind("CLUSTER")[1]["jobs"]

    # ---- graphs

    def test_cycles(self):
        one = dict(tasks=4, op=COUNT, wanted=True, name="one")
        for pattern in ("ALL", "ONE_TO_ONE", "FAN_IN", "WINDOW"):  # of itself, and of one that comes later
            self.rejected([dict(one, input=[dict(layer=0, pattern=pattern, width=2)])], "layer 0")
            self.rejected([dict(one, input=[dict(layer=1, pattern=pattern, width=2)]), dict(one)], "layer 0")
        # 0 <- 1 <- 2 <- 0, task by task.
        self.rejected([dict(tasks=3, op=COUNT, wanted=True, input=[dict(
            layer=0, pattern="EXPLICIT", offset=[0, 1, 2, 3], target=[2, 0, 1])])], "layer 0", "task 0")
        self.rejected([dict(one, input=[dict(layer=0, pattern="EXPLICIT", offset=[0, 0, 1, 1, 1], target=[1])])], "task 1")
        self.assertEqual(self.jobs(), 0)

    def test_dangling_dependencies(self):
        one = dict(tasks=4, op=COUNT, wanted=True)
        two = [dict(tasks=3, op=COUNT), dict(one)]
        self.rejected([two[0], dict(one, input=[dict(layer=7, pattern="ALL")])], "layer 1")
        self.rejected([two[0], dict(one, input=[dict(layer=0, pattern="ONE_TO_ONE")])], "layer 1")
        self.rejected([two[0], dict(one, input=[dict(layer=0, pattern="EXPLICIT", offset=[0, 1, 2, 3, 4],
                                                     target=[0, 1, 2, 3])])], "layer 1", "task 3")
        self.rejected([two[0], dict(one, input=[dict(layer=0, pattern="EXPLICIT", offset=[0, 1, 0, 3, 3],
                                                     target=[0, 1, 2])])], "layer 1")
        kind, message = self.peer().submit([dict(one, input=[dict(job=99, layer=0, pattern="ALL", job_tasks=3)])])
        self.assertEqual(kind, "REJECTED", message)
        self.assertIn("job 99", message["why"]["text"])
        self.assertEqual(self.jobs(), 0)

    def test_dangling_when_a_job_grows(self):
        self.worker(self.hub.endpoint)
        client = self.peer()
        kind, accepted = client.submit([dict(tasks=2, op=COUNT, wanted=True)], open=True)
        self.assertEqual(kind, "ACCEPTED")
        graph = wire.SCHEMA.encode("Graph", {"layer": [dict(tasks=2, op=COUNT, wanted=True, input=[
            dict(layer=5, pattern="ALL")])]})
        client.say("EXTEND", job=accepted["job"], first_layer=1, graph=graph)
        why = []
        while True:
            kind, message, _ = client.hear_kind("RESULT", "REJECTED", "JOB_ENDED")
            if kind != "RESULT":
                why.append(kind)
                self.assertIn("layer 1", message["why"]["text"])
            if kind == "JOB_ENDED":
                break
        self.assertEqual(why, ["REJECTED", "JOB_ENDED"])
        self.check_works()

    def test_layers_are_safe_when_it_is_said(self):
        self.worker(self.hub.endpoint)
        client = self.peer()
        kind, accepted = client.submit([], open=True)
        self.assertEqual(kind, "ACCEPTED")
        layer = wire.SCHEMA.encode("Graph", {"layer": [dict(tasks=2, op=COUNT, wanted=True)]})
        for first, layers in (0, 1), (1, 2), (0, 2):  # the last one is a repetition
            client.say("EXTEND", job=accepted["job"], first_layer=first, graph=layer)
            while True:
                kind, message, _ = client.hear_kind("EXTENDED", "RESULT")
                if kind == "EXTENDED":
                    break
            self.assertEqual(message, dict(job=accepted["job"], layers=layers))
        client.say("EXTEND", job=accepted["job"], first_layer=2, last=True)
        while kind != "JOB_ENDED":
            kind, message, _ = client.hear_kind("RESULT", "JOB_ENDED")
        self.assertEqual(message["state"], 3)

    # ---- clients

    def test_ten_million_tasks_of_a_client_that_dies(self):
        tasks = 5000000 // (20 if cluster.SANITIZED else 1)
        self.check_nothing_waits()
        before = self.hub.rss()
        for round_ in range(3):
            client = self.peer(name="dies")
            kind, _ = client.submit([dict(tasks=tasks, op=COUNT), dict(tasks=tasks, op=COUNT, wanted=True, input=[
                dict(layer=0, pattern="ONE_TO_ONE")])])
            self.assertEqual(kind, "ACCEPTED")
            if round_ == 0:
                self.assert_grown_less(self.hub, before, 512 * MB)
            elif round_ == 1:  # in the midst of it
                self.worker(self.hub.endpoint)
                time.sleep(0.1)
            client.close()
            deadline = time.monotonic() + 20 * cluster.SLOW
            while self.jobs() > 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            self.wait_rss(before + 8 * MB)
        self.check_works()

    def check_nothing_waits(self):
        self.peer().close()
        self.assertEqual(self.jobs(), 0)

    def test_one_key_twice(self):
        """Two clients push the same job: it is one, it runs once, and it belongs to who came last."""
        self.worker(self.hub.endpoint)
        graph = wire.SCHEMA.encode("Graph", {"layer": [dict(tasks=100, op=COUNT, wanted=True)]})
        first, second, other = self.peer(name="first"), self.peer(name="second"), self.peer(name="other")
        first.say("SUBMIT", key_hi=5, key_lo=6, graph=graph)
        job = first.hear_kind("ACCEPTED")[1]["job"]
        first.hear_kind("JOB_ENDED") if self.read(first, 100) else None
        second.say("SUBMIT", key_hi=5, key_lo=6, graph=graph)
        self.assertEqual(second.hear_kind("ACCEPTED")[1]["job"], job)
        self.read(second, 100)
        # Another key is another job.
        other.say("SUBMIT", key_hi=5, key_lo=7, graph=graph)
        self.assertNotEqual(other.hear_kind("ACCEPTED")[1]["job"], job)
        self.read(other, 100)
        self.wait_ran(200)
        first.close()
        second.say("CLUSTER_QUERY", tag=1)
        self.assertEqual(second.hear_kind("CLUSTER")[1]["jobs"], 2)
        second.close()
        other.close()
        deadline = time.monotonic() + 20 * cluster.SLOW
        while self.jobs() > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def read(self, client, tasks):
        seen = set()
        while len(seen) < tasks:
            index = client.hear_kind("RESULT")[1]["index"]
            self.assertNotIn(index, seen)
            seen.add(index)
        self.assertEqual(client.hear_kind("JOB_ENDED")[1]["state"], STATE["DONE"])

    def wait_ran(self, tasks):
        """Heartbeats tell how many tasks the workers ran."""
        peer, deadline, ran = self.peer(), time.monotonic() + 20 * cluster.SLOW, 0
        while ran < tasks:
            self.assertLess(time.monotonic(), deadline, ran)
            time.sleep(0.1)
            peer.say("CLUSTER_QUERY", tag=1)
            ran = sum(w["ran"] for w in peer.hear_kind("CLUSTER")[1]["worker"])
        self.assertEqual(ran, tasks)

    # ---- foreign code

    def test_plugin_that_segfaults(self):
        """Each of its calls costs that task, and nothing else."""
        worker = self.worker(self.hub.endpoint, "--plugin", HOSTILE)
        falls = 20
        results, ended = self.run_job([dict(tasks=falls, op=call("segfault"), wanted=True, name="falls"),
                                       dict(tasks=500, op=call("number"), wanted=True)], failures_max=falls)
        self.assertEqual(ended["state"], STATE["DONE"], ended)
        for i in range(falls):
            for text in ("falls", f"task {i} ", "SIGSEGV"):
                self.assertIn(text, results[0, i])
        for i in range(500):
            self.assertEqual(int.from_bytes(results[1, i], "little"), i)
        self.assertIsNone(worker.child.poll())
        # Without leave to fail the first of them ends the job.
        _, ended = self.run_job([dict(tasks=falls, op=call("segfault"), wanted=True)])
        self.assertEqual(ended["state"], STATE["FAILED"])
        self.assertIn("SIGSEGV", ended["why"]["text"])
        self.check_works()

    def test_command_that_ignores_sigterm(self):
        """Cancelled, timed out, or its client gone: it is away at once, with what it started."""
        worker = self.worker(self.hub.endpoint, "--scratch", self.folder)
        sleep = self.sleep = f"sleep 61.{os.getpid()}"  # no other test's
        stubborn = shell(f"trap '' TERM INT HUP; echo >{self.folder}/began; {sleep} & {sleep}; {sleep}; {sleep}")

        def begin(**fields):
            client = self.peer()
            kind, accepted = client.submit([dict(tasks=1, op=stubborn, wanted=True, **fields)])
            self.assertEqual(kind, "ACCEPTED")
            deadline = time.monotonic() + 20 * cluster.SLOW
            while not (self.folder / "began").exists():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            (self.folder / "began").unlink()
            return client, accepted["job"], time.monotonic()

        client, job, started = begin()
        client.say("CANCEL", job=job)
        self.assertEqual(client.hear_kind("JOB_ENDED")[1]["state"], STATE["CANCELLED"])
        self.wait_no_sleep(worker)
        client, job, started = begin(timeout_ms=3000)  # by then it has begun
        ended = client.hear_kind("JOB_ENDED")[1]
        self.assertIn("did not end within 3000 ms", ended["why"]["text"])
        self.wait_no_sleep(worker)
        client, job, started = begin()
        client.close()
        self.wait_no_sleep(worker)
        self.check_works()
        self.assertEqual([p for p in self.folder.rglob("*") if p.is_file()], [])

    def wait_no_sleep(self, worker, seconds=20):
        deadline = time.monotonic() + seconds * cluster.SLOW
        while True:
            names = subprocess.run(["ps", "-o", "args=", "-g", str(os.getpgid(worker.pid)), "-A"], capture_output=True,
                                   text=True).stdout
            if not re.search(rf"{re.escape(str(self.folder))}/began|^{re.escape(self.sleep)}$", names, re.M):
                return
            self.assertLess(time.monotonic(), deadline, names)
            time.sleep(0.02)

    # ---- sizes

    def test_result_of_two_gigabytes(self):
        """Beyond the worker's memory it fails in words; with memory for it, every byte arrives."""
        if cluster.SANITIZED or cluster.memory_available() < 6 << 30:
            self.skipTest("needs 6 GB of memory and no sanitizer")
        size = 2 << 30
        op = wire.op(dict(command=dict(argv=[b"head", b"-c", str(size).encode(), b"/dev/zero"])))
        before = self.hub.rss()
        small = self.worker(self.hub.endpoint)
        _, ended = self.run_job([dict(tasks=1, op=op, wanted=True, name="large")])
        self.assertEqual(ended["state"], STATE["FAILED"])
        for text in ("large", "task 0", "--memory"):
            self.assertIn(text, ended["why"]["text"])
        self.assertIsNone(small.child.poll())
        self.assertLess(small.rss(), 300 * MB)
        self.stop(small)
        large = self.worker(self.hub.endpoint, "--memory", "3G")
        file = self.folder / "job.yaml"
        file.write_text(f"tasks:\n  large:\n    command: [head, -c, '{size}', /dev/zero]\n")
        dray, broker = cluster.BIN / "dray", ["--broker", self.hub.endpoint]
        job = subprocess.run([dray, "submit", *broker, "--detach", file], check=True, capture_output=True,
                             text=True).stdout.strip()
        zeros = bytes(MB)
        with subprocess.Popen([dray, "result", *broker, "--quiet", job], stdout=subprocess.PIPE) as client:
            got = 0
            while part := client.stdout.read(MB):
                self.assertEqual(part, zeros[:len(part)])
                got += len(part)
        self.assertEqual((client.returncode, got), (0, size))
        subprocess.run([dray, "cancel", *broker, job], check=True)
        self.assert_grown_less(self.hub, before, 32 * MB)
        deadline = time.monotonic() + 10
        while large.rss() > 64 * MB:
            self.assertLess(time.monotonic(), deadline, large.rss())
            time.sleep(0.05)
        self.check_works()

    def test_a_million_failures(self):
        """Each is told to the client with its words; the job's others run, and nothing of it stays."""
        tasks = 1000000 // (50 if cluster.SANITIZED else 1)
        for _ in range(2):
            self.worker(self.hub.endpoint, "--plugin", HOSTILE)
        self.pool("fail", 1000)
        before = self.hub.rss()
        for _ in range(2):
            self.assertIn(f"fail: {tasks + 1} tasks", self.pool("fail", tasks))
            self.assert_grown_less(self.hub, before, 200 * MB)
            self.wait_rss(before + 8 * MB)
        self.assertEqual(self.jobs(), 0)
        self.check_works()

    def pool(self, *what):
        done = subprocess.run([CLIENT, self.hub.endpoint, *map(str, what)], capture_output=True, text=True,
                              timeout=120 * cluster.SLOW)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def test_a_million_tasks_without_leave_to_fail(self):
        """The first failure ends the job, and what waited is forgotten."""
        tasks = 1000000 // (20 if cluster.SANITIZED else 1)
        self.worker(self.hub.endpoint, "--plugin", HOSTILE)
        self.check_works()
        before = self.hub.rss()
        _, ended = self.run_job([dict(tasks=tasks, op=call("nothing"), wanted=True, name="fails")])
        self.assertEqual(ended["state"], STATE["FAILED"])
        for text in ("fails", "no function 'nothing'"):
            self.assertIn(text, ended["why"]["text"])
        self.wait_rss(before + 8 * MB)
        self.check_works()


if __name__ == "__main__":
    sys.exit(unittest.main(warnings="ignore"))
