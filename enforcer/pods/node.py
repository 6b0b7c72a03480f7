"""The Kubernetes side of the daemon, put together: what its threads are and when they start."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contract.names import Direction
from enforcer.kube.own_node import OwnNode, node_watch
from enforcer.kube.reflector import pod_watch
from enforcer.loops import start_loop
from enforcer.pods.cgroup_watch import CgroupWatch
from enforcer.pods.events import EventBook
from enforcer.pods.news import News, PodsListed
from enforcer.pods.pod_loop import PodLoop
from enforcer.pods.reports import Reports
from enforcer.ports import Log
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.work_queue import WorkQueue
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
    _early: list[News | PodsListed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loop: PodLoop | None = None

    def watch(
        self,
        tell_annotations: Callable[[Mapping[str, str]], None],
        tell_node: Callable[[OwnNode | None], None] | None = None,
    ) -> None:
        """Begin to list and watch; what comes of pods waits until there is a datapath.

        ``tell_annotations`` is told what our annotations of the Node say, and ``tell_node`` all
        that is read of it, and that it is gone.
        """
        watch = pod_watch(self.api, self.name, self._tell, self.log, self.count_restart)
        self._start("watch pods", watch.step, self.splay_seconds)

        def tell(node: OwnNode | None) -> None:
            # Of a Node that is gone holds what it said.
            if node is not None:
                tell_annotations(node.annotations)
            if tell_node is not None:
                tell_node(node)

        own = node_watch(self.api, self.name, tell, metadata_only=tell_node is None)
        self._start("watch node", own.step, self.splay_seconds)

    def follow(
        self,
        reconciler: Reconciler,
        queue: WorkQueue,
        adopted: Iterable[Target],
        cgroup_root: Path,
    ) -> PodLoop:
        """Limit the pods, from now on. ``adopted`` is what an earlier daemon left."""
        reports = Reports(self.api, EventBook(self.name), self.log, self.count_error, self._tell)
        loop = PodLoop(reconciler, reports, queue, cgroup_root, self.log)
        loop.adopt(adopted)
        with self._lock:
            self._loop = loop
            for news in self._early:
                loop.tell(news)
            self._early.clear()
        cgroups = CgroupWatch(cgroup_root, loop.tell, self.log)
        self._start("watch cgroups", lambda: cgroups.run(self.stopping))
        self._start("report", reports.step)
        return loop

    def _tell(self, news: News | PodsListed) -> None:
        with self._lock:
            if self._loop is None:
                self._early.append(news)
            else:
                self._loop.tell(news)

    @property
    def listed(self) -> bool:
        """Whether the pods are known and their limits have been put in force once."""
        return self._loop is not None and self._loop.listed

    def counts(self) -> dict[str, int]:
        """Pods by condition reason."""
        return {} if self._loop is None else self._loop.counts()

    def booked(self, direction: Direction) -> int:
        """What this node's pods have booked with the scheduler, in bits per second."""
        return 0 if self._loop is None else self._loop.booked(direction)

    def stop(self) -> None:
        """Let the threads come to an end; nobody need wait for them."""
        self.stopping.set()

    def _start(self, name: str, step: Callable[[], None], splay_seconds: float = 0.0) -> None:
        start_loop(
            name, step, self.stopping, self.log, self.count_error, splay_seconds=splay_seconds
        )
