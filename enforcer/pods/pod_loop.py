"""Joins this node's pods with their cgroups, holds their limits, and says on them what came of it.

One thread takes one piece of news at a time, so nothing here needs a lock: pods come from the
reflector, cgroups from inotify, and a tick after each resync.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from contract.limits import Limits
from contract.names import EventReason, Reason
from enforcer.errors import DatapathError, UnsupportedError
from enforcer.pods.cgroups import choose_cgroup, pod_uid
from enforcer.pods.condition import (
    Held,
    InForce,
    NotInForce,
    describe_all,
    judge,
    released,
)
from enforcer.pods.news import (
    CgroupAppeared,
    CgroupPopulated,
    CgroupVanished,
    Looked,
    News,
    PodChanged,
    PodFound,
    PodGone,
    PodsListed,
    Resynced,
)
from enforcer.pods.news_queue import NewsQueue
from enforcer.pods.pod import Pod
from enforcer.pods.pod_entry import (
    Entry,
    adopted_pod,
    elsewhere,
    in_force,
    is_elsewhere,
    is_policed,
)
from enforcer.ports import Log, Reporter
from enforcer.reconcile.daemon import Daemon
from enforcer.state import Target
from enforcer.targets import cgroup_id, is_pod

_IDLE_SECONDS: Final = 1.0


class PodLoop:
    """:meth:`step` is run in a loop by one thread; ``news`` may be put in by any."""

    def __init__(
        self,
        daemon: Daemon,
        reporter: Reporter,
        news: NewsQueue,
        cgroup_root: Path,
        log: Log,
    ) -> None:
        self._daemon = daemon
        self._reporter = reporter
        self._news = news
        self._cgroup_root = cgroup_root
        self._log = log
        self._entries: dict[str, Entry] = {}
        self._cgroups: dict[str, dict[str, bool]] = {}
        """By uid: the cgroups that carry it, and whether processes are in each."""
        self.listed = False
        """Whether the API server has told all pods once."""

    def adopt(self, targets: Iterable[Target]) -> None:
        """Know the pods that were limited before a restart, also while no API server answers."""
        held = set(self._daemon.targets())
        for target in filter(is_pod, targets):
            uid = pod_uid(Path(target.cgroup_path).name)
            if uid is None:
                continue
            still = target if target in held else None
            entry = self._entries.setdefault(uid, Entry(target.name, target.limits, None, still))
            if entry.held != still:
                entry.superseded = still

    def step(self) -> None:
        """Take the next piece of news, if one comes in a moment."""
        news = self._news.get(_IDLE_SECONDS)
        if news is not None:
            self._take_safely(news)

    def _take_safely(self, news: News) -> None:
        try:
            self.take(news)
        except Exception as error:
            # One odd pod must not hold up the others.
            self._log.error("fault", news=type(news).__name__, reason=repr(error))

    def take(self, news: News) -> None:
        """Act on one piece of news."""
        match news:
            case PodsListed(pods):
                self._listed(pods)
            case PodChanged(pod):
                self._changed(pod)
            case PodGone(pod):
                self._gone(pod)
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
            case Looked(path):
                entry = self._entries.get(pod_uid(Path(path).name) or "")
                if entry is not None:
                    self._observe(entry)
            case Resynced(repaired):
                self._resynced(repaired)

    def counts(self) -> dict[str, int]:
        """How many pods there are by reason, for metrics; safe to call from any thread."""
        found = dict.fromkeys(Reason, 0)
        for entry in list(self._entries.values()):
            if entry.pod is not None and entry.outcome is not None:
                found[Reason(judge(entry.pod, entry.outcome).reason)] += 1
        return {str(reason): count for reason, count in found.items()}

    def _listed(self, pods: Iterable[Pod]) -> None:
        listed = {pod.cgroup_uid for pod in pods}
        for uid, entry in list(self._entries.items()):
            if uid not in listed and not entry.leaving:
                self._leave(uid, entry, entry.pod or adopted_pod(uid, entry.name))
        for pod in pods:
            self._take_safely(PodChanged(pod))
        self.listed = True

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
        if self._release(entry, "pod gone"):
            del self._entries[uid]
        else:
            entry.limits, entry.leaving = None, True  # the next resync tries again

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
            self._daemon.refresh(entry.held, "cgroup removed")
            entry.held = None
            entry.restart_clock()
            entry.outcome = self._pending()
        if entry is not None and entry.leaving and not cgroups:
            self._remove(uid, entry)
        elif entry is not None and cgroups:
            self._moved(uid, "cgroup removed")

    def _resynced(self, repaired: frozenset[str]) -> None:
        for uid, entry in list(self._entries.items()):
            if entry.held is not None and entry.held.cgroup_path in repaired and entry.pod:
                text = "somebody had taken our programs off or changed their limits; they are back"
                self._reporter.event(entry.pod, EventReason.RESTORED, text)
            if entry.leaving and entry.limits is None:
                self._remove(uid, entry)
            elif entry.held is not None and is_policed(entry.outcome):
                self._observe(entry)  # perhaps nobody waits any more for it to get better
            elif not isinstance(entry.outcome, InForce) or entry.held is None or entry.superseded:
                self._apply(entry, uid, "resync")
            else:
                self._report(entry)  # perhaps its cgroup has been empty for too long

    def _apply(self, entry: Entry, uid: str, cause: str) -> None:
        """Bring the kernel to what the entry asks for, and say what came of it."""
        limits, held = entry.limits, entry.held
        path = choose_cgroup(self._cgroups.get(uid, {}), held.cgroup_path if held else None)
        number = None if path is None else cgroup_id(path)
        if limits is None or not limits.limits_anything:
            if self._release(entry, cause):
                entry.outcome = InForce(Limits(), Held(""), Held(""))
        elif path is None or number is None:
            entry.outcome = self._pending()
        else:
            target = Target(entry.name, path, number, limits)
            if entry.held == target and isinstance(entry.outcome, InForce):
                self._report(entry)
                return
            self._hold(entry, target, cause)
            if held is not None and entry.held is not None and held.cgroup_path != path:
                entry.superseded = held if entry.held == target else None
        if entry.superseded is not None and self._take_off(entry, entry.superseded, cause):
            entry.superseded = None
        self._report(entry)

    def _hold(self, entry: Entry, target: Target, cause: str) -> None:
        try:
            counters = self._daemon.hold(target, cause)
        except (DatapathError, OSError) as error:
            if cgroup_id(target.cgroup_path) != target.cgroup_id:
                entry.outcome = self._pending()  # it was removed meanwhile; inotify will tell
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
        entry.outcome = in_force(target, counters)

    def _release(self, entry: Entry, cause: str) -> bool:
        if entry.held is not None and self._take_off(entry, entry.held, cause):
            entry.held = None
        return entry.held is None

    def _take_off(self, entry: Entry, target: Target, cause: str) -> bool:
        try:
            self._daemon.release(target, cause)
        except (DatapathError, OSError) as error:
            failure = NotInForce(Reason.FAILED, f"cannot be taken off: {error}", target.limits)
            if entry.outcome != failure:
                self._log.warning(
                    "failed", operation="release", target=entry.name, reason=str(error)
                )
            entry.outcome = failure
            return False
        return True

    def _observe(self, entry: Entry) -> None:
        """See how the limits are held now; a cgroup that is just being removed says nothing."""
        held = entry.held
        if held is None or cgroup_id(held.cgroup_path) != held.cgroup_id:
            return
        try:
            entry.outcome = in_force(held, self._daemon.counters_of(held))
        except DatapathError as error:
            entry.outcome = NotInForce(Reason.FAILED, str(error))
        self._report(entry)

    def _report(self, entry: Entry) -> None:
        pod, outcome = entry.pod, entry.outcome
        if pod is None or outcome is None or entry.leaving or pod.deleting or pod.ended:
            return
        if is_elsewhere(entry, self._cgroups.get(pod.cgroup_uid, {})):
            outcome = elsewhere(entry)
        is_open = isinstance(outcome, NotInForce) and outcome.reason is Reason.PENDING
        is_lasting = pod.phase == "Running" and entry.is_settled
        # Every pod starts this way: one write per pod start, not two.
        if (is_open and not is_lasting) or self._may_get_better(entry):
            return
        self._reporter.want(pod, judge(pod, outcome))

    def _may_get_better(self, entry: Entry) -> bool:
        """Incoming traffic is only policed, but the pod's interface may be on its way."""
        if entry.held is None or not is_policed(entry.outcome):
            return False
        return not self._daemon.is_settled(entry.held) and not entry.is_settled

    def _pending(self) -> NotInForce:
        return NotInForce(
            Reason.PENDING, f"no cgroup of this pod is below {self._cgroup_root}; see --cgroup-root"
        )
