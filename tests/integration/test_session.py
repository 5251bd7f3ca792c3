#!/usr/bin/python3
"""Handshake, order, liveness, goodbye: brokers and workers as processes, and peers that speak the wire from
scratch."""
import os
import signal
import time
import unittest

import cluster
import dray
import wire


class Handshake(cluster.ClusterTest):
    def test_welcome(self):
        broker = self.broker("--heartbeat", "0.5", "--timeout", "3")
        peer = wire.Peer(broker.endpoint)
        self.assertEqual((peer.welcome["heartbeat_ms"], peer.welcome["timeout_ms"]), (500, 3000))
        self.assertEqual(peer.last, (peer.welcome["session"], 0))
        peer.say("CLUSTER_QUERY", tag=7)
        kind, message, _ = peer.hear()
        self.assertEqual((kind, message["tag"], message["worker"], message["clients"]), ("CLUSTER", 7, [], 1))
        peer.close()

    def test_other_version_is_refused_in_words(self):
        broker = self.broker()
        for fields in ({"protocol": 99, "version": "9.9.9"},):
            peer = wire.Peer(broker.endpoint, **fields)
            self.assertIsNone(peer.welcome)
            text = peer.refusal["why"]["text"]
            self.assertIn(f"protocol {wire.PROTOCOL}", text)
            self.assertIn("Dray 9.9.9", text)
            self.assertIn("same version", text)
            peer.close()
        # A header of another protocol, whose body nobody can read.
        peer = wire.Peer(broker.endpoint, hello=False)
        peer.send(wire.header("HELLO", 0, 0, protocol=77) + b"\xff\xff\xff")
        kind, message, _ = peer.hear()
        self.assertEqual(kind, "REFUSE")
        self.assertIn("protocol 77", message["why"]["text"])
        broker.wait_text("protocol 77")

    def test_worker_of_another_version_ends_in_words(self):
        # A broker that refuses, played by this test.
        import socket
        import struct
        import threading
        listener = socket.create_server(("127.0.0.1", 0))

        def refuse():
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
                ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"ROUTER"
                sock.sendall(bytes([4, len(ready)]) + ready)
                heard = b""
                while b"DRAY" not in heard:  # its HELLO: the handshake of ZMTP is over
                    heard += sock.recv(65536)
                body = wire.header("REFUSE", 0, 0) + wire.SCHEMA.encode(
                    "Refuse", {"why": {"code": 71, "text": "use the same version on both sides"}})
                sock.sendall(bytes([0, len(body)]) + body)
                while sock.recv(65536):
                    pass

        threading.Thread(target=refuse, daemon=True).start()
        worker = self.worker(f"tcp://127.0.0.1:{listener.getsockname()[1]}", connected=False)
        self.assertEqual(worker.wait_exit(), 3)
        self.assertIn("use the same version on both sides", worker.text)
        listener.close()

    def test_stale_session_is_told(self):
        broker = self.broker()
        peer = wire.Peer(broker.endpoint, hello=False)
        peer.say("HEARTBEAT", session=1234, seq=9, time_us=1)
        kind, message, _ = peer.hear()
        self.assertEqual((kind, message["why"]["code"]), ("REFUSE", 107))
        self.assertEqual(peer.last, (0, 0))

    def test_gap_and_repeat_end_the_session(self):
        broker = self.broker()
        for seq in (0, 2, 1 << 63):
            peer = wire.Peer(broker.endpoint)
            peer.say("HEARTBEAT", seq=seq, time_us=1)
            kind, message, _ = peer.hear()
            self.assertEqual(kind, "BYE")
            self.assertIn("lost", message["why"]["text"])
            peer.close()

    def test_wrong_role_ends_the_session(self):
        broker = self.broker()
        peer = wire.Peer(broker.endpoint)
        peer.say("DROPPED", run=[])
        self.assertEqual(peer.hear()[0], "BYE")
        peer = wire.Peer(broker.endpoint, role="WORKER")
        peer.say("CANCEL", job=1)
        self.assertEqual(peer.hear()[0], "BYE")


