"""Pools and futures of libdray on real processes: pool.c of this folder, and the example that is installed."""
import glob
import os
import re
import signal
import subprocess
import time
import unittest

from dray import BIN, SLOW, Cluster, TestCase, environment

BUILD = os.environ.get("DRAY_BUILD", os.path.dirname(BIN))
PROGRAM = os.path.join(BUILD, "tests", "bin", "pool_client")


class Pool(TestCase):
    def pool(self, cluster, *what):
        done = subprocess.run([PROGRAM, cluster.endpoint, *map(str, what)], capture_output=True, text=True,
                              timeout=120 * SLOW, env=environment())
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout + cluster.text_of_log())
        return done.stdout

    def test_patterns(self):
        with Cluster(workers=2) as cluster:
            out = self.pool(cluster, "map", 50000, "submit", 50000, "chain", 3000, "tree", 2048, "random", 20000, "kinds", 3000, "pools", 5000,
                            "latency", 200)
        for what in ("map", "submit", "chain", "tree", "random", "kinds", "latency"):
            self.assertRegex(out, rf"(?m)^{what}: ")

    def test_one_worker_dies(self):
        with Cluster(workers=3) as cluster:
            program = subprocess.Popen([PROGRAM, cluster.endpoint, "map", "50000", "pools", "10000"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
            time.sleep(0.05)
            cluster.workers[0].send_signal(signal.SIGKILL)
            time.sleep(0.2)
            cluster.workers[1].send_signal(signal.SIGKILL)
            out, err = program.communicate(timeout=120 * SLOW)
        self.assertEqual((program.returncode, err), (0, ""))
        self.assertRegex(out, r"(?m)^random: 10000 tasks$")

    def test_cancel(self):
        with Cluster(workers=2) as cluster:
            out = self.pool(cluster, "cancel", 1)
        self.assertLess(float(re.search(r"cancel: (\d+) ms", out)[1]), 5000 * SLOW)

    def test_failures(self):
        with Cluster(workers=2, worker_options=["--plugin", os.path.join(BUILD, "tests", "hostile_plugin.so")]) as cluster:
            out = self.pool(cluster, "fail", 10000)
        self.assertIn("nothing", re.search(r"(?m)^error: (.*)$", out)[1])

    def test_kept_for_another_client(self):
        with Cluster(workers=2) as cluster:
            self.pool(cluster, "keep", 1000)
            self.assertEqual(self.pool(cluster, "kept", 1000), "kept: 1000 tasks\n")

    def test_nothing_stays(self):
        """Repeated pools leave the broker's memory as it was."""
        def rss():
            with open(f"/proc/{cluster.broker.pid}/status") as f:
                return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

        with Cluster(workers=2) as cluster:
            self.pool(cluster, *["map", 20000] * 3)
            before = rss()
            self.pool(cluster, *["map", 20000] * 10)
            after = rss()
        if not os.environ.get("DRAY_SANITIZE"):
            self.assertLess(after - before, 4 << 10, "KiB")

    def test_a_client_that_dies(self):
        with Cluster(workers=2) as cluster:
            program = subprocess.Popen([PROGRAM, cluster.endpoint, "map", "4000000"], env=environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.1)
            program.kill()
            program.wait()
            self.pool(cluster, "map", 1000)

    def test_example(self):
        if os.environ.get("DRAY_SANITIZE"):
            self.skipTest("a sanitized library needs a sanitized program")
        prefix = self.path("prefix")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)

        def find(name):
            return glob.glob(os.path.join(prefix, "**", name), recursive=True)[0]

        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "dray"], check=True, capture_output=True, text=True,
                               env=environment(PKG_CONFIG_PATH=os.path.dirname(find("dray.pc")))).stdout.split()
        program = self.path("example")
        warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        subprocess.run(["cc", "-std=c99", *warnings, "-o", program, find("pool.c"), *flags], check=True)
        header = self.path("header.cc")  # is C++ as well
        with open(header, "w") as f:
            f.write("#include <dray.h>\nint main() { return dray_version() == nullptr; }\n")
        subprocess.run(["c++", *warnings, "-o", self.path("header"), header, *flags], check=True)
        with Cluster(workers=2) as cluster:
            done = subprocess.run([program, cluster.endpoint], capture_output=True, text=True, timeout=60,
                                  env=environment(LD_LIBRARY_PATH=os.path.dirname(find("libdray.so"))))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "10000 results, sum 50005000\ntree of 127 tasks, as expected\n")


if __name__ == "__main__":
    unittest.main()
