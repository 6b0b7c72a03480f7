"""Readiness gates: only where somebody will open them. Pure.

The enforcer opens a gate, by its condition, on the limited pods of its node. A gate on any other
pod would keep it from being Ready for ever, so it is not added there, and one that the pod brings
is taken off. Gates cannot be changed once a pod is there.
"""

from contract import names
from contract.resolution import Resolution
from webhook.jsonpatch import Operation
from webhook.reach import Placement, can_reach
from webhook.reviews import Pod

_ENTRY = {"conditionType": names.CONDITION_BANDWIDTH_ENFORCED}
_NOBODY = "no enforcer is on the nodes that this pod selects"


def set_gate(
    pod: Pod, resolution: Resolution, enforcers: Placement
) -> tuple[list[Operation], list[str]]:
    """What a new pod needs that its gate is right, and what its author should know."""
    gates = pod.spec.readiness_gates
    brought = [
        number
        for number, gate in enumerate(gates or ())
        if gate.condition_type == names.CONDITION_BANDWIDTH_ENFORCED
    ]
    if not brought and not resolution.gate:
        return [], []
    if resolution.limited and can_reach(pod.spec, enforcers):
        return ([] if brought else [_add(gates is None)]), []
    reason = _NOBODY if resolution.limited else "the pod has no limit"
    if not brought:
        return [], [f"it gets no readiness gate: {reason}; its limit is not held there"]
    removed = [Operation("remove", f"/spec/readinessGates/{n}") for n in reversed(brought)]
    told = f"the readiness gate {names.CONDITION_BANDWIDTH_ENFORCED} was removed: {reason}"
    return removed, [f"{told}, so nobody would open it"]


def _add(first: bool) -> Operation:
    if first:
        return Operation("add", "/spec/readinessGates", [_ENTRY])
    return Operation("add", "/spec/readinessGates/-", _ENTRY)
