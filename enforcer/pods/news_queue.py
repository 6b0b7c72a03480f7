"""What the pod loop is to hear, the most urgent first."""

import itertools
from queue import Empty, PriorityQueue

from enforcer.pods.news import CgroupAppeared, CgroupPopulated, CgroupVanished, News


class NewsQueue:
    """Cgroups before pods, each in the order they came. Safe to use from several threads.

    A cgroup that appeared will have processes in some milliseconds, and is to be limited before;
    what is told of pods meanwhile is mostly that their status changed.
    """

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[bool, int, News]] = PriorityQueue()
        self._numbers = itertools.count()

    def put(self, news: News) -> None:
        """Returns at once."""
        can_wait = not isinstance(news, CgroupAppeared | CgroupPopulated | CgroupVanished)
        self._queue.put((can_wait, next(self._numbers), news))

    def get(self, timeout_seconds: float) -> News | None:
        """The next; None when none came in time."""
        try:
            return self._queue.get(timeout=timeout_seconds)[2]
        except Empty:
            return None
