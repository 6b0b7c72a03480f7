"""``python -m bench.handover``: what passes a busy limit while daemons die and are replaced.

128 flows each way; every frame at the host's end of the pod's veth is traced. The daemon is killed
(kill -9) and started again; with ``--against REF`` that version's comes first, is replaced by this
checkout's, and comes back. For each step: the rate, the busiest 100 ms wherever they begin (both as
parts of the limit), and what the ends' TCP counted.

    python -m bench.handover
    python -m tests.vm 6.1 --counted -- python -m bench.handover --against 20d99e7
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.cost import checked_out
from bench.ours import CHECKOUT, Podpace, clean_up, daemon
from bench.rig import Rig, RigError, TcpLoad, bulk, rig, running, shielded, terminating, uncounted
from bench.rig.process import PATIENCE
from bench.rig.topology import POD_PORT
from bench.rig.trace import FrameTrace, traced
from contract.names import Direction
from contract.quantity import parse_bits_per_second

FLOWS = 128
SETTLE_SECONDS = 6.0
"""128 first windows are through, and the shares have been found."""
_AFTER_SECONDS = 3.0
_LONG_SECONDS = 3600.0 * PATIENCE
_SHAPED_SECONDS = 30 * PATIENCE


@dataclass(frozen=True, slots=True)
class Step:
    """One direction while one thing happened; rates as parts of the limit."""

    what: str
    direction: Direction
    seconds: float
    rate: float
    busiest: float
    """Of any 100 ms."""
    quietest: float
    enforcement: str
    """What ``podpace show`` says at the end."""
    resets: int

    @property
    def text(self) -> str:
        """A row."""
        return (
            f"| {self.what} | {self.direction} | {self.enforcement} | {self.seconds:.1f} s "
            f"| {self.rate:.3f} | {self.quietest:.2f} | {self.busiest:.3f} | {self.resets} |"
        )


HEADER = """\
| step | direction | held | lasted | rate | quietest 100 ms | busiest 100 ms | resets |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def _resets(r: Rig) -> int:
    """RSTs that either end has sent or got."""
    total = 0
    for end in (r.pod, r.peer):
        said = end.run("cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in said if line.startswith("Tcp:"))
        counted = dict(zip(names, values, strict=True))
        total += int(counted["EstabResets"]) + int(counted["OutRsts"])
    return total


class _Watched:
    """A busy limit, step by step."""

    def __init__(self, r: Rig, limit_bits_per_sec: int, trace: FrameTrace) -> None:
        self._rig, self._limit, self._trace = r, limit_bits_per_sec, trace
        self.steps: list[Step] = []
        self.begin()

    def begin(self) -> None:
        """What comes from here on is the next step."""
        self._start, self._resets = time.time(), _resets(self._rig)

    def end(self, what: str, limiter: Podpace) -> None:
        """The step is over; prints it."""
        time.sleep(_AFTER_SECONDS)
        end, resets = time.time(), _resets(self._rig) - self._resets
        time.sleep(0.3)  # the trace follows
        told = limiter.show(self._rig)
        for direction in Direction:
            span = direction, self._start, end
            low, high = self._trace.extremes_bits_per_sec(*span)
            step = Step(
                what,
                direction,
                end - self._start,
                self._trace.bits_per_sec(*span) / self._limit,
                high / self._limit,
                low / self._limit,
                told[direction]["enforcement"],
                resets,
            )
            self.steps.append(step)
            print(step.text, flush=True)
        self.begin()


def _limit(r: Rig, limiter: Podpace, bits: int) -> None:
    limiter.client("attach", r.cgroup, "--egress", str(bits), "--ingress", str(bits))
    end = time.monotonic() + _SHAPED_SECONDS
    while (side := limiter.show(r)["ingress"])["enforcement"] == "policed":
        if time.monotonic() > end:
            raise RigError(f"incoming traffic is policed: {side['why']}")
        time.sleep(0.05)


def watch(versions: Sequence[tuple[str, Path]], limit_bits_per_sec: int) -> list[Step]:
    """One daemon after another, each killed: the steps. Raises RigError."""
    with ExitStack() as stack:
        r = stack.enter_context(rig())
        stack.callback(lambda: _clean(r))
        stack.enter_context(running(r.pod.command("sleep", "infinity")))
        stack.enter_context(uncounted(r.node, POD_PORT))
        print(HEADER, flush=True)
        watched = None
        before = ""
        for name, source in versions:
            with daemon(r, source) as (limiter, process):
                if watched is None:
                    _limit(r, limiter, limit_bits_per_sec)
                    for number, direction in enumerate(Direction):
                        load = TcpLoad(direction, _LONG_SECONDS, FLOWS, port=5201 + 100 * number)
                        stack.enter_context(bulk(r, load))
                    time.sleep(SETTLE_SECONDS)
                    trace = stack.enter_context(traced(r))
                    watched = _Watched(r, limit_bits_per_sec, trace)
                    watched.end(f"{name}, steady", limiter)
                else:
                    watched.end(f"{before} killed, {name} started", limiter)
                process.kill()
                process.wait()
                before = name
        assert watched is not None
        return watched.steps


def _clean(r: Rig) -> None:
    with shielded():
        clean_up(r)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.handover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--against", metavar="REF", help="another commit of this repository")
    parser.add_argument("--limit", default="100M", help="of each direction; %(default)s")
    options = parser.parse_args()
    bits = parse_bits_per_second("limit", options.limit)
    if not isinstance(bits, int):
        parser.error(str(bits))
    try:
        with terminating(), ExitStack() as stack:
            versions = [("today's", CHECKOUT)] * 2
            if options.against:
                other = options.against, stack.enter_context(checked_out(options.against))
                versions = [other, ("today's", CHECKOUT), other]
            watch(versions, bits)
    except KeyboardInterrupt:
        return 130
    except (RigError, OSError) as error:
        print(f"bench.handover: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
