"""Policies and the labels of namespaces, watched into the policy store."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
import structlog

from contract import names
from contract.problems import Problem
from kube.errors import ApiError, ConflictError
from kube.listwatch import ListWatch, Sink
from kube.ports import Api, Json
from webhook.kube.events import WARNING, make_event
from webhook.kube.observer import WatchObserver
from webhook.loops import Loops
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

log = structlog.stdlib.get_logger()

PATH: Final = "/api/v1/configmaps"
# RBAC can name one ConfigMap over all namespaces, and then asks for exactly this selector.
QUERY: Final = {"fieldSelector": f"metadata.name={names.POLICY_CONFIG_MAP}"}
SELECTED_PATH: Final = "/api/v1/namespaces/{}/configmaps"
"""Of the release namespace."""
SELECTED_QUERY: Final = {"labelSelector": f"{names.LABEL_POLICY}={names.LABEL_POLICY_VALUE}"}
NAMESPACES: Final = "/api/v1/namespaces"

PostEvent = Callable[[str, Json], None]
T = TypeVar("T")


def decode(body: bytes) -> Json:
    """Raises ValueError."""
    return msgspec.json.decode(body, type=Json)


class PolicySink:
    """Tells the store, the metrics, the log and, for bad policies, the people who wrote them.

    ``selected``: it is told of the policies with a name of their own, not of those named
    ``podpace-policy``.
    """

    def __init__(
        self,
        store: PolicyStore,
        metrics: Metrics,
        post_event: PostEvent,
        *,
        selected: bool = False,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._post_event = post_event
        self._selected = selected
        self._told: dict[PolicyKey, str] = {}

    def replace(self, objects: Iterable[Json]) -> None:
        """All policies there are."""
        policies = {_key(o): o for o in objects if self._is_ours(o)}
        self._store.replace(
            {key: o.get("data") or {} for key, o in policies.items()}, selected=self._selected
        )
        self._changed()
        for key in set(self._told) - set(policies):
            self._forget(key)
        for found in policies.values():
            self._tell(found, self._store.bad.get(_key(found), ()))
        log.info("policies synced", policies=len(policies), bad=len(self._store.bad))

    def put(self, changed: Json) -> None:
        """One policy is new or changed."""
        if self._is_ours(changed):
            self._tell(changed, self._store.put(_key(changed), changed.get("data") or {}))

    def remove(self, removed: Json) -> None:
        """One policy is gone."""
        if not self._is_ours(removed):
            return
        key = _key(removed)
        self._store.remove(key)
        self._changed()
        self._forget(key)
        log.info("policy removed", namespace=key.namespace, policy=key.name)

    def _is_ours(self, config_map: Json) -> bool:
        return (_key(config_map).name != names.POLICY_CONFIG_MAP) is self._selected

    def _changed(self) -> None:
        self._metrics.policies_changed.set_to_current_time()
        self._metrics.cluster_policies.set(self._store.cluster_policies)

    def _forget(self, key: PolicyKey) -> None:
        if self._told.pop(key, None):
            self._metrics.bad_policy.remove(*key)

    def _tell(self, policy: Json, problems: tuple[Problem, ...]) -> None:
        key, version = _key(policy), policy["metadata"]["resourceVersion"]
        self._changed()
        log.info(
            "policy seen",
            namespace=key.namespace,
            policy=key.name,
            version=version,
            problems=[str(p)[:200] for p in problems[:20]],
        )
        if not problems:
            self._forget(key)
            return
        self._metrics.bad_policy.labels(*key).set(1)
        if self._told.get(key) == version:
            return
        self._told[key] = version
        note = "the last good policy stays in force: " + "; ".join(map(str, problems))
        try:
            event = make_event(policy, WARNING, "BadPolicy", note, time.time())
            self._post_event(key.namespace, event)
        except ApiError as e:
            # The metric and the log say it too; the policy store must not wait for an Event.
            log.warning("event not written", namespace=key.namespace, reason=str(e)[:200])


class NamespaceMetadata(msgspec.Struct):
    """What is read of a namespace's metadata."""

    name: str
    labels: dict[str, str] | None = None


class Namespace(msgspec.Struct):
    """What is read of a namespace."""

    metadata: NamespaceMetadata


decode_namespace: Final = msgspec.json.Decoder(Namespace).decode
"""Raises ValueError."""


class NamespaceSink:
    """Tells the store the labels of namespaces."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store

    def replace(self, objects: Iterable[Namespace]) -> None:
        """All namespaces there are."""
        labels = {o.metadata.name: _labels(o) for o in objects}
        self._store.replace_namespaces(labels)
        log.info("namespaces synced", namespaces=len(labels))

    def put(self, changed: Namespace) -> None:
        """One namespace is new or changed."""
        self._store.put_namespace(changed.metadata.name, _labels(changed))

    def remove(self, removed: Namespace) -> None:
        """One namespace is gone."""
        self._store.remove_namespace(removed.metadata.name)


def start_watches(
    api: Api, store: PolicyStore, metrics: Metrics, loops: Loops, release_namespace: str
) -> None:
    """Fills the store, and keeps it true."""
    post = event_poster(api)
    own, selected = (PolicySink(store, metrics, post, selected=kind) for kind in (False, True))
    path = SELECTED_PATH.format(release_namespace)

    def watch(
        name: str, path: str, query: dict[str, str], decode: Callable[[bytes], T], sink: Sink[T]
    ) -> None:
        loop = loops.add(name)
        observer = WatchObserver(metrics, loop)
        # Of namespaces nothing else is read; ConfigMaps are more than metadata.
        watched = ListWatch(
            api, path, query, decode, sink, observer=observer, metadata_only=path == NAMESPACES
        )
        loop.start(watched.step)

    watch("policy watch", PATH, QUERY, decode, own)
    watch("selected policy watch", path, SELECTED_QUERY, decode, selected)
    watch("namespace watch", NAMESPACES, {}, decode_namespace, NamespaceSink(store))


def event_poster(api: Api) -> PostEvent:
    """Writes Events through ``api``."""

    def post(namespace: str, event: Json) -> None:
        # Another replica may have said it.
        with contextlib.suppress(ConflictError):
            api.create(f"/api/v1/namespaces/{namespace}/events", event)

    return post


def _key(config_map: Json) -> PolicyKey:
    metadata = config_map["metadata"]
    return PolicyKey(metadata["namespace"], metadata["name"])


def _labels(namespace: Namespace) -> dict[str, str]:
    # The same few words in every namespace: kept once.
    labels = namespace.metadata.labels or {}
    return {sys.intern(key): sys.intern(value) for key, value in labels.items()}
