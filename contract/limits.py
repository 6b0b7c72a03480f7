"""What a target may send and receive."""

from dataclasses import dataclass
from typing import Final

from contract.names import DIRECTIONS, Direction, Mode

BITS_PER_BYTE: Final = 8
_DEFAULT_BURST_TIME_DIVISOR: Final = 100
_DEFAULT_BURST_FLOOR_BITS: Final = 2 * 65536 * BITS_PER_BYTE


@dataclass(frozen=True, slots=True)
class Limit:
    """One direction's limit. Counts Ethernet frame bytes, as ``tc`` does."""

    bits_per_second: int
    burst_bits: int

    @property
    def rate_bytes_per_sec(self) -> int:
        """The one place where bits become bytes (rounded down, so that the limit holds)."""
        return self.bits_per_second // BITS_PER_BYTE

    @property
    def burst_bytes(self) -> int:
        """See :attr:`rate_bytes_per_sec`."""
        return self.burst_bits // BITS_PER_BYTE


@dataclass(frozen=True, slots=True)
class Sharing:
    """One direction's part of what is shared with others; bits per second of Ethernet frames."""

    request_bits_per_second: int = 0
    """Never less than this, when it is wanted and something is short; 0: nothing is guaranteed."""
    total_bits_per_second: int | None = None
    """All of its group on this node together; None: not bounded. Where members of one group say
    different things, the smallest holds."""

    @property
    def shares_anything(self) -> bool:
        """Whether anything is guaranteed or bounded together."""
        return self.request_bits_per_second > 0 or self.total_bits_per_second is not None


NOT_SHARED: Final = Sharing()


def namespace_group(namespace: str) -> str:
    """The group of a namespace's pods on one node."""
    return f"namespace:{namespace}"


def named_group(name: str) -> str:
    """The group of targets that are no pods, by the name that their user gave it."""
    return f"group:{name}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Both directions of one target; None means no limit of its own."""

    ingress: Limit | None = None
    egress: Limit | None = None
    mode: Mode = Mode.ENFORCE
    exempt_cidrs: tuple[str, ...] = ()
    """Networks that are neither counted nor limited, v4 and v6."""
    ingress_sharing: Sharing = NOT_SHARED
    egress_sharing: Sharing = NOT_SHARED
    group: str = ""
    """Whose totals are meant: :func:`namespace_group` or :func:`named_group`; empty where there is
    no total."""

    def of(self, direction: Direction) -> Limit | None:
        """The limit of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    def sharing(self, direction: Direction) -> Sharing:
        """What one direction shares."""
        return self.ingress_sharing if direction is Direction.INGRESS else self.egress_sharing

    def concerns(self, direction: Direction) -> bool:
        """Whether one direction is limited, or shares with others."""
        return self.of(direction) is not None or self.sharing(direction).shares_anything

    @property
    def limits_anything(self) -> bool:
        """Whether either direction is limited, or shares with others."""
        return any(map(self.concerns, DIRECTIONS))


def default_burst_bits(bits_per_second: int) -> int:
    """max(10 ms of the rate, 2 x 64 KiB), never more than 1 s of the rate (design section 2)."""
    generous = max(bits_per_second // _DEFAULT_BURST_TIME_DIVISOR, _DEFAULT_BURST_FLOOR_BITS)
    return cap_burst_bits(generous, bits_per_second)


def cap_burst_bits(burst_bits: int, bits_per_second: int) -> int:
    """A burst is never more than one second of its rate."""
    return min(burst_bits, bits_per_second)


def make_limit(bits_per_second: int, burst_bits: int | None = None) -> Limit:
    """A limit with its burst: the default when none is given, capped at one second of the rate."""
    burst = (
        default_burst_bits(bits_per_second)
        if burst_bits is None
        else cap_burst_bits(burst_bits, bits_per_second)
    )
    return Limit(bits_per_second, burst)
