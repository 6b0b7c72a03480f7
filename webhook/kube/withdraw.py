"""Takes off the Nodes what enforcers told the scheduler, when no enforcer is left to do it."""

import contextlib
from collections.abc import Callable

from contract.names import RESOURCES
from kube.errors import NotFoundError
from kube.ports import Api

_NODES = "/api/v1/nodes"


def withdraw_capacity(api: Api, say: Callable[[str], None]) -> None:
    """Pods that have booked keep running: the kubelet passes over a resource that its Node lacks.

    Raises:
        ApiError: some Nodes may still have it; running it again goes on.
    """
    done = 0
    for node in api.list(_NODES):
        capacity = (node.get("status") or {}).get("capacity") or {}
        paths = [
            f"/status/capacity/{key.replace('/', '~1')}"
            for key in RESOURCES.values()
            if key in capacity
        ]
        if not paths:
            continue
        with contextlib.suppress(NotFoundError):
            operations = [{"op": "remove", "path": path} for path in paths]
            api.json_patch(f"{_NODES}/{node['metadata']['name']}/status", operations)
            done += 1
    if done:
        say(f"the scheduler has no bandwidth of {done} nodes to give any more")
