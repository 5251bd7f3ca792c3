#!/usr/bin/python3
"""Jobs end to end, submitted on the wire: results inlined, fetched from a worker, relayed by the broker; partitions
between workers; failures, cancelling, loss of workers and clients."""
import os
import signal
import struct
import time
import unittest

import cluster
import dray
import wire

DIALECT = dict(sep=44, quote=34, header=True, na_value=[b"", b"NA", b"nan"])
COLUMNS = [dict(name="category", type="STRING"), dict(name="price", type="FLOAT64"),
           dict(name="quantity", type="INT64")]
INLINE = 64 << 10


def partition_bytes(encoded):
    """What a partition of kind BYTES holds."""
    magic, kind, header = struct.unpack_from("<4sB3xI", encoded)
    assert magic == b"DPT1" and kind == 2, encoded[:16]
    return encoded[16:]


class Jobs(cluster.ClusterTest):
    # Who goes is gone; the clients of these tests are silent while they wait.
    broker_options = ("--orphan-grace", "0", "--timeout", "60")

    def make_csv(self, rows, name="sales.csv"):
        """(path, rows per category)"""
        path = self.folder / name
        counts = {}
        with open(path, "w") as out:
            out.write("category,price,quantity\n")
            for i in range(rows):
                category = ("Books", "Toys", "Home Goods")[i * i % 7 % 3]
                counts[category] = counts.get(category, 0) + 1
                out.write(f"{category},{10 + i % 990 + 0.25},{i % 4 + 1}\n")
        return path, counts

    def scan(self, path, block, **fields):
        size = os.stat(path).st_size
        data_start = len("category,price,quantity\n")
        blocks = max(1, -(-(size - data_start) // block))
        return blocks, dict(scan_csv=dict(
            dialect=DIALECT, block_size=block, column=COLUMNS,
            file=[dict(path=str(path), name=path.name, size=size, mtime_ns=os.stat(path).st_mtime_ns, codec="PLAIN",
                       data_start=data_start, fields=3, field=[0, 1, 2], blocks=blocks)]))

    def aggregate(self, stage):
        return dict(aggregate=dict(stage=stage, aggregate=dict(
            key=[0], key_name=["category"], key_type=[4], agg=[dict(fn="MEAN", column=1, name="price"),
                                                               dict(fn="COUNT", column=1, name="n")],
            agg_type=[3, 3])))

    def mean_layers(self, path, block, width=4):
        blocks, scan = self.scan(path, block)
        source = [dict(name=path.name, path=str(path), first=0, count=blocks)]
        layers = [dict(tasks=blocks, name=f"scan {path.name}", op=wire.op(scan, self.aggregate("PARTIAL")),
                       source=source)]
        while blocks > width:
            blocks = -(-blocks // width)
            layers.append(dict(tasks=blocks, name="combine",
                               op=wire.op(dict(take_inputs={}), self.aggregate("COMBINE")),
                               input=[dict(layer=len(layers) - 1, pattern="FAN_IN", width=width)]))
        layers.append(dict(tasks=1, name="result", wanted=True,
                           op=wire.op(dict(take_inputs={}), self.aggregate("COMBINE_FINAL")),
                           input=[dict(layer=len(layers) - 1, pattern="ALL")]))
        return layers

    def run_job(self, client, layers, timeout=60, **fields):
        """(payloads of results by (layer, index), JOB_ENDED)"""
        kind, message = client.submit(layers, **fields)
        self.assertEqual(kind, "ACCEPTED", message)
        return self.collect(client, message["job"], timeout)

    def collect(self, client, job, timeout=60):
        results = {}
        while True:
            kind, message, payload = client.hear_kind("RESULT", "JOB_ENDED", timeout=timeout)
            if message["job"] != job:
                continue
            if kind == "JOB_ENDED":
                return results, message
            results[message["layer"], message["index"]] = (message, payload)

    def one_result(self, client, layers, **fields):
        results, ended = self.run_job(client, layers, **fields)
        self.assertEqual(ended["state"], 3, ended)
        (message, payload), = results.values()
        self.assertTrue(message["inlined"])
        return wire.unwrap_payload(payload[0])

    def test_probe(self):
        path, _ = self.make_csv(100)
        broker = self.broker()
        self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        probe = dict(probe_csv=dict(dialect=DIALECT, pattern="sales.csv", path=str(path)))
        encoded = self.one_result(client, [dict(tasks=1, op=wire.op(probe), wanted=True)])
        result = wire.SCHEMA.decode("CsvProbeResult", partition_bytes(encoded))
        self.assertEqual(result["file"][0]["column"], ["category", "price", "quantity"])
        self.assertEqual(result["file"][0]["type"], [4, 3, 2])
        self.assertEqual(result["file"][0]["data_start"], 24)

    def test_same_bits_whoever_computes(self):
        """One worker, three workers, workers that are killed on the way: the same bytes."""
        path, counts = self.make_csv(20000)
        answers = set()
        layers = self.mean_layers(path, 4000)
        for workers, kill in ((1, False), (3, False), (3, True)):
            broker = self.broker(listen=f"ipc://{self.folder}/b{workers}{kill:d}")
            crew = [self.worker(broker.endpoint) for _ in range(workers)]
            client = wire.Peer(broker.endpoint)
            for round_ in range(4):
                kind, accepted = client.submit(layers)
                self.assertEqual(kind, "ACCEPTED")
                if kill and round_ < 2:
                    time.sleep(0.01 * round_)
                    crew[round_].signal(signal.SIGKILL)
                results, ended = self.collect(client, accepted["job"])
                self.assertEqual(ended["state"], 3, (ended, broker.text))
                (message, payload), = results.values()
                answers.add(wire.unwrap_payload(payload[0]))
            self.stop(broker)
        self.assertEqual(len(answers), 1)
        answer = answers.pop()
        for category in counts:
            self.assertIn(category.encode(), answer)

    def test_partitions_travel_between_workers(self):
        """Every worker's output is needed by every task of the next layer."""
        path, _ = self.make_csv(40000)
        broker = self.broker()
        crew = [self.worker(broker.endpoint, "--verbose") for _ in range(2)]
        client = wire.Peer(broker.endpoint)
        blocks, scan = self.scan(path, 50000)
        layers = [dict(tasks=blocks, name="scan", op=wire.op(scan)),
                  dict(tasks=6, name="gather", wanted=True,
                       op=wire.op(dict(take_inputs={}), self.aggregate("PARTIAL")),
                       input=[dict(layer=0, pattern="ALL")])]
        results, ended = self.run_job(client, layers)
        self.assertEqual(ended["state"], 3, (ended, crew[0].text, crew[1].text))
        self.assertEqual(len(results), 6)
        self.assertEqual(len({wire.unwrap_payload(p[0]) for _, p in results.values()}), 1)
        client.say("CLUSTER_QUERY", tag=1)
        self.stop(broker)

    def fetch_all(self, say, hear, message, **fields):
        """A partition's encoding, piece by piece."""
        data, tag, piece = b"", 100, 1 << 16
        while True:
            say(tag=tag, job=message["job"], layer=message["layer"], index=message["index"], offset=len(data),
                length=piece, **fields)
            answer, payload = hear()
            self.assertEqual(answer["tag"], tag)
            self.assertNotIn("why", answer)
            data += wire.unwrap_payload(payload[0])
            tag += 1
            if len(data) == answer["total"]:
                return data

    def test_large_results_are_fetched_and_relayed(self):
        path, _ = self.make_csv(30000)
        broker = self.broker()
        self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        blocks, scan = self.scan(path, 1 << 30)
        results, ended = self.run_job(client, [dict(tasks=blocks, op=wire.op(scan), wanted=True)])
        self.assertEqual(ended["state"], 3, ended)
        (message, payload), = results.values()
        self.assertNotIn("inlined", message)
        self.assertGreater(message["bytes"], INLINE)

        def relayed():
            _, answer, piece = client.hear_kind("PIECE")
            return answer, piece

        by_broker = self.fetch_all(lambda **f: client.say("FETCH", **f), relayed, message,
                                   worker=message["worker"])
        direct = wire.Zmtp(message["endpoint"][0])

        def ask(**fields):
            direct.send(wire.header("FETCH", message["incarnation"], 0) + wire.SCHEMA.encode("Fetch", fields))

        def answer():
            frames = direct.receive()
            return wire.SCHEMA.decode("Piece", frames[0][24:]), frames[1:]

        self.assertEqual(self.fetch_all(ask, answer, message), by_broker)
        self.assertEqual(by_broker[:4], b"DPT1")
        # What is not there, or beyond the end, is said in words.
        for index, offset, code in ((77, 0, 2), (0, 1 << 40, 22)):
            client.say("FETCH", tag=1, job=message["job"], layer=0, index=index, offset=offset, length=10,
                       worker=message["worker"])
            self.assertEqual(client.hear_kind("PIECE")[1]["why"]["code"], code)
        client.say("FETCH", tag=1, job=message["job"], layer=0, index=0, offset=0, length=10, worker=999)
        self.assertIn("not here", client.hear_kind("PIECE")[1]["why"]["text"])

    def test_failed_task_says_what_where_why(self):
        path, _ = self.make_csv(10)
        broker = self.broker()
        worker = self.worker(broker.endpoint, "--name", "w-seven")
        client = wire.Peer(broker.endpoint)
        blocks, scan = self.scan(path, 1 << 20)
        os.unlink(path)
        _, ended = self.run_job(client, [dict(tasks=1, name="scan gone.csv", op=wire.op(scan), wanted=True)])
        self.assertEqual(ended["state"], 4)
        text = ended["why"]["text"]
        for part in ("scan gone.csv", "task 0", "w-seven", "sales.csv", "no such file"):
            self.assertIn(part, text)
        self.assertEqual(ended["worker"], "w-seven")
        self.assertIsNone(worker.child.poll())

    def test_every_cancel_with_a_tag_is_answered(self):
        """Also one that cancels nothing: of a job that is not there or over, of no tasks, or again."""
        broker = self.broker()
        owner, client = wire.Peer(broker.endpoint), wire.Peer(broker.endpoint)
        _, accepted = owner.submit([dict(tasks=4, op=wire.op(dict(busy=dict(nanoseconds=1))), wanted=True)], detached=True)
        job = accepted["job"]
        some, none = (dict(job=job, layer=0, first=first, count=[1] * len(first)) for first in ([3], []))
        tried = (dict(job=job + 99), dict(job=job, run=[none]), dict(job=job, run=[some]), dict(job=job, run=[some, none]),
                 dict(job=job), dict(job=job), dict(job=job, run=[some]))
        for tag, cancel in enumerate(tried, 1):
            client.say("CANCEL", tag=tag, **cancel)
            self.assertEqual(client.hear_kind("REPLY")[1], dict(tag=tag))

    def test_inputs_wait_for_memory(self):
        """A worker has room for one or two inputs of those that its queue needs: they come when others have gone."""
        broker = self.broker()
        for name, memory in (("maker", "256M"), ("small", "20M")):
            process = self.start(cluster.BIN / "dray-worker", broker.endpoint, "--memory", memory, "--threads", "1",
                                 "--name", name)
            process.wait_text("connected to the broker")
        client = wire.Peer(broker.endpoint)
        layers = [dict(tasks=8, worker=["maker"], op=wire.op(dict(busy=dict(nanoseconds=1000, output_bytes=8 << 20)))),
                  dict(tasks=8, worker=["small"], op=wire.op(dict(busy=dict(nanoseconds=2500000000))), wanted=True,
                       input=[dict(layer=0, pattern="ONE_TO_ONE")])]
        _, accepted = client.submit(layers)
        # The others wait for as long as the first one runs.
        kind, message, _ = client.hear_kind("RESULT", "JOB_ENDED", timeout=20)
        self.assertEqual(kind, "RESULT", message)
        client.say("CANCEL", job=accepted["job"])
        client.hear_kind("JOB_ENDED")
        # Two at a time, never more.
        layers[1] = dict(tasks=4, worker=["small"], op=wire.op(dict(busy=dict(nanoseconds=1000))), wanted=True,
                         input=[dict(layer=0, pattern="FAN_IN", width=2)])
        results, ended = self.run_job(client, layers)
        self.assertEqual((ended["state"], len(results)), (3, 4), ended)

    def test_input_too_large_for_the_memory(self):
        broker = self.broker()
        for name, memory in (("maker", "256M"), ("small", "20M")):
            process = self.start(cluster.BIN / "dray-worker", broker.endpoint, "--memory", memory, "--threads", "1",
                                 "--name", name)
            process.wait_text("connected to the broker")
        client = wire.Peer(broker.endpoint)
        layers = [dict(tasks=1, worker=["maker"], op=wire.op(dict(busy=dict(nanoseconds=1000, output_bytes=40 << 20)))),
                  dict(tasks=1, worker=["small"], op=wire.op(dict(count={})), wanted=True,
                       input=[dict(layer=0, pattern="ONE_TO_ONE")])]
        _, ended = self.run_job(client, layers)
        self.assertEqual(ended["state"], 4)
        self.assertIn("a partition from another worker", ended["why"]["text"])

    def test_bad_graphs_are_rejected_in_words(self):
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        for layers in ([dict(tasks=0, op=b"")], [dict(tasks=1, op=b"", input=[dict(layer=0, pattern="ALL")])]):
            kind, message = client.submit(layers)
            self.assertEqual(kind, "REJECTED", message)
            self.assertTrue(message["why"]["text"])
        client.say("SUBMIT", key_hi=1, key_lo=2, graph=b"\xff\xff\xff")
        self.assertEqual(client.hear_kind("REJECTED")[1]["key_lo"], 2)

    def test_bad_operation_fails_its_job_only(self):
        broker = self.broker()
        worker = self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        _, ended = self.run_job(client, [dict(tasks=3, op=b"\xff\xff\xff", wanted=True)])
        self.assertEqual(ended["state"], 4)
        self.assertIsNone(worker.child.poll())

    def test_client_that_goes_takes_its_job_along(self):
        path, _ = self.make_csv(50000)
        broker = self.broker()
        worker = self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        kind, _ = client.submit(self.mean_layers(path, 100))
        self.assertEqual(kind, "ACCEPTED")
        client.close()
        other = wire.Peer(broker.endpoint)
        deadline = time.monotonic() + 20 * cluster.SLOW
        while True:
            other.say("CLUSTER_QUERY", tag=1)
            cluster_ = other.hear_kind("CLUSTER")[1]
            info = cluster_["worker"][0]
            if cluster_["jobs"] == 0 and info["partitions"] == 0 and info["running"] + info["queued"] == 0:
                break
            self.assertLess(time.monotonic(), deadline, cluster_)
            time.sleep(0.1)
        while True:  # one of the next heartbeats has its memory
            other.say("CLUSTER_QUERY", tag=1)
            info = other.hear_kind("CLUSTER")[1]["worker"][0]
            if info["memory_used"] < 8 << 20:
                break
            self.assertLess(time.monotonic(), deadline, info)
            time.sleep(0.1)
        self.assertIsNone(worker.child.poll())

    def test_cancel(self):
        path, _ = self.make_csv(50000)
        broker = self.broker()
        self.worker(broker.endpoint)
        client = wire.Peer(broker.endpoint)
        _, accepted = client.submit(self.mean_layers(path, 50))
        client.say("CANCEL", job=accepted["job"])
        _, ended = self.collect(client, accepted["job"])
        self.assertEqual(ended["state"], 5)
        # And the next job is none the worse for it.
        self.one_result(client, self.mean_layers(path, 1 << 20))

    def test_no_workers_yet(self):
        path, _ = self.make_csv(100)
        broker = self.broker()
        client = wire.Peer(broker.endpoint)
        _, accepted = client.submit(self.mean_layers(path, 1 << 20))
        message = client.hear_kind("PROGRESS")[1]
        self.assertEqual(message["workers"], 0)
        self.assertIn("worker", message["waiting"])
        self.worker(broker.endpoint)
        _, ended = self.collect(client, accepted["job"])
        self.assertEqual(ended["state"], 3)

    def test_data_dirs(self):
        left, right = self.folder / "left", self.folder / "right"
        left.mkdir()
        right.mkdir()
        path, _ = self.make_csv(1000, "left/l.csv")
        broker = self.broker()
        self.worker(broker.endpoint, "--data-dir", left, "--name", "lefty")
        self.worker(broker.endpoint, "--data-dir", right, "--name", "righty")
        client = wire.Peer(broker.endpoint)

        def query(pattern, glob=True):
            client.say("SOURCE_QUERY", tag=3, pattern=pattern, path="/nowhere/" + pattern, glob=glob)
            return client.hear_kind("SOURCES")[1]

        # That a worker is there may be known before its files are.
        answer = dray.wait_for(lambda: answer if len((answer := query("*.csv"))["file"]) > 0 and len(answer["worker"]) == 2 else None, 10,
                               lambda: query("*.csv"))
        self.assertEqual([f["name"] for f in answer["file"]], ["l.csv"])
        self.assertEqual(answer["shared"], False)
        self.assertEqual(sorted(answer["worker"]), ["lefty", "righty"])
        self.assertEqual(query("r.csv", glob=False)["file"], [])
        (right / "r.csv").write_text("a\n1\n")
        dray.wait_for(lambda: query("r.csv", glob=False)["file"], 10, "the file")
        layers = self.mean_layers(path, 1000)
        self.one_result(client, layers)
        # A file that nobody can read is an error that names it.
        for layer in layers:
            for source in layer.get("source", []):
                source["name"], source["path"] = "none.csv", "/data/none.csv"
        _, ended = self.run_job(client, layers)
        self.assertEqual(ended["state"], 4)
        self.assertIn("none.csv", ended["why"]["text"])

    def test_no_descriptor_and_no_memory_is_lost(self):
        path, _ = self.make_csv(5000)
        broker = self.broker()
        crew = [self.worker(broker.endpoint) for _ in range(2)]
        client = wire.Peer(broker.endpoint)
        layers = self.mean_layers(path, 5000)
        for _ in range(5):
            self.one_result(client, layers)
        fds = [p.fds() for p in [broker] + crew]
        rss = [p.rss() for p in [broker] + crew]
        for _ in range(60):
            kind, accepted = client.submit(layers)
            self.assertEqual(kind, "ACCEPTED")
            self.collect(client, accepted["job"])
            client.say("FREE", job=accepted["job"], run=[])
        # The workers may not have been connected to one another before: some descriptors, and not some a job.
        for process, before in zip([broker] + crew, fds):
            self.assertLess(process.fds() - before, 10)
        for process, before in zip([broker] + crew, rss):
            self.assert_grown_less(process, before, 4 << 20)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
