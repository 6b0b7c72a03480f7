"""``make bench``: Podpace beside the CNI bandwidth plugin, TBF and a plain dropping bucket.

Cells are DIRECTION,LIMIT,CONGESTION_CONTROL,FLOWS[,FAMILY[,RTT[,ECN[,MTU]]]] with wildcards,
several separated by spaces: 'egress,10M,cubic,1', '*,100M,*,10', 'egress,37M,cubic,3',
'ingress,1G,udp,1,v6', 'ingress,100M,cubic,10,v4,0ms,ecn', '*,1G,cubic,1,v4,0ms,noecn,9001'.
Without any, the whole matrix; a run that
was stopped goes on where it was.
"""

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from bench import cost_table, results
from bench.cells import MATRIX, VM_MATRIX, Cell, select
from bench.door import draw_door
from bench.figures import draw
from bench.limiters import (
    CniBandwidth,
    EmptyProgram,
    Limiter,
    PlainEdt,
    Policer,
    Tbf,
    Unlimited,
)
from bench.measurement import Measurement, measure
from bench.ours import Podpace, podpace
from bench.report import render
from bench.rig import Rig, RigError, path_delay, ping, rig, terminating

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
VM_RESULTS = "results-vm-{kernel}.jsonl"
"""One for each kernel, such as 6.12."""
COST_RESULTS = HERE / "results-cost.jsonl"
PAGE = HERE / "RESULTS.md"
PLOTS = HERE / "plots"
# A first guess of what a cell takes beyond its own seconds.
_OVERHEAD_SECONDS = 2.5
SHORT_NAMES = {
    "podpace": Podpace.name,
    "cni": CniBandwidth.name,
    "tbf": Tbf.name,
    "bucket": Policer.name,
    "edt": PlainEdt.name,
    "none": Unlimited.name,
    "empty": EmptyProgram.name,
}

Task = tuple[Cell, str]


def tasks(cells: Sequence[Cell], only: set[str], vm: bool = False) -> list[Task]:
    """Cell by cell, all limiters of a cell next to one another.

    Plain EDT needs fq, which a virtual machine's kernel has.
    """
    last = PlainEdt.name if vm else Policer.name
    everywhere = (Podpace.name, CniBandwidth.name, Tbf.name, last)
    free = (Unlimited.name, EmptyProgram.name, Podpace.name)
    return [
        (cell, name)
        for cell in cells
        for name in (everywhere if cell.limit_bits_per_sec else free)
        if name in only
    ]


def run(console: Console, todo: Sequence[Task], seconds: float | None, path: Path) -> None:
    """Measures and appends each result to ``path`` as it comes. Raises RigError."""
    with ExitStack() as stack:
        r = stack.enter_context(rig())
        limiters: dict[str, Limiter] = {
            made.name: made
            for made in (
                CniBandwidth(),
                Tbf(),
                Policer(),
                PlainEdt(),
                Unlimited(),
                EmptyProgram(),
            )
        }
        idle = idle_pings(r, sorted({cell.rtt_ms for cell, _ in todo}))
        results.append(path, {"machine": {**results.machine(), **idle}})
        if any(name == Podpace.name for _, name in todo):
            with console.status("starting podpace-enforcer"):
                limiters[Podpace.name] = stack.enter_context(podpace(r))
        progress = stack.enter_context(
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
            )
        )
        bar = progress.add_task("", total=len(todo), left="")
        started = time.monotonic()
        for number, (cell, name) in enumerate(todo):
            spent = time.monotonic() - started
            each = spent / number if number else cell.seconds + _OVERHEAD_SECONDS
            left = f"about {_duration(each * (len(todo) - number))} left"
            progress.update(bar, description=f"{cell.key}  [bold]{name}[/]", left=left)
            measurement = measure(r, limiters[name], cell, seconds or cell.seconds)
            results.append(path, measurement.to_json())
            progress.advance(bar)
            progress.print(_line(measurement), highlight=False)
        progress.update(bar, description="measured", left="")


