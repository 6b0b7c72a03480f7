"""What clients ask for through the control socket: set, remove, show."""

from collections.abc import Callable
from typing import TypeVar

from contract.api import TargetRequest
from contract.problems import Problem
from contract.requests import parse_limits
from enforcer.errors import DatapathError, RefusedError
from enforcer.ports import Log
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.worker import Worker
from enforcer.state import Target, TargetCounters
from enforcer.targets import KEY, CgroupTree, Resolved, is_alive, is_pod

T = TypeVar("T")


class Requests:
    """Safe to call from several threads: whatever changes something is done by the worker.

    With ``follows_pods``, targets named ``pod:…`` are what the API server asks for (see
    ``pod_loop``), and requests leave their cgroups alone: two sources of one limit would undo each
    other.
    """

    def __init__(
        self,
        worker: Worker,
        reconciler: Reconciler,
        cgroups: CgroupTree,
        log: Log,
        complaints: Complaints,
        *,
        follows_pods: bool = False,
    ) -> None:
        self._worker = worker
        self._reconciler = reconciler
        self._cgroups = cgroups
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

        def hold() -> None:
            self._leave_to_its_pod(name, self._reconciler.get(target.cgroup_path))
            self._reconciler.hold(target, "request", must_keep=True)

        self._ask("attach", name, target, hold)
        return self._with_counters(target)

    def remove_target(self, name: str) -> None:
        """Take the limits off. Raises ``RefusedError``; then they are still in force."""
        target = self._find(name)

        def release() -> None:
            self._leave_to_its_pod(name, target)
            if self._reconciler.get(target.cgroup_path) != target:
                raise _without_limit(name)  # somebody else was faster
            self._reconciler.release(target, "request")

        self._ask("detach", name, target, release)

    def show_target(self, name: str) -> tuple[Target, TargetCounters]:
        """One target and its counters. Raises ``RefusedError``."""
        return self._with_counters(self._find(name))

    def _ask(self, operation: str, name: str, target: Target, job: Callable[[], T]) -> T:
        try:
            return self._worker.ask(target.cgroup_path, job)
        except (DatapathError, OSError) as error:
            raise self._cannot(operation, name, error) from error

    def _with_counters(self, target: Target) -> tuple[Target, TargetCounters]:
        try:
            return target, self._reconciler.count(target)
        except DatapathError as error:
            if self._reconciler.get(target.cgroup_path) != target:
                raise _without_limit(target.name) from error  # it was taken off just now
            raise self._cannot("count", target.name, error) from error

    def _find(self, name: str) -> Target:
        """By cgroup, else by the name it was set with: a pid may be dead, its cgroup alive."""
        resolved = self._cgroups.resolve(name)
        target = self._reconciler.by_name(name)
        if isinstance(resolved, Resolved):
            target = self._reconciler.get(resolved.cgroup_path) or target
        if target is not None and is_alive(target):
            return target
        if target is not None:
            gone = target
            self._worker.ask(gone.cgroup_path, lambda: self._reconciler.look(gone, "request"))
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
