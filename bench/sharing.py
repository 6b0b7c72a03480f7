"""A node's link that is short: requests and capacity beside HTB classes that say the same.

    python -m bench.sharing --link 200M --capacity 192M --pods 10 --requests 2 --request 40M

Each pod sends (or is sent) all it can get; the first ones have a request, and 1 to 20 connections,
the others 1 to 4. HTB is what an administrator would build by hand: a class for each pod with its
request as rate and the capacity as ceiling, in place of the link's own queue. Priorities are what
Cilium has for classes of pods: who has a request goes before who has none, at the link.
docs/measuring.md says what is counted.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ours import Podpace, podpace
from bench.rig import BulkResult, CpuMeter, TcpLoad, bulk, ping, rig, running
from bench.rig.crowd import CrowdPod, crowd
from bench.rig.process import Place
from bench.rig.topology import PEER_PORT, Rig
from contract.names import Direction
from contract.problems import Problem
from contract.quantity import parse_bits_per_second

_START_SECONDS = 2
_LIMIT = "10G"
_SMALL_DIVISOR = 100
_WAIT_SECONDS = 60
_MORE_FLOWS = 19
_FEW_FLOWS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured."""

    direction: Direction
    link_bits_per_sec: int
    capacity_bits_per_sec: int
    pods: int
    requests: int
    request_bits_per_sec: int
    seconds: int

    def flows(self, pod: int) -> int:
        """Of the pod with that number, the first is 0."""
        if pod < self.requests:
            return 1 + _MORE_FLOWS * pod // max(1, self.requests - 1)
        return 1 + pod % _FEW_FLOWS


@dataclass(frozen=True, slots=True)
class Row:
    """What came of it, after the first two seconds."""

    limiter: str
    kept: float
    """The worst second of a pod with a request, as a part of that."""
    used: float
    """Of the link."""
    dropped: int
    """Packets, at the link."""
    ping_p50_ms: float
    ping_p99_ms: float
    busy_cores: float


def _counted(place: Place, port: str) -> tuple[float, int, int]:
    (root,) = [
        queue
        for queue in json.loads(place.run("tc", "-s", "-j", "qdisc", "show", "dev", port))
        if queue.get("root")
    ]
    return time.monotonic(), root["bytes"], root["drops"]


def _end(r: Rig, direction: Direction) -> tuple[Place, str]:
    """Where the link is: what is sent over it waits there."""
    return (r.node, PEER_PORT) if direction is Direction.EGRESS else (r.peer, "eth0")


def measure(name: str, r: Rig, pods: Sequence[CrowdPod], cell: Cell) -> Row:
    """All pods send what they can; ``name`` is who divides."""
    place, port = _end(r, cell.direction)
    with ExitStack() as stack:
        loads = [
            stack.enter_context(
                bulk(pod, TcpLoad(cell.direction, cell.seconds, cell.flows(i), port=5201 + i))
            )
            for i, pod in enumerate(pods)
        ]
        started = time.monotonic()
        pings = stack.enter_context(ping(r, cell.seconds - _START_SECONDS))
        time.sleep(_START_SECONDS)
        before, busy = _counted(place, port), CpuMeter()
        time.sleep(max(0.0, cell.seconds - _START_SECONDS - 1))
        after, busy_seconds = _counted(place, port), busy.seconds()
        results = [load.result() for load in loads[: cell.requests]]
        answered = pings.result().between(started + _START_SECONDS, after[0])
    seconds = after[0] - before[0]
    worst = min(_worst_second(result) for result in results)
    return Row(
        name,
        worst / cell.request_bits_per_sec,
        (after[1] - before[1]) * 8 / seconds / cell.link_bits_per_sec,
        after[2] - before[2],
        answered.p50_ms,
        answered.p99_ms,
        busy_seconds / seconds,
    )


def _worst_second(result: BulkResult) -> float:
    """Frames, after the first ones; the last second may not be whole."""
    rates = result.bits_per_sec_by_interval()[10 * _START_SECONDS : -10]
    whole = [sum(rates[i : i + 10]) / 10 for i in range(0, len(rates) - 9, 10)]
    return min(whole) / result.payload_of_frame


@contextmanager
def shared_by_podpace(r: Rig, pods: Sequence[CrowdPod], cell: Cell) -> Iterator[None]:
    """Limits far above, requests, and the capacity as an option."""
    _limit_link(r, cell)
    more = [f"--{cell.direction}-capacity", str(cell.capacity_bits_per_sec)]
    with podpace(r, more=more) as limiter:
        for i, pod in enumerate(pods):
            request = [f"--{cell.direction}-request", str(cell.request_bits_per_sec)]
            asked = request if i < cell.requests else []
            limiter.client("attach", pod.cgroup, f"--{cell.direction}", _LIMIT, *asked)
        if cell.direction is Direction.INGRESS:
            for pod in pods:
                _wait_until_shaped(limiter, pod.cgroup)
        yield


