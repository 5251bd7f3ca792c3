#!/usr/bin/python3
"""A broker that is started again on a host whose workers have died, live on or are going."""
import re
import signal
import time
import unittest

import cluster
from hub import COUNT, STATE, HubTest, shell

GRACE = 60  # s, of the broker for workers: longer than any of these tests may take


class Restart(HubTest):
    def start_hub(self, *options):
        return super().start_hub("--recover-grace", GRACE, *options)

    def submit_two(self, key=1):
        """A job whose second task waits for a file, with the input that the first one has made."""
        log, go = self.folder / f"ran{key}", self.folder / f"go{key}"
        client = self.peer()
        layers = [dict(tasks=4, op=shell(f"echo x >>{log}; echo one")),
                  dict(tasks=1, op=shell(f"while ! test -e {go}; do sleep 0.02; done; echo y >>{log}"), wanted=True,
                       input=[dict(layer=0, pattern="ALL")])]
        job = self.submit(client, layers, key, detached=True)[1]["job"]
        self.wait_done(job, 4)
        time.sleep(0.3)  # what the journal is told lazily
        return job, log, go

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
        self.assertRegex(self.hub.text, "0 workers may come back, 1 of this host have ended")
        self.worker(self.listen, "--name", "fresh")
        go.touch()
        self.wait_state(job, "DONE")
        self.assertLess(time.monotonic() - begun, 5 * cluster.SLOW)
        self.assertEqual(log.read_text().split(), ["x"] * 8 + ["y"])
        time.sleep(0.3)
        self.restart_hub()  # and it is forgotten
        self.assertRegex(self.hub.text, "1 workers may come back, 0 of this host have ended")
        self.stop(self.hub)

    def test_worker_that_lives_is_waited_for(self):
        """One that is stopped while its broker is away, and goes on; the next time it dies of it."""
        self.start_hub()
        worker = self.worker(self.listen, "--name", "idler")
        job, log, go = self.submit_two()
        worker.signal(signal.SIGSTOP)
        self.restart_hub()
        self.assertRegex(self.hub.text, "1 workers may come back, 0 of this host have ended")
        self.worker(self.listen, "--name", "fresh")
        time.sleep(0.5)
        self.assertIn("worker idler is expected back", self.job(job)["waiting"])
        worker.signal(signal.SIGCONT)
        go.touch()
        self.wait_state(job, "DONE")
        self.assertEqual(log.read_text().split(), ["x"] * 4 + ["y"])

        job, log, go = self.submit_two(2)
        time.sleep(0.3)
        worker.signal(signal.SIGSTOP)
        self.restart_hub()
        self.hub.wait_text("worker fresh is number")
        go.touch()
        time.sleep(0.5)
        self.assertIn("worker idler is expected back", self.job(job)["waiting"])
        self.end(worker)
        begun = time.monotonic()
        self.wait_state(job, "DONE")
        self.assertLess(time.monotonic() - begun, 5 * cluster.SLOW)
        self.stop(self.hub)


if __name__ == "__main__":
    unittest.main()
