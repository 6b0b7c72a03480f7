"""What changes anything: takes keys, has each looked at, and lets none end it.

Two threads do that, never for one key at once; see :meth:`Worker.run_urgent`.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Log, Network
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.work_queue import RESYNC, Urgency, WorkQueue
from enforcer.state import Target

RESYNC_SECONDS: Final = 10.0
_TEND_SECONDS: Final = 0.1
_REST_SECONDS: Final = 1.0
"""Where the programs have told of no socket for a while, they are asked this seldom: ten times a
second cost an idle daemon more than everything else. Until a socket is paced its bucket holds."""
_REQUEST: Final = "request"
_RESYNC_KEY: Final = "*resync"
_TEND_KEY: Final = "*tend"
_LINK_SECONDS: Final = 10.0
_STUCK_SECONDS: Final = 60.0
"""Nothing that is done for one key takes so long: most take a millisecond, and one that waits for
other changes of interfaces some tens of them."""
T = TypeVar("T")


class Pods(Protocol):
    """Those who follow pods; ``pods.pod_loop.PodLoop`` is the real one."""

    def sync(self, key: str, causes: Iterable[str]) -> bool:
        """Act on what was told of one pod, and look at it; False: it is to be tried again."""
        ...

    def keys(self) -> Iterable[str]:
        """Every pod that is known."""
        ...


class Worker:
    """:meth:`run` and :meth:`run_urgent` are the threads; the rest may be called from any."""

    def __init__(
        self,
        reconciler: Reconciler,
        queue: WorkQueue,
        *,
        datapath: Datapath,
        network: Network,
        log: Log,
        complaints: Complaints,
        pods: Pods | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reconciler = reconciler
        self._datapath = datapath
        self._network = network
        self._queue = queue
        self._log = log
        self._complaints = complaints
        self._pods = pods
        self._asked: defaultdict[str, deque[tuple[Callable[[], Any], Future[Any]]]]
        self._asked = defaultdict(deque)
        self._lock = threading.Lock()
        self._tend_seconds = _TEND_SECONDS
        self._clock = clock
        self._at_work: dict[str, float] = {}

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` and :meth:`WorkQueue.close`; what has begun is finished."""
        self._queue.add_after(_RESYNC_KEY, RESYNC, RESYNC_SECONDS)
        self._queue.add_after(_TEND_KEY, "tend", _TEND_SECONDS)
        while not stopping.is_set():
            self.step()

    def run_urgent(self, stopping: threading.Event) -> None:
        """The same beside it, for what cannot wait until the kernel has changed an interface.

        That takes 10 to 50 ms on a node where pods come and go, and a new pod needs no interface.
        """
        while not stopping.is_set():
            self.step(up_to=Urgency.NOW)

    def step(self, timeout_seconds: float | None = None, *, up_to: Urgency = Urgency.LATER) -> bool:
        """Take one key, waiting for one; False when none came in time."""
        item = self._queue.get(timeout_seconds, up_to=up_to)
        if item is None:
            return False
        key, causes = item
        self._at_work[key] = self._clock()
        try:
            well = self._sync(key, causes)
        except Exception as error:
            # One odd target must not hold up the others.
            self._complaints.count("fault")
            self._log.error("fault", key=key, cause=causes[0], reason=repr(error)[:500])
            well = False
        if well:
            self._queue.worked(key)
        else:
            self._queue.failed(key, "retry")
        del self._at_work[key]
        self._queue.done(key)
        return True

    def stuck(self) -> str:
        """The key that has been worked on for far too long; empty for none."""
        since = self._clock() - _STUCK_SECONDS
        return next((key for key, begun in list(self._at_work.items()) if begun < since), "")

    def ask(self, key: str, job: Callable[[], T]) -> T:
        """Have ``job`` done when the worker comes to ``key``; its result, or what it raised."""
        return self.submit(key, job).result()

    def submit(self, key: str, job: Callable[[], T]) -> Future[T]:
        """The same without waiting. What somebody waits for comes before anything else."""
        future: Future[T] = Future()
        with self._lock:
            self._asked[key].append((job, future))
        self._queue.add(key, _REQUEST, Urgency.NOW)
        return future

    def watch_links(self) -> None:
        """Wait for interfaces to change, some seconds, and have those looked at whom that concerns.

        Run it again and again in a thread of its own.
        """
        paths = self._network.changed(_LINK_SECONDS)
        if paths is None:
            paths = frozenset(target.cgroup_path for target in self._reconciler.targets())
        for path in paths:
            self._reconciler.put(path, "link change")

    def _sync(self, key: str, causes: tuple[str, ...]) -> bool:
        if key == _RESYNC_KEY:
            return self._resync()
        if key == _TEND_KEY:
            return self._tend()
        if causes != (RESYNC,):
            self._tend_seconds = _TEND_SECONDS  # what has changed may have older sockets
        self._do_what_was_asked(key)
        causes = tuple(cause for cause in causes if cause != _REQUEST)
        if not causes:
            return True
        if not key.startswith("/"):
            return self._pods is None or self._pods.sync(key, causes)
        target = self._reconciler.get(key)
        return target is None or self._reconciler.look(target, causes[0]).well

    def _do_what_was_asked(self, key: str) -> None:
        while True:
            with self._lock:
                waiting = self._asked.get(key)
                if not waiting:
                    self._asked.pop(key, None)
                    return
                job, future = waiting.popleft()
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)

    def _resync(self) -> bool:
        """Have everything looked at: what nobody told of is found then."""
        self._queue.add_after(_RESYNC_KEY, RESYNC, RESYNC_SECONDS)
        self._reconciler.flush()
        self._reconciler.prune()
        keys = dict.fromkeys(map(self._reconciler.key, self._reconciler.targets()))
        for key in keys | dict.fromkeys(self._pods.keys() if self._pods is not None else ()):
            self._queue.add(key, RESYNC, Urgency.LATER)
        return True

    def _tend(self) -> bool:
        seconds = self._tend_seconds
        self._tend_seconds = min(2 * seconds, _REST_SECONDS)
        self._queue.add_after(_TEND_KEY, "tend", seconds)
        try:
            self._datapath.tend(self._when_asked())
        except (DatapathError, OSError) as error:
            self._complaints.failed("tend", str(error))
        else:
            self._complaints.worked("tend")
        return True

    def _when_asked(self) -> Iterator[Target]:
        """The datapath asks for them when the programs have told of something."""
        self._tend_seconds = _TEND_SECONDS
        yield from self._reconciler.targets()
