"""What holds for the pods of one namespace, whoever said it. Bandwidths are bits per second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from contract import names
from contract.names import Direction, GateRule, Mode, OnViolation, Require, Source


@dataclass(frozen=True, slots=True)
class Sourced:
    """A bandwidth and the policy it came from."""

    bits_per_second: int
    source: Source
    place: str = ""
    """Its ConfigMap."""

    @property
    def note(self) -> str:
        """Which of several policies of its source, for people; empty where there is one."""
        only = not self.place or self.place.startswith(f"{names.POLICY_CONFIG_MAP} ")
        return "" if only else f" ({self.place})"


@dataclass(frozen=True, slots=True)
class EffectiveRequests:
    """What may be guaranteed to a pod. ``default`` lies within ``min`` and ``max``.

    Where there is a ``min`` there is a ``default``: without a request a pod would be below any min.
    """

    default: Sourced | None = None
    min: Sourced | None = None
    max: Sourced | None = None


NO_REQUESTS: Final = EffectiveRequests()


@dataclass(frozen=True, slots=True)
class EffectiveBounds:
    """One direction after merging. ``default`` lies within ``min`` and ``max``.

    Where there is a ``max`` there is a ``default``: without a limit a pod would be above any max.
    """

    default: Sourced | None = None
    min: Sourced | None = None
    max: Sourced | None = None
    burst_max: int | None = None
    total: Sourced | None = None
    """Of all pods of the namespace together, on each node."""
    request: EffectiveRequests = NO_REQUESTS


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for the pods of one namespace."""

    ingress: EffectiveBounds = field(default=EffectiveBounds())
    egress: EffectiveBounds = field(default=EffectiveBounds())
    on_violation: OnViolation = OnViolation.DENY
    require: Require = Require.NONE
    take_over: bool = False
    schedule: bool = False
    """Whether what pods request is booked with the scheduler."""
    mode: Mode = Mode.ENFORCE
    readiness_gate: GateRule = GateRule.ON_REQUEST
    exempt_cidrs: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The ConfigMap that each key's value comes from; what no policy says is not in it."""

    def of(self, direction: Direction) -> EffectiveBounds:
        """The bounds of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress
