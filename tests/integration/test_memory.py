#!/usr/bin/python3
"""What waiting tasks take of the broker: a process of its own without workers, by what the system says of it."""
import os
import re
import time
import unittest

import cluster
import wire

COUNT = wire.op(dict(count={}))
LAYER_TASKS = 1 << 20
EDGES = 3
# More of them for a measurement by hand: 10 layers are ten million tasks.
LAYERS = int(os.environ.get("DRAY_MEMORY_LAYERS", "2"))


def field(number, body):
    return wire.varint(number << 3 | 2) + wire.varint(len(body)) + bytes(body)


def explicit_layer(before):
    """A packed Graph of one layer, each task of which needs three random partitions of the layer before."""
    count = LAYER_TASKS * EDGES
    mask = int.from_bytes((LAYER_TASKS - 1).to_bytes(4, "little") * count, "little")
    target = (int.from_bytes(os.urandom(4 * count), "little") & mask).to_bytes(4 * count, "little")
    edges = wire.SCHEMA.encode("Input", dict(layer=before, pattern="EXPLICIT", width=EDGES)) + field(5, target)
    layer = wire.SCHEMA.encode("Layer", dict(tasks=LAYER_TASKS, op=COUNT, wanted=True)) + field(4, edges)
    return field(1, layer)


@unittest.skipIf(cluster.SANITIZED, "a sanitizer's memory is not the broker's")
class Memory(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.hub = self.broker("--timeout", "300")
        self.client = wire.Peer(self.hub.endpoint)
        self.addCleanup(self.client.close)

    def peak(self):
        with open(f"/proc/{self.hub.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) * 1024

    def wait_tasks(self, job, tasks):
        """A question may overtake what came just before it."""
        deadline = time.monotonic() + 60
        while True:
            self.client.say("JOB_QUERY", tag=1, job=job)
            seen = self.client.hear_kind("JOBS", timeout=60)[1]["job"][0]["tasks"]
            if seen == tasks:
                return
            self.assertLess(time.monotonic(), deadline, seen)
            time.sleep(0.002)

    def test_waiting_tasks_are_small(self):
        empty = self.hub.rss()
        kind, accepted = self.client.submit([dict(tasks=LAYER_TASKS, op=COUNT, wanted=True)], open=True)
        self.assertEqual(kind, "ACCEPTED", accepted)
        job = accepted["job"]
        self.wait_tasks(job, LAYER_TASKS)
        before = self.hub.rss()
        self.assertLess((before - empty) / LAYER_TASKS, 16)
        took = 0
        for number in range(1, LAYERS):
            graph = explicit_layer(number - 1)
            begin = time.monotonic()
            self.client.say("EXTEND", job=job, first_layer=number, graph=graph)
            self.wait_tasks(job, (number + 1) * LAYER_TASKS)
            took = max(took, time.monotonic() - begin)
        each = (self.hub.rss() - before) / LAYER_TASKS / (LAYERS - 1)
        print(f"{each:.1f} bytes a task, {took * 1000:.0f} ms a layer, "
              f"{LAYERS * LAYER_TASKS} tasks: {self.hub.rss() >> 20} MB, at most {self.peak() >> 20} MB")
        self.assertLess(each, 40)
        # While a layer comes there are its message, that unpacked and the index over it.
        self.assertLess(self.peak(), empty + (16 + 40 * LAYERS + 60) * LAYER_TASKS)
        self.client.say("FREE", job=job)
        deadline = time.monotonic() + 10
        while self.hub.rss() > empty + (4 << 20) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertLess(self.hub.rss(), empty + (4 << 20))


if __name__ == "__main__":
    unittest.main()
