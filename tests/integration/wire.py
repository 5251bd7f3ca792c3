"""Dray's wire spoken from scratch, with nothing of Dray's or ZeroMQ's code: ZMTP 3.0 (RFC 23), the frame
header of proto/frame.h, payload frames of proto/payload.h, and protobuf by the text of proto/*.proto."""
import ctypes
import os
import pathlib
import re
import socket
import struct
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# ---- protobuf ----------------------------------------------------------------------


class Schema:
    """Messages and enums of .proto files, as far as Dray's use of the language goes."""

    def __init__(self, *paths):
        self.messages, self.enums = {}, {}
        for path in paths:
            text = re.sub(r"//[^\n]*", "", pathlib.Path(path).read_text())
            for kind, name, body in re.findall(r"\b(message|enum)\s+(\w+)\s*\{([^{}]*)\}", text):
                if kind == "enum":
                    self.enums[name] = {k: int(v) for k, v in re.findall(r"(\w+)\s*=\s*(\d+)", body)}
                else:
                    fields = re.findall(r"(required|optional|repeated)\s+(\w+)\s+(\w+)\s*=\s*(\d+)([^;]*);", body)
                    self.messages[name] = [(f, t, n, int(i), "packed" in o) for f, t, n, i, o in fields]

    def encode(self, message, values):
        out = bytearray()
        known = {field[2] for field in self.messages[message]}
        assert set(values) <= known, (message, set(values) - known)
        for label, kind, name, number, packed in self.messages[message]:
            if name not in values:
                continue
            if packed:
                body = b"".join(self._value(kind, v)[1] for v in values[name])
                out += varint(number << 3 | 2) + varint(len(body)) + body
                continue
            for value in values[name] if label == "repeated" else [values[name]]:
                wire, body = self._value(kind, value)
                out += varint(number << 3 | wire) + (varint(len(body)) if wire == 2 else b"") + body
        return bytes(out)

    def _value(self, kind, value):
        if kind in self.messages:
            return 2, self.encode(kind, value)
        if kind in self.enums:
            return 0, varint(self.enums[kind][value] if isinstance(value, str) else value)
        if kind == "string":
            return 2, value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if kind == "bytes":
            return 2, value
        if kind == "fixed32":
            return 5, struct.pack("<I", value)
        if kind in ("fixed64", "double"):
            return 1, struct.pack("<Q" if kind == "fixed64" else "<d", value)
        if kind.startswith("sint"):
            return 0, varint(value << 1 if value >= 0 else (-value << 1) - 1)
        return 0, varint(int(value) & (1 << 64) - 1)

    def decode(self, message, data):
        fields = {field[3]: field for field in self.messages[message]}
        out = {f[2]: [] for f in self.messages[message] if f[0] == "repeated"}
        at = 0
        while at < len(data):
            key, at = read_varint(data, at)
            wire = key & 7
            if wire == 0:
                raw, at = read_varint(data, at)
            else:
                size, at = (8, at) if wire == 1 else (4, at) if wire == 5 else read_varint(data, at)
                raw, at = data[at:at + size], at + size
            if key >> 3 not in fields:
                continue
            label, kind, name, _, packed = fields[key >> 3]
            if packed and wire == 2:
                out[name] += list(self._unpack(kind, raw))
            elif label == "repeated":
                out[name].append(self._read(kind, raw))
            else:
                out[name] = self._read(kind, raw)
        return out

    def _unpack(self, kind, raw):
        at = 0
        while at < len(raw):
            if kind == "fixed32":
                yield struct.unpack_from("<I", raw, at)[0]
                at += 4
            else:
                value, at = read_varint(raw, at)
                yield value

    def _read(self, kind, raw):
        if kind in self.messages:
            return self.decode(kind, raw)
        if kind == "string":
            return raw.decode("utf-8", "surrogateescape")
        if kind == "fixed32":
            return struct.unpack("<I", raw)[0]
        if kind == "fixed64":
            return struct.unpack("<Q", raw)[0]
        if kind == "double":
            return struct.unpack("<d", raw)[0]
        if kind.startswith("sint"):
            return raw >> 1 if not raw & 1 else -(raw >> 1) - 1
        if kind == "bool":
            return bool(raw)
        return raw


def varint(value):
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value, at


