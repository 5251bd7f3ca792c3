"""What dies, stops or is interrupted while a job runs."""
import contextlib
import json
import os
import signal
import subprocess
import time
import unittest

from dray import (SLOW, Cluster, TestCase, alive, children, command_line, environment, once_within, run, start, wait_for,
                  write_sales)

# The thread sanitizer's runtime makes a file of its own in TMPDIR at the start of a process and removes it at
# once; a process that is killed just then leaves it.
RUNTIME = "tsan.rodata."
SCRIPT = 'read_csv("{}", blocksize=20000).groupby("category").agg({{"price": ["mean", "std"], "quantity": "sum"}})'


# One that is stopped is not lost before it is killed, and nobody does meanwhile what it was given.
STOPPED = ["--worker-timeout", "600", "--straggler", "0"]


class Workers(TestCase):
    def setUp(self):
        super().setUp()
        self.csv = self.path("sales.csv")
        write_sales(self.csv, 30000)
        self.script = SCRIPT.format(self.csv)

    def begin_with_one_stopped(self, cluster):
        """A job of which a stopped worker has been given its share, and the other one has done all that it can."""
        stopped, other = cluster.workers
        for worker in cluster.workers:
            worker.send_signal(signal.SIGSTOP)
        client = cluster.start("-f", "csv", self.script)
        for _ in range(20):
            other.send_signal(signal.SIGCONT)
            before = None
            while (now := self.progress(cluster)) != before or not now:
                before = now
                self.assertIsNone(client.poll(), cluster.text_of_log())
                time.sleep(0.2)
            if now[0] > 1:
                return client, stopped, other
            # The one that is stopped has the first look at the file, a job of its own.
            other.send_signal(signal.SIGSTOP)
            stopped, other = other, stopped
        self.fail("nobody looks at the file")

    def progress(self, cluster):
        """Tasks, and those that are done, of the job that runs."""
        running = [job for job in json.loads(cluster.ask("jobs")) if job["state"] == "running"]
        return [running[0]["tasks"], running[0]["done"]] if running else None

    def test_killed_before_it_did_anything(self):
        with Cluster(workers=2, broker_options=STOPPED) as cluster:
            expected = self.ok(cluster.run("-f", "csv", self.script))
            client, stopped, other = self.begin_with_one_stopped(cluster)
            stopped.kill()
            out, err = client.communicate(timeout=30 * SLOW)
            self.assertEqual((client.returncode, err, out.decode()), (0, b"", expected))

    def test_killed_with_what_it_made(self):
        with Cluster(workers=2, broker_options=STOPPED) as cluster:
            expected = self.ok(cluster.run("-f", "csv", self.script))
            client, stopped, other = self.begin_with_one_stopped(cluster)
            other.kill()
            stopped.send_signal(signal.SIGCONT)
            out, err = client.communicate(timeout=30 * SLOW)
            self.assertEqual((client.returncode, err, out.decode()), (0, b"", expected))

    def test_all_killed_and_a_new_one(self):
        with Cluster(workers=1) as cluster:
            expected = self.ok(cluster.run("-f", "csv", self.script))
            cluster.workers[0].send_signal(signal.SIGSTOP)
            client = cluster.start("-f", "csv", self.script)
            cluster.await_jobs(1)
            cluster.workers[0].kill()
            cluster.add_worker()
            out, _ = client.communicate(timeout=30 * SLOW)
            self.assertEqual((client.returncode, out.decode()), (0, expected))

    def ends_job(self, number, status):
        with Cluster(workers=1, broker_options=["--orphan-grace", "0.5"]) as cluster:
            cluster.workers[0].send_signal(signal.SIGSTOP)
            client = cluster.start(self.script)
            cluster.await_jobs(1)
            client.send_signal(number)
            out, err = client.communicate(timeout=20 * SLOW)
            self.assertEqual((client.returncode, out, err), (status, b"", b""))
            cluster.workers[0].send_signal(signal.SIGCONT)
            wait_for(lambda: b" 0 jobs" in run("workers", "--broker", cluster.endpoint).stdout, 15,
                     "the job is gone with its client")
            self.ok(cluster.run(self.script))

    def test_client_killed_drops_its_job(self):
        self.ends_job(signal.SIGKILL, -9)

    def test_interrupt_cancels_the_job(self):
        self.ends_job(signal.SIGINT, 130)

    def test_broker_killed(self):
        with Cluster(workers=1) as cluster:
            cluster.workers[0].send_signal(signal.SIGSTOP)
            client = cluster.start(self.script, env=environment(DRAY_RECONNECT="0.5"))
            cluster.await_jobs(1)
            cluster.broker.kill()
            out, err = client.communicate(timeout=20 * SLOW)
            self.assertEqual((client.returncode, out), (3, b""), err)
            self.assertIn(b"is gone: the connection has ended; waiting for it, for up to 0.5 s", err)
            self.assertIn(b"did not answer again within 0.5 s", err)


