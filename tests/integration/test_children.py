#!/usr/bin/python3
"""Tasks outside of the worker, end to end: commands and functions of plugins, what becomes of their processes."""
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import time
import unittest

import cluster
import dray
import processes
import wire

PLUGIN = pathlib.Path(os.environ.get("DRAY_BUILD", cluster.BIN.parent)) / "tests" / "hostile_plugin.so"


def shell(text, **fields):
    return wire.op(dict(command=dict(argv=[text.encode()], shell=True, **fields)))


def argv(*words, **fields):
    return wire.op(dict(command=dict(argv=[w.encode() for w in words], **fields)))


def call(function, *argument, plugin="hostile"):
    return wire.op(dict(call=dict(plugin=plugin, function=function, argument=list(argument))))


SLEEP = f"sleep 77.{os.getpid()}"  # no other test's
BUSY = wire.op(dict(busy=dict(nanoseconds=60000000000)))  # of the worker's own thread


def below(pid, state=lambda state: True):
    """Names of all processes that descend from it, or of those in such a state."""
    return [name for name, _, is_in in processes.below(pid).values() if state(is_in)]


class ChildrenTest(cluster.ClusterTest):
    def setUp(self):
        super().setUp()
        self.endpoint = self.broker().endpoint
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()

    def start_worker(self, *options, **fields):
        return self.worker(self.endpoint, "--plugin", PLUGIN, "--scratch", self.scratch, *options, **fields)

    def run_job(self, layers, timeout=20, **fields):
        """({(layer, index): bytes}, uses, JOB_ENDED)"""
        client = wire.Peer(self.endpoint)
        kind, accepted = client.submit(layers, **fields)
        self.assertEqual(kind, "ACCEPTED", accepted)
        results, uses = {}, []
        while True:
            kind, message, payload = client.hear_kind("RESULT", "NOTES", "JOB_ENDED", timeout=timeout)
            if kind == "JOB_ENDED":
                client.say("BYE")  # or the job would wait for it to come back
                client.close()
                return results, uses, message
            if kind == "NOTES":
                uses += [wire.SCHEMA.decode("Note", n["note"])["use"] for n in message["note"]]
            else:
                results[message["layer"], message["index"]] = wire.unwrap_payload(payload[0])[16:]  # behind its header

    def expect(self, layers, results):
        got, uses, ended = self.run_job(layers)
        self.assertEqual(ended["state"], 3, ended)
        self.assertEqual(got, results)
        return uses

    def expect_failure(self, layers, *texts, timeout=20):
        _, _, ended = self.run_job(layers, timeout)
        self.assertEqual(ended["state"], 4, ended)
        text = ended["why"]["text"]
        for part in texts:
            self.assertIn(part, text)
        return ended

    def wait_gone(self, pid, names):
        dray.wait_for(lambda: not any(n in below(pid) for n in names), 10, lambda: below(pid))