class Liveness(cluster.ClusterTest):
    def test_silent_peer_is_lost(self):
        broker = self.broker("--heartbeat", "0.1", "--timeout", "0.5")
        peer = wire.Peer(broker.endpoint, name="mute")
        broker.wait_text("mute: not heard of")
        kind, message, _ = peer.hear()
        self.assertEqual((kind, message["why"]["code"]), ("BYE", 110))

    def test_anything_heard_is_a_sign_of_life(self):
        timeout = 1.2 * cluster.SLOW
        broker = self.broker("--heartbeat", "0.1", "--timeout", timeout)
        for _ in range(10):
            lives, silent = self.talk(wire.Peer(broker.endpoint), 0.25 * cluster.SLOW)
            if lives:
                return
            self.assertGreater(silent, timeout / 2)  # the test itself was held up
        self.fail("it was held up each time")

    def talk(self, peer, every):
        """Whether it lives behind six questions, and for how long it was silent at most."""
        last, silent = time.monotonic(), 0
        for tag in range(6):
            time.sleep(every)
            peer.say("CLUSTER_QUERY", tag=tag)
            now = time.monotonic()
            last, silent = now, max(silent, now - last)
            kind, message, _ = peer.hear()
            if kind == "BYE":
                return False, silent
            self.assertEqual(message["tag"], tag)
        return True, silent

    def test_killed_worker_is_seen(self):
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        names = iter("abcde")

        def killed():
            name = next(names)
            worker = self.worker(broker.endpoint, "--name", name)
            self.assertEqual(self.workers(client), [name])
            begin = time.monotonic()
            worker.signal(signal.SIGKILL)
            broker.wait_text(f"worker {name}: its process has ended")
            took = time.monotonic() - begin
            self.assertEqual(self.workers(client), [])
            return took
        dray.once_within(0.5, killed)

    def workers(self, client):
        client.say("CLUSTER_QUERY", tag=1)
        return [w["name"] for w in client.hear()[1]["worker"]]

    def test_stopped_broker_is_missed_and_found_again(self):
        broker = self.broker("--heartbeat", "0.1", "--timeout", "1")
        worker = self.worker(broker.endpoint)
        broker.signal(signal.SIGSTOP)
        worker.wait_text("lost the broker .*not heard of")
        broker.signal(signal.SIGCONT)
        worker.wait_text("connected to the broker", count=2)

    def test_dead_broker_worker_gives_up(self):
        broker = self.broker("--heartbeat", "0.1", "--timeout", "0.5")
        worker = self.worker(broker.endpoint, "--reconnect", "1")
        broker.signal(signal.SIGKILL)
        self.assertEqual(worker.wait_exit(), 3)
        self.assertRegex(worker.text, "lost the broker")
        self.assertRegex(worker.text, "giving up")
        os.unlink(broker.endpoint[6:])  # it had no chance
        self.assert_no_files()

    def test_restarted_broker_gets_its_workers_back(self):
        broker = self.broker("--heartbeat", "0.2", listen=self.tcp_endpoint())
        worker = self.worker(broker.endpoint)
        broker.signal(signal.SIGKILL)
        broker.wait_exit()
        begin = time.monotonic()
        second = self.broker("--heartbeat", "0.2", listen=broker.endpoint)
        worker.wait_text("starting over")
        self.assertLess(time.monotonic() - begin, 5 * cluster.SLOW)
        second.wait_text("worker .* is number 1")

    def test_no_broker_at_all(self):
        worker = self.worker(f"ipc://{self.folder}/none", "--reconnect", "3.5", connected=False)
        worker.wait_text(r"no answer from a broker at \S+ yet: trying for 4 s")
        worker.wait_text(r"no answer from a broker at \S+ for [0-9.]+ s: giving up")
        self.assertEqual(worker.wait_exit(), 3)


