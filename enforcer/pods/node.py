"""The Kubernetes side of the daemon, put together: what its threads are and when they start."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from enforcer.kube.reflector import pod_watch
from enforcer.loops import start_loop
from enforcer.pods.cgroup_watch import CgroupWatch
from enforcer.pods.events import EventBook
from enforcer.pods.news import Looked, Resynced
from enforcer.pods.news_queue import NewsQueue
from enforcer.pods.pod_loop import PodLoop
from enforcer.pods.reports import Reports
from enforcer.ports import Log
from enforcer.reconcile.daemon import Daemon
from enforcer.state import Target
from kube.ports import Api


@dataclass
class Node:
    """Follows this node's pods. First :meth:`watch`, then, with a datapath, :meth:`follow`."""

    name: str
    api: Api
    log: Log
    count_error: Callable[[str], None]
    count_restart: Callable[[str], None]
    splay_seconds: float = 0.0
    """A random part of it passes before the first list: nodes that start together ask apart."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _news: NewsQueue = field(default_factory=NewsQueue)
    _loop: PodLoop | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to list and watch; what comes waits until there is a datapath."""
        watch = pod_watch(self.api, self.name, self._news.put, self.log, self.count_restart)
        self._start("watch pods", watch.step, self.splay_seconds)

    def follow(self, daemon: Daemon, adopted: Iterable[Target], cgroup_root: Path) -> None:
        """Limit the pods, from now on. ``adopted`` is what an earlier daemon left."""
        reports = Reports(
            self.api, EventBook(self.name), self.log, self.count_error, self._news.put
        )
        self._loop = PodLoop(daemon, reports, self._news, cgroup_root, self.log)
        self._loop.adopt(adopted)
        cgroups = CgroupWatch(cgroup_root, self._news.put, self.log)
        self._start("watch cgroups", lambda: cgroups.run(self.stopping))
        self._start("report", reports.step)
        self._start("limit pods", self._loop.step)

    def looked(self, cgroup_path: str) -> None:
        """The daemon has looked at this cgroup again."""
        self._news.put(Looked(cgroup_path))

    def resynced(self, repaired: frozenset[str]) -> None:
        """The daemon has looked at everything again."""
        self._news.put(Resynced(repaired))

    @property
    def listed(self) -> bool:
        """Whether the pods are known and their limits have been put in force once."""
        return self._loop is not None and self._loop.listed

    def counts(self) -> dict[str, int]:
        """Pods by condition reason."""
        return {} if self._loop is None else self._loop.counts()

    def stop(self) -> None:
        """Let the threads come to an end; what is being attached is finished."""
        self.stopping.set()
        for thread in self._threads[1:]:  # the first may be waiting for the API server
            thread.join(timeout=2)

    def _start(self, name: str, step: Callable[[], None], splay_seconds: float = 0.0) -> None:
        thread = start_loop(
            name, step, self.stopping, self.log, self.count_error, splay_seconds=splay_seconds
        )
        self._threads.append(thread)
