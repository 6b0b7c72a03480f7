"""From what is asked and what the policy says to the limits in force. Total: never fails.

What cannot be read counts as not asked and what is out of bounds is brought within them, so the
result always obeys the policy. Whether the pod is refused instead is the webhook's business.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from contract import names
from contract.booking import NO_BOOKINGS, Bookings
from contract.effective import EffectiveBounds, EffectivePolicy, EffectiveRequests, Sourced
from contract.limits import Limit, Sharing, make_limit
from contract.names import (
    DIRECTIONS,
    REQUEST_LABELS,
    TOTAL_LABELS,
    Direction,
    GateRule,
    Mode,
    Source,
)
from contract.reading import Asked, Reading

_NEARNESS: Final = tuple(Source)


class Cause(StrEnum):
    """Why a limit is what it is."""

    ASKED = "asked"
    LOWERED = "lowered"
    """Asked for more than the policy's max."""
    RAISED = "raised"
    """Asked for less than the policy's min."""
    DEFAULT = "default"
    BOOKED = "booked"
    """More than is booked for the pod, which cannot be more while it runs."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One direction's limit and where it came from."""

    limit: Limit
    source: Source
    origin: str
    """For people: the annotation's key, or whose policy."""
    cause: Cause
    bound: Sourced | None
    """The policy's word that decided; None where the pod got what it asked for."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What is guaranteed in one direction, and where that came from.

    Never above the limit, nor above what is booked where anything is.
    """

    bits_per_second: int
    source: Source
    origin: str
    """For people: the annotation's key, or whose policy."""
    cause: Cause
    bound: Sourced | None
    """The policy's word that decided; None where the pod got what it asked for, or its limit."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is in force for one pod; None means not limited."""

    ingress: Resolved | None
    egress: Resolved | None
    mode: Mode
    exempt_cidrs: tuple[str, ...]
    gate: bool
    """Whether the pod waits for its limit before it is Ready."""
    ingress_total: Sourced | None = None
    """Of its namespace on each node; it concerns pods without a limit of their own, too."""
    egress_total: Sourced | None = None
    ingress_request: Requested | None = None
    egress_request: Requested | None = None
    bookings: Bookings = NO_BOOKINGS

    def of(self, direction: Direction) -> Resolved | None:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    def total(self, direction: Direction) -> Sourced | None:
        """The namespace's total of one direction."""
        return self.ingress_total if direction is Direction.INGRESS else self.egress_total

    def sharing(self, direction: Direction) -> Sharing:
        """What one direction shares with others."""
        request, total = self.request(direction), self.total(direction)
        return Sharing(
            0 if request is None else request.bits_per_second,
            None if total is None else total.bits_per_second,
        )

    def request(self, direction: Direction) -> Requested | None:
        """What is guaranteed in one direction."""
        return self.ingress_request if direction is Direction.INGRESS else self.egress_request

    @property
    def source(self) -> Source | None:
        """The nearest to the pod of both directions' sources."""
        limits = (self.ingress, self.egress)
        shared = (self.ingress_request, self.egress_request, self.ingress_total, self.egress_total)
        found = [one.source for one in (*limits, *shared) if one is not None]
        return min(found, key=_NEARNESS.index) if found else None

    @property
    def limited(self) -> bool:
        """Whether any direction is limited, by itself or with others."""
        return self.source is not None

    def labels(self) -> dict[str, str]:
        """The labels that tell the enforcer."""
        labels = self.bookings.labels()
        if self.source is None:
            return labels
        labels[names.LABEL_LIMITED] = "true"
        for direction in DIRECTIONS:
            sharing = self.sharing(direction)
            if sharing.request_bits_per_second:
                labels[REQUEST_LABELS[direction]] = str(sharing.request_bits_per_second)
            if sharing.total_bits_per_second is not None:
                labels[TOTAL_LABELS[direction]] = str(sharing.total_bits_per_second)
        if self.ingress is not None:
            limit = self.ingress.limit
            labels[names.LABEL_INGRESS_BITS_PER_SECOND] = str(limit.bits_per_second)
            labels[names.LABEL_INGRESS_BURST_BITS] = str(limit.burst_bits)
        if self.egress is not None:
            limit = self.egress.limit
            labels[names.LABEL_EGRESS_BITS_PER_SECOND] = str(limit.bits_per_second)
            labels[names.LABEL_EGRESS_BURST_BITS] = str(limit.burst_bits)
        labels[names.LABEL_SOURCE] = self.source.value
        labels[names.LABEL_MODE] = self.mode.value
        return labels

    def annotations(self) -> dict[str, str]:
        """The annotation that tells the enforcer what no label can hold."""
        if not self.limited or not self.exempt_cidrs:
            return {}
        return {names.ANNOTATION_EXEMPT_CIDRS: ",".join(self.exempt_cidrs)}