class Leaving(ChildrenTest):
    def slow_job(self, tasks, seconds, **fields):
        client = wire.Peer(self.endpoint)
        _, accepted = client.submit([dict(
            tasks=tasks, op=shell(f"echo $$ >> {self.folder}/ran; sleep {seconds}; echo {{index}}"), wanted=True,
            **fields)])
        client.job = accepted["job"]
        return client

    def wait_started(self, count):
        ran = self.folder / "ran"
        dray.wait_for(lambda: ran.exists() and len(ran.read_text().split()) >= count, 10, "tasks that run")

    def test_what_runs_is_finished(self):
        """Another worker does what had not started; nothing is run twice."""
        leaver = self.start_worker("--name", "leaver")
        client = self.slow_job(6, 0.5)
        self.wait_started(1)
        leaver.signal(signal.SIGTERM)
        self.start_worker("--name", "stayer")
        self.assertEqual(leaver.wait_exit(), 0, leaver.text)
        got = set()
        while True:
            kind, message, payload = client.hear_kind("RESULT", "JOB_ENDED", timeout=20)
            if kind == "JOB_ENDED":
                break
            if not payload:
                continue  # handed over before FREE was heard: said again, from where it is
            got.add(wire.unwrap_payload(payload[0])[16:])
            client.say("FREE", job=client.job, run=[dict(job=client.job, layer=0, first=[message["index"]], count=[1])])
        self.assertEqual(message["state"], 3, message)
        self.assertEqual(got, {f"{i}\n".encode() for i in range(6)})
        self.assertEqual(len((self.folder / "ran").read_text().split()), 6)
        client.close()

    def test_no_longer_than_its_grace(self):
        worker = self.start_worker("--grace", "0.5")
        client = self.slow_job(1, 77)
        self.wait_started(1)
        begin = time.monotonic()
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait_exit(), 0, worker.text)  # the task takes longer than that waits
        self.assertGreater(time.monotonic() - begin, 0.4)
        worker.wait_text("ending what still runs")
        client.close()

    def test_second_signal(self):
        worker = self.start_worker("--grace", "60")
        client = self.slow_job(1, 77)
        self.wait_started(1)
        worker.signal(signal.SIGTERM)
        worker.wait_text("stopping")
        time.sleep(0.2)
        self.assertIsNone(worker.child.poll(), worker.text)
        worker.signal(signal.SIGTERM)
        self.assertEqual(worker.wait_exit(5), 0, worker.text)
        client.close()

    def test_labels(self):
        """What tasks may ask for is told."""
        self.start_worker("--label", "big", "--label", "fast", "--resources", "licence=1,gpu=2")
        client = wire.Peer(self.endpoint)
        client.say("CLUSTER_QUERY", tag=1)
        _, message, _ = client.hear_kind("CLUSTER")
        worker = message["worker"][0]
        self.assertEqual(worker["label"], ["big", "fast", "plugin:hostile"])
        self.assertEqual([(r["name"], r["amount"]) for r in worker["resource"]], [("licence", 1), ("gpu", 2)])
        client.close()


