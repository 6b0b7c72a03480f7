"""Takes our labels off running pods, so that their enforcers take off limits and conditions.

Done while the enforcers still run: they write conditions, and they know what a pod that waits for
our readiness gate must be told. A gated pod that is on no node yet would find nobody to open its
gate later, so that is done here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from contract import names
from kube.errors import ApiError, NotFoundError
from kube.ports import METADATA_LIST, Api, Json

_QUERY: Final = {"labelSelector": f"{names.LABEL_LIMITED}=true"}
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_SAID_EVERY: Final = 500


def unlabel(metadata: Json) -> list[Json]:
    """The JSON Patch that removes what the webhook wrote; it fails on another pod of that name."""
    labels = [k for k in metadata.get("labels") or {} if k.startswith(f"{names.DOMAIN}/")]
    annotations = metadata.get("annotations") or {}
    written = [k for k in annotations if k == names.ANNOTATION_EXEMPT_CIDRS]
    removed = [("labels", key) for key in labels] + [("annotations", key) for key in written]
    guard: Json = {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]}
    return [
        guard,
        *(
            {"op": "remove", "path": f"/metadata/{kind}/{key.replace('/', '~1')}"}
            for kind, key in removed
        ),
    ]


def is_released(pod: Json) -> bool:
    """Whether no condition claims a limit any more, or nobody is there to take it back."""
    status = pod.get("status") or {}
    kind = names.CONDITION_BANDWIDTH_ENFORCED
    if status.get("phase") in _ENDED or not pod["spec"].get("nodeName"):
        return True
    gates = pod["spec"].get("readinessGates") or []
    gated = any(gate["conditionType"] == kind for gate in gates)
    found = [c for c in status.get("conditions") or [] if c["type"] == kind]
    if not found:
        return True
    # One that waits for it keeps it, as its node words it then.
    message = found[0].get("message") or ""
    return gated and found[0]["status"] == "True" and message.startswith(names.NO_LIMIT_MESSAGE)


def is_pending(pod: Json) -> bool:
    """Whether it waits for a node, and then for our gate."""
    kind = names.CONDITION_BANDWIDTH_ENFORCED
    gates = pod["spec"].get("readinessGates") or []
    conditions = (pod.get("status") or {}).get("conditions") or []
    return (
        not pod["spec"].get("nodeName")
        and any(gate["conditionType"] == kind for gate in gates)
        and not any(condition["type"] == kind for condition in conditions)
    )


def open_gate(pod: Json) -> list[Json]:
    """The JSON Patch of its status."""
    condition: Json = {
        "type": names.CONDITION_BANDWIDTH_ENFORCED,
        "status": "True",
        "reason": names.Reason.ENFORCED.value,
        "message": f"{names.NO_LIMIT_MESSAGE}: podpace was uninstalled",
    }
    guard: Json = {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]}
    if (pod.get("status") or {}).get("conditions"):
        return [guard, {"op": "add", "path": "/status/conditions/-", "value": condition}]
    return [guard, {"op": "add", "path": "/status/conditions", "value": [condition]}]


@dataclass
class Unlimit:
    """:meth:`step` until it is empty; it remembers the pods it has unlabelled."""

    api: Api
    say: Callable[[str], None]
    _waiting: dict[str, None] = field(default_factory=dict)

    def step(self) -> list[str]:
        """The pods, as ``namespace/name``, that are labelled or whose condition claims a limit.

        Raises:
            ApiError: the pods could not be listed.
        """
        limited = self.api.list("/api/v1/pods", _QUERY, METADATA_LIST)
        refused: list[str] = []
        for number, pod in enumerate(limited, start=1):
            refused += self._unlabel(pod["metadata"])
            if number % _SAID_EVERY == 0 or number == len(limited):
                self.say(f"labels are off {number - len(refused)} of {len(limited)} limited pods")
        for path in list(self._waiting):
            try:
                pod = self.api.get(path)
                if is_pending(pod):
                    self._open(path, pod)
                elif is_released(pod):
                    del self._waiting[path]
            except NotFoundError:
                del self._waiting[path]
        return [
            path.removeprefix("/api/v1/namespaces/").replace("/pods/", "/")
            for path in dict.fromkeys((*self._waiting, *refused))
        ]

    def _unlabel(self, metadata: Json) -> list[str]:
        """The pod's path where that was refused: it changed meanwhile, or somebody guards it."""
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        try:
            self.api.json_patch(path, unlabel(metadata))
        except NotFoundError:
            return []
        except ApiError as e:
            self.say(f"{metadata['namespace']}/{metadata['name']}: {str(e)[:200]}")
            return [path]
        self._waiting[path] = None
        return []

    def _open(self, path: str, pod: Json) -> None:
        try:
            self.api.json_patch(f"{path}/status", open_gate(pod))
        except ApiError as e:
            # It changed meanwhile; the next step sees it again.
            self.say(f"{path}: {str(e)[:200]}")
