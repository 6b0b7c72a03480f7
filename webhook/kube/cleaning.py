"""Pure: the DaemonSet that cleans its nodes, and how far it is.

The enforcer's DaemonSet is changed so that each of its pods first runs the enforcer with
``--cleanup`` and then does nothing. The kubelet ends the daemon before that pod starts, and the
pod is ready only when the cleanup has looked again and found nothing of ours. So a DaemonSet
whose pods are all new and ready is the proof, node by node.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contract.names import ANNOTATION_NODES_WITHOUT_ENFORCER
from kube.ports import Json

_CONTAINER: Final = "podpace-enforcer"
_CLEANUP: Final = "cleanup"
_RUN_VOLUME: Final = "run"
_UNSEEN_SECONDS: Final = 60
"""A kubelet takes up a pod of its node within seconds; a virtual node never takes up some."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the nodes are."""

    clean: int
    nodes: int
    waiting: tuple[str, ...]
    """One line for each node that is not clean."""

    @property
    def line(self) -> str:
        """For people; before nodes are looked at there is nothing to count."""
        counted = f"{self.clean} of {self.nodes} nodes are clean"
        return counted if self.nodes or not self.waiting else "waiting"

    @property
    def done(self) -> bool:
        """Every node has proved that nothing is left."""
        return self.clean == self.nodes and not self.waiting


def never_started(daemon_set: Json, pods: Sequence[Json], now: datetime) -> tuple[str, ...]:
    """Nodes whose enforcer no kubelet has taken up: virtual ones, and those without room for it."""
    return tuple(
        sorted(
            _node_of(pod)
            for pod in pods
            if _owned(pod, daemon_set)
            and not (pod.get("status") or {}).get("startTime")
            and now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            > timedelta(seconds=_UNSEEN_SECONDS)
        )
    )


def _node_of(pod: Json) -> str:
    """The pod's name where it says no node; one that waits for its node names it by affinity."""
    spec = pod.get("spec") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    wanted = [
        value
        for term in required.get("nodeSelectorTerms") or []
        for field in term.get("matchFields") or []
        for value in field.get("values") or []
    ]
    return str(spec.get("nodeName") or (wanted or [pod["metadata"]["name"]])[0])


def make_cleanup(daemon_set: Json, without: Sequence[str] = ()) -> Json:
    """The DaemonSet that cleans instead of enforcing. Applying it twice changes nothing.

    ``without`` are nodes where no enforcer ever started, and none has to clean.

    The folder for runtime files is itself removed by the cleanup, so what is mounted is its parent.
    """
    cleaner = copy.deepcopy(daemon_set)
    cleaner["spec"]["updateStrategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
    }
    pod = cleaner["spec"]["template"]["spec"]
    if any(c["name"] == _CLEANUP for c in pod.get("initContainers") or []):
        return daemon_set
    annotations = cleaner["metadata"].get("annotations") or {}
    cleaner["metadata"]["annotations"] = annotations | {
        ANNOTATION_NODES_WITHOUT_ENFORCER: ",".join(without)
    }
    daemon = next(c for c in pod["containers"] if c["name"] == _CONTAINER)
    cleanup = {k: v for k, v in daemon.items() if k != "ports" and not k.endswith("Probe")}
    cleanup["name"] = _CLEANUP
    cleanup["args"] = [*daemon.get("args", []), "--cleanup"]
    run = next(v for v in pod["volumes"] if v["name"] == _RUN_VOLUME)
    parent = run["hostPath"]["path"].rpartition("/")[0] or "/"
    run["hostPath"] = {"path": parent, "type": "Directory"}
    for mount in cleanup["volumeMounts"]:
        if mount["name"] == _RUN_VOLUME:
            mount["mountPath"] = parent
    pod["initContainers"] = [cleanup]
    # Nothing here talks to the API server, and the token would be mounted below /run.
    pod["automountServiceAccountToken"] = False
    pod["terminationGracePeriodSeconds"] = 1
    pod["containers"] = [
        {
            "name": _CONTAINER,
            "image": daemon["image"],
            "imagePullPolicy": daemon.get("imagePullPolicy", "IfNotPresent"),
            "command": ["sleep", "infinity"],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsUser": 65532,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ]
    return cleaner


def judge(daemon_set: Json, pods: Sequence[Json]) -> Progress:
    """What the DaemonSet's status and its pods say."""
    status = daemon_set.get("status") or {}
    nodes = status.get("desiredNumberScheduled", 0)
    seen = status.get("observedGeneration", 0) >= daemon_set["metadata"]["generation"]
    if not seen:
        return Progress(0, nodes, ("the DaemonSet controller has not seen the change yet",))
    said = (daemon_set["metadata"].get("annotations") or {}).get(
        ANNOTATION_NODES_WITHOUT_ENFORCER, ""
    )
    absent = set(said.split(",")) - {""}
    # One of them may have got room meanwhile: its cleanup counts like any other.
    nodes -= sum(
        _owned(pod, daemon_set)
        and _node_of(pod) in absent
        and not (pod.get("status") or {}).get("startTime")
        for pod in pods
    )
    clean = min(status.get("updatedNumberScheduled", 0), status.get("numberReady", 0))
    if clean >= nodes:
        return Progress(nodes, nodes, ())
    waiting = tuple(
        line
        for line in (
            _waiting(pod)
            for pod in pods
            if _owned(pod, daemon_set)
            and not (_node_of(pod) in absent and not (pod.get("status") or {}).get("startTime"))
        )
        if line
    )
    missing = nodes - clean - len(waiting)
    if missing > 0:
        waiting += (f"{missing} nodes have no pod of the cleanup yet",)
    return Progress(clean, nodes, waiting)


def _owned(pod: Json, daemon_set: Json) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == daemon_set["metadata"]["uid"] for owner in owners)


def _waiting(pod: Json) -> str:
    """Why this pod's node is not known to be clean; empty when it is."""
    node = _node_of(pod)
    first = (pod.get("spec") or {}).get("initContainers") or []
    if not any(container["name"] == _CLEANUP for container in first):
        return f"{node}: the enforcer is still there"
    status = pod.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    if conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
        return ""
    for container in status.get("initContainerStatuses") or []:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            ended = state.get("terminated")
            if ended and ended.get("exitCode"):
                said = " | ".join((ended.get("message") or "no output").strip().splitlines()[-5:])
                return f"{node}: cleanup failed: {said}"
    return f"{node}: {status.get('phase', 'Pending')}"
