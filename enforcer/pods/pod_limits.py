"""One pod's limits: puts them in force, takes them off, says on the pod what came of it."""

from collections.abc import Mapping
from pathlib import Path

from contract.names import EventReason, Reason
from enforcer.errors import DatapathError, UnsupportedError
from enforcer.pods.condition import NotInForce
from enforcer.pods.pod_entry import Entry, elsewhere, in_force, is_elsewhere, is_policed
from enforcer.ports import Log, Reporter
from enforcer.reconcile.reconciler import Reconciler
from enforcer.state import Target
from enforcer.targets import cgroup_id


class PodLimits:
    """Called by the worker."""

    def __init__(
        self, reconciler: Reconciler, reporter: Reporter, cgroup_root: Path, log: Log
    ) -> None:
        self._reconciler = reconciler
        self._reporter = reporter
        self._cgroup_root = cgroup_root
        self._log = log

    def hold(self, entry: Entry, target: Target, cause: str) -> None:
        """Put limits in force; the entry's outcome says whether they are."""
        try:
            self._reconciler.hold(target, cause, must_keep=False)
        except (DatapathError, OSError) as error:
            if cgroup_id(target.cgroup_path) != target.cgroup_id:
                entry.outcome = self.pending()  # it was removed meanwhile; inotify will tell
                return
            unsupported = isinstance(error, UnsupportedError)
            reason = Reason.UNSUPPORTED if unsupported else Reason.FAILED
            held = entry.held
            still = held.limits if held and held.cgroup_id == target.cgroup_id else None
            failure = NotInForce(reason, str(error), still)
            if entry.outcome != failure:
                self._log.warning("failed", operation="hold", target=target.name, reason=str(error))
                if entry.pod is not None:
                    self._reporter.event(entry.pod, EventReason.DENIED, str(error))
            entry.outcome = failure
            return
        entry.held = target
        self._count(entry, target)

    def _count(self, entry: Entry, target: Target) -> None:
        try:
            entry.outcome = in_force(target, self._reconciler.count(target))
        except DatapathError as error:
            entry.outcome = NotInForce(Reason.FAILED, str(error))

    def release(self, entry: Entry, cause: str) -> bool:
        """Take off what is held; whether nothing is any more."""
        if entry.held is not None and self.take_off(entry, entry.held, cause):
            entry.held = None
        return entry.held is None

    def take_off(self, entry: Entry, target: Target, cause: str) -> bool:
        """Take these limits off; whether that was done."""
        try:
            self._reconciler.release(target, cause)
        except (DatapathError, OSError) as error:
            failure = NotInForce(Reason.FAILED, f"cannot be taken off: {error}", target.limits)
            if entry.outcome != failure:
                self._log.warning(
                    "failed", operation="release", target=entry.name, reason=str(error)
                )
            entry.outcome = failure
            return False
        return True

    def observe(self, entry: Entry, cgroups: Mapping[str, bool]) -> None:
        """See how the limits are held now; a cgroup that is just being removed says nothing."""
        held = entry.held
        if held is None or cgroup_id(held.cgroup_path) != held.cgroup_id:
            return
        self._count(entry, held)
        self.report(entry, cgroups)

    def report(self, entry: Entry, cgroups: Mapping[str, bool]) -> None:
        """Say what is so, when it will be so for a while. ``cgroups``: see ``choose_cgroup``."""
        pod, outcome = entry.pod, entry.outcome
        if pod is None or outcome is None or entry.leaving or pod.deleting or pod.ended:
            return
        if is_elsewhere(entry, cgroups):
            outcome = elsewhere(entry)
        is_open = isinstance(outcome, NotInForce) and outcome.reason is Reason.PENDING
        is_lasting = pod.phase == "Running" and entry.is_settled
        # Every pod starts this way: one write per pod start, not two.
        if (is_open and not is_lasting) or self._may_get_better(entry):
            return
        self._reporter.want(pod, entry.judged(pod, outcome))

    def _may_get_better(self, entry: Entry) -> bool:
        """Incoming traffic is only policed, but the pod's interface may be on its way."""
        if entry.held is None or not is_policed(entry.outcome):
            return False
        return not self._reconciler.is_settled(entry.held) and not entry.is_settled

    def pending(self) -> NotInForce:
        """There is no cgroup to limit yet."""
        return NotInForce(
            Reason.PENDING, f"no cgroup of this pod is below {self._cgroup_root}; see --cgroup-root"
        )
