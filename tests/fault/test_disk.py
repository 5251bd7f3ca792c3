#!/usr/bin/python3
"""Disks that are full: small ones, made of memory (tmpfs)."""
import subprocess
import sys
import time
import unittest

import base

FILES = """
tasks:
  writes: {array: 0..39, shell: "head -c 200000 /dev/zero | tr '\\\\0' {index} > out && cksum < out && sleep 0.01"}
"""


def why_not():
    done = subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"no file systems can be mounted: {done.stderr.strip()}"
    subprocess.run(["umount", "/mnt"], check=True)
    return None


class FullDisk(base.FaultTest):
    def small(self, size):
        path = self.folder / f"small-{size}"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", path], check=True)
        return path

    def tearDown(self):
        for process in self.processes:
            process.kill()
        self.doCleanups()  # before the folder goes
        super().tearDown()

    def test_full_scratch_of_one_worker(self):
        """Its tasks go to the others; it is asked again now and then, and takes part when there is room."""
        hub = self.broker_at(None)
        scratch = self.small("128k")
        self.worker_at(None, hub.endpoint, "--name", "full", "--scratch", scratch)
        self.worker_at(None, hub.endpoint, "--name", "good", "--scratch", self.folder)
        file = self.file("files.yaml", FILES)
        begin = time.monotonic()
        out = self.dray(None, "submit", "--broker", hub.endpoint, file)
        self.assertEqual(len(out.split(b"\n")), 41)
        self.assertLess(time.monotonic() - begin, 10 * base.SLOW)
        hub.wait_text("on worker full: .*the disk of its --scratch folder is full")
        subprocess.run(["mount", "-o", "remount,size=8m", scratch], check=True)
        self.wait(lambda: "full" in self.runs(hub, file), 20, "the worker is not used again")

    def runs(self, hub, file):
        """Names of workers that ran tasks of the job."""
        before = {w["name"]: w["partitions"] for w in self.workers(None, hub.endpoint)}
        job = self.dray(None, "submit", "--broker", hub.endpoint, "--detach", file).decode().strip()
        self.dray(None, "wait", "--broker", hub.endpoint, job)
        after = {w["name"]: w["partitions"] for w in self.workers(None, hub.endpoint)}
        return [name for name in after if after[name] > before.get(name, 0)]

    def test_all_are_full(self):
        """The job waits and says for what; when there is room it goes on."""
        hub = self.broker_at(None)
        scratch = self.small("128k")
        self.worker_at(None, hub.endpoint, "--name", "full", "--scratch", scratch)
        job = self.dray(None, "submit", "--broker", hub.endpoint, "--detach", self.file("files.yaml", FILES)).decode().strip()
        self.wait(lambda: b"the disk of worker full is full" in self.dray(None, "job", "--broker", hub.endpoint, job), 10,
                  "the reason is not told")
        subprocess.run(["mount", "-o", "remount,size=8m", scratch], check=True)
        self.dray(None, "wait", "--broker", hub.endpoint, job)
        self.assertEqual(len(self.dray(None, "result", "--broker", hub.endpoint, job).split(b"\n")), 41)

    def test_output_of_the_client(self):
        """A file that does not fit is not there afterwards, and what was there before still is."""
        hub = self.broker_at(None)
        self.worker_at(None, hub.endpoint)
        small = self.small("64k")
        (small / "out").write_text("before")
        file = self.file("large.yaml", "tasks: {large: {shell: head -c 300000 /dev/urandom}}\n")
        client = self.client_at(None, "submit", "--broker", hub.endpoint, "-o", small / "out", file)
        _, err = client.communicate(timeout=60 * base.SLOW)
        self.assertEqual(client.returncode, 5, err)
        self.assertIn(b"No space left", err)
        self.assertEqual([p.name for p in small.iterdir()], ["out"])
        self.assertEqual((small / "out").read_text(), "before")
        self.dray(None, "submit", "--broker", hub.endpoint, "-o", self.folder / "out", file)


if __name__ == "__main__":
    if reason := why_not():
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main()
