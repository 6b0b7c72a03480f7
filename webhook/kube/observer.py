"""What becomes of a watch: counted, logged, and told to its loop."""

import structlog

from kube.listwatch import Observer
from webhook.loops import Loop
from webhook.metrics import Metrics

log = structlog.stdlib.get_logger()


class WatchObserver(Observer):
    """Of one list-watch."""

    def __init__(self, metrics: Metrics, loop: Loop) -> None:
        self._metrics = metrics
        self._loop = loop

    def progress(self) -> None:
        """A watch is a step of minutes; a bookmark a minute says that it is alive."""
        self._loop.progress()

    def restarted(self, reason: str) -> None:
        """Ends are ordinary: watches are renewed every few minutes."""
        if reason != "ended":
            self._metrics.watch_restarts.labels(reason).inc()

    def unreadable(self, reason: str) -> None:
        """It is left out: what was known of it stays."""
        log.warning("object unreadable", loop=self._loop.name, reason=reason)
