"""``python -m bench.cost``: what the programs cost a packet of a busy target, side by side.

In turns in one run: this checkout, another one (``--against REF``), a program that does nothing and
plain departure times. Each turn is a load of some seconds at the limit, with the kernel's BPF
statistics on.

    python -m bench.cost --against v0.4.0 --cells 'egress,100M,cubic,*' --turns 5
    python -m tests.vm 6.1 --counted -- python -m bench.cost --seconds 2

In the second, instructions are counted: one is a nanosecond, and nothing is but what was executed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cells import Cell, select
from bench.limiters import EmptyProgram, Limiter, PlainEdt
from bench.ours import CHECKOUT, Podpace, podpace
from bench.rig import ProgramStats, Rig, RigError, bpf_stats, bulk, rig, terminating
from bench.rig.process import PATIENCE, sh

CELLS = ("*,100M,cubic,*", "*,1G,cubic,*")
_STARTED_SECONDS = 0.5
"""Connections are there, and have left their first windows behind."""
_LONG_SECONDS = 600.0 * PATIENCE


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn, in nanoseconds per run of the direction's program; a GSO packet is one run."""

    own_ns: float
    """Of that program."""
    all_ns: float
    """Of all programs of the limiter: the other direction's ACKs, sock_ops, the shaper."""


def measure(r: Rig, limiter: Limiter, cell: Cell, seconds: float) -> Cost:
    """One limiter under one load. Raises RigError."""
    limit = cell.limit_bits_per_sec
    if not limit:
        raise RigError(f"cell {cell.key} has no limit: a busy target has one")
    with (
        limiter.applied(r, cell.direction, limit),
        bpf_stats() as stats,
        bulk(r, cell.load(_LONG_SECONDS)),
    ):

        def programs() -> dict[int, ProgramStats]:
            if isinstance(limiter, Podpace):
                return stats.of_pins(limiter.pin_root)
            if isinstance(limiter, PlainEdt):
                return stats.of_pins(r.bpffs)
            return stats.of_cgroup(r.cgroup, cell.direction)

        time.sleep(_STARTED_SECONDS)
        before = programs()
        time.sleep(seconds)
        after = programs()
    spent = {n: s.run_time_ns - before[n].run_time_ns for n, s in after.items() if n in before}
    named = f"podpace_{cell.direction}" if isinstance(limiter, Podpace) else ""
    own = [n for n in spent if after[n].name == named or not named]
    runs = sum(after[n].run_count - before[n].run_count for n in own)
    if not runs:
        raise RigError(f"{limiter.name}: no packet passed its program in {cell.key}")
    return Cost(sum(spent[n] for n in own) / runs, sum(spent.values()) / runs)


@contextmanager
def checked_out(ref: str) -> Iterator[Path]:
    """The sources of another commit, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="podpace-cost-") as folder:
        archive = Path(folder, "archive.tar")
        sh("git", "-C", CHECKOUT, "archive", "--format=tar", "--output", archive, ref)
        sh("tar", "-C", folder, "-xf", archive)
        yield Path(folder)


def compare(cells: Sequence[Cell], against: str | None, turns: int, seconds: float) -> None:
    """Measure and print a table. Raises RigError."""
    with ExitStack() as stack:
        r = stack.enter_context(rig())
        limiters: list[Limiter] = [EmptyProgram(), PlainEdt()]
        limiters.append(stack.enter_context(podpace(r)))
        if against is not None:
            folder = stack.enter_context(checked_out(against))
            limiters.append(stack.enter_context(podpace(r, folder, name=against)))
        _print_row("cell", *(limiter.name for limiter in limiters), "of the other")
        for cell in cells:
            found: dict[str, list[Cost]] = {limiter.name: [] for limiter in limiters}
            for _ in range(turns):
                for limiter in limiters:
                    try:
                        found[limiter.name].append(measure(r, limiter, cell, seconds))
                    except RigError as error:
                        if not isinstance(limiter, PlainEdt):  # which needs fq
                            raise
                        del error
            _print_row(cell.key, *map(_text, found.values()), _part(found, against))


def _text(costs: Sequence[Cost]) -> str:
    if not costs:
        return "-"
    own, everything = (
        statistics.median(getattr(c, n) for c in costs) for n in ("own_ns", "all_ns")
    )
    return f"{own:.0f} ({everything:.0f})"


def _part(found: dict[str, list[Cost]], against: str | None) -> str:
    if against is None:
        return "-"

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(cost, field) for cost in found[name])

    parts = [median(Podpace.name, f) / median(against, f) for f in ("own_ns", "all_ns")]
    return f"{parts[0]:.2f} ({parts[1]:.2f})"


def _print_row(*fields: str) -> None:
    print("| " + " | ".join(fields) + " |", flush=True)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--against", metavar="REF", help="another commit of this repository")
    parser.add_argument("--cells", nargs="+", default=CELLS, help="as make bench takes them")
    parser.add_argument("--turns", type=int, default=3, help="%(default)s; the median is printed")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn; %(default)s")
    options = parser.parse_args()
    try:
        with terminating():
            compare(select(options.cells), options.against, options.turns, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (RigError, OSError) as error:
        print(f"bench.cost: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