def resolve(reading: Reading, policy: EffectivePolicy) -> Resolution:
    """The limits in force."""
    ingress = _resolve_direction(reading.ingress, policy.ingress)
    egress = _resolve_direction(reading.egress, policy.egress)
    wanted = policy.readiness_gate is GateRule.ALWAYS or (
        policy.readiness_gate is GateRule.ON_REQUEST and reading.gate_text == "true"
    )
    found = Resolution(
        ingress,
        egress,
        policy.mode,
        policy.exempt_cidrs,
        gate=wanted,
        ingress_total=policy.ingress.total,
        egress_total=policy.egress.total,
        ingress_request=_resolve_request(reading.ingress, policy.ingress.request, ingress),
        egress_request=_resolve_request(reading.egress, policy.egress.request, egress),
        bookings=reading.bookings,
    )
    # Without a limit nobody writes the condition and the pod would wait for ever.
    return found if found.limited else replace(found, gate=False)


def _resolve_direction(asked: Asked, bounds: EffectiveBounds) -> Resolved | None:
    wanted = asked.rate.bits if asked.rate is not None else None
    if asked.rate is not None and wanted is not None:
        source, origin = Source.POD, asked.rate.key
        bits, cause, bound = _within(wanted, bounds.min, bounds.max)
    elif bounds.default is not None:
        source = bounds.default.source
        origin = f"{source} policy{bounds.default.note}"
        bits, cause, bound = bounds.default.bits_per_second, Cause.DEFAULT, bounds.default
    else:
        return None
    limit = make_limit(bits, asked.burst.bits if asked.burst is not None else None)
    if bounds.burst_max is not None and limit.burst_bits > bounds.burst_max:
        limit = make_limit(bits, bounds.burst_max)
    return Resolved(limit, source, origin, cause, bound)


def _resolve_request(
    asked: Asked, bounds: EffectiveRequests, limit: Resolved | None
) -> Requested | None:
    wanted = asked.request.bits if asked.request is not None else None
    if asked.request is not None and wanted is not None:
        source, origin = Source.POD, asked.request.key
        bits, cause, bound = _within(wanted, bounds.min, bounds.max)
    elif bounds.default is not None:
        source = bounds.default.source
        origin = f"{source} policy{bounds.default.note}"
        bits, cause, bound = bounds.default.bits_per_second, Cause.DEFAULT, bounds.default
    else:
        return None
    if limit is not None and bits > limit.limit.bits_per_second:
        bits, cause, bound = limit.limit.bits_per_second, Cause.LOWERED, None
    booked = asked.booking.bits if asked.booking is not None else None
    if booked is not None and bits > booked:
        bits, cause, bound = booked, Cause.BOOKED, None
    return Requested(bits, source, origin, cause, bound)


def _within(
    bits: int, least: Sourced | None, most: Sourced | None
) -> tuple[int, Cause, Sourced | None]:
    if most is not None and bits > most.bits_per_second:
        return most.bits_per_second, Cause.LOWERED, most
    if least is not None and bits < least.bits_per_second:
        return least.bits_per_second, Cause.RAISED, least
    return bits, Cause.ASKED, None
