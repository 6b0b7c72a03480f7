"""What a pod's annotations ask for, read but not judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from contract import names
from contract.booking import NO_BOOKINGS, Bookings
from contract.names import (
    BURST_KEYS,
    RATE_KEYS,
    REQUEST_KEYS,
    RESOURCES,
    STANDARD_RATE_KEYS,
    Direction,
)
from contract.problems import Problem
from contract.quantity import parse_bits_per_second, parse_burst_bits
from contract.unknown import Unknown, Vocabulary

INPUT_KEYS: Final = (
    *RATE_KEYS.values(),
    *STANDARD_RATE_KEYS.values(),
    *BURST_KEYS.values(),
    *REQUEST_KEYS.values(),
    names.ANNOTATION_READINESS_GATE,
)
OUR_ANNOTATIONS: Final = frozenset(
    (
        *RATE_KEYS.values(),
        *BURST_KEYS.values(),
        *REQUEST_KEYS.values(),
        names.ANNOTATION_READINESS_GATE,
        names.ANNOTATION_EXEMPT_CIDRS,
    )
)
STANDARD_ANNOTATIONS: Final = frozenset(STANDARD_RATE_KEYS.values())
OUR_PREFIX: Final = f"{names.DOMAIN}/"
_VOCABULARY: Final = Vocabulary(tuple(OUR_ANNOTATIONS), OUR_PREFIX)
MISPLACED_LABELS: Final = (*INPUT_KEYS, names.LABEL_NAMESPACE_IGNORE)


@dataclass(frozen=True, slots=True)
class Written:
    """One quantity as the user wrote it, and what it means."""

    key: str
    text: str
    value: int | Problem
    """Bits per second, or bits for a burst."""

    @property
    def bits(self) -> int | None:
        """The value when it could be read."""
        return self.value if isinstance(self.value, int) else None


@dataclass(frozen=True, slots=True)
class Asked:
    """One direction. ``shadowed`` is the other key's value when both are written."""

    rate: Written | None
    shadowed: Written | None
    burst: Written | None
    request: Written | None = None
    """By its annotation, else what the pod books by itself in its containers' resources."""
    booking: Written | None = None
    """What the scheduler has booked."""
    booked_by_webhook: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything a pod says about bandwidth."""

    ingress: Asked
    egress: Asked
    gate_text: str | None
    unknown: Unknown
    """Keys under our domain that mean nothing."""
    misspelt_texts: Mapping[str, str]
    """What is written under the misspelt ones."""
    misplaced: tuple[str, ...] = ()
    """Labels that would mean something elsewhere: as an annotation, or on a namespace."""
    bookings: Bookings = NO_BOOKINGS

    def of(self, direction: Direction) -> Asked:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


def read(
    annotations: Mapping[str, str],
    old_annotations: Mapping[str, str] | None = None,
    take_over: bool = False,
    labels: Mapping[str, str] | None = None,
    bookings: Bookings = NO_BOOKINGS,
) -> Reading:
    """What a pod's metadata says; takes time in proportion to its size.

    Our key wins over the standard one. What a pod books by itself is its request, where no
    annotation says otherwise.

    With ``take_over`` ours was moved from the standard key earlier, so on an update an edit of
    the standard key alone is the newer word and wins.
    """

    def asked(direction: Direction) -> Asked:
        ours = _written(annotations, RATE_KEYS[direction], rate=True)
        standard = _written(annotations, STANDARD_RATE_KEYS[direction], rate=True)
        burst = _written(annotations, BURST_KEYS[direction], rate=False)
        booking, is_ours = _booking(bookings, direction), direction in bookings.by_webhook
        request = _written(annotations, REQUEST_KEYS[direction], rate=True)
        if request is None and not is_ours:
            request = booking
        rest = burst, request, booking, is_ours
        if ours is None or standard is None:
            return Asked(ours or standard, None, *rest)
        if (
            take_over
            and old_annotations is not None
            and (
                old_annotations.get(ours.key) == ours.text
                and old_annotations.get(standard.key) != standard.text
            )
        ):
            return Asked(standard, ours, *rest)
        return Asked(ours, standard, *rest)

    unknown = _VOCABULARY.sort(
        key for key in annotations if key.startswith(OUR_PREFIX) and key not in OUR_ANNOTATIONS
    )
    return Reading(
        asked(Direction.INGRESS),
        asked(Direction.EGRESS),
        annotations.get(names.ANNOTATION_READINESS_GATE),
        unknown,
        {key: annotations[key] for key, _ in unknown.misspelt},
        tuple(filter(labels.__contains__, MISPLACED_LABELS)) if labels else (),
        bookings,
    )


def _booking(bookings: Bookings, direction: Direction) -> Written | None:
    bits = bookings.of(direction)
    if bits is None:
        return None
    key, text = f"{RESOURCES[direction]} of containers", str(bits)
    return Written(key, text, _parse_cached(key, text, rate=True))


def _written(annotations: Mapping[str, str], key: str, *, rate: bool) -> Written | None:
    text = annotations.get(key)
    if text is None:
        return None
    # Long texts are never valid and must not fill the cache.
    parse = _parse_cached if len(text) <= 32 else _parse
    return Written(key, text, parse(key, text, rate))


def _parse(key: str, text: str, rate: bool) -> int | Problem:
    return parse_bits_per_second(key, text) if rate else parse_burst_bits(key, text)


_parse_cached = lru_cache(maxsize=4096)(_parse)
