"""What the metrics port serves, however many ask."""

import threading
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from enforcer.api.http import Answer, Request, Response

_FRESH_SECONDS: Final = 1.0
"""However many ask, and however often: a page costs one reading of the kernel in this time."""


class Page:
    """A registry as text. Safe to call from several threads; one of them reads the kernel."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._text = b""
        self._read_at = -_FRESH_SECONDS

    def response(self) -> Response:
        """As of a second ago at most."""
        with self._lock:
            if time.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._text = generate_latest(self._registry)
                self._read_at = time.monotonic()
            return Response(200, self._text, CONTENT_TYPE_LATEST)


def make_pages(
    registry: CollectorRegistry,
    of_pods: CollectorRegistry,
    is_ready: Callable[[], bool],
    stuck: Callable[[], str],
) -> Answer:
    """``/metrics``, ``/livez`` (targets are worked on) and ``/readyz`` (they are in force).

    ``stuck`` names the key that a worker does not come to an end with, see ``Worker.stuck``.
    ``/metrics/pods`` has the series of pods also where ``/metrics`` leaves them out: for somebody
    who looks at them now, not for a database that keeps those of 150,000 pods.
    """

    def live() -> Response:
        key = stuck()
        return _plain(503, f"stuck: {key}") if key else _plain(200, "ok")

    def ready() -> Response:
        return _plain(200, "ok") if is_ready() else _plain(503, "not ready")

    answers: dict[str, Callable[[], Response]] = {
        "/metrics": Page(registry).response,
        "/metrics/pods": Page(of_pods).response,
        "/livez": live,
        "/readyz": ready,
    }

    def answer(request: Request) -> Response:
        found = answers.get(request.path)
        if found is None:
            return _plain(404, f"no such page; there are {', '.join(answers)}")
        if request.method != "GET":
            return _plain(405, "only GET is served here")
        return found()

    return answer


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), "text/plain; charset=utf-8")
