"""``make demo``: one transfer is limited before your eyes, beside two other limiters.

Starts the daemon on a socket, pins and state of its own, makes two network namespaces and a
cgroup, and takes everything away again, also after Ctrl-C and SIGTERM. Under two minutes.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.limiters import Limiter, Policer, Tbf
from bench.ours import podpace
from bench.plots import RICH_COLOURS, terminal_chart, timelines_png
from bench.rig import RigError, leftovers, rig, terminating
from bench.rig.probes import LOST_MS
from bench.timeline import Phase, Timeline, record
from bench.units import limit_text, rate_text, utilisation
from contract.names import Direction

LIMITS_BITS_PER_SEC = (100_000_000, 20_000_000)
FREE_SECONDS = 1.5
PHASE_SECONDS = 5.0
_BLOCKS = "▁▂▃▄▅▆▇█"


class Stage:
    """The live part of the screen: what runs, how far it is, and its rate."""

    def __init__(self, console: Console, runs: int, run_seconds: float) -> None:
        self._live = Live(console=console, refresh_per_second=10, transient=True)
        self._total_seconds = runs * run_seconds
        self._run_seconds = run_seconds
        self._done_runs = 0
        self._title = ""
        self._rates: list[float] = []

    def __enter__(self) -> "Stage":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, title: str) -> None:
        """The next run."""
        self._title, self._rates = title, []
        self.watch(None, 0, 0)

    def end(self) -> None:
        """The run is through."""
        self._done_runs += 1

    def watch(self, limit: int | None, at_seconds: float, bits_per_sec: float) -> None:
        """A sample: redraw."""
        self._rates.append(bits_per_sec)
        done = self._done_runs * self._run_seconds + min(at_seconds, self._run_seconds)
        row = Table.grid(padding=(0, 2))
        row.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=self._total_seconds, completed=done, width=30),
            Text(f"{max(0, self._total_seconds - done):.0f} s left"),
            Text(f"limit {rate_text(limit)}" if limit else "no limit", style="cyan"),
            Text(f"goodput {rate_text(bits_per_sec)}", style="bold green"),
        )
        self._live.update(Group(row, Text(_sparkline(self._rates), style="green")))


def _sparkline(rates: Sequence[float]) -> str:
    """A character per sample; every decade from 1 Mbit/s up is one and a half steps."""
    steps = (int(1.5 * (len(str(int(rate))) - 6)) if rate else 0 for rate in rates)
    return "".join(_BLOCKS[max(0, min(len(_BLOCKS) - 1, step))] for step in steps)


def _judged(text: str, good: bool, bad: bool) -> Text:
    return Text(text, style="green" if good else "red" if bad else "yellow")


def _row(limit: int, phase: Phase) -> list[Text]:
    used = utilisation(phase.goodput_bits_per_sec, limit)
    p99 = phase.pings.p99_ms
    lost = phase.pings.lost
    return [
        Text(limit_text(limit)),
        Text(rate_text(phase.goodput_bits_per_sec)),
        _judged(f"{used:.0%}", 0.97 <= used <= 1.01, used < 0.9 or used > 1.03),
        _judged(f"{phase.retransmits}", phase.retransmits == 0, phase.retransmits > 10),
        Text(f"{phase.pings.p50_ms:.1f} ms"),
        _judged(f"{p99:.1f} ms" if p99 < LOST_MS else "lost", p99 <= 2, p99 > 10),
        _judged(f"{lost}", lost == 0, lost > 0),
    ]


def results_table(timelines: Sequence[Timeline]) -> Table:
    """Every limiter under every limit."""
    table = Table(title="Side by side, one TCP flow", title_justify="left", header_style="bold")
    for name in ("", "limiter"):
        table.add_column(name)
    for name in ("limit", "goodput", "of the limit", "retransmits", "ping p50", "p99", "lost"):
        table.add_column(name, justify="right")
    for direction in (Direction.EGRESS, Direction.INGRESS):
        for timeline in (t for t in timelines if t.direction == direction):
            first = timeline.limiter == timelines[0].limiter
            for number, phase in enumerate(p for p in timeline.phases if p.limit_bits_per_sec):
                assert phase.limit_bits_per_sec
                table.add_row(
                    Text(str(direction) if first and number == 0 else "", style="bold"),
                    Text(
                        timeline.limiter if number == 0 else "",
                        style=RICH_COLOURS[timeline.limiter],
                    ),
                    *_row(phase.limit_bits_per_sec, phase),
                )
        table.add_section()
    return table


def run(console: Console, phase_seconds: float) -> list[Timeline]:
    """Sets up, measures, cleans up. Raises RigError."""
    timelines = []
    run_seconds = FREE_SECONDS + phase_seconds * len(LIMITS_BITS_PER_SEC)
    with ExitStack() as stack:
        r = stack.enter_context(rig())
        _tell(console, f"network namespaces [bold]{r.pod.namespace}[/] and {r.peer.namespace}")
        _tell(console, f"cgroup [bold]{r.cgroup}[/] for the pod's processes")
        started = time.monotonic()
        with console.status("starting podpace-enforcer (compiles its BPF programs)"):
            paced = stack.enter_context(podpace(r))
        _tell(console, f"podpace-enforcer answers after {time.monotonic() - started:.1f} s")
        limiters: tuple[Limiter, ...] = (paced, Tbf(), Policer())
        with Stage(console, len(limiters) * len(Direction), run_seconds) as stage:
            for direction in (Direction.EGRESS, Direction.INGRESS):
                for limiter in limiters:
                    if limiter is paced:
                        for limit in LIMITS_BITS_PER_SEC:
                            command = f"podpace attach {r.cgroup} --{direction} {limit_text(limit)}"
                            console.print(f"  [dim]$ {command}[/]", highlight=False, soft_wrap=True)
                    stage.begin(f"{direction}, {limiter.name}")
                    timelines.append(
                        record(
                            r,
                            limiter,
                            direction,
                            LIMITS_BITS_PER_SEC,
                            phase_seconds=phase_seconds,
                            free_seconds=FREE_SECONDS,
                            watch=stage.watch,
                        )
                    )
                    stage.end()
                    _tell(console, _summary(timelines[-1]))
        with console.status("taking everything away"):
            stack.close()
    left = leftovers(r.name)
    if left:
        raise RigError(f"still there: {', '.join(left)}: remove them by hand")
    _tell(console, "no namespace, cgroup, mount, socket, pin or program of ours is left")
    return timelines


def _tell(console: Console, text: str) -> None:
    console.print(f"[green]✓[/] {text}", highlight=False, soft_wrap=True)


def _summary(timeline: Timeline) -> str:
    limited = [p for p in timeline.phases if p.limit_bits_per_sec]
    steps = [
        f"{rate_text(p.goodput_bits_per_sec)} under {limit_text(p.limit_bits_per_sec or 0)}"
        for p in limited
    ]
    free = rate_text(timeline.phases[0].goodput_bits_per_sec)
    colour = RICH_COLOURS[timeline.limiter]
    return f"{timeline.direction}, [{colour}]{timeline.limiter}[/]: {free} free, {', '.join(steps)}"


def show(console: Console, timelines: Sequence[Timeline]) -> None:
    """Charts, then the table."""
    width = min(console.width, 110)
    for direction in (Direction.EGRESS, Direction.INGRESS):
        drawn = [t for t in timelines if t.direction == direction]
        legend = "   ".join(f"[{RICH_COLOURS[t.limiter]}]━━ {t.limiter}[/]" for t in drawn)
        console.print(f"\n[bold]{direction}: goodput over time[/]   {legend}", highlight=False)
        console.print(Text.from_ansi(terminal_chart(drawn, width, 16)))
    console.print()
    console.print(results_table(timelines))
    console.print(
        "[dim]Limits count Ethernet frames: 100 % is a TCP goodput of 0.956 of the limit. "
        "Ping: a UDP datagram every 20 ms beside the transfer.[/]",
        highlight=False,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw a PNG")
    parser.add_argument("--seconds", type=float, default=PHASE_SECONDS, help="under each limit")
    return parser.parse_args()


def main() -> int:
    """Returns the exit code: 1 when something failed, 130 when interrupted."""
    options = _options()
    # Without a terminal rich would assume 80 columns, too few for the table.
    console = Console(width=None if sys.stdout.isatty() else 110)
    if os.geteuid() != 0:
        console.print("make demo makes namespaces and cgroups: run it as root (sudo make demo)")
        return 1
    console.print(
        f"[bold]Podpace demo[/] on Linux {platform.release()}, {os.cpu_count()} cores",
        highlight=False,
    )
    try:
        with terminating():
            timelines = run(console, options.seconds)
            show(console, timelines)
            if options.plot:
                timelines_png(timelines, options.plot)
                _tell(console, f"drawn to {options.plot}")
    except KeyboardInterrupt:
        console.print("\n[yellow]interrupted[/]; everything has been taken away")
        return 130
    except (RigError, OSError) as error:
        Console(stderr=True).print(f"[red]make demo:[/] {error}", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
