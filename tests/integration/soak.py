#!/usr/bin/python3
"""Jobs of all kinds, again and again, on one cluster, with the faults that happen to it.  After each round nothing may be
left: no job, no client, no descriptor, no process, and memory is where it was after the first rounds.

    tests/integration/soak.py --seconds 600 [--seed N] [--tasks 100000] [--only NAME,...]

Prints a line a round, and exits with 1 when something stays."""
import argparse
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import cluster
import wire

MB = 1 << 20
COUNT = wire.op(dict(count={}))
BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", cluster.BIN.parent))
CLIENT = BUILD / "tests/bin/pool_client"
HOSTILE = BUILD / "tests/hostile_plugin.so"


class Stays(Exception):
    """Something that should be gone."""


class Soak(cluster.ClusterTest):
    """Made of the parts of the tests; not run as one."""

    def begin(self, options):
        self.setUp()
        self.options = options
        self.random = random.Random(options.seed)
        self.hub = self.broker("--backlog", "2", "--timeout", "300", "--orphan-grace", "1", listen="tcp://127.0.0.1:0")
        self.workers = [self.add_worker() for _ in range(options.workers)]
        self.watcher = wire.Peer(self.hub.endpoint, name="watcher")

    def end(self):
        self.tearDown()

    def add_worker(self):
        return self.worker(self.hub.endpoint, "--plugin", HOSTILE, "--scratch", self.folder)

    # ---- what happens in a round

    def pool(self, *what, after=None):
        """The client program; `after` so many seconds it is killed."""
        client = subprocess.Popen([CLIENT, self.hub.endpoint, *map(str, what)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        try:
            _, err = client.communicate(timeout=after if after is not None else 300 * cluster.SLOW)
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            if after is None:
                raise Stays(f"{what} does not end") from None
            return
        if client.returncode != 0:
            raise Stays(f"{what}: {err}")

    def tasks(self, most=None):
        most = min(most or self.options.tasks, self.options.tasks)
        return max(1, int(most * self.random.random()))

    def do_map(self):
        self.pool("map", self.tasks())

    def do_submit(self):
        self.pool("submit", self.tasks(20000))

    def do_chain(self):
        self.pool("chain", self.tasks(3000))

    def do_tree(self):
        self.pool("tree", self.tasks(3000))

    def do_random(self):
        self.pool("random", self.tasks(5000), "pools", self.tasks(5000))

    def do_fail(self):
        self.pool("fail", self.tasks())

    def do_client_dies(self):
        self.pool("map", 40 * self.options.tasks, after=0.3 * self.random.random())

    def do_worker_dies(self):
        """One of them, in the midst of a job; another one comes."""
        client = subprocess.Popen([CLIENT, self.hub.endpoint, "random", str(self.tasks(20000))], stdout=subprocess.DEVNULL)
        time.sleep(0.1 * self.random.random())
        dead = self.workers.pop(self.random.randrange(len(self.workers)))
        dead.kill()
        self.processes.remove(dead)
        self.workers.append(self.add_worker())
        if client.wait(300 * cluster.SLOW) != 0:
            raise Stays("a job did not outlive a worker")

    def do_worker_leaves(self):
        leaver = self.workers.pop(0)
        self.workers.append(self.add_worker())
        self.pool("map", self.tasks(1000))
        leaver.signal(signal.SIGTERM)
        if leaver.wait_exit(30) != 0:
            raise Stays(f"a worker left with {leaver.child.returncode}")
        self.processes.remove(leaver)
        leaver.kill()

    def do_kept(self):
        tasks = self.tasks(5000)
        self.pool("keep", tasks)
        self.pool("kept", tasks)

    def do_unread(self):
        """A client that does not read, and goes."""
        peer = wire.Peer(self.hub.endpoint, name="unread")
        peer.say("SUBMIT", key_hi=self.random.getrandbits(60), key_lo=1, graph=wire.SCHEMA.encode(
            "Graph", {"layer": [dict(tasks=10 * self.options.tasks, op=COUNT, wanted=True)]}))
        time.sleep(0.5 * self.random.random())
        peer.close()

    def do_detached(self):
        """Submitted by one client, cancelled by another one."""
        peer = wire.Peer(self.hub.endpoint)
        kind, accepted = peer.submit([dict(tasks=self.tasks(), op=COUNT, wanted=True)], detached=True)
        if kind != "ACCEPTED":
            raise Stays(accepted)
        peer.close()
        time.sleep(0.2 * self.random.random())
        job = str(accepted["job"])
        done = subprocess.run([cluster.BIN / "dray", "cancel", "--broker", self.hub.endpoint, job], capture_output=True)
        if done.returncode != 0:
            raise Stays(f"dray cancel: {done.returncode}, {done.stderr}")
        # What was done by then stays until somebody lets go of it.
        subprocess.run([cluster.BIN / "dray", "cancel", "--broker", self.hub.endpoint, job], capture_output=True)

    def do_commands(self):
        """Commands, and calls that fall."""
        peer = wire.Peer(self.hub.endpoint)
        argv = [b"/bin/sh", b"-c", b"echo $$; exit $(($$ % 2))"]
        kind, accepted = peer.submit([
            dict(tasks=self.tasks(40), op=wire.op(dict(command=dict(argv=argv))), wanted=True),
            dict(tasks=self.tasks(5), op=wire.op(dict(call=dict(plugin="hostile", function="segfault"))), wanted=True),
        ], failures_max=1000)
        if kind != "ACCEPTED":
            raise Stays(accepted)
        while self.random.random() < 0.95 and peer.hear_kind("RESULT", "JOB_ENDED", timeout=60)[0] == "RESULT":
            pass  # or it goes before the end
        peer.close()

    def do_strangers(self):
        for _ in range(20):
            sock = wire.connect(self.hub.endpoint)
            sock.sendall(self.random.randbytes(self.random.randrange(1, 300)))
            sock.close()

    # ---- what may stay

    def ask(self):
        self.watcher.say("CLUSTER_QUERY", tag=1)
        return self.watcher.hear_kind("CLUSTER", timeout=60)[1]

    def leftovers(self, base):
        """What is more than it was, as texts."""
        cluster_, found = self.ask(), []
        if (cluster_["jobs"], cluster_["clients"]) != (0, 1):
            self.watcher.say("JOB_QUERY", tag=1)
            jobs = [{k: v for k, v in j.items() if v} for j in self.watcher.hear_kind("JOBS")[1]["job"]]
            found.append(f"{cluster_['jobs']} jobs and {cluster_['clients']} clients: {jobs}")
        if len(cluster_["worker"]) != len(self.workers):
            found.append(f"{len(cluster_['worker'])} workers")
        held = sum(w["partitions"] for w in cluster_["worker"])
        if held:
            found.append(f"{held} partitions")
        if base is not None:
            broker, worker, fds = base
            if self.hub.fds() > fds:
                found.append(f"{self.hub.fds()} descriptors, not {fds}")
            if self.hub.rss() > broker + self.options.slack * MB and not cluster.SANITIZED:
                found.append(f"the broker's memory is {self.hub.rss() / MB:.1f} MB, not {broker / MB:.1f}")
            most = max(w.rss() for w in self.workers)
            if most > worker + 4 * self.options.slack * MB and not cluster.SANITIZED:
                found.append(f"a worker's memory is {most / MB:.1f} MB, not {worker / MB:.1f}")
        files = [str(p) for p in self.folder.rglob("*") if p.is_file()]
        if files:
            found.append(f"files: {files[:3]}")
        return found

    def settle(self, base):
        deadline = time.monotonic() + self.options.patience * cluster.SLOW
        while found := self.leftovers(base):
            if time.monotonic() > deadline:
                raise Stays("; ".join(found))
            time.sleep(0.05)

    def measure(self):
        return self.hub.rss(), max(w.rss() for w in self.workers), self.hub.fds()

    def run_rounds(self, say):
        kinds = [name[3:] for name in dir(self) if name.startswith("do_")]
        if self.options.only:
            kinds = self.options.only.split(",")
        for kind in kinds:  # all of them once: what is allocated once is there then
            getattr(self, "do_" + kind)()
        self.settle(None)
        time.sleep(0.5)
        base = self.measure()
        begin, rounds = time.monotonic(), 0
        say(f"broker {base[0] / MB:.1f} MB, workers {base[1] / MB:.1f} MB, {base[2]} descriptors")
        while time.monotonic() - begin < self.options.seconds or rounds < self.options.rounds:
            chosen = [self.random.choice(kinds) for _ in range(self.options.at_once)]
            for kind in chosen:
                getattr(self, "do_" + kind)()
            self.settle(base)
            rounds += 1
            now = self.measure()
            say(f"{time.monotonic() - begin:7.1f} s, round {rounds}: broker {now[0] / MB:.1f} MB, workers "
                f"{now[1] / MB:.1f} MB, {now[2]} descriptors ({', '.join(chosen)})")
        if re.search(r"dray-broker (error|fatal)", self.hub.text):
            raise Stays("the broker complains: " + re.search(r".*dray-broker error.*", self.hub.text)[0])
        return rounds


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--rounds", type=int, default=1, help="at least so many rounds (1)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what to repeat a run with")
    parser.add_argument("--tasks", type=int, default=100000, help="of the larger jobs (100000)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=3, help="jobs a round (3)")
    parser.add_argument("--slack", type=int, default=8, help="MB that the broker may have more than at first (8)")
    parser.add_argument("--patience", type=float, default=30, help="seconds after a round until nothing may be left (30)")
    parser.add_argument("--only", help="kinds of rounds, by comma")
    return parser.parse_args(argv)


def main(argv, say=print):
    options = parse(argv)
    say(f"seed {options.seed}")
    soak = Soak("begin")
    try:
        soak.begin(options)
        rounds = soak.run_rounds(say)
    except Stays as stays:
        say(f"this stays: {stays}")
        say(soak.hub.text[-3000:])
        return 1
    finally:
        soak.end()
    say(f"{rounds} rounds, and nothing stays")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
