#!/usr/bin/python3
"""A broker that is started again on a host whose workers have died, live on or are going."""
import re
import signal
import time
import unittest

import cluster
import dray
from hub import HubTest, shell

GRACE = 60 * cluster.SLOW  # s, of the broker for workers: who waited for it would be seen
AT_ONCE = 5 * cluster.SLOW


class Restart(HubTest):
    def start_hub(self, *options):
        return super().start_hub("--recover-grace", GRACE, *options)

    def submit_two(self, key=1):
        """A job whose second task waits for a file, with the input that the first one has made."""
        log, go = self.folder / f"ran{key}", self.folder / f"go{key}"
        client = self.peer()
        layers = [dict(tasks=4, op=shell(f"echo x >>{log}; echo one")),
                  dict(tasks=1, op=shell(f"echo $$ >{log}.pid; while ! test -e {go}; do sleep 0.02; done; echo y >>{log}"), wanted=True,
                       input=[dict(layer=0, pattern="ALL")])]
        job = self.submit(client, layers, key, detached=True)[1]["job"]
        self.wait_done(job, 4)
        self.settle(job)
        pid = self.folder / f"ran{key}.pid"
        dray.wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"), 10, "the second task")
        self.waits = int(pid.read_text())
        return job, log, go

    def let_go(self, go):
        """What the worker that is gone had started has gone with it, and will not hear of it."""
        dray.wait_for(lambda: not dray.alive(self.waits), 10, lambda: dray.command_line(self.waits))
        go.touch()

    def end(self, process, number=signal.SIGKILL):
        process.signal(number)
        return process.wait_exit()

    def test_worker_that_died_with_its_broker(self):
        """Nobody waits for it: what it had is made again at once."""
        self.start_hub()
        worker = self.worker(self.listen)
        job, log, go = self.submit_two()
        self.kill_hub()
        self.end(worker)
        begun = time.monotonic()
        self.start_hub()
        self.hub.wait_text("0 workers may come back, 1 of this host have ended")
        self.worker(self.listen, "--name", "fresh")
        self.let_go(go)
        self.wait_state(job, "DONE")
        self.assertLess(time.monotonic() - begun, AT_ONCE)
        self.assertEqual(log.read_text().split(), ["x"] * 8 + ["y"])
        self.settle(job)
        self.restart_hub()  # and it is forgotten
        self.hub.wait_text("1 workers may come back, 0 of this host have ended")
        self.stop(self.hub)

    def stopped(self):
        """A worker that has it all, stopped while its broker is started again, and one that comes then."""
        self.start_hub()
        worker = self.worker(self.listen, "--name", "idler")
        job, log, go = self.submit_two()
        worker.signal(signal.SIGSTOP)
        self.restart_hub()
        self.hub.wait_text("1 workers may come back, 0 of this host have ended")
        self.worker(self.listen, "--name", "fresh")
        dray.wait_for(lambda: "worker idler is expected back" in self.job(job).get("waiting", ""), 10, lambda: self.job(job))
        return worker, job, log, go

    def test_worker_that_lives_is_waited_for(self):
        worker, job, log, go = self.stopped()
        go.touch()
        worker.signal(signal.SIGCONT)
        self.wait_state(job, "DONE")
        self.assertEqual(log.read_text().split(), ["x"] * 4 + ["y"])
        self.stop(self.hub)

    def test_worker_that_dies_while_it_is_waited_for(self):
        worker, job, log, go = self.stopped()
        self.end(worker)
        self.let_go(go)  # its command was not stopped with it: it ends with it
        begun = time.monotonic()
        self.wait_state(job, "DONE")
        self.assertLess(time.monotonic() - begun, AT_ONCE)
        self.assertEqual(log.read_text().split(), ["x"] * 8 + ["y"])
        self.stop(self.hub)

    # ---- a worker that is to go while its broker is away

    LOST = r"4 partitions \([\d.]+ (KB|bytes)\) of job %d"
    AGAIN = r": what is needed of that is made again\n"

    def goes_alone(self, key, options, signals, code, words):
        """The worker that has it all goes without its broker, and says what goes with it; the next broker knows."""
        self.state = self.folder / f"state{key}"
        self.start_hub()
        worker = self.worker(self.listen, *options)
        job, log, go = self.submit_two(key)
        self.kill_hub()
        worker.wait_text("lost the broker")
        for number, text in signals:
            worker.signal(number)
            worker.wait_text(text)
        self.assertEqual(worker.wait_exit(20), code, worker.text)
        self.assertRegex(worker.text, words.replace("LOST", self.LOST % job) + self.AGAIN)
        self.assertEqual(len(re.findall(self.AGAIN, worker.text)), 1, worker.text)
        self.start_hub()
        self.hub.wait_text("1 of this host have ended")
        fresh = self.worker(self.listen)
        self.let_go(go)
        begun = time.monotonic()
        self.wait_state(job, "DONE")
        self.assertLess(time.monotonic() - begun, AT_ONCE)
        self.assertEqual(log.read_text().split(), ["x"] * 8 + ["y"])
        self.stop(fresh, signal.SIGKILL, -signal.SIGKILL)
        self.kill_hub()

    def test_asked_to_go_while_the_broker_is_away(self):
        term = (signal.SIGTERM, "Terminated: stopping")
        self.goes_alone(1, ["--grace", "0.5"], [term], 0,
                        r"no other worker took LOST within 0.5 s, as the broker at ipc:\S+ is away")
        self.goes_alone(2, ["--grace", "0"], [term], 0, r"ending with LOST, while the broker at ipc:\S+ is away")
        self.goes_alone(3, [], [term, (signal.SIGINT, "stopping at once")], 0,
                        r"ending with LOST, while the broker at ipc:\S+ is away")

    def test_nobody_comes_back(self):
        """It gives up; and one whose lifetime is over waits for a broker until then."""
        for key, options in (1, []), (2, ["--lifetime", "0.5s"]):
            options += ["--reconnect", "1"]
            self.goes_alone(key, options, [], 3, r"giving up (.*\n)+.*ending with LOST, while the broker at ipc:\S+ is away")

    def test_what_runs_is_ended(self):
        """At the second signal, with the broker there: both say it."""
        self.start_hub()
        worker = self.worker(self.listen)
        job, log, go = self.submit_two()
        worker.signal(signal.SIGTERM)
        worker.wait_text("Terminated: stopping\n")
        self.stop(worker)
        self.assertIn("ending what still runs: 1 task\n", worker.text)
        lost = "ending with " + self.LOST % job + self.AGAIN
        self.assertRegex(worker.text, lost)
        self.hub.wait_text(lost)
        self.worker(self.listen)
        self.let_go(go)
        self.wait_state(job, "DONE")
        self.stop(self.hub)


if __name__ == "__main__":
    unittest.main()
