"""Pure: how a target's incoming traffic is held, and how that is told."""

from dataclasses import replace
from typing import Final

from contract.limits import Limit, Limits, default_burst_bits
from contract.names import Mode
from enforcer.state import (
    Counters,
    Observation,
    ShaperCounters,
    Shaping,
    Target,
    TargetCounters,
    Way,
    exempt_list_id,
)

_NSEC_PER_SEC: Final = 10**9
_SHAPED_BURST_NS: Final = 20_000_000
"""A queue holds what a bound would have to drop, so the default burst need not be a bound's: this
much bridges late timers. A burst that was asked for is given."""

UNQUEUED_BITS_PER_SEC: Final = 100 * 10**9
"""HTB's one lock passes less, and a burst that the bound drops instead lasts microseconds
(docs/design/0004-shaper.md)."""

_UNDER_WAY_BYTES: Final = 1_000_000


def ingress_way(target: Target, observation: Observation) -> Way:
    """Shaped where every way in can be; else policed by the programs on the cgroup."""
    mtu_bytes = max((link.mtu_bytes for link in observation.surroundings.links), default=0)
    way = _ingress_way(target, observation)
    return replace(way, mtu_bytes=mtu_bytes) if mtu_bytes else way


def _ingress_way(target: Target, observation: Observation) -> Way:
    around, limit = observation.surroundings, target.limits.ingress
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
    """Notices packets that reach a target without passing its shaped interfaces.

    Those are handed over by a shortcut (``bpf_redirect_peer``), or come by a way nobody sees.
    A target found so stays policed until its interfaces change.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        self._found: dict[str, frozenset[int]] = {}

    def noted(
        self,
        path: str,
        observation: Observation,
        shaper: ShaperCounters | None,
        ingress: Counters,
    ) -> Observation:
        """The observation, with what the two counters say since they were looked at last."""
        links = frozenset(link.ifindex for link in observation.surroundings.links)
        if shaper is not None:
            now = shaper.passed_bytes, ingress.passed_bytes + ingress.dropped_bytes
            before = self._seen.get(path, now)
            self._seen[path] = now
            if _is_clearly_less(now[0] - before[0], now[1] - before[1]):
                self._found[path] = links
        return replace(observation, bypassed=self._found.get(path) == links)

    def known(self, path: str, observation: Observation) -> Observation:
        """The observation, with what was found before: nothing was shaped since the last look."""
        self._seen.pop(path, None)
        links = frozenset(link.ifindex for link in observation.surroundings.links)
        return replace(observation, bypassed=self._found.get(path) == links)

    def forget(self, path: str) -> None:
        """The target is not limited any more."""
        self._seen.pop(path, None)
        self._found.pop(path, None)


def _is_clearly_less(shaped_bytes: int, received_bytes: int) -> bool:
    """A tenth is missing, and more than what can be under way between the two counters."""
    missing = received_bytes - shaped_bytes
    return missing > _UNDER_WAY_BYTES and missing > received_bytes // 10


def shaping_of(limits: Limits) -> Shaping | None:
    """What an interface has to hold; None for no limit."""
    limit = limits.ingress
    if limit is None:
        return None
    exempt_list = exempt_list_id(limits.exempt_cidrs)
    return Shaping(limit.rate_bytes_per_sec, shaped_burst_ns(limit), exempt_list)


def shaped_burst_ns(limit: Limit) -> int:
    """Credit after idleness, as time at the rate."""
    if limit.burst_bits == default_burst_bits(limit.bits_per_second):
        return _SHAPED_BURST_NS
    return limit.burst_bytes * _NSEC_PER_SEC // max(limit.rate_bytes_per_sec, 1)


def with_way(
    counters: TargetCounters, way: Way | None, shaper: ShaperCounters | None
) -> TargetCounters:
    """A target's counters with what is known of its incoming traffic."""
    ingress = counters.ingress
    if way is None or ingress.enforcement == "observed":
        return counters
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
