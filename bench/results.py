"""The JSON lines file that a run appends to, and what can be read back from it."""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from bench.measurement import Measurement
from bench.rig import RigError

_NAMES = {f.name for f in fields(Measurement)}


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
            measurement = Measurement(**known)
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


def missed_goals(measurements: Iterable[Measurement]) -> list[str]:
    """Where Podpace is not what it promises for paced TCP egress; one line each."""
    missed = []
    for m in measurements:
        direction, limit, congestion_control, *_ = m.cell.split(",")
        if m.error:
            missed.append(f"{m.cell}: {m.error}")
            continue
        if m.frames_of_limit is not None and m.frames_of_limit > 1.01:
            missed.append(f"{m.cell}: frames at {m.frames_of_limit:.3f} of the limit, above 1.01")
        if direction != "egress" or m.utilisation is None or congestion_control == "udp":
            continue
        least = 0.93 if limit == "1M" else 0.97
        if not least <= m.utilisation <= 1.01:
            missed.append(f"{m.cell}: utilisation {m.utilisation:.3f}, not {least} to 1.01")
        if limit == "1M":
            continue
        if m.retransmits:
            missed.append(f"{m.cell}: {m.retransmits} retransmits, not 0")
        if m.ping_p99_ms > 2:
            missed.append(f"{m.cell}: ping p99 {m.ping_p99_ms:.1f} ms, above 2")
    return missed
