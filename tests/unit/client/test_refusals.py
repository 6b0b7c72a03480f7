"""What is said of a workload whose pods were refused."""

import pytest

from client.kube.refusals import QuotaUse, of_workload, read_uses

WORDS = (
    'pods "web-5d4-x" is forbidden: exceeded quota: bandwidth, '
    "requested: requests.podpace.io/egress=200M, used: requests.podpace.io/egress=1G, "
    "limited: requests.podpace.io/egress=1G"
)


def event(owner="web-5d4", message=WORDS, last="2026-12-01T09:00:00Z", **more):
    """As a ReplicaSet gets it."""
    about = {"kind": "ReplicaSet", "name": owner}
    return {"involvedObject": about, "message": message, "lastTimestamp": last, **more}


@pytest.mark.parametrize("name", ["web", "deployment/web", "web-5d4", "replicaset/web-5d4"])
def test_a_refusal_is_found_by_the_name_of_the_workload_or_of_what_it_made(name):
    """And names the quota."""
    (refusal,) = of_workload([event(count=3)], name)

    assert (refusal.owner, refusal.quota, refusal.times) == ("ReplicaSet/web-5d4", "bandwidth", 3)
    assert refusal.message == WORDS
    assert "have the quota raised" in refusal.advice


@pytest.mark.parametrize(
    ("about", "event"),
    [
        ("of another workload", event(owner="webserver-5d4")),
        ("of another resource", event(message="exceeded quota: cpu, requested: requests.cpu=1")),
        ("without a message", event(message=None)),
        ("of nobody", {"message": WORDS}),
    ],
)
def test_an_event_that_is_not_about_this_is_left_out(about, event):
    """Events have optional fields, and other reasons to refuse."""
    assert of_workload([event], "web") == ()


def test_the_last_word_counts_and_the_newest_owner_is_first():
    """Old ReplicaSets of a Deployment have told theirs, too."""
    early, late = "2026-12-01T08:00:00Z", "2026-12-01T10:00:00Z"
    newest = {"count": 9, "lastObservedTime": "2026-12-01T11:00:00Z"}
    events = [
        event(message=WORDS.replace("1G", "2G"), last=late),
        event(last=early),
        event(owner="web-77", last=None, series=newest),
    ]

    first, second = of_workload(events, "web")

    assert (first.owner, first.times, first.last) == (
        "ReplicaSet/web-77",
        9,
        newest["lastObservedTime"],
    )
    assert "2G" in second.message


def test_another_refusal_than_a_quotas_has_its_words_and_no_advice_of_ours():
    """Such as a LimitRange's."""
    said = "maximum podpace.io/egress usage per Container is 50M, but limit is 60M"

    (refusal,) = of_workload([event(message=said)], "web")

    assert (refusal.quota, refusal.advice, refusal.message) == ("", "", said)


def test_of_a_quota_only_bandwidth_is_told():
    """Used is missing until its controller has counted."""
    hard = {"requests.podpace.io/egress": "1G", "requests.cpu": "4"}
    quota = {"metadata": {"name": "bandwidth"}, "status": {"hard": hard}}

    assert read_uses(quota) == (QuotaUse("bandwidth", "requests.podpace.io/egress", "0", "1G"),)
    assert read_uses({"metadata": {"name": "new"}}) == ()
