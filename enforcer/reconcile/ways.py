"""Pure: how a target's incoming traffic is held, and how that is told."""

from dataclasses import replace
from typing import Final

from contract.limits import Limit, Limits, default_burst_bits
from contract.names import Direction, Mode
from enforcer.state import (
    Observation,
    ShaperCounters,
    Shaping,
    Surroundings,
    Target,
    TargetCounters,
    Way,
    bound,
    exempt_list_id,
    sent_bound,
)

_NSEC_PER_SEC: Final = 10**9
_SHAPED_BURST_NS: Final = 20_000_000
"""A queue holds what a bound would have to drop, so the default burst need not be a bound's: this
much bridges late timers. A burst that was asked for is given."""

UNQUEUED_BITS_PER_SEC: Final = 100 * 10**9
"""HTB's one lock passes less, and a burst that the bound drops instead lasts microseconds
(docs/design/0004-shaper.md)."""

_UNDER_WAY_BYTES: Final = 1_000_000


def way_of(target: Target, observation: Observation) -> Way:
    """How both directions are held, as far as the interfaces have a part in it."""
    links = observation.surroundings.links
    why = ""
    if observation.outsent:
        names = ", ".join(link.name for link in links)
        why = f"more leaves than its sockets send, bounded at {names}"
    way = replace(ingress_way(target, observation), why_sent=why)
    mtu_bytes = max((link.mtu_bytes for link in links), default=0)
    return replace(way, mtu_bytes=mtu_bytes) if mtu_bytes else way


def ingress_way(target: Target, observation: Observation) -> Way:
    """Shaped where every way in can be; else policed by the programs on the cgroup."""
    around, limit = observation.surroundings, bound(target.limits, Direction.INGRESS)
    if limit is None or target.limits.mode is Mode.OBSERVE:
        return Way(False)
    is_fast = limit.bits_per_second >= UNQUEUED_BITS_PER_SEC
    needless = "at 100G and more a queue costs more than it keeps" if is_fast else ""
    obstacles = (needless, around.obstacle, *(link.obstacle for link in around.links))
    for obstacle in filter(None, obstacles):
        return Way(False, obstacle)
    if not around.links:
        return Way(False, "it has no interface yet")
    if observation.bypassed:
        names = ", ".join(link.name for link in around.links)
        return Way(False, f"packets reach it that did not pass {names}")
    return Way(True)


class Bypass:
    """Notices traffic that one of two places does not see: the interfaces, the cgroup's programs.

    What reaches a target without passing its shaped interfaces was handed over by a shortcut
    (``bpf_redirect_peer``), or came by a way nobody sees; what leaves by them without passing the
    programs was sent by packet sockets, or forwarded. A target found so is taken for such a one
    until its interfaces change.
    """

    def __init__(self) -> None:
        self._received, self._sent = _Twice(), _Twice()

    def noted(
        self,
        path: str,
        observation: Observation,
        shaper: ShaperCounters,
        counted: TargetCounters,
        way: Way,
    ) -> Observation:
        """The observation, with what the counters say since they were looked at last."""
        links = frozenset(link.ifindex for link in observation.surroundings.links)
        if way.is_shaped:
            ingress = counted.ingress
            received_bytes = ingress.passed_bytes + ingress.dropped_bytes
            self._received.look(path, links, shaper.passed_bytes, received_bytes)
        else:
            self._received.pause(path)
        # Also while nothing has been sent: what comes first is to be told, too. Where nothing is
        # counted there, the programs see more, which is never noticed.
        self._sent.look(path, links, counted.egress.passed_bytes, shaper.sent_bytes)
        return self._with_found(path, observation)

    def known(self, path: str, observation: Observation) -> Observation:
        """The observation, with what was found before: nothing was held since the last look."""
        self._received.pause(path)
        self._sent.pause(path)
        return self._with_found(path, observation)

    def _with_found(self, path: str, observation: Observation) -> Observation:
        links = frozenset(link.ifindex for link in observation.surroundings.links)
        return replace(
            observation,
            bypassed=self._received.found.get(path) == links,
            outsent=self._sent.found.get(path) == links,
        )

    def forget(self, path: str) -> None:
        """The target is not limited any more."""
        for twice in (self._received, self._sent):
            twice.pause(path)
            twice.found.pop(path, None)


