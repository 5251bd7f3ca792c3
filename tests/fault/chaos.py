#!/usr/bin/python3
"""Jobs on a cluster of real processes, of which any is killed, stopped, restarted, sent away or cut off at random moments.  Each answer is
compared with that of an undisturbed run bit by bit, and the runs of tasks are counted and compared with what the losses require.

    tests/fault/chaos.py --rounds 200 [--seed N] [--roles worker,broker,client] [--jobs csv,graph,pool]

A line a round; exits with 1 at the first round that is not as it should be, with what the processes said in the folder that it names.  --seed
repeats the choices, not the moments of the machine."""
import argparse
import collections
import faulthandler
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import base  # puts tests/integration on the path
import badlink
import wire

BIN, SLOW = base.BIN, base.SLOW
BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", BIN.parent))
HEARTBEAT, TIMEOUT = 0.3, 1.6  # the latter: of workers, two heartbeats and a second
SCRIPT = """
df = read_csv("{csv}", blocksize={block})
df["amount"] = df.price * df.quantity
df.groupby(["category", "quantity"]).agg(n=("amount", "count"), total=("amount", "sum"), mean=("price", "mean"), spread=("price", "std")).compute()
"""
STEP = 'echo "$CHAOS_WORKER begin {name} {{index}}" >> {log}; {does}; echo "$CHAOS_WORKER end {name} {{index}}" >> {log}'
LAYERS = {  # name: (tasks, inputs, which inputs a task has)
    "a": (48, None, lambda i: []),
    "b": (48, "{task: a}", lambda i: [("a", i)]),
    "c": (8, "{task: b, elements: {groups: 6}}", lambda i: [("b", k) for k in range(6 * i, 6 * i + 6)]),
    "d": (1, "{task: c, elements: all}", lambda i: [("c", k) for k in range(8)]),
}
DOES = {"a": "sleep 0.02; seq {index} 400 | cksum", "b": "sleep 0.02; cat a* | cksum", "c": "sleep 0.02; cat b* | cksum", "d": "cat c* | cksum"}


class Wrong(Exception):
    """What a round should not do."""


def help_has(program, option):
    return option in subprocess.run([BIN / program, "--help"], capture_output=True, text=True).stdout


class Process:
    """One of the cluster's, whatever becomes of it."""

    def __init__(self, chaos, role, name, argv, **options):
        self.chaos, self.role, self.name = chaos, role, name
        self.log = chaos.folder / f"{name}.log"
        self.stopped = False
        self.log_from = self.log.stat().st_size if self.log.exists() else 0  # of others of this name
        env = dict(os.environ, CHAOS_WORKER=name)
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen([str(a) for a in argv], stderr=log, stdin=subprocess.DEVNULL, env=env, **options)

    def alive(self):
        return self.child.poll() is None

    def send(self, number):
        if self.alive():
            self.child.send_signal(number)
        self.stopped = number == signal.SIGSTOP

    def end(self, number=signal.SIGKILL, patience=30):
        """-9, or asked to; returns its exit code."""
        self.send(number)
        if self.stopped or number == signal.SIGKILL:
            self.send(signal.SIGCONT)
        try:
            return self.child.wait(patience * SLOW)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Wrong(f"{self.name} does not end when asked to") from None

    def text(self):
        return self.log.read_bytes()[self.log_from:].decode(errors="replace")


