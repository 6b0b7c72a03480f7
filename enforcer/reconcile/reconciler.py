"""Makes of one target what it should be: observe, plan, execute. The store says what should be."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from contract.names import Direction
from enforcer.errors import DatapathError
from enforcer.pods.cgroups import pod_uid
from enforcer.ports import Datapath, Log, Network, Shares
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.execute import describe, execute
from enforcer.reconcile.look import Look
from enforcer.reconcile.observe import Observer
from enforcer.reconcile.plan import Action, Forget, Shape, Write, is_same, plan
from enforcer.reconcile.process_watch import ProcessWatch
from enforcer.reconcile.store import TargetStore
from enforcer.reconcile.ways import way_of, with_way
from enforcer.reconcile.work_queue import RESYNC, Urgency, WorkQueue
from enforcer.state import Target, TargetCounters, Way, bound
from enforcer.targets import is_alive, is_pod

_STARTED: Final = "started"
_LOOKS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.1
"""A process may join its network namespace after its cgroup: a target whose interface is not found
is looked at so often, after pauses that double, and then with all the rest."""


class Reconciler:
    """What changes the kernel is called by the worker, for one target by one thread at a time.

    What only reads may be called by any: :meth:`count`, :meth:`counters`, :meth:`targets`.
    """

    def __init__(
        self,
        datapath: Datapath,
        network: Network,
        store: TargetStore,
        queue: WorkQueue,
        *,
        log: Log,
        complaints: Complaints,
        follows_pods: bool,
        sharing: Shares,
    ) -> None:
        self._datapath = datapath
        self._network = network
        self._store = store
        self._log = log
        self._complaints = complaints
        self._queue = queue
        self._follows_pods = follows_pods
        self._sharing = sharing
        self._ways: dict[str, Way] = {}
        self._observer = Observer(datapath, network)
        self._execute = partial(execute, datapath=datapath, network=network, store=store, log=log)
        self._looks_left: dict[str, int] = {}
        self._pruned = False
        self.processes = ProcessWatch(lambda path: self.put(path, "first process"))

    def key(self, target: Target) -> str:
        """Its key in the queue: a pod's uid, else the cgroup's path."""
        is_followed = self._follows_pods and is_pod(target)
        uid = pod_uid(target.cgroup_path.rpartition("/")[2]) if is_followed else None
        return uid or target.cgroup_path

    def put(self, cgroup_path: str, cause: str, urgency: Urgency = Urgency.SOON) -> None:
        """Have the target on this cgroup looked at. Safe to call from any thread."""
        target = self._store.get(cgroup_path)
        if target is not None:
            self._queue.add(self.key(target), cause, urgency)

    def adopt(self) -> tuple[Target, ...]:
        """Take over what an earlier daemon left, and repair what differs; interfaces come later.

        Returns the targets as they were left, with those whose cgroup is gone by now.
        """
        for path, reason in self._store.load().items():
            self._complaints.count("load")
            self._log.warning("refused", cause="restart", file=str(path), reason=reason)
        targets = self._store.all()
        self._sharing.adopt(targets)
        for target in targets:
            if self._is_in_force(target):
                self._queue.add(self.key(target), "restart", Urgency.LATER)
            elif not self.look(target, "restart").is_idle:
                continue
            self._log.info("adopted", target=target.name, **describe(target.limits))
        self.prune()
        return targets

    def _is_in_force(self, target: Target) -> bool:
        try:
            found = self._datapath.observe(target.cgroup_path) if is_alive(target) else None
        except Exception:
            found = None  # a closer look will say why
        limits = found.limits if found is not None and found.current else None
        return limits is not None and is_same(limits, target.limits)

    def prune(self) -> None:
        """Drop what earlier versions left, once every target has today's programs."""
        if self._pruned or self._complaints:
            return
        try:
            self._datapath.prune()
            self._pruned = True
        except (DatapathError, OSError) as error:
            self._complaints.failed("prune", str(error))

    def hold(self, target: Target, cause: str, *, must_keep: bool) -> None:
        """Put limits in force. Raises DatapathError, OSError; then nothing has changed.

        ``must_keep``: not without a file that a restart finds them by. A pod's are found without.
        """
        path, before = target.cgroup_path, self._store.get(target.cgroup_path)
        if before is not None and before.cgroup_id != target.cgroup_id:
            self._leave(before, cause)  # another cgroup that was made in its place
            before = None
        if before is not None and before.name != target.name:
            self._log.info("overruled", target=before.name, by=target.name)
        try:
            if before != target:
                self._save(target, must_keep=must_keep)
                self._sharing.admit(target)
            self._converge(target, cause)
        except Exception:
            if before is None:
                self._store.remove(target)
                self._forget(path)
            elif before != target:
                self._save(before, must_keep=False)
            raise

    def release(self, target: Target, cause: str) -> None:
        """Take a target's limits off. Raises DatapathError, OSError; then they are in force."""
        if self._store.get(target.cgroup_path) != target:
            return
        if not is_alive(target):
            self._converge(target, cause)
            return
        for action in plan(target.cgroup_path, None, self._observer.look(target)):
            self._execute(action, cause)
        self._forget(target.cgroup_path)
        self._store.remove(target)

    def look(self, target: Target, cause: str) -> Look:
        """Look at a target, and put right what is not as it should be.

        A cgroup that is gone is forgotten. What fails is told, and tried again after a pause.
        """
        path, before = target.cgroup_path, self.way(target.cgroup_path)
        if self._store.get(path) != target:
            return Look()
        if cause == RESYNC and self._waits_for_nothing(target) and self._observer.is_as_left(path):
            return Look(is_idle=True)
        if cause == _STARTED and self._looks_left.get(path):
            self._looks_left[path] -= 1
        try:
            done = self._converge(target, cause)
        except Exception as error:  # whatever it is, it is this target's, and nobody else's
            if not is_alive(target):  # it was removed meanwhile, which the next look finds
                return Look()
            reason = str(error) if isinstance(error, DatapathError | OSError) else repr(error)
            self._complaints.failed("reconcile", reason, target, cause=cause)
            return Look(well=False)
        self._complaints.worked("reconcile", target)
        # An interface that came late is no repair; one that lost what was on it is.
        drift = (Write, Shape) if before.is_shaped else Write
        repaired = any(isinstance(action, drift) for action in done)
        return Look(True, self.way(path) != before or repaired, repaired, not done)

    def is_settled(self, target: Target) -> bool:
        """Whether it is held as well as it will be, as far as anybody can tell by now."""
        return not self._looks_left.get(target.cgroup_path)

    def _waits_for_nothing(self, target: Target) -> bool:
        """Nothing is coming up, or has changed around it, that nobody would tell of."""
        if self.way(target.cgroup_path).unkept != self._sharing.unkept(target):
            return False
        return self.is_settled(target) or self.processes.watches(target.cgroup_path)

    def way(self, cgroup_path: str) -> Way:
        """How incoming traffic is held, as of the last look."""
        return self._ways.get(cgroup_path, Way(False))

    def get(self, cgroup_path: str) -> Target | None:
        """The target on this cgroup."""
        return self._store.get(cgroup_path)

    def by_name(self, name: str) -> Target | None:
        """The target of this name, also when its process or container is long gone."""
        return self._store.by_name(name)

    def targets(self) -> tuple[Target, ...]:
        """Every target, sorted by name."""
        return self._store.all()

    def count(self, target: Target) -> TargetCounters:
        """What the kernel counted, and how the limits are held. Raises DatapathError."""
        way = self._ways.get(target.cgroup_path)
        return with_way(
            self._datapath.counters(target), way, self._network.counters(target.cgroup_id)
        )

    def counters(
        self, wanted: Callable[[Target], bool] = lambda _: True
    ) -> Iterator[tuple[Target, TargetCounters]]:
        """The targets that are there, with their counters."""
        for target in filter(wanted, self.targets()):
            if not is_alive(target):
                continue
            try:
                counters = self.count(target)
            except DatapathError as error:
                if self._store.get(target.cgroup_path) == target:  # else it was taken off just now
                    self._complaints.failed("counters", str(error), target)
            else:
                self._complaints.worked("counters", target)
                yield target, counters

    def _converge(self, target: Target, cause: str) -> tuple[Action, ...]:
        path = target.cgroup_path
        mark = self._observer.mark(path)
        observation = self._observer.look_at(target, self.way(path))
        actions = plan(path, target, observation)
        way, shape_failed = way_of(target, observation), ""
        for action in actions:
            try:
                self._execute(action, cause)
            except DatapathError as error:
                if not isinstance(action, Shape):
                    raise
                # The programs on the cgroup hold the limit; the next look tries again.
                shape_failed = str(error)
                self._complaints.failed("shape", shape_failed, target)
                way = replace(way, is_shaped=False, why=shape_failed)
                self._datapath.write(target, way)
        if any(isinstance(action, Forget) for action in actions):
            self._forget(path)
            return actions
        if not shape_failed:
            self._complaints.worked("shape", target)
        self._ways[path] = replace(way, unkept=self._sharing.unkept(target))
        receives = bound(target.limits, Direction.INGRESS) is not None
        self._settle(target, settled=way.is_shaped or not receives)
        if not receives and not observation.surroundings.links:
            self.processes.waits(path)  # what it sends past its sockets is bounded then
        if not actions:
            self._observer.leave(path, mark)
        return actions

    def _settle(self, target: Target, *, settled: bool) -> None:
        """Look again soon at what is still coming up, or when its first process has come."""
        path = target.cgroup_path
        if settled:
            if self._looks_left.pop(path, None) is not None:
                self.processes.forget(path)
            return
        left = self._looks_left.setdefault(path, _LOOKS)
        if left and not self.processes.waits(path):
            pause = _FIRST_PAUSE_SECONDS * 2 ** (_LOOKS - left)
            self._queue.add_after(self.key(target), _STARTED, pause)

    def _leave(self, target: Target, cause: str) -> None:
        """Keep nothing of a cgroup that is gone, in whose place there is another."""
        try:
            self._execute(Forget(target), cause)
        except (DatapathError, OSError) as error:
            self._complaints.failed("forget", str(error), target)
        self._forget(target.cgroup_path)

    def _forget(self, path: str) -> None:
        """Keep nothing of a target that is none any more."""
        self._ways.pop(path, None)
        self._observer.forget(path)
        self._looks_left.pop(path, None)
        self.processes.forget(path)
        self._complaints.forget(path)
        self._queue.forget(path)

    def _save(self, target: Target, *, must_keep: bool) -> None:
        try:
            self._store.save(target)
        except OSError as error:
            if must_keep:
                raise
            self._complaints.failed("save", str(error))
            self._store.keep(target)

    def flush(self) -> None:
        """Write the files that could not be written."""
        try:
            self._store.flush()
        except OSError as error:
            self._complaints.failed("save", str(error))
        else:
            self._complaints.worked("save")