def _limit_link(r: Rig, cell: Cell) -> None:
    place, port = _end(r, cell.direction)
    rate = f"rate {cell.link_bits_per_sec} burst 64k limit 2mb"
    place.run(*f"tc qdisc replace dev {port} root handle 1: tbf {rate}".split())


@contextmanager
def shared_by_priorities(r: Rig, pods: Sequence[CrowdPod], cell: Cell) -> Iterator[None]:
    """All of the link for pods with requests, the others have what those leave.

    By HTB's classes, which lend to the first priority first: every kernel has them.
    """
    place, port = _end(r, cell.direction)
    field = "src" if cell.direction is Direction.EGRESS else "dst"
    link = cell.link_bits_per_sec
    small = link // _SMALL_DIVISOR

    def tc(arguments: str) -> None:
        place.run("tc", *arguments.split())

    tc(f"qdisc replace dev {port} root handle 1: htb default 3")
    tc(f"class add dev {port} parent 1: classid 1:1 htb rate {link} ceil {link}")
    for number, priority in ((2, 0), (3, 1)):
        rates = f"htb rate {small} ceil {link} prio {priority}"
        tc(f"class add dev {port} parent 1:1 classid 1:{number} {rates}")
    for pod in pods[: cell.requests]:
        match = f"u32 match ip {field} {pod.own_address}/32 flowid 1:2"
        tc(f"filter add dev {port} parent 1: protocol ip {match}")
    yield


def _wait_until_shaped(limiter: Podpace, cgroup: Path) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < end:
        said = json.loads(limiter.client("show", cgroup, "-o", "json"))
        if said["ingress"]["enforcement"] == "shaped":
            return
        time.sleep(0.1)


@contextmanager
def shared_by_htb(r: Rig, pods: Sequence[CrowdPod], cell: Cell) -> Iterator[None]:
    """A class for each address; who has no request has a hundredth of the capacity as rate."""
    place, port = _end(r, cell.direction)
    field = "src" if cell.direction is Direction.EGRESS else "dst"
    ceiling = str(cell.capacity_bits_per_sec)
    small = cell.capacity_bits_per_sec // _SMALL_DIVISOR

    def tc(*arguments: str) -> None:
        place.run("tc", *arguments)

    tc("qdisc", "replace", "dev", port, "root", "handle", "1:", "htb", "default", "9")
    tc(*f"class add dev {port} parent 1: classid 1:1 htb rate {ceiling} ceil {ceiling}".split())
    tc(*f"class add dev {port} parent 1:1 classid 1:9 htb rate {small} ceil {ceiling}".split())
    for i, pod in enumerate(pods):
        rate, number = cell.request_bits_per_sec if i < cell.requests else small, f"1:{16 + i:x}"
        limits = f"htb rate {rate} ceil {ceiling}"
        tc(*f"class add dev {port} parent 1:1 classid {number} {limits}".split())
        match = f"u32 match ip {field} {pod.own_address}/32 flowid {number}"
        tc(*f"filter add dev {port} parent 1: protocol ip {match}".split())
    yield


def run(cell: Cell) -> Iterator[Row]:
    """One after the other, each on a rig of its own."""
    for name, shared in (
        ("podpace", shared_by_podpace),
        ("htb", shared_by_htb),
        ("priorities", shared_by_priorities),
    ):
        with rig() as r, crowd(r, cell.pods) as pods, ExitStack() as stack:
            r.node.run("ip", "route", "add", "default", "dev", PEER_PORT)
            for pod in pods:
                stack.enter_context(running(pod.pod.command("sleep", "infinity")))
                r.node.run("ip", "route", "add", f"{pod.own_address}/32", "dev", "hub")
            stack.enter_context(shared(r, pods, cell))
            yield measure(name, r, pods, cell)


def _quantity(text: str) -> int:
    found = parse_bits_per_second("", text)
    if isinstance(found, Problem):
        raise argparse.ArgumentTypeError(str(found))
    return found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m bench.sharing")
    parser.add_argument("--link", type=_quantity, default="200M")
    parser.add_argument("--capacity", type=_quantity, default="192M")
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--request", type=_quantity, default="40M")
    parser.add_argument("--seconds", type=int, default=14)
    parser.add_argument("--direction", type=Direction, action="append")
    options = parser.parse_args()
    print("| direction | by | request kept | link used | dropped | ping p50, p99 (ms) | cores |")
    print("|---|---|---|---|---|---|---|")
    for direction in options.direction or list(Direction):
        cell = Cell(
            direction,
            options.link,
            options.capacity,
            options.pods,
            options.requests,
            options.request,
            options.seconds,
        )
        for row in run(cell):
            latency = f"{row.ping_p50_ms:.1f}, {row.ping_p99_ms:.1f}"
            figures = f"{row.kept:.3f} | {row.used:.3f} | {row.dropped} | {latency}"
            print(f"| {direction} | {row.limiter} | {figures} | {row.busy_cores:.2f} |", flush=True)


if __name__ == "__main__":
    main()
