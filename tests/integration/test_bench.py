"""dray-bench pool and metg: figures come with their outcome checked, on every pattern, and nothing stays behind."""
import json
import os
import subprocess
import tempfile
import unittest

from dray import BIN, SLOW, TestCase, children, environment

BENCH = os.path.join(BIN, "dray-bench")
# What every pattern says.
ALWAYS = {"pattern", "workers", "tasks", "seconds", "tasks_per_s"}
TASKS = {"trivial": 20000, "chain": 500, "tree": 300, "stencil": 900, "explicit": 3000, "map": 3000, "latency": 50, "plugin": 500, "command": 20}


class Bench(TestCase):
    def bench(self, *arguments, code=0):
        done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=120 * SLOW, env=environment())
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(children(os.getpid()), [])
        return done.stdout if code == 0 else done.stderr

    def test_patterns(self):
        for pattern, tasks in TASKS.items():
            with self.subTest(pattern):
                options = ["--width", "30"] if pattern == "stencil" else []
                figures = json.loads(self.bench("pool", "--pattern", pattern, "--tasks", str(tasks), "--workers", "2", "--format", "json", *options))
                self.assertLessEqual(ALWAYS, figures.keys())
                self.assertGreaterEqual(figures["tasks"], tasks)
                self.assertGreater(figures["tasks_per_s"], 0)
                self.assertGreaterEqual(figures["ran_more_than_once"], 0)
                self.assertGreater(figures["broker_cpu_us_per_task"], 0)
                if pattern == "latency":
                    self.assertLessEqual(figures["p50_us"], figures["p99_us"])

    def test_start(self):
        figures = json.loads(self.bench("pool", "--pattern", "start", "--tasks", "2"))
        self.assertGreater(figures["start_ms"], 0)

    def test_waiting(self):
        figures = json.loads(self.bench("pool", "--pattern", "explicit", "--tasks", "50000", "--waiting-only"))
        self.assertGreater(figures["push_ms"], 0)
        self.assertGreater(figures["broker_bytes_per_task"], 8)  # three edges each are kept
        self.assertNotIn("ran_more_than_once", figures)

    def test_table(self):
        self.assertRegex(self.bench("pool", "--pattern", "trivial", "--tasks", "1000", "--no-waiting", "--format", "table"),
                         r"trivial: 1000 tasks, 2 workers of one thread\n(  .* [0-9.]+ .*\n)+")

    def test_durability(self):
        """Without and with a journal in turn; the folders go with it."""
        with tempfile.TemporaryDirectory() as parent:
            figures = json.loads(self.bench("pool", "--pattern", "explicit", "--tasks", "20000", "--durability", "1", "--state", parent))
            self.assertEqual(os.listdir(parent), [])
        self.assertGreater(figures["seconds_ratio"], 0)
        self.assertGreater(figures["cpu_us_per_task_ratio"], 0)
        self.assertGreater(figures["journal_bytes_per_task"], 8)  # three edges each are in it
        self.assertLess(figures["journal_bytes_per_task"], 100)

    def test_metg(self):
        """Every pattern at one length: values and runs are checked inside."""
        lines = self.bench("metg", "--width", "5", "--iterations", "100", "--repeats", "1", "--tasks-max", "200").splitlines()
        found = [json.loads(line) for line in lines]
        self.assertEqual([f["pattern"] for f in found], ["trivial", "no_comm", "stencil_1d", "fft", "tree", "random_nearest", "all_to_all"])
        for figures in found:
            self.assertEqual((figures["width"], figures["cores"], figures["output_bytes"]), (5, 2, 8))
            self.assertEqual(len(figures["points"]), 1)
            self.assertGreater(figures["points"][0]["granularity_us"], 0)
        large = json.loads(self.bench("metg", "--pattern", "stencil_1d", "--width", "5", "--iterations", "100", "--repeats", "1", "--tasks-max", "200",
                                      "--output-bytes", "4096"))
        self.assertEqual(large["output_bytes"], 4096)

    def test_hops(self):
        found = json.loads(self.bench("hops", "200"))
        self.assertEqual(found["rounds"], 200)
        self.assertLessEqual(found["p50_us"], found["p99_us"])

    def test_refused(self):
        for arguments, word in ((["pool"], "--pattern"), (["pool", "--pattern", "spiral"], "no such pattern"), (["pool", "--pattern", "map", "--tasks", "0"], "number"),
                                (["metg", "--pattern", "spiral"], "spiral"), (["metg", "--output-bytes", "9"], "multiple of 8")):
            with self.subTest(arguments):
                code = 2 if arguments[0] == "pool" else 64  # argp's EX_USAGE
                self.assertIn(word, self.bench(*arguments, code=code))


if __name__ == "__main__":
    unittest.main()
