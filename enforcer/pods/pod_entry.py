"""One pod as the pod loop knows it, and what is made of it."""

import time
from dataclasses import dataclass, field

from contract.limits import Limits
from enforcer.pods.asked import Asked
from enforcer.pods.condition import Held, InForce, Outcome
from enforcer.pods.pod import Pod
from enforcer.state import Target, TargetCounters
from enforcer.targets import POD_PREFIX


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
    """When its cgroup appeared or vanished: time.monotonic()."""
    leaving: bool = False
    """The API server has forgotten it. It stays until its cgroup vanishes; with ``limits`` None,
    until they could be taken off."""

    def restart_clock(self) -> None:
        """Its cgroup appeared or vanished just now."""
        self.since = time.monotonic()

    def age_seconds(self) -> float:
        """How long its cgroup has been there, or not there."""
        return time.monotonic() - self.since


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
