#!/usr/bin/python3
"""Clients whose connection is cut while the broker lives: jobs, pools and futures go on as if nothing had happened."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

import cluster
import dray
import wire
from proxy import Proxy

BUILD = pathlib.Path(os.environ.get("DRAY_BUILD", cluster.BIN.parent))
CLIENT = BUILD / "tests/bin/pool_client"
LONG = min(10 * cluster.SLOW, 25)  # s: those who are interrupted do not wait for the broker, which would take 30
DRAY = cluster.BIN / "dray"


def until(enough, *kinds):
    """Each of them, and again four times as large, as long as they were over before enough had happened to them."""
    size = 1
    while size == 1 or not enough():
        assert size <= 256, kinds
        for kind, count in kinds:
            yield kind, count * size
        size *= 4


class Reconnect(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.hub = self.broker("--heartbeat", "0.1", "--timeout", "30", listen=self.tcp_endpoint())
        self.proxy = Proxy(self.hub.endpoint)
        self.addCleanup(self.proxy.close)

    def client(self, *argv, **more):
        child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=dray.environment(**more))
        self.addCleanup(child.kill)
        return child

    def cut_until(self, child, every, most, shut=0.0):
        """Cuts its connections again and again, while it runs."""
        cuts = 0
        deadline = time.monotonic() + 60 * cluster.SLOW
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(every)
            if cuts < most and child.poll() is None:
                cuts += self.proxy.cut(shut=shut > 0) > 0  # it may not be there again yet
                time.sleep(shut)
                self.proxy.open()
        out, err = child.communicate(timeout=20 * cluster.SLOW)
        return cuts, out, err

    # ---- pools and futures

    def pool(self, *what, every=0.07, most=5, shut=0.0):
        before = self.proxy.connections
        child = self.client(CLIENT, self.proxy.endpoint, *what)
        cuts, out, err = self.cut_until(child, every, most, shut)
        self.assertEqual((child.returncode, err), (0, ""), out + self.hub.text)
        self.assertGreaterEqual(self.proxy.connections - before, cuts)
        return cuts

    def test_pools(self):
        """Values are looked at by the program itself: none is missing, none comes twice."""
        for _ in range(2):
            self.worker(self.hub.endpoint)
        cuts = 0
        for what in until(lambda: cuts > 4, ("map", 400000), ("submit", 300000), ("random", 8000), ("pools", 6000), ("latency", 300)):
            cuts += self.pool(*what)
        self.pool("cancel", 1)
        self.pool("map", 300000, most=2, shut=0.5)
        self.assertGreater(cuts, 4)

    # ---- scripts

    def script(self, rows):
        path = self.folder / "sales.csv"
        with open(path, "w") as out:
            out.write("category,price\n")
            for i in range(rows):
                # The last rows have another type than the first: a second round.
                out.write(f"{'abc'[i % 3]},{i % 100 if i < rows * 9 // 10 else i / 8}\n")
        return f'read_csv("{path}", blocksize=8000).groupby("category").price.agg(["sum", "count"])'

    def test_a_script_of_two_rounds(self):
        worker = self.worker(self.hub.endpoint)
        script = self.script(60000)
        whole = subprocess.run([DRAY, "run", "--broker", self.hub.endpoint, "-f", "csv", script], check=True,
                               capture_output=True, text=True, env=dray.environment()).stdout
        total = rounds = 0
        while rounds < 3 or total <= 3:
            rounds += 1
            self.assertLess(rounds, 30)
            child = self.client(DRAY, "run", "--broker", self.proxy.endpoint, "-f", "csv", script)
            while child.poll() is None and total < 1000:
                worker.signal(signal.SIGSTOP)
                time.sleep(0.05)
                self.proxy.cut()
                total += child.poll() is None
                worker.signal(signal.SIGCONT)
                time.sleep(0.005)
            out, err = child.communicate(timeout=60 * cluster.SLOW)
            self.assertEqual((child.returncode, out), (0, whole), err)

    def begin(self, endpoint, *options, **more):
        """A script whose job does not go on."""
        worker = self.worker(self.hub.endpoint)
        worker.signal(signal.SIGSTOP)
        child = self.client(DRAY, "run", "--broker", endpoint, *options, self.script(1000), **more)
        self.wait_known(1, 1)
        return child

    def wait_known(self, clients, jobs):
        """Until the broker knows of so many, and they have heard that it does."""
        def known():
            message = wire.ask_cluster(wire.Peer(self.hub.endpoint))
            return message["clients"] > clients and message["jobs"] >= jobs
        dray.wait_for(known, 20, lambda: self.hub.text)
        dray.wait_for(self.proxy.heard(), 20, lambda: (self.proxy.told, self.proxy.said))

    @staticmethod
    def read_gone(child):
        """What it says up to the remark that the broker is gone."""
        said = ""
        while (line := child.stderr.readline()):
            said += line
            if "waiting for it, for up to" in line:
                break
        return said

    @staticmethod
    def finish(child):
        """What else it says."""
        child.wait(20 * cluster.SLOW)
        with child.stdout, child.stderr:
            return child.stdout.read(), child.stderr.read()

    def test_it_says_so_once_and_can_be_interrupted(self):
        dray.once_within(2, self.interrupted_while_away)

    def interrupted_while_away(self):
        self.proxy.open()
        child = self.begin(self.proxy.endpoint)
        self.proxy.cut(shut=True)
        said = self.read_gone(child)
        self.assertIsNone(child.poll())
        child.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = self.finish(child)
        took = time.monotonic() - start
        self.assertEqual((child.returncode, out), (130, ""))
        self.assertRegex(said + err, r"\Adray: the broker at tcp://\S+ is gone: the connection has ended; waiting for it, "
                         r"for up to 30 s\ndray: interrupted while the broker is away, before there was a job\n\Z")
        return took

    def test_interrupted_wait_and_quiet(self):
        """What goes on without the command is said so; --quiet says neither."""
        worker = self.worker(self.hub.endpoint)
        script = subprocess.run([DRAY, "run", "--broker", self.hub.endpoint, "--detach", self.script(1000)], check=True,
                                capture_output=True, text=True, env=dray.environment()).stdout.strip()
        subprocess.run([DRAY, "wait", "--broker", self.hub.endpoint, "-q", script], check=True, env=dray.environment())
        worker.kill()  # with the results
        path = self.folder / "slow.yaml"
        path.write_text("tasks: {slow: {shell: sleep 30}}\n")
        job = subprocess.run([DRAY, "submit", "--broker", self.hub.endpoint, "--detach", path], check=True,
                             capture_output=True, text=True, env=dray.environment()).stdout.strip()
        waits = [self.client(DRAY, "wait", "--broker", self.proxy.endpoint, *options, job) for options in ([], ["-q"])]
        waits.append(self.client(DRAY, "submit", "--broker", self.proxy.endpoint, path))
        waits += [self.client(DRAY, "result", "--broker", self.proxy.endpoint, number) for number in (job, script)]
        self.wait_known(5, 3)
        self.proxy.cut(shut=True)
        said = [self.read_gone(child) if child is not waits[1] else "" for child in waits]
        time.sleep(0.5 * cluster.SLOW)  # the one that says nothing has noticed as well
        start = time.monotonic()
        for child in waits:
            child.send_signal(signal.SIGINT)
        said = [text + self.finish(child)[1] for text, child in zip(said, waits)]
        self.assertLess(time.monotonic() - start, LONG)
        self.assertEqual([child.returncode for child in waits], [130] * 5)
        for text, number in zip(said[3:], (job, script)):
            self.assertRegex(text, rf"away: job {number} goes on when it is back, and its results stay; `dray result {number}` "
                             r"prints them\n\Z")
        self.assertRegex(said[0], rf"away: job {job} goes on when it is back; `dray wait {job}` waits for it, "
                         rf"`dray cancel {job}` ends it\n\Z")
        self.assertEqual(said[1], "")
        self.assertRegex(said[2], r"away, which does not know of it: when it is back it cancels job (\d+) after its "
                         r"--orphan-grace [^\n]*`dray wait \1`\n\Z")

    def test_what_went_on_is_no_error(self):
        """A job that is done in spite of a cut says nothing of it at its end."""
        self.worker(self.hub.endpoint)
        path = self.folder / "slow.yaml"
        path.write_text("tasks: {slow: {shell: sleep 1.5; echo done}}\n")
        child = self.client(DRAY, "submit", "--broker", self.proxy.endpoint, path)
        time.sleep(0.7 * cluster.SLOW)
        self.proxy.cut()
        out, err = child.communicate(timeout=20 * cluster.SLOW)
        self.assertEqual((child.returncode, out), (0, "done\n"), err)
        self.assertRegex(err, r"\A([^\n]*; waiting for it, for up to 30 s\n"
                         r"dray: the broker is back after \d+\.\d s(; the job goes on)?\n)?\Z")

    def test_patience(self):
        child = self.begin(self.proxy.endpoint, "-q", DRAY_RECONNECT="0.7")
        self.proxy.cut(shut=True)
        out, err = child.communicate(timeout=20 * cluster.SLOW)
        self.assertEqual((child.returncode, out), (3, ""), err)
        self.assertRegex(err, r"\A[^\n]*did not answer again within 0\.7 s\n\Z")

    def test_whose_patience_ends_knows_its_job(self):
        self.worker(self.hub.endpoint)
        path = self.folder / "slow.yaml"
        path.write_text("tasks: {slow: {shell: sleep 30}}\n")
        job = subprocess.run([DRAY, "submit", "--broker", self.hub.endpoint, "--detach", path], check=True,
                             capture_output=True, text=True, env=dray.environment()).stdout.strip()
        ends = [self.client(DRAY, command, "--broker", self.proxy.endpoint, what, DRAY_RECONNECT="0.7")
                for command, what in (("wait", job), ("result", job), ("submit", path), ("run", self.script(1000)))]
        self.wait_known(4, 3)
        self.proxy.cut(shut=True)
        said = [child.communicate(timeout=20 * cluster.SLOW)[1] for child in ends]
        self.assertEqual([child.returncode for child in ends], [3] * 4, said)
        for text, words in zip(said, (rf"`dray wait {job}`", rf"`dray result {job}`", r"`dray wait \d+`", "before there was")):
            self.assertRegex(text, r"given up while the broker is away[^\n]*" + words)
            self.assertIn("did not answer again within 0.7 s", text)

    # ---- a broker that is killed and started again

    def test_pools_outlive_their_broker(self):
        hub = self.hub
        options = "--heartbeat", "0.1", "--timeout", "30", "--state", self.folder / "state"
        hub.kill()
        hub = self.broker(*options, listen=hub.endpoint)
        for _ in range(2):
            self.worker(hub.endpoint)
        kills = 0
        for what in until(lambda: kills > 3, ("submit", 300000), ("latency", 100), ("random", 10000), ("pools", 5000)):
            child = self.client(CLIENT, hub.endpoint, *what)
            for _ in range(3):
                time.sleep(0.05)
                if child.poll() is None:
                    hub.signal(signal.SIGKILL)
                    hub.wait_exit()
                    hub = self.broker(*options, listen=hub.endpoint)
                    kills += 1
            out, err = child.communicate(timeout=60 * cluster.SLOW)
            self.assertEqual((child.returncode, err), (0, ""), out + hub.text)
        self.assertGreater(kills, 3)

    def test_a_broker_without_state(self):
        for silent in 0, 1:  # then the client has begun to ask whether there are workers
            child = self.begin(self.proxy.endpoint)
            self.hub.signal(signal.SIGSTOP)
            time.sleep(silent)
            self.hub.signal(signal.SIGKILL)
            self.hub.wait_exit()
            self.hub = self.broker("--heartbeat", "0.1", "--timeout", "30", listen=self.hub.endpoint)
            out, err = child.communicate(timeout=20 * cluster.SLOW)
            self.assertEqual((child.returncode, out), (3, ""), err)
            self.assertRegex(err, "job [0-9]+ was lost: the broker at .* was started anew without what it knew")

    def test_a_broker_that_comes_back_without_state_is_not_away(self):
        """Nothing is said of what it will do with the job when it is back; who only asks hears why the job is not there."""
        tasks = pathlib.Path(self.folder) / "tasks.yaml"
        tasks.write_text("tasks: {s: {shell: sleep 60}}")
        job = subprocess.run([DRAY, "submit", "--detach", "-b", self.hub.endpoint, tasks], check=True, capture_output=True, text=True).stdout.strip()
        children = [self.client(DRAY, "submit", "-b", self.proxy.endpoint, tasks), self.client(DRAY, "wait", "-b", self.proxy.endpoint, job)]
        self.wait_known(2, 2)  # both have their job
        self.hub.signal(signal.SIGKILL)
        self.hub.wait_exit()
        self.broker("--heartbeat", "0.1", "--timeout", "4", listen=self.hub.endpoint)
        back = r"dray: the broker at \S+ is gone: [^\n]*\ndray: the broker is back after \S+ s, started anew without what it knew\n"
        for child, status, said in zip(children, (3, 2), ("job [0-9]+ was lost: the broker at [^\n]* was started anew without what it knew",
                                                          f"there is no job {job} [^\n]*")):
            out, err = child.communicate(timeout=20 * cluster.SLOW)
            self.assertEqual((child.returncode, out), (status, ""), err)
            self.assertRegex(err, rf"{back}dray: {said}\n\Z")


if __name__ == "__main__":
    unittest.main()
