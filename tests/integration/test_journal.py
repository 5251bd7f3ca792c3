#!/usr/bin/python3
"""A broker that dies and comes back with the same state folder: what it said to have taken goes on, and ends with the
same bits."""
import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import unittest

import cluster
import wire
from hub import COUNT, STATE, HubTest, pack, shell

ERESTART = 85


class Journal(HubTest):
    # ---- what was taken is there

    def test_what_was_accepted_is_there(self):
        hub = self.start_hub()
        client = self.peer()
        kind, one = self.submit(client, [dict(tasks=3, op=COUNT, wanted=True, name="first")], 1, detached=True,
                                name="one", note=b"a note", priority=3)
        self.assertEqual(kind, "ACCEPTED")
        kind, two = self.submit(client, [], 2, open=True, detached=True)
        client.say("EXTEND", job=two["job"], first_layer=0, graph=pack([dict(tasks=2, op=COUNT, wanted=True)]))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=two["job"], layers=1))
        client.say("KEEP", tag=3, job=one["job"], name="sales of may")
        self.assertNotIn("why", self.hear(client, "REPLY")[1])
        incarnation = client.welcome["incarnation"]
        self.restart_hub()
        self.hub.wait_text("2 jobs were known before, 2 of them go on")
        client = self.peer()
        self.assertEqual(client.welcome["incarnation"], incarnation)
        job = self.job(one["job"], client)
        self.assertEqual((job["name"], job["priority"], job["tasks"], job["kept"], job["detached"]),
                         ("one", 3, 3, ["sales of may"], True))
        self.assertLess(job["age_us"], 60e6 * cluster.SLOW)
        self.assertEqual(self.job(two["job"], client)["tasks"], 2)
        # The same key is the same job (a number was kept ready for it), and another one has another number.
        self.assertEqual(self.submit(client, [dict(tasks=3, op=COUNT)], 1)[1]["job"], one["job"])
        self.assertEqual(self.submit(client, [dict(tasks=1, op=COUNT)], 3)[1]["job"], two["job"] + 2)
        # What came before is a repetition, and the job goes on from there.
        attached = self.attach(client, two["job"])
        self.assertEqual(len(attached["layer"]), 1)
        client.say("EXTEND", job=two["job"], first_layer=0, graph=pack([dict(tasks=2, op=COUNT, wanted=True)]))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=two["job"], layers=1))
        client.say("EXTEND", job=two["job"], first_layer=1, last=True,
                   graph=pack([dict(tasks=4, op=COUNT, wanted=True)]))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=two["job"], layers=2, last=True))
        attached = self.attach(client, one["job"])
        self.assertEqual(attached["note"], b"a note")
        self.restart_hub()
        self.worker(self.listen)
        for number in one["job"], two["job"]:
            self.wait_state(number, "DONE")
        client = self.peer()
        self.attach(client, two["job"])
        results, ended = self.results(client)
        self.assertEqual(sorted(results), [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)])
        client.say("UNKEEP", tag=4, name="sales of may")
        self.assertNotIn("why", self.hear(client, "REPLY")[1])
        self.restart_hub()
        self.assertEqual(self.job(one["job"])["kept"], [])
        self.stop(self.hub)

    def test_what_was_refused_is_not_there(self):
        self.start_hub("--jobs-max", "1")
        client = self.peer()
        one = self.submit(client, [dict(tasks=1, op=COUNT)], 1, detached=True)[1]["job"]
        kind, refused = self.submit(client, [dict(tasks=1, op=COUNT)], 2, detached=True)
        self.assertEqual((kind, refused["key_lo"]), ("REJECTED", 2))
        self.assertIn("limit", refused["why"]["text"])
        client.say("SUBMIT", key_hi=7, key_lo=3, graph=b"\xff\xff\xff\x77")  # which is none
        kind, refused, _ = self.hear(client, "ACCEPTED", "REJECTED")
        self.assertEqual((kind, refused["key_lo"]), ("REJECTED", 3))
        self.restart_hub()
        client = self.peer()
        client.say("JOB_QUERY", tag=1)
        self.assertEqual([j["job"] for j in self.hear(client, "JOBS")[1]["job"]], [one])
        self.assertEqual(self.submit(client, [dict(tasks=1, op=COUNT)], 2, detached=True)[0], "ACCEPTED")

    def test_who_connects_anew_comes_after_what_he_said(self):
        """A client whose connection is cut right behind what it pushed has its job when it attaches again."""
        self.start_hub()
        for round_ in range(20 // cluster.SLOW):
            incarnation = int.from_bytes(os.urandom(8), "little")
            client = self.peer(incarnation=incarnation)
            job = self.submit(client, [], round_, open=True)[1]["job"]
            layer = pack([dict(tasks=1, op=COUNT, wanted=True, name="x" * 200)])
            for first in range(20):
                client.say("EXTEND", job=job, first_layer=first, graph=layer)
            again = self.peer(incarnation=incarnation)
            again.say("ATTACH", tag=5, job=job, again=True)
            kind, message, _ = self.hear(again, "ATTACHED", "REJECTED")
            self.assertEqual((kind, message.get("why")), ("ATTACHED", None), self.hub.text)
            again.say("EXTEND", job=job, first_layer=len(message["layer"]), graph=layer)
            kind, message, _ = self.hear(again, "EXTENDED", "REJECTED", "JOB_ENDED")
            self.assertEqual(kind, "EXTENDED", message)
            client.close()
            again.say("BYE")
            again.close()

    def test_layers_of_a_client_that_has_lost_the_job(self):
        """They were written down before that was known, and are none of the job after a restart either."""
        self.start_hub()
        first, second = self.peer(), self.peer()
        job = self.submit(first, [], 1, open=True, detached=True)[1]["job"]
        self.attach(second, job)
        self.assertEqual(self.hear(first, "REJECTED")[1]["job"], job)
        for layer in dict(tasks=3, op=COUNT, wanted=True), dict(tasks=3, op=shell("# " + "x" * (2 << 20))):
            first.say("EXTEND", job=job, first_layer=0, graph=pack([layer]))
            self.hear(first, "EXTENDED")
        until = time.monotonic() + 10 * cluster.SLOW
        while list((self.state / "graphs").iterdir()) and time.monotonic() < until:  # it goes when that is on the disk
            time.sleep(0.1)
        self.assertEqual(list((self.state / "graphs").iterdir()), [])
        self.restart_hub()
        second = self.peer()
        self.assertEqual(self.attach(second, job).get("layer", []), [])
        second.say("EXTEND", job=job, first_layer=0, last=True, graph=pack([dict(tasks=2, op=COUNT, wanted=True)]))
        self.assertEqual(self.hear(second, "EXTENDED")[1], dict(job=job, layers=1, last=True))
        self.restart_hub()
        self.worker(self.listen)
        self.wait_state(job, "DONE")
        second = self.peer()
        self.attach(second, job)
        self.assertEqual(sorted(self.results(second)[0]), [(0, 0), (0, 1)])
        self.stop(self.hub)

    def test_layers_that_come_with_some_that_are_there(self):
        self.start_hub()
        client = self.peer()
        job = self.submit(client, [], 1, open=True, detached=True)[1]["job"]
        layers = [dict(tasks=n, op=COUNT, wanted=True) for n in (1, 2)]
        client.say("EXTEND", job=job, first_layer=0, graph=pack(layers[:1]))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=job, layers=1))
        client.say("EXTEND", job=job, first_layer=0, graph=pack(layers))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=job, layers=2))
        self.restart_hub()
        self.assertEqual(len(self.attach(self.peer(), job)["layer"]), 2)
        self.stop(self.hub)

    def test_what_is_known_is_not_written_again(self):
        self.start_hub()
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT)], 1)[1]["job"]
        for _ in range(20):
            self.assertNotIn("why", self.attach(client, job, detach=True))
        self.kill_hub()
        with contextlib.closing(sqlite3.connect(self.state / "journal.db")) as journal:
            self.assertEqual(journal.execute("SELECT count(*) FROM record WHERE kind = 8").fetchone(), (1,))

    def test_workers_that_do_not_come_back_are_waited_for_once(self):
        self.start_hub()
        job = self.submit(self.peer(), [dict(tasks=1, op=shell("exit 0"), wanted=True)], 1, detached=True)[1]["job"]
        self.peer(role="WORKER")  # of another host
        self.settle(job)
        self.kill_hub()
        self.start_hub("--recover-grace", "0.3")
        self.hub.wait_text("1 workers may come back")
        for _ in range(10):
            time.sleep(0.6 * cluster.SLOW)  # a broker that is held up may need longer
            self.settle(job)
            self.restart_hub("--recover-grace", "0.3")
            self.hub.wait_text("workers may come back")
            if "; 0 workers may come back" in self.hub.text:
                break
        self.assertIn("; 0 workers may come back", self.hub.text)
        self.stop(self.hub)

    def test_numbers_are_not_used_twice(self):
        self.start_hub()
        client = self.peer()
        first = self.submit(client, [dict(tasks=1, op=COUNT)], 1)[1]["job"]
        client.say("FREE", job=first)
        deadline = time.monotonic() + 10 * cluster.SLOW
        while self.job(first, client) is not None:
            self.assertLess(time.monotonic(), deadline)
        second = self.submit(client, [dict(tasks=1, op=COUNT)], 2, detached=True)[1]["job"]
        self.assertEqual(second, first + 1)  # and what was written along before is safe with it
        numbers = {client.welcome["peer"]}
        for key in range(3, 6):
            self.restart_hub()
            client = self.peer()
            self.assertIsNone(self.job(first, client))
            self.assertNotIn(client.welcome["peer"], numbers)
            numbers.add(client.welcome["peer"])
            self.assertEqual(self.submit(client, [dict(tasks=1, op=COUNT)], key, detached=True)[1]["job"],
                             first + key - 1)

    # ---- work goes on

    def test_job_of_a_killed_broker_goes_on(self):
        """Again and again, at any moment; workers keep what they have, the client attaches again."""
        dice = random.Random(5)
        layers = [dict(tasks=60, op=shell("sleep 0.02; echo $0"), name="a"),
                  dict(tasks=60, op=COUNT, input=[dict(layer=0, pattern="ONE_TO_ONE")], name="b"),
                  dict(tasks=1, op=COUNT, input=[dict(layer=1, pattern="ALL")], wanted=True),
                  dict(tasks=60, op=COUNT, input=[dict(layer=0, pattern="ONE_TO_ONE")], wanted=True)]
        undisturbed = None
        self.start_hub()
        workers = [self.worker(self.listen) for _ in range(2)]
        for key in range(3):
            client = self.peer()
            kind, accepted = self.submit(client, layers, key, detached=key == 2)
            self.assertEqual(kind, "ACCEPTED", accepted)
            for _ in range(3 if key > 0 else 0):
                time.sleep(dice.random() * 0.8)
                client.close()
                self.restart_hub()
                client = self.peer()
                attached = self.attach(client, accepted["job"], again=True)
                self.assertNotIn("why", attached, self.hub.text)
            results, ended = self.results(client)
            self.assertEqual(ended["state"], STATE["DONE"], (ended, self.hub.text))
            self.assertEqual(len(results), 61)
            undisturbed = undisturbed or results
            self.assertEqual(results, undisturbed)
            client.say("FREE", job=accepted["job"])
            client.close()
        for worker in workers:
            self.assertIsNone(worker.child.poll(), worker.text)
            self.assertNotIn("starting over", worker.text)

    def test_a_submit_that_was_not_answered_runs_once(self):
        """Killed while clients submit: each submits again with the same key, and each job is there once."""
        dice = random.Random(6)
        log = self.folder / "ran"
        self.start_hub()
        self.worker(self.listen)
        key, accepted = 0, {}
        for _ in range(4):
            client = self.peer()
            for _ in range(5):
                key += 1
                client.say("SUBMIT", key_hi=7, key_lo=key, detached=True,
                           graph=pack([dict(tasks=1, op=shell(f"echo {key} >>{log}"), wanted=True)]))
            time.sleep(dice.random() * 0.02)
            self.kill_hub()
            try:
                while True:
                    kind, message, _ = client.hear(0.1)
                    if kind == "ACCEPTED":
                        accepted[message["key_lo"]] = message["job"]
            except (OSError, wire.Closed):
                client.close()
            self.start_hub()
            client = self.peer()
            for again in range(1, key + 1):
                number = self.submit(client, [dict(tasks=1, op=shell(f"echo {again} >>{log}"), wanted=True)], again,
                                     detached=True)[1]["job"]
                self.assertEqual(accepted.setdefault(again, number), number)
            client.say("BYE")
            client.close()
        for number in accepted.values():
            self.wait_state(number, "DONE")
        self.assertEqual(sorted(map(int, log.read_text().split())), list(range(1, key + 1)))

    def test_what_is_over_is_not_done_again(self):
        log = self.folder / "ran"
        self.start_hub()
        worker = self.worker(self.listen)
        client = self.peer()
        layers = [dict(tasks=20, op=shell(f"echo x >>{log}; test -e {self.folder}/go || sleep 0.05"), wanted=True)]
        job = self.submit(client, layers, 1)[1]["job"]
        freed = 0
        while freed < 10:
            _, message, _ = self.hear(client, "RESULT", timeout=20)
            client.say("FREE", job=job, run=[dict(job=job, layer=0, first=[message["index"]], count=[1])])
            freed += 1
        self.job(job, client)  # behind the last FREE
        self.settle(job)
        self.kill_hub()
        self.stop(worker, signal.SIGKILL, -signal.SIGKILL)  # with all that it holds
        ran = len(log.read_text().split())
        self.start_hub()
        self.hub.wait_text("1 of this host have ended")
        self.worker(self.listen)
        client = self.peer()
        self.attach(client, job, again=True)
        results, ended = self.results(client)
        self.assertEqual(ended["state"], STATE["DONE"])
        self.assertEqual(len(results), 10)
        self.assertLessEqual(len(log.read_text().split()), ran + 10 + 1)
        self.assertEqual(self.job(job)["done"], 20)

    def test_ends_are_remembered(self):
        self.start_hub()
        self.worker(self.listen)
        client = self.peer()
        failed = self.submit(client, [dict(tasks=4, op=COUNT, wanted=True),
                                      dict(tasks=3, op=shell("echo too bad >&2; exit 3"), wanted=True,
                                           input=[dict(layer=0, pattern="ALL")])], 1, detached=True)[1]["job"]
        some = self.submit(client, [dict(tasks=3, op=COUNT, wanted=True),
                                    dict(tasks=1, op=shell("exit 4"), wanted=True)], 2, detached=True,
                           failures_max=5)[1]["job"]
        cancelled = self.submit(client, [dict(tasks=2, op=COUNT, wanted=True),
                                         dict(tasks=3, op=shell("sleep 60"), wanted=True,
                                              input=[dict(layer=0, pattern="ALL")])], 3, detached=True)[1]["job"]
        self.wait_state(failed, "FAILED")
        self.wait_done(cancelled, 2)
        client.say("CANCEL", job=cancelled)
        self.wait_state(failed, "FAILED")
        self.wait_state(some, "DONE")
        self.wait_state(cancelled, "CANCELLED")
        before = {n: self.job(n) for n in (failed, some, cancelled)}
        self.assertEqual([(j["done"], j.get("failed", 0)) for j in before.values()], [(4, 1), (3, 1), (2, 0)])
        self.settle(some)
        self.restart_hub()
        for number, job in before.items():
            now = self.wait_done(number, job["done"])  # when the worker has said what it holds
            for what in "state", "tasks", "failed", "why", "failure":
                self.assertEqual(now.get(what), job.get(what), (number, what))
        client = self.peer()
        self.attach(client, some)
        results, ended = self.results(client)
        self.assertEqual(ended["state"], STATE["DONE"])
        self.assertEqual(len(results), 4)
        self.assertIn("4", results[1, 0])

    def test_what_was_cancelled_stays_cancelled(self):
        """Killed in the moment in which `dray cancel` says that it is done."""
        self.start_hub()
        self.worker(self.listen)
        client = self.peer()
        for key in range(1, 5):
            job = self.submit(client, [dict(tasks=4, op=shell("sleep 60"), name="s", wanted=True)], key, detached=True)[1]["job"]
            whole = key % 2 == 0
            done = subprocess.run([cluster.BIN / "dray", "cancel", "--broker", self.listen, str(job), *([] if whole else ["s.3"])],
                                  capture_output=True, text=True)
            self.hub.signal(signal.SIGKILL)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.hub.wait_exit()
            self.start_hub()
            client = self.peer()
            if whole:
                self.assertEqual(self.job(job, client)["state"], STATE["CANCELLED"])
            else:
                self.assertEqual(self.job(job, client)["failed"], 1)
                client.say("CANCEL", job=job)

    def test_notes_are_told_again(self):
        """Of tasks, to who takes the job over: also after a restart, when the worker that wrote them is gone."""
        path = self.folder / "a.csv"
        path.write_bytes(b"a,b\n\xff\xfe,1\n")
        self.start_hub("--recover-grace", "1")
        worker = self.worker(self.listen)
        scan = dict(scan_csv=dict(dialect=wire_dialect(), block_size=1000,
                                  column=[dict(name="a", type="STRING"), dict(name="b", type="INT64")],
                                  file=[dict(path=str(path), name=path.name, size=os.stat(path).st_size,
                                             mtime_ns=os.stat(path).st_mtime_ns, codec="PLAIN", data_start=4,
                                             fields=2, field=[0, 1], blocks=1)]))
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=wire.op(scan), wanted=True)], 1, detached=True)[1]["job"]
        first = self.hear(client, "NOTES", timeout=20)[1]
        self.hear(client, "RESULT", timeout=20)
        client.close()
        for round_ in range(2):
            client = self.peer()
            self.attach(client, job)
            self.assertEqual(self.hear(client, "NOTES", timeout=20)[1], first)
            client.close()
            if round_ == 0:
                self.kill_hub()
                self.stop(worker, signal.SIGKILL, -signal.SIGKILL)
                self.start_hub("--recover-grace", "1")

    # ---- stop and start

    def test_stopped_politely(self):
        self.start_hub()
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT, wanted=True)], 1)[1]["job"]
        # Stopped while a signal and a submit wait for it: the submit finds no answer, not a no.
        self.hub.signal(signal.SIGSTOP)
        client.say("SUBMIT", key_hi=7, key_lo=2, graph=pack([dict(tasks=1, op=COUNT)]), detached=True)
        self.hub.signal(signal.SIGTERM)
        self.hub.signal(signal.SIGCONT)
        kind, bye = self.hear(client, "BYE", "REJECTED")[:2]
        self.assertEqual((kind, bye["why"]["code"]), ("BYE", ERESTART))
        self.assertEqual(self.hub.wait_exit(), 0)
        self.start_hub()
        self.assertIsNotNone(self.job(job))
        self.assertEqual(self.submit(self.peer(), [dict(tasks=1, op=COUNT)], 2, detached=True)[0], "ACCEPTED")
        # A folder for one.
        second = self.start(cluster.BIN / "dray-broker", "--listen", f"ipc://{self.folder}/c", "--state", self.state)
        self.assertEqual(second.wait_exit(), 1)
        self.assertIn("in use by another broker", second.text)
        self.assertIn(str(self.hub.pid), second.text)
        self.stop(self.hub)

    def test_without_a_folder_nothing_is_kept_and_it_says_so(self):
        hub = self.broker(listen=self.listen)
        hub.wait_text("lost when this process ends", count=1)
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT)], 1, detached=True)[1]["job"]
        incarnation = client.welcome["incarnation"]
        hub.signal(signal.SIGTERM)
        self.assertNotEqual(self.hear(client, "BYE")[1]["why"]["code"], ERESTART)
        hub.wait_exit()
        hub = self.broker(listen=self.listen)
        client = self.peer()
        self.assertNotEqual(client.welcome["incarnation"], incarnation)
        self.assertIsNone(self.job(job, client))

    def test_folders_that_are_none(self):
        def fails(code, state, *texts):
            hub = self.start(cluster.BIN / "dray-broker", "--listen", self.listen, "--state", state)
            self.assertEqual(hub.wait_exit(), code, hub.text)
            for text in texts:
                self.assertIn(text, hub.text)

        (self.folder / "file").write_text("hello")
        fails(1, self.folder / "file", f"{self.folder}/file")
        fails(1, self.folder / "no/such", f"{self.folder}/no/such", "No such file")
        self.state.mkdir()
        journal = self.state / "journal.db"
        journal.write_text("It is a truth universally acknowledged" * 100)
        fails(1, self.state, "is no journal", "move it away")
        self.assertFalse((self.state / "graphs").exists())
        journal.unlink()
        journal.mkdir()
        fails(1, self.state, "is no journal", "it is a folder")
        journal.rmdir()
        journal.symlink_to("/etc/passwd")
        fails(1, self.state, "is a symbolic link", "--state")

    def test_a_broker_that_cannot_listen_leaves_no_folder(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            hub = self.start(cluster.BIN / "dray-broker", "--listen", "tcp://%s:%d" % taken.getsockname(), "--state", self.state)
            self.assertEqual(hub.wait_exit(), 1)
        self.assertIn("another process listens there", hub.text)
        self.assertFalse(self.state.exists())

    def test_a_journal_that_is_gone(self):
        """It is said what that means, once, and what belonged to it is not thrown away."""
        hub = self.start_hub()
        incarnation = self.peer().welcome["incarnation"]
        self.assertNotIn("used this folder before", hub.text)
        self.kill_hub()
        (self.state / "journal.db").unlink()
        (self.state / "graphs/7").write_text("a graph")
        hub = self.start_hub()
        self.assertRegex(hub.text, r"warning: \S+/journal.db is gone, although .* is lost .*"
                         r"journal.db-wal as journal.db-wal.left-\d+, graphs as graphs.left-\d+\n")
        self.assertNotEqual(self.peer().welcome["incarnation"], incarnation)
        self.assertEqual([f.read_text() for f in self.state.glob("graphs.left-*/7")], ["a graph"])
        self.stop(hub)
        (self.state / "journal.db").write_bytes(b"")
        self.assertIn("journal.db is empty, although", self.start_hub().text)
        self.stop(self.hub)
        self.assertNotIn("although", self.start_hub().text)
        self.stop(self.hub)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "not root")
    def test_a_journal_of_somebody_else(self):
        self.start_hub()
        self.stop(self.hub)
        os.chmod(self.folder, 0o777)
        os.chmod(self.state, 0o777)
        (self.state / "lock").unlink()
        shutil.copy(cluster.BIN / "dray-broker", self.folder)  # who may not look into a home can run it
        hub = self.start("setpriv", "--reuid", "65534", "--clear-groups", self.folder / "dray-broker", "--listen",
                         f"ipc://{self.folder}/c", "--state", self.state)
        self.assertEqual(hub.wait_exit(), 1)
        self.assertRegex(hub.text, r"cannot read and write \S+/journal.db: Permission denied .*user 0.*user 65534")

    def test_damaged_records_are_said_and_left_out(self):
        self.start_hub()
        client = self.peer()
        numbers = [self.submit(client, [dict(tasks=1, op=COUNT, name=f"layer number {key}")], key, detached=True,
                               name=f"the job with key {key}")[1]["job"] for key in range(1, 4)]
        self.stop(self.hub)
        journal = self.state / "journal.db"
        bytes_ = bytearray(journal.read_bytes())
        at = bytes_.find(b"the job with key 2")
        self.assertGreater(at, 0)
        bytes_[at + 3] ^= 1
        journal.write_bytes(bytes_)
        self.start_hub()
        self.hub.wait_text(rf"of job {numbers[1]} \(its submission\) is damaged")
        self.assertEqual([self.job(n) is not None for n in numbers], [True, False, True])
        client = self.peer()
        self.assertEqual(self.submit(client, [dict(tasks=1, op=COUNT)], 9)[1]["job"], numbers[2] + 1)

    def test_a_job_that_was_given_up_and_cannot_be_read(self):
        """Nothing of it stays."""
        self.start_hub()
        self.worker(self.listen)
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT, name="the first", wanted=True)], 1)[1]["job"]
        self.wait_state(job, "DONE")
        kind, answer = self.submit(client, [dict(tasks=1, op=shell("sleep 60; cat"), wanted=True, input=[
            dict(layer=0, pattern="ALL", job=job, job_tasks=1)])], 2, detached=True)
        self.assertEqual(kind, "ACCEPTED", answer)
        client.say("FREE", job=job)
        client.say("BYE")
        client.close()
        deadline = time.monotonic() + 10 * cluster.SLOW
        while self.job(job) is not None:
            self.assertLess(time.monotonic(), deadline)
        self.stop(self.hub)
        journal = self.state / "journal.db"
        bytes_ = bytearray(journal.read_bytes())
        bytes_[bytes_.find(b"the first") + 3] ^= 1
        journal.write_bytes(bytes_)
        self.start_hub()
        self.hub.wait_text(rf"of job {job} \(its submission\) is damaged")
        self.stop(self.hub)
        with contextlib.closing(sqlite3.connect(journal)) as journal:
            kinds = journal.execute("SELECT kind FROM record WHERE job = ?", (job,)).fetchall()
        self.assertEqual(kinds, [])

    def test_the_journal_stays_small(self):
        """Of jobs that come and go nothing is left."""
        self.start_hub()
        self.worker(self.listen)
        client = self.peer()
        for key in range(1, 40 // cluster.SLOW):
            number = self.submit(client, [dict(tasks=1, op=COUNT, wanted=True)], key, note=b"n" * 900000)[1]["job"]
            self.hear(client, "RESULT", timeout=20)
            self.hear(client, "JOB_ENDED", timeout=20)
            client.say("FREE", job=number)
        deadline = time.monotonic() + 20 * cluster.SLOW
        while True:
            used = sum(f.stat().st_size for f in self.state.rglob("*") if f.is_file())
            if used < 20 << 20:
                break
            self.assertLess(time.monotonic(), deadline, used)
            time.sleep(0.1)
        self.stop(self.hub)
        self.assertLess((self.state / "journal.db").stat().st_size, 8 << 20)

    # ---- orphans and what lapses

    def test_jobs_of_a_lost_client_wait_for_it(self):
        self.start_hub("--orphan-grace", cluster.SLOW)
        for key in range(100, 110):
            client = self.peer()
            job = self.submit(client, [dict(tasks=1, op=shell("sleep 60"), wanted=True)], key)[1]["job"]
            begin = time.monotonic()
            client.close()
            again = self.peer()
            attached = self.attach(again, job, again=True)
            if "why" not in attached:
                break
            self.assertGreater(time.monotonic() - begin, 0.5 * cluster.SLOW, attached)  # the test itself was held up
        self.assertNotIn("why", attached)
        time.sleep(1.5 * cluster.SLOW)
        self.assertIsNotNone(self.job(job))
        again.close()
        deadline = time.monotonic() + 10 * cluster.SLOW
        while self.job(job) is not None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        # One that says goodbye is not waited for.
        self.restart_hub("--orphan-grace", "600")
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=shell("sleep 60"), wanted=True)], 2)[1]["job"]
        client.say("BYE")
        client.close()
        deadline = time.monotonic() + 20 * cluster.SLOW
        while self.job(job) is not None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.stop(self.hub)

    def test_an_attached_job_can_be_detached(self):
        self.start_hub("--orphan-grace", "0.5")
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT, wanted=True)], 1)[1]["job"]
        self.attach(client, job, detach=True)
        client.say("BYE")
        client.close()
        self.restart_hub("--orphan-grace", "0.5")
        time.sleep(1)
        self.assertTrue(self.job(job)["detached"])


def wire_dialect():
    from test_jobs import DIALECT
    return DIALECT


if __name__ == "__main__":
    unittest.main()
