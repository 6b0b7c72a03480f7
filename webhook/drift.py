"""Drift: running pods whose labels do not say what annotations and policy say, and the correction.

Pure. What is kept of a pod is little, since the audit's leader keeps it of every pod there is.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from contract import names
from contract.booking import read_bookings
from contract.effective import EffectivePolicy
from contract.names import (
    BURST_KEYS,
    DIRECTIONS,
    OUR_LABELS,
    POLICY_TOTAL_PER_NODE,
    RATE_KEYS,
    RATE_LABELS,
    REQUEST_KEYS,
    REQUEST_LABELS,
    STANDARD_RATE_KEYS,
    TOTAL_LABELS,
    Direction,
    Mode,
)
from contract.quantity import format_bits_per_second
from contract.reading import Reading, read
from contract.resolution import Cause, Requested, Resolution, Resolved, resolve
from kube.ports import Json
from webhook.jsonpatch import Operation
from webhook.mutation import make_patch
from webhook.reviews import Metadata, Pod, encode_patch

_ANNOTATIONS: Final = frozenset(
    (
        *RATE_KEYS.values(),
        *STANDARD_RATE_KEYS.values(),
        *BURST_KEYS.values(),
        *REQUEST_KEYS.values(),
        names.ANNOTATION_EXEMPT_CIDRS,
    )
)
"""All that decides about limits; others are told of at admission and do nothing."""
_TEXT_CHARS: Final = 8192
"""More than the longest that means something (64 networks). The rest of a text is not kept."""


class SeenPod(Struct, frozen=True, gc=False):
    """A pod, as far as the audit keeps it."""

    namespace: str
    name: str
    uid: str
    version: str
    said: str
    """JSON: labels and annotations of ours; the same text for all pods that say the same."""
    settled: bool
    """Nothing is to be corrected: it is going away, or a node's static pod."""


