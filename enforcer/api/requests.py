"""What clients ask for through the control socket: set, remove, show."""

from contract.api import TargetRequest
from contract.problems import Problem
from contract.requests import parse_limits
from enforcer.errors import DatapathError, RefusedError
from enforcer.ports import Log
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.holder import Holder
from enforcer.reconcile.store import TargetStore
from enforcer.state import Target, TargetCounters
from enforcer.targets import KEY, CgroupTree, Resolved, is_alive, is_pod


class Requests:
    """Safe to call from several threads.

    With ``follows_pods``, targets named ``pod:…`` are what the API server asks for (see
    ``pod_loop``), and requests leave their cgroups alone: two sources of one limit would undo each
    other.
    """

    def __init__(
        self,
        holder: Holder,
        cgroups: CgroupTree,
        store: TargetStore,
        log: Log,
        complaints: Complaints,
        *,
        follows_pods: bool = False,
    ) -> None:
        self._holder = holder
        self._cgroups = cgroups
        self._store = store
        self._log = log
        self._complaints = complaints
        self._follows_pods = follows_pods

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
        with self._holder.lock(target.cgroup_path):
            before = self._store.get(target.cgroup_path)
            self._leave_to_its_pod(name, before)
            try:
                self._store.save(target)
                self._holder.converge(target, "request")
            except (DatapathError, OSError) as error:
                self._store.restore(target, before)
                raise self._cannot("attach", name, error) from error
            return self._with_counters(target)

    def remove_target(self, name: str) -> None:
        """Take the limits off. Raises ``RefusedError``; then they are still in force."""
        target = self._find(name)
        with self._holder.lock(target.cgroup_path):
            self._leave_to_its_pod(name, target)
            if self._store.get(target.cgroup_path) != target:
                raise _without_limit(name)  # somebody else was faster
            try:
                self._holder.let_go(target, "request")
            except (DatapathError, OSError) as error:
                raise self._cannot("detach", name, error) from error

    def show_target(self, name: str) -> tuple[Target, TargetCounters]:
        """One target and its counters. Raises ``RefusedError``."""
        target = self._find(name)
        with self._holder.lock(target.cgroup_path):
            return self._with_counters(target)

    def _with_counters(self, target: Target) -> tuple[Target, TargetCounters]:
        try:
            return target, self._holder.count(target)
        except DatapathError as error:
            raise self._cannot("count", target.name, error) from error

    def _find(self, name: str) -> Target:
        """By cgroup, else by the name it was set with: a pid may be dead, its cgroup alive."""
        resolved = self._cgroups.resolve(name)
        target = self._store.by_name(name)
        if isinstance(resolved, Resolved):
            target = self._store.get(resolved.cgroup_path) or target
        if target is not None and is_alive(target):
            return target
        if target is not None:
            with self._holder.lock(target.cgroup_path):
                self._holder.converge(target, "request")
        raise RefusedError(404, resolved) if isinstance(resolved, Problem) else _without_limit(name)

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
        self._complaints.count(operation)
        return self._refuse(
            name, 409, Problem(KEY, name, f"failed to {operation}: {error}", "try again after that")
        )

    def _refuse(self, name: str, status: int, *problems: Problem) -> RefusedError:
        self._log.warning("refused", target=name, problems=[str(p) for p in problems])
        return RefusedError(status, *problems)


def _without_limit(name: str) -> RefusedError:
    return RefusedError(
        404, Problem(KEY, name, "has no limit", "list those that have with: podpace list")
    )
