"""``python -m bench.cost``: what the programs cost a packet of a busy target, side by side.

In turns in one run: this checkout, another one (``--against REF``), a program that does nothing and
plain departure times. Each turn is a load of some seconds at the limit, with the kernel's BPF
statistics on.

    python -m bench.cost --against v0.4.0 --cells 'egress,100M,cubic,*' --turns 5
    python -m tests.vm 6.1 --counted --share bench -- python -m bench.cost --save --turns 1

In the second, instructions are counted: one is a nanosecond, and nothing is but what was executed.
That is what stands in RESULTS.md.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import results
from bench.cells import Cell, select
from bench.limiters import EmptyProgram, Limiter, PlainEdt
from bench.ours import CHECKOUT, Podpace, podpace
from bench.rig import ProgramStats, Rig, RigError, bpf_stats, bulk, rig, terminating
from bench.rig.process import PATIENCE, sh

CELLS = ("*,100M,cubic,*", "*,1G,cubic,*")
RESULTS = Path(__file__).with_name("results-cost.jsonl")
_STARTED_SECONDS = 0.5
"""Connections are there, and have left their first windows behind."""
_SOME_RUNS = 50
"""More than a connection takes to be opened."""
_START_SECONDS = 60.0 * PATIENCE
_LONG_SECONDS = 600.0 * PATIENCE


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn, in nanoseconds per run of the direction's program; a GSO packet is one run."""

    own_ns: float
    """Of that program."""
    by_program_ns: Mapping[str, float]
    """Of all programs of the limiter: the other direction's ACKs, sock_ops, what is at the veth."""

    @property
    def all_ns(self) -> float:
        """Of them together."""
        return sum(self.by_program_ns.values())


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

        end = time.monotonic() + _START_SECONDS
        idle = programs()
        while sum(s.run_count for s in programs().values()) < _SOME_RUNS + sum(
            s.run_count for s in idle.values()
        ):
            if time.monotonic() > end:
                raise RigError(f"{limiter.name}: no packet passed its program in {cell.key}")
            time.sleep(_STARTED_SECONDS / 10)
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
    by_program: dict[str, float] = defaultdict(float)
    for number, ns in spent.items():
        by_program[after[number].name] += ns / runs
    return Cost(sum(spent[n] for n in own) / runs, by_program)


@contextmanager
def checked_out(ref: str) -> Iterator[Path]:
    """The sources of another commit, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="podpace-cost-") as folder:
        archive = Path(folder, "archive.tar")
        sh("git", "-C", CHECKOUT, "archive", "--format=tar", "--output", archive, ref)
        sh("tar", "-C", folder, "-xf", archive)
        yield Path(folder)


def compare(
    cells: Sequence[Cell], against: str | None, turns: int, seconds: float, save: bool
) -> None:
    """Measure and print a table. Raises RigError."""
    with ExitStack() as stack:
        r = stack.enter_context(rig())
        limiters: list[Limiter] = [EmptyProgram(), PlainEdt()]
        if save:
            results.append(RESULTS, {"machine": results.machine()})
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
                        if limiter.name == Podpace.name:
                            raise
                        print(f"  not measured: {error}", flush=True)  # plain EDT needs fq
            kept = {name: _median(costs) for name, costs in found.items() if costs}
            _print_row(cell.key, *(_text(kept.get(name)) for name in found), _part(kept, against))
            for name, cost in kept.items():
                if len(cost.by_program_ns) > 1:
                    parts = sorted(cost.by_program_ns.items())
                    print(f"  {name}: {', '.join(f'{n} {ns:.0f}' for n, ns in parts)}", flush=True)
                if save:
                    row = {"cell": cell.key, "limiter": name, **asdict(cost)}
                    results.append(RESULTS, row)


def _median(costs: Sequence[Cost]) -> Cost:
    """Each figure's."""
    names = costs[0].by_program_ns
    return Cost(
        statistics.median(c.own_ns for c in costs),
        {n: statistics.median(c.by_program_ns.get(n, 0.0) for c in costs) for n in names},
    )


def _text(cost: Cost | None) -> str:
    return "-" if cost is None else f"{cost.own_ns:.0f} ({cost.all_ns:.0f})"


def _part(kept: Mapping[str, Cost], against: str | None) -> str:
    if against is None:
        return "-"
    ours, other = kept[Podpace.name], kept.get(against)
    if other is None:
        return "-"
    return f"{ours.own_ns / other.own_ns:.2f} ({ours.all_ns / other.all_ns:.2f})"


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
    parser.add_argument("--save", action="store_true", help=f"in {RESULTS.name}, for RESULTS.md")
    options = parser.parse_args()
    cells = select(options.cells)
    try:
        with terminating():
            compare(cells, options.against, options.turns, options.seconds, options.save)
    except KeyboardInterrupt:
        return 130
    except (RigError, OSError) as error:
        print(f"bench.cost: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