SCHEMA = Schema(*(ROOT / "proto" / f"{name}.proto" for name in ("graph", "op", "wire")))
FRAME_NUMBER = {}
FRAME_MESSAGE = {}
for _name, _number, _message in re.findall(r"X\((\w+), (\d+), (\w+), ", (ROOT / "proto/frame.h").read_text()):
    FRAME_NUMBER[_name] = int(_number)
    FRAME_MESSAGE[int(_number)] = (_name, _message)

# ---- ZMTP --------------------------------------------------------------------------


class Closed(Exception):
    pass


SLOW = 5 if os.environ.get("DRAY_SANITIZE") else 1  # sanitizers make everything slower: times here are multiplied by it


class Zmtp:
    """A DEALER's end of one ZMTP connection."""

    def __init__(self, endpoint, timeout=20, socket_type=b"DEALER", identity=b""):
        self.patience = timeout * SLOW
        self.sock = connect(endpoint, timeout)
        self.sock.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        greeting = self._exactly(64)
        assert greeting[0] == 0xff and greeting[10] == 3, greeting
        ready = b"\x05READY"
        for name, value in ((b"Socket-Type", socket_type), (b"Identity", identity)):
            ready += bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
        self.sock.sendall(bytes([4, len(ready)]) + ready)
        flags, body = self._frame()
        assert flags & 4 and body.startswith(b"\x05READY"), body

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise Closed()
            data += part
        return data

    def _frame(self):
        flags = self._exactly(1)[0]
        size = struct.unpack(">Q", self._exactly(8))[0] if flags & 2 else self._exactly(1)[0]
        return flags, self._exactly(size)

    def send(self, *frames):
        out = b""
        for i, frame in enumerate(frames):
            more = 1 if i + 1 < len(frames) else 0
            if len(frame) > 255:
                out += bytes([more | 2]) + struct.pack(">Q", len(frame)) + frame
            else:
                out += bytes([more, len(frame)]) + frame
        self.sock.settimeout(self.patience)
        self.sock.sendall(out)

    def receive(self, timeout=20):
        """The frames of the next message."""
        self.sock.settimeout(timeout * SLOW)
        frames = []
        while True:
            flags, body = self._frame()
            if flags & 4:
                continue
            frames.append(body)
            if not flags & 1:
                return frames

    def close(self):
        self.sock.close()


def connect(endpoint, timeout=20):
    timeout *= SLOW
    deadline = time.monotonic() + timeout
    while True:
        try:
            if endpoint.startswith("ipc://"):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.settimeout(timeout)
                sock.connect(endpoint[6:])
            else:
                host, port = endpoint[6:].rsplit(":", 1)
                sock = socket.create_connection((host, int(port)), timeout)
            return sock
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


# ---- Dray --------------------------------------------------------------------------


PROTOCOL = int(re.search(r"#define FRAME_PROTOCOL (\d+)", (ROOT / "proto/frame.h").read_text())[1])


def header(kind, session, seq, magic=b"DRAY", protocol=PROTOCOL, zero=0):
    return magic + struct.pack("<BBHQQ", protocol, FRAME_NUMBER.get(kind, kind), zero, session, seq)


def unwrap_payload(frame):
    magic, codec, raw_size, wire_size, _ = struct.unpack("<4sB3xIIQ", frame[:24])
    assert magic == b"DPAY" or magic == b"YAPD", magic
    assert wire_size == len(frame) - 24
    if codec == 1:
        return lz4_block(frame[24:], raw_size)
    assert codec == 0 and raw_size == wire_size
    return frame[24:]


def lz4_block(data, size):
    """LZ4 block format."""
    out = bytearray()
    at = 0
    while True:
        token = data[at]
        at += 1
        literals = token >> 4
        if literals == 15:
            while True:
                literals += data[at]
                at += 1
                if data[at - 1] != 255:
                    break
        out += data[at:at + literals]
        at += literals
        if at >= len(data):
            assert len(out) == size
            return bytes(out)
        offset = data[at] | data[at + 1] << 8
        at += 2
        length = token & 15
        if length == 15:
            while True:
                length += data[at]
                at += 1
                if data[at - 1] != 255:
                    break
        for _ in range(length + 4):
            out.append(out[-offset])


def wrap_payload(data):
    """Not compressed."""
    return struct.pack("<4sB3xIIQ", b"DPAY", 0, len(data), len(data), xxh3(data)) + data


def xxh3(data):
    function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    function.restype, function.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
    return function(data, len(data))


