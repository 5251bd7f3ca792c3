"""Where the result goes: files whole or not at all, pipes that close, disks that are full."""
import os
import subprocess
import unittest

from dray import DRAY, SLOW, TestCase, environment, run, start, write_sales


class Output(TestCase):
    def setUp(self):
        super().setUp()
        self.csv = self.path("sales.csv")
        write_sales(self.csv, 20000)

    def test_file(self):
        out = self.path("out.csv")
        umask = os.umask(0)
        os.umask(umask)
        expected = self.ok(run("run", "-f", "csv", f'read_csv("{self.csv}")'))
        self.assertEqual(self.ok(run("run", "-f", "csv", "-o", out, f'read_csv("{self.csv}")')), "")
        with open(out) as f:
            self.assertEqual(f.read(), expected)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o666 & ~umask)
        self.assertEqual(self.ok(run("run", "-f", "csv", "-o", "-", f'read_csv("{self.csv}")')), expected)
        # Into the folder of the client.
        self.ok(run("run", "-f", "csv", "-o", "here.csv", f'read_csv("{self.csv}")', cwd=self.dir))
        with open(self.path("here.csv")) as f:
            self.assertEqual(f.read(), expected)

    def test_failure_leaves_the_old_file(self):
        out = self.path("out.csv")
        with open(out, "w") as f:
            f.write("old")
        with open(self.csv, "a") as f:
            f.write("a,b,c,d,e\n")
        self.fails(run("run", "-f", "csv", "-o", out, f'read_csv("{self.csv}", blocksize=10000)'), 1)
        with open(out) as f:
            self.assertEqual(f.read(), "old")
        self.assertEqual(sorted(os.listdir(self.dir)), ["out.csv", "sales.csv"])

    def test_what_cannot_be_written_is_said_first(self):
        env = environment(XDG_RUNTIME_DIR=self.path("none"), TMPDIR=self.path("none"), PATH="/nonexistent")
        self.fails(run("run", "-o", self.path("no/folder/x"), "1", env=env), 5, "no/folder/x", "No such file")
        self.fails(run("run", "-o", self.dir, "1", env=env), 5, "Is a directory")

    def test_names_that_are_none(self):
        env = environment(PATH="/nonexistent")
        self.fails(run("run", "-o", "", "1", env=env), 2, "--output is the name of a file")
        tasks = self.path("job.yaml")
        with open(tasks, "w") as f:
            f.write("tasks: {a: {data: x}}")
        self.fails(run("submit", "-o", "", tasks, env=env), 2, "--output is the name of a file")
        self.fails(run("submit", "-d", "", tasks, env=env), 2, "--directory is the name of a folder")
        self.fails(run("submit", "-d", tasks, tasks), 5, "job.yaml: Not a directory")

    def test_full_disk(self):
        out = self.path("small/out.csv")
        os.mkdir(self.path("small"))
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", self.path("small")],
                               capture_output=True)
        if mount.returncode != 0:
            self.skipTest("no small file system can be mounted here")
        try:
            with open(out, "w") as f:
                f.write("old")
            self.fails(run("run", "-f", "csv", "-o", out, f'read_csv("{self.csv}")'), 5, "out.csv",
                       "No space left on device")
            with open(out) as f:
                self.assertEqual(f.read(), "old")
            self.assertEqual(os.listdir(self.path("small")), ["out.csv"])
            env = environment(TMPDIR=self.path("small"))
            self.fails(run("run", "-f", "csv", f'read_csv("{self.csv}")', env=env), 5, "No space left on device")
        finally:
            subprocess.run(["umount", self.path("small")], check=True)

    def test_full_device(self):
        with open("/dev/full", "w") as full:
            client = subprocess.run([DRAY, "run", f'read_csv("{self.csv}").price.sum()'], stdout=full,
                                    stderr=subprocess.PIPE, env=environment(), timeout=20 * SLOW)
        self.assertEqual(client.returncode, 5)
        self.assertIn(b"No space left on device", client.stderr)

    def test_stdout_by_name(self):
        # Others write to the same file: it stays the same.
        log = self.path("log")
        shell = f'echo first; {DRAY} run -o /dev/stdout "1 + 1"; {DRAY} run -o {log} "2 + 2"; echo last'
        with open(log, "a") as out:
            subprocess.run(["sh", "-c", shell], stdout=out, env=environment(), timeout=20 * SLOW, check=True)
        with open(log) as f:
            self.assertEqual(f.read(), "first\n2\n4\nlast\n")

    def test_reader_that_goes(self):
        client = start("run", "-f", "csv", f'read_csv("{self.csv}")')
        client.stdout.close()
        err = client.stderr.read()
        client.stderr.close()
        # As other tools under the shell: 141, and not a word.
        self.assertEqual((client.wait(20 * SLOW), err), (141, b""))

    def test_closed_stdout(self):
        done = subprocess.run(["sh", "-c", 'exec "$0" run "$1" >&-', DRAY, "1 + 1"], stderr=subprocess.PIPE,
                              env=environment(), timeout=20 * SLOW)
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"standard output", done.stderr)

    def test_closed_streams_do_no_harm(self):
        out = self.path("out.csv")
        done = subprocess.run(["sh", "-c", 'exec "$0" run -f csv -o "$2" "$1" <&- >&- 2>&-', DRAY,
                               f'read_csv("{self.csv}").price.count()', out], env=environment(), timeout=20 * SLOW)
        self.assertEqual(done.returncode, 0)
        with open(out) as f:
            self.assertIn("20000", f.read())

    def test_stdout_has_the_result_only(self):
        client = run("run", "--progress", "always", "-f", "csv", f'read_csv("{self.csv}", blocksize=1000).price.count()')
        self.assertEqual(client.returncode, 0)
        self.assertNotIn(b"%", client.stdout)


if __name__ == "__main__":
    unittest.main()
