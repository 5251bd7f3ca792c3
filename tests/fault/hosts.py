"""Hosts as network namespaces: each has an address of its own on a bridge, and a cable that can be pulled out, one way or both.

    with hosts.Network() as network:
        a, b = network.host("a"), network.host("b")
        process = subprocess.Popen([*a.inside, "dray-broker", "--listen", f"tcp://{a.address}:8786"])
        b.unplug()

Needs the right to make namespaces (root); `hosts.why_not()` says in words why it cannot be had.  Only what was made here is taken away again."""
import os
import shutil
import subprocess
import threading

counter = 0


def ip(*words, check=True):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise OSError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done


def why_not():
    """None, or why there are no hosts on this machine."""
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: iproute2)"
    name = f"dray-{os.getpid()}-try"
    done = ip("netns", "add", name, check=False)
    if done.returncode != 0:
        return f"no network namespaces: {done.stderr.strip()}"
    try:
        words = ("link", "add", "up0", "netns", name, "type", "veth", "peer", "name", "up1", "netns", name)
        done = ip(*words, check=False)
        if done.returncode == 0:
            done = ip("-n", name, "link", "add", "bridge0", "type", "bridge", check=False)
        return None if done.returncode == 0 else f"no virtual cables: {done.stderr.strip()}"
    finally:
        ip("netns", "del", name, check=False)


class Host:
    def __init__(self, network, name, number):
        self.network, self.name, self.number = network, name, number
        self.space = f"{network.prefix}-{name}"
        self.address = f"10.77.0.{number}"
        self.inside = ["ip", "netns", "exec", self.space]  # before a command; it is the command's process then
        ip("netns", "add", self.space)
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("link", "add", "up0", "netns", self.space, "type", "veth", "peer", "name", self.port, "netns", network.switch)
        ip("-n", network.switch, "link", "set", self.port, "master", "bridge0", "up")
        ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "up0")
        ip("-n", self.space, "link", "set", "up0", "up")

    @property
    def port(self):
        return f"port{self.number}"

    def unplug(self):
        """Nothing comes and nothing goes."""
        ip("-n", self.network.switch, "link", "set", self.port, "down")

    def plug(self):
        ip("-n", self.network.switch, "link", "set", self.port, "up")

    def deafen(self, other):
        """What this one sends to the other goes nowhere; what the other sends comes."""
        ip("-n", self.space, "neigh", "replace", other.address, "lladdr", "02:00:00:00:00:01", "nud", "permanent", "dev", "up0")

    def undeafen(self, other):
        ip("-n", self.space, "neigh", "del", other.address, "dev", "up0", check=False)

    def limit(self, kilobytes):
        """Sends so many thousand bytes a second and no more; 0: as many as it can.  False: this kernel cannot do that."""
        tc = ["tc", "-n", self.space, "qdisc"]
        if kilobytes == 0:
            return subprocess.run([*tc, "del", "dev", "up0", "root"], capture_output=True).returncode == 0
        rate = ["tbf", "rate", f"{8 * kilobytes}kbit", "burst", "16kb", "latency", "400ms"]
        return shutil.which("tc") is not None and subprocess.run(
            [*tc, "replace", "dev", "up0", "root", *rate], capture_output=True).returncode == 0

    def delay(self, milliseconds, loss=0):
        """By netem, which not every kernel has: False then."""
        rule = ["netem", "delay", f"{milliseconds}ms", "loss", f"{loss}%"]
        return shutil.which("tc") is not None and subprocess.run(
            ["tc", "-n", self.space, "qdisc", "replace", "dev", "up0", "root", *rule], capture_output=True).returncode == 0

    def connect_from(self, make):
        """What make() returns, called in this host's network (a socket stays there)."""
        result = []

        def there():
            # A thread's own namespace: the process stays where it is.
            with open(f"/run/netns/{self.space}") as space:
                enter(space.fileno())
            result.append(make())
        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        return result[0]


def enter(fd):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """A switch that nothing else is connected to."""

    def __init__(self):
        global counter
        counter += 1
        self.prefix = f"dray-{os.getpid()}-{counter}"
        self.switch = f"{self.prefix}-switch"
        self.hosts = []
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "bridge0", "up")

    def host(self, name):
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def close(self):
        for host in self.hosts:
            ip("netns", "del", host.space, check=False)
        ip("netns", "del", self.switch, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
