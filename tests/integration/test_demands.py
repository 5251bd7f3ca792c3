#!/usr/bin/python3
"""What tasks ask of their workers: resources, names, labels, plugins; and what a job says that waits for one."""
import json
import os
import pathlib
import signal
import time
import unittest

import cluster
import dray

PLUGIN = pathlib.Path(os.environ.get("DRAY_BUILD", cluster.BIN.parent)) / "tests" / "hostile_plugin.so"


class Demands(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.endpoint = self.broker().endpoint

    def join(self, name, *options, threads=4):
        """A worker whose commands know its name."""
        process = self.start(cluster.BIN / "dray-worker", self.endpoint, "--memory", "256M", "--threads", threads,
                             "--name", name, *options, env=dray.environment(WHO=name))
        process.wait_text("connected to the broker")
        return process

    def file(self, text):
        path = self.folder / "job.yaml"
        path.write_text(text)
        return str(path)

    def submit(self, text, *options):
        """Its number; it stays."""
        done = dray.run("submit", "--broker", self.endpoint, "--detach", *options, self.file(text))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().split()[-1]

    def ok(self, *arguments):
        done = dray.run(*arguments, "--broker", self.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    def job(self, job):
        return json.loads(self.ok("job", "--format", "json", job))

    def wait_says(self, job, text):
        """Until the job says that it waits for this."""
        deadline = time.monotonic() + 10 * cluster.SLOW
        while True:
            said = self.ok("job", job)
            if text in said:
                return said
            self.assertLess(time.monotonic(), deadline, said)
            time.sleep(0.02)

    def test_results_that_nobody_can_make_again(self):
        """A job that was done says what it waits for, to who looks and to who reads all or some of its results."""
        able = self.join("able", "--resources", "gpu=1")
        job = self.submit("tasks: {a: {array: 0..9, shell: 'echo {index}', resources: {gpu: 1}}}")
        self.ok("wait", "-q", job)
        able.kill()
        self.join("other")
        lost = "what was lost with a worker has to be made again: no worker with resource gpu (1 asked)"
        self.assertIn(f"  waiting   {lost}\n", self.wait_says(job, lost))
        self.assertEqual((self.job(job)["state"], self.job(job)["waiting"]), ("done", lost))
        for task in [], ["a.3"]:
            reader = dray.start("result", "--broker", self.endpoint, job, *task)
            self.addCleanup(reader.stderr.close)
            self.addCleanup(reader.stdout.close)
            self.addCleanup(reader.kill)
            self.assertEqual(reader.stderr.readline().decode(), f"dray: waiting: {lost}\n")
            reader.send_signal(signal.SIGINT)
            self.assertEqual(reader.wait(20 * cluster.SLOW), 130)
            self.assertEqual(reader.stderr.read(), b"")  # once
        reader = dray.start("result", "--broker", self.endpoint, job, "a.3", "a.5")
        reader.stderr.readline()
        self.join("able", "--resources", "gpu=1")
        self.assertEqual(reader.communicate(timeout=20 * cluster.SLOW), (b"3\n5\n", b""))
        self.assertEqual(self.job(job)["waiting"], None)

    def test_resources_are_not_used_twice(self):
        self.join("a", "--resources", "gpu=1")
        self.join("b", "--resources", "gpu=2,licence=3")
        self.join("c")
        # With one gpu a folder can be made once at a time, with two of two names.  Each waits until two of them were seen.
        done = dray.run("submit", "--broker", self.endpoint, self.file(f"""
tasks:
  one:
    array: 0..19
    resources: {{gpu: 1}}
    shell: |
      for slot in 1 2; do
        if mkdir {self.folder}/$WHO.$slot 2>/dev/null; then
          touch {self.folder}/seen.$WHO.$slot
          tries=500
          while [ $(ls -d {self.folder}/seen.* | wc -l) -lt 2 -a $tries -gt 0 ]; do sleep 0.02; tries=$((tries - 1)); done
          sleep 0.02; rmdir {self.folder}/$WHO.$slot; echo $WHO $slot; exit 0
        fi
      done
      exit 1
  any:
    array: 0..9
    shell: echo any
"""))
        self.assertEqual(done.returncode, 0, done.stderr)
        used = set(done.stdout.decode().split("\n")) - {"", "any"}
        self.assertLessEqual(used, {"a 1", "b 1", "b 2"})
        self.assertGreaterEqual(len(used), 2)

    def test_names_and_labels(self):
        self.join("a", "--label", "fast")
        self.join("b", "--label", "fast", "--label", "big")
        self.join("c")
        where = self.ok("submit", self.file("""
tasks:
  by_name: {array: 0..9, workers: [c], shell: echo name $WHO}
  by_label: {array: 0..9, workers: [big], shell: echo label $WHO}
  either: {array: 0..39, workers: [c, fast], shell: sleep 0.01; echo either $WHO}
""")).split("\n")
        self.assertEqual({line for line in where if "name" in line}, {"name c"})
        self.assertEqual({line for line in where if "label" in line}, {"label b"})
        self.assertLessEqual({line for line in where if "either" in line}, {"either a", "either b", "either c"})

    def test_one_worker_has_the_plugin(self):
        self.join("a")
        job = self.submit("""
tasks:
  say: {call: {plugin: hostile, function: echo, argument: 'task {index} '}, array: 0..99}
""")
        said = self.wait_says(job, "waiting   no worker with plugin:hostile")
        self.assertIn("say waits: no worker with plugin:hostile", said)
        self.assertEqual(self.job(job)["layers"][0]["why"], "no worker with plugin:hostile")
        self.join("b", "--plugin", PLUGIN)
        self.join("c")
        self.assertEqual(self.ok("result", job), "".join(f"task {i} " for i in range(100)))
        # Followed by tasks that anybody may run, on what only one could make.
        text = self.ok("submit", self.file("""
tasks:
  say: {call: {plugin: hostile, function: echo, argument: '{index}'}, array: 0..9}
  show: {array: 0..9, inputs: {task: say, stdin: true}, command: [cat]}
"""))
        self.assertEqual(text, "0123456789")

    def test_a_job_waits_for_a_worker_and_says_so(self):
        text = "tasks:\n  train: {resources: {gpu: 2}, shell: echo $WHO}\n  put: {workers: [store], shell: echo put}\n"
        job = self.submit(text)
        self.wait_says(job, "waiting   no workers are connected")
        self.join("a")
        said = self.wait_says(job, "waiting   train: no worker with resource gpu (2 asked)")
        self.assertIn("put waits: no worker named store (nor with such a label)", said)
        self.join("b", "--resources", "gpu=1")
        self.wait_says(job, "train waits: no worker with resource gpu (2 asked, largest 1)")
        last = self.join("store", "--resources", "gpu=2")
        self.assertEqual(self.ok("result", job), "store\nput\n")
        # The one that is killed takes the possibility along, and the results that it alone had.
        job = self.submit(text)
        self.ok("wait", job)
        self.stop(last, signal.SIGKILL, -signal.SIGKILL)
        self.wait_says(job, "train waits: no worker with resource gpu (2 asked, largest 1)")

    def test_all_in_use(self):
        self.join("a", "--resources", "gpu=1")
        first = self.submit("tasks: {long: {resources: {gpu: 1}, command: [sleep, '30']}}")
        self.wait_says(first, "1 at workers")
        second = self.submit("tasks: {next: {resources: {gpu: 1}, command: [echo, next]}}")
        self.wait_says(second, "waiting   all that the workers have of resource gpu is in use")
        self.ok("cancel", first)
        self.assertEqual(self.ok("result", second), "next\n")

    def test_higher_priority_and_other_clients_come_before_what_is_queued(self):
        """A worker of one thread has long commands of one client queued: others' wait for the one that runs."""
        self.join("a", threads=1)
        log = self.folder / "log"
        low = self.submit(f"tasks: {{low: {{array: 0..399, shell: sleep 0.25; echo low >> {log}}}}}")
        dray.wait_for(lambda: self.job(low)["done"] >= 2, 10, "tasks that are done")  # by now it is known how long they take
        for options in (["--priority", "5"], []):
            self.assertTrue(any(self.low_before_now(log, *options) <= 3 for _ in range(3)), log.read_text())
        self.ok("cancel", low)

    def low_before_now(self, log, *options):
        """How many of those that were queued end behind the answer that a job was taken, and before its first task does (where
        the broker is held up in between they go on)."""
        job = self.submit(f"tasks: {{now: {{array: 0..1, shell: echo now >> {log}; echo now}}}}", *options)
        before = log.read_text().split()
        self.assertEqual(self.ok("result", job), "now\nnow\n")
        since = log.read_text().split()[len(before) - before[::-1].index("low"):]
        return since.index("now") if "now" in since else 0

    def test_local_cluster(self):
        """Nobody else can come: what it cannot do fails at once."""
        text = self.file("tasks: {a: {array: 0..3, resources: {gpu: 2}, command: [echo, yes]}}")
        self.assertEqual(dray.run("submit", "--resources", "gpu=2", text).stdout, b"yes\n" * 4)
        for options in ([], ["--resources", "gpu=1,disk=2"], ["--wait"]):
            done = dray.run("submit", *options, text)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"cannot go on: no worker with resource gpu (2 asked", done.stderr)
        done = dray.run("submit", "--resources", "gpu", text)
        self.assertEqual(done.returncode, 3, done.stderr)


if __name__ == "__main__":
    unittest.main()
