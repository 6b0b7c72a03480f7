"""The aggregated API that ``kubectl podpace`` reads counters from: one list for each namespace.

    GET /apis/stats.podpace.io/v1alpha1/namespaces/{namespace}/pods -> PodStatsList

Who may ``list`` the resource ``pods`` of that group in a namespace may read it: the API server
asks before it calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from contract.names import DOMAIN, Direction

GROUP: Final = f"stats.{DOMAIN}"
VERSION: Final = "v1alpha1"
RESOURCE: Final = "pods"
API_SERVICE: Final = f"{VERSION}.{GROUP}"
"""The name that the API server demands."""

READ_AT: Final = "podpace_read_timestamp_seconds"
"""When an enforcer read its counters: a page may be a second old when it is answered."""

Counters = Mapping[str, float]
"""By the metric's name, as in ``/metrics/pods`` of an enforcer; with ``READ_AT``."""


@dataclass(frozen=True, slots=True)
class PodStats:
    """One pod's counters; a direction that is not limited has none."""

    metadata: Mapping[str, str]
    """``namespace`` and ``name``."""
    node: str
    ingress: Counters
    egress: Counters

    def of(self, direction: Direction) -> Counters:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


@dataclass(frozen=True, slots=True)
class PodStatsList:
    """A namespace's pods, as their nodes' enforcers count them."""

    items: tuple[PodStats, ...]
    problems: tuple[str, ...] = ()
    """Nodes that cannot be read, and why."""
    kind: str = "PodStatsList"
    apiVersion: str = f"{GROUP}/{VERSION}"  # noqa: N815 - Kubernetes' name
    metadata: Mapping[str, str] | None = None


def path_of(namespace: str) -> str:
    """The list of a namespace."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{RESOURCE}"