class Goodbye(cluster.ClusterTest):
    def test_broker_says_bye(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            dray.once_within(1.5, lambda number=number: self.goodbye(number))

    def goodbye(self, number):
        broker = self.broker()
        worker = self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        begin = time.monotonic()
        self.stop(broker, number)
        self.assertEqual(worker.wait_exit(), 0, worker.text)
        took = time.monotonic() - begin
        self.assertIn("goodbye", worker.text)
        self.assertEqual(client.hear()[0], "BYE")
        self.assert_no_files()
        return took

    def test_worker_says_bye(self):
        broker = self.broker()
        worker = self.worker(broker.endpoint, "--name", "leaver")
        self.stop(worker)
        broker.wait_text("leaver says goodbye")
        self.stop(broker)
        self.assert_no_files()

    def test_lifeline(self):
        reading, writing = os.pipe()
        listen = f"ipc://{self.folder}/b"
        broker = self.start(cluster.BIN / "dray-broker", "--listen", listen, "--lifeline", reading,
                            pass_fds=[reading])
        workers = [self.start(cluster.BIN / "dray-worker", listen, "--lifeline", reading, "--threads", "1",
                              pass_fds=[reading]) for _ in range(2)]
        os.close(reading)
        for worker in workers:
            worker.wait_text("connected")
        os.close(writing)  # as kill -9 of the client does
        for process in [broker] + workers:
            self.assertEqual(process.wait_exit(3), 0, process.text)
        self.assert_no_files()

    def test_both_ways_of_data_go(self):
        broker = self.broker(listen="tcp://127.0.0.1:0")
        worker = self.worker(broker.endpoint)
        self.stop(worker)
        self.stop(broker)


class Options(cluster.ClusterTest):
    def run_one(self, *argv):
        process = self.start(*argv)
        return process.wait_exit(), process.text

    def test_usage(self):
        broker, worker = cluster.BIN / "dray-broker", cluster.BIN / "dray-worker"
        for argv in ([broker, "--nonsense"], [broker, "--heartbeat", "x"], [broker, "extra"],
                     [broker, "--heartbeat", "5", "--timeout", "2"], [worker], [worker, "nowhere"],
                     [worker, "tcp://127.0.0.1:1", "--memory", "12Q"], [worker, "tcp://127.0.0.1:1", "--threads", "0"],
                     [worker, "tcp://127.0.0.1:1", "--memory", "1M"], [broker, "--listen", "nowhere"],
                     [broker, "--listen", "tcp://127.0.0.1:99999"], [broker, "--ready-fd", "99"],
                     [broker, "--lifeline", "99"], [worker, "tcp://127.0.0.1:1", "--lifeline", "99"],
                     [worker, "tcp://127.0.0.1:99999"], [worker, "tcp://127.0.0.1:1", "--listen", "nowhere"],
                     [worker, "tcp://127.0.0.1:1", "--label", ""],
                     [worker, "tcp://127.0.0.1:1", "--resources", "gpu"],
                     [worker, "tcp://127.0.0.1:1", "--resources", "gpu=0"],
                     [worker, "tcp://127.0.0.1:1", "--resources", "gpu=1,gpu=2"],
                     [worker, "tcp://127.0.0.1:1", "--grace", "-1"],
                     [worker, "tcp://127.0.0.1:1", "--memory", "16.5MB"]):  # 16,500,000 bytes are not 16 MiB
            code, text = self.run_one(*argv)
            self.assertEqual(code, 2, (argv, text))
            self.assertTrue(text)
        # In the name of what was given.
        self.assertIn("--timeout must be longer", self.run_one(broker, "--heartbeat", "5", "--timeout", "2")[1])
        self.assertIn("--worker-timeout must be longer", self.run_one(broker, "--heartbeat", "5", "--worker-timeout", "2")[1])

    def test_address_in_use(self):
        broker = self.broker(listen="tcp://127.0.0.1:0")
        code, text = self.run_one(cluster.BIN / "dray-broker", "--listen", broker.endpoint)
        self.assertEqual(code, 1)
        self.assertIn("another process listens there", text)
        local = self.broker()
        code, text = self.run_one(cluster.BIN / "dray-broker", "--listen", local.endpoint)
        self.assertEqual(code, 1)
        wire.Peer(local.endpoint).close()  # and it still answers

    def test_bad_data_dir(self):
        broker = self.broker()
        code, text = self.run_one(cluster.BIN / "dray-worker", broker.endpoint, "--data-dir", self.folder / "none")
        self.assertEqual(code, 1)
        self.assertIn("No such file", text)


class Startup(cluster.ClusterTest):
    def test_ready_at_once(self):
        """Broker and two workers, started together; the issue asks for 30 ms, a busy machine gets more, and so does one on
        which any process takes long to start."""
        best = any_process = 9.0
        for attempt in range(5):
            begin = time.monotonic()
            self.start(cluster.BIN / "dray-worker", "--version").wait_exit()
            any_process = min(any_process, time.monotonic() - begin)
            listen = f"ipc://{self.folder}/b{attempt}"
            begin = time.monotonic()
            workers = [self.start(cluster.BIN / "dray-worker", listen, "--threads", "1") for _ in range(2)]
            broker = self.start(cluster.BIN / "dray-broker", "--listen", listen)
            for worker in workers:
                worker.wait_text("connected")
            best = min(best, time.monotonic() - begin)
            for process in workers + [broker]:
                process.kill()
        print(f"broker and two workers ready in {best * 1000:.0f} ms at best")
        self.assertLess(best, 0.15 * cluster.SLOW + 4 * any_process)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