def batch_encodings(batch, frame):
    """The encodings of a ResultBatch or Completed, one a task."""
    data, at, out = unwrap_payload(frame), 0, []
    for size in batch["inline_bytes"]:
        out.append(data[at:at + size])
        at += size
    assert at == len(data), (at, len(data))
    return out


def single_results(results, frames):
    """Each result of a RESULTS: (what the message RESULT once said of it, its payload frame)."""
    frames = list(frames)
    for batch in results["batch"]:
        encodings = batch_encodings(batch, frames.pop(0)) if batch["inline_bytes"] else None
        indices = [i for f, c in zip(batch["first"], batch["count"]) for i in range(f, f + c)]
        assert len(batch["bytes"]) == (0 if "why" in batch else len(indices)), batch
        for n, index in enumerate(indices):
            one = {k: batch[k] for k in ("job", "layer", "endpoint", "worker", "incarnation", "why") if k in batch}
            one["index"] = index
            if "why" not in batch:
                one["bytes"] = batch["bytes"][n]
            if encodings is not None:
                one["inlined"] = True
            yield one, [wrap_payload(encodings[n])] if encodings else []
    assert not frames


class Peer(Zmtp):
    """A session with a broker."""

    def __init__(self, endpoint, role="CLIENT", hello=True, **fields):
        super().__init__(endpoint)
        self.session = self.sent = 0
        self.batches, self.results = False, []
        self.answers = False  # the broker's heartbeats: without, it is lost when it is silent for too long
        self.welcome = None
        if hello:
            values = dict(role=role, protocol=PROTOCOL, version="0.1.0", name="test",
                          incarnation=int.from_bytes(os.urandom(8), "little"))
            if role == "WORKER":
                values.update(threads=1, memory=1 << 28)
            values.update(fields)
            self.say("HELLO", **values)
            kind, self.welcome, _ = self.hear()
            if kind == "WELCOME":
                self.session = self.welcome["session"]
            else:
                self.refusal = self.welcome
                self.welcome = None

    def say(self, kind, payload=(), seq=None, session=None, **values):
        body = SCHEMA.encode(FRAME_MESSAGE[FRAME_NUMBER[kind]][1], values)
        seq = self.sent if seq is None else seq
        self.send(header(kind, self.session if session is None else session, seq) + body, *payload)
        self.sent += 1

    def hear(self, timeout=20):
        """(type, message, payload frames); heartbeats are passed over.  RESULTS come one by one, as RESULT, unless
        .batches is set."""
        while True:
            if self.results:
                return ("RESULT", *self.results.pop(0))
            frames = self.receive(timeout)
            magic, protocol, number, zero, session, seq = struct.unpack("<4sBBHQQ", frames[0][:24])
            assert magic == b"DRAY" and protocol == PROTOCOL and zero == 0
            kind, message = FRAME_MESSAGE[number]
            self.last = (session, seq)
            if kind == "HEARTBEAT":
                if self.answers:
                    self.say("HEARTBEAT", time_us=1)
                continue
            body, payload = SCHEMA.decode(message, frames[0][24:]), frames[1:]
            if kind != "RESULTS" or self.batches:
                return kind, body, payload
            self.results = list(single_results(body, payload))

    def hear_kind(self, *kinds, timeout=20):
        """The next message of these types; PROGRESS, NOTES and EXTENDED are passed over when not asked for."""
        deadline = time.monotonic() + timeout * SLOW
        while True:
            kind, message, payload = self.hear(max(0.01, deadline - time.monotonic()) / SLOW)
            if kind in kinds:
                return kind, message, payload
            assert kind in ("PROGRESS", "NOTES", "EXTENDED"), (kind, message)

    def submit(self, layers, **fields):
        graph = SCHEMA.encode("Graph", {"layer": layers})
        key = int.from_bytes(os.urandom(8), "little")
        self.say("SUBMIT", key_hi=key, key_lo=1, graph=graph, **fields)
        kind, message, _ = self.hear_kind("ACCEPTED", "REJECTED")
        return kind, message


def ask_cluster(peer, timeout=10):
    """What there is at the broker, asked by a client of its own, which goes again."""
    peer.say("CLUSTER_QUERY", tag=1)
    message = peer.hear_kind("CLUSTER", timeout=timeout)[1]
    peer.say("BYE")
    peer.close()
    return message


def op(*steps):
    return SCHEMA.encode("Op", {"step": list(steps)})
