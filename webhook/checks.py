"""What is wrong with a pod, and what its author should know.

Each check is a pure function of the reading and the policy. ``CHECKS`` finds problems, in the
order in which they are told; ``ADVICE`` finds what is worth a warning.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from contract import names
from contract.effective import EffectivePolicy, Sourced
from contract.limits import cap_burst_bits
from contract.names import (
    DIRECTIONS,
    RATE_KEYS,
    RESOURCES,
    Direction,
    GateRule,
    OnViolation,
    Require,
)
from contract.problems import KEY_CHARS, Problem, clip
from contract.quantity import format_bits_per_second
from contract.reading import Reading, Written
from contract.resolution import resolve
from contract.unknown import MAX_UNKNOWN

Check = Callable[[Reading, EffectivePolicy], Iterable[Problem]]
Advice = Callable[[Reading, EffectivePolicy], Iterable[str]]


def misspelt_keys(reading: Reading, _: EffectivePolicy) -> Iterator[Problem]:
    """They would leave a pod unlimited without a word."""
    for key, right in reading.unknown.misspelt:
        text = reading.misspelt_texts[key]
        yield Problem(key, text, "is under a key that podpace does not know", f"write {right}")


def too_many_keys(reading: Reading, _: EffectivePolicy) -> Iterator[Problem]:
    """Comparing each with the known ones would take time that others wait for."""
    if reading.unknown.too_many:
        reason = f"are more than {MAX_UNKNOWN} keys that podpace does not know"
        yield Problem(f"{names.DOMAIN}/*", "", reason, "remove them")


def unreadable_quantities(reading: Reading, _: EffectivePolicy) -> Iterator[Problem]:
    """Also the key that does not win: a container runtime may read it and refuse the pod later."""
    for direction in DIRECTIONS:
        asked = reading.of(direction)
        own = None if asked.booking is asked.request else asked.booking
        for written in (asked.rate, asked.shadowed, asked.burst, asked.request, own):
            if written is not None and isinstance(written.value, Problem):
                yield written.value


def unreadable_gate(reading: Reading, _: EffectivePolicy) -> Iterator[Problem]:
    """The readiness gate is asked for with a word."""
    if reading.gate_text not in (None, "true", "false"):
        yield Problem(
            names.ANNOTATION_READINESS_GATE,
            reading.gate_text or "",
            "is not true or false",
            'write "true", or leave it out',
        )


def bursts_without_limit(reading: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    """A burst belongs to a limit."""
    for direction in DIRECTIONS:
        asked = reading.of(direction)
        if asked.burst and asked.rate is None and policy.of(direction).default is None:
            key = RATE_KEYS[direction]
            yield Problem(
                asked.burst.key, asked.burst.text, f"has no effect without {key}", f"set {key} too"
            )


def requests_above_limits(reading: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    """No more than the limit is ever let through, so no more can be guaranteed.

    Where it is the policy's limit that is below, the policy may say to bring the request down.
    """
    for problem, is_own in _above_limits(reading, policy):
        if is_own or policy.on_violation is OnViolation.DENY:
            yield problem


def requests_above_bookings(reading: Reading, _: EffectivePolicy) -> Iterator[Problem]:
    """A guarantee that nobody kept room for would be taken from others' guarantees."""
    for direction in DIRECTIONS:
        asked = reading.of(direction)
        booked = asked.booking.bits if asked.booking else None
        request = asked.request
        if request and request.bits and booked is not None and request.bits > booked:
            rate = format_bits_per_second(booked)
            more = (
                "create the pod anew"
                if asked.booked_by_webhook
                else f"write a new pod with more of {RESOURCES[direction]} in resources.limits"
            )
            yield Problem(
                request.key,
                request.text,
                f"is above what is booked for the pod, {rate}, which stays as it is while it runs",
                f"write {booked} or less, or {more}",
            )


