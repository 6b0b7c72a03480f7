"""What a target may send and receive."""

from dataclasses import dataclass
from typing import Final

from contract.names import Direction, Mode

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
class Limits:
    """Both directions of one target; None means not limited."""

    ingress: Limit | None = None
    egress: Limit | None = None
    mode: Mode = Mode.ENFORCE
    exempt_cidrs: tuple[str, ...] = ()
    """Networks that are neither counted nor limited, v4 and v6."""

    def of(self, direction: Direction) -> Limit | None:
        """The limit of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def limits_anything(self) -> bool:
        """Whether either direction is limited."""
        return self.ingress is not None or self.egress is not None


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
