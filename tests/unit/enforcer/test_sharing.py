"""enforcer.sharing: who shares with whom, what he wants, and what he is given."""

import pytest

from contract.limits import Limits, Sharing, make_limit, namespace_group
from contract.names import Direction, Mode
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.store import TargetStore
from enforcer.sharing import loop
from enforcer.sharing.demand import Demand
from enforcer.sharing.groups import groups_of, steady
from enforcer.state import Target, bound
from tests.fakes import FakeDatapath, FakeLog, FakeNetwork

EGRESS = Direction.EGRESS
SECOND = 10**9
TOTAL = 100_000_000
TOTAL_BYTES = TOTAL // 8


def member(number: int, *, total: int | None = TOTAL, request: int = 0, **options) -> Target:
    """A pod of one namespace."""
    limits = Limits(
        egress_sharing=Sharing(request, total), group=namespace_group("team"), **options
    )
    return Target(f"pod:team/{number}", f"/pod{number}", number, limits)


class Group:
    """A loop over fakes, whose members send what they want of what they are given."""

    def __init__(self, folder, targets: list[Target]) -> None:
        self.now_ns = 1000 * SECOND
        self.datapath, self.network, self.log = FakeDatapath(), FakeNetwork(), FakeLog()
        self.errors: list[str] = []
        self.store = TargetStore(folder)
        folder.mkdir()
        self.wants: dict[int, int] = {}
        self.sharing = loop.Sharing(
            self.datapath,
            self.network,
            self.store,
            self.log,
            Complaints(self.log, self.errors.append),
            clock_ns=lambda: self.now_ns,
            sleep=self._pass,
        )
        for target in targets:
            self.join(target)
        self.sharing.look()

    def join(self, target: Target) -> None:
        """As the reconciler does it."""
        self.store.save(target)
        self.sharing.admit(target)
        self.datapath.used_bytes[target.cgroup_id] = 0, 0

    def rates(self) -> dict[int, int]:
        """What each may send now."""
        return {number: rates.egress.current for number, rates in self.datapath.given.items()}

    def run(self, seconds: float) -> None:
        """So long."""
        end = self.now_ns + seconds * SECOND
        while self.now_ns < end:
            self.sharing.step()
            assert sum(self.rates().values()) <= 1.09 * TOTAL_BYTES

    def _pass(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        for number, rates in self.datapath.given.items():
            given = rates.egress
            sent = min(self.wants.get(number, 0), given.current)
            before = self.datapath.used_bytes[number][1]
            self.datapath.used_bytes[number] = 0, before + int(sent * seconds)
            if not rates.until_ns and sent > given.current * 0.875:
                self.datapath.wanted_at_ns = self.now_ns


@pytest.fixture
def group(tmp_path):
    """Four members."""
    return Group(tmp_path / "state", [member(number) for number in range(1, 5)])


def test_while_nobody_wants_more_everyone_has_an_equal_part_and_nothing_is_done(group) -> None:
    """No counter is read, no record written."""
    group.wants = {1: TOTAL_BYTES // 8}
    group.run(1)
    gifts = len(group.datapath.gifts)
    group.datapath.used_bytes = Unread(group.datapath.used_bytes)

    group.run(10)

    assert group.rates() == dict.fromkeys(range(1, 5), TOTAL_BYTES // 4)
    assert len(group.datapath.gifts) == gifts
    assert all(not rates.until_ns for rates in group.datapath.given.values())


class Unread(dict):
    """Counters that tests change and that nobody may ask the datapath for."""

    def get(self, key, default=None):
        """Fails."""
        raise AssertionError(f"the counters of {key} were read")


def test_one_that_wants_all_has_nearly_all_within_half_a_second(group) -> None:
    """The others keep a little, beside that, to be seen with when they come back."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(0.5)

    assert group.rates()[1] >= 0.98 * TOTAL_BYTES
    assert group.log.events == ["short"]


def test_who_comes_back_has_his_part_within_half_a_second_and_who_goes_leaves_it(group) -> None:
    """Both ways."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(2)
    group.wants[2] = 10 * TOTAL_BYTES
    group.run(0.5)
    assert group.rates()[2] >= 0.48 * TOTAL_BYTES

    del group.wants[1]
    group.run(0.5)
    assert group.rates()[2] >= 0.97 * TOTAL_BYTES


def test_steady_demands_give_steady_rates(group) -> None:
    """Nothing is written but what renews the rates."""
    group.wants = {1: 10 * TOTAL_BYTES, 2: TOTAL_BYTES // 10, 3: TOTAL_BYTES // 20}
    group.run(3)
    before, gifts = group.rates(), len(group.datapath.gifts)

    group.run(9)

    assert group.rates() == before
    assert len(group.datapath.gifts) - gifts <= 3 * len(before)


def test_when_all_is_calm_again_the_equal_parts_hold_for_good(group) -> None:
    """And nobody is looked at any more."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(2)
    group.wants = {}
    group.run(4)

    assert group.rates() == dict.fromkeys(range(1, 5), TOTAL_BYTES // 4)
    assert all(not rates.until_ns for rates in group.datapath.given.values())
    assert group.log.events == ["short", "enough"]


def test_current_rates_end_by_themselves_and_then_the_equal_parts_hold(group) -> None:
    """Ten seconds after they were written, which together are no more than the total."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(5)

    for rates in group.datapath.given.values():
        assert 5 * SECOND < rates.until_ns - group.now_ns <= 10 * SECOND
        assert rates.egress.later == TOTAL_BYTES // 4


def test_one_that_comes_to_a_short_group_begins_with_little(group) -> None:
    """So that the sum holds from its first packet on; then it has its part."""
    group.wants = dict.fromkeys(range(1, 5), 10 * TOTAL_BYTES)
    group.run(2)

    group.join(member(5))
    assert sum(group.rates().values()) <= 1.09 * TOTAL_BYTES
    group.wants[5] = 10 * TOTAL_BYTES
    group.sharing.look()
    group.run(0.6)

    assert group.rates()[5] == pytest.approx(TOTAL_BYTES // 5, rel=0.03)


def test_who_gets_less_is_told_first(group) -> None:
    """So that the sum of what is in force is never more than the total."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(2)
    group.wants = {2: 10 * TOTAL_BYTES, 3: 10 * TOTAL_BYTES}
    in_force, start = group.rates(), len(group.datapath.gifts)
    group.run(2)

    for number, rates in group.datapath.gifts[start:]:
        in_force[number] = rates.egress.current
        assert sum(in_force.values()) <= 1.09 * TOTAL_BYTES


def test_a_restart_gives_equal_parts_before_anything_is_put_in_force(tmp_path) -> None:
    """Whatever an earlier daemon had given."""
    group = Group(tmp_path / "state", [])
    targets = [member(number) for number in range(1, 5)]
    for target in targets:
        group.store.keep(target)

    group.sharing.adopt(targets)

    assert group.rates() == dict.fromkeys(range(1, 5), TOTAL_BYTES // 4)


def test_a_target_that_shares_no_more_is_given_nothing(group) -> None:
    """Its own limit holds."""
    alone = Target("pod:team/1", "/pod1", 1, Limits(egress=make_limit(TOTAL)))
    group.store.save(alone)
    group.sharing.admit(alone)
    group.sharing.look()

    assert group.datapath.given[1].egress is None
    assert group.datapath.given[2].egress.current == TOTAL_BYTES // 3


def test_the_smallest_total_that_members_carry_holds_and_observers_are_no_members() -> None:
    """Pods are labelled one after the other when a policy changes."""
    targets = [member(1), member(2, total=TOTAL // 2), member(3, mode=Mode.OBSERVE)]
    (group,) = groups_of(targets).values()

    assert group.total == TOTAL_BYTES // 2
    assert group.targets == tuple(targets[:2])


def test_requests_hold_within_a_total(tmp_path) -> None:
    """Against any number of others."""
    crowd = [member(1, request=TOTAL // 2), *(member(number) for number in range(2, 12))]
    group = Group(tmp_path / "state", crowd)
    group.wants = dict.fromkeys(range(1, 12), 10 * TOTAL_BYTES)
    group.run(1)

    assert group.rates()[1] >= TOTAL_BYTES // 2


class Slow(dict):
    """Counters that take a twentieth of a second to read."""

    def __init__(self, counters, group):
        super().__init__(counters)
        self.group, self.reading_ns = group, 0

    def get(self, key, default=None):
        """Time passes."""
        self.group.now_ns += SECOND // 20
        self.reading_ns += SECOND // 20
        return super().get(key, default)


def test_a_machine_that_is_slow_keeps_most_of_its_time(group) -> None:
    """It is divided less often there."""
    group.wants = {1: 10 * TOTAL_BYTES}
    group.run(1)
    group.datapath.used_bytes = slow = Slow(group.datapath.used_bytes, group)
    started_ns = group.now_ns

    group.run(20)

    assert 0 < slow.reading_ns <= (group.now_ns - started_ns) / loop.REST


def test_a_fault_of_one_member_is_told_and_leaves_the_others_their_parts(group) -> None:
    """Once."""
    group.datapath.fail["give"] = "no such cgroup"
    group.wants = {1: 10 * TOTAL_BYTES}
    for _ in range(20):
        group.sharing.step()

    assert "share" in group.errors
    assert [event for event in group.log.events if event == "failed"]


@pytest.mark.parametrize(
    ("own", "total", "expected"),
    [(10, 20, 10), (20, 10, 10), (None, 10, 10), (10, None, 10), (None, None, None)],
)
def test_the_smaller_of_limit_and_total_bounds(own, total, expected) -> None:
    """In Mbit/s."""
    mega = 1_000_000
    limits = Limits(
        egress=None if own is None else make_limit(own * mega),
        egress_sharing=Sharing(0, None if total is None else total * mega),
    )
    found = bound(limits, EGRESS)
    assert (None if found is None else found.bits_per_second // mega) == expected


@pytest.mark.parametrize(
    ("before", "wanted", "kept"),
    [
        ([50, 50], [50, 50], [50, 50]),
        ([1000, 1000], [1005, 995], [1000, 1000]),
        ([1000, 1000], [1500, 500], [1500, 500]),
        ([1000, 1000, 0], [990, 990, 20], [990, 990, 20]),
        ([None, None], [1000, 1000], [1000, 1000]),
    ],
)
def test_rates_that_would_hardly_change_stay_but_never_above_the_total(
    before, wanted, kept
) -> None:
    """The total is what is wanted together."""
    assert steady(before, wanted, sum(wanted)) == kept


def looked(used: list[int], given: int, seconds: float = 0.15) -> Demand:
    """A demand after looks at a counter."""
    demand, now_ns = Demand(), SECOND
    for bytes_now in used:
        demand.look(now_ns, bytes_now, given)
        now_ns += int(seconds * SECOND)
    return demand


def test_who_uses_all_it_is_given_wants_everything() -> None:
    """97 % is all."""
    assert looked([0, 145_500], 1_000_000).wants(10**9) == 10**9


def test_who_uses_less_wants_a_little_more_than_that() -> None:
    """The second look says so: the first may be a pause."""
    demand = looked([0, 50_000, 100_000], 1_000_000)
    demand.wants(10**9)
    assert demand.wants(10**9) == pytest.approx(50_000 / 0.15 * 1.15, rel=0.01)


def test_a_few_frames_at_a_low_rate_are_not_hunger_and_a_burst_is() -> None:
    """A member that was idle has little: one packet is more than that."""
    assert looked([0, 1514], 4000).wants(10**9) < 10**9
    assert looked([0, 7000], 4000).wants(10**9) == 10**9


def test_a_counter_that_begins_anew_says_nothing() -> None:
    """Nobody has used less than nothing."""
    assert looked([10**9, 0], 1000).wants(10**9) == 0
