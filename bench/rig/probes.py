"""Latency and small traffic: pings, request-response, short connections."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench.rig.process import PATIENCE, Place, RigError, running
from bench.rig.topology import Rig
from contract.names import Direction

LOST_MS = 2000.0
"""What a lost ping counts as in percentiles."""
_AGENTS = Path(__file__).with_name("agents.py")
_ECHO_PORT, _HTTP_PORT, _SHORT_PORT = 7777, 8080, 8081
_GRACE_SECONDS = 60 * PATIENCE

Result = TypeVar("Result")


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Round trips, in ms."""

    latencies_ms: list[float]

    @property
    def p50_ms(self) -> float:
        """The median."""
        return percentile(self.latencies_ms, 50)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return percentile(self.latencies_ms, 99)


@dataclass(frozen=True, slots=True)
class PingResult(LatencyResult):
    """Pings; lost ones are among the latencies with LOST_MS."""

    sent_at_seconds: list[float]
    """time.monotonic() of each."""

    @property
    def lost(self) -> int:
        """Not answered within two seconds."""
        return self.latencies_ms.count(LOST_MS)

    def between(self, start_seconds: float, end_seconds: float) -> "PingResult":
        """Those sent in a span of time.monotonic()."""
        pairs = zip(self.latencies_ms, self.sent_at_seconds, strict=True)
        inside = [(ms, at) for ms, at in pairs if start_seconds <= at < end_seconds]
        return PingResult([ms for ms, _ in inside], [at for _, at in inside])


@dataclass(frozen=True, slots=True)
class ConnectResult(LatencyResult):
    """Connections that were opened, answered and closed."""

    failed: int
    per_second: float


class Running(Generic[Result]):
    """An agent that is under way."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        seconds: float,
        read: Callable[[Any], Result],
    ) -> None:
        self._process, self._seconds, self._read = process, seconds, read

    def result(self) -> Result:
        """Waits for the agent's end. Raises RigError when it failed."""
        try:
            said, complaint = self._process.communicate(timeout=self._seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired as e:
            raise RigError(f"a prober has not ended {_GRACE_SECONDS} s after its time") from e
        if self._process.returncode:
            raise RigError(f"a prober failed: {complaint.strip().splitlines()[-1:]}")
        return self._read(json.loads(said))


def _agent(place: Place, *argv: object) -> list[str]:
    return place.command(sys.executable, "-I", "-S", _AGENTS, *map(str, argv))


@contextmanager
def _serving(place: Place, *argv: object) -> Iterator[None]:
    with running(_agent(place, *argv), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RigError(f"agent {argv[0]} did not start in {place.namespace}")
        yield


@contextmanager
def _probe(
    server: tuple[Place, str],
    client: tuple[Place, str],
    where: tuple[str, int],
    seconds: float,
    read: Callable[[Any], Result],
    *numbers: float,
) -> Iterator[Running[Result]]:
    with (
        _serving(server[0], server[1], *where),
        running(
            _agent(client[0], client[1], *where, seconds, *numbers),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        yield Running(process, seconds, read)


@contextmanager
def ping(rig: Rig, seconds: float, family: int = 4) -> Iterator[Running[PingResult]]:
    """A UDP datagram every 20 ms from the peer to the pod and back: what a sparse flow suffers."""

    def read(said: list[tuple[float, float | None]]) -> PingResult:
        latencies_ms = [LOST_MS if ms is None else ms for _, ms in said]
        return PingResult(latencies_ms, [at for at, _ in said])

    where = rig.address(rig.pod, family), _ECHO_PORT
    with _probe((rig.pod, "echo"), (rig.peer, "ping"), where, seconds, read) as r:
        yield r


@contextmanager
def requests(
    rig: Rig, seconds: float, connections: int = 1, gap_ms: float = 20, family: int = 4
) -> Iterator[Running[LatencyResult]]:
    """HTTP keep-alive: the peer asks, the pod answers 10 kB. Latency from request to last byte."""

    def read(said: dict[str, Any]) -> LatencyResult:
        return LatencyResult(said["latencies_ms"])

    where = rig.address(rig.pod, family), _HTTP_PORT
    numbers = (connections, gap_ms)
    with _probe((rig.pod, "serve"), (rig.peer, "requests"), where, seconds, read, *numbers) as r:
        yield r


@contextmanager
def connects(
    rig: Rig,
    seconds: float,
    per_second: float = 1000,
    direction: Direction = Direction.EGRESS,
    family: int = 4,
) -> Iterator[Running[ConnectResult]]:
    """Short connections: opened by the pod (egress) or to it (ingress), one tiny answer each."""

    def read(said: dict[str, Any]) -> ConnectResult:
        done = said["latencies_ms"]
        return ConnectResult(done, said["failed"], len(done) / said["seconds"])

    client, server = rig.ends(direction)
    where = rig.address(server, family), _SHORT_PORT
    with _probe((server, "serve"), (client, "connects"), where, seconds, read, per_second) as r:
        yield r
