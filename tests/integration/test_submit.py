"""dray submit and the commands about jobs, from end to end."""
import hashlib
import json
import os
import shutil
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

    def test_local_cluster_that_is_slow_to_start(self):
        """That its workers are not there yet is no remark."""
        for name in "dray", "dray-broker", "dray-child":
            shutil.copy(os.path.join(BIN, name), self.dir)
        worker = self.write(f'#!/bin/sh\nsleep 1.5\nexec {BIN}/dray-worker "$@"\n', "dray-worker")
        os.chmod(worker, 0o755)
        table = self.write("x\n20\n3\n", "table.csv")
        for what, result in (("submit", self.write(WORDS)), "1000\n1\n2\n"), (("run", f'read_csv("{table}").x.sum()'), "23\n"):
            done = subprocess.run([self.path("dray"), *what], capture_output=True, env=environment(), timeout=60 * SLOW)
            self.assertEqual(self.ok(done), result)

    def test_example(self):
        """As the README tells it."""
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        text = read(root, "client/examples/jobs/pi.yaml")
        self.assertIn(text[text.index("name:"):], read(root, "README.md"))
        self.assertAlmostEqual(float(self.ok(run("submit", "-", input=text.encode()))), 3.14, places=1)

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
        self.assertIn(b"job 1 cannot go on: no worker with plugin:hostile; --plugin", done.stderr)
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
            self.assertIn(b"a.%d failed on worker " % element, done.stderr)
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
        _, err = process.communicate(timeout=20 * SLOW)
        self.assertEqual((process.returncode, err), (130, b""))
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5, "the command's end")



FAILING = """
allow_failures: all
tasks:
  a: {array: 10..15, shell: 'echo {index}; echo bad {index} >&2; exit $(( {index} % 3 == 2 ))'}
  b: {data: "b\\n"}
"""
SLEEPING = """
name: sleepers
allow_failures: all
tasks:
  s: {array: 1..9, shell: "exec sleep 100"}
  e: {command: [echo, hi], priority: 1}
"""


