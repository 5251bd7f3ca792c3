#!/usr/bin/python3
"""Workers that leave and come back while jobs run, and peers that say what is not so."""
import os
import signal
import time
import unittest

import cluster
import wire
from test_jobs import DIALECT

TASK = wire.op(dict(probe_csv=dict(dialect=DIALECT, pattern="x.csv", path="/x.csv")))


class Leaving(cluster.ClusterTest):
    def assign(self, worker):
        """The job, layer and first index that this worker is asked to run."""
        while True:
            kind, message, _ = worker.hear(5 * cluster.SLOW)
            if kind == "ASSIGN":
                run = message["run"][0]
                return run["job"], run["layer"], run["first"][0]

    def test_who_says_goodbye_has_not_died_of_its_task(self):
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        self.assertEqual(client.submit([dict(tasks=1, op=TASK, wanted=True)])[0], "ACCEPTED")
        for _ in range(5):
            worker = wire.Peer(broker.endpoint, role="WORKER")
            self.assign(worker)
            worker.say("BYE")
            worker.close()
        with self.assertRaises(OSError):
            client.hear_kind("JOB_ENDED", timeout=0.5)

    def test_who_connects_anew_has_not_died_of_its_task(self):
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        self.assertEqual(client.submit([dict(tasks=1, op=TASK, wanted=True)])[0], "ACCEPTED")
        for _ in range(5):
            self.assign(wire.Peer(broker.endpoint, role="WORKER", incarnation=77))
        with self.assertRaises(OSError):
            client.hear_kind("JOB_ENDED", timeout=0.5)

    def test_who_dies_again_and_again_has(self):
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        self.assertEqual(client.submit([dict(tasks=1, op=TASK, wanted=True)])[0], "ACCEPTED")
        for _ in range(3):
            worker = wire.Peer(broker.endpoint, role="WORKER")
            self.assign(worker)
            worker.close()
        self.assertIn("died", client.hear_kind("JOB_ENDED", timeout=10 * cluster.SLOW)[1]["why"]["text"])

    def test_worker_returns_with_what_it_noted(self):
        """A partition with a note (here: of invalid UTF-8) is held over an interruption."""
        path = self.folder / "a.csv"
        path.write_bytes(b"a,b\n\xff\xfe,1\n")
        broker = self.broker("--heartbeat", "0.1", "--worker-timeout", 3 * cluster.SLOW)
        worker = self.worker(broker.endpoint, "--name", "hand")
        client = wire.Peer(broker.endpoint)
        scan = dict(scan_csv=dict(dialect=DIALECT, block_size=1000,
                                  column=[dict(name="a", type="STRING"), dict(name="b", type="INT64")],
                                  file=[dict(path=str(path), name=path.name, size=os.stat(path).st_size,
                                             mtime_ns=os.stat(path).st_mtime_ns, codec="PLAIN", data_start=4,
                                             fields=2, field=[0, 1], blocks=1)]))
        self.assertEqual(client.submit([dict(tasks=1, op=wire.op(scan), wanted=True)])[0], "ACCEPTED")
        self.assertEqual(client.hear_kind("RESULT", timeout=10 * cluster.SLOW)[0], "RESULT")
        self.assertEqual(client.hear_kind("JOB_ENDED", timeout=10 * cluster.SLOW)[1]["state"], 3)
        worker.signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20 * cluster.SLOW
        while "worker hand: not heard of" not in broker.text:
            client.say("HEARTBEAT", time_us=1)
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        worker.signal(signal.SIGCONT)
        worker.wait_text("connected to the broker", count=2)
        for tag in range(10):
            client.say("CLUSTER_QUERY", tag=tag)
            kind = None
            while kind != "CLUSTER":  # its result is told of again as well
                kind, message, _ = client.hear(10 * cluster.SLOW)
                self.assertNotEqual(message.get("state"), 4, message)
            info = message["worker"]
            time.sleep(0.1)
        self.assertEqual([w["partitions"] for w in info], [1], broker.text)
        self.assertEqual(worker.text.count("connected to the broker at"), 2, broker.text)


class Lies(cluster.ClusterTest):
    def test_same_tasks_named_again_and_again(self):
        """Some kilobytes that would keep the broker busy with 2^31 tasks."""
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        job = client.submit([dict(tasks=1000000, op=TASK, wanted=True)])[1]["job"]
        again = dict(job=job, layer=0, first=[0] * 2000, count=[1000000] * 2000)
        for role, kind, fields in (("CLIENT", "FREE", dict(job=job, run=[again])),
                                   ("WORKER", "DROPPED", dict(run=[again])),
                                   ("WORKER", "ADVERTISE", dict(gone=[again]))):
            liar = wire.Peer(broker.endpoint, role=role)
            begin = broker.processor_seconds()
            liar.say(kind, **fields)
            while True:
                heard, message, _ = liar.hear(20)
                if heard == "BYE":
                    break
            self.assertIn("named twice", message["why"]["text"])
            self.assertLess(broker.processor_seconds() - begin, 1 * cluster.SLOW)


if __name__ == "__main__":
    unittest.main()
