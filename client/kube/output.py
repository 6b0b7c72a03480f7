"""Tables for people."""

from typing import TYPE_CHECKING

from client.kube.pods import PodLimits
from client.kube.rates import Sample
from client.output import console, format_bytes, format_rate, make_table
from contract.limits import BITS_PER_BYTE, Limit, Sharing
from contract.names import Direction
from contract.quantity import format_bits_per_second

if TYPE_CHECKING:
    from collections.abc import Iterable

    from client.kube.explain import Explanation
    from client.kube.nodes import Group
    from client.kube.refusals import Refusal

_COUNTERS = (
    ("passed", "podpace_passed_bytes_total", format_bytes),
    ("dropped", "podpace_dropped_bytes_total", format_bytes),
    ("marked packets", "podpace_marked_packets_total", lambda v: f"{v:.0f}"),
    ("active flows", "podpace_active_flows", lambda v: f"{v:.0f}"),
    ("delay of bulk", "podpace_delay_seconds", lambda v: f"{v * 1e3:.1f} ms"),
    ("at the limit", "podpace_limited_seconds_total", lambda v: f"{v:.1f} s"),
)


def print_pods(pods: tuple[PodLimits, ...], *, all_namespaces: bool, headers: bool = True) -> None:
    """One row per pod."""
    titles = ("POD", "INGRESS", "EGRESS", "FROM", "IN FORCE", "WHY", "NODE")
    table = make_table(*(("NAMESPACE", *titles) if all_namespaces else titles), headers=headers)
    for pod in pods:
        status, reason = _in_force(pod)
        cells = (
            pod.name,
            pod.describe(Direction.INGRESS),
            pod.describe(Direction.EGRESS),
            str(pod.source) or "-",
            status,
            reason,
            pod.node or "-",
        )
        table.add_row(*((pod.namespace, *cells) if all_namespaces else cells))
    console().print(table)


def print_pod(pod: PodLimits, sample: Sample | None) -> None:
    """Everything about one."""
    out, (status, reason) = console(), _in_force(pod)
    since = "" if pod.condition is None else f", since {pod.condition.since}"
    said = "" if pod.condition is None else pod.condition.message
    for title, text in (
        ("pod", f"{pod.namespace}/{pod.name}"),
        ("node", pod.node or "-"),
        ("phase", f"{pod.phase}, {'ready' if pod.ready else 'not ready'}"),
        ("in force", f"{status} ({reason}){since}"),
        ("", said or "-"),
        ("from", str(pod.source) or "-"),
        ("mode", str(pod.mode)),
        ("exempt", ", ".join(pod.exempt_cidrs) or "-"),
        ("readiness gate", "yes" if pod.gated else "no"),
        ("asked", ", ".join(f'{k}: "{v}"' for k, v in pod.annotations.items()) or "nothing"),
    ):
        out.print(f"{title:<16}{text}", soft_wrap=True)
    table = make_table("", "INGRESS", "EGRESS")
    table.add_row("limit", *(_rate(pod.of(d)) for d in Direction))
    table.add_row("guaranteed", *(_guaranteed(pod.sharing(d)) for d in Direction))
    table.add_row("booked", *(_booked(pod.bookings.of(d)) for d in Direction))
    table.add_row("total of its namespace", *(_total(pod.sharing(d)) for d in Direction))
    table.add_row("burst", *(_burst(pod.of(d)) for d in Direction))
    key = f"{pod.namespace}/{pod.name}"
    if sample is not None and any((key, d) in sample.values for d in Direction):
        for title, name, form in _COUNTERS:
            values = (sample.values.get((key, d), {}).get(name) for d in Direction)
            table.add_row(title, *("-" if v is None else form(v) for v in values))
    out.print(table)


def print_groups(groups: tuple["Group", ...], now: float) -> None:
    """One row for each direction of a node, and of a namespace with a total on it."""
    table = make_table(
        *("NODE", "OF", "", "TOTAL", "FROM", "BOOKED", "GUARANTEED"),
        *("USED", "SHORT FOR", "MOST BY"),
    )
    for group in groups:
        total, since = group.total_bits_per_second, group.short_since
        used = format_rate(group.used_bits_per_second)
        if group.unshared_bits_per_second:
            used += f" + {format_rate(group.unshared_bits_per_second)} not shared"
        table.add_row(
            group.node,
            group.group.replace(":", " "),
            group.direction,
            "-" if total is None else format_rate(total),
            group.source or "-",
            _booked_of(group),
            format_rate(group.requested_bits_per_second),
            used,
            "-" if since is None else f"{max(0.0, now - since):.0f} s",
            ", ".join(f"{u.pod} {format_rate(u.bits_per_second)}" for u in group.most) or "-",
        )
    console().print(table)


