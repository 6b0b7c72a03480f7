"""Puts everyone's part in force, and knows what was given last."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from contract.names import Direction
from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Network
from enforcer.reconcile.complaints import Complaints
from enforcer.state import NO_RATES, Given, Rates, Target

_NSEC_PER_SEC: Final = 10**9
STALE_NS: Final = 10 * _NSEC_PER_SEC
"""So long current rates hold when nobody renews them: then equal parts do."""
_RENEW_NS: Final = 4 * _NSEC_PER_SEC
_NEVER_NS: Final = 2**63
Share = tuple[int, Target, Mapping[Direction, Given], bool]
"""Cgroup id, target, what it is given, and whether anything of that is short."""


class Parts:
    """Called under the lock of ``Sharing``."""

    def __init__(self, datapath: Datapath, network: Network, complaints: Complaints) -> None:
        self._datapath = datapath
        self._network = network
        self._complaints = complaints
        self._given: dict[int, tuple[Target, Rates]] = {}
        """By cgroup id: what was given last."""
        self._write_at_ns = 0
        """When something is to be given, or renewed."""

    def last(self, cgroup_id: int) -> tuple[Target, Rates] | None:
        """What was given to it last."""
        return self._given.get(cgroup_id)

    def due(self) -> None:
        """Something is another than it was: write at the next occasion."""
        self._write_at_ns = 0

    def regroup(self, targets: Sequence[Target], shares: Iterable[Share]) -> None:
        """Others are there now: who shares nothing any more has all of its limit."""
        self.due()
        there = {target.cgroup_id: target for target in targets}
        sharing = {number for number, *_ in shares}
        for number, (target, rates) in list(self._given.items()):
            if number not in there:
                del self._given[number]
            elif number not in sharing:
                self.give(there[number], NO_RATES)
                del self._given[number]
            elif there[number] != target:
                self._given[number] = there[number], rates

    def write(self, now_ns: int, shares: Callable[[], Iterable[Share]], local_list: int) -> None:
        """Put in force what differs from what is, if it is time; who gets less first."""
        if now_ns < self._write_at_ns:
            return
        changes: list[tuple[int, Target, Rates]] = []
        is_any_short = False
        for number, target, given, is_short in shares():
            is_any_short |= is_short
            rates = make_rates(given, 0, local_list)
            before = self._given.get(number, (target, NO_RATES))[1]
            is_fresh = before.until_ns - now_ns > STALE_NS - _RENEW_NS
            same = replace(before, until_ns=0) == rates
            if same and (is_fresh if is_short else not before.until_ns):
                continue
            if is_short:
                rates = replace(rates, until_ns=now_ns + STALE_NS)
            changes.append((_more(before, rates), target, rates))
        changes.sort(key=lambda change: change[0])
        are_given = [self.give(target, rates) for _, target, rates in changes]
        is_open = is_any_short or not all(are_given)
        self._write_at_ns = now_ns + _RENEW_NS // 4 if is_open else _NEVER_NS

    def give(self, target: Target, rates: Rates) -> bool:
        """Whether it is in force."""
        try:
            self._datapath.give(target, rates)
            self._network.give(target.cgroup_id, rates)
        except DatapathError as error:
            self._complaints.failed("share", str(error), target)
            return False
        self._complaints.worked("share", target)
        self._given[target.cgroup_id] = target, rates
        return True


def make_rates(given: Mapping[Direction, Given], until_ns: int, local_list: int) -> Rates:
    """One target's, of both directions."""
    return Rates(given.get(Direction.INGRESS), given.get(Direction.EGRESS), until_ns, local_list)


def _more(before: Rates, after: Rates) -> int:
    """How much more is given than before, in both directions together."""
    return sum(
        (given.current if (given := after.of(direction)) else 0)
        - (was.current if (was := before.of(direction)) else 0)
        for direction in Direction
    )
