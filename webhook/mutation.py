"""The decision about one pod: refused with all its problems, or admitted with a patch. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contract import names
from contract.effective import EffectivePolicy
from contract.names import DIRECTIONS, OUR_LABELS, RATE_KEYS, STANDARD_RATE_KEYS
from contract.problems import Problem
from contract.reading import Reading, read
from contract.resolution import Resolution, resolve
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
    "has more labels or annotations than the API server takes (256 KiB of annotations)",
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
    reading = read(annotations, old_annotations, policy.take_over, pod.metadata.labels)
    refusing = found = _problems(reading, policy)
    warnings = [warning for advice in ADVICE for warning in advice(reading, policy)]
    if old_annotations is not None:
        earlier = frozenset(_problems(read(old_annotations), policy)) if found else frozenset()
        refusing = [p for p in found if p not in earlier]
        warnings = [str(p) for p in found if p in earlier] + warnings
        gate = names.ANNOTATION_READINESS_GATE
        if annotations.get(gate) != old_annotations.get(gate):
            warnings.append(f"{gate} has an effect only when a pod is created")
    resolution = resolve(reading, policy)
    if refusing:
        return Decision(tuple(refusing), tuple(warnings), (), resolution)
    patch = make_patch(pod, reading, resolution, take_over=policy.take_over)
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


def _problems(reading: Reading, policy: EffectivePolicy) -> list[Problem]:
    return [problem.shortened() for check in CHECKS for problem in check(reading, policy)]
