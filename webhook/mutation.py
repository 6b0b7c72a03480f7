"""The decision about one pod: refused with all its problems, or admitted with a patch. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contract import names
from contract.effective import EffectivePolicy
from contract.names import DIRECTIONS, OUR_LABELS, RATE_KEYS, STANDARD_RATE_KEYS, Mode
from contract.problems import Problem
from contract.reading import Reading, read
from contract.resolution import Resolution, resolve
from webhook.booking import book, bookings_of, own_bookings
from webhook.checks import ADVICE, CHECKS
from webhook.gates import set_gate
from webhook.jsonpatch import Operation, change_map
from webhook.reach import LINUX, Placement
from webhook.reviews import Pod

_TOLD_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """``problems`` refuse the pod; without any it is admitted with ``patch``."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    patch: tuple[Operation, ...]
    resolution: Resolution | None
    """None for pods that are none of our business."""

    @property
    def allowed(self) -> bool:
        """Whether the pod is admitted."""
        return not self.problems


_OVERSIZED: Final = Problem(
    "metadata",
    "",
    "has more labels or annotations than the API server takes (256 KiB of annotations), or "
    "containers without end",
    "write them somewhere else",
)
_NOT_OURS: Final = Decision((), (), (), None)


def decide(
    pod: Pod, policy: EffectivePolicy, old: Pod | None = None, enforcers: Placement = LINUX
) -> Decision:
    """What to answer for ``pod``; ``old`` is what it was before an update.

    ``enforcers``: the nodes that they are on.

    On an update only problems that it brings refuse it; the others, which came with an earlier
    policy or while the webhook was away, are told as warnings.
    """
    annotations = pod.metadata.annotations or {}
    if names.ANNOTATION_MIRROR in annotations:
        return _NOT_OURS
    if pod.metadata.oversized:
        return Decision((_OVERSIZED,), (), (), None)
    old_annotations = None if old is None else old.metadata.annotations or {}
    present = bookings_of(pod, (old or pod).metadata.labels or {})
    books = old is None and policy.schedule
    known = own_bookings(pod, present) if books else present
    reading = read(annotations, old_annotations, policy.take_over, pod.metadata.labels, known)
    refusing = found = _problems(reading, policy)
    warnings = [warning for advice in ADVICE for warning in advice(reading, policy)]
    if old_annotations is not None:
        before = read(old_annotations, bookings=known)
        earlier = frozenset(_problems(before, policy)) if found else frozenset()
        refusing = [p for p in found if p not in earlier]
        refusing += _never_booked(reading, before, policy)
        warnings = [str(p) for p in found if p in earlier] + warnings
        gate = names.ANNOTATION_READINESS_GATE
        if annotations.get(gate) != old_annotations.get(gate):
            warnings.append(f"{gate} has an effect only when a pod is created")
    resolution = resolve(reading, policy)
    if refusing:
        return Decision(tuple(refusing), tuple(warnings), (), resolution)
    booking: list[Operation] = []
    if books:
        booking, not_booked, resolution = book(pod, resolution, present, enforcers)
        warnings += not_booked
    patch = make_patch(pod, reading, resolution, take_over=policy.take_over) + booking
    if old is None:
        gate_patch, gate_warnings = set_gate(pod, resolution, enforcers)
        patch += gate_patch
        warnings += gate_warnings
    return Decision((), tuple(warnings), tuple(patch), resolution)


def make_patch(
    pod: Pod, reading: Reading, resolution: Resolution, *, take_over: bool
) -> list[Operation]:
    """What makes the pod's metadata say what is in force; empty when it does already."""
    put = resolution.annotations()
    drop = {names.ANNOTATION_EXEMPT_CIDRS}
    if take_over:
        for direction in DIRECTIONS:
            rate = reading.of(direction).rate
            if rate is not None:
                put[RATE_KEYS[direction]] = rate.text
        drop.update(STANDARD_RATE_KEYS.values())
    metadata = pod.metadata
    patch = change_map("/metadata/annotations", metadata.annotations, put, frozenset(drop))
    patch += change_map("/metadata/labels", metadata.labels, resolution.labels(), OUR_LABELS)
    return patch


def denial_message(problems: Sequence[Problem], subject: str) -> str:
    """Every problem of ``subject`` on a line of its own, each with what to write instead."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    lines = [str(problem.shortened()) for problem in problems[:_TOLD_PROBLEMS]]
    if len(problems) > _TOLD_PROBLEMS:
        lines.append(f"and {len(problems) - _TOLD_PROBLEMS} more")
    return f"{count} with {subject}:\n  " + "\n  ".join(lines)


def _never_booked(reading: Reading, before: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    """Requests that a running pod raises, where new pods' are booked: nobody kept room for it."""
    if not policy.schedule or policy.mode is not Mode.ENFORCE:
        return
    for direction in DIRECTIONS:
        asked, was = reading.of(direction), before.of(direction).request
        bits = asked.request.bits if asked.request else None
        least = (was.bits if was else None) or 0
        if asked.request and bits and bits > least and asked.booking is None:
            reason = (
                "is more than before, and nothing is booked for the pod, which was there before"
            )
            fix = "create the pod anew, so that the scheduler finds room for it"
            yield Problem(asked.request.key, asked.request.text, reason, fix).shortened()


def _problems(reading: Reading, policy: EffectivePolicy) -> list[Problem]:
    return [problem.shortened() for check in CHECKS for problem in check(reading, policy)]