class Children(ChildrenTest):
    def test_commands(self):
        self.start_worker("--threads", "2")
        uses = self.expect([dict(tasks=4, op=shell("echo 'task {index}:' {param}", param=[b"a", b"b c", b"-", b"$HOME"]),
                                 wanted=True)],
                           {(0, i): f"task {i}: {p}\n".encode() for i, p in
                            enumerate(("a", "b c", "-", os.environ.get("HOME", "")))})
        self.assertEqual([u["exit_code"] for u in uses], [0] * 4)
        self.assertTrue(all(u["wall_us"] > 0 and u["peak_bytes"] > 0 for u in uses))
        # One command's output is another's standard input, a third's file.
        layers = [dict(tasks=3, op=argv("printf", "%s\n", "line {index}")),
                  dict(tasks=1, op=argv("sort", "-r", stdin_input=0),
                       input=[dict(layer=0, pattern="ALL")], wanted=True),
                  dict(tasks=3, op=shell("tr a-z A-Z < in > out", file=[dict(path="in", input=0)], output="out"),
                       input=[dict(layer=0, pattern="ONE_TO_ONE")], wanted=True)]
        self.expect(layers, {(1, 0): b"line 2\nline 1\nline 0\n",
                             **{(2, i): f"LINE {i}\n".encode() for i in range(3)}})
        self.expect_failure([dict(tasks=1, op=shell("echo my reason >&2; exit 7"), wanted=True)],
                            "ended with exit code 7", "my reason")
        self.expect_failure([dict(tasks=1, op=argv("no-such-program"), wanted=True)], "there is no such program")

    def test_functions(self):
        worker = self.start_worker("--threads", "2")
        worker.wait_text(r"plugin hostile 1\.0: \d+ functions")
        number = struct.Struct("<Q").pack
        layers = [dict(tasks=1000, op=call("number")),
                  dict(tasks=1000, op=call("sum"), input=[dict(layer=0, pattern="ONE_TO_ONE")], wanted=True)]
        self.expect(layers, {(1, i): number(1 + 2 * i) for i in range(1000)})
        self.expect([dict(tasks=2, op=call("echo", b"both"), wanted=True)], {(0, 0): b"both", (0, 1): b"both"})
        ended = self.expect_failure([dict(tasks=1, op=call("segfault"), wanted=True)],
                                    "function 'segfault' of plugin 'hostile'", "SIGSEGV", "about to fall")
        self.assertIn("worker", ended)
        self.expect_failure([dict(tasks=1, op=call("number", plugin="other"), wanted=True)],
                            "this worker has no plugin 'other' (it has hostile)")
        # Whatever happened: the worker is there, and works.
        self.assertIsNone(worker.child.poll())
        self.expect([dict(tasks=2, op=call("number"), wanted=True)], {(0, i): number(i) for i in range(2)})

    def test_timeout(self):
        self.start_worker()  # all of this would take longer than anybody waits
        self.expect_failure([dict(tasks=1, op=call("loop"), wanted=True, timeout_ms=200)], "did not end within 200 ms")
        self.expect_failure([dict(tasks=1, op=argv("sleep", "60"), wanted=True, timeout_ms=200)],
                            "did not end within 200 ms")
        self.expect_failure([dict(tasks=1, op=BUSY, wanted=True, timeout_ms=200)], "longer than its timeout of 0.2 s")

    def test_cancel(self):
        worker = self.start_worker("--threads", "2")
        for op, name in ((argv("sleep", "60"), "sleep"), (call("loop"), None), (BUSY, None)):
            client = wire.Peer(self.endpoint)
            _, accepted = client.submit([dict(tasks=2, op=op, wanted=True)])
            dray.wait_for(lambda: name is None or below(worker.pid).count(name) == 2, 10, lambda: below(worker.pid))
            if name is None:
                time.sleep(0.5 * cluster.SLOW)
            client.say("CANCEL", job=accepted["job"])
            client.hear_kind("JOB_ENDED")
            if name:
                self.wait_gone(worker.pid, [name])
            client.close()
        # Both threads are free again.
        self.expect([dict(tasks=2, op=argv("printf", "x"), wanted=True)], {(0, 0): b"x", (0, 1): b"x"})
        self.assertEqual([p for p in self.scratch.rglob("*") if not p.is_dir()], [])

    def test_worker_ends(self):
        """Asked to or killed: nothing that it has started stays, nor a folder."""
        for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -9)):
            worker = self.start_worker("--threads", "2")
            client = wire.Peer(self.endpoint)
            text = f"{SLEEP} & {SLEEP}; echo {self.folder}"
            client.submit([dict(tasks=1, op=shell(text), wanted=True)])
            client.submit([dict(tasks=1, op=call("loop"), wanted=True)])
            dray.wait_for(lambda pid=worker.pid: below(pid).count("sleep") >= 2 and below(pid).count("dray-child") >= 2, 10,
                          lambda pid=worker.pid: below(pid))
            started = [p for p, (_, parent, _) in processes.table().items() if parent == worker.pid]
            client.say("BYE")
            client.close()
            worker.signal(number)
            self.assertEqual(worker.wait_exit(), code, worker.text)

            def gone(started=started):
                there = processes.table()
                return not (any(p in there and there[p][2] != "Z" for p in started) or list(self.scratch.iterdir()) or
                            any(n == "sleep" and self.is_own_sleep(p) for p, (n, _, _) in there.items()))
            dray.wait_for(gone, 10, lambda started=started: (started, list(self.scratch.iterdir())))

    @staticmethod
    def is_own_sleep(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() == SLEEP + " "
        except OSError:
            return False

    def test_finish(self):
        """A worker that is asked to end lets plugins finish."""
        path = self.folder / "finished"

        def finishes():
            worker = self.start(cluster.BIN / "dray-worker", self.endpoint, "--plugin", PLUGIN, "--scratch", self.scratch,
                                "--threads", "1", env={**os.environ, "DRAY_TEST_FINISH": str(path)})
            worker.wait_text("connected to the broker")
            self.run_job([dict(tasks=2, op=call("number"), wanted=True)])
            before = path.read_text().count("finished")  # the process that said what the plugin is
            begin = time.monotonic()
            self.stop(worker)
            took = time.monotonic() - begin
            self.assertEqual(path.read_text().count("finished"), before + 1)
            return took
        dray.once_within(1, finishes)

    def test_nothing_leaks(self):
        worker = self.start_worker()
        layer = [dict(tasks=20, op=shell("echo {index}"), wanted=True)]
        self.run_job(layer)
        self.run_job([dict(tasks=20, op=call("number"), wanted=True)])
        self.wait_settled(worker)
        fds, processes = worker.fds(), len(below(worker.pid))
        for _ in range(5):
            self.run_job(layer)
            self.run_job([dict(tasks=20, op=call("number"), wanted=True)])
            self.run_job([dict(tasks=2, op=call("segfault"), wanted=True)])
        self.run_job([dict(tasks=20, op=call("number"), wanted=True)])
        self.wait_settled(worker)
        dray.wait_for(lambda: worker.fds() <= fds, 5, lambda: (worker.fds(), fds))
        self.assertEqual(len(below(worker.pid)), processes)

    def wait_settled(self, worker):
        """Of what it has started only those are there that stay."""
        dray.wait_for(lambda: set(below(worker.pid)) == {"dray-child"} and not below(worker.pid, lambda state: state == "Z"), 10,
                      lambda: below(worker.pid))

    def test_broken_plugin(self):
        text = self.folder / "text.so"
        text.write_text("no shared object")
        for path, says in ((text, "it cannot be loaded: "), (self.folder / "none.so", "No such file or directory")):
            worker = self.worker(self.endpoint, "--plugin", path, connected=False)
            self.assertEqual(worker.wait_exit(), 1)
            self.assertIn(f"plugin {path}: ", worker.text)
            self.assertIn(says, worker.text)
        worker = self.worker(self.endpoint, "--plugin", PLUGIN, "--plugin", PLUGIN, connected=False)
        self.assertEqual(worker.wait_exit(), 1)
        self.assertIn("it is called 'hostile', as ", worker.text)
        worker = self.start(cluster.BIN / "dray-worker", self.endpoint, "--plugin", PLUGIN,
                            env={**os.environ, "DRAY_TEST_INIT": "fail"})
        self.assertEqual(worker.wait_exit(), 1)
        self.assertIn("its init says: no licence 42", worker.text)


class Example(ChildrenTest):
    """The example for authors of plugins: installed, built as its README says, run."""

    def setUp(self):
        super().setUp()
        build, prefix = os.environ.get("DRAY_BUILD", str(cluster.BIN.parent)), self.folder / "prefix"
        subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, capture_output=True)
        config = next(prefix.rglob("dray.pc")).parent
        self.source = next(prefix.rglob("stats.c")).parent
        self.built = self.folder / "built"
        self.env = {**os.environ, "PKG_CONFIG_PATH": str(config)}
        for step in (["-S", self.source, "-B", self.built, "-DCMAKE_C_FLAGS=-Wall -Wextra -Wpedantic -Werror"],
                     ["--build", self.built]):
            done = subprocess.run(["cmake", *step], capture_output=True, text=True, env=self.env)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_example(self):
        # The installed worker finds its helper as well.
        worker = self.start(next(self.folder.rglob("bin/dray-worker")), self.endpoint, "--threads", "2",
                            "--plugin", self.built / "stats.so", "--plugin", self.built / "template.so",
                            "--scratch", self.scratch)
        worker.wait_text("connected to the broker")
        points = dict(tasks=8, op=call("pi", b"100000", plugin="stats"))
        total = dict(tasks=1, op=call("sum", plugin="stats"), input=[dict(layer=0, pattern="ALL")], wanted=True)
        results, _, ended = self.run_job([points, total])
        self.assertEqual(ended["state"], 3, ended)
        self.assertAlmostEqual(struct.unpack("<d", results[1, 0])[0] / 8, 3.14159, delta=0.01)
        text = b"to be or not to be"
        results, _, _ = self.run_job([dict(tasks=1, op=wire.op(dict(data=dict(value=[text])))),
                                      dict(tasks=1, op=call("histogram", plugin="stats"),
                                           input=[dict(layer=0, pattern="ONE_TO_ONE")], wanted=True)])
        self.assertEqual(results[1, 0][:8], b"DAR1\x09\x01\0\0")
        self.assertEqual(struct.unpack("<256Q", results[1, 0][64:]), tuple(text.count(i) for i in range(256)))
        self.expect([dict(tasks=1, op=call("hello", b"hi", plugin="template"), wanted=True)], {(0, 0): b"hi"})
        self.expect_failure([dict(tasks=1, op=call("pi", b"many", plugin="stats"), wanted=True)],
                            'pi takes a number of points, not "many"')
        self.expect_failure([dict(tasks=1, op=call("means", b"", plugin="stats"), wanted=True)], "means takes a table")

    def test_program(self):
        if os.environ.get("DRAY_SANITIZE"):
            self.skipTest("a sanitized library needs a sanitized program")
        self.worker(self.endpoint, "--plugin", self.built / "stats.so", "--scratch", self.scratch)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "dray"], check=True, capture_output=True, text=True,
                               env=self.env).stdout.split()
        program = self.folder / "call"
        subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", self.source / "call.c", "-o", program, *flags],
                       check=True)
        libraries = str(next((self.folder / "prefix").rglob("libdray.so")).parent)
        done = subprocess.run([program, self.endpoint], capture_output=True, text=True, timeout=60,
                              env={**self.env, "LD_LIBRARY_PATH": libraries})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^pi is about 3\.14\d\d$")

    def test_table(self):
        self.worker(self.endpoint, "--plugin", self.built / "stats.so", "--scratch", self.scratch)
        path = self.folder / "t.csv"
        path.write_text("name,n,x\na,1,0.5\nb,2,\nc,6,1.5\n")
        size = path.stat().st_size
        scan = dict(scan_csv=dict(
            dialect=dict(sep=44, quote=34, header=True, na_value=[b""]), block_size=64 << 10,
            column=[dict(name="name", type="STRING"), dict(name="n", type="INT64"), dict(name="x", type="FLOAT64")],
            file=[dict(path=str(path), name=path.name, size=size, mtime_ns=path.stat().st_mtime_ns, codec="PLAIN",
                       data_start=len("name,n,x\n"), fields=3, field=[0, 1, 2], blocks=1)]))
        client = wire.Peer(self.endpoint)
        kind, accepted = client.submit([dict(tasks=1, op=wire.op(scan)),
                                        dict(tasks=1, op=call("means", plugin="stats"),
                                             input=[dict(layer=0, pattern="ONE_TO_ONE")], wanted=True)])
        self.assertEqual(kind, "ACCEPTED", accepted)
        kind, message, payload = client.hear_kind("RESULT", "JOB_ENDED")
        self.assertEqual(kind, "RESULT", message)
        encoded = wire.unwrap_payload(payload[0])
        self.assertEqual(encoded[:5], b"DPT1\x01")
        for value in (3.0, 1.0):
            self.assertIn(struct.pack("<d", value), encoded)
        client.close()

    def test_other_ways_to_build(self):
        flags = subprocess.run(["pkg-config", "--cflags", "dray"], check=True, capture_output=True, text=True,
                               env=self.env).stdout.split()
        for name in ("stats", "template"):
            source, out = self.source / f"{name}.c", self.folder / f"{name}.so"
            for compiler in (["cc", "-std=c99"], ["c++", "-x", "c++", "-std=c++11"]):
                if shutil.which(compiler[0]) is None:
                    continue
                done = subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", *flags, source, "-o",
                                       out], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