class Chaos:
    def __init__(self, options, say):
        self.options, self.say = options, say
        self.random = random.Random(options.seed)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dray-chaos-"))
        self.workers, self.clients = [], []
        self.broker = None
        self.born = 0
        self.tried = collections.Counter()
        self.extra = self.allowed = self.deaths = self.blamed = 0
        self.keeps_state = help_has("dray-broker", "--state") and not options.no_state
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.proxy = None

    def begin(self):
        self.start_broker()
        self.proxy = badlink.Proxy("127.0.0.1", self.port)
        while len(self.workers) < self.options.workers:
            self.start_worker()
        self.await_workers()

    # ---- processes

    def start_broker(self):
        state = ["--state", self.folder / "state"] if self.keeps_state else []
        end = time.monotonic() + 10 * SLOW
        while True:  # the port of one that was just killed may be in use for a moment
            reading, writing = os.pipe()
            self.broker = Process(self, "broker", "broker", [
                BIN / "dray-broker", "--listen", self.endpoint, "--heartbeat", HEARTBEAT, "--ready-fd", writing, "-v",
                "--allowed-failures", self.options.allowed_failures, *state],
                pass_fds=[writing])
            os.close(writing)
            with os.fdopen(reading) as pipe:
                if pipe.readline():
                    return
            self.broker.child.wait()
            if time.monotonic() > end:
                raise Wrong("the broker does not start: " + self.broker.text()[-500:])
            time.sleep(0.05)

    def start_worker(self):
        """Every third one behind a proxy, whose connection can be cut."""
        self.born += 1
        through = self.born % 3 == 1
        worker = Process(self, "worker", f"w{self.born}", [
            BIN / "dray-worker", self.proxy.endpoint if through else self.endpoint, "--name", f"w{self.born}", "--threads", 1,
            "--memory", "256M", "--reconnect", "120", "--scratch", self.folder, "-v"])
        worker.through = through
        self.workers.append(worker)

    def lose(self, worker, how, number):
        self.note(worker, how)
        code = worker.end(number)
        self.deaths += number == signal.SIGKILL
        begun = worker.log.stat().st_size > worker.log_from  # else the signal came before it could listen to it
        if number == signal.SIGTERM and code != 0 and (begun or code != -signal.SIGTERM):
            raise Wrong(f"{worker.name} left with {code}")
        self.workers.remove(worker)

    def note(self, worker, what):
        """Among the beginnings and ends of tasks, in their order."""
        with open(self.folder / "runs", "ab", buffering=0) as log:
            log.write(f"{worker.name} {what} - -\n".encode())

    def ask(self, kind, answer, **fields):
        peer = wire.Peer(self.endpoint, name="chaos")
        try:
            peer.say(kind, tag=1, **fields)
            return peer.hear_kind(answer, timeout=20 * SLOW)[1]
        finally:
            peer.say("BYE")
            peer.close()

    def patiently(self, what, condition, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while True:
            try:
                found = condition()
            except (OSError, AssertionError) as error:
                found = repr(error)
            if found is None:
                return
            if time.monotonic() > end:
                raise Wrong(f"{what}: {found}")
            time.sleep(0.05)

    def await_workers(self):
        def missing():
            there = {w["name"] for w in self.ask("CLUSTER_QUERY", "CLUSTER")["worker"]}
            wanted = {w.name for w in self.workers}
            return None if there == wanted else f"{sorted(there)}, not {sorted(wanted)}"
        self.patiently("workers that should be there", missing)

    def await_nothing_left(self):
        def left():
            cluster = self.ask("CLUSTER_QUERY", "CLUSTER")
            partitions = sum(w["partitions"] for w in cluster["worker"])
            jobs = self.ask("JOB_QUERY", "JOBS")["job"] if cluster["jobs"] else []
            return f"{partitions} partitions, jobs {jobs}" if partitions or jobs else None
        self.patiently("stays after the round", left, seconds=self.options.patience)

    # ---- jobs: the command line of each, and what it must print

    def prepare(self):
        self.csv = self.folder / "sales.csv"
        subprocess.run([BIN / "dray-bench", "gen-sales", "--size", self.options.size, self.csv], check=True, stdout=subprocess.DEVNULL)
        (self.folder / "job.dray").write_text(SCRIPT.format(csv=self.csv, block=self.options.block))
        lines = ["tasks:"]
        for name, (tasks, inputs, _) in LAYERS.items():
            does = STEP.format(name=name, does=DOES[name], log=self.folder / "runs").replace("{{index}}", "{index}")
            lines.append(f"  {name}: {{array: 0..{tasks - 1}, shell: {json.dumps(does)}"
                         f"{f', inputs: {inputs}' if inputs else ''}}}")
        (self.folder / "graph.yaml").write_text("\n".join(lines) + "\n")
        self.expected, self.takes = {}, {}
        for job in self.options.jobs.split(","):
            begin = time.monotonic()
            code, out, err = self.finish(self.start_client(job))
            if code != 0:
                raise Wrong(f"the undisturbed {job}: {code}, {err}")
            self.takes[job] = time.monotonic() - begin
            self.expected[job] = out
        self.say("undisturbed: " + ", ".join(f"{job} {seconds:.1f} s" for job, seconds in self.takes.items()))

    def start_client(self, job, *more):
        argv = {
            "csv": [BIN / "dray", "run", "--broker", self.endpoint, "-f", "csv", *more, self.folder / "job.dray"],
            "graph": [BIN / "dray", "submit", "--broker", self.endpoint, *more, self.folder / "graph.yaml"],
            "pool": [BUILD / "tests/bin/pool_client", self.endpoint, "random", 20000, *more],
        }[job]
        return self.client(argv)

    def client(self, argv):
        process = Process(self, "client", "client", argv, stdout=subprocess.PIPE)
        self.clients.append(process)
        return process

    def finish(self, client, patience=None):
        try:
            out, _ = client.child.communicate(timeout=(patience or self.options.patience) * SLOW)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{client.child.args} does not end: " + self.describe()) from None
        self.clients.remove(client)
        return client.child.returncode, out, client.text()

    def describe(self):
        """What the cluster says of its jobs."""
        try:
            return str([{k: v for k, v in job.items() if v} for job in self.ask("JOB_QUERY", "JOBS")["job"]]
                       + [{k: v for k, v in w.items() if v} for w in self.ask("CLUSTER_QUERY", "CLUSTER")["worker"]])
        except (OSError, AssertionError) as error:
            return f"and the broker does not answer: {error!r}"

    # ---- faults: each takes its time and leaves everything as it should be

    def pause(self):
        """Short, or long enough for being taken for lost."""
        return self.random.choice([0.2, 0.5, TIMEOUT + 0.7]) * self.random.uniform(0.7, 1.3)

    def worker_kill(self, worker):
        self.lose(worker, "killed", signal.SIGKILL)
        time.sleep(self.random.choice([0, 0.3]))
        self.start_worker()

    def worker_leave(self, worker):
        self.start_worker()
        self.lose(worker, "leaves", signal.SIGTERM)

    def worker_stop(self, worker):
        self.note(worker, "stopped")
        worker.send(signal.SIGSTOP)
        time.sleep(self.pause())
        worker.send(signal.SIGCONT)

    def all_workers_kill(self, worker):
        for each in list(self.workers):
            self.lose(each, "killed", signal.SIGKILL)
        while len(self.workers) < self.options.workers:
            self.start_worker()

    def link_reset(self, worker):
        for each in self.workers:
            if each.through:
                self.note(each, "cut")
        self.proxy.reset()

    def link_cut(self, worker):
        for each in self.workers:
            if each.through:
                self.note(each, "cut")
        way = self.random.choice(["there", "back", "both"])
        self.proxy.there.cut, self.proxy.back.cut = way != "back", way != "there"
        time.sleep(self.pause())
        self.proxy.cut(False)

    def link_slow(self, worker):
        self.proxy.there.delay = self.proxy.back.delay = 0.2
        time.sleep(self.pause())
        self.proxy.there.delay = self.proxy.back.delay = 0

    def broker_kill(self, worker):
        self.broker.end(signal.SIGKILL)
        time.sleep(self.random.choice([0, 0, 0.5]))
        self.start_broker()

    def broker_leave(self, worker):
        code = self.broker.end(signal.SIGTERM)
        if code != 0:
            raise Wrong(f"the broker left with {code}")
        self.start_broker()

    def broker_stop(self, worker):
        self.broker.send(signal.SIGSTOP)
        time.sleep(self.pause())
        self.broker.send(signal.SIGCONT)

    def client_stop(self, worker):
        for client in self.clients:
            client.send(signal.SIGSTOP)
        time.sleep(self.pause())
        for client in self.clients:
            client.send(signal.SIGCONT)

    def faults(self):
        roles = self.options.roles.split(",")
        names = [name for name in ("worker_kill", "worker_stop", "worker_leave", "all_workers_kill", "link_reset", "link_cut",
                                   "link_slow", "broker_kill", "broker_leave", "broker_stop", "client_stop")
                 if name.replace("all_workers", "worker").replace("link", "worker").split("_")[0] in roles]
        if not self.keeps_state:
            names = [name for name in names if name not in ("broker_kill", "broker_leave")]
        if self.options.faults:
            names = [name for name in names if name in self.options.faults.split(",")]
        return names

    # ---- a round

    def account(self):
        """Runs of tasks of the graph beyond one each, and how many the losses of this round require: what was lost and still
        needed, what that was made of and had been released since, and what ran where something happened."""
        ended, holders, running, allowed, begun = set(), {}, {}, 0, 0
        handed_over = set()  # by workers that left: to whom is not known
        dead = set()  # what they end after that was noted has gone with them
        readers, made_of = collections.defaultdict(list), {}
        for name, (tasks, _, inputs) in LAYERS.items():
            for i in range(tasks):
                made_of[name, i] = inputs(i)
                for source in inputs(i):
                    readers[source].append((name, i))

        def is_held(task):
            return task in ended and (task[0] == "d" or any(r not in ended for r in readers[task]))

        def lost_with(worker):
            found = {t for t in holders.get(worker, set()) | handed_over if is_held(t)}
            left = list(found)
            while left:
                for source in made_of[left.pop()]:
                    if source not in found and source in ended and not is_held(source):
                        found.add(source)
                        left.append(source)
            return found
        for line in (self.folder / "runs").read_text().splitlines():
            worker, what, name, index = line.split()
            if what == "begin":
                begun += 1
                running.setdefault(worker, set()).add((name, int(index)))
            elif what == "end" and worker in dead:
                continue
            elif what == "end":
                task = (name, int(index))
                running.setdefault(worker, set()).discard(task)
                ended.add(task)
                holders.setdefault(worker, set()).add(task)
            elif what == "leaves":
                handed_over |= holders.pop(worker, set())
            else:
                lost = lost_with(worker)
                allowed += len(lost) + len(running.get(worker, ())) + 1  # one may begin while we write
                # Who was stopped or cut off may come back with all of it, or may not.
                if what == "killed":
                    dead.add(worker)
                    holders.pop(worker, None)
                    ended -= lost
        return begun - sum(tasks for tasks, _, _ in LAYERS.values()), allowed

    def round(self):
        job = self.random.choice(list(self.expected))
        names = [self.random.choice(self.faults()) for _ in range(self.random.choice([1, 1, 2, 3]))]
        moments = sorted(self.random.uniform(0, self.takes[job]) for _ in names)
        (self.folder / "runs").write_text("")
        begin = time.monotonic()
        self.deaths = 0
        client = self.start_client(job)
        for name, moment in zip(names, moments):
            time.sleep(max(0, begin + moment - time.monotonic()))
            self.tried[name] += 1
            getattr(self, name)(self.random.choice(self.workers))
        code, out, err = self.finish(client)
        took = time.monotonic() - begin
        # As far as the broker can know, it died of what it ran alone, as others did that had run that before.
        if code != 0 and self.deaths >= self.options.allowed_failures and "workers died while they ran" in err:
            self.blamed += 1
            self.await_workers()
            self.await_nothing_left()
            return f"{took:5.1f} s {job:5} {', '.join(names)}: a task was blamed for {self.deaths} deaths"
        if code != 0:
            raise Wrong(f"{job} with {names}: exit code {code}, {err[-2000:]}")
        if out != self.expected[job]:
            (self.folder / "expected").write_bytes(self.expected[job])
            (self.folder / "got").write_bytes(out)
            raise Wrong(f"{job} with {names}: the answer differs (see expected and got)")
        count = ""
        if job == "graph":
            extra, allowed = self.account()
            self.extra, self.allowed = self.extra + extra, self.allowed + allowed
            count = f", {extra} runs more, {allowed} may be"
            if extra > allowed and not {"broker_kill", "broker_stop", "broker_leave"} & set(names):
                shutil.copy(self.folder / "runs", self.folder / "runs-too-many")
                raise Wrong(f"{job} with {names}: {extra} runs more than tasks, where {allowed} may be")
        self.await_workers()
        self.await_nothing_left()
        return f"{took:5.1f} s {job:5} {', '.join(names)}{count}"

    def run(self):
        self.begin()
        self.prepare()
        begin, rounds = time.monotonic(), 0
        while rounds < self.options.rounds or time.monotonic() - begin < self.options.seconds:
            line = self.round()
            rounds += 1
            self.say(f"{rounds:4} {line}")
        return rounds

    def close(self, keep):
        for process in [*self.clients, *self.workers, *([self.broker] if self.broker else [])]:
            if process.alive():
                process.end()
        if self.proxy is not None:
            self.proxy.close()
        if keep:
            self.say(f"see {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="at least so many (1)")
    parser.add_argument("--seconds", type=float, default=0, help="at least so long (0)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the choices")
    parser.add_argument("--roles", default="worker,broker,client", help="to whom something happens")
    parser.add_argument("--faults", help="only these, by comma: worker_kill, worker_stop, worker_leave, all_workers_kill, link_reset, link_cut, "
                        "link_slow, broker_kill, broker_leave, broker_stop, client_stop")
    parser.add_argument("--jobs", default="csv,graph,pool", help="which (csv,graph,pool)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--size", default="40M", help="of the CSV file (40M)")
    parser.add_argument("--block", type=int, default=20000, help="bytes a task of it (20000)")
    parser.add_argument("--allowed-failures", type=int, default=10,
                        help="the broker's (10: deaths of workers that no round brings; with fewer, a task may be blamed for them)")
    parser.add_argument("--no-state", action="store_true", help="the broker keeps nothing, and is not killed")
    parser.add_argument("--patience", type=float, default=60, help="seconds that a round may take (60)")
    return parser.parse_args(argv)


def main(argv, say=print):
    options = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    say(f"seed {options.seed}")
    chaos = Chaos(options, say)
    wrong = True
    try:
        rounds = chaos.run()
        wrong = False
    except Wrong as error:
        say(f"wrong: {error}")
        return 1
    finally:
        chaos.close(wrong)
    say("tried: " + ", ".join(f"{name} {count}" for name, count in sorted(chaos.tried.items())))
    say(f"{chaos.extra} runs of tasks more than there are, where {chaos.allowed} may be")
    blamed = f" but {chaos.blamed}, which ended with a task that was blamed" if chaos.blamed else ""
    say(f"{rounds} rounds, all answers the same{blamed}")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    faulthandler.cancel_dump_traceback_later()  # of tests, which take their time; each round has its patience
    sys.exit(main(sys.argv[1:]))
