"""What the pods of a node have booked, whoever booked it.

Pods that the webhook did not see (their namespace is left out, it was away, a node's static pods)
carry no label, and are not among those that are watched. A kubelet counts them all the same.
"""

from collections.abc import Mapping
from typing import Any, Final

from contract.booking import scheduled_bits
from contract.names import DIRECTIONS, RESOURCES, Direction
from contract.quantity import parse_value
from enforcer.kube.reflector import PATH
from kube.ports import Api

_SIDECAR: Final = "Always"


def list_bookings(api: Api, node_name: str) -> dict[Direction, int]:
    """Of all pods that are bound to it and have not ended, in bits per second; asked now.

    Raises:
        ApiError: they cannot be listed.
    """
    fields = f"spec.nodeName={node_name},status.phase!=Succeeded,status.phase!=Failed"
    sums = dict.fromkeys(DIRECTIONS, 0)
    # From the API server's cache, which is indexed by node.
    for pod in api.list(PATH, {"fieldSelector": fields, "resourceVersion": "0"}):
        for direction in DIRECTIONS:
            sums[direction] += booked_by(pod.get("spec") or {}, direction)
    return sums


def booked_by(spec: Mapping[str, Any], direction: Direction) -> int:
    """What scheduler and kubelet sum of a pod's ``spec``, in bits per second."""
    key = RESOURCES[direction]

    def of(container: Mapping[str, Any]) -> int:
        resources = container.get("resources") or {}
        return _bits((resources.get("requests") or resources.get("limits") or {}).get(key))

    init = spec.get("initContainers") or ()
    containers = scheduled_bits(
        map(of, spec.get("containers") or ()),
        ((of(one), one.get("restartPolicy") == _SIDECAR) for one in init),
    )
    return containers + _bits((spec.get("overhead") or {}).get(key))


def _bits(amount: object) -> int:
    return max(0, parse_value(str(amount)) or 0) if amount is not None else 0
