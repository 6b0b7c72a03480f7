"""What a node's daemon costs, and how soon it limits: ``python -m bench.daemon`` (root).

A real daemon on the real kernel, with an API server that is played. Each pod is a cgroup that is
limited both ways; unless ``--bare`` is given it has a process in a network namespace of its own,
behind a veth. Prints one line for each figure.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil

from bench.rig.probes import percentile
from enforcer.targets import find_cgroup_root
from tests.api_server import END, serve
from tests.cluster.plane import free_port
from tests.unit.enforcer.pod_json import labels, pod_json

_NEW: Final = 50
"""Cgroups that appear, one after another, to be timed."""
_BOTH: Final = labels("10000000", "10000000")


def _uid(number: int) -> str:
    return f"aaaaaaaa-0000-4000-8000-{number:012d}"


@dataclass
class Machine:
    """A cgroup tree, a BPF file system and an API server for one daemon."""

    work: Path
    tree: Path
    server: Any
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def options(self) -> list[str]:
        """What the daemon is told."""
        w = self.work
        return [
            *("--socket", f"{w}/e.sock", "--pin-root", f"{w}/bpf/podpace"),
            *("--state-dir", f"{w}/state", "--cgroup-root", str(self.tree)),
            *("--node-name", "n1", "--kubeconfig", str(self.server.kubeconfig())),
            *("--splay-seconds", "0", "--metrics-address", f"127.0.0.1:{self.port}"),
        ]

    def cgroup(self, number: int) -> Path:
        """A pod's."""
        return self.tree / f"pod{_uid(number)}"

    def inhabit(self, numbers: range) -> None:
        """A process, a network namespace and a veth for each."""
        commands = []
        for number in numbers:
            process = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
            self.processes.append(process)
            name = f"pb{number}"
            commands += [
                f"link add {name} type veth peer name eth0 netns {process.pid}",
                f"link set {name} up",
            ]
        for process in self.processes:
            while (
                Path(f"/proc/{process.pid}/ns/net").readlink()
                == Path("/proc/self/ns/net").readlink()
            ):
                time.sleep(0.01)
        subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
        for number, process in zip(numbers, self.processes, strict=True):
            (self.cgroup(number) / "cgroup.procs").write_text(str(process.pid))


class Daemon:
    """One run of the daemon; its log is kept."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.log = machine.work / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as out:
            command = [sys.executable, "-m", "enforcer", *machine.options]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)

    def said(self, event: str) -> dict[str, float]:
        """When (time.time()) it was said of each target."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return {
            line.get("target", ""): datetime.fromisoformat(line["timestamp"]).timestamp()
            for line in lines
            if line["event"] == event
        }

    def wait(self, what: Callable[[], bool], seconds: float = 300) -> None:
        """Until it is so."""
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Limits stay."""
        self.machine.server.events.put(END)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


@contextmanager
def machine(pods: int) -> Iterator[Machine]:
    """Everything is taken away at the end."""
    root = find_cgroup_root(None)
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as server:
        work = Path(folder)
        (work / "bpf").mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", work / "bpf"], check=True)
        tree = root / f"podpace-bench-{os.getpid()}"
        tree.mkdir()
        found = Machine(work, tree, server)
        server.keeps = True
        server.pods = [
            pod_json(number, uid=_uid(number), labels=_BOTH, phase="Pending")
            for number in range(pods + _NEW)
        ]
        try:
            yield found
        finally:
            for process in found.processes:
                process.kill()
                process.wait()
            for path in tree.iterdir():
                if path.is_dir():
                    with suppress(OSError):
                        path.rmdir()
            tree.rmdir()
            shutil.rmtree(work / "bpf/podpace", ignore_errors=True)
            subprocess.run(["umount", work / "bpf"], check=True)


def appear(daemon: Daemon, numbers: range) -> list[float]:
    """Milliseconds from each new cgroup to its limit, one after another."""
    made = {}
    for number in numbers:
        made[f"pod:shop/p{number}"] = time.time()
        daemon.machine.cgroup(number).mkdir()
        time.sleep(0.05)
    daemon.wait(lambda: made.keys() <= daemon.said("attached").keys())
    attached = daemon.said("attached")
    return [(attached[name] - at) * 1e3 for name, at in made.items()]


def say(what: str, times_ms: list[float]) -> None:
    """One line."""
    p50, p99 = percentile(times_ms, 50), percentile(times_ms, 99)
    print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(times_ms):.1f} ms", flush=True)


def attach(path: Path, target: Path, rate: str) -> float:
    """Milliseconds that a request takes; the client's own start is another 300 to 400."""
    body = json.dumps({"egress": rate}).encode()
    head = f"PUT /targets/{quote(str(target), safe='')} HTTP/1.1\r\nHost: x\r\n"
    begun = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    return (time.perf_counter() - begun) * 1e3


