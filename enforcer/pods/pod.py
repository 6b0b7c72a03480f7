"""A pod as far as the enforcer reads one; everything else in its JSON is skipped while parsing."""

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from contract.names import ANNOTATION_MIRROR, CONDITION_BANDWIDTH_ENFORCED, DOMAIN
from enforcer.pods.asked import Asked, read_asked

_CONFIG_HASH: Final = re.compile(r"[0-9a-f]{32}")
_ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Condition:
    """Our condition: on the pod as read, or as it should be."""

    status: str
    """``True``, ``False`` or ``Unknown``."""
    reason: str
    message: str
    since: str = ""
    """lastTransitionTime as found; empty for one that is not written yet."""

    def says(self, other: "Condition | None") -> bool:
        """Whether both say the same, whenever they were written."""
        return other is not None and (self.status, self.reason, self.message) == (
            other.status,
            other.reason,
            other.message,
        )


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of this node."""

    uid: str
    namespace: str
    name: str
    cgroup_uid: str
    """The uid in its cgroup's name; a static pod's is its configuration's hash."""
    asked: Asked
    host_network: bool = False
    phase: str = ""
    deleting: bool = False
    gated: bool = False
    """Its readiness waits for our condition."""
    generation: int = 0
    condition: Condition | None = None
    containers_run: bool | None = None
    """Whether its status tells of a running container; None: it tells of no container."""

    @property
    def is_static(self) -> bool:
        """The mirror of a pod that the kubelet reads from a file."""
        return self.cgroup_uid != self.uid

    @property
    def target_name(self) -> str:
        """As the control socket and the logs name it."""
        return f"pod:{self.namespace}/{self.name}"

    @property
    def ended(self) -> bool:
        """All its containers have ended for good."""
        return self.phase in _ENDED_PHASES


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    lastTransitionTime: str | None = None  # noqa: N815 - the API's spelling, here and below


class _Gate(msgspec.Struct):
    conditionType: str = ""  # noqa: N815


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    namespace: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletionTimestamp: str | None = None  # noqa: N815
    generation: int | None = None


class _Spec(msgspec.Struct):
    hostNetwork: bool | None = None  # noqa: N815
    readinessGates: list[_Gate] | None = None  # noqa: N815


class _ContainerState(msgspec.Struct):
    running: dict[str, Any] | None = None


class _Container(msgspec.Struct):
    state: _ContainerState = msgspec.field(default_factory=_ContainerState)


class _Status(msgspec.Struct):
    phase: str | None = None
    containerStatuses: list[_Container] | None = None  # noqa: N815
    initContainerStatuses: list[_Container] | None = None  # noqa: N815
    conditions: list[_Condition] | None = None


class _PodJson(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decoder: Final[msgspec.json.Decoder[_PodJson]] = msgspec.json.Decoder(_PodJson)


def read_pod(data: bytes | msgspec.Raw) -> Pod:
    """One pod from its JSON. Raises msgspec.MsgspecError where that is not a pod's."""
    found = _decoder.decode(data)
    metadata, annotations = found.metadata, found.metadata.annotations or {}
    mirrored = annotations.get(ANNOTATION_MIRROR, "")
    return Pod(
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        # An admission policy of the chart lets only nodes create pods with this annotation; without
        # it, it must not name an ordinary pod, nor keep anything limited (pod_loop).
        cgroup_uid=mirrored if _CONFIG_HASH.fullmatch(mirrored) else metadata.uid,
        asked=read_asked(_ours(metadata.labels), _ours(annotations), metadata.namespace),
        host_network=bool(found.spec.hostNetwork),
        phase=found.status.phase or "",
        deleting=metadata.deletionTimestamp is not None,
        gated=any(
            gate.conditionType == CONDITION_BANDWIDTH_ENFORCED
            for gate in found.spec.readinessGates or ()
        ),
        generation=metadata.generation or 0,
        condition=_condition(found.status.conditions or ()),
        containers_run=_containers_run(found.status),
    )


def _ours(found: dict[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in (found or {}).items() if k.startswith(f"{DOMAIN}/")}


def _containers_run(status: _Status) -> bool | None:
    containers = [*(status.containerStatuses or ()), *(status.initContainerStatuses or ())]
    return any(one.state.running is not None for one in containers) if containers else None


def _condition(conditions: Any) -> Condition | None:
    for found in conditions:
        if found.type == CONDITION_BANDWIDTH_ENFORCED:
            return Condition(
                found.status,
                found.reason or "",
                found.message or "",
                found.lastTransitionTime or "",
            )
    return None
