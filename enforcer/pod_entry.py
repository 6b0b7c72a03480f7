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
    leaving: bool = False
    """The API server has forgotten it. It stays until its cgroup vanishes; with ``limits`` None,
    until they could be taken off."""


def adopted_pod(uid: str, target_name: str) -> Pod:
    """A pod that was limited before a restart and is not listed: it may live on without a limit.

    Whether its readiness waits for the condition is not known, so it counts as if it did.
    """
    namespace, _, name = target_name.removeprefix(POD_PREFIX).partition("/")
    return Pod(uid, namespace, name, uid, Asked(None), gated=True)


def in_force(target: Target, counters: TargetCounters) -> InForce:
    """What is in force, and how."""
    return InForce(
        target.limits,
        Held(counters.ingress.enforcement, counters.ingress.why),
        Held(counters.egress.enforcement, counters.egress.why),
    )
