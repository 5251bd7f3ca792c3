"""libdray as somebody else's program sees it: installed, found by pkg-config, used from C."""
import glob
import os
import re
import subprocess
import unittest

from dray import BIN, Cluster, TestCase, environment, write_sales

BUILD = os.environ.get("DRAY_BUILD", os.path.dirname(BIN))
HERE = os.path.dirname(os.path.abspath(__file__))


class Embed(TestCase):
    def setUp(self):
        super().setUp()
        self.prefix = self.path("prefix")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", self.prefix], check=True, capture_output=True)

    def find(self, name):
        found = glob.glob(os.path.join(self.prefix, "**", name), recursive=True)
        return [path for path in found if not os.path.isdir(path)]

    def test_installed(self):
        for name in ("dray", "dray-broker", "dray-worker", "dray-child", "dray.h", "dray_task.h", "dray.pc", "dray.1", "dray-run.1"):
            self.assertEqual(len(self.find(name)), 1, name)
        # Only what dray.h declares is visible.
        with open(self.find("dray.h")[0]) as f:
            declared = set(re.findall(r"^DRAY_API .*?(dray_\w+)\(", f.read(), re.M))
        library = next(path for path in self.find("libdray.so*") if not os.path.islink(path))
        out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
        exported = {line.split()[-1].split("@")[0] for line in out.splitlines()}
        self.assertEqual(exported, declared)
        self.assertIn("dray_connect", exported)

    def test_man_pages_have_all_options(self):
        for page, command in (("dray-run.1", ["dray", "run"]), ("dray-workers.1", ["dray", "workers"]),
                              ("dray-broker.1", ["dray-broker"]), ("dray-worker.1", ["dray-worker"])):
            with open(self.find(page)[0]) as f:
                text = f.read().replace("\\-", "-")
            out = subprocess.run([os.path.join(BIN, command[0]), *command[1:], "--help"], check=True, capture_output=True,
                                 text=True, env=environment()).stdout
            options = set(re.findall(r"^ .{1,6}(--[a-z-]+)", out, re.M)) - {"--help", "--usage", "--version"}
            self.assertGreater(len(options), 0)
            for option in options:
                self.assertIn(option, text, page)

    def test_program(self):
        if os.environ.get("DRAY_SANITIZE"):
            self.skipTest("a sanitized library needs a sanitized program")
        config = os.path.dirname(self.find("dray.pc")[0])
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "dray"], check=True, capture_output=True, text=True,
                               env=environment(PKG_CONFIG_PATH=config)).stdout.split()
        # The library must not make its users define anything, and the header is plain C99.
        program = self.path("embed")
        subprocess.run(["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o",
                        program, os.path.join(HERE, "embed.c"), *flags], check=True)
        csv = self.path("sales.csv")
        write_sales(csv, 1000)
        libraries = os.path.dirname(self.find("libdray.so")[0])
        with Cluster(workers=1) as cluster:
            done = subprocess.run([program, cluster.endpoint, f'read_csv("{csv}").groupby("category").size()'],
                                  capture_output=True, text=True, timeout=60,
                                  env=environment(LD_LIBRARY_PATH=libraries))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertRegex(lines[0], r"^version: \d")
        self.assertEqual(lines[1], "job: done, 3 partitions")
        self.assertEqual(sum(int(line.split(",")[1]) for line in lines[3:]), 1000)


if __name__ == "__main__":
    unittest.main()