def out_of_bounds(reading: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    """Limits outside min and max, bursts above burst.max; clamped instead where policy says so."""
    if policy.on_violation is OnViolation.DENY:
        yield from _violations(reading, policy)


def missing_limits(reading: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    """What ``require`` asks for."""
    missing = [d for d in DIRECTIONS if reading.of(d).rate is None and policy.of(d).default is None]
    if policy.require is Require.BOTH:
        for direction in missing:
            yield Problem(
                RATE_KEYS[direction],
                "",
                "is not set, and the policy requires both limits",
                "set it, for example to 10M for 10 Mbit/s",
            )
    elif policy.require is Require.ANY and len(missing) == len(DIRECTIONS):
        yield Problem(
            RATE_KEYS[Direction.EGRESS],
            "",
            "is not set and neither is the ingress one, and the policy requires a limit",
            "set one of them, for example to 10M for 10 Mbit/s",
        )


CHECKS: Final[tuple[Check, ...]] = (
    misspelt_keys,
    too_many_keys,
    unreadable_quantities,
    unreadable_gate,
    bursts_without_limit,
    requests_above_limits,
    requests_above_bookings,
    out_of_bounds,
    missing_limits,
)


def clamped(reading: Reading, policy: EffectivePolicy) -> Iterator[str]:
    """What was brought within bounds instead of refused."""
    if policy.on_violation is OnViolation.CLAMP:
        above = (problem for problem, is_own in _above_limits(reading, policy) if not is_own)
        for problem in (*_violations(reading, policy), *above):
            yield f'{problem.key}: "{problem.text}" {problem.reason}; it was brought within bounds'


def shadowed(reading: Reading, policy: EffectivePolicy) -> Iterator[str]:
    """Two keys that say different things."""
    for direction in DIRECTIONS:
        asked = reading.of(direction)
        if (
            asked.rate
            and asked.shadowed
            and asked.shadowed.bits not in (None, asked.rate.bits)
            and not policy.take_over
        ):
            yield (
                f"{asked.rate.key} wins over {asked.shadowed.key}, "
                "which a CNI bandwidth plugin may still enforce"
            )


def capped_bursts(reading: Reading, _: EffectivePolicy) -> Iterator[str]:
    """Bursts above one second of their rate."""
    for direction in DIRECTIONS:
        asked = reading.of(direction)
        rate = asked.rate.bits if asked.rate else None
        burst = asked.burst.bits if asked.burst else None
        if asked.burst and rate and burst and cap_burst_bits(burst, rate) < burst:
            yield f"{asked.burst.key} is more than one second of the limit; it was cut to that"


def vain_gates(reading: Reading, policy: EffectivePolicy) -> Iterator[str]:
    """A readiness gate that was asked for and is not given."""
    if reading.gate_text != "true":
        return
    if policy.readiness_gate is GateRule.NEVER:
        yield f"{names.ANNOTATION_READINESS_GATE} has no effect: the policy says never"
    elif not resolve(reading, policy).limited:
        yield f"{names.ANNOTATION_READINESS_GATE} has no effect on a pod without a limit"


def limits_above_totals(reading: Reading, policy: EffectivePolicy) -> Iterator[str]:
    """The limit stays, and cannot be reached."""
    for direction in DIRECTIONS:
        asked, total = reading.of(direction).rate, policy.of(direction).total
        if asked and asked.bits and total and asked.bits > total.bits_per_second:
            most = format_bits_per_second(total.bits_per_second)
            yield (
                f"{asked.key} is above what all pods of the namespace have on a node together, "
                f"{most} by the {total.source}'s policy{total.note}"
            )


def requests_above_totals(reading: Reading, policy: EffectivePolicy) -> Iterator[str]:
    """They are met as far as the total goes."""
    for direction in DIRECTIONS:
        asked, total = reading.of(direction).request, policy.of(direction).total
        if asked and asked.bits and total and asked.bits > total.bits_per_second:
            most = format_bits_per_second(total.bits_per_second)
            yield (
                f"{asked.key} is above the total of the namespace on each node, {most} by the "
                f"{total.source}'s policy{total.note}; it cannot be met"
            )


def unread_keys(reading: Reading, _: EffectivePolicy) -> Iterator[str]:
    """A newer version's, perhaps."""
    for key in reading.unknown.others:
        yield f"{clip(key, KEY_CHARS)} is a key that podpace does not know; it has no effect"


def misplaced_labels(reading: Reading, _: EffectivePolicy) -> Iterator[str]:
    """Written where nobody reads them."""
    for key in reading.misplaced:
        if key == names.LABEL_NAMESPACE_IGNORE:
            yield f"{key} is a label of namespaces; on a pod it has no effect"
        else:
            yield f"{key} has no effect as a label; write it as an annotation"


ADVICE: Final[tuple[Advice, ...]] = (
    clamped,
    shadowed,
    capped_bursts,
    vain_gates,
    limits_above_totals,
    requests_above_totals,
    unread_keys,
    misplaced_labels,
)


def _violations(reading: Reading, policy: EffectivePolicy) -> Iterator[Problem]:
    for direction in DIRECTIONS:
        asked, bounds = reading.of(direction), policy.of(direction)
        yield from _outside(asked.rate, bounds.min, bounds.max)
        yield from _outside(asked.request, bounds.request.min, bounds.request.max)
        burst = asked.burst.bits if asked.burst else None
        if asked.burst and burst is not None and bounds.burst_max and burst > bounds.burst_max:
            yield Problem(
                asked.burst.key,
                asked.burst.text,
                f"is above the policy's largest burst, {bounds.burst_max} bits",
                f"write {bounds.burst_max} or less, or leave it out for the default",
            )


def _above_limits(reading: Reading, policy: EffectivePolicy) -> Iterator[tuple[Problem, bool]]:
    """Requests above the limit, and whether that is the one that the pod itself asks for."""
    for direction in DIRECTIONS:
        asked, rate = reading.of(direction).request, reading.of(direction).rate
        limit = resolve(reading, policy).of(direction) if asked else None
        if asked and asked.bits and limit and asked.bits > limit.limit.bits_per_second:
            most = limit.limit.bits_per_second
            problem = Problem(
                asked.key,
                asked.text,
                f"is above the pod's limit, {format_bits_per_second(most)}, of which it is a part",
                f"write {most} or less, or raise {RATE_KEYS[direction]}",
            )
            yield problem, bool(rate and rate.bits and rate.bits < asked.bits)


def _outside(
    written: Written | None, least: Sourced | None, most: Sourced | None
) -> Iterator[Problem]:
    bits = written.bits if written else None
    if written is None or bits is None:
        return
    if most and bits > most.bits_per_second:
        yield Problem(
            written.key,
            written.text,
            f"is above the {most.source}'s maximum, {format_bits_per_second(most.bits_per_second)}"
            f"{most.note}",
            f"write {most.bits_per_second} or less",
        )
    elif least and bits < least.bits_per_second:
        yield Problem(
            written.key,
            written.text,
            f"is below the {least.source}'s minimum, "
            f"{format_bits_per_second(least.bits_per_second)}{least.note}",
            f"write {least.bits_per_second} or more",
        )
