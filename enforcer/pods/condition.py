"""Pure: what was asked and what came of it, as the pod's condition."""

from dataclasses import dataclass

from contract.limits import Limits
from contract.names import NO_LIMIT_MESSAGE, Direction, Mode, Reason
from contract.wording import describe_bandwidth
from enforcer.pods.pod import Condition, Pod

MAX_MESSAGE = 1024
"""Longer messages are cut; the API server would take 32 kB."""


@dataclass(frozen=True, slots=True)
class Held:
    """How one direction is held: ``paced``, ``shaped``, ``policed`` or ``observed``, and why so."""

    enforcement: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """The kernel has these limits."""

    limits: Limits
    ingress: Held
    egress: Held

    def of(self, direction: Direction) -> Held:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


@dataclass(frozen=True, slots=True)
class NotInForce:
    """The kernel does not have the limits that were asked for."""

    reason: Reason
    """``PENDING``, ``UNSUPPORTED`` or ``FAILED``."""
    text: str
    """A clause; says what to do where somebody can do something."""
    before: Limits | None = None
    """Earlier limits that still hold."""


Outcome = InForce | NotInForce


def judge(pod: Pod, outcome: Outcome) -> Condition:
    """The condition that is true of this pod now."""
    match outcome:
        case InForce():
            return _in_force(pod, outcome)
        case NotInForce(reason, text, before):
            parts = [text]
            if before is not None:
                parts.append(f"still in force: {describe(before)}")
                reason = Reason.PARTLY_ENFORCED
            asked = pod.asked.limits
            if asked is not None and asked.limits_anything:
                parts.append(f"asked for: {describe(asked)}{_origin(pod)}")
            status = "Unknown" if reason is Reason.PENDING else "False"
            return _condition(status, reason, *parts)


def released(pod: Pod) -> Condition | None:
    """The condition of a pod that asks for no limit any more; None: it should have none."""
    # Its readiness still waits for this condition, and there is nothing left to wait for.
    return _condition("True", Reason.ENFORCED, NO_LIMIT_MESSAGE) if pod.gated else None


def _in_force(pod: Pod, outcome: InForce) -> Condition:
    held = ", ".join(
        f"{_direction(outcome.limits, direction, pod)} ({_how(outcome.of(direction))})"
        for direction in Direction
        if outcome.limits.concerns(direction)
    )
    parts = [held + _origin(pod)] if held else []
    parts += [str(problem) for problem in pod.asked.problems]
    if pod.asked.unreadable:
        return _condition("False", Reason.PARTLY_ENFORCED if held else Reason.FAILED, *parts)
    if not held:
        return _condition("True", Reason.ENFORCED, NO_LIMIT_MESSAGE, *parts)
    if outcome.limits.mode is Mode.OBSERVE:
        # A gate waits for what this pod will get, and observing is all it will get.
        status = "True" if pod.gated else "False"
        return _condition(status, Reason.OBSERVING, "only observed, nothing is held back", *parts)
    return _condition("True", Reason.ENFORCED, *parts)


def _condition(status: str, reason: Reason, *parts: str) -> Condition:
    return Condition(status, reason, "; ".join(parts)[:MAX_MESSAGE])


def describe(limits: Limits) -> str:
    """``ingress 10 Mbit/s, egress 5 Mbit/s``; empty when neither is limited nor shared."""
    return ", ".join(
        _direction(limits, direction) for direction in Direction if limits.concerns(direction)
    )


def _direction(limits: Limits, direction: Direction, pod: Pod | None = None) -> str:
    """``egress 100 Mbit/s, 20 Mbit/s of it guaranteed``, what ``pod`` booked, of which total."""
    limit, of_whom = limits.of(direction), f"for {limits.group.replace(':', ' ')} on this node"
    bits = None if limit is None else limit.bits_per_second
    booked = None if pod is None else pod.asked.bookings.of(direction)
    return f"{direction} {describe_bandwidth(bits, limits.sharing(direction), of_whom, booked)}"


def describe_all(limits: Limits | None) -> str:
    """For Events: the limits, and what else makes a difference."""
    if limits is None or not limits.limits_anything:
        return "no limit"
    text = describe(limits)
    if limits.mode is Mode.OBSERVE:
        text += ", only observed"
    if limits.exempt_cidrs:
        text += f", without {', '.join(limits.exempt_cidrs)}"
    return text


def _how(held: Held) -> str:
    how = "shaped on veth" if held.enforcement == "shaped" else held.enforcement
    return f"{how}: {held.why}" if held.why else how


def _origin(pod: Pod) -> str:
    return f"; {pod.asked.origin}" if pod.asked.origin else ""
