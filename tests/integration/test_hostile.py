#!/usr/bin/python3
"""Bytes from strangers, and from peers that break the rules: dropped, said once, nothing held, nobody else
disturbed."""
import os
import random
import socket
import time
import unittest

import cluster
import dray
import wire

MESSAGES = [  # what a session may say: (role, type, values)
    ("CLIENT", "HEARTBEAT", dict(time_us=1)),
    ("CLIENT", "SUBMIT", dict(key_hi=1, key_lo=2, graph=wire.SCHEMA.encode(
        "Graph", {"layer": [dict(tasks=3, op=b"x", wanted=True, input=[]),
                            dict(tasks=1, op=b"y", input=[dict(layer=0, pattern="ALL")])]}))),
    ("CLIENT", "CANCEL", dict(job=1)),
    ("CLIENT", "FREE", dict(job=1, run=[dict(job=1, layer=0, first=[0, 5], count=[2, 1])])),
    ("CLIENT", "CLUSTER_QUERY", dict(tag=1)),
    ("CLIENT", "SOURCE_QUERY", dict(tag=1, pattern="*.csv", path="/data/*.csv", glob=True)),
    ("CLIENT", "FETCH", dict(tag=1, job=1, layer=0, index=0, offset=0, length=100, worker=1)),
    ("WORKER", "HEARTBEAT", dict(time_us=1, memory_used=5, rss=6, running=1, queued=2)),
    ("WORKER", "ADVERTISE", dict(full=True, add=[dict(job=1, layer=0, first=[0, 9], count=[2, 1], bytes=[5, 6, 7])],
                                 file=[dict(name="a.csv", path="/data/a.csv")], files_full=True)),
    ("WORKER", "DROPPED", dict(run=[dict(job=1, layer=0, first=[3], count=[1])])),
    ("WORKER", "DONE", dict(completed=[dict(job=1, layer=0, first=[0], count=[2], bytes=[8, 9], inline_index=[],
                                            note=[dict(index=0, note=b"\x08\x01")], rows=5, source_bytes=7)])),
    ("WORKER", "TASK_FAILED", dict(job=1, layer=0, index=0, why=dict(code=5, text="it broke"))),
    ("WORKER", "PIECE", dict(tag=1, total=100, client=0x80000000)),
    ("WORKER", "BYE", dict()),
]


def encode(kind, values):
    return wire.SCHEMA.encode(wire.FRAME_MESSAGE[wire.FRAME_NUMBER[kind]][1], values)


