"""A broker with a state folder that a test kills and starts again, and who talks to it."""
import signal
import time

import cluster
import wire

COUNT = wire.op(dict(count={}))
STATE = wire.SCHEMA.enums["JobState"]


def shell(text):
    return wire.op(dict(command=dict(argv=[b"/bin/sh", b"-c", text.encode()])))


def pack(layers):
    return wire.SCHEMA.encode("Graph", {"layer": layers})


class HubTest(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.state = self.folder / "state"
        self.listen = f"ipc://{self.folder}/b"
        self.hub = None

    def start_hub(self, *options):
        # Clients that a test plays are silent as long as it does something else.
        self.hub = self.broker("--state", self.state, "--heartbeat", "0.2", "--timeout", "300", *options,
                               listen=self.listen)
        self.hub.wait_text("listening at")  # behind all that it says of its folder, which may not have been read yet
        return self.hub

    def kill_hub(self):
        self.hub.signal(signal.SIGKILL)
        self.hub.wait_exit()

    def restart_hub(self, *options):
        self.kill_hub()
        return self.start_hub(*options)

    def peer(self, **fields):
        return wire.Peer(self.listen, **fields)

    def hear(self, peer, *kinds, timeout=20):
        """The next message of these types, whatever comes before it."""
        deadline = time.monotonic() + timeout * cluster.SLOW
        while True:
            try:
                kind, message, payload = peer.hear(max(0.01, deadline - time.monotonic()))
            except (OSError, wire.Closed) as why:
                raise AssertionError(f"no {kinds}: {why!r}\n{self.hub.text}") from why
            if kind in kinds:
                return kind, message, payload

    def submit(self, peer, layers, key, **fields):
        peer.say("SUBMIT", key_hi=7, key_lo=key, graph=pack(layers) if layers else b"", **fields)
        kind, message, _ = self.hear(peer, "ACCEPTED", "REJECTED")
        return kind, message

    def job(self, number, peer=None):
        """What there is to say of it; None: no such job."""
        own = peer or self.peer()
        own.say("JOB_QUERY", tag=1, job=number)
        message = self.hear(own, "JOBS")[1]
        if peer is None:
            own.say("BYE")
            own.close()
        return message["job"][0] if message["job"] else None

    def wait_state(self, number, state, seconds=20):
        deadline = time.monotonic() + seconds * cluster.SLOW
        while True:
            job = self.job(number)
            self.assertIsNotNone(job, self.hub.text)
            if job["state"] == STATE[state]:
                return job
            self.assertLess(time.monotonic(), deadline, (job, self.hub.text))
            time.sleep(0.05)

    def wait_done(self, number, done, seconds=20):
        deadline = time.monotonic() + seconds * cluster.SLOW
        while (job := self.job(number))["done"] != done:
            self.assertLess(time.monotonic(), deadline, job)
            time.sleep(0.05)
        return job

    def settle(self, number):
        """All that the broker wrote along so far is safe: something is that came behind it."""
        own = self.peer()
        for kind, fields in ("KEEP", dict(job=number)), ("UNKEEP", {}):
            own.say(kind, tag=9, name="settled", **fields)
            self.assertNotIn("why", self.hear(own, "REPLY")[1])
        own.say("BYE")
        own.close()

    def attach(self, peer, number, **fields):
        peer.say("ATTACH", tag=5, job=number, **fields)
        return self.hear(peer, "ATTACHED")[1]

    def results(self, peer, timeout=60):
        """{(layer, index): value or what went wrong}, JOB_ENDED."""
        results, asked, ended = {}, {}, None
        peer.answers = True  # it may take long where others use the machine as well
        while ended is None or asked:
            kind, message, payload = self.hear(peer, "RESULT", "PIECE", "JOB_ENDED", timeout=timeout)
            if kind == "JOB_ENDED":
                ended = message
                continue
            if kind == "PIECE":
                self.assertNotIn("why", message)
                results[asked.pop(message["tag"])] = wire.unwrap_payload(payload[0])[16:]
                continue
            key = message["layer"], message["index"]
            if "why" in message:
                results[key] = message["why"]["text"]
            elif payload:
                results[key] = wire.unwrap_payload(payload[0])[16:]
            else:  # it is at a worker, which is asked by way of the broker
                tag = 100 + len(results) + len(asked)
                asked[tag] = key
                peer.say("FETCH", tag=tag, job=message["job"], layer=key[0], index=key[1], offset=0, length=1 << 20,
                         worker=message["worker"])
        return results, ended
