"""One pod as the pod loop knows it, and what is made of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from contract.limits import Limits
from contract.names import Reason
from enforcer.pods.asked import Asked
from enforcer.pods.condition import Held, InForce, NotInForce, Outcome, judge
from enforcer.pods.pod import Condition, Pod
from enforcer.state import Target, TargetCounters
from enforcer.targets import POD_PREFIX

PENDING_SECONDS: Final = 10.0
"""How long a running pod's cgroup may be missing or empty before its condition says so."""


@dataclass(slots=True)
class Entry:
    """One pod, by the uid in its cgroup's name."""

    name: str
    limits: Limits | None
    pod: Pod | None
    """None: adopted from before a restart, not listed yet."""
    held: Target | None = None
    outcome: Outcome | None = None
    since: float = field(default_factory=time.monotonic)
    """When its cgroup appeared, filled, emptied or vanished: time.monotonic()."""
    superseded: Target | None = None
    """Limits on another cgroup of the same uid, still to be taken off."""
    leaving: bool = False
    """The API server has forgotten it. It stays until its cgroup vanishes; with ``limits`` None,
    until they could be taken off."""
    _judged: tuple[Pod, Outcome, Condition] | None = None

    @property
    def uses_host_network(self) -> bool | None:
        """As its spec says, or said when it was held; None where neither is known."""
        if self.pod is not None:
            return self.pod.host_network
        return None if self.held is None else self.held.uses_host_network

    def judged(self, pod: Pod, outcome: Outcome) -> Condition:
        """See ``judge``, which is asked with each resync and seldom has another answer."""
        known = self._judged
        if known is None or known[0] is not pod or known[1] is not outcome:
            self._judged = known = pod, outcome, judge(pod, outcome)
        return known[2]

    def restart_clock(self) -> None:
        """Something happened to its cgroup just now."""
        self.since = time.monotonic()

    @property
    def is_settled(self) -> bool:
        """Nothing has happened to its cgroup for a while."""
        return time.monotonic() - self.since > PENDING_SECONDS


def adopted_pod(uid: str, target_name: str) -> Pod:
    """A pod that was limited before a restart and is not listed: it may live on without a limit.

    Whether its readiness waits for the condition is not known, so it counts as if it did.
    """
    namespace, _, name = target_name.removeprefix(POD_PREFIX).partition("/")
    return Pod(uid, namespace, name, uid, Asked(None), gated=True)


def is_policed(outcome: Outcome | None) -> bool:
    """Incoming traffic is limited, and by nothing better than a bound."""
    return (
        isinstance(outcome, InForce)
        and outcome.limits.ingress is not None
        and outcome.ingress.enforcement == "policed"
    )


def in_force(target: Target, counters: TargetCounters) -> InForce:
    """What is in force, and how."""
    return InForce(
        target.limits,
        Held(counters.ingress.enforcement, counters.ingress.why),
        Held(counters.egress.enforcement, counters.egress.why),
    )


def is_elsewhere(entry: Entry, populated: Mapping[str, bool]) -> bool:
    """Whether the pod runs, and not in the cgroup that is limited: that one has no process.

    A kubelet and a container runtime that use different cgroup drivers do that. A pod whose status
    tells of containers, none of them running, has no process for good reason.
    """
    pod, held = entry.pod, entry.held
    if pod is None or held is None or pod.phase != "Running" or pod.containers_run is False:
        return False
    return not populated.get(held.cgroup_path, False)


def elsewhere(entry: Entry) -> NotInForce:
    """What is said of it: nothing at first, for a container may be on its way."""
    path = "" if entry.held is None else entry.held.cgroup_path
    return NotInForce(
        Reason.FAILED if entry.is_settled else Reason.PENDING,
        f"no process is in its cgroup {path}, so its containers are in another one and not limited;"
        " set the same cgroup driver for the kubelet and the container runtime",
    )