class Jobs(TestCase):
    """On a broker that stays: each command is a client of its own."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(workers=1)
        self.addCleanup(self.cluster.close)
        self.env = environment(DRAY_BROKER=self.cluster.endpoint)

    def dray(self, *args, **options):
        return run(*args, env=self.env, **options)

    def submit(self, text, *options):
        out = self.ok(self.dray("submit", "--detach", *options, "-", input=text.encode()))
        self.assertRegex(out, r"^\d+\n$")
        return out.strip()

    def info(self, job):
        return json.loads(self.ok(self.dray("job", job, "--format", "json")))

    def test_detached(self):
        job = self.submit(WORDS, "--name", "other", "--priority", "3")
        done = self.dray("wait", job)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, b"", f"dray: job {job}: 7 tasks done, 0 failed\n".encode()))
        for _ in range(2):  # they stay
            self.assertEqual(self.ok(self.dray("result", job)), "1000\n1\n2\n")
        self.assertEqual(self.ok(self.dray("result", job, "first")), "1\n2\n")
        self.fails(self.dray("result", job, "part.2"), 2, "no result", "result: true")
        self.fails(self.dray("result", job, "fist"), 2, "did you mean 'first'?")
        info = self.info(job)
        self.assertEqual([info[k] for k in ("name", "state", "tasks", "done", "failed", "priority", "detached")],
                         ["other", "done", 7, 7, 0, 3, True])
        self.assertEqual([(x["task"], x["tasks"]) for x in info["layers"]],
                         [("numbers", 1), ("part", 4), ("total", 1), ("first", 1)])
        listed = json.loads(self.ok(self.dray("jobs", "-f", "json")))
        self.assertEqual([(x["job"], x["state"]) for x in listed], [(int(job), "done")])
        self.ok(self.dray("cancel", job))  # over: its results go
        self.assertEqual(json.loads(self.ok(self.dray("jobs", "-f", "json"))), [])
        self.fails(self.dray("result", job), 2, "no job " + job)

    def test_wait_option(self):
        done = self.dray("submit", "--wait", "-", input=WORDS.encode())
        self.assertEqual(done.returncode, 0, done.stderr)
        job = done.stdout.decode().strip()
        self.assertEqual(done.stderr, f"dray: job {job}: 7 tasks done, 0 failed\n".encode())
        self.assertEqual(self.ok(self.dray("result", job, "total")), "1000\n")

    def test_attached(self):
        """A job that was not told to stay goes with its client."""
        self.assertEqual(self.ok(self.dray("submit", "-", input=WORDS.encode())), "1000\n1\n2\n")
        process = start("submit", "-", env=self.env, stdin=-1)
        process.stdin.write(SLEEPING.encode())
        process.stdin.close()
        listed = wait_for(lambda: json.loads(self.dray("jobs", "-f", "json").stdout), 10, "the job")
        job = str(listed[0]["job"])
        self.fails(self.dray("result", job), 2, "go to client", "--detach")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20 * SLOW), 143)
        process.stdout.close()
        process.stderr.close()
        wait_for(lambda: json.loads(self.dray("jobs", "-f", "json").stdout) == [], 10, "the job's end")

    def test_failures(self):
        job = self.submit(FAILING)
        self.assertEqual(self.dray("wait", "-q", job).returncode, 1)
        done = self.dray("result", job)
        self.assertEqual((done.returncode, done.stdout), (1, b"10\n12\n13\n15\nb\n"), done.stderr)
        self.assertEqual(self.ok(self.dray("result", job, "a.12..13", "a.10", "b")), "10\n12\n13\nb\n")
        done = self.dray("result", job, "a.14")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"a.14 failed on worker ", done.stderr)
        self.fails(self.dray("result", job, "a.16"), 2, "no element 16")
        out = self.ok(self.dray("job", job))
        self.assertRegex(out, r"a\.11 on worker \S+: command 'echo 11; echo bad 11 >&2; exit \$\(\( 11 % 3 == 2 \)\)': ended with "
                         r"exit code 1; standard error ends with:\n    bad 11\n")
        failures = self.info(job)["failures"]
        self.assertEqual([x["task"] for x in failures], ["a.11", "a.14"])
        self.assertTrue(all(x["worker"] and "bad" in x["error"] for x in failures))
        # A job that allows none.
        job = self.submit(FAILING.replace("all\n", "0\n", 1))
        done = self.dray("wait", job)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"job {job} failed: ".encode(), done.stderr)
        self.assertIn(f"job {job} failed: ", self.fails(self.dray("result", job), 1))
        self.assertEqual(self.info(job)["state"], "failed")
        # Its tasks are called as in its file, also when the broker has forgotten them.
        text = "tasks: {a: {array: 200..209, shell: 'test {index} != 205'}, b: {count: }}"
        self.assertIn("job 1 failed: a.205 on worker ", self.fails(run("submit", "-", input=text.encode()), 1))
        job = self.submit(text)
        self.assertIn(f"job {job} failed: a.205 on worker ".encode(), self.dray("wait", job).stderr)
        self.assertIn("failed: a.205 on worker ", self.fails(self.dray("result", job, "a.200"), 1))
        self.assertRegex(self.info(job)["why"], r"^a\.205 on worker ")
        self.assertRegex(self.ok(self.dray("job", job)), r"why +a\.205 on worker ")

    def test_cancel(self):
        job = self.submit(SLEEPING)
        wait_for(lambda: sum(x["assigned"] for x in self.info(job)["layers"]) > 0, 10, "a task at a worker")
        waiting = start("wait", job, env=self.env)
        self.ok(self.dray("cancel", job, "s.1..8"))
        wait_for(lambda: self.info(job)["failed"] == 8, 10, lambda: self.info(job))
        self.assertEqual(self.ok(self.dray("result", job, "e")), "hi\n")
        self.fails(self.dray("cancel", job, "s.10"), 2, "no element 10")
        self.ok(self.dray("cancel", job))
        self.assertEqual(self.info(job)["state"], "cancelled")
        _, err = waiting.communicate(timeout=20 * SLOW)
        self.assertEqual((waiting.returncode, f"job {job} was cancelled" in err.decode()), (1, True), err)
        self.fails(self.dray("cancel", job, "s.1"), 2, "is over (cancelled)")
        # The others of a job that allows no failures go on.
        job = self.submit("tasks: {a: {array: 1..3, shell: 'sleep 0.5; echo {index}'}, b: {shell: 'sleep 100'}}")
        self.ok(self.dray("cancel", job, "b"))
        self.assertEqual(self.dray("wait", job).returncode, 1)
        self.assertEqual(self.ok(self.dray("result", job, "a")), "1\n2\n3\n")
        # The worker is free again, at once.
        self.assertEqual(self.ok(self.dray("submit", "-", input=b"tasks: {a: {command: [echo, free]}}")), "free\n")

    def test_kept(self):
        job = self.submit(WORDS)
        self.ok(self.dray("keep", job, "my words"))
        self.ok(self.dray("keep", "my words", "more"))
        self.dray("wait", "more")
        listed = json.loads(self.ok(self.dray("kept", "-f", "json")))
        self.assertEqual(sorted((x["name"], x["job"], x["state"]) for x in listed),
                         [("more", int(job), "done"), ("my words", int(job), "done")])
        self.assertEqual(self.ok(self.dray("result", "my words", "total")), "1000\n")
        self.fails(self.dray("cancel", job), 2, "dray unkeep")
        other = self.submit(WORDS)
        self.fails(self.dray("keep", other, "more"), 2, "more")
        self.ok(self.dray("unkeep", "more"))
        self.ok(self.dray("unkeep", "my words"))
        self.fails(self.dray("unkeep", "more"), 2, 'no job is kept as "more"')
        self.fails(self.dray("result", "more"), 2)
        self.ok(self.dray("cancel", job))

    def test_interrupted_wait(self):
        process = start("submit", "--wait", "-", env=self.env, stdin=-1)
        process.stdin.write(SLEEPING.encode())
        process.stdin.close()
        job = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20 * SLOW), 130)
        self.assertIn(f"job {job} goes on".encode(), process.stderr.read())
        process.stdout.close()
        process.stderr.close()
        self.assertEqual(self.info(job)["state"], "running")
        for what in ([], ["s.3"]):  # all of it, and a task that runs
            wait_for(lambda: not self.info(job)["client"], 10, "nobody")
            process = start("result", job, *what, env=self.env)
            wait_for(lambda: self.info(job)["client"], 10, "its client")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20 * SLOW)
            self.assertEqual((process.returncode, out, err), (130, b"", b""))
        wait_for(lambda: not self.info(job)["client"], 10, "nobody")
        process = start("result", job, "s.3", env=self.env)
        wait_for(lambda: self.info(job)["client"], 10, "its client")
        self.ok(self.dray("cancel", job))
        out, err = process.communicate(timeout=20 * SLOW)
        self.assertEqual((process.returncode, out), (1, b""), err)
        self.assertIn(b"s.3 failed: ", err)

    def test_many_results(self):
        job = self.submit("tasks: {a: {array: 0..19999, count: }, b: {shell: 'head -c 3000000 /dev/zero'}}")
        self.dray("wait", "-q", job)
        # One of them needs none of the others.
        self.assertEqual(self.dray("result", job, "a.19998").stdout, (19999).to_bytes(8, "little"))
        self.assertEqual(len(self.dray("result", job, "b").stdout), 3000000)
        self.ok(self.dray("result", job, "-o", self.path("out")))
        self.assertEqual(os.path.getsize(self.path("out")), 20000 * 8 + 3000000)

    def test_results_are_printed_as_they_come(self):
        """Into a pipe as well: who reads them there need not wait for the end, nor loses them with the client."""
        go = self.path("go")
        job = f"tasks: {{a: {{array: 0..9, shell: 'test {{index}} -lt 2 || until test -e {go}; do sleep 0.02; done; echo {{index}}'}}}}"
        child = start("submit", "-", env=self.env, stdin=-1)
        child.stdin.write(job.encode())
        child.stdin.close()
        for line in b"0\n", b"1\n":
            self.assertEqual(child.stdout.readline(), line)
        with open(go, "w"):
            pass
        self.assertEqual(child.wait(20 * SLOW), 0)
        self.assertEqual((child.stdout.read(), child.stderr.read()), (b"".join(b"%d\n" % i for i in range(2, 10)), b""))
        child.stdout.close()
        child.stderr.close()

    def test_slow_reader(self):
        # A pager that nobody scrolls is no lost client.
        with Cluster(workers=1, broker_options=["--timeout", "3", "--worker-timeout", "30"]) as cluster:
            shell = f"{BIN}/dray submit --broker {cluster.endpoint} - | (sleep 5; md5sum)"
            job = b"tasks: {a: {array: 0..79, shell: 'head -c 200000 /dev/zero; echo {index}'}}"
            done = subprocess.run(shell, shell=True, input=job, capture_output=True, env=environment(), timeout=60 * SLOW)
        self.assertEqual(done.stderr, b"")
        wanted = hashlib.md5(b"".join(bytes(200000) + f"{i}\n".encode() for i in range(80))).hexdigest()
        self.assertEqual(done.stdout.decode().split()[0], wanted)

    def test_many_results_of_any_size(self):
        # Fetched from the workers, neighbours together.
        job = self.submit("tasks: {a: {array: 0..999, shell: 'test $(({index} % 100)) = 7 && head -c 1500000 "
                          "/dev/zero | tr \"\\000\" x; echo {index}'}}")
        self.dray("wait", "-q", job)
        expected = "".join((1500000 * "x" if i % 100 == 7 else "") + f"{i}\n" for i in range(1000))
        self.assertEqual(self.ok(self.dray("result", job)), expected)

    def test_no_broker_no_job(self):
        self.fails(run("jobs"), 2, "DRAY_BROKER")
        nobody = ["--broker", f"ipc://{self.dir}/nobody"]
        asked = [start(*command, *nobody) for command in (["jobs"], ["job", "1"], ["wait", "1"], ["result", "1"], ["kept"],
                                                          ["cancel", "1"], ["keep", "1", "x"], ["unkeep", "x"], ["workers"])]
        for process in asked:
            _, err = process.communicate(timeout=30 * SLOW)
            self.assertEqual((process.returncode, b"nobody" in err), (3, True), err)
        for command in (["job", "1"], ["wait", "1"], ["result", "1"], ["cancel", "1"], ["keep", "1", "x"], ["job", "99999999999"]):
            self.fails(self.dray(*command), 2, "job")
        for command in (["job"], ["wait"], ["result"], ["cancel"], ["keep", "1"], ["unkeep"], ["jobs", "1"],
                        ["kept", "-f", "csv"], ["job", "1", "2"]):
            self.assertEqual(self.dray(*command).returncode, 2, command)
            self.assertIn(b"Usage", run("help", command[0]).stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
