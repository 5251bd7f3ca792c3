#!/usr/bin/python3
"""Hosts of their own, and what happens between them: switched off, unplugged, cut one way, slow."""
import sys
import time
import unittest

import badlink
import base
import hosts

SLOW = base.SLOW
HELD = """
tasks:
  make: {array: 0..19, shell: "echo $(({index} * {index}))", result: true}
"""
# Every task of the second step needs all of the first, so bytes go between workers.
MIXED = """
tasks:
  make: {array: 0..19, shell: "seq $(({index} * 1000)) $(({index} * 1000 + 999)); sleep 0.02"}
  mix: {array: 0..9, shell: "cat make.* | wc -l; sleep 0.02", inputs: {task: make, elements: all}}
"""


class Hosts(base.FaultTest):
    def setUp(self):
        super().setUp()
        self.network = hosts.Network()
        self.a, self.b, self.c = (self.network.host(name) for name in "abc")
        self.hub = self.broker_at(self.a)

    def bound(self):
        """Within which a lost host must be noticed; what sanitizers and tests on the same two cores take comes on top."""
        return 2 * self.heartbeat + 1 + 0.3 * SLOW

    def notices(self, attempt):
        """attempt(n) has something noticed for the n-th time and says how long that took: soon enough at least once, whatever else the
        machine does."""
        took = []
        while not took or took[-1] >= self.bound():
            self.assertLess(len(took), 4, took)
            took.append(attempt(len(took) + 1))

    def keep(self, text):
        """A job that has ended and whose results stay with the workers."""
        job = self.dray(self.a, "submit", "--broker", self.hub.endpoint, "--detach", self.file("held.yaml", text)).decode().strip()
        self.dray(self.a, "wait", "--broker", self.hub.endpoint, job)
        return job

    def held(self):
        return sum(w["partitions"] for w in self.workers(self.a, self.hub.endpoint))

    def test_host_is_switched_off(self):
        """No goodbye comes from it, nor the end of a connection."""
        self.worker_at(self.b, self.hub.endpoint)
        file = self.file("mixed.yaml", MIXED)
        expected = self.dray(self.a, "submit", "--broker", self.hub.endpoint, file)

        def lost(n):
            dead = self.worker_at(self.c, self.hub.endpoint, "--name", f"dead{n}")
            client = self.client_at(self.a, "submit", "--broker", self.hub.endpoint, file)
            time.sleep(0.3)
            begin = time.monotonic()
            self.c.unplug()
            dead.kill()
            self.hub.wait_text(f"worker dead{n}: not heard of")
            took = time.monotonic() - begin
            out, err = client.communicate(timeout=60 * SLOW)
            self.assertEqual((client.returncode, out), (0, expected), err)
            self.c.plug()
            return took
        self.notices(lost)

    def test_short_interruption_is_none(self):
        worker = self.worker_at(self.b, self.hub.endpoint, "--name", "short")
        self.keep(HELD)
        for _ in range(5):
            lost, begin = self.hub.text.count("not heard of"), time.monotonic()
            self.b.unplug()
            time.sleep(0.9)
            self.b.plug()
            short = time.monotonic() - begin < 1.2
            time.sleep(2)
            if short:
                break
            # The test was held up.  It may be lost, and comes back.
            worker.wait_text("connected to the broker", count=1 + self.hub.text.count("not heard of"))
        self.assertEqual(self.hub.text.count("not heard of"), lost)
        self.assertEqual((self.held(), self.recomputed(self.hub.endpoint, self.a)), (20, 0))

    def test_healed_link_brings_back_what_was_held(self):
        worker = self.worker_at(self.b, self.hub.endpoint)
        job = self.keep(HELD)
        expected = self.dray(self.a, "result", "--broker", self.hub.endpoint, job)
        self.b.unplug()
        self.hub.wait_text("not heard of")
        self.b.plug()
        worker.wait_text("connected to the broker", count=2, timeout=20)
        self.assertEqual(self.dray(self.a, "result", "--broker", self.hub.endpoint, job), expected)
        self.assertEqual(self.recomputed(self.hub.endpoint, self.a), 0)
        self.assertIsNone(worker.child.poll())

    def test_what_the_worker_says_is_lost_on_the_way(self):
        worker = self.worker_at(self.b, self.hub.endpoint)
        job = self.keep(HELD)

        def lost(n):
            begin = time.monotonic()
            self.b.deafen(self.a)
            self.hub.wait_text("not heard of", count=n)
            took = time.monotonic() - begin
            self.b.undeafen(self.a)
            worker.wait_text("connected to the broker", count=n + 1, timeout=20)
            return took
        self.notices(lost)
        self.dray(self.a, "result", "--broker", self.hub.endpoint, job)
        self.assertEqual(self.recomputed(self.hub.endpoint, self.a), 0)

    def test_what_the_worker_should_hear_is_lost_on_the_way(self):
        """The broker hears heartbeats as ever; the worker finds out and connects anew."""
        worker = self.worker_at(self.b, self.hub.endpoint)
        job = self.keep(HELD)

        def lost(n):
            begin = time.monotonic()
            self.a.deafen(self.b)
            worker.wait_text("its host has not been heard of", count=n)
            took = time.monotonic() - begin
            self.a.undeafen(self.b)
            worker.wait_text("connected to the broker", count=n + 1, timeout=20)
            return took
        self.notices(lost)
        self.dray(self.a, "result", "--broker", self.hub.endpoint, job)
        self.assertEqual(self.recomputed(self.hub.endpoint, self.a), 0)

    def test_workers_that_cannot_reach_one_another(self):
        """Both reach the broker: the bytes go by way of the broker, in seconds."""
        self.worker_at(self.b, self.hub.endpoint)
        self.worker_at(self.c, self.hub.endpoint)
        file = self.file("mixed.yaml", MIXED)
        expected = self.dray(self.a, "submit", "--broker", self.hub.endpoint, file)
        for one_way in (True, False):
            self.b.deafen(self.c)
            if not one_way:
                self.c.deafen(self.b)
            begin = time.monotonic()
            self.assertEqual(self.dray(self.a, "submit", "--broker", self.hub.endpoint, file, timeout=90), expected)
            self.assertLess(time.monotonic() - begin, 20)
        self.assertNotIn("not heard of", self.hub.text)
        self.assertIn(b"passed on by the broker", self.dray(self.a, "workers", "--broker", self.hub.endpoint))

    def test_slow_link(self):
        """Heartbeats share it with results that take many times the timeout."""
        if not self.b.limit(400):
            self.skipTest("this kernel has no tbf")
        self.worker_at(self.b, self.hub.endpoint)
        file = self.file("large.yaml", """
tasks:
  large: {array: 0..39, shell: "head -c 60000 /dev/urandom | tee /dev/null"}
""")
        begin = time.monotonic()
        self.dray(self.a, "submit", "--broker", self.hub.endpoint, file)
        self.assertGreater(time.monotonic() - begin, 2)
        self.assertNotIn("not heard of", self.hub.text)
        self.assertNotIn("connection", self.hub.text)


