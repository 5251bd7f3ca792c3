"""A network that misbehaves, for machines and kernels without better: passes connections on, and delays, slows, cuts or resets them.

    proxy = Proxy("127.0.0.1", 8786)
    proxy.there.delay = 0.2           # seconds, from the client to the server
    proxy.back.rate = 100_000         # bytes a second, the other way
    proxy.back.cut = True             # nothing more goes this way; what was sent is kept until it is not cut any more
    proxy.reset()                     # all connections end with a RST

Its address is proxy.endpoint (tcp://127.0.0.1:PORT)."""
import collections
import select
import socket
import struct
import threading
import time

CHUNK = 16 << 10


class Way:
    """One direction of all connections."""

    def __init__(self):
        self.delay, self.rate, self.cut = 0.0, 0, False
        self.bytes = 0


class Stream:
    """One direction of one connection."""

    def __init__(self, source, target, way):
        self.source, self.target, self.way = source, target, way
        self.waiting = collections.deque()  # (when, bytes); b"" is the end
        self.held = 0
        self.free_at = 0.0
        self.ended = False

    def readable(self):
        return not self.ended and self.held < 256 << 10

    def read(self, now):
        try:
            data = self.source.recv(CHUNK)
        except OSError:
            data = b""
        self.ended = not data
        self.held += len(data)
        self.waiting.append((now + self.way.delay, data))

    def due(self, now):
        """Seconds until something may be written; None: nothing waits, or it is cut."""
        if not self.waiting or self.way.cut:
            return None
        return max(0.0, self.waiting[0][0] - now, self.free_at - now)

    def write(self, now):
        when, data = self.waiting.popleft()
        if not data:
            try:
                self.target.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return
        try:
            count = self.target.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self.ended = True
            count = len(data)
        self.held -= count
        self.way.bytes += count
        if count < len(data):
            self.waiting.appendleft((when, data[count:]))
        if self.way.rate:
            self.free_at = max(self.free_at, now) + count / self.way.rate


class Proxy:
    def __init__(self, host, port):
        self.target = (host, port)
        self.there, self.back = Way(), Way()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = []
        self.lock = threading.Lock()
        self.running = True
        self.refusing = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def cut(self, both=True):
        self.there.cut = self.back.cut = both

    def reset(self):
        with self.lock:
            for pair in self.pairs:
                for stream in pair:
                    stream.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    stream.source.close()
                    stream.ended = True
                    stream.waiting.clear()
            self.pairs.clear()

    def close(self):
        self.running = False
        self.thread.join(10)
        self.reset()
        self.listener.close()

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(self.target, timeout=5)
        except OSError:
            near.close()
            return
        if self.refusing:
            near.close()
            far.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Little is kept on the way: what a slow link holds back its sender notices.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.pairs.append((Stream(near, far, self.there), Stream(far, near, self.back)))

    def _run(self):
        while self.running:
            with self.lock:
                streams = [stream for pair in self.pairs for stream in pair]
                now = time.monotonic()
                wait = min([0.02, *(due for due in (s.due(now) for s in streams) if due is not None)])
                readable = {s.source: s for s in streams if s.readable()}
            try:
                ready, _, _ = select.select([self.listener, *readable], [], [], max(wait, 0.0005))
            except (OSError, ValueError):
                continue  # reset in between
            with self.lock:
                now = time.monotonic()
                for sock in ready:
                    if sock is self.listener:
                        self._accept()
                    elif sock.fileno() >= 0:
                        readable[sock].read(now)
                for stream in streams:
                    for _ in range(8):
                        due = stream.due(now)
                        if due is None or due > 0 or stream.target.fileno() < 0:
                            break
                        before = stream.held
                        stream.write(now)
                        if stream.held == before:
                            break  # its receiver takes nothing
                gone = [p for p in self.pairs if all(s.ended and not s.waiting for s in p)]
                for pair in gone:
                    self.pairs.remove(pair)
                    for stream in pair:
                        stream.source.close()
