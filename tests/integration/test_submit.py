"""dray submit and the commands about jobs, from end to end."""
import os
import signal
import subprocess
import unittest

from dray import BIN, SLOW, Cluster, TestCase, environment, run, start, wait_for

WORDS = """
name: words
tasks:
  numbers: {shell: "seq 1 1000"}
  part: {array: 0..3, shell: "awk 'NR % 4 == {index}' data", inputs: {task: numbers, file: data}}
  total: {shell: "cat parts/* | wc -l", inputs: {task: part, file: 'parts/{i}'}}
  first: {command: [head, -n, "2"], inputs: {task: numbers, stdin: true}}
"""


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


class Submit(TestCase):
    def write(self, text, name="job.yaml"):
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def test_local(self):
        self.assertEqual(self.ok(run("submit", self.write(WORDS))), "1000\n1\n2\n")
        self.assertEqual(self.ok(run("submit", "-", input=WORDS.encode())), "1000\n1\n2\n")
        done = run("submit", "--wait", self.write(WORDS))
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b"", b"dray: job 1: 7 tasks done, 0 failed\n"))

    def test_output(self):
        out = self.path("out")
        self.assertEqual(self.ok(run("submit", "-o", out, self.write(WORDS))), "")
        self.assertEqual(read(out), "1000\n1\n2\n")
        text = "tasks: {a: {params: [x, y], command: [printf, '{param}']}, b: {data: z}}"
        self.ok(run("submit", "-d", self.path("dir"), self.write(text)))
        found = {name: read(self.path("dir"), name) for name in os.listdir(self.path("dir"))}
        self.assertEqual(found, {"a.0": "x", "a.1": "y", "b": "z"})

    def test_plugin(self):
        plugin = os.path.join(os.environ.get("DRAY_BUILD", os.path.dirname(BIN)), "tests", "hostile_plugin.so")
        text = self.write("tasks:\n  say: {call: {plugin: hostile, function: echo, argument: 'task {index} '}, array: 0..2}\n")
        self.assertEqual(self.ok(run("submit", "--plugin", plugin, text)), "task 0 task 1 task 2 ")
        done = run("submit", "--plugin", text, text)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"plugin {text}: it cannot be loaded".encode(), done.stderr)
        done = run("submit", text)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"this worker has no plugin 'hostile' (none at all): start it with --plugin", done.stderr)
        self.assertEqual(run("submit", "--plugin", plugin, "--broker", "ipc:///tmp/none", text).returncode, 2)

    def test_dry_run(self):
        out = self.ok(run("submit", "--dry-run", self.write(WORDS), env=environment(PATH="/nonexistent")))
        self.assertTrue(out.startswith("words: 7 tasks in 4 layers\n"), out)

    def test_mistakes(self):
        done = run("submit", self.write("tasks:\n  a: {comand: [x]}\n"))
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"job.yaml:2:7: ", done.stderr)
        self.assertIn(b"did you mean 'command'?", done.stderr)
        for args in ([], ["--wait", "--detach", "x"], ["--detach", "x"], ["/nonexistent"], ["a", "b"],
                     ["--priority", "high", "x"], ["-o", "x", "-d", "y", "z"]):
            self.assertEqual(run("submit", *args).returncode, 2, args)

    def test_failures(self):
        text = ("allow_failures: {}\n"
                "tasks:\n"
                "  a: {{array: 10..15, shell: 'echo {{index}}; echo bad {{index}} >&2; exit $(( {{index}} % 3 == 2 ))'}}\n")
        done = run("submit", self.write(text.format(2)))
        self.assertEqual((done.returncode, done.stdout), (1, b"10\n12\n13\n15\n"), done.stderr)
        for element in (11, 14):
            self.assertIn(b"a.%d failed: " % element, done.stderr)
            self.assertIn(b"exit code 1; standard error ends with:\nbad %d\n" % element, done.stderr)
        done = run("submit", "-o", self.path("out"), self.write(text.format(1)))
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"job 1 failed: ", done.stderr)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_interrupt(self):
        """Ctrl-C takes the command down that runs in a worker."""
        mark = self.path("pid")
        text = f"tasks: {{a: {{shell: 'echo $$ > {mark}; exec sleep 100'}}}}"
        process = start("submit", self.write(text))
        pid = int(wait_for(lambda: os.path.exists(mark) and read(mark).strip(), 10, "the command's start"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10 * SLOW)
        self.assertEqual((process.returncode, err), (130, b""))
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5, "the command's end")


if __name__ == "__main__":
    unittest.main(verbosity=2)
