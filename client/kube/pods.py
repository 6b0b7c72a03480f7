"""Pure: what the API server says of a limited pod."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract import names
from contract.booking import NO_BOOKINGS, Bookings, read_bookings
from contract.limits import NOT_SHARED, Limit, Sharing
from contract.names import (
    BURST_LABELS,
    DIRECTIONS,
    RATE_LABELS,
    REQUEST_LABELS,
    TOTAL_LABELS,
    Direction,
    Mode,
)
from contract.reading import INPUT_KEYS
from contract.wording import describe_bandwidth

LIMITED_SELECTOR: Final = f"{names.LABEL_LIMITED}=true"


@dataclass(frozen=True, slots=True)
class Condition:
    """What the enforcer says."""

    status: str
    """``True``, ``False`` or ``Unknown``."""
    reason: str
    message: str
    since: str
    """When the status changed last."""


@dataclass(frozen=True, slots=True)
class PodLimits:
    """One pod: limits by its labels, and what its node says about them."""

    namespace: str
    name: str
    node: str
    """Empty: not scheduled."""
    phase: str
    ready: bool
    ingress: Limit | None
    egress: Limit | None
    source: str
    """A ``Source``; empty: nothing is asked for."""
    mode: str
    """A ``Mode``."""
    exempt_cidrs: tuple[str, ...]
    gated: bool
    """Not Ready before its limit is in force."""
    condition: Condition | None
    annotations: dict[str, str]
    """Those that ask for limits."""
    ingress_sharing: Sharing = NOT_SHARED
    egress_sharing: Sharing = NOT_SHARED
    bookings: Bookings = NO_BOOKINGS
    """With the scheduler."""

    def of(self, direction: Direction) -> Limit | None:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    def sharing(self, direction: Direction) -> Sharing:
        """What one direction shares with others."""
        return self.ingress_sharing if direction is Direction.INGRESS else self.egress_sharing

    def concerns(self, direction: Direction) -> bool:
        """Whether one direction is limited, or shares with others."""
        return self.of(direction) is not None or self.sharing(direction).shares_anything

    def describe(self, direction: Direction) -> str:
        """One direction, for people; a dash: nothing holds it."""
        limit = self.of(direction)
        bits = None if limit is None else limit.bits_per_second
        booked = self.bookings.of(direction)
        return describe_bandwidth(bits, self.sharing(direction), "together", booked) or "-"

    @property
    def limited(self) -> bool:
        """In any direction, by itself or with others."""
        return any(map(self.concerns, DIRECTIONS))


def decode_pod(body: bytes) -> PodLimits:
    """From its text. Raises ValueError."""
    import json

    return read_pod(json.loads(body))


def read_pod(pod: Mapping[str, Any]) -> PodLimits:
    """From its JSON; labels that the webhook did not write as it does count as not there."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    return PodLimits(
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        phase=status.get("phase", ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        ingress=_limit(labels, Direction.INGRESS),
        egress=_limit(labels, Direction.EGRESS),
        source=labels.get(names.LABEL_SOURCE, ""),
        mode=labels.get(names.LABEL_MODE, Mode.ENFORCE),
        exempt_cidrs=tuple(
            filter(None, annotations.get(names.ANNOTATION_EXEMPT_CIDRS, "").split(","))
        ),
        gated=any(
            gate["conditionType"] == names.CONDITION_BANDWIDTH_ENFORCED
            for gate in spec.get("readinessGates") or ()
        ),
        condition=_condition(conditions.get(names.CONDITION_BANDWIDTH_ENFORCED)),
        annotations={key: annotations[key] for key in INPUT_KEYS if key in annotations},
        ingress_sharing=_sharing(labels, Direction.INGRESS),
        egress_sharing=_sharing(labels, Direction.EGRESS),
        bookings=read_bookings(labels),
    )


def sort_pods(pods: Iterable[PodLimits]) -> tuple[PodLimits, ...]:
    """By namespace and name."""
    return tuple(sorted(pods, key=lambda p: (p.namespace, p.name)))


def _limit(labels: Mapping[str, str], direction: Direction) -> Limit | None:
    rate, burst = (labels.get(keys[direction], "") for keys in (RATE_LABELS, BURST_LABELS))
    if labels.get(names.LABEL_LIMITED) != "true" or not _is_number(rate):
        return None
    return Limit(int(rate), int(burst) if _is_number(burst) else 0)


def _sharing(labels: Mapping[str, str], direction: Direction) -> Sharing:
    request, total = (labels.get(keys[direction], "") for keys in (REQUEST_LABELS, TOTAL_LABELS))
    if labels.get(names.LABEL_LIMITED) != "true":
        return NOT_SHARED
    return Sharing(
        int(request) if _is_number(request) else 0, int(total) if _is_number(total) else None
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _condition(found: Mapping[str, str] | None) -> Condition | None:
    if found is None:
        return None
    return Condition(
        found["status"],
        found.get("reason", ""),
        found.get("message", ""),
        found.get("lastTransitionTime", ""),
    )
