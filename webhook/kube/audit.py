"""Follows all running pods and corrects those whose labels do not follow (``webhook.drift``).

Such pods were created or edited while no webhook answered (failurePolicy Ignore), or before a
policy changed. They cannot be refused any more: their limits are brought within the policy.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from contract.effective import EffectivePolicy
from kube.errors import ApiError
from kube.ports import Api, Json
from webhook.drift import Correction, SeenPod, correct
from webhook.kube.events import NORMAL, make_event
from webhook.metrics import Metrics

log = structlog.stdlib.get_logger()

PATH: Final = "/api/v1/pods"
ALWAYS_EXEMPT: Final = frozenset({"kube-system", "kube-node-lease"})
"""Namespaces that the webhook configurations leave out; the release namespace is another."""
PATCHES_PER_SECOND: Final = 50
"""One after the other; 5,000 pods take 100 seconds, the most urgent first."""
_STEP_SECONDS: Final = 1.0
"""A step does not take longer, so that its loop is seen to turn."""
_IDLE_SECONDS: Final = 0.5
_RACED: Final = frozenset({404, 409, 422})
"""Answers to a patch whose guards no longer hold; 422 is also another refusal."""
_REFUSED: Final = frozenset({400, 403, 413})
_SPARE_TICKETS: Final = 1000
_BREATH: Final = 100
"""Pods that are judged before other threads get a turn."""


Ticket = tuple[int, int, str]
"""Urgency, a number that grows, uid."""


class Policies(Protocol):
    """What holds where; ``webhook.policies.PolicyStore`` is the real one."""

    @property
    def synced(self) -> bool:
        """Whether all policies are known; without them every label would look wrong."""
        ...

    def effective(self, namespace: str) -> EffectivePolicy:
        """What holds for the pods of a namespace."""
        ...

    def takes_part(self, namespace: str) -> bool:
        """Whether a namespace is known, and not taken out by its label."""
        ...


def pods_query(exempt: Iterable[str]) -> dict[str, str]:
    """Pods that have not ended, outside the namespaces that are never looked at."""
    fields = [f"status.phase!={phase}" for phase in ("Succeeded", "Failed")]
    fields += [f"metadata.namespace!={namespace}" for namespace in sorted(exempt)]
    return {"fieldSelector": ",".join(fields)}


@dataclass
class Audit:
    """Told of pods by their list-watch (it is a ``Sink``); :meth:`step`, in a loop, corrects.

    A pod is judged when it comes or changes, and when the policy of its namespace has changed,
    which is looked at every ``interval_seconds``.
    """

    api: Api
    policies: Policies
    metrics: Metrics
    leading: Callable[[], bool]
    interval_seconds: float
    post_event: Callable[[str, Json], None] = lambda _namespace, _event: None
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    listed: bool = field(default=False, init=False)
    """Whether all pods have been seen once."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _pods: dict[str, SeenPod] = field(default_factory=dict, init=False)
    _waiting: dict[str, Ticket] = field(default_factory=dict, init=False)
    """By uid."""
    _order: list[Ticket] = field(default_factory=list, init=False)
    """A heap, with tickets that are no longer valid."""
    _number: Iterator[int] = field(default_factory=itertools.count, init=False)
    _judged_by: dict[str, tuple[EffectivePolicy, bool]] = field(default_factory=dict, init=False)
    """What each namespace's pods were judged by."""
    _judged_otherwise: set[str] = field(default_factory=set, init=False)
    """Namespaces with a pod that was judged by something else, between two looks at policies."""
    _refused: dict[str, str] = field(default_factory=dict, init=False)
    """The version, by uid, of pods whose patch failed since the last look at policies."""
    _refused_before: dict[str, str] = field(default_factory=dict, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def replace(self, objects: Iterable[SeenPod]) -> None:
        """All pods there are."""
        present = set()
        for pod in objects:
            self.put(pod)
            present.add(pod.uid)
        with self._lock:
            for uid in self._pods.keys() - present:
                self._forget(uid)
        self.listed = True
        log.info("pods listed", pods=len(present), waiting=len(self._waiting))

    def put(self, changed: SeenPod) -> None:
        """One pod is new or has changed."""
        with self._lock:
            # Taken out first, so that key and value share one text.
            self._pods.pop(changed.uid, None)
            self._pods[changed.uid] = changed
        self._judge(changed)

    def remove(self, removed: SeenPod) -> None:
        """One pod has ended or is gone."""
        with self._lock:
            self._forget(removed.uid)

    def step(self) -> float:
        """Correct what waits, for a second at most; returns the pause before the next step.

        Raises:
            ApiError: the API server does not answer; the next step goes on.
        """
        if not (self.leading() and self.policies.synced and self.listed):
            return _IDLE_SECONDS
        started = self.monotonic()
        if started - self._looked_at >= self.interval_seconds:
            self._looked_at = started
            self._judge_anew()
        while self.leading() and self.monotonic() - started < _STEP_SECONDS:
            pod = self._next()
            if pod is None:
                return min(_IDLE_SECONDS, self.interval_seconds)
            correction = self._correction(pod)
            if correction is not None:
                self._apply(pod, correction)
                self.pause(1 / PATCHES_PER_SECOND)
        return 0.0

    def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._waiting.pop(uid, None)
        self._refused.pop(uid, None)

    def _correction(self, pod: SeenPod) -> Correction | None:
        if not self.policies.takes_part(pod.namespace):
            return None
        return correct(pod, self.policies.effective(pod.namespace))

    def _judge(self, pod: SeenPod) -> None:
        if not self.policies.synced:
            return  # when they are, every namespace is judged anew
        namespace = pod.namespace
        rule = self._rule(namespace)
        if self._judged_by.setdefault(namespace, rule) != rule:
            # By the next look at policies it may be again what it was.
            self._judged_otherwise.add(namespace)
        policy, takes_part = rule
        correction = correct(pod, policy) if takes_part else None
        with self._lock:
            if correction is None:
                self._waiting.pop(pod.uid, None)
            elif self._refused.get(pod.uid) != pod.version:
                self._enqueue(pod.uid, correction.urgency)
            self.metrics.audit_waiting.set(len(self._waiting))

    def _enqueue(self, uid: str, urgency: int) -> None:
        if uid in self._waiting and self._waiting[uid][0] == urgency:
            return
        self._waiting[uid] = ticket = (urgency, next(self._number), uid)
        heapq.heappush(self._order, ticket)
        if len(self._order) > 2 * len(self._waiting) + _SPARE_TICKETS:
            self._order = sorted(self._waiting.values())

    def _next(self) -> SeenPod | None:
        with self._lock:
            while self._order:
                ticket = heapq.heappop(self._order)
                uid = ticket[2]
                if self._waiting.get(uid) == ticket:
                    del self._waiting[uid]
                    self.metrics.audit_waiting.set(len(self._waiting))
                    return self._pods[uid]
        return None

    def _rule(self, namespace: str) -> tuple[EffectivePolicy, bool]:
        return self.policies.effective(namespace), self.policies.takes_part(namespace)

    def _judge_anew(self) -> None:
        """Pods of namespaces whose policy has changed, and those that could not be corrected."""
        with self._lock:
            pods = list(self._pods.values())
            self._refused_before, self._refused = self._refused, {}
        otherwise, self._judged_otherwise = self._judged_otherwise, set()
        rules = {namespace: self._rule(namespace) for namespace in {p.namespace for p in pods}}
        changed = {n for n, rule in rules.items() if self._judged_by.get(n) != rule} | otherwise
        self._judged_by = rules
        for number, pod in enumerate(pods):
            if pod.namespace in changed or pod.uid in self._refused_before:
                self._judge(pod)
            if number % _BREATH == 0:
                time.sleep(0)
        if changed:
            log.info("audited anew", namespaces=len(changed), waiting=len(self._waiting))

    def _apply(self, pod: SeenPod, correction: Correction) -> None:
        try:
            self.api.json_patch(
                f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}", correction.patch
            )
        except ApiError as error:
            self._not_applied(pod, correction, error)
            return
        self.metrics.audited.labels("labelled").inc()
        log.info(
            "pod corrected",
            namespace=pod.namespace,
            pod=pod.name,
            urgency=correction.urgency.name.lower(),
            notice=correction.notice.text if correction.notice else None,
        )
        if correction.notice is not None:
            self._tell(pod, correction.notice.reason, correction.notice.text)

    def _not_applied(self, pod: SeenPod, correction: Correction, error: ApiError) -> None:
        with self._lock:
            if error.status not in _RACED | _REFUSED:
                self._enqueue(pod.uid, correction.urgency)
                raise error
            if self._pods.get(pod.uid) is not pod:
                # It has changed or gone meanwhile, and has been judged as what it is now.
                self.metrics.audited.labels("raced").inc()
                return
            self._refused[pod.uid] = pod.version
            again = self._refused_before.get(pod.uid) == pod.version
        # A version that the watch has not told of yet has by the next time.
        result = "failed" if again or error.status in _REFUSED else "raced"
        self.metrics.audited.labels(result).inc()
        log.warning(
            "pod not corrected", namespace=pod.namespace, pod=pod.name, reason=str(error)[:300]
        )

    def _tell(self, pod: SeenPod, reason: str, text: str) -> None:
        about = {
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": pod.namespace,
                "uid": pod.uid,
                "resourceVersion": pod.version,
            },
        }
        try:
            self.post_event(pod.namespace, make_event(about, NORMAL, reason, text, time.time()))
        except ApiError as error:
            log.warning("event not written", namespace=pod.namespace, reason=str(error)[:200])