class Hostile(cluster.ClusterTest):
    def check_well(self, broker):
        """It answers others, and holds no more than before."""
        peer = wire.Peer(broker.endpoint)
        self.assertIsNotNone(peer.welcome)
        peer.say("CLUSTER_QUERY", tag=99)
        self.assertEqual(peer.hear_kind("CLUSTER")[1]["tag"], 99)
        peer.say("BYE")
        peer.close()

    def wait_fds(self, process, count):
        dray.wait_for(lambda: process.fds() <= count, 5, lambda: (process.fds(), count))

    def test_raw_bytes(self):
        broker = self.broker(listen="tcp://127.0.0.1:0")
        self.check_well(broker)
        time.sleep(0.2)
        fds, rss = broker.fds(), broker.rss()
        generator = random.Random(1)
        texts = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 64, b"\xff" + bytes(8) + b"\x7f", b"", b"\0" * 1000,
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n"]
        held = []
        for _ in range(300):
            sock = wire.connect(broker.endpoint)
            data = generator.choice(texts) if generator.random() < 0.5 else generator.randbytes(
                generator.choice([1, 63, 64, 65, 1000, 100000]))
            try:
                sock.sendall(data)
            except OSError:
                pass
            held.append(sock)
        self.check_well(broker)
        for sock in held:
            sock.close()
        self.wait_fds(broker, fds)
        self.assert_grown_less(broker, rss, 20 << 20)
        self.stop(broker)

    def test_zmtp_garbage(self):
        broker = self.broker()
        self.check_well(broker)
        generator = random.Random(2)
        for _ in range(40):
            peer = wire.Zmtp(broker.endpoint, socket_type=generator.choice([b"DEALER", b"REQ", b"ROUTER"]))
            try:
                for _ in range(generator.randrange(1, 30)):
                    kind = generator.randrange(6)
                    if kind == 0:
                        peer.send(*[generator.randbytes(generator.randrange(300))
                                    for _ in range(generator.randrange(1, 5))])
                    elif kind == 1:
                        peer.send(*[b""] * generator.choice([1, 2, 100, 3000]))
                    elif kind == 2:
                        peer.send(wire.header(generator.randrange(256), generator.getrandbits(64),
                                              generator.getrandbits(64)) + generator.randbytes(50))
                    elif kind == 3:
                        peer.send(wire.header("HELLO", 0, 0, magic=b"DRAX") + b"")
                    elif kind == 4:
                        peer.send(wire.header("HELLO", 0, 0) + generator.randbytes(generator.randrange(40)))
                    else:
                        peer.send(wire.header("HELLO", 0, 0)[:generator.randrange(24)])
            except OSError:
                pass
            peer.close()
        self.check_well(broker)
        # Each of them is worth a line, but not hundreds.
        broker.wait_text("stranger")
        self.stop(broker)
        self.assertLess(broker.text.count("stranger"), 60)

    def test_oversized_frame_costs_the_connection(self):
        broker = self.broker()
        peer = wire.Zmtp(broker.endpoint)
        peer.sock.sendall(bytes([2]) + (1 << 40).to_bytes(8, "big") + b"x" * 1000)
        with self.assertRaises((wire.Closed, ConnectionError)):
            peer.receive()
        self.check_well(broker)

    def test_half_a_message_and_no_more(self):
        broker = self.broker()
        peers = [wire.Zmtp(broker.endpoint) for _ in range(20)]
        for peer in peers:
            peer.sock.sendall(bytes([2]) + (1 << 20).to_bytes(8, "big") + b"DRAY")
        self.check_well(broker)
        for peer in peers:
            peer.close()
        self.check_well(broker)

    def send_endlessly(self, sock, frame, bound, seconds=20):
        """Frames with MORE set until the connection is cut; how many bytes went out."""
        sent, deadline = 0, time.monotonic() + seconds * cluster.SLOW
        sock.settimeout(seconds)
        try:
            while time.monotonic() < deadline:
                sock.sendall(frame)
                sent += len(frame)
                if sent > bound // 2:
                    time.sleep(0.001)
        except OSError:
            return sent
        self.fail(f"{sent} bytes of one message, and still connected")

    def test_message_without_an_end(self):
        broker = self.broker(listen="tcp://127.0.0.1:0")
        self.check_well(broker)
        other = wire.Peer(broker.endpoint)
        fds, rss = broker.fds(), broker.rss()
        frames = [bytes([3]) + size.to_bytes(8, "big") + bytes(size) for size in (300, 10000, 1 << 18)] + [
            bytes([1, 0]) * 4000]
        for round_ in range(12):
            peer = wire.Zmtp(broker.endpoint)
            self.send_endlessly(peer.sock, frames[round_ % 4], 1 << 18)
            other.say("CLUSTER_QUERY", tag=round_)
            self.assertEqual(other.hear_kind("CLUSTER")[1]["tag"], round_)
            peer.close()
        self.wait_fds(broker, fds)
        self.assert_grown_less(broker, rss, 20 << 20)
        broker.wait_text("without an end")
        self.stop(broker)
        self.assertEqual(broker.text.count("without an end"), 1)

    def test_message_without_an_end_in_a_session(self):
        broker = self.broker(listen="tcp://127.0.0.1:0")
        self.check_well(broker)
        other = wire.Peer(broker.endpoint)
        fds, rss = broker.fds(), broker.rss()
        size = 1 << 20
        frame = bytes([3]) + size.to_bytes(8, "big") + bytes(size)
        peer = wire.Peer(broker.endpoint, name="endless")
        sent = self.send_endlessly(peer.sock, frame, 256 << 20, 20)
        self.assertGreater(sent, 200 << 20)
        peer.close()
        other.say("CLUSTER_QUERY", tag=1)
        self.assertEqual(other.hear_kind("CLUSTER")[1]["tag"], 1)
        self.wait_fds(broker, fds)
        self.assert_grown_less(broker, rss, 20 << 20)
        # A large message that ends is none of these.
        large = wire.Peer(broker.endpoint, name="large")
        large.send(wire.header("CLUSTER_QUERY", large.session, 1) + encode("CLUSTER_QUERY", dict(tag=3)),
                   *[bytes(size)] * 100)
        self.assertEqual(large.hear_kind("BYE", "CLUSTER")[0], "BYE")
        broker.wait_text("without an end")
        self.stop(broker)
        self.assertEqual(broker.text.count("without an end"), 1)

    def test_many_messages_are_no_endless_one(self):
        """Counted for minutes of traffic, with connections that take each other's numbers."""
        broker = self.broker(listen="tcp://127.0.0.1:0")
        for round_ in range(30):
            peer = wire.Peer(broker.endpoint, role="WORKER")
            body = encode("ADVERTISE", dict(file=[dict(name="n" * 200, path="/data/" + "n" * 200)] * (50 * round_)))
            for seq in range(1, 100 if round_ % 10 else 1000):
                peer.send(wire.header("ADVERTISE", peer.session, seq) + body)
            peer.close()
        self.check_well(broker)
        self.assertNotIn("without an end", broker.text)
        self.stop(broker)

    def test_mutated_messages_of_peers(self):
        """Valid messages with bytes changed, lost, doubled: at worst the sender's session ends."""
        broker = self.broker()
        generator = random.Random(3)
        ended = 0
        for round_ in range(400):
            role, kind, values = MESSAGES[round_ % len(MESSAGES)]
            peer = wire.Peer(broker.endpoint, role=role)
            self.assertIsNotNone(peer.welcome)
            body = bytearray(encode(kind, values))
            for _ in range(generator.randrange(0, 4)):
                at = generator.randrange(len(body)) if body else 0
                choice = generator.randrange(4)
                if choice == 0 and body:
                    body[at] ^= 1 << generator.randrange(8)
                elif choice == 1:
                    del body[at:at + generator.randrange(5)]
                elif choice == 2:
                    body[at:at] = generator.randbytes(generator.randrange(5))
                elif body:
                    body[at] = generator.choice([0, 0x7f, 0x80, 0xff])
            payload = [generator.randbytes(50) for _ in range(generator.choice([0, 0, 0, 1, 2]))]
            peer.send(wire.header(kind, peer.session, 1) + bytes(body), *payload)
            peer.say("CLUSTER_QUERY" if role == "CLIENT" else "HEARTBEAT", seq=2, **(
                dict(tag=5) if role == "CLIENT" else dict(time_us=1)))
            if role == "CLIENT":
                heard = peer.hear_kind("CLUSTER", "BYE", "ACCEPTED", "REJECTED", "SOURCES", "PIECE", "JOB_ENDED")
                ended += heard[0] == "BYE"
            peer.close()
        self.assertGreater(ended, 10)
        self.check_well(broker)
        self.assertIsNone(broker.child.poll())
        self.stop(broker)

    def test_unmutated_messages_are_fine(self):
        broker = self.broker()
        for role, kind, values in MESSAGES:
            if kind in ("PIECE", "BYE"):
                continue
            peer = wire.Peer(broker.endpoint, role=role)
            peer.say(kind, seq=1, **values)
            peer.say("BYE", seq=2)
            peer.close()
        self.check_well(broker)
        self.assertNotIn("warning: client", broker.text)

    def test_coming_and_going_leaves_nothing(self):
        broker = self.broker()
        self.check_well(broker)
        time.sleep(0.2)
        fds = broker.fds()
        for _ in range(100):
            peer = wire.Peer(broker.endpoint, role="CLIENT")
            peer.close()  # without a word
        first = broker.rss()
        for _ in range(400):
            wire.Peer(broker.endpoint, role="CLIENT").close()
        self.wait_fds(broker, fds)
        self.assert_grown_less(broker, first, 4 << 20)
        peer = wire.Peer(broker.endpoint)

        def clients():
            peer.say("CLUSTER_QUERY", tag=1)
            return peer.hear_kind("CLUSTER")[1]["clients"]
        dray.wait_for(lambda: clients() == 1, 5, clients)
        self.stop(broker)

    def test_who_does_not_read_is_disconnected(self):
        broker = self.broker("--backlog", "8")
        worker = wire.Peer(broker.endpoint, role="WORKER", data_dir=["/data"])
        names = [f"{i:06}-{'n' * 100}.csv" for i in range(10000)]
        worker.say("ADVERTISE", full=True, files_full=True,
                   file=[dict(name=n, path=f"/data/{n}") for n in names])
        reader = wire.Peer(broker.endpoint)
        deadline = time.monotonic() + 10 * cluster.SLOW
        while True:  # two connections: the files may come later than the question
            reader.say("SOURCE_QUERY", tag=1, pattern="0000*", path="/x", glob=True)
            message = reader.hear_kind("SOURCES")[1]
            if len(message["file"]) == 100 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.assertEqual((len(message["file"]), message["shared"]), (100, False))
        glutton = wire.Peer(broker.endpoint, name="glutton")
        for tag in range(100):  # 2 MB each
            glutton.say("SOURCE_QUERY", tag=tag, pattern="*", path="/x", glob=True)
        broker.wait_text("glutton: too slow", timeout=20)
        self.assert_grown_less(broker, 0, 120 << 20)
        reader.say("CLUSTER_QUERY", tag=2)
        self.assertEqual(reader.hear_kind("CLUSTER", timeout=20)[1]["tag"], 2)

    def test_worker_that_does_not_keep_to_the_wire(self):
        """The worker's exchange is as open to strangers as the broker."""
        broker = self.broker()
        worker = self.worker(broker.endpoint, "--listen", f"ipc://{self.folder}/x")
        generator = random.Random(4)
        endpoint = f"ipc://{self.folder}/x"
        for _ in range(50):
            peer = wire.Zmtp(endpoint)
            peer.send(*[generator.randbytes(generator.randrange(200)) for _ in range(generator.randrange(1, 4))])
            peer.send(wire.header("FETCH", 1, 0) + generator.randbytes(generator.randrange(40)))
            peer.close()
        peer = wire.Zmtp(endpoint)
        peer.send(wire.header("FETCH", 12345, 0) + encode(
            "FETCH", dict(tag=7, job=1, layer=0, index=0, offset=0, length=10)))
        frames = peer.receive()
        piece = wire.SCHEMA.decode("Piece", frames[0][24:])
        self.assertEqual((piece["tag"], piece["why"]["code"]), (7, 2))
        self.assertIn("another process", piece["why"]["text"])
        self.stop(worker)
        self.stop(broker)
        self.assert_no_files()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