class LocalCluster(TestCase):
    """Whatever ends the client, its cluster goes, and so do its files."""

    def setUp(self):
        super().setUp()
        self.csv = self.path("sales.csv")
        write_sales(self.csv, 2000)
        self.run_dir = self.path("run")
        os.mkdir(self.run_dir)
        self.output = self.path("out.csv")

    def begin(self, *options, workers=1):
        """A client whose job cannot go on, and the processes of its cluster."""
        script = f'read_csv("{self.csv}", blocksize=20).groupby("category").price.mean()'
        for rows in 2000, 8000, *[32000] * 8:  # the workers may be seen only when all is done
            write_sales(self.csv, rows)
            with open(self.output, "w") as f:
                f.write("old")
            client = start("run", "-f", "csv", "-o", self.output, *options, script,
                           env=environment(XDG_RUNTIME_DIR=self.run_dir, TMPDIR=self.run_dir))
            if self.stop_workers(client, workers):
                time.sleep(0.4)
                with open(self.output) as f:  # else it has all, and waits only for the end of its cluster
                    if client.poll() is None and f.read() == "old":
                        break
            self.assertEqual(client.communicate(timeout=30 * SLOW)[1], b"")
        wait_for(lambda: len(children(client.pid)) >= 2 + workers, 5, "broker, workers, reaper")
        self.assertIsNone(client.poll())
        pids = [pid for pid, _ in children(client.pid)]
        self.assertNotEqual(os.listdir(self.run_dir), [])
        return client, pids

    def stop_workers(self, client, count):
        """As soon as they are seen; False: the client has ended."""
        stopped = set()
        while len(stopped) < count and client.poll() is None:
            for pid, name in children(client.pid):
                if name == "dray-worker" and pid not in stopped:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.add(pid)
        return len(stopped) == count

    def gone(self, pids):
        def left():
            files = [os.path.join(where, name) for where, folders, names in os.walk(self.run_dir)
                     for name in folders + names if not name.startswith(RUNTIME)]
            return [command_line(pid) for pid in pids if alive(pid)], files
        wait_for(lambda: left() == ([], []), 2.5, lambda: f"no process and no file is left, but {left()}")
        with open(self.output) as f:
            self.assertEqual(f.read(), "old")
        self.assertEqual(sorted(os.listdir(self.dir)), ["out.csv", "run", "sales.csv"])

    def ends_with(self, number, status):
        def ends():
            client, pids = self.begin()
            begun = time.monotonic()
            client.send_signal(number)
            out, _ = client.communicate(timeout=20 * SLOW)
            took = time.monotonic() - begun
            self.assertEqual((client.returncode, out), (status, b""))
            self.gone(pids)
            return took
        once_within(3, ends)

    def test_interrupt(self):
        self.ends_with(signal.SIGINT, 130)

    def test_terminate(self):
        self.ends_with(signal.SIGTERM, 143)

    def test_kill(self):
        self.ends_with(signal.SIGKILL, -9)

    def test_two_interrupts(self):
        client, pids = self.begin()
        client.send_signal(signal.SIGINT)
        time.sleep(0.02)
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=20 * SLOW)
        self.assertEqual(client.returncode, 130)
        self.gone(pids)

    def test_its_broker_is_killed(self):
        client, pids = self.begin()
        for pid, name in children(client.pid):
            if name == "dray-broker":
                os.kill(pid, signal.SIGKILL)
        _, err = client.communicate(timeout=20 * SLOW)
        self.assertEqual(client.returncode, 3, err)
        self.assertIn(b"broker", err)
        self.assertIn(b"signal 9", err)
        self.gone(pids)

    def test_its_only_worker_is_killed(self):
        client, pids = self.begin()
        for pid, name in children(client.pid):
            if name == "dray-worker":
                os.kill(pid, signal.SIGKILL)
        _, err = client.communicate(timeout=20 * SLOW)
        self.assertEqual(client.returncode, 3, err)
        self.assertIn(b"worker", err)
        self.gone(pids)

    def test_one_of_two_workers_is_killed(self):
        client, pids = self.begin("--workers", "2", "--threads", "1", workers=2)
        killed = None
        for pid, name in children(client.pid):
            if name == "dray-worker":
                if killed is None:
                    os.kill(pid, signal.SIGKILL)
                    killed = pid
                else:
                    os.kill(pid, signal.SIGCONT)
        _, err = client.communicate(timeout=30 * SLOW)
        self.assertEqual((client.returncode, err), (0, b""))
        with open(self.output) as f:
            self.assertTrue(f.read().startswith("category,price\n"))

    def test_worker_that_is_held_up(self):
        """For longer than one of another host may be silent: its process is there."""
        began, tasks = self.path("began"), self.path("tasks.yaml")
        with open(tasks, "w") as f:
            f.write(f"tasks: {{a: {{shell: 'echo > {began}; sleep 0.5; echo done'}}}}")
        client = start("submit", tasks)
        wait_for(lambda: os.path.exists(began), 10, "a task that runs")
        worker = next(pid for pid, name in children(client.pid) if name == "dray-worker")
        os.kill(worker, signal.SIGSTOP)
        time.sleep(4)
        os.kill(worker, signal.SIGCONT)
        out, err = client.communicate(timeout=30 * SLOW)
        self.assertEqual((client.returncode, out, err), (0, b"done\n", b""))

    def test_nothing_is_left_after_success_and_failure(self):
        env = environment(XDG_RUNTIME_DIR=self.run_dir, TMPDIR=self.run_dir)
        for script, status in ((f'read_csv("{self.csv}").price.sum()', 0), ('read_csv("/no/file")', 1)):
            client = start("run", script, env=env)
            client.communicate(timeout=20 * SLOW)
            self.assertEqual(client.returncode, status)
            self.assertEqual(os.listdir(self.run_dir), [])

    def test_group_is_stopped_and_continued(self):
        client, pids = self.begin()
        client.send_signal(signal.SIGTSTP)

        def state(pid):
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0]
        wait_for(lambda: state(client.pid) == "T", 5, "the client stops")
        broker = next(pid for pid, name in children(client.pid) if name == "dray-broker")
        wait_for(lambda: state(broker) == "T", 5, "the broker stops")
        client.send_signal(signal.SIGCONT)
        _, err = client.communicate(timeout=30 * SLOW)
        self.assertEqual((client.returncode, err), (0, b""))
        wait_for(lambda: not any(alive(pid) for pid in pids), 2, "no process is left")


if __name__ == "__main__":
    unittest.main()
