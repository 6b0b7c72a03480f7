"""What ``helm test`` runs: does a limited pod get its labels, and do the nodes hold its limit?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from contract import names
from kube.errors import ApiError, NotFoundError
from kube.ports import Api, Json

POD: Final = "podpace-selftest"
_EGRESS: Final = "10M"
_EGRESS_LABEL: Final = "10000000"
_POLL_SECONDS: Final = 1.0
_ADMISSION_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """What the pod that is started runs: any image with ``sleep``."""

    name: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


def make_pod(image: ProbeImage) -> Json:
    """A limited pod that does nothing for five minutes, fit for restricted namespaces."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD,
            "annotations": {names.ANNOTATION_EGRESS_BANDWIDTH: _EGRESS},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": 300,
            "imagePullSecrets": [{"name": name} for name in image.pull_secrets],
            "containers": [
                {
                    "name": "sleep",
                    "image": image.name,
                    "imagePullPolicy": image.pull_policy,
                    "command": ["sleep", "300"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "runAsNonRoot": True,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
        },
    }


@dataclass(frozen=True)
class SelfTest:
    """Each check returns what it found; a failed one says what to look at."""

    api: Api
    namespace: str
    release_namespace: str
    image: ProbeImage
    timeout_seconds: float
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    name: str = "podpace"
    """What all names of the installation begin with."""

    def run(self) -> bool:
        """True when all is well. The pod it starts is deleted in any case."""
        checks = (self._admission, self._enforcers, self._condition)
        results = []
        for check in checks:
            try:
                passed, text = check()
            except ApiError as e:
                passed, text = False, f"the API server: {e}"
            self.say(f"{'ok' if passed else 'FAILED'}: {text}")
            results.append(passed)
        return all(results)

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def _admission(self) -> tuple[bool, str]:
        """Asks again: the API server goes on without a webhook that is slow to answer once."""
        until = self.monotonic() + min(self.timeout_seconds, _ADMISSION_SECONDS)
        while True:
            pod = self.api.create(f"{self._pods}?dryRun=All", make_pod(self.image))
            labels = pod["metadata"].get("labels") or {}
            got = labels.get(names.LABEL_EGRESS_BITS_PER_SECOND)
            if got is not None or self.monotonic() >= until:
                break
            self.pause(_POLL_SECONDS)
        if got == _EGRESS_LABEL:
            return True, "the webhook labels a pod that asks for 10 Mbit/s"
        if got is not None:
            return True, f"the webhook labels a pod; the policy made {got} bit/s of 10 Mbit/s"
        return False, (
            "a pod that asks for 10 Mbit/s got no labels: look at the webhook's log, and at "
            "caBundle in its mutatingwebhookconfiguration"
        )

    def _enforcers(self) -> tuple[bool, str]:
        path = f"/apis/apps/v1/namespaces/{self.release_namespace}/daemonsets/{self.name}-enforcer"
        status = self.api.get(path).get("status") or {}
        ready, nodes = status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
        if ready == nodes > 0:
            return True, f"enforcers are ready on {nodes} of {nodes} nodes"
        return False, (
            f"enforcers are ready on {ready} of {nodes} nodes: "
            f"kubectl -n {self.release_namespace} get pods -o wide "
            "-l app.kubernetes.io/component=enforcer"
        )

    def _condition(self) -> tuple[bool, str]:
        """A pod that runs gets its condition, True unless the policy only observes."""
        self._delete()
        self.api.create(self._pods, make_pod(self.image))
        try:
            until = self.monotonic() + self.timeout_seconds
            while True:
                pod = self.api.get(f"{self._pods}/{POD}")
                condition = _condition_of(pod)
                if condition.get("status") == "True" or condition.get("reason") in _SETTLED:
                    break
                if self.monotonic() >= until:
                    return False, (
                        f"a pod has no limit in force after {self.timeout_seconds:.0f} s: "
                        f"{condition.get('message') or pod['status'].get('phase')}"
                    )
                self.pause(_POLL_SECONDS)
        finally:
            self._delete()
        text = f"a pod on {pod['spec'].get('nodeName')}: {condition.get('message')}"
        return condition.get("reason") != names.Reason.UNSUPPORTED, text

    def _delete(self) -> None:
        """Returns when it is gone."""
        try:
            self.api.delete(f"{self._pods}/{POD}")
            until = self.monotonic() + self.timeout_seconds
            while self.monotonic() < until:
                self.api.get(f"{self._pods}/{POD}")
                self.pause(_POLL_SECONDS)
        except NotFoundError:
            return


_SETTLED: Final = frozenset({names.Reason.OBSERVING, names.Reason.UNSUPPORTED})
"""Reasons that waiting does not change."""


def _condition_of(pod: Json) -> dict[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next(
        (c for c in conditions if c["type"] == names.CONDITION_BANDWIDTH_ENFORCED),
        {},
    )