class Proxied(base.FaultTest):
    """Links between processes of one host that are slow, far, cut or reset."""
    heartbeat = 0.8  # nobody shall be lost here

    def setUp(self):
        super().setUp()
        self.hub = self.broker_at(None)
        self.proxy = badlink.Proxy("127.0.0.1", int(self.hub.endpoint.rsplit(":", 1)[1]))
        self.addCleanup(self.proxy.close)

    def test_slow_link_of_a_worker(self):
        """One message of results that takes longer than the timeout."""
        self.worker_at(None, self.proxy.endpoint)
        self.proxy.there.rate = 400_000
        file = self.file("large.yaml", """
tasks:
  large: {array: 0..39, shell: "head -c 60000 /dev/urandom"}
""")
        self.dray(None, "submit", "--broker", self.hub.endpoint, file)
        self.assertNotIn("not heard of", self.hub.text)

    def test_slow_link_of_a_client(self):
        """Its graph takes longer than the timeout on its way there, and its results on their way back."""
        self.hub.kill()
        self.hub = self.broker_at(None, "--timeout", "2.5", "--worker-timeout", "30")
        self.proxy.target = ("127.0.0.1", int(self.hub.endpoint.rsplit(":", 1)[1]))
        self.worker_at(None, self.hub.endpoint)
        self.proxy.there.rate = self.proxy.back.rate = 300_000
        text = "x" * 1_000_000
        file = self.file("graph.yaml", f"tasks: {{large: {{data: {text}}}, other: {{shell: echo yes}}}}\n")
        out = self.dray(None, "submit", "--broker", self.proxy.endpoint, file)
        self.assertIn(text.encode(), out)
        self.assertNotIn("not heard of", self.hub.text)

    def test_far_away(self):
        """A round trip of a second: handshakes of several take longer than an attempt."""
        self.proxy.there.delay = self.proxy.back.delay = 0.5
        worker = self.start(base.BIN / "dray-worker", self.proxy.endpoint, "--threads", 1)
        worker.wait_text("connected to the broker", timeout=20)
        file = self.file("few.yaml", "tasks: {few: {array: 0..9, shell: echo yes}}\n")
        self.assertEqual(self.dray(None, "submit", "--broker", self.proxy.endpoint, file).count(b"yes"), 10)
        time.sleep(3)
        self.assertNotIn("not heard of", self.hub.text)
        self.assertEqual(worker.text.count("connected to"), 1)

    def test_connections_are_reset(self):
        """Again and again, in the midst of a job: nobody is blamed, nothing is made twice that is held."""
        worker = self.worker_at(None, self.proxy.endpoint)
        file = self.file("many.yaml", """
tasks: {many: {array: 0..39, shell: "echo {index} >> LOG; sleep 0.05; echo {index}"}}
""".replace("LOG", str(self.folder / "log")))
        client = self.client_at(None, "submit", "--broker", self.hub.endpoint, file)
        for _ in range(6):
            time.sleep(0.25)
            self.proxy.reset()
        out, err = client.communicate(timeout=60 * SLOW)
        self.assertEqual((client.returncode, out.split()), (0, [b"%d" % i for i in range(40)]), err)
        self.assertGreater(worker.text.count("connected to"), 3)
        self.assertEqual(self.recomputed(self.hub.endpoint), 0)


if __name__ == "__main__":
    if reason := hosts.why_not():
        print(f"Hosts: skipped, {reason}")
        del Hosts
        if not unittest.main(exit=False).result.wasSuccessful():
            sys.exit(1)
        sys.exit(77)
    unittest.main()
