"""The daemon's verbs: observe, plan, execute, one request or one resync at a time."""

import threading
import time
from collections.abc import Callable, Iterator

from contract.api import TargetRequest
from contract.problems import Problem
from contract.requests import parse_limits
from enforcer.actions import Action, Attach, Forget, Replace, SetLimits, Shape
from enforcer.errors import DatapathError, RefusedError
from enforcer.execute import describe, execute
from enforcer.observe import observe
from enforcer.plan import plan
from enforcer.ports import Datapath, Log, Network
from enforcer.relook import Relook
from enforcer.state import Observation, Target, TargetCounters
from enforcer.store import TargetStore
from enforcer.targets import KEY, CgroupTree, Resolved, cgroup_id, is_pod
from enforcer.unsupported import UnsupportedNetwork
from enforcer.ways import Bypass, Way, ingress_way, with_way

_NO_WAY = Way(False)
_DRIFT = (Attach, Replace, SetLimits)
_BREATH_SECONDS = 0.002


class Daemon:
    """Holds the desired targets in force. Safe to call from several threads.

    ``count_error`` is told the name of each operation that failed. With ``follows_pods``, targets
    named ``pod:…`` are what the API server asks for (see ``pod_loop``), and requests leave their
    cgroups alone: two sources of one limit would undo each other.
    """

    def __init__(
        self,
        datapath: Datapath,
        cgroups: CgroupTree,
        store: TargetStore,
        log: Log,
        count_error: Callable[[str], None],
        *,
        network: Network | None = None,
        follows_pods: bool = False,
    ) -> None:
        self._datapath = datapath
        self._network = network or UnsupportedNetwork("nothing looks after interfaces here")
        self._ways: dict[str, Way] = {}
        self._bypass = Bypass()
        self._relook = Relook()
        self._cgroups = cgroups
        self._store = store
        self._log = log
        self._count_error = count_error
        self._follows_pods = follows_pods
        self._lock = threading.Lock()
        self._complaints: dict[str, str] = {}

    def adopt(self) -> tuple[Target, ...]:
        """Take over what an earlier daemon left, and repair what differs.

        Returns the targets as they were left, with those whose cgroup is gone by now.
        """
        with self._lock:
            for path, reason in self._store.load().items():
                self._count_error("load")
                self._log.warning("refused", cause="restart", file=str(path), reason=reason)
            targets = self._store.all()
        for target in targets:
            if self._repair(target, "restart") == ():
                self._log.info("adopted", target=target.name, **describe(target.limits))
        try:
            if not self._complaints:
                with self._lock:
                    self._datapath.prune()
        except (DatapathError, OSError) as error:
            self._complain("prune", str(error))
        return targets

    def resync(self) -> frozenset[str]:
        """Forget removed cgroups, and put back what someone took off.

        Returns the paths of the cgroups where something had to be put back.
        """
        repaired = set()
        for target in self.targets():
            # An interface that came late is no repair; one that lost what was on it is.
            was_shaped = self._ways.get(target.cgroup_path, _NO_WAY).is_shaped
            drift = (*_DRIFT, Shape) if was_shaped else _DRIFT
            done = self._repair(target, "resync") or ()
            if any(isinstance(action, drift) for action in done):
                repaired.add(target.cgroup_path)
            # Taken again at once, the lock would never come to who waits for it: a new pod.
            time.sleep(_BREATH_SECONDS)
        return frozenset(repaired)

    def hold(self, target: Target, cause: str) -> TargetCounters:
        """Put a pod's limits in force; how they are held. Raises DatapathError, OSError.

        When it raises, nothing has changed.
        """
        with self._lock:
            before = self._store.get(target.cgroup_path)
            if before is not None and before.name != target.name:
                self._log.info("overruled", target=before.name, by=target.name)
            try:
                if before != target:
                    self._store.save(target)
                self._converge(target, cause)
                return self._count(target)
            except (DatapathError, OSError):
                if _alive(target):
                    self._count_error("attach")
                self._restore(target, before)
                raise

    def refresh(self, target: Target, cause: str) -> None:
        """Look again at what is around a target: its interfaces, or whether it is still there."""
        self._repair(target, cause)

    def release(self, target: Target, cause: str) -> None:
        """Take a pod's limits off. Raises DatapathError, OSError; then they are in force."""
        with self._lock:
            if self._store.get(target.cgroup_path) != target:
                return
            if not _alive(target):
                self._converge(target, cause)
                return
            self._let_go(target, cause)

    def counters_of(self, target: Target) -> TargetCounters:
        """One target's counters. Raises DatapathError."""
        with self._lock:
            return self._count(target)

    def tend(self) -> None:
        """The datapath's periodic work."""
        try:
            with self._lock:
                self._datapath.tend(self._store.all())
        except (DatapathError, OSError) as error:
            self._complain("tend", str(error))
        else:
            self._complaints.pop("tend", None)
        with self._lock:
            due = self._relook.due()
        for path in due:
            with self._lock:
                target = self._store.get(path)
            if target is None:
                self._relook.forget(path)
            else:
                self._repair(target, "started")

    def targets(self) -> tuple[Target, ...]:
        """Every target, sorted by name."""
        with self._lock:
            return self._store.all()

    def set_target(self, name: str, request: TargetRequest) -> tuple[Target, TargetCounters]:
        """Set or change limits. Raises ``RefusedError``; then nothing has changed."""
        limits = parse_limits(request)
        resolved = self._cgroups.resolve(name)
        problems = limits if isinstance(limits, tuple) else ()
        if isinstance(resolved, Problem):
            raise self._refuse(name, 422 if problems else 404, resolved, *problems)
        if isinstance(limits, tuple):
            raise self._refuse(name, 422, *limits)
        target = Target(resolved.name, resolved.cgroup_path, resolved.cgroup_id, limits)
        with self._lock:
            before = self._store.get(target.cgroup_path)
            self._leave_to_its_pod(name, before)
            try:
                self._store.save(target)
                self._converge(target, "request")
            except (DatapathError, OSError) as error:
                self._restore(target, before)
                raise self._cannot("attach", name, error) from error
            return self._with_counters(target)

    def remove_target(self, name: str) -> None:
        """Take the limits off. Raises ``RefusedError``; then they are still in force."""
        with self._lock:
            target = self._find(name)
            self._leave_to_its_pod(name, target)
            try:
                self._let_go(target, "request")
            except (DatapathError, OSError) as error:
                raise self._cannot("detach", name, error) from error

    def show_target(self, name: str) -> tuple[Target, TargetCounters]:
        """One target and its counters. Raises ``RefusedError``."""
        with self._lock:
            return self._with_counters(self._find(name))

    def counters(
        self, wanted: Callable[[Target], bool] = lambda _: True
    ) -> Iterator[tuple[Target, TargetCounters]]:
        """The targets that are there, with their counters; the lock is free between two."""
        for target in filter(wanted, self.targets()):
            try:
                with self._lock:
                    if self._store.get(target.cgroup_path) != target or not _alive(target):
                        continue
                    counters = self._count(target)
            except DatapathError as error:
                self._complain("counters", str(error), target)
            else:
                yield target, counters

    def _converge(self, target: Target, cause: str) -> tuple[Action, ...]:
        """Observe, plan, execute for one target; what was done."""
        path = target.cgroup_path
        observation = self._observe(target)
        actions = plan({path: target}, {path: observation})
        way = ingress_way(target, observation)
        for action in actions:
            try:
                self._execute(action, cause)
            except DatapathError as error:
                if not isinstance(action, Shape):
                    raise
                # The programs on the cgroup hold the limit; the next look tries again.
                self._complain("shape", str(error), target)
                self._datapath.set_limits(target)
                way = Way(False, str(error))
        if any(isinstance(action, Forget) for action in actions):
            self._forget(path)
            return actions
        self._ways[path] = way
        has_ingress = target.limits.ingress is not None and observation.cgroup_id is not None
        self._relook.found(path, settled=way.is_shaped or not has_ingress)
        return actions

    def _observe(self, target: Target) -> Observation:
        path = target.cgroup_path
        observation = observe(self._datapath, self._network, (path,))[path]
        if not self._ways.get(path, _NO_WAY).is_shaped or observation.attachment is None:
            return self._bypass.known(path, observation)
        shaper = self._network.counters(target.cgroup_id)
        counted = self._datapath.counters(target).ingress
        return self._bypass.noted(path, observation, shaper, counted)

    def _let_go(self, target: Target, cause: str) -> None:
        for action in plan({}, observe(self._datapath, self._network, (target.cgroup_path,))):
            self._execute(action, cause)
        self._forget(target.cgroup_path)
        self._store.remove(target)

    def _forget(self, path: str) -> None:
        """Keep nothing of a target that is none any more."""
        self._ways.pop(path, None)
        self._bypass.forget(path)
        self._relook.forget(path)

    def _execute(self, action: Action, cause: str) -> None:
        execute(
            action,
            cause,
            datapath=self._datapath,
            network=self._network,
            store=self._store,
            log=self._log,
        )

    def _count(self, target: Target) -> TargetCounters:
        way = self._ways.get(target.cgroup_path)
        return with_way(
            self._datapath.counters(target), way, self._network.counters(target.cgroup_id)
        )

    def _repair(self, target: Target, cause: str) -> tuple[Action, ...] | None:
        """Converge without being asked: failures are logged, once, and tried again."""
        try:
            with self._lock:
                if self._store.get(target.cgroup_path) != target:
                    return None
                done = self._converge(target, cause)
        except (DatapathError, OSError) as error:
            if _alive(target):  # else it was removed meanwhile, which the next look finds
                self._complain(cause, str(error), target)
            return None
        self._complaints.pop(f"{cause} {target.cgroup_path}", None)
        return done

    def _with_counters(self, target: Target) -> tuple[Target, TargetCounters]:
        try:
            return target, self._count(target)
        except DatapathError as error:
            raise self._cannot("count", target.name, error) from error

    def _restore(self, target: Target, before: Target | None) -> None:
        self._store.remove(target)
        if before is not None:
            self._store.save(before)

    def _find(self, name: str) -> Target:
        """By cgroup, else by the name it was set with: a pid may be dead, its cgroup alive."""
        resolved = self._cgroups.resolve(name)
        target = self._store.by_name(name)
        if isinstance(resolved, Resolved):
            target = self._store.get(resolved.cgroup_path) or target
        if target is not None and _alive(target):
            return target
        if target is not None:
            self._converge(target, "request")
        if isinstance(resolved, Problem):
            raise RefusedError(404, resolved)
        raise RefusedError(
            404,
            Problem(KEY, name, "has no limit", "list those that have with: podpace list"),
        )

    def _leave_to_its_pod(self, name: str, target: Target | None) -> None:
        """Raises ``RefusedError`` when the API server says what this target's limits are."""
        if self._follows_pods and target is not None and is_pod(target):
            raise self._refuse(
                name,
                409,
                Problem(
                    KEY,
                    name,
                    f"is limited by the labels of {target.name}",
                    "change its bandwidth annotations with kubectl annotate",
                ),
            )

    def _cannot(self, operation: str, name: str, error: Exception) -> RefusedError:
        self._count_error(operation)
        return self._refuse(
            name, 409, Problem(KEY, name, f"failed to {operation}: {error}", "try again after that")
        )

    def _refuse(self, name: str, status: int, *problems: Problem) -> RefusedError:
        self._log.warning("refused", target=name, problems=[str(p) for p in problems])
        return RefusedError(status, *problems)

    def _complain(self, operation: str, reason: str, target: Target | None = None) -> None:
        """Count each failure, but log it only when it is not the one logged last."""
        self._count_error(operation)
        key = operation if target is None else f"{operation} {target.cgroup_path}"
        if self._complaints.get(key) != reason:
            self._complaints[key] = reason
            fields = {} if target is None else {"target": target.name}
            self._log.warning("failed", operation=operation, reason=reason, **fields)


def _alive(target: Target) -> bool:
    return cgroup_id(target.cgroup_path) == target.cgroup_id
