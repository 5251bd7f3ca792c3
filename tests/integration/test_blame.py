"""Tasks that kill their workers, or the processes that they run in: blamed and told in words, and nobody else is."""
import json
import os
import threading
import time
import unittest

from dray import BIN, SLOW, Cluster, TestCase, alive, environment, run, wait_for

PLUGIN = os.path.join(os.environ.get("DRAY_BUILD", os.path.dirname(BIN)), "tests", "hostile_plugin.so")
# Commands are started by a helper, whose parent is the worker.
KILL_WORKER = "kill -9 $(cut -d\" \" -f4 /proc/$PPID/stat)"


class Blame(TestCase):
    def begin(self, *broker_options, workers=2):
        self.cluster = Cluster(workers=workers, threads=2, worker_options=["--plugin", PLUGIN], broker_options=broker_options)
        self.addCleanup(self.cluster.close)
        self.env = environment(DRAY_BROKER=self.cluster.endpoint)
        self.deaths = 0
        self.watching = True
        watcher = threading.Thread(target=self.replace_dead, args=(workers,))
        watcher.start()

        def stop():
            self.watching = False
            watcher.join()
        self.addCleanup(stop)

    def replace_dead(self, workers):
        """What a supervisor does."""
        while self.watching:
            dead = [x for x in self.cluster.workers if x.poll() is not None]
            for worker in dead:
                self.deaths += 1
                self.cluster.workers.remove(worker)
                self.cluster.add_worker()
            time.sleep(0.02)

    def check_deaths(self, count):
        wait_for(lambda: self.deaths >= count, 10, lambda: f"{count} deaths, but {self.deaths}")
        self.assertEqual(self.deaths, count)

    def dray(self, *args, **options):
        return run(*args, env=self.env, **options)

    def submit(self, text):
        return self.ok(self.dray("submit", "--detach", "-", input=text.encode())).strip()

    def info(self, job):
        return json.loads(self.ok(self.dray("job", job, "-f", "json")))

    def check_words(self, text, what, deaths):
        self.assertIn(f"{deaths} workers died while they ran {what}, the last of them ", text)
        self.assertIn("it is not tried again", text)
        for attempt in range(1, deaths + 1):
            self.assertRegex(text, rf"attempt {attempt}: worker \S+ died \(.+\), with .+ of memory, (alone|beside)")
        self.assertRegex(text, rf"attempt {deaths}: .*, alone")

    def test_killer_command(self):
        """Beside others that take long: those are done, whatever becomes of their workers."""
        self.begin()
        job = self.submit("allow_failures: 1\ntasks: {work: {array: 0..5, shell: 'sleep 0.2; echo {index}'}, "
                          "load: {shell: 'echo 12345'}, "
                          f"killer: {{shell: 'sleep 0.1; {KILL_WORKER}; sleep 5', inputs: load}}}}")
        self.assertEqual(self.dray("wait", "-q", job, timeout=40).returncode, 1)
        done = self.dray("result", job)
        self.assertEqual(done.stdout, b"0\n1\n2\n3\n4\n5\n", done.stderr)
        info = self.info(job)
        self.assertEqual((info["state"], info["failed"]), ("done", 1))
        self.assertEqual([x["task"] for x in info["failures"]], ["killer"])
        self.check_words(info["failures"][0]["error"], "task killer[0]", 3)
        self.assertRegex(info["failures"][0]["error"], r"it reads .*load")
        self.check_deaths(3)

    def test_killer_call(self):
        """A plugin's function, one of many short ones; the job fails when all others are done."""
        self.begin("--allowed-failures", "2")
        job = self.submit("tasks: {good: {array: 0..199, call: {plugin: hostile, function: echo, argument: '{index} '}}, "
                          "bad: {call: {plugin: hostile, function: murder}}}")
        self.assertEqual(self.dray("wait", "-q", job, timeout=40).returncode, 1)
        info = self.info(job)
        self.assertEqual(info["state"], "failed")
        self.check_words(info["why"], "task bad[0]", 2)
        self.assertEqual(info["done"], 200)
        self.check_deaths(2)

    def test_crashing_call(self):
        """Its process dies, not the worker: each attempt is told, and no worker is lost."""
        self.begin(workers=1)
        job = self.submit("tasks: {good: {array: 0..9, call: {plugin: hostile, function: echo, argument: x}}, "
                          "bad: {call: {plugin: hostile, function: segfault}, retries: 2}}\nallow_failures: 1")
        self.assertEqual(self.dray("wait", "-q", job).returncode, 1)
        info = self.info(job)
        text = info["failures"][0]["error"]
        self.assertEqual((info["state"], info["done"], len(info["failures"])), ("done", 10, 1))
        self.assertIn("in the last of 3 attempts", text)
        self.assertRegex(text, r"attempt 1: .*worker \S+: .*(signal 11|Segmentation fault)")
        self.assertRegex(text, r"attempt 2: .*worker \S+: .*(signal 11|Segmentation fault)")
        self.assertEqual(self.deaths, 0)
        self.assertEqual(len(wait_for(lambda: self.cluster.workers, 1, "workers")), 1)

    def test_all_workers_are_killed(self):
        """Again and again, by somebody who restarts them like that: no task is to blame."""
        self.begin("--heartbeat", "0.2", "--allowed-failures", "3")
        log, go = self.path("log"), self.path("go")
        job = self.submit(f"tasks: {{a: {{array: 0..3, shell: 'echo x >> {log}; while ! test -e {go}; do sleep 0.05; done; "
                          "echo {index}'}}")

        def begun():
            return os.path.getsize(log) if os.path.exists(log) else 0
        before = 0
        for round_ in range(4):
            self.cluster.await_workers(2)
            wait_for(lambda: begun() > before, 10, "tasks that run")
            time.sleep(0.6)
            before = begun()
            for worker in list(self.cluster.workers):
                worker.kill()
            wait_for(lambda: self.deaths == 2 * (round_ + 1), 10, "others in their place")
        with open(go, "w"):
            pass
        self.assertEqual(self.dray("wait", "-q", job, timeout=40).returncode, 0, self.cluster.text_of_log())
        self.assertEqual(self.dray("result", job).stdout, b"0\n1\n2\n3\n")

    def test_straggler(self):
        """Hangs where it runs first: somebody who idles runs it too, and the first is ended."""
        self.begin("--straggler", "0.3")
        first = self.path("first")
        # Who it is there with its name, or not at all.
        text = (f"tasks: {{a: {{array: 0..7, speculate: true, shell: 'if [ {{index}} = 3 ] && echo $$ > {first}.$$ && "
                f"ln {first}.$$ {first} 2> {os.devnull}; then exec sleep 100; fi; sleep 0.05; echo {{index}}'}}}}")
        begin = time.monotonic()
        job = self.submit(text)
        self.assertEqual(self.dray("wait", "-q", job, timeout=40).returncode, 0)
        self.assertEqual(self.dray("result", job).stdout, b"0\n1\n2\n3\n4\n5\n6\n7\n")
        self.assertLess(time.monotonic() - begin, 20 * SLOW)
        with open(first) as f:
            pid = int(f.read())
        wait_for(lambda: not alive(pid), 10, "the end of the first run")
        self.assertEqual((self.info(job)["failed"], self.deaths), (0, 0))


if __name__ == "__main__":
    unittest.main(verbosity=2)
