"""The JSON lines file that a run appends to, and what can be read back from it."""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from bench.cells import parse_cell
from bench.measurement import Measurement
from bench.rig import RigError
from contract.names import Direction

_NAMES = {f.name for f in fields(Measurement)}
_MOST: Final = 1.01
_MOST_RESENT: Final = 0.001
_FAST_BITS_PER_SEC: Final = 10_000_000
_LEAST_LEFT: Final = 0.97
_MOST_NS_PER_PACKET: Final = 150


@dataclass(frozen=True, slots=True)
class Results:
    """The latest measurement of every cell under every limiter, and the machine of the last run."""

    machine: dict[str, str]
    measurements: dict[tuple[str, str], Measurement]
    """By (cell, limiter)."""


def append(path: Path, record: dict[str, object]) -> None:
    """One line, on disk before this returns; a line that a crash cut short stays on its own."""
    before = path.read_bytes() if path.exists() else b""
    cut_short = bool(before) and not before.endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * cut_short + json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> Results:
    """Raises RigError for a file that is not ours; a line cut short by a crash is ignored."""
    machine: dict[str, str] = {}
    measurements = {}
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if "machine" in record:
                machine = record["machine"]
                continue
            known = {name: value for name, value in record.items() if name in _NAMES}
            measurement = Measurement(**known | {"commit": machine.get("podpace", "")})
        except (ValueError, TypeError) as e:
            if line.startswith("{"):  # cut short by a crash
                continue
            raise RigError(f"{path}:{number} is not a result: move the file away") from e
        measurements[measurement.cell, measurement.limiter] = measurement
    return Results(machine, measurements)


def machine() -> dict[str, str]:
    """What the figures depend on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    packages = ("iperf3", "iproute2", "containernetworking-plugins", "python3-bpfcc")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "podpace": _said("git", "describe", "--always", "--dirty"),
        **{p: _said("dpkg-query", "-W", "-f", "${Version}", p) for p in packages},
    }


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


GOALS: Final = """\
Egress TCP from 10M up: utilisation 0.97 to 1.01, no retransmits, ping p99 at most 2 ms; at 1M at
least 0.93. Ingress TCP from 10M up: 0.97 to 1.01, ping p99 at most 5 ms, from 100M up 3 ms, at
most 0.001 of the segments sent again after the first second.
Counted frames never above 1.01 of the limit.
Attached at a limit nobody reaches: 0.97 of the throughput left, 150 ns per packet."""


def _missed_when_free(m: Measurement) -> Iterator[str]:
    if m.throughput_left and m.throughput_left[1] < _LEAST_LEFT:
        yield f"{m.cell}: {m.throughput_left[1]:.3f} of the throughput left, not {_LEAST_LEFT}"
    if (m.program_ns_per_packet or 0) > _MOST_NS_PER_PACKET:
        yield f"{m.cell}: {m.program_ns_per_packet:.0f} ns per packet, above {_MOST_NS_PER_PACKET}"


def missed_goals(measurements: Iterable[Measurement], *, in_vm: bool = False) -> list[str]:
    """Where Podpace is not what ``GOALS`` promise; one line each."""
    missed = []
    for m in measurements:
        cell = parse_cell(m.cell)
        limit = cell.limit_bits_per_sec or 0
        if m.error:
            missed.append(f"{m.cell}: {m.error}")
            continue
        if m.frames_of_limit is not None and m.frames_of_limit > _MOST:
            missed.append(
                f"{m.cell}: frames at {m.frames_of_limit:.3f} of the limit, above {_MOST}"
            )
        if not limit:
            missed += _missed_when_free(m)
            continue
        is_egress = cell.direction is Direction.EGRESS
        is_slow = limit < _FAST_BITS_PER_SEC
        if m.utilisation is None or cell.is_udp or (is_slow and not is_egress):
            continue
        least = 0.93 if is_slow else 0.97
        if not least <= m.utilisation <= _MOST:
            missed.append(f"{m.cell}: utilisation {m.utilisation:.3f}, not {least} to {_MOST}")
        if is_egress and not is_slow and m.retransmits:
            missed.append(f"{m.cell}: {m.retransmits} retransmits, not 0")
        if not is_egress and (m.resent_part or 0) > _MOST_RESENT:
            missed.append(
                f"{m.cell}: {m.resent_part:.4f} of the segments resent, above {_MOST_RESENT}"
            )
        most_ms = 2 if is_egress else 3 if limit >= 10 * _FAST_BITS_PER_SEC else 5
        if not is_slow and not in_vm and m.ping_p99_ms > most_ms:
            missed.append(f"{m.cell}: ping p99 {m.ping_p99_ms:.1f} ms, above {most_ms}")
    return missed
