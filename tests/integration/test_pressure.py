#!/usr/bin/python3
"""Clients that do not read what they asked for, or push more than can be taken: the broker stays as small as its
options say, everybody else goes on, and who catches up misses nothing."""
import contextlib
import signal
import struct
import time
import unittest

import cluster
import wire

MB = 1 << 20
COUNT = wire.op(dict(count={}))
# Who is silent shall not be lost here; who is lost is not waited for long.
PATIENT = ("--timeout", "300", "--orphan-grace", "0.5")


class Pusher(wire.Peer):
    """Says the same again and again as fast as it goes, and reads only when it is told to."""

    def push(self, kind, keyed, body, seconds):
        """`keyed(number)` and then `body`; how many messages went out."""
        sent, deadline = 0, time.monotonic() + seconds
        self.sock.settimeout(60)
        while time.monotonic() < deadline:
            head = wire.header(kind, self.session, self.sent) + keyed(self.sent)
            self.sock.sendall(bytes([2]) + struct.pack(">Q", len(head) + len(body)) + head)
            self.sock.sendall(body)
            self.sent += 1
            sent += 1
        return sent


def submit_key(number):
    """The first fields of a SUBMIT."""
    return wire.SCHEMA.encode("Submit", dict(key_hi=1, key_lo=number))