def idle_pings(r: Rig, rtts_ms: Sequence[int]) -> dict[str, str]:
    """What a ping takes when nothing else goes on, for each path."""
    said = {}
    for rtt_ms in rtts_ms:
        with path_delay(r, rtt_ms), ping(r, 3) as pings:
            answered = pings.result()
        name = "idle ping" + (f", path of {rtt_ms} ms" if rtt_ms else "")
        said[name] = f"p50 {answered.p50_ms:.2f}, p99 {answered.p99_ms:.2f} ms"
    return said


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _line(m: Measurement) -> str:
    head = f"{m.cell:26} {m.limiter:21}"
    if m.error:
        return f"{head} [red]{m.error}[/]"
    note = f"[yellow]{m.note}[/]" if m.note else ""
    used = f"{m.utilisation:6.3f}" if m.utilisation is not None else "      "
    lost = f"{m.lost_part or 0:8.1%} lost" if m.retransmits is None else f"{m.retransmits:6} retr"
    cost = f"{m.program_ns_per_packet:.0f} ns" if m.program_ns_per_packet else ""
    fair = f"jain {m.jain_index:.3f}" if m.jain_index is not None else ""
    return (
        f"{head} {m.goodput_bits_per_sec / 1e6:9.2f} Mbit/s {used} {lost:13} "
        f"ping {m.ping_p50_ms:7.2f} {m.ping_p99_ms:8.2f} ms  {fair} {cost} {note}"
    )


def write_page(console: Console) -> None:
    """RESULTS.md and the plots, from everything measured so far."""
    found = results.read(RESULTS)
    kept = HERE.glob(VM_RESULTS.format(kernel="*"))
    vms = [results.read(path) for path in sorted(kept, key=_by_kernel)]
    cost = cost_table.section(cost_table.read(COST_RESULTS))
    PAGE.write_text(render(found, draw(found, PLOTS), vms, cost))
    draw_door(found, PLOTS / "door.svg")
    shown = PAGE.relative_to(HERE.parent)
    console.print(f"[green]✓[/] {shown}: {len(found.measurements)} results", highlight=False)
    for line in results.missed_goals(
        m for (_, name), m in found.measurements.items() if name == Podpace.name
    ):
        console.print(f"  [yellow]goal missed[/] {line}", highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default="", help="chosen cells; they are measured again")
    parser.add_argument("--seconds", type=float, help="of a cell (6 or 20)")
    parser.add_argument("--limiters", default=",".join(SHORT_NAMES), help="%(default)s")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--vm", action="store_true", help="in a virtual machine: its own results")
    parser.add_argument("--render", action="store_true", help="only write RESULTS.md and the plots")
    return parser.parse_args()


def _results_path(options: argparse.Namespace) -> Path:
    kernel = ".".join(platform.release().split(".")[:2])
    return HERE / VM_RESULTS.format(kernel=kernel) if options.vm else RESULTS


def _by_kernel(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _todo(options: argparse.Namespace) -> list[Task]:
    unknown = set(options.limiters.split(",")) - SHORT_NAMES.keys()
    if unknown:
        raise RigError(f"no limiter {sorted(unknown)[0]!r}: choose from {', '.join(SHORT_NAMES)}")
    only = {SHORT_NAMES[name] for name in options.limiters.split(",")}
    chosen = options.cells.split()
    matrix = VM_MATRIX if options.vm else MATRIX
    todo = tasks(select(chosen or matrix), only, options.vm)
    if options.seconds is not None and options.seconds < 3:
        raise RigError("a cell needs at least 3 seconds: rates count from the second one on")
    if chosen or options.fresh:
        return todo
    done = results.read(_results_path(options)).measurements
    return [(cell, name) for cell, name in todo if (cell.key, name) not in done]


def main() -> int:
    """Returns the exit code: 1 when something failed, 130 when interrupted."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        with terminating():
            if not options.render:
                if os.geteuid() != 0:
                    raise RigError("namespaces and cgroups need root: sudo make bench")
                run(console, _todo(options), options.seconds, _results_path(options))
            if not options.vm:
                write_page(console)
    except KeyboardInterrupt:
        console.print("[yellow]interrupted[/]; everything has been taken away. make bench goes on")
        return 130
    except (RigError, OSError) as error:
        Console(stderr=True).print(f"[red]make bench:[/] {error}", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
