"""``podpace top``: rates from two samples."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from client.output import (
    Format,
    console,
    format_rate,
    make_table,
    optional_rate,
    print_data,
)
from contract.api import DirectionStatus, TargetList
from contract.names import Direction

if TYPE_CHECKING:
    from client.api import Enforcer

_BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One direction of one target, between two samples."""

    target: str
    direction: Direction
    limit_bits_per_second: int | None
    """None: no limit of its own."""
    rate_bits_per_second: float
    share_bits_per_second: int
    active_flows: int
    dropped_packets_per_second: float
    dropped_packets: int
    limited_fraction: float
    """Part of the time between the samples that was spent at the limit."""
    current_bits_per_second: int | None = None
    """What it may use now, as its group or its node is short; None: nothing is."""


def make_rows(before: TargetList, after: TargetList, seconds: float) -> tuple[Row, ...]:
    """What happened between two samples taken ``seconds`` apart; targets of both only."""
    earlier = {(s.target, s.cgroup_id): s for s in before.targets}
    rows = []
    for status in after.targets:
        old = earlier.get((status.target, status.cgroup_id))
        if old is None:
            continue
        for direction, was, now in (
            (Direction.INGRESS, old.ingress, status.ingress),
            (Direction.EGRESS, old.egress, status.egress),
        ):
            if was is not None and now is not None:
                rows.append(_row(status.target, direction, was, now, seconds))
    return tuple(rows)


def _row(
    target: str, direction: Direction, was: DirectionStatus, now: DirectionStatus, seconds: float
) -> Row:
    if now.passed_bytes < was.passed_bytes:
        was = now  # attached anew in between: its counters began at zero
    return Row(
        target=target,
        direction=direction,
        limit_bits_per_second=now.bits_per_second,
        rate_bits_per_second=(now.passed_bytes - was.passed_bytes) * _BITS_PER_BYTE / seconds,
        share_bits_per_second=now.share_bytes_per_sec * _BITS_PER_BYTE,
        active_flows=now.active_flows,
        dropped_packets_per_second=(now.dropped_packets - was.dropped_packets) / seconds,
        dropped_packets=now.dropped_packets,
        limited_fraction=min(1.0, (now.limited_seconds - was.limited_seconds) / seconds),
        current_bits_per_second=now.current_bits_per_second,
    )


def make_view(rows: tuple[Row, ...]) -> Table:
    """The table for people."""
    table = make_table(
        "TARGET", "", "LIMIT", "NOW AT MOST", "RATE", "SHARE", "FLOWS", "DROPS/S", "AT LIMIT"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        table.add_row(
            row.target,
            row.direction,
            optional_rate(row.limit_bits_per_second),
            optional_rate(row.current_bits_per_second),
            format_rate(row.rate_bits_per_second),
            format_rate(row.share_bits_per_second),
            str(row.active_flows),
            f"{row.dropped_packets_per_second:.0f}",
            f"{row.limited_fraction:.0%}",
        )
    return table


def show_once(
    enforcer: "Enforcer",
    interval_seconds: float,
    output: Format,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Two samples, one table (or JSON, or YAML)."""
    before, started = enforcer.list_targets(), time.monotonic()
    sleep(interval_seconds)
    after, ended = enforcer.list_targets(), time.monotonic()
    rows = make_rows(before, after, ended - started)
    if output is Format.TABLE:
        console().print(make_view(rows))
    else:
        print_data(rows, output)


def show_live(enforcer: "Enforcer", interval_seconds: float) -> None:
    """A table that follows until Ctrl-C; where output is no terminal, one below the other."""
    from rich.live import Live

    out = console()
    before, started = enforcer.list_targets(), time.monotonic()
    with Live(make_view(()), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while True:
            time.sleep(interval_seconds)
            after, ended = enforcer.list_targets(), time.monotonic()
            view = make_view(make_rows(before, after, ended - started))
            if out.is_terminal:
                live.update(view, refresh=True)
            else:
                out.print(view)
            before, started = after, ended
