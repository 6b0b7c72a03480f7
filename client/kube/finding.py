"""The pods that a command is about, as the API server has them."""

from client.kube.api import Cluster, Wanted
from client.kube.pods import LIMITED_SELECTOR, PodLimits, read_pod, sort_pods


def limited_pods(cluster: Cluster, wanted: Wanted) -> tuple[PodLimits, ...]:
    """Sorted. Raises ClientError."""
    return sort_pods(map(read_pod, cluster.list(wanted.path, wanted.query)))


def one_pod(cluster: Cluster, namespace: str | None, name: str) -> PodLimits:
    """Limited or not. Raises NotFoundError, ClientError."""
    scope = namespace or cluster.namespace
    return read_pod(cluster.get(f"/api/v1/namespaces/{scope}/pods/{name}"))


def wanted_pods(
    cluster: Cluster, namespace: str | None, selector: str, *, everywhere: bool
) -> Wanted:
    """Limited pods of the namespace that is meant, or of all."""
    selectors = ",".join(filter(None, (LIMITED_SELECTOR, selector)))
    query = {"labelSelector": selectors}
    if everywhere:
        return Wanted("/api/v1/pods", query)
    scope = namespace or cluster.namespace
    return Wanted(f"/api/v1/namespaces/{scope}/pods", query, scope)
