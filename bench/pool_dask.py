"""What bench/pool measures of Dask; run by the Python that Dask is installed for.

  python bench/pool_dask.py PATTERN [--tasks N] [--width N] [--kernel SO]

Starts a scheduler and two worker processes of one thread each over tcp, as `dray-bench pool` does, and prints one JSON
object with the same names.  The operation is the same: 1 + index + the sum of the inputs.  Values are checked.
"""
import argparse
import ctypes
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import dask
import distributed

PYTHON = sys.executable
CORES = 2


def count(index, inputs=()):
    return 1 + index + sum(inputs)


def command(index):
    subprocess.run(["/bin/true"], check=True, stdin=subprocess.DEVNULL)
    return index


_kernel = {}


def busy(path, iterations, output, index, inputs=()):
    """Count with the compute kernel of Dray's plugin, and a result of `output` bytes."""
    if path not in _kernel:
        _kernel[path] = ctypes.CDLL(path).bench_compute
        _kernel[path].argtypes = [ctypes.c_uint64]
    value = 1 + index + sum(int.from_bytes(i[:8], "little") for i in inputs)
    _kernel[path](iterations)
    return (value % 2**64).to_bytes(8, "little") * (output // 8)


class Cluster:
    def __init__(self, workers):
        self.processes = []
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.path.join(self.folder.name, "scheduler.json")
        self.born = time.perf_counter()
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", self.file)
        self.workers = 0
        self.client = None
        self.add(workers)
        self.client = distributed.Client(scheduler_file=self.file, timeout=60)
        self.ready()

    def start(self, role, *options):
        process = subprocess.Popen([pathlib.Path(PYTHON).parent / "dask", role, *options], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, cwd=self.folder.name)
        self.processes.append(process)
        return process

    def add(self, workers):
        for _ in range(workers):
            self.start("worker", "--scheduler-file", self.file, "--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard",
                       "--memory-limit", "512MB")
        self.workers += workers

    def ready(self):
        if self.workers:
            self.client.wait_for_workers(self.workers, timeout=60)
        self.start_s = time.perf_counter() - self.born

    def rss(self):
        with open(f"/proc/{self.scheduler.pid}/smaps_rollup") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Rss:"))

    def cpu(self):
        with open(f"/proc/{self.scheduler.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def known(self):
        return self.client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    def close(self):
        try:
            self.client.close(timeout=5)
        finally:
            for process in reversed(self.processes):
                process.terminate()
            for process in self.processes:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self.folder.cleanup()


# ---- graphs: a dict, the keys that are wanted, their values --------------------------------------------------


def trivial(n):
    graph = {("t", i): (count, i) for i in range(n)}
    return graph, list(graph), [1 + i for i in range(n)]


def chain(n):
    graph = {("t", i): (count, i, [("t", i - 1)] if i else []) for i in range(n)}
    return graph, [("t", n - 1)], [n * (n + 1) // 2]


def tree(leaves):
    graph = {("t", 0, i): (count, i) for i in range(leaves)}
    row, level = [1 + i for i in range(leaves)], 0
    while len(row) > 1:
        level += 1
        pairs = [range(2 * i, min(2 * i + 2, len(row))) for i in range((len(row) + 1) // 2)]
        for i, pair in enumerate(pairs):
            graph["t", level, i] = (count, i, [("t", level - 1, k) for k in pair])
        row = [1 + i + sum(row[k] for k in pair) for i, pair in enumerate(pairs)]
    return graph, [("t", level, 0)], row


def stencil(n, width):
    graph, row = {}, None
    for step in range(max(1, n // width)):
        near = [range(max(0, i - 1), min(width, i + 2)) if step else () for i in range(width)]
        for i in range(width):
            graph["t", step, i] = (count, i, [("t", step - 1, k) for k in near[i]])
        row = [1 + i + sum(row[k] for k in near[i]) for i in range(width)]
    return graph, [("t", step, i) for i in range(width)], row


def explicit(n):
    source = random.Random(42)
    graph, value = {}, []
    for i in range(n):
        before = source.sample(range(i), min(i, 3))
        graph["t", i] = (count, i, [("t", k) for k in before])
        value.append(1 + i + sum(value[k] for k in before))
    return graph, list(graph), value


GRAPHS = {"trivial": trivial, "chain": chain, "tree": tree, "stencil": stencil, "explicit": explicit}


def check(values, expected):
    if list(values) != list(expected):
        sys.exit("wrong values")


def run_graph(args):
    graph, wanted, expected = GRAPHS[args.pattern](args.tasks, args.width) if args.pattern == "stencil" else GRAPHS[args.pattern](args.tasks)
    figures = {"tasks": len(graph)}
    cluster = Cluster(0 if args.waiting else CORES)
    try:
        if args.waiting:
            # Without workers: what a task that waits takes, and how long it is until all are known.
            before = cluster.rss()
            begun = time.perf_counter()
            futures = cluster.client.get(graph, wanted, sync=False)
            while cluster.known() < len(graph):
                time.sleep(0.02)
            figures["push_ms"] = (time.perf_counter() - begun) * 1e3
            figures["broker_bytes_per_task"] = (cluster.rss() - before) / len(graph)
            figures["seconds"] = figures["push_ms"] / 1e3
            del futures
        else:
            cpu, begun = cluster.cpu(), time.perf_counter()
            values = cluster.client.get(graph, wanted)
            figures["seconds"] = time.perf_counter() - begun
            figures["broker_cpu_us_per_task"] = (cluster.cpu() - cpu) * 1e6 / len(graph)
            check(values, expected)
    finally:
        cluster.close()
    return figures


def run_map(args):
    function = command if args.pattern == "command" else count
    cluster = Cluster(CORES)
    try:
        cpu, begun = cluster.cpu(), time.perf_counter()
        futures = [cluster.client.submit(function, i, pure=False) for i in range(args.tasks)]
        values = cluster.client.gather(futures)
        seconds = time.perf_counter() - begun
        cpu = cluster.cpu() - cpu
        check(values, range(args.tasks) if args.pattern == "command" else range(1, args.tasks + 1))
    finally:
        cluster.close()
    return {"tasks": args.tasks, "seconds": seconds, "broker_cpu_us_per_task": cpu * 1e6 / args.tasks}


def run_latency(args):
    cluster = Cluster(CORES)
    times = []
    try:
        for i in range(args.tasks + 20):
            begun = time.perf_counter()
            value = cluster.client.submit(count, i, pure=False).result()
            times.append(time.perf_counter() - begun)
            check([value], [1 + i])
    finally:
        cluster.close()
    times = sorted(times[20:])
    return {"tasks": args.tasks, "seconds": sum(times), "p50_us": times[len(times) // 2] * 1e6,
            "p99_us": times[int(len(times) * 0.99)] * 1e6}


def run_start(args):
    times = []
    begun = time.perf_counter()
    for _ in range(args.tasks):
        cluster = Cluster(CORES)
        times.append(cluster.start_s)
        cluster.close()
    return {"tasks": args.tasks, "seconds": time.perf_counter() - begun, "start_ms": statistics.median(times) * 1e3}


# ---- METG, as dray-bench metg reckons it --------------------------------------------------------------------


def needs(kind, width, step, point):
    """Points of the step before that a point needs (bench/taskbench.h)."""
    if step == 0 or kind == "trivial":
        return []
    before = min(width, 1 << (step - 1)) if kind == "tree" else width
    if kind == "no_comm":
        return [point]
    if kind == "stencil_1d":
        return list(range(max(0, point - 1), min(width, point + 2)))
    if kind == "fft":
        sets = max(0, (width - 1).bit_length())
        distance = 1 << ((step + sets - 1) % sets) if sets else 0
        return [p for p in sorted({point - distance, point, point + distance}) if 0 <= p < width]
    if kind == "tree":
        return [point // 2] if point // 2 < before else []
    if kind == "random_nearest":
        # As many edges as there, drawn otherwise.
        source = random.Random((step % 3) << 60 | point)
        return [p for p in range(max(0, point - 2), min(width, point + 3)) if p == point or source.random() < 0.25]
    return list(range(before))


class Sweep:
    def __init__(self, args):
        self.args = args
        self.kernel = os.path.abspath(args.kernel)
        self.cluster = Cluster(CORES)
        self.peak = 0
        self.points = []

    def run(self, kind, width, steps, iterations, output):
        graph, wanted, row = {}, [], []
        for step in range(steps):
            now = min(width, 1 << step) if kind == "tree" else width
            near = [needs(kind, width, step, p) for p in range(now)]
            for p in range(now):
                graph["t", step, p] = (busy, self.kernel, iterations, output, p, [("t", step - 1, q) for q in near[p]])
            row = [1 + p + sum(row[q] for q in near[p]) for p in range(now)]
            if kind in ("trivial", "tree"):  # there nobody else needs all of them
                wanted += [("t", step, p) for p in range(now)]
        last = [("t", steps - 1, p) for p in range(now)]
        times = []
        for _ in range(self.args.repeats):
            begun = time.perf_counter()
            values = self.cluster.client.get(graph, wanted or last)
            times.append(time.perf_counter() - begun)
            check((int.from_bytes(v[:8], "little") for v in values[-now:]), (v % 2**64 for v in row))
        seconds = statistics.median(times)
        rate = len(graph) * iterations / seconds
        self.peak = max(self.peak, rate)
        return {"iterations": iterations, "steps": steps, "tasks": len(graph), "seconds": seconds, "rate": rate,
                "granularity": seconds * CORES / len(graph)}

    def good(self, iterations):
        point = self.run(self.args.kind, self.args.width, self.args.steps, iterations, self.args.output)
        self.points.append(point)
        return point["rate"] >= self.peak / 2

    def metg(self):
        self.run("trivial", 4 * CORES, 8, 1 << 18, 8)
        self.run("trivial", 4 * CORES, 8, 1 << 19, 8)
        good = bad = None
        i = max(1, int(2e-3 * self.peak / CORES))
        while good is None or bad is None:
            if self.good(i):
                good, i = i, i // 2 if bad is None else i
            else:
                bad, i = i, i * 2 if good is None else i
            if not 1 <= i <= 1 << 22:  # tasks of some 50 ms
                break
        for _ in range(2):
            if good and bad and good - bad > 1:
                middle = int(math.sqrt(good * bad))
                good, bad = (middle, bad) if self.good(middle) else (good, middle)
        self.points.sort(key=lambda p: -p["iterations"])
        for p in self.points:
            p["efficiency"] = p["rate"] / self.peak
        for above, below in zip(self.points, self.points[1:]):
            if above["efficiency"] >= 0.5 > below["efficiency"]:
                part = (above["efficiency"] - 0.5) / (above["efficiency"] - below["efficiency"])
                return math.exp(math.log(above["granularity"]) + part * math.log(below["granularity"] / above["granularity"]))
        return None


def run_metg(args):
    begun = time.perf_counter()
    sweep = Sweep(args)
    try:
        found = sweep.metg()
    finally:
        sweep.cluster.close()
    return {"kind": args.kind, "width": args.width, "cores": CORES, "output_bytes": args.output, "tasks": sum(p["tasks"] for p in sweep.points),
            "seconds": time.perf_counter() - begun, "metg_us": found and found * 1e6, "peak_gflops": sweep.peak * 128 / 1e9}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", choices=[*GRAPHS, "map", "command", "latency", "start", "metg"])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--waiting", action="store_true", help="without workers: memory and time until all tasks are known")
    parser.add_argument("--kind", default="stencil_1d")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--output", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kernel", help="build/release/bin/bench.so")
    args = parser.parse_args()
    run = {"map": run_map, "command": run_map, "latency": run_latency, "start": run_start, "metg": run_metg}.get(args.pattern, run_graph)
    figures = {"pattern": args.pattern, **run(args)}
    figures["tasks_per_s"] = figures["tasks"] / figures["seconds"]
    figures["version"] = distributed.__version__
    figures["worker_saturation"] = str(dask.config.get("distributed.scheduler.worker-saturation"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
