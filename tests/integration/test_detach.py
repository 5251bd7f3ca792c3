#!/usr/bin/python3
"""Jobs without their clients: dray run --detach, clients that are killed, dray wait and dray result from elsewhere, and
brokers that are killed in between.  What is printed is what `dray run` prints."""
import json
import os
import pathlib
import signal
import subprocess
import time
import unittest

import cluster
import dray

DRAY = cluster.BIN / "dray"


class Detach(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.options = "--heartbeat", "0.1", "--timeout", "300", "--state", self.folder / "state"
        self.hub = self.broker(*self.options, listen=self.tcp_endpoint())
        self.hand = self.worker(self.hub.endpoint)
        self.csv = self.folder / "notes.csv"
        with open(self.csv, "w") as out:
            # Later rows have other types, and blocks begin inside quotes: rounds behind the first.
            out.write("category,price,note\n")
            rows = 8000 if cluster.SLOW == 1 else 2000
            for i in range(rows):
                out.write(f"{'abc'[i % 3]},{i % 100 if i < rows * 7 // 8 else i / 8},\"x{i}{chr(10) if i % 100 == 0 else ''}\"\n")
        read = f'read_csv("{self.csv}", blocksize=2000)'
        self.grouped = f'{read}.groupby("category").price.agg(["sum", "count"])'
        self.scripts = [self.grouped, f"{read}.head(9)", f'{read}[["price", "category"]]', f"{read}.price.mean()"]

    def dray(self, *argv, code=0):
        done = subprocess.run([DRAY, argv[0], "--broker", self.hub.endpoint, *map(str, argv[1:])], capture_output=True,
                              text=True, env=dray.environment(), timeout=60 * cluster.SLOW)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr + self.hub.text)
        return done if code != 0 else done.stdout

    def restart(self):
        self.hub.signal(signal.SIGKILL)
        self.hub.wait_exit()
        self.hub = self.broker(*self.options, listen=self.hub.endpoint)

    def test_result_prints_what_run_prints(self):
        whole = {}
        for script in self.scripts:
            job = self.dray("run", "--detach", script).strip()
            for form in "table", "csv", "json":
                whole[job, form] = self.dray("run", "-f", form, script)
                self.assertEqual(self.dray("result", "-f", form, job), whole[job, form])
            out = self.folder / "out"
            self.dray("result", "-o", out, job)
            self.assertEqual(out.read_text(), whole[job, "table"])
        # All over again from a broker that was not there.
        said = subprocess.run([DRAY, "wait", "--broker", self.hub.endpoint, job], check=True, capture_output=True, text=True).stderr
        self.assertRegex(said, r"job \d+: [1-9]\d* tasks? done, 0 failed\n\Z")
        for command in "keep", "unkeep":  # what is written along is safe when something is that comes behind it
            self.dray(command, *([job] if command == "keep" else []), "settled")
        self.restart()
        self.assertEqual(subprocess.run([DRAY, "wait", "--broker", self.hub.endpoint, job], check=True, capture_output=True,
                                        text=True).stderr, said)
        self.assertNotIn("running", self.dray("job", job))
        for (job, form), text in whole.items():
            self.assertEqual(self.dray("result", "-f", form, job), text)

    def test_wait_and_result_of_what_still_runs(self):
        whole = self.dray("run", self.grouped)
        waits = []
        for _ in range(3):
            self.hand.signal(signal.SIGSTOP)
            job = self.start_leaving()
            waits += [subprocess.Popen([DRAY, *words, "--broker", self.hub.endpoint, job], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, env=dray.environment())
                      for words in (["wait", "-q"], ["result"])]
            self.restart()
            self.hand.signal(signal.SIGCONT)
        for child in waits:
            out, err = child.communicate(timeout=60 * cluster.SLOW)
            self.assertEqual(child.returncode, 0, err)
            self.assertIn(out, ("", whole))

    def start_leaving(self):
        """Its probe needs the worker, the job does not find it."""
        child = subprocess.Popen([DRAY, "run", "--broker", self.hub.endpoint, "--detach", self.grouped],
                                 stdout=subprocess.PIPE, text=True, env=dray.environment())
        self.hand.signal(signal.SIGCONT)
        job = child.communicate(timeout=60 * cluster.SLOW)[0].strip()
        self.hand.signal(signal.SIGSTOP)
        self.assertEqual(child.returncode, 0)
        return job

    def lose_client(self):
        """An attached job whose client is killed while it runs; its number."""
        for _ in range(20):
            child = subprocess.Popen([DRAY, "run", "--broker", self.hub.endpoint, self.grouped],
                                     stdout=subprocess.DEVNULL, env=dray.environment())
            while child.poll() is None:
                if any("read_csv" in job["name"] for job in self.running()):
                    self.hand.signal(signal.SIGSTOP)
                    time.sleep(0.1 * cluster.SLOW)  # what it told before is heard
                    running = [job["job"] for job in self.running() if "read_csv" in job["name"]]
                    if running:
                        child.kill()
                        child.wait()
                        return str(running[0])
                    self.hand.signal(signal.SIGCONT)
        self.fail("no job was seen that runs")

    def info(self, job):
        return json.loads(self.dray("job", "-f", "json", job))

    def running(self):
        return [job for job in json.loads(self.dray("jobs", "-f", "json")) if job["state"] == "running"]

    def test_wait_takes_over(self):
        self.slow()
        whole = self.dray("run", self.grouped)
        job = self.lose_client()
        waiting = subprocess.Popen([DRAY, "wait", "--broker", self.hub.endpoint, job], stderr=subprocess.PIPE, text=True,
                                   env=dray.environment())
        dray.wait_for(lambda: self.info(job)["detached"], 10, lambda: self.info(job))
        self.hand.signal(signal.SIGCONT)
        err = waiting.communicate(timeout=60 * cluster.SLOW)[1]
        self.assertEqual(waiting.returncode, 0, err)
        self.assertRegex(err, f"job {job} has lost its client: it goes on by itself now\n")
        self.assertEqual(self.dray("result", job), whole)

    def slow(self):
        """Many small blocks, so that a job can be seen."""
        with open(self.csv, "a") as out:
            for i in range(300000 if cluster.SLOW == 1 else 30000):
                out.write(f"{'abc'[i % 3]},{i},y\n")
        self.grouped = self.grouped.replace("blocksize=2000", "blocksize=400")

    def test_nobody_takes_over(self):
        self.options += "--orphan-grace", "1"
        self.restart()
        self.slow()
        job = self.lose_client()
        self.assertEqual(self.dray("result", "-f", "csv", "999999", code=2).stdout, "")
        deadline = time.monotonic() + 20 * cluster.SLOW
        while f"\n{job} " in self.dray("jobs").replace("\n   ", "\n").replace("\n  ", "\n").replace("\n ", "\n"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.hand.signal(signal.SIGCONT)
        self.assertIn("no job", self.dray("wait", job, code=2).stderr)

    def test_what_a_lost_client_has_read(self):
        """Is said to be gone, of a job that runs and of one that is done; what it had not read is there."""
        tasks, go = self.folder / "tasks.yaml", self.folder / "go"
        tasks.write_text("tasks: {s: {array: 1..8, shell: 'test {index} -le 2 || until test -e " + str(go) +
                         "; do sleep 0.02; done; echo {index}'}}")
        child = subprocess.Popen([DRAY, "submit", "--broker", self.hub.endpoint, tasks], stdout=subprocess.DEVNULL,
                                 env=dray.environment())
        job = dray.wait_for(lambda: [str(job["job"]) for job in json.loads(self.dray("jobs", "-f", "json"))], 10, "a job")[0]

        def info():
            return self.info(job)
        dray.wait_for(lambda: info()["layers"][0]["released"] == 2, 10, info)
        child.kill()
        child.wait()
        dray.wait_for(lambda: info()["client"] is None, 10, info)
        gone = "dray: s.2 failed: its result is no longer there: it was read and freed by the client that had the job\n"
        waiting = subprocess.Popen([DRAY, "result", "--broker", self.hub.endpoint, job, "s.2..4"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=dray.environment())
        dray.wait_for(lambda: info()["client"] is not None, 10, info)
        go.touch()
        self.assertEqual((*waiting.communicate(timeout=20 * cluster.SLOW), waiting.returncode), ("3\n4\n", gone, 1))
        for _ in range(2):
            done = self.dray("result", job, code=1)
            self.assertEqual(done.stdout, "3\n4\n5\n6\n7\n8\n")
            self.assertEqual(done.stderr, "dray: 2 of the results are no longer there: they were read and freed, or given up\n")
            self.assertEqual(self.dray("result", job, "s.2", code=1).stderr, gone)
            self.assertEqual(self.dray("result", job, "s.8"), "8\n")

    def test_words(self):
        job = self.dray("run", "--detach", self.scripts[1]).strip()
        self.assertIn("one value", self.dray("result", job, "0", code=2).stderr)
        self.assertIn("known without a job", self.dray("run", "--detach", "1 + 1", code=2).stderr)
        self.assertIn("dray result", self.dray("run", "--detach", "-f", "csv", "1 + 1", code=2).stderr)
        alone = subprocess.run([DRAY, "run", "--detach", "1 + 1"], capture_output=True, text=True, env=dray.environment())
        self.assertEqual(alone.returncode, 2)
        self.assertIn("give --broker", alone.stderr)
        # Its error is that of the script's task.
        os.unlink(self.csv)
        self.assertIn("notes.csv", self.dray("run", "--detach", self.grouped, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
