"""One leader among the replicas, by a Lease (coordination.k8s.io/v1)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kube.errors import ApiError, ConflictError, NotFoundError
from kube.ports import Api, Json
from webhook.metrics import Metrics

LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 5.0
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


class Election:
    """:meth:`campaign` takes, renews or loses the lease; call it every ``RENEW_SECONDS``.

    Expiry is judged by how long *we* have seen the lease unchanged, so clocks need not agree.
    """

    def __init__(self, api: Api, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._leases}/{name}"
        self._name = name
        self._identity = identity
        self._seen: tuple[str, float] = ("", 0.0)

    def campaign(self, now: float, monotonic: float) -> bool:
        """Whether we lead now; ``now`` is the wall clock, ``monotonic`` any steady one.

        Raises:
            ApiError: the API server did not answer; do not count on leading.
        """
        try:
            lease = self._api.get(self._path)
        except NotFoundError:
            body = {"metadata": {"name": self._name}, "spec": self._spec(now, 0)}
            return self._write(lambda: self._api.create(self._leases, _lease(body)))
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, monotonic)
        ours = spec.get("holderIdentity") == self._identity
        expired = monotonic - self._seen[1] >= LEASE_SECONDS
        if not ours and spec.get("holderIdentity") and not expired:
            return False
        changes = (spec.get("leaseTransitions") or 0) + (0 if ours else 1)
        acquired = spec.get("acquireTime") if ours else None
        lease["spec"] = self._spec(now, changes, acquired)
        return self._write(lambda: self._api.replace(self._path, lease))

    def resign(self, now: float) -> None:
        """Give the lease back, so that the next leader need not wait; only when leading.

        Raises:
            ApiError: it was not given back; it runs out by itself.
        """
        lease = self._api.get(self._path)
        if lease.get("spec", {}).get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "renewTime": _moment(now)}
            self._write(lambda: self._api.replace(self._path, lease))

    def _spec(self, now: float, transitions: int, acquired: str | None = None) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": acquired or _moment(now),
            "renewTime": _moment(now),
            "leaseTransitions": transitions,
        }

    @staticmethod
    def _write(write: Callable[[], Json]) -> bool:
        try:
            write()
        except ConflictError:
            return False
        return True


@dataclass
class Leadership:
    """:meth:`step`, in a loop of its own, renews the lease with one write, whatever goes on."""

    election: Election
    metrics: Metrics
    leading: bool = False

    def step(self) -> float:
        """Returns the pause before the next step, in seconds.

        Raises:
            ApiError: do not count on leading.
        """
        try:
            self.leading = self.election.campaign(time.time(), time.monotonic())
        except ApiError:
            self.leading = False
            raise
        finally:
            self.metrics.leader.set(float(self.leading))
        return RENEW_SECONDS


def _lease(body: Json) -> Json:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"} | body


def _moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime(_FORMAT)
