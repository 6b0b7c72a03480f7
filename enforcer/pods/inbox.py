"""What was told of each pod and has not been acted on yet."""

import threading
from collections import deque

from enforcer.pods.news import News, PodChanged


class Inbox:
    """By the uid in the pod's cgroup's name, in the order in which it came.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, deque[News]] = {}

    def put(self, news: News) -> None:
        """Returns at once."""
        with self._lock:
            told = self._told.setdefault(news.uid, deque())
            if told and isinstance(news, PodChanged) and isinstance(told[-1], PodChanged):
                told.pop()  # the newer one says it all
            told.append(news)

    def take(self, uid: str) -> News | None:
        """The next of one pod."""
        with self._lock:
            told = self._told.get(uid)
            if not told:
                self._told.pop(uid, None)
                return None
            return told.popleft()

    def uids(self) -> frozenset[str]:
        """Of whom something was told."""
        with self._lock:
            return frozenset(self._told)
