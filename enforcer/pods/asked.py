"""What a pod's labels ask for. The webhook writes them, so mistakes are rare, not absent."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from contract import names
from contract.booking import NO_BOOKINGS, Bookings, read_bookings
from contract.limits import Limit, Limits, Sharing, make_limit, namespace_group
from contract.names import (
    BURST_LABELS,
    RATE_LABELS,
    REQUEST_LABELS,
    TOTAL_LABELS,
    Direction,
    Mode,
    Source,
)
from contract.networks import parse_cidrs
from contract.problems import Problem
from contract.quantity import parse_bits_per_second, parse_burst_bits

_DECIMAL: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_FIX: Final = "write the bandwidth annotation again; the webhook then corrects its labels"


@dataclass(frozen=True, slots=True)
class Asked:
    """The limits a pod asks for, as far as they can be read."""

    limits: Limits | None
    """None: the pod is not labelled as limited."""
    problems: tuple[Problem, ...] = ()
    unreadable: frozenset[Direction] = frozenset()
    """Directions that ask for a limit nobody can read."""
    origin: str = ""
    """Where the limit came from, for people."""
    bookings: Bookings = NO_BOOKINGS
    """With the scheduler; nothing here depends on them."""

    def over(self, before: Limits | None) -> Limits | None:
        """The limits to hold: what cannot be read stays as it was ``before``."""
        if self.limits is None or before is None or not self.unreadable:
            return self.limits
        held = self.limits
        if Direction.INGRESS in self.unreadable:
            held = replace(held, ingress=before.ingress, ingress_sharing=before.ingress_sharing)
        if Direction.EGRESS in self.unreadable:
            held = replace(held, egress=before.egress, egress_sharing=before.egress_sharing)
        return held if held.group else replace(held, group=before.group)


def read_asked(labels: Mapping[str, str], annotations: Mapping[str, str], namespace: str) -> Asked:
    """Read the labels that the webhook writes (``contract.names``)."""
    if labels.get(names.LABEL_LIMITED) != "true":
        return Asked(None)
    problems: list[Problem] = []
    found: dict[Direction, Limit | None] = {}
    shared: dict[Direction, Sharing] = {}
    unreadable: set[Direction] = set()
    for direction in Direction:
        limit, sharing = _read_limit(direction, labels), _read_sharing(direction, labels)
        wrong = [one for one in (limit, sharing) if isinstance(one, Problem)]
        if wrong:
            problems += wrong
            unreadable.add(direction)
        found[direction] = None if isinstance(limit, Problem) else limit
        shared[direction] = Sharing() if isinstance(sharing, Problem) else sharing
    mode, networks = _read_mode(labels, problems), _read_exempt(annotations, problems)
    return Asked(
        Limits(
            found[Direction.INGRESS],
            found[Direction.EGRESS],
            mode,
            networks,
            shared[Direction.INGRESS],
            shared[Direction.EGRESS],
            _group(shared.values(), namespace),
        ),
        tuple(problems),
        frozenset(unreadable),
        _origin(labels.get(names.LABEL_SOURCE), namespace),
        read_bookings(labels),
    )


def _read_limit(direction: Direction, labels: Mapping[str, str]) -> Limit | Problem | None:
    rate_text, burst_text = labels.get(RATE_LABELS[direction]), labels.get(BURST_LABELS[direction])
    if rate_text is None:
        return None
    for key, text in ((RATE_LABELS[direction], rate_text), (BURST_LABELS[direction], burst_text)):
        if text is not None and not _DECIMAL.fullmatch(text):
            return Problem(key, text, "is not a plain decimal number", _FIX)
    rate = parse_bits_per_second(RATE_LABELS[direction], rate_text)
    burst = None if burst_text is None else parse_burst_bits(BURST_LABELS[direction], burst_text)
    if isinstance(rate, Problem):
        return rate
    # A burst below one frame is what one second of a very low rate holds: make_limit caps there.
    return make_limit(rate, None if isinstance(burst, Problem) else burst)


def _read_sharing(direction: Direction, labels: Mapping[str, str]) -> Sharing | Problem:
    found: list[int | None] = []
    for key in (REQUEST_LABELS[direction], TOTAL_LABELS[direction]):
        text = labels.get(key)
        if text is not None and not _DECIMAL.fullmatch(text):
            return Problem(key, text, "is not a plain decimal number", _FIX)
        bits = None if text is None else parse_bits_per_second(key, text)
        if isinstance(bits, Problem):
            return bits
        found.append(bits)
    request, total = found
    return Sharing(request or 0, total)


def _group(shared: Iterable[Sharing], namespace: str) -> str:
    totals = any(sharing.total_bits_per_second is not None for sharing in shared)
    return namespace_group(namespace) if totals else ""


def _read_mode(labels: Mapping[str, str], problems: list[Problem]) -> Mode:
    text = labels.get(names.LABEL_MODE, Mode.ENFORCE)
    try:
        return Mode(text)
    except ValueError:
        problems.append(Problem(names.LABEL_MODE, text, "is no mode; enforced", _FIX))
        return Mode.ENFORCE


def _read_exempt(annotations: Mapping[str, str], problems: list[Problem]) -> tuple[str, ...]:
    key = names.ANNOTATION_EXEMPT_CIDRS
    networks, found = parse_cidrs(key, filter(None, annotations.get(key, "").split(",")))
    problems.extend(found)
    return networks


def _origin(source: str | None, namespace: str) -> str:
    match source:
        case Source.NAMESPACE:
            return f"from namespace {namespace}"
        case Source.CLUSTER:
            return "from the cluster's policy"
        case Source.POD:
            return "from the pod"
        case _:
            return ""
