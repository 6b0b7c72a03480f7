"""Which series are told, and on which page."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from contract.api import Health
from enforcer.api.metrics import NodeCollector, TargetCollector
from enforcer.pods.node import Node
from enforcer.reconcile.reconciler import Reconciler
from enforcer.targets import is_pod


def register(
    registry: CollectorRegistry,
    reconciler: Reconciler,
    health: Health,
    node: Node | None,
    shared: Iterable[Collector],
    *,
    with_pods: bool,
) -> CollectorRegistry:
    """Fill ``registry``; returns another one, with the series of pods and of ``shared`` only."""
    count_pods = node.counts if node is not None else dict[str, int]

    def known() -> frozenset[int]:
        return frozenset(target.cgroup_id for target in reconciler.targets())

    registry.register(NodeCollector(reconciler.counters, health, count_pods, known))
    registry.register(
        TargetCollector(lambda: reconciler.counters(lambda t: with_pods or not is_pod(t)))
    )
    of_pods = CollectorRegistry()
    for collector in shared:
        registry.register(collector)
        of_pods.register(collector)
    of_pods.register(TargetCollector(lambda: reconciler.counters(is_pod)))
    return of_pods
