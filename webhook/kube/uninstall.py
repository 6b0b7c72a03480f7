"""What happens before ``helm uninstall`` removes anything: pods are released, nodes are cleaned.

Admission stops, then the webhook, whose audit would label pods again; labels go off the pods, and
the enforcers take limits and conditions off in answer.

Helm makes hooks only when their time has come. Whoever renders the chart and applies everything
makes this one at once, and would lift every limit: so it looks first whether Helm has installed us.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kube.errors import ApiError, ConflictError, NotFoundError
from kube.ports import Api, Json
from webhook.kube.authority import API_SERVICE, KINDS
from webhook.kube.cleaning import Progress, judge, make_cleanup, never_started
from webhook.kube.unlimit import Unlimit
from webhook.kube.withdraw import withdraw_capacity

_BY_HELM: Final = "meta.helm.sh/release-name"
"""Helm annotates what it installs, and nothing that others apply."""
_WEBHOOK_LABEL: Final = ("app.kubernetes.io/component", "webhook")
_POLL_SECONDS: Final = 2.0
_RELEASE_PART: Final = 0.3
"""Of the time, for enforcers to take conditions off; one that is not there never does."""


@dataclass(frozen=True)
class Uninstall:
    """The steps, and what is said about them."""

    api: Api
    namespace: str
    name: str
    """What all names of the installation begin with."""
    timeout_seconds: float
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(self) -> bool:
        """True when every node is clean. Running it again goes on where it stopped.

        Failure contract: once admission has stopped, nothing is put back.
        """
        start = self.monotonic()
        unlimit = Unlimit(self.api, self.say)
        of_helm = False
        said: tuple[str, ...] = ()
        while True:
            elapsed = self.monotonic() - start
            patient = elapsed < self.timeout_seconds * _RELEASE_PART
            try:
                of_helm = of_helm or self._of_helm()
                if not of_helm:
                    self.say(
                        "Helm has not installed this: nothing is done. Manifests that were applied "
                        "are deleted as they came; the enforcers then clean their nodes"
                    )
                    return True
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
        progress = self._clean()
        if progress.done:
            # Before, an enforcer would write it again.
            withdraw_capacity(self.api, self.say)
        return progress

    def _of_helm(self) -> bool:
        """Whether Helm has installed what is there of both workloads, and something is."""
        found = []
        for path in (self._daemon_set, self._deployment):
            with contextlib.suppress(NotFoundError):
                found.append(self.api.get(path)["metadata"].get("annotations") or {})
        return bool(found) and all(_BY_HELM in annotations for annotations in found)

    @property
    def _daemon_set(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{self.name}-enforcer"

    @property
    def _deployment(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}-webhook"

    def _stop_admission(self) -> None:
        """First: a pod that got a readiness gate now would never be ready.

        The aggregated API goes with it: one that nobody answers holds up the end of namespaces.
        """
        with contextlib.suppress(NotFoundError):
            self.api.delete(API_SERVICE)
            self.say("removed the API of counters")
        for kind in KINDS:
            try:
                self.api.delete(f"/apis/admissionregistration.k8s.io/v1/{kind}/{self.name}")
            except NotFoundError:
                continue
            self.say(f"removed {kind}/{self.name}: pods are admitted without us")

    def _stop_webhook(self) -> tuple[str, ...]:
        """Its audit would give pods their labels back; returns its pods that are left."""
        path = f"{self._deployment}/scale"
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
        try:
            daemon_set = self.api.get(self._daemon_set)
        except NotFoundError:
            self.say(f"there is no DaemonSet {self.name}-enforcer: no node to clean")
            return Progress(0, 0, ())
        pods = self._pods()
        cleaner = make_cleanup(daemon_set, never_started(daemon_set, pods, self.now()))
        if cleaner is not daemon_set:
            try:
                daemon_set = self.api.replace(self._daemon_set, cleaner)
            except ConflictError:
                return Progress(0, 0, ("the DaemonSet changed meanwhile",))
            self.say("the enforcers are replaced by their cleanup")
        return judge(daemon_set, self._pods())

    def _pods(self) -> list[Json]:
        return self.api.list(f"/api/v1/namespaces/{self.namespace}/pods")