def print_set(explanation: "Explanation", *, dry_run: bool) -> None:
    """What holds for one pod now, and which word decided."""
    out, pod = console(), explanation.pod
    tried = " (nothing is changed)" if dry_run else ""
    out.print(f"{pod.namespace}/{pod.name}{tried}", soft_wrap=True)
    for explained in explanation.directions:
        bits = explained.bits_per_second
        limit = "no limit of its own" if bits is None else format_bits_per_second(bits)
        out.print(f"{explained.direction:<8}{limit}: {explained.because}", soft_wrap=True)
        for more in filter(None, (explained.guaranteed, explained.booked, explained.shares)):
            out.print(f"        {more}", soft_wrap=True)


def _booked_of(group: "Group") -> str:
    """``200 Mbit/s of 1 Gbit/s``: with the scheduler, of what it has, or is told to have."""
    if group.booked_bits_per_second is None:
        return "-"
    most = group.schedulable_bits_per_second
    of = "nothing" if most is None else format_rate(most)
    there = group.total_bits_per_second
    # Never lowered below what is booked: a kubelet would end pods.
    held = "" if most is None or there is None or most <= there else ", held until pods end"
    return f"{format_rate(group.booked_bits_per_second)} of {of}{held}"


def print_explanation(explanation: "Explanation") -> None:
    """A paragraph per direction, what holds and who says it, and what each policy says."""
    out, pod = console(), explanation.pod
    out.print(f"{pod.namespace}/{pod.name}", soft_wrap=True)
    for explained in explanation.directions:
        bits = explained.bits_per_second
        limit = "no limit of its own" if bits is None else format_bits_per_second(bits)
        out.print(f"{explained.direction:<8}{limit}: {explained.because}", soft_wrap=True)
        out.print(f"        the pod asks for: {explained.asked}", soft_wrap=True)
        if explained.guaranteed:
            out.print(f"        {explained.guaranteed}", soft_wrap=True)
        if explained.booked:
            out.print(f"        {explained.booked}", soft_wrap=True)
        if explained.shares:
            out.print(f"        {explained.shares}", soft_wrap=True)
    status, reason = _in_force(pod)
    out.print(f"in force: {status} ({reason})", soft_wrap=True)
    if pod.condition is not None:
        out.print(f"        {pod.condition.message}", soft_wrap=True)
    if explanation.values:
        table = make_table("KEY", "VALUE", "FROM")
        for value in explanation.values:
            table.add_row(value.key, value.text, value.place)
        out.print(table)
    if explanation.policies:
        table = make_table("POLICY", "PRIORITY", "NAMESPACES", "SAYS")
        for policy in explanation.policies:
            table.add_row(policy.place, str(policy.priority), policy.namespaces, policy.says)
        out.print(table)


def print_refusals(refusals: "Iterable[Refusal]") -> None:
    """A paragraph for each owner: what it was told, and how its quota stands."""
    out = console()
    for refusal in refusals:
        times = "once" if refusal.times == 1 else f"{refusal.times} times"
        said = f"{refusal.owner} could not make pods, {times}, last at {refusal.last}"
        out.print(f"{said}:", soft_wrap=True)
        out.print(f"        {refusal.message}", soft_wrap=True)
        for use in refusal.uses:
            now = f"quota {use.quota} now: {use.resource} {use.used} of {use.hard}"
            out.print(f"        {now}", soft_wrap=True)
        if refusal.advice:
            out.print(f"        {refusal.advice}", soft_wrap=True)


def _in_force(pod: PodLimits) -> tuple[str, str]:
    """Status and reason; a pod without a condition has nobody who speaks of it."""
    if pod.condition is not None:
        return pod.condition.status, pod.condition.reason
    if not pod.limited:
        return "-", "no limit"
    return "Unknown", "no enforcer has spoken" if pod.node else "not scheduled"


def _rate(limit: Limit | None) -> str:
    return "-" if limit is None else format_bits_per_second(limit.bits_per_second)


def _guaranteed(sharing: Sharing) -> str:
    return (
        format_bits_per_second(sharing.request_bits_per_second)
        if sharing.request_bits_per_second
        else "-"
    )


def _booked(bits: int | None) -> str:
    return "-" if bits is None else format_bits_per_second(bits)


def _total(sharing: Sharing) -> str:
    total = sharing.total_bits_per_second
    return "-" if total is None else f"{format_bits_per_second(total)} on this node"


def _burst(limit: Limit | None) -> str:
    return "-" if limit is None else format_bytes(limit.burst_bits / BITS_PER_BYTE)