class Pressure(cluster.ClusterTest):
    def counts(self, peer, tasks, **fields):
        kind, message = peer.submit([dict(tasks=tasks, op=COUNT, wanted=True)], **fields)
        self.assertEqual(kind, "ACCEPTED", message)
        return message["job"]

    def job(self, peer, number):
        peer.say("JOB_QUERY", tag=1, job=number)
        return peer.hear_kind("JOBS")[1]

    def wait_done(self, peer, number, tasks, timeout=60):
        deadline = time.monotonic() + timeout * cluster.SLOW
        while True:
            job = self.job(peer, number)["job"][0]
            if job["done"] == tasks:
                return
            self.assertLess(time.monotonic(), deadline, job)
            time.sleep(0.05)

    def wait_unknown(self, peer, number, timeout=10):
        """Its owner has said FREE, or is gone; the broker hears of it when it reads that."""
        deadline = time.monotonic() + timeout * cluster.SLOW
        while "why" not in (answer := self.job(peer, number)):
            self.assertLess(time.monotonic(), deadline, answer)
            time.sleep(0.01)
        self.assertEqual(answer["why"]["code"], 2)

    def wait_rss(self, process, most, timeout=10):
        """Memory that is free goes back to the system in a quiet moment."""
        deadline = time.monotonic() + timeout * cluster.SLOW
        while process.rss() > most and time.monotonic() < deadline and not cluster.SANITIZED:
            time.sleep(0.05)
        self.assert_grown_less(process, most, 1)

    def read_all(self, peer, tasks, timeout=120):
        """Until the job's end, each result once."""
        seen, deadline = bytearray(tasks), time.monotonic() + timeout * cluster.SLOW
        peer.batches = True
        while True:
            kind, message, _ = peer.hear_kind("RESULTS", "JOB_ENDED", timeout=deadline - time.monotonic())
            if kind == "JOB_ENDED":
                self.assertEqual(message["state"], wire.SCHEMA.enums["JobState"]["DONE"], message)
                self.assertEqual(seen.count(1), tasks)
                return
            for batch in message["batch"]:
                self.assertTrue(batch["inline_bytes"] or batch["endpoint"], batch)
                self.assertEqual(len(batch["bytes"]), sum(batch["count"]))
                for first, count in zip(batch["first"], batch["count"]):
                    self.assertEqual(seen.count(1, first, first + count), 0, (first, count))
                    seen[first:first + count] = b"\1" * count

    def test_client_that_stops_reading(self):
        """Two million results become ready meanwhile; all are there when it reads again."""
        tasks = 2000000 // (20 if cluster.SANITIZED else 1)
        broker = self.broker("--backlog", "1", *PATIENT)
        for _ in range(2):
            self.worker(broker.endpoint)
        other, reader = wire.Peer(broker.endpoint), wire.Peer(broker.endpoint, name="lazy")
        before = broker.rss()
        job = self.counts(reader, tasks)
        self.wait_done(other, job, tasks)
        # The job itself, the mark, and what is under way.
        self.assert_grown_less(broker, before, tasks * 32 + 24 * MB)
        if not cluster.SANITIZED:
            broker.wait_text("client lazy reads slower than its results come")
        self.read_all(reader, tasks)
        reader.say("FREE", job=job)
        self.wait_unknown(other, job)
        self.wait_rss(broker, before + 8 * MB)
        self.stop(broker)

    def test_client_that_reads_slowly(self):
        """Its job takes as long as it does; it is no stalled one."""
        tasks = 2000000 // (20 if cluster.SANITIZED else 1)
        broker = self.broker("--backlog", "1", "--stalled", "4", *PATIENT)
        self.worker(broker.endpoint)
        reader = wire.Peer(broker.endpoint, name="slow")
        self.counts(reader, tasks)
        reader.sock.settimeout(5)
        receive, started = reader.sock.recv, time.monotonic()

        def slowly(size):
            if time.monotonic() - started < 6:
                time.sleep(0.01)
            return receive(min(size, 20000))
        exactly = reader._exactly
        reader._exactly = lambda size: self.slow_bytes(slowly, size)
        self.read_all(reader, tasks)
        reader._exactly = exactly
        self.assertNotIn("too slow", broker.text)
        self.stop(broker)

    def test_broker_that_was_stopped(self):
        """Who read meanwhile what there was is no stalled one."""
        if cluster.SANITIZED:
            self.skipTest("too slow to get ahead of a client")
        tasks = 2000000
        broker = self.broker("--backlog", "1", "--stalled", "3", *PATIENT)
        self.worker(broker.endpoint)
        reader = wire.Peer(broker.endpoint, name="lazy")
        self.counts(reader, tasks)
        broker.wait_text("client lazy reads slower than its results come")
        time.sleep(1)  # it is looked at
        broker.signal(signal.SIGSTOP)
        data = b""
        reader.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while part := reader.sock.recv(1 << 20):
                data += part
        time.sleep(2.5)
        broker.signal(signal.SIGCONT)
        ahead, receive = memoryview(data), reader.sock.recv
        at = 0

        def again(size):
            nonlocal at
            part = bytes(ahead[at:at + size]) or receive(size)
            at += len(part)
            return part
        reader._exactly = lambda size: self.slow_bytes(again, size)
        self.read_all(reader, tasks)
        self.assertNotIn("too slow", broker.text)
        self.stop(broker)

    def slow_bytes(self, receive, size):
        data = bytearray()
        while len(data) < size:
            part = receive(size - len(data))
            if not part:
                raise wire.Closed()
            data += part
        return bytes(data)

    def test_client_that_never_reads_again(self):
        """It is disconnected, and its job goes with it."""
        if cluster.SANITIZED:
            self.skipTest("too slow to get ahead of a client")
        broker = self.broker("--backlog", "1", "--stalled", "1", *PATIENT)
        self.worker(broker.endpoint)
        other, dead = wire.Peer(broker.endpoint), wire.Peer(broker.endpoint, name="dead")
        before = broker.rss()
        job = self.counts(dead, 2000000)
        broker.wait_text("client dead: too slow: it has read nothing for", timeout=30)
        self.wait_unknown(other, job)
        self.wait_rss(broker, before + 8 * MB)
        self.read_all_of_new(other)
        self.stop(broker)

    def ask(self, peer, broker):
        """How many jobs there are; who pushes does not keep others from an answer (by the broker's own time, whatever
        else the machine does)."""
        started = broker.processor_seconds()
        peer.say("CLUSTER_QUERY", tag=1)
        jobs = peer.hear_kind("CLUSTER", timeout=20)[1]["jobs"]
        self.assertLess(broker.processor_seconds() - started, 2 * cluster.SLOW)
        return jobs

    def read_all_of_new(self, peer, tasks=1000):
        job = self.counts(peer, tasks)
        self.read_all(peer, tasks)
        peer.say("FREE", job=job)
        peer.batches = False

    def test_large_graphs_without_end(self):
        """What the options allow is taken and the rest refused, each in words."""
        limit = 128
        broker = self.broker("--memory-max", str(limit), *PATIENT, listen="tcp://127.0.0.1:0")
        other = wire.Peer(broker.endpoint)
        pusher = Pusher(broker.endpoint, name="pusher")
        before = broker.rss()
        tasks = 600000
        edges = dict(layer=0, pattern="EXPLICIT", offset=range(0, 3 * tasks + 1, 3), target=[0, 1, 2] * tasks)
        graph = wire.SCHEMA.encode("Graph", {"layer": [dict(tasks=tasks, op=COUNT), dict(
            tasks=tasks, op=COUNT, wanted=True, input=[edges])]})
        self.assertLess(len(graph), 64 * MB)
        body = wire.SCHEMA.encode("Submit", dict(graph=graph))
        sent = rejected = 0
        most = 0
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            for _ in range(5):
                sent += pusher.push("SUBMIT", submit_key, body, 0.02)
                most = max(most, broker.rss())
            self.ask(other, broker)
        while True:
            kind, message, _ = pusher.hear_kind("ACCEPTED", "REJECTED", timeout=20)
            if kind == "REJECTED":
                rejected += 1
                self.assertIn("beyond its limit", message["why"]["text"])
                if rejected > 3:
                    break
        if not cluster.SANITIZED:
            self.assertLess(most - before, (limit + 300) * MB)
        self.assertGreater(sent, 3)
        pusher.close()
        broker.wait_text("client pusher: ")
        self.wait_rss(broker, before + 16 * MB)
        self.stop(broker)

    def test_small_jobs_without_end(self):
        """Who reads no answers either is disconnected, and what it pushed is gone."""
        broker = self.broker("--jobs-max", "1000", "--backlog", "1", *PATIENT)
        other = wire.Peer(broker.endpoint)
        pusher = Pusher(broker.endpoint, name="pusher")
        before = most = broker.rss()
        graph = wire.SCHEMA.encode("Graph", {"layer": [dict(tasks=1000, op=COUNT, wanted=True)]})
        body = wire.SCHEMA.encode("Submit", dict(graph=graph))
        sent, deadline = 0, time.monotonic() + 60 * cluster.SLOW
        while "client pusher: too slow" not in broker.text and time.monotonic() < deadline:
            sent += pusher.push("SUBMIT", submit_key, body, 0.05)
            most = max(most, broker.rss())
            jobs = self.ask(other, broker)
            self.assertLessEqual(jobs, 1000)
        broker.wait_text("client pusher: too slow")
        self.assertGreater(sent, 1000)
        pusher.push("SUBMIT", submit_key, body, 0.5)  # now it is a stranger
        most = max(most, broker.rss())
        if not cluster.SANITIZED:
            self.assertLess(most - before, 100 * MB)
        deadline = time.monotonic() + 10 * cluster.SLOW
        while self.ask(other, broker) > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.wait_rss(broker, before + 8 * MB)
        self.stop(broker)

    def test_messages_without_end(self):
        """Many small ones that are allowed: taken as fast as it goes, with nothing kept of them."""
        broker = self.broker("--backlog", "1", *PATIENT, listen="tcp://127.0.0.1:0")
        other = wire.Peer(broker.endpoint)
        pushers = [Pusher(broker.endpoint, name=f"pusher {i}") for i in range(3)]
        before = most = broker.rss()
        body = wire.SCHEMA.encode("Free", dict(job=1, run=[dict(job=1, layer=0, first=[0], count=[1])]))
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            for pusher in pushers:
                pusher.push("FREE", lambda number: b"", body, 0.1)
            most = max(most, broker.rss())
            self.ask(other, broker)
        if not cluster.SANITIZED:
            self.assertLess(most - before, 20 * MB)
        self.assertNotIn("warning", broker.text)
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
