"""Finds pods whose labels do not say what annotations and policy say, and corrects them.

Such pods were created or edited while no webhook answered (failurePolicy Ignore), or before a
policy changed. They cannot be refused any more: their limits are brought within the policy.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import structlog

from contract import names
from contract.reading import read
from contract.resolution import resolve
from kube.errors import ApiError
from kube.ports import METADATA_LIST, Api, Json
from webhook.kube.election import RENEW_SECONDS, Election
from webhook.metrics import Metrics
from webhook.mutation import make_patch
from webhook.policies import PolicyStore
from webhook.reviews import Metadata, Pod, encode_patch

log = structlog.stdlib.get_logger()

_PATCHES_PER_SECOND: Final = 20


def correction(pod: Json, store: PolicyStore) -> list[Json]:
    """The JSON Patch that makes a pod's labels follow; empty when they do.

    Guarded: it fails when the pod has changed or is another one of the same name.
    """
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    if names.ANNOTATION_MIRROR in annotations or metadata.get("deletionTimestamp"):
        return []
    seen = Pod(Metadata(labels=metadata.get("labels"), annotations=metadata.get("annotations")))
    policy = store.effective(metadata["namespace"])
    reading = read(annotations)
    patch = make_patch(seen, reading, resolve(reading, policy), take_over=False)
    if not patch:
        return []
    guards = [
        {"op": "test", "path": f"/metadata/{key}", "value": metadata[key]}
        for key in ("uid", "resourceVersion")
    ]
    return guards + encode_patch(patch)


@dataclass
class Audit:
    """:meth:`step` renews the lease and, as the leader, audits when it is time."""

    api: Api
    store: PolicyStore
    metrics: Metrics
    election: Election
    release_namespace: str
    interval_seconds: float
    exempt_namespaces: Collection[str] = ()
    """Further ones."""
    leading: bool = False
    _audited_at: float = field(default=float("-inf"), init=False)

    def step(self) -> float:
        """Returns the pause before the next step, in seconds.

        Raises:
            ApiError: nothing was audited, or not everything; the next step goes on.
        """
        try:
            self.leading = self.election.campaign(time.time(), time.monotonic())
        except ApiError:
            self.leading = False
            raise
        finally:
            self.metrics.leader.set(float(self.leading))
        due = time.monotonic() - self._audited_at >= self.interval_seconds
        if self.leading and due and self.store.synced:
            self._audited_at = time.monotonic()
            self.audit()
        return min(RENEW_SECONDS, self.interval_seconds)

    def audit(self) -> int:
        """One pass over all pods; returns how many were corrected.

        Raises:
            ApiError: the pods could not be listed.
        """
        exempt = self._exempt_namespaces()
        pods = self.api.list("/api/v1/pods", accept=METADATA_LIST)
        corrected = 0
        for pod in pods:
            if pod["metadata"]["namespace"] in exempt:
                continue
            patch = correction(pod, self.store)
            if patch:
                corrected += self._correct(pod["metadata"], patch)
                self.election.campaign(time.time(), time.monotonic())
                time.sleep(1 / _PATCHES_PER_SECOND)
        log.info("audited", pods=len(pods), corrected=corrected)
        return corrected

    def _exempt_namespaces(self) -> Collection[str]:
        namespaces = self.api.list("/api/v1/namespaces", accept=METADATA_LIST)
        ignored = {
            n["metadata"]["name"]
            for n in namespaces
            if names.LABEL_NAMESPACE_IGNORE in (n["metadata"].get("labels") or {})
        }
        return (
            names.ALWAYS_EXEMPT_NAMESPACES
            | ignored
            | {self.release_namespace, *self.exempt_namespaces}
        )

    def _correct(self, metadata: Json, patch: list[Json]) -> int:
        namespace, name = metadata["namespace"], metadata["name"]
        try:
            self.api.json_patch(f"/api/v1/namespaces/{namespace}/pods/{name}", patch)
        except ApiError as e:
            # It changed or went away meanwhile: the next pass sees it again.
            self.metrics.audited.labels("failed").inc()
            log.warning("pod not corrected", namespace=namespace, pod=name, reason=str(e)[:200])
            return 0
        self.metrics.audited.labels("labelled").inc()
        log.info("pod corrected", namespace=namespace, pod=name, changes=len(patch) - 2)
        return 1
