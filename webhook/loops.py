"""Loops in the background: one thread each, none of which dies or hangs unseen."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from kube.errors import ApiError
from webhook.errors import WebhookError
from webhook.metrics import Metrics

log = structlog.stdlib.get_logger()

_BACKOFF_BASE_SECONDS: Final = 0.5
_BACKOFF_CAP_SECONDS: Final = 30.0
STALE_SECONDS: Final = 180.0
"""A loop that gives no sign of life for so long hangs: twice what a silent watch is waited for."""
FAULTY_SECONDS: Final = 120.0
"""A loop that fails for so long by our own fault may be helped by a restart."""
_BEAT_SECONDS: Final = 1.0
_EXPECTED: Final = (ApiError, WebhookError, OSError)
"""What comes from outside, and may come for hours: a restart would mend nothing."""


class Loop:
    """One loop and how it is. :meth:`start` it with what it does."""

    def __init__(
        self,
        name: str,
        metrics: Metrics,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        vital: bool = True,
    ) -> None:
        self.name = name
        self.vital = vital
        """Whether the process is worth starting anew for it."""
        self._stop = stop
        self._monotonic = monotonic
        self._succeeded = metrics.loop_success.labels(name)
        self._failures = metrics.loop_failures.labels(name)
        self._thread: threading.Thread | None = None
        self._alive_until = monotonic()
        """Up to then it may be silent: it waits, or it was heard of at that moment."""
        self._failing_since: float | None = None
        self._failure = ""
        self._ours = False
        """Whether it fails by a fault of ours."""

    def progress(self) -> None:
        """Tells, from within a step, that it goes well; for steps that take minutes."""
        self._alive_until = self._monotonic()
        self._failing_since = None
        self._succeeded.set_to_current_time()

    def start(self, step: Callable[[], float | None]) -> threading.Thread:
        """Calls ``step`` until the end; it returns how many seconds to wait before the next call.

        A failed step, whatever failed in it, is logged, counted and tried again after a random part
        of a growing pause, so that replicas do not come in step.
        """
        self._alive_until = self._monotonic()
        self._thread = threading.Thread(target=self._run, args=(step,), name=self.name, daemon=True)
        self._thread.start()
        return self._thread

    async def watch_over(self) -> None:
        """Tells as long as it is run that the calling thread's event loop turns."""
        self._thread = threading.current_thread()
        while True:
            self.progress()
            await asyncio.sleep(_BEAT_SECONDS)

    def fault(self) -> str | None:
        """Why the process should be started anew; None when it should not."""
        now = self._monotonic()
        if self._stop.is_set() or self._thread is None:
            return None
        if not self._thread.is_alive():
            return f"{self.name}: its thread is dead"
        silent = now - self._alive_until
        if silent > STALE_SECONDS:
            return f"{self.name}: no sign of life for {silent:.0f} s"
        since = self._failing_since
        if self._ours and since is not None and now - since > FAULTY_SECONDS:
            return f"{self.name}: fails for {now - since:.0f} s: {self._failure}"
        return None

    def line(self) -> str:
        """How it is, for people."""
        since = self._failing_since
        if since is not None:
            return f"{self.name}: fails for {self._monotonic() - since:.0f} s: {self._failure}"
        return self.fault() or f"{self.name}: ok"

    def _run(self, step: Callable[[], float | None]) -> None:
        failures = 0
        while not self._stop.is_set():
            started = self._monotonic()
            try:
                pause = step() or 0.0
                failures = 0
                self.progress()
            except Exception as error:
                # A step that had worked for minutes, as a watch does, begins to fail only now.
                failures = 1 if self._failing_since is None else failures + 1
                pause = self._failed(error, failures, started)
            self._alive_until = self._monotonic() + pause
            self._stop.wait(pause)

    def _failed(self, error: Exception, failures: int, started: float) -> float:
        """Tells of it; returns how long to wait."""
        self._ours = not isinstance(error, _EXPECTED)
        self._failure = (repr(error) if self._ours else str(error))[:300]
        if self._failing_since is None:
            self._failing_since = max(started, self._alive_until)
        self._failures.inc()
        ceiling = min(_BACKOFF_CAP_SECONDS, _BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 16))
        pause = random.uniform(0, ceiling)  # noqa: S311 - spreads load, keeps no secret
        pause += getattr(error, "retry_after_seconds", 0.0)
        tell = log.error if self._ours else log.warning
        tell(
            f"{self.name} failed",
            reason=self._failure,
            retry_in_seconds=round(pause, 2),
            exc_info=error if self._ours and failures == 1 else None,
        )
        return pause


@dataclass
class Loops:
    """All loops of this process."""

    metrics: Metrics
    stop: threading.Event = field(default_factory=threading.Event)
    _all: list[Loop] = field(default_factory=list)

    def add(self, name: str, *, vital: bool = True) -> Loop:
        """One that is not started yet."""
        loop = Loop(name, self.metrics, self.stop, vital=vital)
        self._all.append(loop)
        return loop

    def faults(self) -> list[str]:
        """Why the process should be started anew: what ``/livez`` fails with."""
        return [fault for loop in self._all if loop.vital and (fault := loop.fault())]

    def lines(self) -> list[str]:
        """How each loop is."""
        return [loop.line() for loop in self._all]