class _Metadata(Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Object(Struct):
    metadata: _Metadata


_decoder: Final = msgspec.json.Decoder(_Object)
_said_decoder: Final = msgspec.json.Decoder(tuple[dict[str, str] | None, dict[str, str] | None])


def decode_pod(body: bytes) -> SeenPod:
    """Of a pod, or of its PartialObjectMetadata; managedFields are passed over unread.

    Raises:
        ValueError: it is neither.
    """
    metadata = _decoder.decode(body).metadata
    annotations = metadata.annotations
    said = msgspec.json.encode(
        (_kept(metadata.labels, OUR_LABELS), _kept(annotations, _ANNOTATIONS))
    )
    return SeenPod(
        sys.intern(metadata.namespace),
        metadata.name,
        metadata.uid,
        metadata.resource_version,
        sys.intern(said.decode()),
        metadata.deletion_timestamp is not None
        or (annotations is not None and names.ANNOTATION_MIRROR in annotations),
    )


def _kept(of: Mapping[str, str] | None, keys: frozenset[str]) -> dict[str, str] | None:
    """An absent map stays one: a patch must make it before it can put something in."""
    if of is None:
        return None
    return {key: text[:_TEXT_CHARS] for key, text in of.items() if key in keys}


class Urgency(IntEnum):
    """What is corrected first."""

    UNLIMITED = 0
    """A direction that should be limited has no limit."""
    LOOSE = 1
    """It has more than it should."""
    OTHER = 2


@dataclass(frozen=True, slots=True)
class Notice:
    """What the owner of a pod is told: the policy decided otherwise than he asked."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What is to be done about one pod."""

    urgency: Urgency
    patch: list[Json]
    """JSON Patch; it fails when the pod has changed or is another one of the same name."""
    notice: Notice | None


def correct(pod: SeenPod, policy: EffectivePolicy) -> Correction | None:
    """What makes the pod's labels follow; None when they do."""
    if pod.settled:
        return None
    labels, annotations = _said_decoder.decode(pod.said)
    reading = read(annotations or {}, bookings=read_bookings(labels or {}))
    resolution = resolve(reading, policy)
    seen = Pod(Metadata(labels=labels, annotations=annotations))
    patch = make_patch(seen, reading, resolution, take_over=False)
    if not patch:
        return None
    guards = [
        Operation("test", "/metadata/uid", pod.uid),
        Operation("test", "/metadata/resourceVersion", pod.version),
    ]
    return Correction(
        _urgency(labels or {}, resolution),
        encode_patch([*guards, *patch]),
        _notice(labels or {}, reading, resolution),
    )


def _urgency(labels: Mapping[str, str], resolution: Resolution) -> Urgency:
    found = Urgency.OTHER
    enforced = labels.get(names.LABEL_MODE) != Mode.OBSERVE or resolution.mode is Mode.OBSERVE
    for direction in DIRECTIONS:
        wanted, total = resolution.of(direction), resolution.total(direction)
        for keys, most in (
            (RATE_LABELS, None if wanted is None else wanted.limit.bits_per_second),
            (TOTAL_LABELS, None if total is None else total.bits_per_second),
        ):
            if most is None:
                continue
            present = _present(labels, keys[direction])
            if present is None or not enforced:
                return Urgency.UNLIMITED
            if present > most:
                found = Urgency.LOOSE
    return found


def _present(labels: Mapping[str, str], key: str) -> int | None:
    text = labels.get(key, "")
    if labels.get(names.LABEL_LIMITED) != "true" or not text.isascii() or not text.isdigit():
        return None
    return int(text[:20])


_REASONS: Final = {
    Cause.LOWERED: "BandwidthLimitClamped",
    Cause.RAISED: "BandwidthLimitRaised",
    Cause.DEFAULT: "BandwidthLimitAdded",
}
"""The first of these that holds for either direction names the Event."""
_REQUEST_REASON: Final = "BandwidthRequestChanged"
_TOTAL_REASON: Final = "BandwidthTotalChanged"


def _notice(labels: Mapping[str, str], reading: Reading, resolution: Resolution) -> Notice | None:
    changed = [
        (direction, wanted)
        for direction in DIRECTIONS
        if (wanted := resolution.of(direction)) is not None
        and wanted.cause in _REASONS
        and _present(labels, RATE_LABELS[direction]) != wanted.limit.bits_per_second
    ]
    texts = [_text(direction, wanted, reading) for direction, wanted in changed]
    requests = [
        _request_text(direction, request, reading)
        for direction in DIRECTIONS
        if (request := resolution.request(direction)) is not None
        and request.cause in _REASONS
        and _present(labels, REQUEST_LABELS[direction]) != request.bits_per_second
    ]
    totals = [
        f"{direction}: shares {format_bits_per_second(total.bits_per_second)} with all pods of the "
        f"namespace on its node, the {total.source} policy's{total.note} {POLICY_TOTAL_PER_NODE}"
        for direction in DIRECTIONS
        if (total := resolution.total(direction)) is not None
        and _present(labels, TOTAL_LABELS[direction]) != total.bits_per_second
    ]
    causes = {wanted.cause for _, wanted in changed}
    reasons = [reason for cause, reason in _REASONS.items() if cause in causes]
    reasons += [_REQUEST_REASON] if requests else []
    reasons += [_TOTAL_REASON] if totals else []
    return Notice(reasons[0], "; ".join(texts + requests + totals)) if reasons else None


def _text(direction: Direction, wanted: Resolved, reading: Reading) -> str:
    rate = format_bits_per_second(wanted.limit.bits_per_second)
    asked = reading.of(direction).rate
    policy = wanted.bound
    whose = f"the {policy.source} policy's{policy.note}" if policy else "the policy's"
    if wanted.cause is Cause.DEFAULT or asked is None or asked.bits is None:
        return f"{direction}: limited to {rate}, {whose} default"
    bound = "max" if wanted.cause is Cause.LOWERED else "min"
    wish = format_bits_per_second(asked.bits)
    return f"{direction}: limited to {rate}, {whose} {bound}; {wish} is asked for"


def _request_text(direction: Direction, wanted: Requested, reading: Reading) -> str:
    rate, asked = format_bits_per_second(wanted.bits_per_second), reading.of(direction).request
    if wanted.bound is None:
        return f"{direction}: {rate} guaranteed, all of its limit"
    whose = f"the {wanted.bound.source} policy's{wanted.bound.note}"
    if wanted.cause is Cause.DEFAULT or asked is None or asked.bits is None:
        return f"{direction}: {rate} guaranteed, {whose} request.default"
    bound = "request.max" if wanted.cause is Cause.LOWERED else "request.min"
    wish = format_bits_per_second(asked.bits)
    return f"{direction}: {rate} guaranteed, {whose} {bound}; {wish} is asked for"
