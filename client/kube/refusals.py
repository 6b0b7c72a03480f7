"""Why pods that should be there are not: what the API server told whoever makes them.

A pod that was refused does not exist; only an Event about its ReplicaSet, Job or other owner tells.
Of those, the ones that are about bandwidth.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from client.errors import ClientError
from client.kube.api import Cluster
from contract import names

_FIELDS: Final = "reason=FailedCreate"
"""All controllers of workloads give this reason."""
_QUOTA: Final = re.compile(r"exceeded quota: ([^,\s]+)")
_ABOUT_US: Final = f"{names.DOMAIN}/"


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One resource that a ResourceQuota bounds, as it stands now."""

    quota: str
    resource: str
    used: str
    hard: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What one owner was told last."""

    owner: str
    """``ReplicaSet/web-5d4``."""
    message: str
    """In the API server's words."""
    times: int
    last: str
    quota: str
    """The ResourceQuota that the message names; empty: none."""
    uses: tuple[QuotaUse, ...]
    """Of bandwidth, by that quota; empty: it is gone, or may not be read."""

    @property
    def advice(self) -> str:
        """What its reader can do."""
        if not self.quota:
            return ""
        return (
            "request less, end pods that book, or have the quota raised; "
            "whoever makes the pod tries again by itself"
        )


def refused_pods(cluster: Cluster, namespace: str, name: str) -> tuple[Refusal, ...]:
    """Of the workload ``name``, beside what its quotas say now.

    Raises:
        ClientError: Events may not be read.
    """
    events = cluster.list(f"/api/v1/namespaces/{namespace}/events", {"fieldSelector": _FIELDS})
    return tuple(
        replace(refusal, uses=_uses_now(cluster, namespace, refusal.quota))
        for refusal in of_workload(events, name)
    )


def _uses_now(cluster: Cluster, namespace: str, quota: str) -> tuple[QuotaUse, ...]:
    with contextlib.suppress(ClientError):
        if quota:
            return read_uses(cluster.get(f"/api/v1/namespaces/{namespace}/resourcequotas/{quota}"))
    return ()


def of_workload(events: Iterable[Mapping[str, Any]], name: str) -> tuple[Refusal, ...]:
    """Those of owners that are called ``name``, or ``name-…`` as a Deployment's are; the last of
    each, the newest first. ``name`` may be ``KIND/NAME``."""
    bare = name.rpartition("/")[2]
    found: dict[str, Refusal] = {}
    for refusal in sorted(map(_read, events), key=lambda r: r.last):
        owner = refusal.owner.partition("/")[2]
        ours = owner == bare or owner.startswith(f"{bare}-")
        if ours and _ABOUT_US in refusal.message:
            found[refusal.owner] = refusal
    return tuple(sorted(found.values(), key=lambda r: r.last, reverse=True))


def read_uses(quota: Mapping[str, Any]) -> tuple[QuotaUse, ...]:
    """What it says of bandwidth."""
    status = quota.get("status") or {}
    used, hard = status.get("used") or {}, status.get("hard") or {}
    return tuple(
        QuotaUse(quota["metadata"]["name"], resource, used.get(resource, "0"), hard[resource])
        for resource in sorted(hard)
        if _ABOUT_US in resource
    )


def _read(event: Mapping[str, Any]) -> Refusal:
    about, message = event.get("involvedObject") or {}, event.get("message") or ""
    quota = _QUOTA.search(message)
    series = event.get("series") or {}
    last = event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime")
    return Refusal(
        owner=f"{about.get('kind', '')}/{about.get('name', '')}",
        message=message,
        times=event.get("count") or series.get("count") or 1,
        last=last or "",
        quota=quota[1] if quota else "",
        uses=(),
    )
