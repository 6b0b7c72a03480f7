"""Loops in the background: one thread each, stopped by one event."""

import random
import threading
from collections.abc import Callable
from typing import Final

import structlog

from kube.errors import ApiError
from webhook.errors import WebhookError

log = structlog.stdlib.get_logger()

_BACKOFF_BASE_SECONDS: Final = 0.5
_BACKOFF_CAP_SECONDS: Final = 30.0


def start_loop(
    name: str,
    step: Callable[[], float | None],
    stop: threading.Event,
    on_error: Callable[[Exception], None] = lambda _: None,
) -> threading.Thread:
    """Calls ``step`` until ``stop``; it returns how many seconds to wait before the next call.

    A failed step is logged and tried again, after a random part of a growing pause, so that
    replicas do not come in step.
    """

    def run() -> None:
        failures = 0
        while not stop.is_set():
            try:
                pause = step() or 0.0
                failures = 0
            except (WebhookError, ApiError) as e:
                failures += 1
                ceiling = min(_BACKOFF_CAP_SECONDS, _BACKOFF_BASE_SECONDS * 2**failures)
                pause = random.uniform(0, ceiling)  # noqa: S311 - spreads load, keeps no secret
                log.warning(f"{name} failed", reason=str(e)[:300], retry_in_seconds=round(pause, 2))
                on_error(e)
            stop.wait(pause)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
