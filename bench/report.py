"""RESULTS.md from the measurements."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.cells import NO_LIMIT, Cell, parse_cell
from bench.limiters import CniBandwidth, EmptyProgram, PlainEdt, Policer, Tbf, Unlimited
from bench.measurement import Measurement
from bench.ours import Podpace
from bench.results import GOALS, Results, missed_goals
from bench.rig import STANDARD_MTU
from bench.units import rate_text

ORDER = (
    Podpace.name,
    CniBandwidth.name,
    Tbf.name,
    PlainEdt.name,
    Policer.name,
    Unlimited.name,
    EmptyProgram.name,
)
_INTRODUCTION = """\
# Side by side

Every cell was measured under each limiter that it shows, by `make bench`, on the rig that
`docs/measuring.md` describes: two network namespaces on one machine, MTU 1500
where nothing else is said. A cell that was
measured again for one limiter alone shows its latest figure. Absolute figures differ between
machines; the comparison holds. Made by `python -m bench --render` from
`results.jsonl`; edit neither.

- **podpace**: `podpace attach`, default burst.
- **CNI bandwidth plugin**: Debian's binary, called as containerd calls it, with the burst it gives
  (2^32 - 1 bits: 512 MiB pass before the limit begins to hold, and as much may queue).
- **TBF, 2 ms burst**: what a careful administrator would set by hand; queue 25 ms.
- **dropping bucket**: a plain token bucket in cgroup_skb, burst 20 ms.
- **plain EDT and fq**: one clock of departure times on the host-side veth, 2 s horizon.

Limits count Ethernet frame bytes. *Utilisation* is the goodput after the first second as a part of
what full frames carry within the limit (IPv4 TCP: 0.956 of it). *Retransmits* count the whole run,
the start included; *resent* is the part of the segments after the first second. *Ping* is a UDP
datagram every 20 ms through the pod meanwhile; lost ones count as 2000 ms.
"""


def render(
    results: Results, plots: Sequence[Path], vms: Sequence[Results] = (), cost: str = ""
) -> str:
    """The whole page; ``vms`` is what was measured in virtual machines, ``cost`` a section."""
    by_cell: dict[Cell, dict[str, Measurement]] = {}
    for (key, limiter), measurement in results.measurements.items():
        by_cell.setdefault(parse_cell(key), {})[limiter] = measurement
    cells = sorted(by_cell, key=_order)
    limited = [c for c in cells if c.limit_bits_per_sec]
    parts = [_INTRODUCTION, _machine(results.machine)]
    parts += [f"![{plot.stem}]({plot.parent.name}/{plot.name})" for plot in plots]
    for family, udp, name in ((4, False, "TCP"), (6, False, "TCP over IPv6"), (4, True, "UDP")):
        for direction in ("egress", "ingress"):
            rows = [
                c
                for c in limited
                if (c.direction == direction and c.is_udp == udp and (udp or c.family == family))
            ]
            if rows:
                parts.append(_overview(f"{name}, {direction}", rows, by_cell, udp))
    measured = [vm for vm in vms if vm.measurements]
    if measured:
        parts += [_VM_INTRODUCTION, *map(_in_vm, measured)]
    free = [c for c in cells if not c.limit_bits_per_sec]
    if free:
        parts.append(_free(free, by_cell))
    if cost:
        parts.append(cost)
    missed = missed_goals(by_cell[c][Podpace.name] for c in cells if Podpace.name in by_cell[c])
    for vm in measured:
        ours = (m for (_, name), m in vm.measurements.items() if name == Podpace.name)
        lines = missed_goals(ours, in_vm=True)
        missed += [f"in a virtual machine, {vm.machine['kernel']}: {line}" for line in lines]
    parts.append(_goals(missed))
    notes = [f"- {m.cell}, {m.limiter}: {m.note}" for m in results.measurements.values() if m.note]
    if notes:
        parts.append("## Marked with *\n\n" + "\n".join(notes))
    parts.append(_everything(cells, by_cell))
    return "\n\n".join(parts) + "\n"


_FREE_INTRODUCTION = """\
An *empty program* in the same place does nothing: its time per packet is what the kernel needs to
take it, and is in every other program's figure too. *Left* is the throughput with a program or
podpace as a part of that without, in turns of a second on the same connections: median (quartiles).
Rates of whole runs do not compare: one load may run at several speeds, by where the scheduler has
put its ends.
"""

_VM_INTRODUCTION = """\
## In virtual machines

