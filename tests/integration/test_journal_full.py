#!/usr/bin/python3
"""A state folder whose disk is full, or nearly so: what is new is refused in words, what runs goes on, and what was said to be safe is."""
import contextlib
import os
import shutil
import signal
import subprocess
import time
import unittest

import cluster
import dray
import wire
from hub import COUNT, STATE, HubTest, pack, shell

EAGAIN = 11
ENOSPC = 28
EBUSY = 16
ERESTART = 85


class FullFolderTest(HubTest):
    def told_to_come_again(self, client, extended):
        """What it added is not confirmed, apart from what may be."""
        kind, message, _ = self.hear(client, "BYE", "EXTENDED")
        if kind == "EXTENDED":
            self.assertEqual(message, extended)
            message = self.hear(client, "BYE")[1]
        self.assertEqual(message["why"]["code"], ERESTART)


class FullDisk(FullFolderTest):
    def small_state(self, size):
        """The state folder on a disk of its own; what fills it."""
        self.state.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.state], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest(f"no tmpfs of its own: {mounted.stderr.decode().strip()}")
        self.addCleanup(shutil.rmtree, self.folder)  # behind that:
        self.addCleanup(subprocess.run, ["umount", "-l", self.state])
        return self.state / "filler"

    def begin(self, size):
        """A broker on such a disk, and its worker; what fills the disk."""
        filler = self.small_state(size)
        self.start_hub()
        self.hand = self.worker(self.listen)
        return filler

    def begin_held_back(self, tasks):
        """A job of which something waits for room, and so does all that comes of it; its client, what fills the disk."""
        filler = self.begin("2m")
        client = self.peer()
        job = self.submit(client, [dict(tasks=tasks, op=shell("sleep 60"), name="s", wanted=True)], 1, open=True)[1]["job"]
        self.fill(filler)
        client.say("EXTEND", job=job, first_layer=1, graph=pack([dict(tasks=1, op=shell("true " + "n" * 200000))]))
        self.hub.wait_text("nothing new is taken")
        return client, job, filler

    def fill(self, filler, leave=0):
        with open(filler, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
            file.truncate(max(0, file.tell() - leave))

    def commands_on_a_full_disk(self, job):
        """One exit status, no word about the script, and what to do."""
        csv, tasks = self.folder / "a.csv", self.folder / "a.yaml"
        csv.write_text("a,b\n1,2\n")
        tasks.write_text("tasks: {x: {shell: echo " + "n" * 100000 + "}}\n")
        script = f'read_csv("{csv}").a.sum() # ' + "n" * 100000
        for command in (("run", script), ("run", "--detach", script), ("submit", tasks), ("submit", "--detach", tasks),
                        ("keep", job, "k" * 200)):
            done = subprocess.run([cluster.BIN / "dray", command[0], "--broker", self.listen, *map(str, command[1:])],
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (3, ""), done.stderr)
            self.assertRegex(done.stderr, rf"\Adray: the broker takes no new jobs and names at present: the disk of the "
                             rf"state folder {self.state} is full \(0\.0 of 2\.1 MB are free\): [^\n]*; make room there "
                             r"and try again[^\n]*\n\Z")

    def test_full_disk(self):
        """Nothing new is taken, in words; what runs goes on; and when there is room again, all is as before."""
        filler = self.begin("2m")
        client = self.peer()
        job = self.submit(client, [], 1, open=True)[1]["job"]
        self.fill(filler)
        note = os.urandom(200000)
        kind, refused = self.submit(client, [dict(tasks=1, op=COUNT)], 2, note=note)
        self.assertEqual((kind, refused["why"]["code"]), ("REJECTED", ENOSPC), refused)
        self.assertIn("No space left", refused["why"]["text"])
        self.commands_on_a_full_disk(job)
        # What runs goes on, and its layers are said to be safe when they are.
        client.say("EXTEND", job=job, first_layer=0, last=True,
                   graph=pack([dict(tasks=3, op=shell("true " + "n" * 100000), wanted=True)]))
        results, ended = self.results(client)
        self.assertEqual((len(results), ended["state"]), (3, STATE["DONE"]))
        client.say("KEEP", tag=4, job=job, name="k" * 200)
        self.hear(client, "REPLY")
        self.hub.wait_text("nothing new is taken")
        filler.unlink()
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=job, layers=1, last=True))
        self.hub.wait_text("can be written again")
        kind, accepted = self.submit(client, [dict(tasks=1, op=COUNT)], 3, note=note, detached=True)
        self.assertEqual(kind, "ACCEPTED", accepted)
        self.restart_hub()
        self.assertIsNotNone(self.job(accepted["job"]))
        self.assertEqual(self.job(job)["tasks"], 3)
        self.stop(self.hub)

    def test_a_broker_starts_on_a_full_disk(self):
        """What it took goes on, again and again; what is new is refused until there is room."""
        filler = self.begin("2m")
        client = self.peer()
        job = self.submit(client, [dict(tasks=20, op=shell("sleep 0.3; echo $0"), wanted=True)], 1, detached=True)[1]["job"]
        for leave in 0, 4096, 0:
            self.fill(filler, leave=leave)
            self.restart_hub()
            client = self.peer()
            kind, refused = self.submit(client, [dict(tasks=1, op=COUNT)], 2, note=os.urandom(200000))
            self.assertEqual((kind, refused["why"]["code"]), ("REJECTED", ENOSPC), refused)
        self.assertNotIn("why", self.attach(client, job, again=True))
        results, ended = self.results(client)
        self.assertEqual((len(results), ended["state"]), (20, STATE["DONE"]))
        filler.unlink()
        self.hub.wait_text("can be written again")
        kind, accepted = self.submit(client, [dict(tasks=1, op=COUNT)], 3, detached=True)
        self.assertEqual(kind, "ACCEPTED", accepted)
        self.assertIsNone(self.hand.child.poll(), self.hand.text)
        self.stop(self.hub)

    def test_layers_that_do_not_fit(self):
        """Others' small jobs are taken meanwhile; who attaches is told which layers are safe; of these a crash takes none."""
        filler = self.begin("8m")
        client, other = self.peer(), self.peer()
        job = self.submit(client, [], 1, open=True, detached=True)[1]["job"]
        small = dict(tasks=1, op=COUNT, wanted=True)
        large = dict(tasks=1, op=wire.op(dict(command=dict(argv=[b"/bin/true", *[b"x" * 100000] * 12]))), wanted=True)
        client.say("EXTEND", job=job, first_layer=0, graph=pack([small]))
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=job, layers=1))
        self.fill(filler, leave=1 << 20)
        client.say("EXTEND", job=job, first_layer=1, graph=pack([large]))
        self.hub.wait_text("nothing new is taken")
        for key in range(2, 12):
            begin = time.monotonic()
            kind, answer = self.submit(other, [small], key, detached=True)
            self.assertEqual(kind, "ACCEPTED", answer)
            self.assertLess(time.monotonic() - begin, 2 * cluster.SLOW)
        attached = self.attach(client, job)
        self.assertEqual((len(attached["layer"]), attached.get("safe")), (2, 1))
        # It is as good as its word.
        self.restart_hub()
        client = self.peer()
        attached = self.attach(client, job)
        self.assertEqual((len(attached["layer"]), attached.get("safe")), (1, None))
        client.say("EXTEND", job=job, first_layer=1, last=True, graph=pack([large]))
        self.hub.wait_text("nothing new is taken")
        attached = self.attach(client, job)  # the scheduler may have heard of the second one, or not
        self.assertEqual(attached.get("safe", len(attached["layer"])), 1)
        client.say("EXTEND", job=job, first_layer=1, last=True, graph=pack([large]))  # as it was told
        filler.unlink()
        self.assertEqual(self.hear(client, "EXTENDED")[1], dict(job=job, layers=2, last=True))
        self.assertNotIn("safe", self.attach(client, job))
        self.restart_hub()
        self.wait_state(job, "DONE")
        self.stop(self.hub)

    @unittest.skipIf(cluster.SANITIZED or cluster.memory_available() < 4 << 30, "needs 4 GB of memory and no sanitizer")
    def test_more_waits_than_can_be_kept(self):
        """New jobs are refused; a job that goes on growing waits until there is room, and misses nothing."""
        filler = self.begin("8m")
        own = int.from_bytes(os.urandom(8), "little")
        client, other, third = self.peer(incarnation=own), self.peer(), self.peer()
        small = dict(tasks=1, op=COUNT, wanted=True)
        job = self.submit(client, [small], 1, open=True)[1]["job"]
        grown = [self.submit(other, [], key, open=True)[1]["job"] for key in (2, 3)]
        self.fill(filler)
        client.say("EXTEND", job=job, first_layer=1,
                   graph=pack([dict(tasks=1, op=shell("true " + "n" * 100000), wanted=True)]))
        large = pack([dict(tasks=1, op=wire.op(dict(command=dict(argv=[b"/bin/true", *[b"x" * 100000] * 600]))))])
        for layer in range(9):
            other.say("EXTEND", job=grown[layer // 6], first_layer=layer % 6, graph=large)
            # It was tried: more than two that were not would be too many of one client.
            dray.wait_for(lambda at=layer: len(self.job(grown[at // 6], third)["layer"]) == at % 6 + 1, 10,
                          lambda: self.hub.text)
        refused = self.submit(third, [small], 4)[1]
        self.assertEqual(refused["why"]["code"], EAGAIN)
        self.assertIn("wait to be written to the broker's journal", refused["why"]["text"])
        for first in 2, 3:
            client.say("EXTEND", job=job, first_layer=first, graph=pack([small]), last=first == 3)
        self.hub.wait_text("client test: what it adds to its jobs waits")
        info = self.job(job)
        self.assertEqual((info["state"], info["tasks"]), (STATE["RUNNING"], 2))
        # When less waits jobs are taken again, as the disk allows, but none that may read what was left out.
        other.say("FREE", job=grown[1])
        note = os.urandom(200000)
        dray.wait_for(lambda: self.submit(third, [small], 4, note=note)[1]["why"]["code"] == ENOSPC, 10, lambda: self.hub.text)
        refused = self.submit(client, [dict(small, input=[dict(job=job, job_tasks=1, layer=2, pattern="ALL")])], 5)[1]
        self.assertEqual(refused["why"]["code"], EAGAIN, refused)
        self.assertIn("added to its jobs before waits", refused["why"]["text"])
        self.assertEqual(self.submit(client, [small], 6, note=note)[1]["why"]["code"], ENOSPC)
        filler.unlink()
        other.say("FREE", job=grown[0])  # all of it would not fit here either
        self.told_to_come_again(client, dict(job=job, layers=2))
        client = self.peer(incarnation=own)
        attached = self.attach(client, job, again=True)
        self.assertEqual(len(attached["layer"]), 2)
        client.say("EXTEND", job=job, first_layer=2, last=True, graph=pack([small, small]))
        results, ended = self.results(client)
        self.assertEqual((len(results), ended["state"]), (4, STATE["DONE"]))
        self.stop(self.hub)

    def test_cancel_on_a_full_disk(self):
        """It happens, but is not said to be safe before it is."""
        client, job, filler = self.begin_held_back(4)
        for tasks in (["s.3"], []):
            done = subprocess.run([cluster.BIN / "dray", "cancel", "--broker", self.listen, str(job), *tasks],
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (3, ""), done.stderr)
            self.assertRegex(done.stderr, rf"\Adray: it is cancelled, but that cannot be written down yet: the disk of the state "
                             rf"folder {self.state} is full [^\n]*; should the broker end before it can be, it goes on again\n\Z")
        self.wait_state(job, "CANCELLED")
        filler.unlink()
        self.hub.wait_text("can be written again")
        self.restart_hub()
        self.assertEqual(self.job(job)["state"], STATE["CANCELLED"])
        self.stop(self.hub)

    def test_cancels_one_after_another_on_a_full_disk(self):
        """None is said to be safe: nor those that wait behind others, and what comes of which is written down later."""
        client, job, filler = self.begin_held_back(100)
        for tag in range(100):
            client.say("CANCEL", job=job, run=[dict(job=job, layer=0, first=[tag // 2], count=[1])], tag=tag)
        replies = [self.hear(client, "REPLY")[1] for _ in range(100)]
        self.assertEqual([reply["tag"] for reply in replies], list(range(100)))
        self.assertEqual([reply["tag"] for reply in replies if "why" not in reply], [])
        filler.unlink()
        self.hub.wait_text("can be written again")
        self.stop(self.hub)

    def test_names_that_are_said_twice_on_a_full_disk(self):
        filler = self.begin("2m")
        client = self.peer()
        job = self.submit(client, [dict(tasks=1, op=COUNT, wanted=True)], 1)[1]["job"]
        client.say("KEEP", tag=2, job=job, name="first")
        self.assertNotIn("why", self.hear(client, "REPLY")[1])
        self.fill(filler)
        # So large that it needs pages that are not there, all said before an answer can come.
        self.hub.signal(signal.SIGSTOP)
        names = [f"{i:03}" * 80 for i in range(8)]
        for tag, name in enumerate(names):
            client.say("KEEP", tag=100 + tag, job=job, name=name)
        for tag, name in enumerate(names):
            client.say("KEEP", tag=200 + tag, job=job, name=name)
        client.say("UNKEEP", tag=300, name=names[-1])
        self.hub.signal(signal.SIGCONT)
        told = {}
        while len(told) < 17:
            message = self.hear(client, "REPLY")[1]
            told[message["tag"]] = message.get("why")
        kept = set(self.job(job)["kept"])
        for tag, name in enumerate(names[:-1]):
            # Twice the same, and what is so.
            self.assertEqual([told[100 + tag] is None, told[200 + tag] is None], [name in kept] * 2, (tag, told))
        self.assertLess(len(kept), 8)
        self.assertNotIn(names[-1], kept)
        # Names that were refused, and one that was taken back before it was, do not count.
        client.say("UNKEEP", tag=2, name="first")
        self.hear(client, "REPLY")
        for name in kept - {"first"}:
            client.say("UNKEEP", tag=2, name=name)
            self.hear(client, "REPLY")
        client.say("KEEP", tag=2, job=job, name="k")
        client.say("BYE")
        client.close()
        deadline = time.monotonic() + 10 * cluster.SLOW
        while (left := self.job(job)) is not None and not left["kept"]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        filler.unlink()
        self.stop(self.hub)


@unittest.skipIf(cluster.SANITIZED, "what is preloaded would be in the sanitizer's way, and memory is measured")
class StalledDisk(FullFolderTest):
    """A disk that takes everything and says nothing for a while."""

    def setUp(self):
        super().setUp()
        self.stalled = self.folder / "stalled"
        os.environ["STALLED_DISK"] = str(self.stalled)
        os.environ["LD_PRELOAD"] = str(cluster.BUILD / "tests/integration/stalled_disk.so")
        self.start_hub()
        del os.environ["LD_PRELOAD"], os.environ["STALLED_DISK"]
        self.worker(self.listen)

    def say_until_cut(self, client, say, most):
        """Until the broker ends the session; what it says then."""
        client.patience = 20
        with contextlib.suppress(OSError):
            for number in range(most):
                say(number)
        return self.hear(client, "BYE")[1]["why"]

    def check_others(self, running):
        """A job goes on (what its commands took is written when it can be), and who has nothing to keep is answered."""
        done = self.job(running)["done"]
        self.wait(lambda: self.job(running)["done"] > done)

    def wait(self, condition, seconds=20):
        deadline = time.monotonic() + seconds * cluster.SLOW
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.hub.text)
            time.sleep(0.02)

    def test_a_client_that_goes_on_talking(self):
        own = int.from_bytes(os.urandom(8), "little")
        client, other, third = self.peer(incarnation=own), self.peer(), self.peer()
        running = self.submit(other, [dict(tasks=100000, op=shell("sleep 0.02"), wanted=True)], 1)[1]["job"]
        grown = self.submit(client, [], 2, open=True, detached=True)[1]["job"]
        self.wait(lambda: self.job(running)["done"] > 0)
        self.stalled.touch()
        before = self.hub.rss()
        layer = pack([dict(tasks=1, op=shell("# " + "x" * 60000), wanted=True)])
        why = self.say_until_cut(client, lambda n: client.say("EXTEND", job=grown, first_layer=n, graph=layer), 10000)
        self.assertIn("more than the broker can keep while the disk of its journal is slow", why["text"])
        # The same process is to come back later, and that is said each time; another one is taken in.
        for _ in range(2):
            back = self.peer(incarnation=own)
            why = self.hear(back, "REFUSE")[1]["why"]
            self.assertEqual((why["code"], why["text"]), (EBUSY, "the disk of this broker's journal is slow: try again later"))
            back.close()
        self.assertIsNotNone(self.job(grown))
        self.check_others(running)
        # Small ones too, that need not be written themselves: behind one that does.
        third.say("SUBMIT", key_hi=7, key_lo=3, graph=pack([dict(tasks=1, op=COUNT)]), detached=True)
        for tag in range(20000):
            third.say("JOB_QUERY", tag=tag, job=grown, brief=True)
            if tag % 50 == 49:  # which is answered all the same
                for _ in range(50):
                    self.hear(third, "JOBS")
        self.check_others(running)
        self.assertLess(self.hub.rss() - before, 300 << 20)
        self.stalled.unlink()
        self.assertEqual(self.hear(third, "ACCEPTED")[1]["key_lo"], 3)
        # What was said to be safe, and what came with it, is one order of layers without a gap.
        again = self.peer(incarnation=own)
        attached = self.attach(again, grown)
        self.assertGreater(len(attached["layer"]), 100)
        again.say("EXTEND", job=grown, first_layer=len(attached["layer"]), last=True, graph=layer)
        self.assertEqual(self.hear(again, "EXTENDED")[1]["layers"], len(attached["layer"]) + 1)
        self.stop(self.hub)

    def test_cancel_waits_for_the_disk(self):
        """It is said to be done when it is safe: of a whole job (at once), and of some of its tasks."""
        client = self.peer()
        jobs = [self.submit(client, [dict(tasks=4, op=shell("sleep 60"), name="s", wanted=True)], key, detached=True)[1]["job"]
                for key in (1, 2)]
        self.stalled.touch()
        cancels = [subprocess.Popen([cluster.BIN / "dray", "cancel", "--broker", self.listen, str(job), *tasks])
                   for job, tasks in zip(jobs, ([], ["s.3"]))]
        self.wait(lambda: self.job(jobs[0], client)["state"] == STATE["CANCELLED"])
        time.sleep(0.3)
        self.assertEqual([cancel.poll() for cancel in cancels], [None, None])
        self.stalled.unlink()
        self.assertEqual([cancel.wait(20) for cancel in cancels], [0, 0])
        self.hub.signal(signal.SIGKILL)
        self.hub.wait_exit()
        self.start_hub()
        self.assertEqual(self.job(jobs[0])["state"], STATE["CANCELLED"])
        self.assertEqual(self.job(jobs[1])["failed"], 1)
        self.stop(self.hub)

    def replies(self, client):
        """Tags of what it has heard up to now."""
        tags = []
        client.say("JOB_QUERY", tag=0, brief=True)
        while (heard := self.hear(client, "REPLY", "JOBS"))[0] == "REPLY":
            tags.append(heard[1]["tag"])
        return tags

    def test_a_cancel_that_was_one_already_waits_for_the_disk(self):
        """Who cancels what somebody has just cancelled, itself as well, hears so when that is safe."""
        client, other = self.peer(), self.peer()
        job = self.submit(client, [dict(tasks=4, op=shell("sleep 60"), wanted=True)], 1, detached=True)[1]["job"]
        some = [dict(job=job, layer=0, first=[3], count=[1])]
        self.stalled.touch()
        client.say("CANCEL", job=job, run=some, tag=1)
        client.say("CANCEL", job=job, run=some, tag=2)
        self.wait(lambda: self.job(job)["failed"] == 1)
        other.say("CANCEL", job=job, run=some, tag=3)
        time.sleep(0.2)
        self.assertEqual(self.replies(client) + self.replies(other), [])
        self.stalled.unlink()
        self.assertEqual([self.hear(client, "REPLY")[1]["tag"] for _ in range(2)], [1, 2])
        self.assertEqual(self.hear(other, "REPLY")[1]["tag"], 3)
        # What is said without a tag is written soon, and not to the disk at once.
        self.stalled.touch()
        client.say("CANCEL", job=job)
        self.wait(lambda: self.job(job)["state"] == STATE["CANCELLED"])
        time.sleep(0.2)
        other.say("CANCEL", job=job, tag=4)
        time.sleep(0.2)
        self.assertEqual(self.replies(other), [])
        self.stalled.unlink()
        self.assertEqual(self.hear(other, "REPLY")[1]["tag"], 4)
        self.restart_hub()
        self.assertEqual(self.job(job)["state"], STATE["CANCELLED"])
        self.stop(self.hub)

    def test_a_job_that_is_let_go_of_waits_for_the_disk(self):
        """Who cancels a job once more lets go of it, and hears so when both are safe."""
        client = self.peer()
        job = self.submit(client, [dict(tasks=4, op=shell("sleep 60"), wanted=True)], 1, detached=True)[1]["job"]
        client.say("BYE")
        client.close()
        self.stalled.touch()
        command = [cluster.BIN / "dray", "cancel", "--broker", self.listen, str(job)]
        first = subprocess.Popen(command)
        self.wait(lambda: self.job(job)["state"] == STATE["CANCELLED"])
        again = subprocess.Popen(command)
        self.wait(lambda: self.job(job) is None)
        time.sleep(0.2)
        self.assertEqual([first.poll(), again.poll()], [None, None])
        self.stalled.unlink()
        self.assertEqual([first.wait(20), again.wait(20)], [0, 0])
        self.restart_hub()
        self.assertIsNone(self.job(job))
        self.stop(self.hub)

    def test_cancels_without_end(self):
        """What of one client waits for the disk takes little, and is its own."""
        client = self.peer()
        job = self.submit(client, [dict(tasks=4000, op=shell("sleep 60"))], 1, detached=True)[1]["job"]
        self.stalled.touch()
        before = self.hub.rss()
        for tag in range(3000):
            client.say("CANCEL", job=job, run=[dict(job=job, layer=0, first=[1000 + tag], count=[1])], tag=tag)
            client.say("JOB_QUERY", tag=tag, job=job, brief=True)
            self.hear(client, "JOBS")
        self.assertLess(self.hub.rss() - before, 8 << 20)
        self.stalled.unlink()
        self.assertEqual(sorted(self.hear(client, "REPLY")[1]["tag"] for _ in range(3000)), list(range(3000)))
        self.stop(self.hub)

    def test_what_is_left_out_at_the_end(self):
        """That no more layers come is not confirmed with the layers before, when it came as the broker was about to stop."""
        own = int.from_bytes(os.urandom(8), "little")
        client = self.peer(incarnation=own)
        small = dict(tasks=1, op=COUNT, wanted=True)
        job = self.submit(client, [], 1, open=True)[1]["job"]
        self.stalled.touch()
        client.say("EXTEND", job=job, first_layer=0, graph=pack([small]))
        self.replies(client)  # it was heard
        self.hub.signal(signal.SIGTERM)
        self.hub.wait_text("Terminated: stopping")
        client.say("EXTEND", job=job, first_layer=1, last=True)
        self.replies(client)
        self.stalled.unlink()
        self.told_to_come_again(client, dict(job=job, layers=1))
        client.close()
        self.hub.wait_exit()
        self.start_hub()
        client = self.peer(incarnation=own)
        attached = self.attach(client, job, again=True)
        client.say("EXTEND", job=job, first_layer=len(attached["layer"]), last=True,
                   **({} if attached["layer"] else dict(graph=pack([small]))))
        results, ended = self.results(client)
        self.assertEqual((len(results), ended["state"]), (1, STATE["DONE"]))
        self.stop(self.hub)

    def test_libdray_waits_for_the_disk(self):
        """It says no more than the broker has to keep, and all comes back when the disk does."""
        program = subprocess.Popen([cluster.BUILD / "tests/bin/pool_client", self.listen, "map", "10000", "random", "200000"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        self.assertRegex(program.stdout.readline(), "^map: ")
        time.sleep(0.1)
        before, most = self.hub.rss(), 0
        self.stalled.touch()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            most = max(most, self.hub.rss())
            time.sleep(0.05)
        self.stalled.unlink()
        out, err = program.communicate(timeout=200)
        self.assertEqual((program.returncode, err), (0, ""))
        self.assertNotIn("more than the broker can keep", self.hub.text)
        self.assertLess(most - before, 200 << 20)


if __name__ == "__main__":
    unittest.main()
