"""Work in the background: one thread each, ended by one event."""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from enforcer.ports import Log
from kube.errors import ApiError

BACKOFF_BASE_SECONDS: Final = 0.5
BACKOFF_CAP_SECONDS: Final = 30.0
_WORKED_SECONDS: Final = 5.0
"""A step that fails after so long had worked: a watch never returns but by its end."""


def backoff_seconds(failures: int, at_least: float = 0.0) -> float:
    """Full jitter: a random part of a growing pause, so that nodes do not come in step."""
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 16))
    return at_least + random.uniform(0, ceiling)  # noqa: S311 - spreads load, keeps no secret


def start_loop(
    name: str,
    step: Callable[[], None],
    stopping: threading.Event,
    log: Log,
    count_error: Callable[[str], None],
    *,
    splay_seconds: float = 0.0,
) -> threading.Thread:
    """Calls ``step`` until ``stopping``, at first after a random part of ``splay_seconds``.

    A step that fails, by the API server's fault or by ours, is told and called again after a pause.
    """

    def run() -> None:
        failures = 0
        stopping.wait(random.uniform(0, splay_seconds))  # noqa: S311 - see backoff_seconds
        while not stopping.is_set():
            at_least, started = 0.0, time.monotonic()
            try:
                step()
                failures = 0
                continue
            except ApiError as error:
                reason, tell, at_least = str(error), log.warning, error.retry_after_seconds
            except Exception as error:
                reason, tell = repr(error), log.error
            failures = 1 if time.monotonic() - started > _WORKED_SECONDS else failures + 1
            count_error(name)
            pause = backoff_seconds(failures, at_least)
            tell("failed", operation=name, reason=reason[:300], retry_in_seconds=round(pause, 2))
            stopping.wait(pause)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