By `make bench-vm`: Debian's kernels, which have fq and netem, on one emulated processor whose clock
counts instructions, a nanosecond each: nothing but what it has to do makes it late, and its figures
come out again on any machine. Senders know nothing of Podpace. The path's delay is netem's, behind
the sender's interface.
"""


def _in_vm(vm: Results) -> str:
    by_cell: dict[Cell, dict[str, Measurement]] = {}
    for (key, limiter), measurement in vm.measurements.items():
        by_cell.setdefault(parse_cell(key), {})[limiter] = measurement
    rows = "\n".join(f"| {name} | {value} |" for name, value in vm.machine.items())
    kernel = vm.machine["kernel"]
    parts = [f"### Linux {kernel}", f"| | |\n|---|---|\n{rows}"]
    for direction in ("egress", "ingress"):
        cells = sorted((c for c in by_cell if c.direction == direction), key=_order)
        if cells:
            table = _overview(f"TCP, {direction}, Linux {kernel}", cells, by_cell, udp=False)
            parts.append(f"##{table}")
    return "\n\n".join(parts)


def _order(cell: Cell) -> tuple[object, ...]:
    return (
        cell.is_udp,
        cell.family,
        cell.direction != "egress",
        cell.mtu_bytes,
        cell.ecn,
        cell.rtt_ms,
        cell.limit_bits_per_sec or 0,
        cell.congestion_control != "cubic",
        cell.flows,
    )


def _machine(machine: dict[str, str]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in machine.items())
    return f"## The machine\n\n| | |\n|---|---|\n{rows}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(cell: Cell) -> str:
    _, limit, congestion_control, flows, family, *_ = cell.key.split(",")
    name = f"{limit} {congestion_control} {flows}" + (" v6" if family == "v6" else "")
    path = f", path of {cell.rtt_ms} ms" if cell.rtt_ms else ""
    mtu = f", MTU {cell.mtu_bytes:,}" if cell.mtu_bytes != STANDARD_MTU else ""
    return name + path + (", ECN" if cell.ecn else "") + mtu


def _overview(
    title: str,
    cells: Sequence[Cell],
    by_cell: dict[Cell, dict[str, Measurement]],
    udp: bool,
) -> str:
    shown = [n for n in ORDER if any(n in by_cell[c] for c in cells)]

    def short(m: Measurement | None) -> str:
        if m is None:
            return ""
        if m.error:
            return "failed"
        lost = "?" if m.lost_part is None else f"{m.lost_part:.0%}"
        count = f"{lost} lost" if udp else f"{m.retransmits}"
        ping = f"{m.ping_p99_ms:.{1 if m.ping_p99_ms < 100 else 0}f}"
        mark = " *" if m.note else ""
        return f"{m.utilisation or 0:.3f} / {count} / {ping}{mark}"

    rows = [[_name(c), *(short(by_cell[c].get(n)) for n in shown)] for c in cells]
    second = "datagrams lost" if udp else "retransmits"
    return f"## {title}\n\nutilisation / {second} / ping p99 in ms\n\n" + _table(
        ["limit, traffic, flows", *shown], rows
    )


def _free(cells: Sequence[Cell], by_cell: dict[Cell, dict[str, Measurement]]) -> str:
    shown = (Unlimited.name, EmptyProgram.name, Podpace.name)
    rows = []
    for cell in cells:
        free, empty, ours = (by_cell[cell].get(name) for name in shown)
        rates = [rate_text(m.goodput_bits_per_sec) if m else "" for m in (free, empty, ours)]
        left = [_left(m) if m else "" for m in (empty, ours)]
        costs = [_number(m.program_ns_per_packet, 0) if m else "" for m in (empty, ours)]
        rows.append([f"{cell.direction} {_name(cell)}", *rates, *left, *costs])
    header = ["direction, traffic", "no limit", "empty program", "podpace at 1 Tbit/s"]
    header += ["left, empty", "left, podpace", "ns/packet, empty", "ns/packet, podpace"]
    return f"## What being attached costs\n\n{_FREE_INTRODUCTION}\n" + _table(header, rows)


def _left(m: Measurement) -> str:
    if not m.throughput_left:
        return ""
    low, median, high = m.throughput_left
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def _goals(missed: Sequence[str]) -> str:
    lines = [f"- {line}" for line in missed] or ["None."]
    return f"## Goals missed\n\n{GOALS}\n\n" + "\n".join(lines)


_COLUMNS: tuple[tuple[str, Callable[[Measurement], object]], ...] = (
    ("goodput", lambda m: rate_text(m.goodput_bits_per_sec)),
    ("utilisation", lambda m: _number(m.utilisation, 3)),
    ("frames of limit", lambda m: _number(m.frames_of_limit, 3)),
    ("first second, kB", lambda m: f"{m.first_second_frame_bytes / 1e3:.0f}"),
    ("retransmits", lambda m: _number(m.retransmits, 0)),
    ("resent", lambda m: _number(m.resent_part, 5)),
    ("UDP lost", lambda m: _number(m.lost_part, 3)),
    ("Jain", lambda m: _number(m.jain_index, 3)),
    ("ping p50", lambda m: f"{m.ping_p50_ms:.2f}"),
    ("p99", lambda m: f"{m.ping_p99_ms:.2f}"),
    ("lost", lambda m: m.pings_lost),
    ("CPU s/Gbit", lambda m: f"{m.cpu_seconds_per_gigabit:.2f}"),
    ("program ns/packet", lambda m: _number(m.program_ns_per_packet, 0)),
    ("commit", lambda m: m.commit),
)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _everything(cells: Sequence[Cell], by_cell: dict[Cell, dict[str, Measurement]]) -> str:
    rows = []
    for cell in cells:
        limit = cell.key.split(",")[1]
        for limiter in ORDER:
            m = by_cell[cell].get(limiter)
            if m is None:
                continue
            name = [f"{cell.direction} {_name(cell)}" if limit != NO_LIMIT else cell.key, limiter]
            values = [m.error] if m.error else [str(value(m)) for _, value in _COLUMNS]
            rows.append([*name, *values, *[""] * (len(_COLUMNS) - len(values))])
    header = ["cell", "limiter", *(name for name, _ in _COLUMNS)]
    return "## Everything\n\nPing in ms; the commit is Podpace's at that time.\n\n" + _table(
        header, rows
    )
