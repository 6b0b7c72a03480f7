"""``kubectl podpace top``: two samples, or one after the other until Ctrl-C."""

import time
from collections.abc import Callable

from client.errors import UnreachableError
from client.kube.counters import Counters
from client.kube.pods import PodLimits
from client.kube.rates import Sample, make_rows
from client.output import console, print_problems
from client.top import Row, make_view
from contract.names import DIRECTIONS

Pods = Callable[[], tuple[PodLimits, ...]]
CountersOf = Callable[[frozenset[str]], Counters]
"""Of pods on these nodes."""


def show_live(pods: Pods, counters: CountersOf, interval_seconds: float) -> None:
    """A table that follows; where output is no terminal, one below the other."""
    from rich.live import Live

    out, last = console(), None
    with Live(make_view(()), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while True:
            last, rows = next_rows(pods, counters, interval_seconds, last)
            if out.is_terminal:
                live.update(make_view(rows), refresh=True)
            else:
                out.print(make_view(rows))


def next_rows(
    pods: Pods, counters: CountersOf, interval_seconds: float, before: Sample | None = None
) -> tuple[Sample, tuple[Row, ...]]:
    """A sample some seconds after ``before`` (None: one is taken now), and the rates."""
    found = pods()
    source = counters(frozenset(pod.node for pod in found if pod.node))
    first = before or source.sample()
    time.sleep(interval_seconds)
    after = source.sample()
    if before is None:
        print_problems(after.problems)
        if after.problems and not after.values:
            raise UnreachableError("no enforcer could be asked for rates; see the lines above")
    keys = (
        (f"{pod.namespace}/{pod.name}", direction)
        for pod in found
        for direction in DIRECTIONS
        if pod.concerns(direction)
    )
    return after, make_rows(first, after, keys)
