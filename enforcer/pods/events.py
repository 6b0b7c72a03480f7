"""Events on pods, few of them: what repeats becomes one series. The clocks are passed in."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from contract.names import DOMAIN, EventReason
from enforcer.pods.budget import Budget
from enforcer.pods.pod import Pod

SERIES_SECONDS: Final = 600.0
"""What is said again within this time belongs to the same series; client-go takes 6 to 30 min."""
SERIES_PATCH_SECONDS: Final = 60.0
"""A series is written at most this often; repetitions in between are counted."""
PER_POD_BURST: Final = 5
PER_POD_REFILL_SECONDS: Final = 60.0
_REMEMBERED: Final = 1000
_NOTE_BYTES: Final = 1000
"""The API server refuses more than 1024."""
_WARNINGS: Final = frozenset({EventReason.DENIED, EventReason.FAILED})


@dataclass(frozen=True, slots=True)
class NewEvent:
    """POST this to the namespace's Events."""

    namespace: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesPatch:
    """PATCH this one: it happened again."""

    namespace: str
    name: str
    body: dict[str, Any]


EventWrite = NewEvent | SeriesPatch


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last_seconds: float
    written_seconds: float


class EventBook:
    """Decides which Events are written. Not thread-safe.

    ``instance`` tells enforcers apart: the node's name.
    """

    def __init__(self, instance: str, wall: Callable[[], float] = time.time) -> None:
        self._instance = instance
        self._wall = wall
        self._series: OrderedDict[tuple[str, str, str], _Series] = OrderedDict()
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def note(self, pod: Pod, reason: EventReason, text: str, now: float) -> EventWrite | None:
        """What to write about this; None: nothing now.

        ``now`` is in seconds of a clock that is never set: what may be said when is reckoned by it.
        """
        key = (pod.uid, reason, text)
        series = self._series.get(key)
        if series is not None and now - series.last_seconds < SERIES_SECONDS:
            return self._again(pod, series, now)
        if not self._spend(pod.uid, now):
            return None
        name = f"{pod.name[:200]}.{int(self._wall() * 1e6):x}"
        self._series[key] = _Series(name, 1, now, now)
        self._series.move_to_end(key)
        _trim(self._series)
        return NewEvent(pod.namespace, self._body(pod, name, reason, text))

    def forget(self, pod: Pod) -> None:
        """The pod is gone."""
        self._budgets.pop(pod.uid, None)
        for key in [key for key in self._series if key[0] == pod.uid]:
            del self._series[key]

    def _again(self, pod: Pod, series: _Series, now: float) -> SeriesPatch | None:
        series.count += 1
        series.last_seconds = now
        if now - series.written_seconds < SERIES_PATCH_SECONDS:
            return None
        series.written_seconds = now
        body = {"series": {"count": series.count, "lastObservedTime": micro_time(self._wall())}}
        return SeriesPatch(pod.namespace, series.name, body)

    def _spend(self, uid: str, now: float) -> bool:
        if uid not in self._budgets:
            self._budgets[uid] = Budget(PER_POD_BURST, PER_POD_REFILL_SECONDS, now)
            _trim(self._budgets)
        return self._budgets[uid].spend(now) == 0

    def _body(self, pod: Pod, name: str, reason: EventReason, text: str) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": pod.namespace},
            "eventTime": micro_time(self._wall()),
            "reportingController": f"{DOMAIN}/enforcer",
            "reportingInstance": self._instance[:128],
            "action": "LimitBandwidth",
            "reason": reason,
            "type": "Warning" if reason in _WARNINGS else "Normal",
            "note": text.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
        }


def micro_time(seconds: float) -> str:
    """The API's MicroTime: exactly six digits behind the point."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _trim(remembered: "OrderedDict[Any, Any]") -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
