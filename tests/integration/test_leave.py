#!/usr/bin/python3
"""Workers that leave in peace, and those that were away: nothing is done twice."""
import signal
import time
import unittest

import cluster
import dray
import wire
from proxy import Proxy


class Crew(cluster.ClusterTest):
    """Tasks write a line each when they begin; a last one needs what all others made."""

    def setUp(self):
        super().setUp()
        self.log = self.folder / "log"
        self.log.touch()
        self.go = self.folder / "go"

    def begin(self, *options):
        self.hub = self.broker(*options)
        self.endpoint = self.hub.endpoint

    def join(self, name, *options):
        return self.worker(self.endpoint, "--name", name, *options)

    def job(self, tasks, seconds, *options, held=None):
        """About 20 KB of each task stay until the end; those from `held` on wait for self.go."""
        wait = f"while [ {{index}} -ge {held} -a ! -e {self.go} ]; do sleep 0.02; done; " if held is not None else ""
        path = self.folder / "job.yaml"
        path.write_text(f"""
tasks:
  make: {{array: 0..{tasks - 1}, shell: "echo {{index}} >> {self.log}; {wait}sleep {seconds}; seq {{index}} 4000"}}
  count: {{array: 0..{tasks - 1}, inputs: {{task: make, stdin: true}}, shell: "wc -l"}}
  all:
    shell: "cat a/* | wc -l; cat b/* | wc -l"
    inputs: [{{task: make, elements: all, file: "a/{{i}}"}}, {{task: count, elements: all, file: "b/{{i}}"}}]
    result: true
""")
        job = dray.start("submit", "--broker", self.endpoint, *options, str(path))
        self.addCleanup(job.communicate)
        self.addCleanup(job.kill)
        return job

    def expected(self, tasks):
        return f"{sum(4001 - i for i in range(tasks))}\n{tasks}\n".encode()

    def begun(self):
        return len(self.log.read_text().split())

    def wait_begun(self, count):
        dray.wait_for(lambda: self.begun() >= count, 20, lambda: self.hub.text)

    def ends(self, job, tasks, again=0):
        """With the right answer, and each task once."""
        out, err = job.communicate(timeout=60 * cluster.SLOW)
        self.assertEqual((out, job.returncode), (self.expected(tasks), 0), err.decode() + self.hub.text)
        self.assertEqual(self.begun(), tasks + again, self.log.read_text())
        self.assertEqual(self.cluster().get("recomputed", 0), again)

    def cluster(self):
        return wire.ask_cluster(wire.Peer(self.endpoint))

    def retire(self, *arguments):
        return dray.run("workers", "retire", "--broker", self.endpoint, *arguments)


