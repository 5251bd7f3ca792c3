"""What the tests of this folder share: processes on hosts, and how long it takes until something is seen."""
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import cluster  # noqa: E402
import wire  # noqa: E402

BIN, SLOW = cluster.BIN, cluster.SLOW


class FaultTest(cluster.ClusterTest):
    heartbeat = 0.4

    def setUp(self):
        super().setUp()
        self.network = None

    def tearDown(self):
        super().tearDown()
        if self.network is not None:
            self.network.close()

    def broker_at(self, host, *options):
        """A broker on that host; None: on this one."""
        reading, writing = os.pipe()
        inside = host.inside if host else []
        address = host.address if host else "127.0.0.1"
        process = self.start(*inside, BIN / "dray-broker", "--listen", f"tcp://{address}:0", "--heartbeat", self.heartbeat,
                             "--ready-fd", writing, *options, pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as pipe:
            process.endpoint = pipe.readline().strip()
        self.assertTrue(process.endpoint, process.text)
        return process

    def worker_at(self, host, endpoint, *options, memory="256M"):
        inside = host.inside if host else []
        listen = ["--listen", f"tcp://{host.address}:0"] if host else []
        process = self.start(*inside, BIN / "dray-worker", endpoint, "--threads", 1, "--memory", memory, "--reconnect", "120",
                             *listen, *options)
        process.wait_text("connected to the broker")
        return process

    def client_at(self, host, *words, **options):
        inside = host.inside if host else []
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([*map(str, inside), BIN / "dray", *map(str, words)], stdin=subprocess.DEVNULL, **options)

    def dray(self, host, *words, timeout=60):
        """What the client prints; it must go well."""
        client = self.client_at(host, *words)
        try:
            out, err = client.communicate(timeout=timeout * SLOW)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            raise AssertionError(f"dray {' '.join(map(str, words))} does not end") from None
        self.assertEqual(client.returncode, 0, (out[-2000:], err[-2000:]))
        return out

    def workers(self, host, endpoint):
        return json.loads(self.dray(host, "workers", "--broker", endpoint, "-f", "json"))["workers"]

    def recomputed(self, endpoint, host=None):
        """So many tasks did the broker have run again, because what they had made was lost."""
        peer = host.connect_from(lambda: wire.Peer(endpoint)) if host else wire.Peer(endpoint)
        return wire.ask_cluster(peer, timeout=20 * SLOW)["recomputed"]

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def wait(self, condition, seconds, what):
        deadline = time.monotonic() + seconds * SLOW
        while not (value := condition()):
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.05)
        return value
