"""What the scheduler is told of a pod: what it requests, as an extended resource. Pure.

A pod that brings such a resource itself keeps it as it is. Others get a limit on their first
container, where no order of init containers and sidecars changes the sum; the API server makes the
equal request of it. What a RuntimeClass adds to a pod comes on top, and is no booking of
its author's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from contract.booking import Bookings, booked_by_webhook, scheduled_bits
from contract.names import DIRECTIONS, RESOURCES, Direction, Mode
from contract.quantity import canonical_quantity, parse_value
from contract.resolution import Resolution
from webhook.jsonpatch import Operation, escape
from webhook.reach import Placement, can_reach
from webhook.reviews import Container, Pod, PodSpec

_MOST: Final = 2**63
"""More than any booking may be; larger ones are refused all the same."""
_SIDECAR: Final = "Always"
_FIRST: Final = "/spec/containers/0/resources"


def bookings_of(pod: Pod, labels: Mapping[str, str]) -> Bookings:
    """What the scheduler sums; ``labels`` say what of it is the webhook's."""
    ingress, egress = (_summed(pod.spec, direction) for direction in DIRECTIONS)
    present = (d for d, bits in zip(DIRECTIONS, (ingress, egress), strict=True) if bits is not None)
    return Bookings(ingress, egress, booked_by_webhook(labels) & frozenset(present))


def own_bookings(pod: Pod, bookings: Bookings) -> Bookings:
    """Of a new pod: without what the webhook put in, and may put right when it is asked again."""
    ingress, egress = (
        None if _is_ours(pod.spec, bookings, direction) else bookings.of(direction)
        for direction in DIRECTIONS
    )
    return Bookings(ingress, egress, bookings.by_webhook)


def book(
    pod: Pod, resolution: Resolution, present: Bookings, enforcers: Placement
) -> tuple[list[Operation], list[str], Resolution]:
    """What makes the scheduler book what a new pod requests, and the pod's resolution then."""
    wanted = {
        direction: request.bits_per_second
        for direction in DIRECTIONS
        if resolution.bookings.of(direction) is None
        and (request := resolution.request(direction)) is not None
    }
    why_not = _why_not(pod, resolution, enforcers) if wanted else ""
    if why_not or not wanted or not pod.spec.containers:
        told = [f"nothing is booked with the scheduler: {why_not}"] if why_not else []
        return [], told, replace(resolution, bookings=present)
    bits = {
        d: wanted[d] + _overhead(pod.spec, d) if d in wanted else present.of(d) for d in DIRECTIONS
    }
    booked = Bookings(
        bits[Direction.INGRESS], bits[Direction.EGRESS], present.by_webhook | frozenset(wanted)
    )
    operations = _put(pod.spec.containers[0], wanted)
    return operations, [], replace(resolution, bookings=booked)


def _why_not(pod: Pod, resolution: Resolution, enforcers: Placement) -> str:
    """Where nothing is held, nothing is to be promised; empty: it is."""
    if resolution.mode is not Mode.ENFORCE:
        return "the policy only observes"
    if not can_reach(pod.spec, enforcers):
        return "no enforcer is on the nodes that this pod selects"
    return ""


def _put(container: Container, wanted: Mapping[Direction, int]) -> list[Operation]:
    amounts = {RESOURCES[d]: canonical_quantity(bits) for d, bits in wanted.items()}
    if container.resources is None:
        return [Operation("add", _FIRST, {"limits": amounts})]
    limits = container.resources.limits
    if limits is None:
        return [Operation("add", f"{_FIRST}/limits", amounts)]
    changed = []
    for direction, bits in wanted.items():
        key, present = RESOURCES[direction], limits.of(direction)
        if present is None or _bits(present) != bits:
            path = f"limits/{escape(key)}"
            changed.append(Operation("add", f"{_FIRST}/{path}", amounts[key]))
            requests = container.resources.requests
            # The API server had made it of the limit that was there.
            if requests is not None and requests.of(direction) is not None:
                path = f"requests/{escape(key)}"
                changed.append(Operation("add", f"{_FIRST}/{path}", amounts[key]))
    return changed


def _summed(spec: PodSpec, direction: Direction) -> int | None:
    containers = [_amount(one, direction) for one in spec.containers or ()]
    init = [(_amount(one, direction), one) for one in spec.init_containers or ()]
    if all(bits is None for bits in (*containers, *(bits for bits, _ in init))):
        return None
    of_containers = scheduled_bits(
        (bits or 0 for bits in containers),
        ((bits or 0, one.restart_policy == _SIDECAR) for bits, one in init),
    )
    return of_containers + _overhead(spec, direction)


def _overhead(spec: PodSpec, direction: Direction) -> int:
    amount = None if spec.overhead is None else spec.overhead.of(direction)
    return 0 if amount is None else _bits(amount)


def _is_ours(spec: PodSpec, bookings: Bookings, direction: Direction) -> bool:
    """Whether it is what the webhook writes: by its label, and on the first container only."""
    others = (*(spec.containers or ())[1:], *(spec.init_containers or ()))
    return direction in bookings.by_webhook and all(
        _amount(one, direction) is None for one in others
    )


def _amount(container: Container, direction: Direction) -> int | None:
    resources = container.resources
    if resources is None:
        return None
    found = [
        amount
        for amounts in (resources.limits, resources.requests)
        if amounts is not None and (amount := amounts.of(direction)) is not None
    ]
    return _bits(found[0]) if found else None


def _bits(amount: str | float) -> int:
    """What is no quantity is refused by the API server."""
    return max(0, min(parse_value(str(amount)) or 0, _MOST))