class Leaving(Crew):
    def test_asked_by_a_signal(self):
        self.begin()
        self.join("stays")
        leaver = self.join("leaves")
        job = self.job(16, 0.1)
        self.wait_begun(8)
        leaver.signal(signal.SIGTERM)
        dray.wait_for(lambda: any(w.get("leaving") for w in self.cluster().get("worker", [])) or
                      leaver.child.poll() is not None, 5, lambda: self.hub.text)
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        self.assertNotIn("no other worker", leaver.text)
        self.ends(job, 16)

    def test_asked_by_name_down_to_one(self):
        self.begin()
        workers = {name: self.join(name) for name in "abcd"}
        job = self.job(24, 0.1, held=12)
        self.wait_begun(16)  # each has one that waits
        done = self.retire("a", "nobody")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b'no worker is called "nobody": there are a, b, c, d', done.stderr)
        retire = dray.start("workers", "retire", "--broker", self.endpoint, "--wait", "a", "b", "c")
        self.addCleanup(retire.kill)
        for name in "abc":
            self.hub.wait_text(f"worker {name} is to leave")
        self.go.touch()
        err = retire.communicate(timeout=60 * cluster.SLOW)[1]
        self.assertEqual((retire.returncode, err), (0, b""))
        for name in "abc":
            self.assertEqual(workers[name].wait_exit(), 0, workers[name].text)
        self.assertEqual([w["name"] for w in self.cluster()["worker"]], ["d"])
        self.assertRegex(dray.run("workers", "--broker", self.endpoint).stdout.decode(),
                         r"\n1 worker, .*, [1-9]\d* partitions? handed over by workers that left")
        self.ends(job, 24)
        self.assertEqual(self.retire().returncode, 2)

    def test_rolling(self):
        """All are replaced, one after another, while the job goes on."""
        self.begin()
        crew = [self.join("first"), self.join("second")]
        job = self.job(20, 0.15)
        for k, name in enumerate(("third", "fourth")):
            self.wait_begun(5 + 5 * k)
            crew.append(self.join(name))
            self.stop(crew.pop(0))
        self.ends(job, 20)

    def test_lifetime(self):
        self.begin()
        short = self.join("short", "--lifetime", f"{1.2 * cluster.SLOW}s", "--lifetime-stagger", "0.2s")
        job = self.job(12, 0.1)
        self.wait_begun(3)
        self.join("long", "--lifetime", "1d")
        self.assertEqual(short.wait_exit(20), 0, short.text)
        self.assertIn("its lifetime is over", short.text)
        self.ends(job, 12)

    def test_nobody_takes_it(self):
        """Until its time is over; then it says what is lost, and to whom it mattered it is made again."""
        self.begin()
        leaver = self.join("only", "--grace", "0.5")
        self.assertEqual(self.job(3, 0.01, "--detach").wait(20 * cluster.SLOW), 0)
        self.assertEqual(dray.run("wait", "--broker", self.endpoint, "1").returncode, 0)
        begin = time.monotonic()
        leaver.signal(signal.SIGTERM)
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        self.assertGreater(time.monotonic() - begin, 0.4)
        lost = r"no other worker took 1 partition \([\d.]+ (KB|bytes)\) of job 1 within 0.5 s"
        self.assertRegex(leaver.text, lost)
        self.hub.wait_text(lost)
        self.join("other")
        done = dray.run("result", "--broker", self.endpoint, "1")
        self.assertEqual(done.stdout, self.expected(3), done.stderr)
        self.assertEqual(self.begun(), 6)

    def test_twice_and_without_a_broker(self):
        self.begin()
        worker = self.join("only", "--grace", "60")
        job = self.job(4, 30)
        self.wait_begun(1)
        worker.signal(signal.SIGTERM)
        worker.wait_text("stopping")
        self.assertEqual(self.retire("only").returncode, 0)
        self.hub.wait_text("worker only is to leave")
        self.assertIsNone(worker.child.poll())
        self.stop(worker)  # the second time: at once
        job.terminate()
        job.communicate()
        worker = self.join("other")
        self.hub.kill()
        worker.wait_text("lost the broker")
        self.stop(worker)  # it has nothing: at once

    def test_who_waits_for_it_waits_behind_a_restart_of_the_broker(self):
        state = ("--state", self.folder / "state")
        self.begin(*state)
        leaver = self.join("leaves", "--grace", "60")
        self.assertEqual(self.job(3, 0.01, "--detach").wait(20 * cluster.SLOW), 0)
        self.assertEqual(dray.run("wait", "--broker", self.endpoint, "1").returncode, 0)
        retire = dray.start("workers", "retire", "--wait", "--broker", self.endpoint, "leaves")
        self.addCleanup(retire.communicate)
        self.addCleanup(retire.kill)
        dray.wait_for(lambda: any(w.get("leaving") for w in self.cluster().get("worker", [])), 5, lambda: self.hub.text)
        self.hub.kill()
        self.begin(*state)
        dray.wait_for(lambda: self.cluster().get("worker"), 10, lambda: self.hub.text)
        time.sleep(1.5)
        self.assertIsNone(leaver.child.poll(), leaver.text)
        self.assertIsNone(retire.poll())
        self.join("stays")
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        self.assertNotIn("no other worker", leaver.text)
        self.assertEqual(retire.wait(30 * cluster.SLOW), 0)
        done = dray.run("result", "--broker", self.endpoint, "1")
        self.assertEqual(done.stdout, self.expected(3), done.stderr)
        self.assertEqual(self.begun(), 3)

    def test_what_it_was_told_is_lost_with_its_connection(self):
        """It hears it again when it is back: the broker said that all is well."""
        self.hub = self.broker(listen="tcp://127.0.0.1:0")
        self.endpoint = self.hub.endpoint
        proxy = Proxy(self.endpoint)
        self.addCleanup(proxy.close)
        leaver = self.worker(proxy.endpoint, "--name", "leaves")
        self.join("stays")
        with proxy.lock:
            self.assertEqual(self.retire("leaves").returncode, 0)
            proxy.cut()
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        leaver.wait_text("asked to leave: leaving")

    def test_the_broker_is_away_as_well(self):
        """All of a cluster is replaced: who is to leave while the broker is, leaves when it is back."""
        state = ("--state", self.folder / "state")
        self.begin(*state)
        leaver = self.join("leaves")
        self.assertEqual(self.job(10, 0.1, "--detach").wait(20 * cluster.SLOW), 0)
        self.wait_begun(5)
        self.hub.kill()
        leaver.wait_text("lost the broker")
        leaver.signal(signal.SIGTERM)
        self.begin(*state)
        self.join("stays")
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        self.ends(dray.start("result", "--broker", self.endpoint, "1"), 10)


class Away(Crew):
    """Longer than the timeout."""

    def test_a_stopped_worker_keeps_what_it_has(self):
        self.begin("--heartbeat", "0.1", "--worker-timeout", "0.6")
        worker = self.join("only")
        job = self.job(8, 0.1)
        self.wait_begun(4)
        worker.signal(signal.SIGSTOP)
        self.hub.wait_text("worker only: not heard of")
        worker.signal(signal.SIGCONT)
        worker.wait_text("connected to the broker", count=2)
        self.ends(job, 8)

    def test_what_was_done_elsewhere_meanwhile_is_dropped(self):
        self.begin("--heartbeat", "0.1", "--worker-timeout", "0.6")
        worker = self.join("stopped")
        job = self.job(8, 0.1)
        self.wait_begun(4)
        worker.signal(signal.SIGSTOP)
        self.hub.wait_text("worker stopped: not heard of")
        self.join("other")
        self.wait_begun(6)
        worker.signal(signal.SIGCONT)
        worker.wait_text("connected to the broker", count=2)
        out, err = job.communicate(timeout=60 * cluster.SLOW)
        self.assertEqual(out, self.expected(8), err.decode() + self.hub.text)

    def test_a_stopped_broker(self):
        """The worker does all that it was given in the meantime."""
        self.begin("--heartbeat", "0.1", "--timeout", "0.6")
        worker = self.join("only")
        self.assertEqual(self.job(8, 0.5, "--detach").wait(20 * cluster.SLOW), 0)
        self.wait_begun(1)
        before = self.begun()
        self.hub.signal(signal.SIGSTOP)
        worker.wait_text("lost the broker")
        self.wait_begun(before + 1)
        self.hub.signal(signal.SIGCONT)
        worker.wait_text("connected to the broker", count=2)
        self.assertEqual(dray.run("wait", "--broker", self.endpoint, "1").returncode, 0)
        self.ends(dray.start("result", "--broker", self.endpoint, "1"), 8)


if __name__ == "__main__":
    unittest.main()
