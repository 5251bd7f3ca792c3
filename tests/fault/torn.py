#!/usr/bin/python3
"""Power cuts: the broker is killed in the middle of bursts of several clients, and of what it had written and not synced yet any
part is taken back, sector by sector, before it is started again.

    tests/fault/torn.py --rounds 300 [--seed N]

After each start: what a client was told to be taken is there as it was sent; what was not answered is sent again, and each job is there
once; each command has run once in the end.  Exits with 1 at the first round that is not so."""
import argparse
import collections
import faulthandler
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import base  # puts tests/integration on the path
import wire
from hub import COUNT, STATE, pack, shell

BIN, SLOW = base.BIN, base.SLOW
BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", BIN.parent))
SHIM = BUILD / "tests/fault/torn_disk.so"
SECTOR = 512
LOOK_AT = 60  # jobs a round, besides those of the last one


class Wrong(Exception):
    """What a round should not do."""


class Job:
    def __init__(self, key, note, runs):
        self.key, self.note, self.runs = key, note, runs
        self.number = None  # when it was told to be taken
        self.pushed = 0     # layers that were sent; None: it is no open one
        self.layers = 0     # ... and told to be safe
        self.names = set()


def hear(peer, *kinds):
    """The next message of these types; results and ends of jobs come as they like."""
    end = time.monotonic() + 20 * SLOW
    while True:
        kind, message, _ = peer.hear(max(0.01, end - time.monotonic()))
        if kind in kinds:
            return kind, message
        if kind in ("REJECTED", "BYE"):
            raise Wrong(f"{kind}: {message}")


