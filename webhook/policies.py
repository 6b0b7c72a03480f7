"""The policies in force: last good ones, merged per namespace, ready for every request."""

from collections.abc import Mapping
from typing import Final

from contract.policy import NO_POLICY, EffectivePolicy, Policy, merge, parse_policy
from contract.problems import Problem

DEFAULT_RELEASE_NAMESPACE: Final = "podpace-system"


class PolicyStore:
    """Written by one thread (a reflector, a folder's watcher), read by the requests' thread.

    The cluster's policy is the one in the release namespace. A policy that turns bad leaves the
    last good one of its namespace in force; where there is none, its readable part.
    """

    def __init__(self, release_namespace: str = DEFAULT_RELEASE_NAMESPACE) -> None:
        self._release_namespace = release_namespace
        self._policies: dict[str, Policy] = {}
        self._merged: dict[str, EffectivePolicy] = {}
        self._cluster_only = merge(NO_POLICY, NO_POLICY)
        self._bad: dict[str, tuple[Problem, ...]] = {}
        self.synced = False
        """Whether every policy has been seen once."""

    def effective(self, namespace: str) -> EffectivePolicy:
        """What holds for the pods of ``namespace``."""
        return self._merged.get(namespace, self._cluster_only)

    @property
    def cluster(self) -> Policy:
        """The cluster's own policy."""
        return self._policies.get(self._release_namespace, NO_POLICY)

    @property
    def bad(self) -> Mapping[str, tuple[Problem, ...]]:
        """Namespaces whose latest policy is bad, with everything that is wrong with it."""
        return self._bad

    def put(self, namespace: str, data: Mapping[str, str]) -> tuple[Problem, ...]:
        """Put a policy in force, if it is good; returns what is wrong with it."""
        policy, problems = parse_policy(data)
        if problems:
            self._bad[namespace] = problems
            if namespace in self._policies:
                return problems
        else:
            self._bad.pop(namespace, None)
        self._policies[namespace] = policy
        self._merge(namespace)
        return problems

    def remove(self, namespace: str) -> None:
        """Forget a namespace's policy."""
        self._bad.pop(namespace, None)
        if self._policies.pop(namespace, None) is not None:
            self._merge(namespace)

    def replace(self, policies: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Problem, ...]]:
        """Make ``policies`` all there is, and the store synced; returns the bad ones."""
        for namespace in set(self._policies) - set(policies):
            self.remove(namespace)
        for namespace, data in policies.items():
            self.put(namespace, data)
        self.synced = True
        return dict(self._bad)

    def _merge(self, changed: str) -> None:
        cluster = self.cluster
        if changed == self._release_namespace:
            self._merged = {n: merge(p, cluster) for n, p in self._policies.items()}
            self._cluster_only = merge(NO_POLICY, cluster)
        elif (policy := self._policies.get(changed)) is not None:
            self._merged[changed] = merge(policy, cluster)
        else:
            self._merged.pop(changed, None)
