"""Pure: what the API server says of a limited pod."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract import names
from contract.limits import Limit
from contract.names import BURST_LABELS, RATE_LABELS, Direction, Mode, Source
from contract.reading import INPUT_KEYS

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
    source: Source | str
    mode: Mode | str
    exempt_cidrs: tuple[str, ...]
    gated: bool
    """Not Ready before its limit is in force."""
    condition: Condition | None
    annotations: dict[str, str]
    """Those that ask for limits."""

    def of(self, direction: Direction) -> Limit | None:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def limited(self) -> bool:
        """In any direction."""
        return self.ingress is not None or self.egress is not None


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
    )


def sort_pods(pods: Iterable[PodLimits]) -> tuple[PodLimits, ...]:
    """By namespace and name."""
    return tuple(sorted(pods, key=lambda p: (p.namespace, p.name)))


def _limit(labels: Mapping[str, str], direction: Direction) -> Limit | None:
    rate, burst = (labels.get(keys[direction], "") for keys in (RATE_LABELS, BURST_LABELS))
    if labels.get(names.LABEL_LIMITED) != "true" or not _is_number(rate):
        return None
    return Limit(int(rate), int(burst) if _is_number(burst) else 0)


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