class Client(threading.Thread):
    """A burst until the connection ends: jobs of all sizes, layers, names."""

    def __init__(self, torn, jobs, dice):
        super().__init__(daemon=True)
        self.torn, self.jobs, self.dice = torn, jobs, dice
        self.names, self.wrong = {}, None

    def run(self):
        try:
            self.talk()
        except (OSError, wire.Closed):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.wrong = error

    def talk(self):
        peer = wire.Peer(self.torn.listen)
        self.by_key = {job.key: job for job in self.jobs}
        self.by_number, self.tag, self.waiting = {}, 0, {}
        for job in self.jobs:
            self.torn.submit(peer, job)
            if self.dice.random() < 0.3:
                self.listen(peer, self.dice.choice([0.0005, 0.003]))
        while True:
            self.listen(peer, 0.5)

    def listen(self, peer, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                kind, message, _ = peer.hear(left)
            except TimeoutError:
                return
            if kind == "ACCEPTED":
                job = self.by_key[message["key_lo"]]
                job.number = message["job"]
                self.by_number[job.number] = job
                self.go_on(peer, job)
            elif kind == "EXTENDED":
                job = self.by_number[message["job"]]
                job.layers = max(job.layers, message["layers"])
            elif kind == "REPLY":
                job, name = self.waiting.pop(message["tag"])
                if "why" in message:
                    raise Wrong(f"a name was refused: {message}")
                job.names.add(name)
            elif kind in ("REJECTED", "BYE"):
                raise Wrong(f"{kind}: {message}")

    def go_on(self, peer, job):
        for _ in range(self.dice.choice([0, 1, 3]) if job.pushed is not None else 0):
            self.torn.extend(peer, job)
        if self.dice.random() < 0.2:
            self.tag += 1
            name = f"{job.key}-{self.tag}"
            self.waiting[self.tag] = job, name
            peer.say("KEEP", tag=self.tag, job=job.number, name=name)


class Torn:
    def __init__(self, options, say):
        self.options, self.say = options, say
        self.random = random.Random(options.seed)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dray-torn-"))
        self.state, self.undo = self.folder / "state", self.folder / "undo"
        self.undo.mkdir()
        self.log = self.folder / "ran"
        self.log.write_text("")
        self.listen = f"ipc://{self.folder}/b"
        self.broker = self.worker = None
        self.key, self.jobs = 0, []
        self.seen = collections.Counter()
        self.tears = SHIM.exists() and not os.environ.get("DRAY_SANITIZE")

    # ---- processes

    def start_broker(self):
        reading, writing = os.pipe()
        env = dict(os.environ)
        if self.tears:
            env.update(LD_PRELOAD=str(SHIM), TORN_DISK=str(self.undo))
        with open(self.folder / "broker.log", "ab") as log:
            begun = log.tell()
            self.broker = subprocess.Popen([BIN / "dray-broker", "--listen", self.listen, "--state", self.state, "--heartbeat", "0.3",
                                            "--recover-grace", "5", "--orphan-grace", "600", "--ready-fd", str(writing)],
                                           stderr=log, stdin=subprocess.DEVNULL, pass_fds=[writing], env=env)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            ready = pipe.readline()
        said = (self.folder / "broker.log").read_bytes()[begun:].decode(errors="replace")
        if not ready:
            raise Wrong(f"the broker does not start: {said}")
        self.seen["damage said"] += "is damaged at byte" in said
        if "is damaged" in said.replace("is damaged at byte", ""):
            raise Wrong(f"after a power cut nothing that counts is damaged: {said}")

    def kill_broker(self):
        self.broker.send_signal(signal.SIGKILL)
        self.broker.wait()

    def start_worker(self):
        with open(self.folder / "worker.log", "ab") as log:
            self.worker = subprocess.Popen([BIN / "dray-worker", self.listen, "--threads", "2", "--memory", "1G", "--reconnect", "120",
                                            "--scratch", self.folder], stderr=log, stdin=subprocess.DEVNULL)

    # ---- the disk

    def cut_power(self):
        """Of what was written and not synced, any sector may have got to the disk, or not; a file may be as short as it was."""
        how = self.random.choice(["nothing", "all", "any", "any", "late"])
        for undo in self.undo.iterdir():
            entries, data, at = [], undo.read_bytes(), 0
            while at + 32 <= len(data):
                place, there, size, length = struct.unpack_from("<4Q", data, at)
                if at + 32 + there > len(data):
                    break  # killed while it was remembered: it was not written
                entries.append((place, data[at + 32:at + 32 + there], size, length))
                at += 32 + there
            undo.unlink()
            if entries:
                self.tear(self.state / undo.name, entries, how)

    def tear(self, path, entries, how):
        try:
            file = bytearray(path.read_bytes())
        except FileNotFoundError:
            return
        if how == "late":  # in order, up to somewhere
            entries = entries[self.random.randrange(len(entries)):]
        dice = {"nothing": 0, "all": 1, "late": 1, "any": self.random.random()}[how]
        taken_back = set()
        shortest = min(length for _, _, _, length in entries)
        end = len(file)
        for place, old, size, _ in reversed(entries):
            if len(file) < place + len(old):
                file.extend(bytes(place + len(old) - len(file)))
            for sector in range(place // SECTOR, (place + size + SECTOR - 1) // SECTOR):
                if sector not in taken_back and self.random.random() >= dice:
                    continue
                taken_back.add(sector)  # and all that it was before
                begin, stop = max(place, sector * SECTOR), min(place + size, (sector + 1) * SECTOR)
                was = old[begin - place:stop - place]
                file[begin:begin + len(was)] = was
                file[begin + len(was):stop] = bytes(max(0, min(stop, len(file)) - begin - len(was)))
        self.seen["sectors taken back"] += len(taken_back)
        if how != "nothing" and end > shortest:
            end = self.random.choice([end, self.random.randrange(shortest, end + 1), shortest if how == "all" else end])
        path.write_bytes(file[:max(end, shortest)])

    # ---- jobs

    def make_jobs(self):
        for _ in range(self.random.randrange(1, 12)):
            self.key += 1
            kind = self.random.random()
            # Small, a few pages, and files of their own.
            note = self.random.randbytes(self.random.choice([0, 10, 10, 3000, 60000, 500000]) if kind < 0.97 else 900000)
            job = Job(self.key, note, kind < 0.4)
            job.pushed = 0 if kind > 0.8 else None
            yield job

    def submit(self, peer, job):
        op = shell(f"echo {job.key} >> {self.log}") if job.runs else COUNT
        graph = b"" if job.pushed is not None else pack([dict(tasks=1, op=op, wanted=True)])
        peer.say("SUBMIT", key_hi=7, key_lo=job.key, graph=graph, detached=True, open=job.pushed is not None, note=job.note)

    def extend(self, peer, job):
        size = self.random.choice([0, 100, 5000, 120000])
        layers = [dict(tasks=1, op=shell("# " + "x" * size) if size else COUNT, wanted=True)]
        if self.random.random() < 0.05:  # a file of its own
            layers = layers * 10 if size > 60000 else layers
        peer.say("EXTEND", job=job.number, first_layer=job.pushed, graph=pack(layers))
        job.pushed += len(layers)

    def look(self, peer, job):
        """What was said to be safe is so."""
        peer.say("ATTACH", tag=1, job=job.number, look=True)
        attached = hear(peer, "ATTACHED")[1]
        if "why" in attached:
            raise Wrong(f"job {job.number} (key {job.key}) was taken, and is gone: {attached}")
        if attached.get("note", b"") != job.note:
            raise Wrong(f"job {job.number} (key {job.key}) has another note")
        if len(attached["layer"]) < job.layers:
            raise Wrong(f"job {job.number} (key {job.key}) has {len(attached['layer'])} layers, {job.layers} were safe")
        if job.pushed is not None:
            job.layers = job.pushed = len(attached["layer"])
        if not job.names:
            return
        peer.say("JOB_QUERY", tag=2, job=job.number, brief=True)
        kept = set(hear(peer, "JOBS")[1]["job"][0]["kept"])
        if not job.names <= kept:
            raise Wrong(f"job {job.number} has not the names {sorted(job.names - kept)}")

    def check(self, fresh):
        """All of them; what was not answered is submitted again."""
        peer = wire.Peer(self.listen)
        by_key = {job.key: job for job in [*fresh, *self.jobs]}
        numbers = {}
        again = [job for job in self.jobs if self.random.random() < 0.2][:LOOK_AT] + fresh
        for job in again:
            self.submit(peer, job)
        for _ in again:
            kind, message = hear(peer, "ACCEPTED", "REJECTED", "REPLY")
            if kind != "ACCEPTED":
                raise Wrong(f"{kind}: {message}")
            job = by_key[message["key_lo"]]
            if job.number not in (None, message["job"]):
                raise Wrong(f"key {job.key} was job {job.number}, and is now {message['job']}")
            self.seen["unanswered"] += job.number is None
            job.number = message["job"]
        for job in by_key.values():
            if numbers.setdefault(job.number, job) is not job:
                raise Wrong(f"two jobs have the number {job.number}: keys {job.key} and {numbers[job.number].key}")
        for job in [*fresh, *self.random.sample(self.jobs, min(LOOK_AT, len(self.jobs)))]:
            self.look(peer, job)
        peer.say("BYE")
        peer.close()

    def ran(self):
        return collections.Counter(map(int, self.log.read_text().split()))

    def round(self):
        clients = [Client(self, list(self.make_jobs()), random.Random(self.random.random())) for _ in range(self.options.clients)]
        for client in clients:
            client.start()
        time.sleep(self.random.choice([0.02, 0.2, 0.6, 1.2]) * self.random.random() * SLOW)
        self.kill_broker()
        for client in clients:
            client.join(30)
            if client.wrong is not None:
                raise Wrong(f"a client: {client.wrong!r}")
        if self.tears:
            self.cut_power()
        self.start_broker()
        fresh = [job for client in clients for job in client.jobs]
        self.seen["answered"] += sum(job.number is not None for job in fresh)
        self.check(fresh)
        self.jobs += fresh
        twice = [key for key, times in self.ran().items() if times > 1]
        if twice:
            raise Wrong(f"commands of the keys {twice} ran more than once")
        self.drop()

    def drop(self):
        """Some that ran nothing go (or come back with a power cut: nobody looks)."""
        peer = wire.Peer(self.listen)
        for job in [job for job in self.jobs if not job.runs and not job.names and self.random.random() < 0.1]:
            peer.say("ATTACH", tag=3, job=job.number)
            peer.say("FREE", job=job.number)
            self.jobs.remove(job)
        peer.say("BYE")
        peer.close()

    def finish(self):
        """Each command has run, once."""
        peer = wire.Peer(self.listen)
        end = time.monotonic() + 60 * SLOW
        for job in [job for job in self.jobs if job.pushed is None]:
            while True:
                peer.say("JOB_QUERY", tag=2, job=job.number, brief=True)
                found = hear(peer, "JOBS")[1]["job"][0]
                if found["state"] == STATE["DONE"]:
                    break
                if time.monotonic() > end:
                    raise Wrong(f"job {job.number} does not end: {found}")
                time.sleep(0.02)
        peer.close()
        wanted = collections.Counter(job.key for job in self.jobs if job.runs)
        if self.ran() != wanted:
            raise Wrong(f"ran more or less than once: {self.ran() - wanted}, {wanted - self.ran()}")

    def run(self):
        self.start_broker()
        self.start_worker()
        for number in range(1, self.options.rounds + 1):
            self.round()
            if number % 20 == 0:
                self.say(f"{number:4} {len(self.jobs)} jobs, {dict(self.seen)}")
        self.finish()

    def close(self, keep):
        for process in (self.worker, self.broker):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if keep:
            self.say(f"see {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def main(argv, say=print):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="power cuts (20)")
    parser.add_argument("--clients", type=int, default=4, help="that talk at once (4)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the choices, not of the machine's moments")
    options = parser.parse_args(argv)
    say(f"seed {options.seed}")
    torn = Torn(options, say)
    wrong = True
    try:
        torn.run()
        wrong = False
    except (Wrong, OSError, wire.Closed, AssertionError) as error:
        say(f"wrong: {error!r}")
        return 1
    finally:
        torn.close(wrong)
    say(f"{options.rounds} power cuts, all as it was said to be: {dict(torn.seen)}" + ("" if torn.tears else "; nothing was torn"))
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    faulthandler.cancel_dump_traceback_later()  # of tests
    sys.exit(main(sys.argv[1:]))
