"""Bulk traffic by iperf3: the receiver reports every tenth of a second what reached it."""

import functools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.rig.process import PATIENCE, Place, RigError, running, sh
from bench.rig.topology import STANDARD_MTU, Rig
from contract.names import Direction

INTERVAL_SECONDS = 0.1
ETHERNET_BYTES = 14
"""What a frame has beside its packet: limits count both."""
TCP_HEADER_BYTES = {4: 52, 6: 72}
"""IP and TCP with timestamps."""
UDP_HEADER_BYTES = {4: 28, 6: 48}
# A limiter with a long queue delays the control connection too.
_GRACE_SECONDS = 60 * PATIENCE
_LISTEN_TIMEOUT_SECONDS = 60 * PATIENCE
_FIRST_PORT = 5201


def _payload_of_frame(mtu_bytes: int, header_bytes: int) -> float:
    return (mtu_bytes - header_bytes) / (mtu_bytes + ETHERNET_BYTES)


@functools.cache
def _block_options() -> list[str]:
    """Smaller blocks for an iperf3 that counts whole ones only (3.12 does not, 3.22 does).

    Its own are of 128 KiB: a flow of 1 Mbit/s would have one a second.
    """
    version = re.match(r"iperf (\d+)\.(\d+)", sh("iperf3", "--version"))
    counts_whole = version is not None and (int(version[1]), int(version[2])) > (3, 12)
    return ["-l", "8K"] if counts_whole else []


@dataclass(frozen=True, slots=True)
class TcpLoad:
    """TCP flows that send as much as they may."""

    direction: Direction
    seconds: float = 6
    flows: int = 1
    congestion_control: str = "cubic"
    family: int = 4
    flow_bits_per_sec: int = 0
    """What each flow wants (payload); 0 is all it can get."""
    sender_connects: bool = False
    """Else the receiver does, as a client that downloads."""
    port: int = _FIRST_PORT
    """Loads that run at the same time need different ports."""
    mtu_bytes: int = STANDARD_MTU

    @property
    def payload_of_frame(self) -> float:
        """The part of full frames that is payload: 0.956 for IPv4 at an MTU of 1500."""
        return _payload_of_frame(self.mtu_bytes, TCP_HEADER_BYTES[self.family])

    def options(self) -> list[str]:
        """What iperf3 is told."""
        rate = ["-b", str(self.flow_bits_per_sec)] if self.flow_bits_per_sec else []
        return ["-P", str(self.flows), "-C", self.congestion_control, *rate, *_block_options()]


