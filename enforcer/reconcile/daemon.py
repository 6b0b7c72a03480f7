"""What the daemon does of itself and for its pods; requests of clients are in requests.py."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Log
from enforcer.reconcile.actions import Action, Attach, Replace, SetLimits, Shape
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.execute import describe
from enforcer.reconcile.holder import Holder
from enforcer.reconcile.store import TargetStore
from enforcer.state import Target, TargetCounters
from enforcer.targets import is_alive

TEND_SECONDS: Final = 0.1
RESYNC_SECONDS: Final = 10.0
_BREATH_SECONDS: Final = 0.002
_DRIFT: Final = (Attach, Replace, SetLimits)


def ignore(_cgroup_path: str) -> None:
    """``looked`` for a daemon without pods."""


class Daemon:
    """Holds the desired targets in force. Safe to call from several threads.

    ``looked`` is told the cgroup path of each target that, at a look nobody asked for, was found
    to be held in another way than before, or that will not be looked at again soon.
    """

    def __init__(
        self,
        holder: Holder,
        datapath: Datapath,
        store: TargetStore,
        log: Log,
        complaints: Complaints,
        *,
        looked: Callable[[str], None],
    ) -> None:
        self._holder = holder
        self._datapath = datapath
        self._store = store
        self._log = log
        self._complaints = complaints
        self._looked = looked

    def adopt(self) -> tuple[Target, ...]:
        """Take over what an earlier daemon left, and repair what differs. Call it first.

        Returns the targets as they were left, with those whose cgroup is gone by now.
        """
        for path, reason in self._store.load().items():
            self._complaints.count("load")
            self._log.warning("refused", cause="restart", file=str(path), reason=reason)
        targets = self._store.all()
        for target in targets:
            if self._repair(target, "restart") == ():
                self._log.info("adopted", target=target.name, **describe(target.limits))
        try:
            if not self._complaints:
                self._datapath.prune()
        except (DatapathError, OSError) as error:
            self._complaints.failed("prune", str(error))
        return targets

    def resync(self) -> frozenset[str]:
        """Forget removed cgroups, and put back what someone took off.

        Returns the paths of the cgroups where something had to be put back.
        """
        repaired = set()
        for target in self.targets():
            # An interface that came late is no repair; one that lost what was on it is.
            before = self._holder.way(target.cgroup_path)
            drift = (*_DRIFT, Shape) if before.is_shaped else _DRIFT
            done = self._repair(target, "resync") or ()
            if self._holder.way(target.cgroup_path) != before:
                self._looked(target.cgroup_path)
            if any(isinstance(action, drift) for action in done):
                repaired.add(target.cgroup_path)
            # The interpreter runs one thread at a time: a new pod need not wait for all the rest.
            time.sleep(_BREATH_SECONDS)
        return frozenset(repaired)

    def hold(self, target: Target, cause: str) -> TargetCounters:
        """Put a pod's limits in force; how they are held. Raises DatapathError, OSError.

        When it raises, nothing has changed.
        """
        with self._holder.lock(target.cgroup_path):
            before = self._store.get(target.cgroup_path)
            if before is not None and before.name != target.name:
                self._log.info("overruled", target=before.name, by=target.name)
            try:
                if before != target:
                    self._store.save(target)
                self._holder.converge(target, cause)
                return self._holder.count(target)
            except (DatapathError, OSError):
                if is_alive(target):
                    self._complaints.count("attach")
                self._store.restore(target, before)
                raise

    def refresh(self, target: Target, cause: str) -> None:
        """Look again at what is around a target: its interfaces, or whether it is still there."""
        path = target.cgroup_path
        before = self._holder.way(path)
        self._repair(target, cause)
        if self._holder.way(path) != before or not self._holder.relook.waits_for(path):
            self._looked(path)

    def release(self, target: Target, cause: str) -> None:
        """Take a pod's limits off. Raises DatapathError, OSError; then they are in force."""
        with self._holder.lock(target.cgroup_path):
            if self._store.get(target.cgroup_path) != target:
                return
            if not is_alive(target):
                self._holder.converge(target, cause)
                return
            self._holder.let_go(target, cause)

    def is_settled(self, target: Target) -> bool:
        """Whether it is held as well as it will be, as far as anybody can tell by now."""
        return not self._holder.relook.waits_for(target.cgroup_path)

    def counters_of(self, target: Target) -> TargetCounters:
        """One target's counters. Raises DatapathError."""
        with self._holder.lock(target.cgroup_path):
            return self._holder.count(target)

    def tend(self) -> None:
        """The datapath's periodic work, and a look at what is still coming up."""
        try:
            self._datapath.tend(self._when_asked())
        except (DatapathError, OSError) as error:
            self._complaints.failed("tend", str(error))
        else:
            self._complaints.worked("tend")
        for path in self._holder.relook.due():
            target = self._store.get(path)
            if target is None:
                self._holder.relook.forget(path)
            else:
                self.refresh(target, "started")

    def targets(self) -> tuple[Target, ...]:
        """Every target, sorted by name."""
        return self._store.all()

    def counters(
        self, wanted: Callable[[Target], bool] = lambda _: True
    ) -> Iterator[tuple[Target, TargetCounters]]:
        """The targets that are there, with their counters."""
        for target in filter(wanted, self.targets()):
            try:
                with self._holder.lock(target.cgroup_path):
                    if self._store.get(target.cgroup_path) != target or not is_alive(target):
                        continue
                    counters = self._holder.count(target)
            except DatapathError as error:
                self._complaints.failed("counters", str(error), target)
            else:
                yield target, counters

    def _when_asked(self) -> Iterator[Target]:
        """Ten times a second nobody asks, and sorting 500 is not for nothing."""
        yield from self._store.all()

    def _repair(self, target: Target, cause: str) -> tuple[Action, ...] | None:
        """Converge without being asked: failures are logged, once, and tried again."""
        try:
            with self._holder.lock(target.cgroup_path):
                if self._store.get(target.cgroup_path) != target:
                    return None
                done = self._holder.converge(target, cause)
        except (DatapathError, OSError) as error:
            if is_alive(target):  # else it was removed meanwhile, which the next look finds
                self._complaints.failed(cause, str(error), target)
            return None
        self._complaints.worked(cause, target)
        return done
