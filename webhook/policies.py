"""The policies in force: last good ones, merged per namespace, ready for every request."""

import threading
from collections.abc import Mapping
from typing import Final, NamedTuple

from contract import names
from contract.effective import EffectivePolicy
from contract.merging import Layer, merge, merge_for_any, select
from contract.names import Source
from contract.policy import Scope, parse_policy
from contract.problems import Problem

DEFAULT_RELEASE_NAMESPACE: Final = "podpace-system"


class PolicyKey(NamedTuple):
    """The ConfigMap that a policy is in."""

    namespace: str
    name: str = names.POLICY_CONFIG_MAP


class PolicyStore:
    """Written by reflectors' threads (or a folder's watcher's), read by the requests'.

    A policy that turns bad leaves its last good version in force; where there is none, what can be
    read of it.
    """

    def __init__(
        self, release_namespace: str = DEFAULT_RELEASE_NAMESPACE, *, without_cluster: bool = False
    ) -> None:
        """``without_cluster``: a namespace that nobody puts here has no labels."""
        self.release_namespace = release_namespace
        self._writing = threading.Lock()
        # Not changed but replaced: readers do not wait.
        self._cluster: tuple[Layer, ...] = ()
        self._own: dict[str, Layer] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._bad: dict[PolicyKey, tuple[Problem, ...]] = {}
        # Filled by readers, and replaced after every change: what was merged before is not found.
        self._merged: dict[str, EffectivePolicy] = {}
        self._unlabelled: Mapping[str, str] | None = {} if without_cluster else None
        self._unseen = {"policies", "selected policies"}
        if not without_cluster:
            self._unseen.add("namespaces")

    @property
    def synced(self) -> bool:
        """Whether all policies and namespaces have been seen once."""
        return not self._unseen

    def effective(self, namespace: str) -> EffectivePolicy:
        """What holds for the pods of ``namespace``.

        Until its labels are known, all policies of the cluster bound it.
        """
        # Taken before what is merged: a change in between is not lost.
        merged = self._merged
        own, labels = self._own.get(namespace), self._labels.get(namespace)
        # All that nobody has heard of are alike, or anybody's inventions would fill the memory.
        key = "" if own is None and labels is None else namespace
        found = merged.get(key)
        if found is None:
            labels = self._unlabelled if labels is None else labels
            found = merged[key] = (
                merge_for_any(own, self._cluster)
                if labels is None
                else merge(own, select(self._cluster, labels))
            )
        return found

    def cluster_layers(self, namespace: str) -> tuple[Layer, ...]:
        """The cluster's policies that hold in a namespace; who is heard first is first."""
        return select(self._cluster, self._labels.get(namespace, {}))

    def takes_part(self, namespace: str) -> bool:
        """Whether a namespace is known, and not taken out by its label."""
        labels = self._labels.get(namespace, self._unlabelled)
        return labels is not None and names.LABEL_NAMESPACE_IGNORE not in labels

    @property
    def cluster_policies(self) -> int:
        """How many policies of the cluster say something."""
        return sum(not layer.policy.silent for layer in self._cluster)

    @property
    def bad(self) -> Mapping[PolicyKey, tuple[Problem, ...]]:
        """Policies whose latest version is bad, with everything that is wrong with it."""
        return self._bad

    def put(self, key: PolicyKey, data: Mapping[str, str]) -> tuple[Problem, ...]:
        """Put a policy in force, if it is good; returns what is wrong with it."""
        policy, problems = parse_policy(data, self._scope(key))
        with self._writing:
            if problems:
                self._bad[key] = problems
                if key in self._keys():
                    return problems
            else:
                self._bad.pop(key, None)
            self._drop(key)
            if key.namespace == self.release_namespace:
                self._cluster += (Layer(*key, Source.CLUSTER, policy),)
            else:
                self._own[key.namespace] = Layer(*key, Source.NAMESPACE, policy)
            self._merged = {}
        return problems

    def remove(self, key: PolicyKey) -> None:
        """Forget a policy."""
        with self._writing:
            self._bad.pop(key, None)
            self._drop(key)
            self._merged = {}

    def replace(
        self, policies: Mapping[PolicyKey, Mapping[str, str]], *, selected: bool | None = None
    ) -> None:
        """Make ``policies`` all there is; or all of those that select namespaces, or the others."""
        kinds = (True, False) if selected is None else (selected,)
        for key in self._keys():
            if (self._scope(key) is Scope.SELECTED) in kinds and key not in policies:
                self.remove(key)
        for key, data in policies.items():
            self.put(key, data)
        self._unseen -= {"selected policies" if kind else "policies" for kind in kinds}

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """A namespace is there, or has other labels now."""
        with self._writing:
            if self._labels.get(name) != labels:
                self._labels[name] = labels
                self._merged = {}

    def remove_namespace(self, name: str) -> None:
        """A namespace is gone."""
        with self._writing:
            self._labels.pop(name, None)
            self._merged = {}

    def replace_namespaces(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        """Make these all there is."""
        with self._writing:
            self._labels = dict(labels)
            self._merged = {}
        self._unseen.discard("namespaces")

    def _scope(self, key: PolicyKey) -> Scope:
        if key.name != names.POLICY_CONFIG_MAP:
            return Scope.SELECTED
        return Scope.CLUSTER if key.namespace == self.release_namespace else Scope.NAMESPACE

    def _keys(self) -> set[PolicyKey]:
        return {PolicyKey(n.namespace, n.name) for n in (*self._cluster, *self._own.values())}

    def _drop(self, key: PolicyKey) -> None:
        if key.namespace == self.release_namespace:
            self._cluster = tuple(layer for layer in self._cluster if layer.name != key.name)
        else:
            self._own.pop(key.namespace, None)
