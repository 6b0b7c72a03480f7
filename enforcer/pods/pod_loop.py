"""Joins this node's pods with their cgroups, holds their limits, and says on them what came of it.

Pods come from the reflector, cgroups from inotify; both only leave word, by the pod's uid. What is
to be done of it the worker does, for one pod by one thread, so nothing else here needs a lock.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from contract.limits import Limits
from contract.names import Direction, EventReason, Reason
from enforcer.pods.cgroups import choose_cgroup, pod_uid
from enforcer.pods.condition import (
    Held,
    InForce,
    NotInForce,
    describe_all,
    released,
)
from enforcer.pods.inbox import Inbox
from enforcer.pods.news import (
    CgroupAppeared,
    CgroupPopulated,
    CgroupVanished,
    News,
    PodChanged,
    PodFound,
    PodGone,
    PodsListed,
    PodUnlisted,
)
from enforcer.pods.pod import Pod
from enforcer.pods.pod_entry import Entry, adopted_pod
from enforcer.pods.pod_limits import PodLimits
from enforcer.ports import Log, Reporter
from enforcer.reconcile.look import Look
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.work_queue import RESYNC, Urgency, WorkQueue
from enforcer.state import Target
from enforcer.targets import cgroup_id, is_pod

_NEWS: Final = "news"
_LISTED: Final = "*listed"
"""A key behind those of all pods that were listed with it."""


class PodLoop:
    """Any thread may :meth:`tell`; the worker calls :meth:`sync`."""

    def __init__(
        self,
        reconciler: Reconciler,
        reporter: Reporter,
        queue: WorkQueue,
        cgroup_root: Path,
        log: Log,
    ) -> None:
        self._reconciler = reconciler
        self._reporter = reporter
        self._queue = queue
        self._limits = PodLimits(reconciler, reporter, cgroup_root, log)
        self._inbox = Inbox()
        self._entries: dict[str, Entry] = {}
        self._cgroups: dict[str, dict[str, bool]] = {}
        """By uid: the cgroups that carry it, and whether processes are in each."""
        self.listed = False
        """Whether the API server has told all pods once."""

    def adopt(self, targets: Iterable[Target]) -> None:
        """Know the pods that were limited before a restart, also while no API server answers."""
        held = set(self._reconciler.targets())
        for target in filter(is_pod, targets):
            uid = pod_uid(Path(target.cgroup_path).name)
            if uid is None:
                continue
            still = target if target in held else None
            entry = self._entries.setdefault(uid, Entry(target.name, target.limits, None, still))
            if entry.held != still:
                entry.superseded = still

    def tell(self, news: News | PodsListed) -> None:
        """Have it acted on soon. Safe to call from any thread."""
        if not isinstance(news, PodsListed):
            self._leave_word(news)
            return
        known = {*self._inbox.uids(), *list(self._entries)}
        for uid in known - {pod.cgroup_uid for pod in news.pods}:
            self._leave_word(PodUnlisted(uid))
        for pod in news.pods:
            self._leave_word(PodChanged(pod))
        self._queue.add(_LISTED, _NEWS)

    def _leave_word(self, news: News) -> None:
        self._inbox.put(news)
        of_cgroup = isinstance(news, CgroupAppeared | CgroupPopulated | CgroupVanished)
        self._queue.add(news.uid, _NEWS, Urgency.NOW if of_cgroup else Urgency.SOON)

    def keys(self) -> Iterable[str]:
        """Every pod that is known. Safe to call from any thread."""
        return list(self._entries)

    def sync(self, key: str, causes: Iterable[str]) -> bool:
        """Act on what was told of one pod, and look at it; False: it is to be tried again.

        Without another cause than news nothing is looked at in the kernel but for a reason:
        kubelets write statuses all the time.
        """
        if key == _LISTED:
            self.listed = True
            return True
        while (news := self._inbox.take(key)) is not None:
            self._take(news)
        entry = self._entries.get(key)
        looks = [cause for cause in causes if cause != _NEWS]
        if entry is not None and looks:
            self._look(key, entry, looks[0])
            entry = self._entries.get(key)
        if entry is None:
            self._queue.forget(key)
        return entry is None or not _is_to_be_tried_again(entry)

    def _take(self, news: News) -> None:
        match news:
            case PodChanged(pod):
                self._changed(pod)
            case PodGone(pod):
                self._gone(pod)
            case PodUnlisted(uid):
                self._unlisted(uid)
            case PodFound(uid, pod):
                self._found(uid, pod)
            case CgroupAppeared(uid, path):
                self._cgroups.setdefault(uid, {})[path] = False
                self._moved(uid, "cgroup appeared")
            case CgroupPopulated(uid, path, populated):
                self._cgroups.setdefault(uid, {})[path] = populated
                self._moved(uid, "first process" if populated else "last process gone")
            case CgroupVanished(uid, path):
                self._vanished(uid, path)

    def _look(self, uid: str, entry: Entry, cause: str) -> None:
        """Nobody told of anything, but time has passed, or something near it has changed."""
        found = Look() if entry.held is None else self._reconciler.look(entry.held, cause)
        if found.repaired and cause == RESYNC and entry.pod is not None:
            text = "somebody had taken our programs off or changed their limits; they are back"
            self._reporter.event(entry.pod, EventReason.RESTORED, text)
        if entry.leaving and entry.limits is None:
            self._remove(uid, entry)
        elif not isinstance(entry.outcome, InForce) or entry.held is None or entry.superseded:
            self._apply(entry, uid, cause)
        elif found.changed:
            self._limits.observe(entry, self._cgroups_of(uid))
        else:
            # Perhaps its cgroup has been empty for too long, or nobody waits any more for its
            # interface.
            self._limits.report(entry, self._cgroups_of(uid))

    def counts(self) -> dict[str, int]:
        """How many pods there are by reason, for metrics; safe to call from any thread."""
        found = dict.fromkeys(Reason, 0)
        for entry in list(self._entries.values()):
            if entry.pod is not None and entry.outcome is not None:
                found[Reason(entry.judged(entry.pod, entry.outcome).reason)] += 1
        return {str(reason): count for reason, count in found.items()}

    def booked(self, direction: Direction) -> int:
        """What pods that have not ended have of the scheduler, in bits per second; any thread."""
        return sum(
            entry.pod.asked.bookings.of(direction) or 0
            for entry in list(self._entries.values())
            if entry.pod is not None and not entry.pod.ended
        )

    def _unlisted(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is not None and not entry.leaving:
            self._leave(uid, entry, entry.pod or adopted_pod(uid, entry.name))

    def _changed(self, pod: Pod) -> None:
        uid = pod.cgroup_uid
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = Entry(pod.target_name, None, None)
        before, old = entry.limits, entry.pod
        entry.pod, entry.leaving = pod, False
        entry.limits = None if pod.ended else pod.asked.over(before)
        was_held = entry.held is not None or isinstance(entry.outcome, InForce)
        if pod.asked.unreadable and (old is None or old.asked.problems != pod.asked.problems):
            problems = "; ".join(map(str, pod.asked.problems))
            self._reporter.event(pod, EventReason.FAILED, problems)
        self._apply(entry, uid, "pod changed")
        is_held = isinstance(entry.outcome, InForce) and not pod.ended
        if was_held and is_held and before != entry.limits:
            text = f"now {describe_all(entry.limits)}; was {describe_all(before)}"
            self._reporter.event(pod, EventReason.CHANGED, text)

    def _gone(self, pod: Pod) -> None:
        entry = self._entries.get(pod.cgroup_uid)
        if entry is None or (entry.pod is not None and entry.pod.uid != pod.uid):
            return  # a mirror pod that was made anew
        self._leave(pod.cgroup_uid, entry, pod)

    def _leave(self, uid: str, entry: Entry, pod: Pod) -> None:
        """The API server does not count it among the limited any more."""
        # Whoever may create pods can make one that looks like a static pod's mirror, and delete it:
        # that must not leave a limit behind.
        if uid not in self._cgroups or pod.ended or pod.is_static:
            self._remove(uid, entry)
        elif pod.deleting:
            self._outlive(entry, pod)
        else:
            # Deleted by force, or not limited any more? Until that is known it stays limited.
            self._reporter.ask(pod)

    def _found(self, uid: str, found: Pod | None) -> None:
        entry = self._entries.get(uid)
        if entry is None or entry.leaving:
            return
        if found is None or found.cgroup_uid != uid:
            self._outlive(entry, entry.pod or adopted_pod(uid, entry.name))
        elif found.asked.limits is not None and not found.ended:
            self._changed(found)
        else:
            self._remove(uid, entry)
            if not found.deleting and not found.ended:
                self._reporter.want(found, released(found))

    def _outlive(self, entry: Entry, pod: Pod) -> None:
        """The pod is gone; what still runs in its cgroup stays limited."""
        entry.leaving = True
        self._reporter.forget(pod)

    def _remove(self, uid: str, entry: Entry) -> None:
        if entry.pod is not None:
            self._reporter.forget(entry.pod)
        if self._limits.release(entry, "pod gone"):
            del self._entries[uid]
        else:
            entry.limits, entry.leaving = None, True  # the next resync tries again

    def _cgroups_of(self, uid: str) -> dict[str, bool]:
        return self._cgroups.get(uid, {})

    def _moved(self, uid: str, cause: str) -> None:
        """A cgroup of this uid has appeared, filled or emptied."""
        entry = self._entries.get(uid)
        if entry is not None:
            entry.restart_clock()
            self._apply(entry, uid, cause)

    def _vanished(self, uid: str, path: str) -> None:
        cgroups: dict[str, bool] = self._cgroups.get(uid, {})
        cgroups.pop(path, False)
        if not cgroups:
            self._cgroups.pop(uid, None)
        entry = self._entries.get(uid)
        if entry is not None and entry.held is not None and entry.held.cgroup_path == path:
            self._reconciler.look(entry.held, "cgroup removed")
            entry.held = None
            entry.restart_clock()
            entry.outcome = self._limits.pending()
        if entry is not None and entry.leaving and not cgroups:
            self._remove(uid, entry)
        elif entry is not None and cgroups:
            self._moved(uid, "cgroup removed")

    def _apply(self, entry: Entry, uid: str, cause: str) -> None:
        """Bring the kernel to what the entry asks for, and say what came of it."""
        limits, held = entry.limits, entry.held
        path = choose_cgroup(self._cgroups_of(uid), held.cgroup_path if held else None)
        number = None if path is None else cgroup_id(path)
        if limits is None or not limits.limits_anything:
            if self._limits.release(entry, cause):
                entry.outcome = InForce(Limits(), Held(""), Held(""))
        elif path is None or number is None:
            entry.outcome = self._limits.pending()
        else:
            target = Target(entry.name, path, number, limits, entry.uses_host_network)
            if entry.held == target and isinstance(entry.outcome, InForce):
                self._limits.report(entry, self._cgroups_of(uid))
                return
            self._limits.hold(entry, target, cause)
            if held is not None and entry.held is not None and held.cgroup_path != path:
                entry.superseded = held if entry.held == target else None
        if entry.superseded is not None and self._limits.take_off(entry, entry.superseded, cause):
            entry.superseded = None
        self._limits.report(entry, self._cgroups_of(uid))


def _is_to_be_tried_again(entry: Entry) -> bool:
    outcome = entry.outcome
    return isinstance(outcome, NotInForce) and outcome.reason is not Reason.PENDING
