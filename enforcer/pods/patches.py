"""Pure: the body of the status patch that writes our condition, or takes it away."""

from typing import Any, Final

from contract.names import CONDITION_BANDWIDTH_ENFORCED
from enforcer.pods.pod import Condition, Pod

CONTENT_TYPE: Final = "application/strategic-merge-patch+json"
"""Merges conditions by their type, so that nobody else's is touched."""


def status_patch(pod: Pod, wanted: Condition | None, now: str) -> dict[str, Any]:
    """Refused by the API server (409) when the pod is another one of the same name.

    ``now`` (RFC 3339, seconds) becomes the transition time where the status changes.
    """
    condition: dict[str, Any] = {"type": CONDITION_BANDWIDTH_ENFORCED}
    if wanted is None:
        condition["$patch"] = "delete"
    else:
        before = pod.condition
        same_status = before is not None and before.status == wanted.status and before.since
        condition |= {
            "status": wanted.status,
            "reason": wanted.reason,
            "message": wanted.message,
            "lastTransitionTime": before.since if before and same_status else now,
        }
        if pod.generation:
            condition["observedGeneration"] = pod.generation
    return {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
