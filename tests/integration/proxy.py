"""A TCP proxy that a test can cut: what is under way is lost, and nobody gets through while it is shut."""
import selectors
import socket
import threading


class Proxy:
    def __init__(self, endpoint):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.target = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(False)
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs = {}
        self.said, self.told = {}, {}  # of who connected: how often it has said something, and was told something
        self.connections = self.passed = 0
        self.shut = self.over = False
        self.lock = threading.RLock()  # nothing passes while a test has it
        self.wake, self.waker = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(self.wake, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def cut(self, shut=False):
        """Ends all connections, and says how many; shut: and takes none before open()."""
        with self.lock:
            self.shut, ends = shut, len(self.said)
            for end in list(self.pairs):
                self._drop(end)
        return ends

    def open(self):
        with self.lock:
            self.shut = False

    def heard(self):
        """A condition that holds once all who are connected were told something several times, and have said something several
        times since: who does so by its heartbeats, behind those of its broker, has heard what that had said by now."""
        with self.lock:
            told, said = dict(self.told), None

        def condition():
            nonlocal said
            with self.lock:
                if said is None and all(count >= told.get(end, 0) + 3 for end, count in self.told.items()):
                    said = dict(self.said)
                return said is not None and all(count >= said.get(end, 0) + 3 for end, count in self.said.items())
        return condition

    def close(self):
        self.over = True
        self.waker.send(b"x")
        self.thread.join()
        self.cut()
        for end in self.listener, self.wake, self.waker, self.selector:
            end.close()

    def _drop(self, end):
        other = self.pairs.pop(end, None)
        if other is None:
            return
        self.pairs.pop(other, None)
        for one in end, other:
            self.said.pop(one, None)
            self.told.pop(one, None)
            self.selector.unregister(one)
            # No goodbye: what was not read is lost.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            one.close()

    def _accept(self):
        try:
            near = self.listener.accept()[0]
        except BlockingIOError:
            return
        try:
            if self.shut:
                raise OSError
            far = socket.create_connection(self.target, 2)
        except OSError:
            near.close()
            return
        self.connections += 1
        for one in near, far:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
            self.selector.register(one, selectors.EVENT_READ)
        self.pairs[near], self.pairs[far] = far, near
        self.said[near] = self.told[near] = 0

    def _run(self):
        while not self.over:
            for key, _ in self.selector.select(1):
                with self.lock:
                    if key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj in self.pairs:
                        self._pass(key.fileobj)

    def _pass(self, end):
        try:
            data = end.recv(1 << 18)
            if data:
                self.pairs[end].sendall(data)
                self.passed += len(data)
                if end in self.said:
                    self.said[end] += 1
                else:
                    self.told[self.pairs[end]] += 1
                return
        except OSError:
            pass
        self._drop(end)
