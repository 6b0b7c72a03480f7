"""The section of RESULTS.md about instructions per packet, from what ``bench.cost --save`` kept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.limiters import EmptyProgram, PlainEdt
from bench.ours import Podpace

_INTRODUCTION: Final = """\
## What a packet costs

By `python -m bench.cost` on Debian's kernel, on one emulated processor whose clock counts
instructions: instructions for each packet of a busy target (a GSO packet is one) in the direction's
own program, without those that an empty one takes to be run and timed. In brackets all programs of
the limiter, with what timing them takes: the other direction's ACKs, sock_ops at each round trip,
those at the veth. *Plain EDT* is a textbook program: a clock for each target in a hash,
`skb->tstamp`, a horizon. It needs `fq` behind it, whose work is not in the figure, nor is HTB's in
ours. The goal is at most 2 of it. A column with a commit's name is that version of Podpace.
"""


def read(path: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The latest rows, by cell and limiter."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if "cell" in record:
            rows.setdefault(record["cell"], {})[record["limiter"]] = record
    return rows


def part_of_edt(row: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Own instructions as a part of plain EDT's; None where one of them was not measured."""
    if not {EmptyProgram.name, PlainEdt.name, Podpace.name} <= row.keys():
        return None
    empty = row[EmptyProgram.name]["own_ns"]
    edt = row[PlainEdt.name]["own_ns"] - empty
    return float((row[Podpace.name]["own_ns"] - empty) / edt) if edt > 0 else None


def section(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The section; empty where nothing was measured."""
    known = {EmptyProgram.name, PlainEdt.name, Podpace.name}
    commits = sorted({name for row in rows.values() for name in row} - known)
    names = [PlainEdt.name, Podpace.name, *commits]
    lines = [
        f"| cell | {' | '.join(names)} | of plain EDT |",
        f"| --- | {' | '.join('---' for _ in names)} | --- |",
    ]
    for cell, row in rows.items():
        part = part_of_edt(row)
        if part is None:
            continue
        empty = row[EmptyProgram.name]["own_ns"]
        texts = [_text(row.get(name), empty) for name in names]
        lines.append(f"| {cell} | {' | '.join(texts)} | {part:.2f} |")
    return "" if len(lines) == 2 else f"{_INTRODUCTION}\n" + "\n".join(lines)


def _text(cost: Mapping[str, Any] | None, empty_ns: float) -> str:
    if cost is None:
        return "-"
    everything = sum(max(0.0, ns) for ns in cost["by_program_ns"].values())
    return f"{cost['own_ns'] - empty_ns:.0f} ({everything:.0f})"
