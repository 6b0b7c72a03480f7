"""The cells of the benchmark: which traffic under which limit."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

from bench.rig import STANDARD_MTU, RigError, TcpLoad, UdpLoad
from bench.units import limit_text
from contract.names import Direction
from contract.problems import Problem
from contract.quantity import parse_bits_per_second

NO_LIMIT = "none"
"""As a limit: what the machine can do, without Podpace and with it at a limit nobody reaches."""
UDP = "udp"
_KNOWN = (
    [str(d) for d in (Direction.EGRESS, Direction.INGRESS)],
    ["1M", "10M", "100M", "1G", "5G"],
    ["cubic", "bbr"],
    ["1", "3", "10", "24", "50"],
    ["v4", "v6"],
    ["0ms", "10ms", "50ms"],
    ["noecn", "ecn"],
    ["1500", "9001"],
)
_FIELDS = "DIRECTION,LIMIT,CONGESTION_CONTROL,FLOWS,FAMILY,RTT,ECN,MTU"
_LEFT_OUT = ("*", "*", "*", "*", "v4", "0ms", "noecn", "1500")
"""What the last fields are when they are left out."""
_ALWAYS_SAID = 5
MATRIX = (
    "*,*,*,*,v4",
    "*,*,cubic,10,v6",
    "*,*M,udp,1,*",  # one iperf3 cannot offer twice 1G in datagrams
    "ingress,10*M,cubic,*,v4,0ms,ecn",  # bbr does not heed a mark
    "*,10*M,cubic,1*,v4,0ms,noecn,9001",
    "*,1G,cubic,1*,v4,0ms,noecn,9001",
    "*,none,cubic,*,v4",
)
"""What a run without CELLS measures."""
VM_MATRIX = ("ingress,10M,*,*,v4,*", "ingress,100M,*,*,v4,*", "ingress,10*M,cubic,10,v4,*,ecn")
"""The same in a virtual machine, whose kernel has fq and netem."""


_SECONDS = 6.0
_SLOW_SECONDS = 20.0
_FAST_BITS_PER_SEC = 50_000_000
_MANY_FLOWS = 50


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of traffic under one limit."""

    direction: Direction
    limit_bits_per_sec: int | None
    congestion_control: str
    """``udp`` for UDP, offered at twice the limit."""
    flows: int
    family: int
    rtt_ms: int = 0
    """Of the path, beyond the rig's own."""
    ecn: bool = False
    """Whether both ends negotiate explicit congestion notification."""
    mtu_bytes: int = STANDARD_MTU
    """Of every link."""

    @property
    def key(self) -> str:
        """As it is written in CELLS."""
        limit = limit_text(self.limit_bits_per_sec) if self.limit_bits_per_sec else NO_LIMIT
        fields = [self.direction, limit, self.congestion_control, self.flows, f"v{self.family}"]
        fields += [f"{self.rtt_ms}ms", "ecn" if self.ecn else "noecn", self.mtu_bytes]
        while str(fields[-1]) == _LEFT_OUT[len(fields) - 1] and len(fields) > _ALWAYS_SAID:
            fields.pop()
        return ",".join(map(str, fields))

    @property
    def seconds(self) -> float:
        """How long it is measured.

        The first windows of fifty connections are 0.7 MB. What of them has to wait or is lost is
        read after the first second: over 6 s at 10M that is up to 0.06 of the limit, over 20 s less
        than 0.02. Where many flows come in, each has such holes to fill all the time.
        """
        limit = self.limit_bits_per_sec or _FAST_BITS_PER_SEC
        has_holes = self.direction is Direction.INGRESS and self.flows >= _MANY_FLOWS
        return _SLOW_SECONDS if limit < _FAST_BITS_PER_SEC or has_holes else _SECONDS

    @property
    def is_udp(self) -> bool:
        """UDP and not TCP."""
        return self.congestion_control == UDP

    def load(self, seconds: float) -> TcpLoad | UdpLoad:
        """The traffic."""
        if self.is_udp:
            offered = 2 * (self.limit_bits_per_sec or 500_000_000)
            return UdpLoad(
                self.direction, offered, seconds, self.family, self.flows, mtu_bytes=self.mtu_bytes
            )
        return TcpLoad(
            self.direction,
            seconds,
            self.flows,
            self.congestion_control,
            self.family,
            mtu_bytes=self.mtu_bytes,
        )


def parse_cell(key: str) -> Cell:
    """One cell from its key. Raises RigError with what to write instead."""
    try:
        given = key.split(",")
        fields = [*given, *_LEFT_OUT[len(given) :]]
        direction, limit, congestion_control, flows, family, rtt, ecn, mtu = fields
        bits = None if limit == NO_LIMIT else parse_bits_per_second("limit", limit)
        if isinstance(bits, Problem):
            raise RigError(f"cell {key}: {bits}")
        return Cell(
            Direction(direction),
            bits,
            congestion_control,
            int(flows),
            int(family.removeprefix("v")),
            int(rtt.removesuffix("ms")),
            {"noecn": False, "ecn": True}[ecn],
            int(mtu),
        )
    except (KeyError, ValueError) as e:
        raise RigError(
            f"{key!r} is no cell: write {_FIELDS}, such as egress,10M,cubic,1 or '*,100M,*,10'"
        ) from e


def expand(pattern: str) -> list[Cell]:
    """The cells of one pattern: wildcards pick among the matrix's values, words stand as they are.

    Fields left out at the end are ``*``, the family ``v4``, the path without a delay, no ECN, an
    MTU of 1500.
    """
    given = pattern.split(",")
    fields = [*given, *_LEFT_OUT[len(given) :]]
    choices = [
        [value for value in known if fnmatchcase(value, field)]
        if any(wild in field for wild in "*?[")
        else [field]
        for field, known in zip(fields, _KNOWN, strict=False)
    ]
    return [parse_cell(",".join(values)) for values in product(*choices)]


def select(patterns: Iterable[str]) -> list[Cell]:
    """The cells of all patterns, each once, in the order they were asked for."""
    return list(dict.fromkeys(cell for pattern in patterns for cell in expand(pattern)))
