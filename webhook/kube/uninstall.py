"""What happens before ``helm uninstall`` removes anything: pods are released, nodes are cleaned.

Admission stops, then the webhook, whose audit would label pods again; labels go off the pods, and
the enforcers take limits and conditions off in answer.

The enforcer's DaemonSet is changed so that each of its pods first runs the enforcer with
``--cleanup`` and then does nothing. The kubelet ends the daemon before that pod starts, and the
pod is ready only when the cleanup has looked again and found nothing of ours. So a DaemonSet
whose pods are all new and ready is the proof, node by node.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kube.errors import ApiError, ConflictError, NotFoundError
from kube.ports import Api, Json
from webhook.kube.authority import KINDS
from webhook.kube.unlimit import Unlimit

DAEMON_SET: Final = "podpace-enforcer"
DEPLOYMENT: Final = "podpace-webhook"
_CONTAINER: Final = "podpace-enforcer"
_RUN_VOLUME: Final = "run"
_WEBHOOK_LABEL: Final = ("app.kubernetes.io/component", "webhook")
_POLL_SECONDS: Final = 2.0
_RELEASE_PART: Final = 0.3
"""Of the time, for enforcers to take conditions off; one that is not there never does."""


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


def make_cleanup(daemon_set: Json) -> Json:
    """The DaemonSet that cleans instead of enforcing. Applying it twice changes nothing.

    The folder for runtime files is itself removed by the cleanup, so what is mounted is its parent.
    """
    cleaner = copy.deepcopy(daemon_set)
    cleaner["spec"]["updateStrategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
    }
    pod = cleaner["spec"]["template"]["spec"]
    if pod.get("initContainers"):
        return daemon_set
    daemon = next(c for c in pod["containers"] if c["name"] == _CONTAINER)
    cleanup = {k: v for k, v in daemon.items() if k != "ports" and not k.endswith("Probe")}
    cleanup["name"] = "cleanup"
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
    clean = min(status.get("updatedNumberScheduled", 0), status.get("numberReady", 0))
    if clean >= nodes:
        return Progress(nodes, nodes, ())
    waiting = tuple(
        line for line in (_waiting(pod) for pod in pods if _owned(pod, daemon_set)) if line
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
    node = (pod.get("spec") or {}).get("nodeName") or pod["metadata"]["name"]
    if not (pod.get("spec") or {}).get("initContainers"):
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


@dataclass(frozen=True)
class Uninstall:
    """The steps, and what is said about them."""

    api: Api
    namespace: str
    configuration: str
    timeout_seconds: float
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def run(self) -> bool:
        """True when every node is clean. Running it again goes on where it stopped.

        Failure contract: once admission has stopped, nothing is put back.
        """
        start = self.monotonic()
        unlimit = Unlimit(self.api, self.say)
        said: tuple[str, ...] = ()
        while True:
            elapsed = self.monotonic() - start
            patient = elapsed < self.timeout_seconds * _RELEASE_PART
            try:
                progress = self._step(unlimit, patient=patient)
            except ApiError as e:
                progress = Progress(0, 0, (f"the API server: {e}",))
            if (progress.line, *progress.waiting) != said:
                said = (progress.line, *progress.waiting)
                self.say("\n  ".join(said))
            if progress.done:
                return True
            if elapsed >= self.timeout_seconds:
                break
            self.pause(_POLL_SECONDS)
        self.say(
            f"not every node was clean after {self.timeout_seconds:.0f} s. Run `helm uninstall` "
            "again when the nodes above answer. Limits do not outlive a reboot: for nodes that are "
            "gone for good, `helm uninstall --no-hooks` skips this step."
        )
        return False

    def _step(self, unlimit: Unlimit, *, patient: bool) -> Progress:
        """One look at everything; each part is done when it is due, and harmless when repeated."""
        self._stop_admission()
        if left := self._stop_webhook():
            return Progress(0, 0, left)
        claiming = unlimit.step()
        if claiming and patient:
            some = ", ".join(claiming[:5])
            return Progress(
                0, 0, (f"the conditions of {len(claiming)} pods are still there: {some}",)
            )
        return self._clean()

    def _stop_admission(self) -> None:
        """First: a pod that got a readiness gate now would never be ready."""
        for kind in KINDS:
            try:
                self.api.delete(
                    f"/apis/admissionregistration.k8s.io/v1/{kind}/{self.configuration}"
                )
            except NotFoundError:
                continue
            self.say(f"removed {kind}/{self.configuration}: pods are admitted without us")

    def _stop_webhook(self) -> tuple[str, ...]:
        """Its audit would give pods their labels back; returns its pods that are left."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{DEPLOYMENT}/scale"
        with contextlib.suppress(NotFoundError):
            scale = self.api.get(path)
            if scale["spec"].get("replicas"):
                scale["spec"]["replicas"] = 0
                self.api.replace(path, scale)
        key, value = _WEBHOOK_LABEL
        return tuple(
            f"the webhook still runs: {pod['metadata']['name']}"
            for pod in self._pods()
            if (pod["metadata"].get("labels") or {}).get(key) == value
        )

    def _clean(self) -> Progress:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{DAEMON_SET}"
        try:
            daemon_set = self.api.get(path)
        except NotFoundError:
            self.say(f"there is no DaemonSet {DAEMON_SET}: no node to clean")
            return Progress(0, 0, ())
        cleaner = make_cleanup(daemon_set)
        if cleaner is not daemon_set:
            try:
                daemon_set = self.api.replace(path, cleaner)
            except ConflictError:
                return Progress(0, 0, ("the DaemonSet changed meanwhile",))
            self.say("the enforcers are replaced by their cleanup")
        return judge(daemon_set, self._pods())

    def _pods(self) -> list[Json]:
        return self.api.list(f"/api/v1/namespaces/{self.namespace}/pods")
