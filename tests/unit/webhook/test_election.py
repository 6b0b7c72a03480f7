"""One leader among replicas, by a Lease."""

from tests.unit.webhook.fake_api import FakeApi
from webhook.kube.election import LEASE_SECONDS, Election

RELEASE = "podpace-system"


class Contest:
    """Candidates for one lease, and a clock."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = 1000.0

    def candidate(self, name: str) -> Election:
        """One replica."""
        return Election(self.api, RELEASE, "audit", name)

    def campaign(self, candidate: Election) -> bool:
        """At the present time."""
        return candidate.campaign(self.now, self.now)


def test_one_of_two_leads_and_goes_on_leading(api: FakeApi) -> None:
    """Renewing keeps the other out."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")

    led = []
    for _ in range(10):
        led.append((contest.campaign(first), contest.campaign(second)))
        contest.now += 5

    assert led == [(True, False)] * 10


def test_a_dead_leader_is_followed_after_its_lease(api: FakeApi) -> None:
    """Counted from when the follower last saw it renewed, on its own clock."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")
    contest.campaign(first)
    contest.campaign(second)

    contest.now += LEASE_SECONDS - 1
    early = contest.campaign(second)
    contest.now += 1
    late = contest.campaign(second)

    assert (early, late) == (False, True)
    assert not contest.campaign(first)


def test_a_leader_that_resigns_is_followed_at_once(api: FakeApi) -> None:
    """A rolling update need not wait."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")
    contest.campaign(first)

    second.resign(contest.now)
    still = contest.campaign(second)
    first.resign(contest.now)

    assert not still
    assert contest.campaign(second)
