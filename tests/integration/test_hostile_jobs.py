#!/usr/bin/python3
"""Peers that break the rules in the midst of jobs: what they say of tasks, layers, results and names is changed, cut,
doubled and made up.  At worst their own session ends and their own job fails; the jobs of others come out right."""
import os
import random
import time
import unittest

import cluster
import wire

COUNT = wire.op(dict(count={}))
ROUNDS = int(os.environ.get("DRAY_HOSTILE_ROUNDS", "60"))
U32 = (1 << 32) - 1


def graph(layers):
    return wire.SCHEMA.encode("Graph", {"layer": layers})


class Liar:
    """Makes up messages around a job that there is."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.job, self.tasks = 1, 1

    def number(self, good):
        return self.random.choice([good] * 6 + [0, 1, good + 1, U32, 1 << 31, self.random.getrandbits(32)]) & U32

    def runs(self):
        first = [self.number(self.random.randrange(self.tasks)) for _ in range(self.random.choice([0, 1, 1, 2, 5]))]
        if self.random.random() < 0.8:
            first.sort()
        count = [self.number(1 + self.random.randrange(3)) for _ in first]
        if self.random.random() < 0.1:
            count.append(1)
        return dict(job=self.number(self.job), layer=self.number(0), first=first, count=count)

    def why(self):
        return dict(code=self.random.choice([1, 5, 22, 125, 0, U32 >> 1]), text=self.random.choice(
            ["it broke", "", "\x1b[31m" * 30, b"\xff\xfe", "x" * 5000]))

    def layers(self):
        pattern = self.random.choice(["ONE_TO_ONE", "FAN_IN", "ALL", "BROADCAST", "WINDOW", "EXPLICIT", "LAG"])
        tasks = self.random.choice([0, 1, 3, 100, U32])
        inputs = []
        if self.random.random() < 0.7:
            one = dict(layer=self.number(0), pattern=pattern, width=self.number(2))
            if pattern == "EXPLICIT" and tasks < 1000:
                one.update(offset=[self.number(i) for i in range(tasks + 1)], target=[self.number(0)] * tasks)
            if self.random.random() < 0.3:
                one.update(job=self.number(self.job), job_tasks=self.number(self.tasks))
            inputs.append(one)
        return [dict(tasks=tasks, op=self.random.choice([COUNT, COUNT, b"", b"\x0a\xff"]), wanted=True, input=inputs)]

    def client_message(self):
        pick = self.random.randrange
        return [
            lambda: ("EXTEND", dict(job=self.number(self.job), first_layer=self.number(pick(3)),
                                    graph=graph(self.layers()), last=pick(4) == 0)),
            lambda: ("EXTEND", dict(job=self.number(self.job), first_layer=self.number(1))),
            lambda: ("CANCEL", dict(job=self.number(self.job), run=[self.runs() for _ in range(pick(3))])),
            lambda: ("FREE", dict(job=self.number(self.job), run=[self.runs() for _ in range(pick(3))])),
            lambda: ("ATTACH", dict(tag=pick(9), job=self.number(self.job), look=pick(2))),
            lambda: ("ATTACH", dict(tag=pick(9), kept=self.random.choice(["a", "", "x" * 1000, b"\xff", "it"]))),
            lambda: ("ATTACH", dict(tag=pick(9))),
            lambda: ("KEEP", dict(tag=pick(9), job=self.number(self.job),
                                  name=self.random.choice(["it", "", "a/b", "x" * 300, b"\xc0\x80"]))),
            lambda: ("UNKEEP", dict(tag=pick(9), name=self.random.choice(["it", "", "nobody"]))),
            lambda: ("JOB_QUERY", dict(tag=pick(9))),
            lambda: ("JOB_QUERY", dict(tag=pick(9), job=self.number(self.job))),
            lambda: ("FETCH", dict(tag=pick(9), job=self.number(self.job), layer=self.number(0),
                                   index=self.number(pick(self.tasks)), offset=self.random.getrandbits(40),
                                   length=self.number(1000), worker=self.number(1))),
            lambda: ("SUBMIT", dict(key_hi=pick(2), key_lo=pick(2), graph=graph(self.layers()), open=pick(2),
                                    failures_max=self.number(3), priority=-pick(5), name="n" * pick(300))),
        ][pick(13)]()

    def encodings(self, count):
        """A payload frame and the sizes in it, or lies about them."""
        one = b"DPT1\2\0\0\0\x10\0\0\0\0\0\0\0" + self.random.randbytes(8)
        sizes = [self.number(len(one)) if self.random.random() < 0.1 else len(one) for _ in range(count)]
        frame = wire.wrap_payload(one * count)
        if self.random.random() < 0.2:
            frame = frame[:self.random.randrange(len(frame))]
        return sizes, frame

    def worker_message(self):
        pick = self.random.randrange

        def done():
            runs = self.runs()
            total = sum(runs["count"])
            count = total if total < 50 else pick(50)
            sizes, frame = self.encodings(count)
            completed = dict(runs, bytes=[self.number(24)] * count, busy_us=self.random.getrandbits(40))
            frames = []
            if pick(2) and count > 0:
                completed["inline_bytes"] = sizes
                frames = [frame] * self.random.choice([1, 1, 1, 0, 2])
            elif pick(2):
                completed["inline_index"] = [self.number(i) for i in runs["first"][:2]]
            if pick(3) == 0:
                completed["note"] = [dict(index=self.number(0), note=self.random.randbytes(5))]
            return "DONE", dict(completed=[completed]), frames

        def failed():
            one = dict(job=self.number(self.job), layer=self.number(0), index=self.number(pick(self.tasks)),
                       why=self.why(), busy_us=self.random.getrandbits(self.random.choice([1, 20, 64])))
            if pick(2):
                one.update(missing_input=True, missing_layer=self.number(0), missing_index=self.number(0),
                           missing_worker=self.number(1), missing_job=self.number(self.job))
            return one

        return [
            done, done, done,
            lambda: ("TASK_FAILED", failed(), []),
            lambda: ("TASKS_FAILED", dict(failed=[failed() for _ in range(pick(5))]), []),
            lambda: ("DROPPED", dict(run=[self.runs() for _ in range(pick(4))]), []),
            lambda: ("ADVERTISE", dict(full=pick(2), add=[dict(self.runs(), bytes=[8] * pick(4))],
                                       gone=[dict(self.runs(), bytes=[])]), []),
            lambda: ("HEARTBEAT", dict(time_us=1, memory_used=self.random.getrandbits(63), running=U32, queued=U32,
                                       ran=self.random.getrandbits(63)), []),
            lambda: ("PIECE", dict(tag=pick(9), total=self.random.getrandbits(40), client=self.number(1 << 31)),
                     [self.random.randbytes(30)] * pick(3)),
            lambda: ("LEAVING", dict(), []),
        ][pick(10)]()

    def mutated(self, body):
        body = bytearray(body)
        for _ in range(self.random.choice([0, 0, 0, 1, 3])):
            at = self.random.randrange(len(body)) if body else 0
            choice = self.random.randrange(4)
            if choice == 0 and body:
                body[at] ^= 1 << self.random.randrange(8)
            elif choice == 1:
                del body[at:at + self.random.randrange(9)]
            elif choice == 2:
                body[at:at] = self.random.randbytes(self.random.randrange(5))
            elif body:
                body[at] = self.random.choice([0, 0x7f, 0x80, 0xff])
        return bytes(body)

    def send(self, peer, kind, values, frames=()):
        body = wire.SCHEMA.encode(wire.FRAME_MESSAGE[wire.FRAME_NUMBER[kind]][1], values)
        peer.send(wire.header(kind, peer.session, peer.sent) + self.mutated(body), *frames)
        peer.sent += 1

    def drain(self, peer, seconds):
        """All that comes in that time; a goodbye is not the end of it."""
        out, deadline = [], time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                out.append(peer.hear(max(0.001, left) / wire.SLOW))
        except (TimeoutError, OSError, wire.Closed):
            pass
        return out


class HostileJobs(cluster.ClusterTest):
    broker_options = ("--orphan-grace", "0")  # who goes is gone

    def check_job(self, peer, tasks=300):
        """Two layers, each value as it must be."""
        kind, message = peer.submit([dict(tasks=tasks, op=COUNT), dict(
            tasks=tasks, op=COUNT, wanted=True, input=[dict(layer=0, pattern="ONE_TO_ONE")])])
        self.assertEqual(kind, "ACCEPTED", message)
        seen = set()
        while True:
            kind, result, payload = peer.hear_kind("RESULT", "JOB_ENDED", timeout=60)
            if kind == "JOB_ENDED":
                self.assertEqual(result["state"], wire.SCHEMA.enums["JobState"]["DONE"], result)
                break
            self.assertNotIn(result["index"], seen)
            seen.add(result["index"])
            if payload:
                value = int.from_bytes(wire.unwrap_payload(payload[0])[16:24], "little")
                self.assertEqual(value, 2 * (1 + result["index"]))
        self.assertEqual(seen, set(range(tasks)))
        peer.say("FREE", job=message["job"])

    def check_nothing_stays(self, broker, peer, fds):
        deadline = time.monotonic() + 10 * cluster.SLOW
        while True:
            peer.say("CLUSTER_QUERY", tag=1)
            cluster_ = peer.hear_kind("CLUSTER", timeout=20)[1]
            if (cluster_["jobs"], cluster_["clients"]) == (0, 1) and broker.fds() <= fds:
                return
            if time.monotonic() > deadline:
                peer.say("JOB_QUERY", tag=1)
                self.fail((cluster_["jobs"], cluster_["clients"], broker.fds() - fds, ascii(peer.hear_kind("JOBS")[1])))
            time.sleep(0.05)

    def test_clients(self):
        broker = self.broker()
        self.worker(broker.endpoint)
        honest = wire.Peer(broker.endpoint, name="honest")
        self.check_job(honest)
        fds, rss = broker.fds(), broker.rss()
        answers, wanted = {}, ("BYE", "REJECTED", "ATTACHED", "REPLY", "JOBS", "RESULT")
        for seed in range(ROUNDS):
            liar = Liar(seed)
            peer = wire.Peer(broker.endpoint, name="liar")
            liar.tasks = liar.random.choice([1, 20, 5000])
            layers = [dict(tasks=liar.tasks, op=COUNT, wanted=True)]
            kind, message = peer.submit(layers, open=True, failures_max=liar.random.choice([0, 5]))
            self.assertEqual(kind, "ACCEPTED", message)
            liar.job = message["job"]
            try:
                for _ in range(liar.random.randrange(1, 25)):
                    kind, values = liar.client_message()
                    if kind == "KEEP" and seed % 2:
                        continue  # what is kept would stay
                    liar.send(peer, kind, values)
            except OSError:
                pass
            # Longer as long as some have not been seen at all: they may take longer to come.
            for kind, _, _ in liar.drain(peer, 0.02 if all(kind in answers for kind in wanted) else 0.3):
                answers[kind] = answers.get(kind, 0) + 1
            peer.close()
            if seed % 10 == 9:
                self.check_job(honest)
        self.check_job(honest)
        for kind in wanted:
            self.assertGreater(answers.get(kind, 0), 0, answers)
        honest.say("UNKEEP", tag=1, name="it")
        honest.hear_kind("REPLY")
        for name in self.kept(honest):
            honest.say("UNKEEP", tag=1, name=name)
            honest.hear_kind("REPLY")
        self.check_nothing_stays(broker, honest, fds)
        self.assert_grown_less(broker, rss, 24 << 20)
        self.stop(broker)

    def test_names(self):
        """As long and as many as messages can have them, they cost neither the worker that runs the tasks its session
        nor another client its answer."""
        broker = self.broker()
        self.worker(broker.endpoint)
        honest, other = (wire.Peer(broker.endpoint, name=name) for name in ("honest", "other"))
        self.check_job(honest)
        fail = wire.op(dict(command=dict(argv=[b"/bin/false"])))
        kind, message = other.submit([dict(tasks=1, op=fail, wanted=True, name="n" * 4096)], name="m" * 4096)
        ended = other.hear_kind("JOB_ENDED", timeout=60)[1]
        self.assertIn("exit code 1", ended["why"]["text"])
        kind, message = other.submit([dict(tasks=1, op=COUNT, wanted=True)])
        for kind in ("RESULT", "JOB_ENDED"):
            other.hear_kind(kind)
        for number in range(5000):
            other.say("KEEP", tag=number, job=message["job"], name="%d" % number)
            other.hear_kind("REPLY")
        honest.say("JOB_QUERY", tag=1)
        jobs = honest.hear_kind("JOBS")[1]["job"]
        self.assertEqual(sorted(len(job["kept"]) for job in jobs), [0, 100])
        honest.say("CLUSTER_QUERY", tag=1)
        self.assertEqual(honest.hear_kind("CLUSTER")[1]["worker"][0]["worker"], 1) # the session that it began with
        self.stop(broker)

    def test_graph_that_just_fits(self):
        """What workers are told of its layers would not: it is refused, and not sent to one worker after another."""
        broker = self.broker()
        self.worker(broker.endpoint)
        peer = wire.Peer(broker.endpoint, name="large")
        kind, message = peer.submit([dict(tasks=1, op=COUNT)] + [dict(
            tasks=1, op=b"x" * ((64 << 20) - 6000), wanted=True, input=[dict(layer=0, pattern="ALL")] * 500)])
        self.assertEqual(kind, "REJECTED", message)
        self.assertIn("at most", message["why"]["text"])
        self.check_job(peer)
        peer.say("CLUSTER_QUERY", tag=1)
        self.assertEqual(peer.hear_kind("CLUSTER")[1]["worker"][0]["worker"], 1)
        self.stop(broker)

    def kept(self, peer):
        peer.say("JOB_QUERY", tag=1)
        return [name for job in peer.hear_kind("JOBS")[1]["job"] for name in job["kept"]]

    def test_workers(self):
        """They lie about the tasks of an honest client, which others then have to run; what a liar says that it has
        made is believed, so only that the job ends is certain.  Once the liars are gone jobs come out right."""
        broker = self.broker()
        honest = wire.Peer(broker.endpoint, name="honest")
        fds, rss = broker.fds(), broker.rss()
        for seed in range(ROUNDS):
            liar = Liar(1000 + seed)
            peer = wire.Peer(broker.endpoint, role="WORKER", name="liar")
            liar.tasks = liar.random.choice([1, 20, 500])
            kind, message = honest.submit([dict(tasks=liar.tasks, op=COUNT, wanted=True), dict(
                tasks=liar.tasks, op=COUNT, wanted=True, input=[dict(layer=0, pattern="ONE_TO_ONE")])],
                failures_max=liar.random.choice([0, 5]))
            self.assertEqual(kind, "ACCEPTED", message)
            liar.job = message["job"]
            try:
                for _ in range(liar.random.randrange(1, 20)):
                    kind, values, frames = liar.worker_message()
                    liar.send(peer, kind, values, frames)
                    if liar.random.randrange(4) == 0:
                        liar.drain(peer, 0.002)
            except OSError:
                pass
            liar.drain(peer, 0.01)
            peer.close()
            honest.say("CANCEL", job=liar.job)
            honest.say("FREE", job=liar.job)
            while honest.hear(timeout=10)[0] != "JOB_ENDED":
                pass
            liar.drain(honest, 0.001)
        self.worker(broker.endpoint)
        other = wire.Peer(broker.endpoint, name="other")
        self.check_job(other)
        other.say("BYE")
        other.close()
        liar.drain(honest, 0.1)
        self.check_nothing_stays(broker, honest, fds + 2)  # a worker: its connection and its process
        self.assert_grown_less(broker, rss, 24 << 20)
        self.assertIsNone(broker.child.poll())
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
