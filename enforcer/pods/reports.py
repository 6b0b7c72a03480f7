"""What is written to the API server of pods, and asked of it: in order, at a bounded rate."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from contract.names import EventReason
from enforcer.pods.budget import Budget
from enforcer.pods.events import EventBook, EventWrite, NewEvent
from enforcer.pods.news import PodFound
from enforcer.pods.patches import CONTENT_TYPE, status_patch
from enforcer.pods.pod import Condition, Pod, read_pod
from enforcer.ports import Log
from kube.errors import ApiError
from kube.ports import Api

WRITES_PER_SECOND: Final = 20
WRITES_BURST: Final = 50
"""Kubelets' own defaults are 50 and 100; 110 new pods are told within 3 s."""
_MOST_EVENTS: Final = 100
_SETTLE_SECONDS: Final = 5.0
"""For this long after a write, the watch may still show what was there before it."""
_GONE: Final = frozenset({404, 409})
_OURS_TO_RETRY: Final = frozenset({0, 401, 408, 429})
_IDLE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Written:
    condition: Condition | None
    at_seconds: float


class Reports:
    """:meth:`want` and :meth:`event` return at once; :meth:`step`, run in a loop, writes."""

    def __init__(
        self,
        api: Api,
        book: EventBook,
        log: Log,
        count_error: Callable[[str], None],
        tell: Callable[[PodFound], None],
    ) -> None:
        self._api = api
        self._book = book
        self._log = log
        self._count_error = count_error
        self._tell = tell
        self._news = threading.Condition()
        self._wanted: OrderedDict[str, tuple[Pod, Condition | None]] = OrderedDict()
        self._written: OrderedDict[str, _Written] = OrderedDict()
        self._questions: OrderedDict[str, Pod] = OrderedDict()
        self._events: deque[EventWrite] = deque(maxlen=_MOST_EVENTS)
        self._budget = Budget(WRITES_BURST, 1 / WRITES_PER_SECOND, time.monotonic())

    def want(self, pod: Pod, condition: Condition | None) -> None:
        """The condition that is true of ``pod`` now; None: it should have none."""
        with self._news:
            if _same(condition, self._known(pod)):
                self._wanted.pop(pod.uid, None)
            else:
                self._wanted[pod.uid] = (pod, condition)
                self._news.notify()

    def event(self, pod: Pod, reason: EventReason, text: str) -> None:
        """Something happened to ``pod`` that people may ask about."""
        with self._news:
            write = self._book.note(pod, reason, text, time.monotonic())
            if write is not None:
                self._events.append(write)
                self._news.notify()

    def ask(self, pod: Pod) -> None:
        """Find out whether there is still a pod of this name; ``tell`` gets the answer."""
        with self._news:
            self._questions[pod.cgroup_uid] = pod
            self._news.notify()

    def forget(self, pod: Pod) -> None:
        """The pod is gone, or not limited any more: keep nothing of it, and write nothing."""
        with self._news:
            self._wanted.pop(pod.uid, None)
            self._written.pop(pod.uid, None)
            self._book.forget(pod)

    def step(self) -> None:
        """Ask or write one thing, waiting for one and for leave to do it. Raises ApiError."""
        with self._news:
            if not self._wanted and not self._events and not self._questions:
                self._news.wait(_IDLE_SECONDS)
                return
            pause = self._budget.spend(time.monotonic())
        if pause:
            time.sleep(pause)
            return
        with self._news:
            question = self._questions.popitem(last=False)[1] if self._questions else None
        if question is not None:
            self._answer(question)
            return
        with self._news:
            uid, (pod, condition) = next(iter(self._wanted.items()), ("", (None, None)))
            self._wanted.pop(uid, None)
            event = self._events.popleft() if pod is None and self._events else None
        if pod is not None:
            self._write_condition(pod, condition)
        elif event is not None:
            self._write_event(event)

    def _write_condition(self, pod: Pod, condition: Condition | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/status"
        try:
            self._api.patch(path, status_patch(pod, condition, now), CONTENT_TYPE)
        except ApiError as error:
            self._failed("report", error, pod.target_name)
            if _worth_a_retry(error):
                with self._news:
                    self._wanted.setdefault(pod.uid, (pod, condition))
                raise
            return
        with self._news:
            now_seconds = time.monotonic()
            self._written[pod.uid] = _Written(condition, now_seconds)
            self._written.move_to_end(pod.uid)
            for uid, written in list(self._written.items()):
                if written.at_seconds >= now_seconds - _SETTLE_SECONDS:
                    break
                del self._written[uid]
        self._log.info(
            "reported",
            target=pod.target_name,
            status=condition.status if condition else None,
            reason=condition.reason if condition else None,
            message=condition.message if condition else None,
        )

    def _write_event(self, event: EventWrite) -> None:
        events = f"/apis/events.k8s.io/v1/namespaces/{event.namespace}/events"
        try:
            if isinstance(event, NewEvent):
                self._api.create(events, event.body)
            else:
                self._api.patch(f"{events}/{event.name}", event.body, CONTENT_TYPE)
        except ApiError as error:
            self._failed("event", error, event.namespace)
            if _worth_a_retry(error):
                with self._news:
                    self._events.appendleft(event)
                raise

    def _answer(self, pod: Pod) -> None:
        path = f"/api/v1/namespaces/{pod.namespace}/pods"
        try:
            pages = self._api.pages(path, {"fieldSelector": f"metadata.name={pod.name}"})
            found = [item for page in pages for item in page.items]
            now = read_pod(found[0]) if found else None
        except ApiError as error:
            self._failed("ask", error, pod.target_name)
            if _worth_a_retry(error):
                with self._news:
                    self._questions.setdefault(pod.cgroup_uid, pod)
                raise
            return  # what is known of it stays in force, until the pods are listed anew
        except msgspec.MsgspecError as error:
            self._log.warning("failed", operation="ask", target=pod.target_name, reason=str(error))
            return
        self._tell(PodFound(pod.cgroup_uid, now))

    def _known(self, pod: Pod) -> Condition | None:
        """What is on the pod: what was written last, unless the watch has shown it since."""
        written = self._written.get(pod.uid)
        if written is None:
            return pod.condition
        if time.monotonic() - written.at_seconds > _SETTLE_SECONDS or _same(
            written.condition, pod.condition
        ):
            del self._written[pod.uid]
            return pod.condition
        return written.condition

    def _failed(self, operation: str, error: ApiError, target: str) -> None:
        if error.status in _GONE:
            return
        self._count_error(operation)
        if not _worth_a_retry(error):
            self._log.warning("failed", operation=operation, target=target, reason=str(error)[:300])


def _same(a: Condition | None, b: Condition | None) -> bool:
    return b is None if a is None else a.says(b)


def _worth_a_retry(error: ApiError) -> bool:
    return error.status in _OURS_TO_RETRY or error.status >= 500