class _Twice:
    """Traffic that is counted at two places, of which one may see less."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}
        self.found: dict[str, frozenset[int]] = {}

    def look(self, path: str, links: frozenset[int], fewer_bytes: int, more_bytes: int) -> None:
        now = fewer_bytes, more_bytes
        before = self._before.get(path, now)
        self._before[path] = now
        if _is_clearly_less(now[0] - before[0], now[1] - before[1]):
            self.found[path] = links

    def pause(self, path: str) -> None:
        self._before.pop(path, None)


def _is_clearly_less(fewer_bytes: int, more_bytes: int) -> bool:
    """A tenth is missing, and more than what can be under way between the two counters."""
    missing = more_bytes - fewer_bytes
    return missing > _UNDER_WAY_BYTES and missing > more_bytes // 10


def shaping_of(limits: Limits, way: Way, around: Surroundings) -> Shaping | None:
    """What the interfaces have to hold; None for nothing."""
    ingress = bound(limits, Direction.INGRESS) if way.is_shaped else None
    egress = bound(limits, Direction.EGRESS)
    if egress is not None and not _can_bound_sent(egress, limits.mode, around):
        egress = None
    if ingress is None and egress is None:
        return None
    exempt_list = exempt_list_id(limits.exempt_cidrs)
    rate, burst_ns, sent_rate, sent_burst_ns = 0, 0, 0, 0
    if ingress is not None:
        rate, burst_ns = ingress.rate_bytes_per_sec, shaped_burst_ns(ingress)
    if egress is not None:
        sent_rate, sent_burst_ns = sent_bound(egress.rate_bytes_per_sec)
    return Shaping(rate, burst_ns, exempt_list, sent_rate, sent_burst_ns)


def _can_bound_sent(egress: Limit, mode: Mode, around: Surroundings) -> bool:
    return (
        egress.bits_per_second < UNQUEUED_BITS_PER_SEC
        and mode is Mode.ENFORCE
        and bool(around.links)
        and not around.obstacle
        and not any(link.sent_obstacle for link in around.links)
    )


def shaped_burst_ns(limit: Limit) -> int:
    """Credit after idleness, as time at the rate."""
    if limit.burst_bits == default_burst_bits(limit.bits_per_second):
        return _SHAPED_BURST_NS
    return limit.burst_bytes * _NSEC_PER_SEC // max(limit.rate_bytes_per_sec, 1)


def with_way(
    counters: TargetCounters, way: Way | None, shaper: ShaperCounters | None
) -> TargetCounters:
    """A target's counters with what is known of its incoming traffic, and of its requests."""
    counters = _with_shaper(counters, way, shaper)
    if way is None or not any(way.unkept):
        return counters
    ingress, egress = (
        replace(side, why="; ".join(filter(None, (side.why, note))))
        for side, note in zip((counters.ingress, counters.egress), way.unkept, strict=True)
    )
    return replace(counters, ingress=ingress, egress=egress)


def _with_shaper(
    counters: TargetCounters, way: Way | None, shaper: ShaperCounters | None
) -> TargetCounters:
    ingress, egress = counters.ingress, counters.egress
    if way is None or ingress.enforcement == "observed":
        return counters
    if shaper is not None:
        egress = replace(
            egress,
            why=way.why_sent or egress.why,
            dropped_bytes=egress.dropped_bytes + shaper.sent_dropped_bytes,
            dropped_packets=egress.dropped_packets + shaper.sent_dropped_packets,
        )
        counters = replace(counters, egress=egress)
    if not way.is_shaped or shaper is None:
        return replace(counters, ingress=replace(ingress, why=way.why or ingress.why))
    return replace(
        counters,
        ingress=replace(
            ingress,
            enforcement="shaped",
            why="",
            active_flows=shaper.active_flows,
            dropped_bytes=ingress.dropped_bytes + shaper.dropped_bytes,
            dropped_packets=ingress.dropped_packets + shaper.dropped_packets,
            marked_packets=ingress.marked_packets + shaper.marked_packets,
            limited_ns=shaper.limited_ns,
            delay_ns=shaper.delay_ns,
        ),
    )
