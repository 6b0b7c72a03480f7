"""Policy ConfigMaps of all namespaces, watched into the policy store."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from contract import names
from contract.problems import Problem
from kube.errors import ApiError, ConflictError
from kube.ports import Api, Json
from webhook.kube.events import WARNING, make_event
from webhook.metrics import Metrics
from webhook.policies import PolicyStore

log = structlog.stdlib.get_logger()

PATH: Final = "/api/v1/configmaps"
# RBAC can name one ConfigMap over all namespaces, and then asks for exactly this selector.
QUERY: Final = {"fieldSelector": f"metadata.name={names.POLICY_CONFIG_MAP}"}

PostEvent = Callable[[str, Json], None]


def decode(body: bytes) -> Json:
    """Raises ValueError."""
    return msgspec.json.decode(body, type=Json)


class PolicySink:
    """Tells the store, the metrics, the log and, for bad policies, the people who wrote them."""

    def __init__(self, store: PolicyStore, metrics: Metrics, post_event: PostEvent) -> None:
        self._store = store
        self._metrics = metrics
        self._post_event = post_event
        self._told: dict[str, str] = {}

    def replace(self, objects: Iterable[Json]) -> None:
        """All policies there are."""
        objects = list(objects)
        self._store.replace({_namespace(o): o.get("data") or {} for o in objects})
        self._metrics.bad_policy.clear()
        for found in objects:
            self._tell(found, self._store.bad.get(_namespace(found), ()))
        log.info("policies synced", policies=len(objects), bad=len(self._store.bad))

    def put(self, changed: Json) -> None:
        """One policy is new or changed."""
        self._tell(changed, self._store.put(_namespace(changed), changed.get("data") or {}))

    def remove(self, removed: Json) -> None:
        """One policy is gone."""
        namespace = _namespace(removed)
        self._store.remove(namespace)
        self._metrics.policies_changed.set_to_current_time()
        if namespace in self._told:
            self._metrics.bad_policy.remove(namespace)
            del self._told[namespace]
        log.info("policy removed", namespace=namespace)

    def _tell(self, policy: Json, problems: tuple[Problem, ...]) -> None:
        namespace, version = _namespace(policy), policy["metadata"]["resourceVersion"]
        self._metrics.policies_changed.set_to_current_time()
        log.info(
            "policy seen",
            namespace=namespace,
            version=version,
            problems=[str(p)[:200] for p in problems],
        )
        if not problems:
            if self._told.pop(namespace, None):
                self._metrics.bad_policy.remove(namespace)
            return
        self._metrics.bad_policy.labels(namespace).set(1)
        if self._told.get(namespace) == version:
            return
        self._told[namespace] = version
        note = "the last good policy stays in force: " + "; ".join(map(str, problems))
        try:
            self._post_event(namespace, make_event(policy, WARNING, "BadPolicy", note, time.time()))
        except ApiError as e:
            # The metric and the log say it too; the policy store must not wait for an Event.
            log.warning("event not written", namespace=namespace, reason=str(e)[:200])


def event_poster(api: Api) -> PostEvent:
    """Writes Events through ``api``."""

    def post(namespace: str, event: Json) -> None:
        # Another replica may have said it.
        with contextlib.suppress(ConflictError):
            api.create(f"/api/v1/namespaces/{namespace}/events", event)

    return post


def _namespace(config_map: Mapping[str, Mapping[str, str]]) -> str:
    return config_map["metadata"]["namespace"]