@dataclass(frozen=True, slots=True)
class UdpLoad:
    """Full-size datagrams at a rate that counts frame bytes, as limits do."""

    direction: Direction
    offered_bits_per_sec: int
    seconds: float = 6
    family: int = 4
    flows: int = 1
    sender_connects: bool = False
    port: int = _FIRST_PORT
    mtu_bytes: int = STANDARD_MTU

    @property
    def payload_of_frame(self) -> float:
        """The part of full frames that is payload."""
        return _payload_of_frame(self.mtu_bytes, UDP_HEADER_BYTES[self.family])

    def options(self) -> list[str]:
        """What iperf3 is told."""
        payload = self.mtu_bytes - UDP_HEADER_BYTES[self.family]
        rate = int(self.offered_bits_per_sec * self.payload_of_frame / self.flows)
        return ["-u", "-P", str(self.flows), "-l", str(payload), "-b", str(rate)]


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What the receiver got. Payload bytes unless a name says frames."""

    interval_seconds: tuple[float, ...]
    bytes_by_interval: tuple[tuple[int, ...], ...]
    """One tuple per interval, one number per flow."""
    retransmits: int
    """Over the whole run, the first second included."""
    lost_datagrams: int
    sent_datagrams: int
    payload_of_frame: float

    def _bytes(self, skip_seconds: float, until_seconds: float = float("inf")) -> tuple[int, float]:
        at, total, seconds = 0.0, 0, 0.0
        for length, flows in zip(self.interval_seconds, self.bytes_by_interval, strict=True):
            # The middle decides, so that intervals that start a moment late are not lost.
            if skip_seconds <= at + length / 2 < until_seconds:
                total += sum(flows)
                seconds += length
            at += length
        return total, seconds

    def goodput_bits_per_sec(self, skip_seconds: float = 1.0) -> float:
        """Payload rate after the first seconds."""
        total, seconds = self._bytes(skip_seconds)
        return total * 8 / seconds if seconds else 0.0

    def first_second_frame_bytes(self) -> int:
        """What arrived in the first second, as full frames."""
        return int(self._bytes(0, 1)[0] / self.payload_of_frame)

    def bits_per_sec_by_interval(self) -> list[float]:
        """Payload rate of each interval."""
        pairs = zip(self.interval_seconds, self.bytes_by_interval, strict=True)
        return [sum(flows) * 8 / seconds for seconds, flows in pairs]

    def bytes_by_flow(self, skip_seconds: float = 2.0) -> list[int]:
        """What each flow got after the first seconds."""
        at, wanted = 0.0, []
        for length, flows in zip(self.interval_seconds, self.bytes_by_interval, strict=True):
            if at + length / 2 >= skip_seconds:
                wanted.append(flows)
            at += length
        return [sum(flow) for flow in zip(*wanted, strict=True)]

    def jain_index(self, skip_seconds: float = 2.0) -> float:
        """1 when all flows got the same, 1/n when one got everything."""
        shares = self.bytes_by_flow(skip_seconds)
        squares = sum(s * s for s in shares)
        return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


class RunningBulk:
    """Traffic that is under way."""

    def __init__(
        self, load: TcpLoad | UdpLoad, client: subprocess.Popen[str], started_at: float
    ) -> None:
        self.load = load
        self.started_at = started_at
        """time.monotonic() when iperf3 was started."""
        self._client = client
        self._result: BulkResult | None = None

    def result(self) -> BulkResult:
        """Waits for the end. Raises RigError when iperf3 failed or never ended."""
        if self._result is None:
            try:
                said, complaint = self._client.communicate(
                    timeout=self.load.seconds + _GRACE_SECONDS
                )
            except subprocess.TimeoutExpired as e:
                raise RigError(
                    f"iperf3 has not ended {_GRACE_SECONDS} s after its time: "
                    "its control connection starved"
                ) from e
            self._result = parse(said or complaint, self.load)
        return self._result


def parse(said: str, load: TcpLoad | UdpLoad) -> BulkResult:
    """Reads iperf3's JSON, taking the receiver's side of it. Raises RigError on its errors."""
    try:
        report: dict[str, Any] = json.loads(said)
    except ValueError as e:
        raise RigError(f"iperf3 printed no JSON: {said[:200]!r}") from e
    if "error" in report:
        raise RigError(f"iperf3: {report['error']}")
    receiver = report["server_output_json"] if load.sender_connects else report
    intervals = receiver["intervals"]
    end = report["end"]
    streams = [s for i in intervals for s in i["streams"]]
    return BulkResult(
        interval_seconds=tuple(i["sum"]["seconds"] for i in intervals),
        bytes_by_interval=tuple(tuple(s["bytes"] for s in i["streams"]) for i in intervals),
        retransmits=end.get("sum_sent", {}).get("retransmits", 0),
        lost_datagrams=sum(s.get("lost_packets", 0) for s in streams),
        sent_datagrams=sum(s.get("packets", 0) for s in streams),
        payload_of_frame=load.payload_of_frame,
    )


def wait_for_listener(place: Place, port: int) -> None:
    """Returns as soon as something in the namespace listens on the TCP port."""
    end = time.monotonic() + _LISTEN_TIMEOUT_SECONDS
    while not place.run("ss", "-ltnH", f"sport = :{port}").strip():
        if time.monotonic() > end:
            raise RigError(f"nothing listens on port {port} in {place.namespace}")
        time.sleep(0.01)


@contextmanager
def bulk(rig: Rig, load: TcpLoad | UdpLoad) -> Iterator[RunningBulk]:
    """Starts the load; ``result()`` waits for it. Ended early when the block ends early."""
    sender, receiver = rig.ends(load.direction)
    client, server = (sender, receiver) if load.sender_connects else (receiver, sender)
    side = ["--get-server-output"] if load.sender_connects else ["-R"]
    serve = server.command(
        "iperf3", "-s", "-1", "-J", "-p", str(load.port), "-i", str(INTERVAL_SECONDS)
    )
    ask = client.command(
        *("iperf3", "-c", rig.address(server, load.family), "-p", str(load.port), "-J"),
        *("-t", f"{load.seconds:g}", "-i", str(INTERVAL_SECONDS), *side, *load.options()),
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(serve, **quiet):
        wait_for_listener(server, load.port)
        with running(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            yield RunningBulk(load, process, time.monotonic())