def flood(daemon: Daemon, numbers: range) -> None:
    """300 idle connections and 300 half requests to the metrics' port, and what goes on beside."""
    port, work = daemon.machine.port, daemon.machine.work
    rude = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(600)]
    for connection in rude[::2]:
        with suppress(OSError):
            connection.sendall(b"GET /metrics HT")
    target = daemon.machine.tree / "plain"
    target.mkdir()
    attach_ms, alive = [], 0
    for number in range(20):
        attach_ms.append(attach(work / "e.sock", target, f"{number + 1}M"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            alive += answer.status == 200
    say("with the flood, attach over the control socket", attach_ms)
    say("with the flood, cgroup to limit", appear(daemon, numbers))
    print(f"with the flood, /livez answered {alive} of 20", flush=True)
    for connection in rude:
        connection.close()


def cost(daemon: Daemon, seconds: float, what: str) -> None:
    """Memory, and processor time of a daemon that has nothing to do."""
    process = psutil.Process(daemon.process.pid)
    before, begun = run_seconds(process.pid), time.monotonic()
    time.sleep(seconds)
    part = (run_seconds(process.pid) - before) / (time.monotonic() - begun)
    print(f"{what}: {process.memory_info().rss / 1e6:.1f} MB, {part:.2%} of a core", flush=True)


def run_seconds(pid: int) -> float:
    """Processor time of all threads, by the scheduler's nanoseconds (proc(5), ``schedstat``).

    The times that ``stat`` tells come in ticks of 10 ms, more than most looks take.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.daemon", description=__doc__)
    parser.add_argument("--pods", type=int, default=110)
    parser.add_argument("--seconds", type=float, default=60, help="of idleness")
    parser.add_argument("--bare", action="store_true", help="no process in any pod")
    options = parser.parse_args()
    pods, what = options.pods, f"{options.pods} pods"
    with machine(pods) as found:
        for number in range(pods):
            found.cgroup(number).mkdir()
        if not options.bare:
            found.inhabit(range(pods))
        daemon = Daemon(found)
        daemon.wait(lambda: len(daemon.said("attached")) >= pods)
        if not options.bare:
            daemon.wait(lambda: len(daemon.said("shaped")) >= pods)
        daemon.wait(lambda: len(daemon.said("reported")) >= pods)
        time.sleep(15)
        cost(daemon, options.seconds, f"idle with {what}")
        half = _NEW // 2
        say("cgroup to limit", appear(daemon, range(pods, pods + half)))
        flood(daemon, range(pods + half, pods + _NEW))
        daemon.wait(lambda: len(daemon.said("reported")) >= pods + _NEW)
        time.sleep(15)
        cost(daemon, options.seconds, f"idle with {what} and {_NEW} more")
        daemon.stop()
        daemon = Daemon(found)
        daemon.wait(lambda: bool(daemon.said("started")))
        adopted = sorted(daemon.said("adopted").values())
        spent = (adopted[-1] - adopted[0]) * 1e3
        print(f"adopted {len(adopted)} targets in {spent:.0f} ms", flush=True)
        daemon.stop()


if __name__ == "__main__":
    main()
