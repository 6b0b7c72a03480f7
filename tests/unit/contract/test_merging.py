"""What holds in a namespace, by the cluster's policies and its own."""

import pytest

from contract.effective import EffectivePolicy, Sourced
from contract.merging import Layer, merge, merge_for_any, select
from contract.names import Direction, GateRule, Mode, OnViolation, Require, Source
from contract.policy import Scope, parse_policy

M = 1_000_000


def own(**data: str) -> Layer:
    """The policy of the namespace."""
    policy, problems = parse_policy(_keys(data))
    assert problems == ()
    return Layer("shop", "podpace-policy", Source.NAMESPACE, policy)


def cluster(policy_name: str = "podpace-policy", /, **data: str) -> Layer:
    """A policy of the cluster."""
    scope = Scope.CLUSTER if policy_name == "podpace-policy" else Scope.SELECTED
    policy, problems = parse_policy(_keys(data), scope)
    assert problems == ()
    return Layer("rel", policy_name, Source.CLUSTER, policy)


def _keys(data: dict[str, str]) -> dict[str, str]:
    return {k.replace("__", ".").replace("_", "-"): v for k, v in data.items()}


def rates(
    effective: EffectivePolicy, direction: Direction = Direction.EGRESS
) -> tuple[object, ...]:
    """Default, min and max in megabits per second."""
    bounds = effective.of(direction)
    return tuple(s and s.bits_per_second // M for s in (bounds.default, bounds.min, bounds.max))


def test_where_nobody_says_anything_nothing_is_limited() -> None:
    """No default sneaks in."""
    assert merge(None, ()) == EffectivePolicy()
    assert merge(own(), [cluster()]) == EffectivePolicy()


def test_a_namespace_may_tighten_and_not_loosen() -> None:
    """Smaller max, larger min, smaller burst.max, stricter require."""
    bound = cluster(ingress__max="100M", ingress__min="2M", ingress__burst__max="2M", require="any")
    loose = own(ingress__max="1G", ingress__min="1M", ingress__burst__max="9M", require="none")
    tight = own(ingress__max="50M", ingress__min="3M", ingress__burst__max="1M", require="both")

    loosened, tightened = merge(loose, [bound]), merge(tight, [bound])

    theirs, ours = "podpace-policy in rel", "podpace-policy in shop"
    assert loosened.ingress.max == Sourced(100 * M, Source.CLUSTER, theirs)
    assert loosened.ingress.min == Sourced(2 * M, Source.CLUSTER, theirs)
    assert (loosened.ingress.burst_max, loosened.require) == (2 * M, Require.ANY)
    assert tightened.ingress.max == Sourced(50 * M, Source.NAMESPACE, ours)
    assert tightened.ingress.min == Sourced(3 * M, Source.NAMESPACE, ours)
    assert (tightened.ingress.burst_max, tightened.require) == (1 * M, Require.BOTH)


@pytest.mark.parametrize(
    ("ours", "theirs", "held"),
    [
        ({"egress__min": "20M"}, {"egress__max": "10M"}, (10, 10, 10)),
        ({"egress__max": "1M"}, {"egress__min": "5M"}, (5, 5, 5)),
        ({"egress__max": "1M"}, {"egress__min": "5M", "egress__max": "9M"}, (5, 5, 5)),
        ({"egress__min": "1G"}, {"egress__min": "5M", "egress__max": "9M"}, (9, 9, 9)),
        ({"egress__default": "1G"}, {"egress__max": "9M"}, (9, None, 9)),
        ({"egress__default": "1M"}, {"egress__min": "5M"}, (5, 5, None)),
        ({"egress__default": "7M"}, {"egress__default": "8M", "egress__max": "9M"}, (7, None, 9)),
    ],
)
def test_a_namespace_s_word_is_brought_within_the_cluster_s_bounds(
    ours: dict[str, str], theirs: dict[str, str], held: tuple[object, ...]
) -> None:
    """Both ways: its max does not go below the cluster's min, nor its min above the max."""
    assert rates(merge(own(**ours), [cluster(**theirs)])) == held


def test_taking_a_namespace_s_policy_away_lifts_nothing_that_the_cluster_set() -> None:
    """Whatever it said: the cluster's bounds are in force without it, too."""
    bound = cluster(egress__max="10M", egress__min="1M", mode="enforce", exempt_cidrs="")

    without = merge(None, [bound])

    assert rates(without) == (10, 1, 10)
    assert (without.mode, without.exempt_cidrs) == (Mode.ENFORCE, ())


def test_a_max_is_the_default_where_there_is_none() -> None:
    """A pod without a limit would be above any max."""
    effective = merge(None, [cluster(egress__max="10M")])

    assert effective.egress.default == effective.egress.max


FREE = cluster("free", namespace_selector="tier in (free,trial)", priority="10", egress__max="10M")
PAID = cluster("paid", namespace_selector="tier=paid", egress__max="1G")
ALL = cluster(egress__max="100M", ingress__max="100M", mode="observe")


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ({"tier": "free"}, ["free", "podpace-policy"]),
        ({"tier": "trial"}, ["free", "podpace-policy"]),
        ({"tier": "paid"}, ["paid", "podpace-policy"]),
        ({}, ["podpace-policy"]),
        (None, ["free", "paid", "podpace-policy"]),
    ],
)
def test_policies_hold_in_the_namespaces_that_they_select(
    labels: dict[str, str] | None, chosen: list[str]
) -> None:
    """The higher priority first; at the same, the one for all last."""
    assert [layer.name for layer in select([ALL, PAID, FREE], labels)] == chosen


def test_of_several_policies_of_the_cluster_the_tightest_bounds_hold() -> None:
    """Whatever their priorities; each value knows its ConfigMap."""
    effective = merge(None, select([ALL, FREE], {"tier": "free"}))

    assert rates(effective) == (10, None, 10)
    assert rates(effective, Direction.INGRESS) == (100, None, 100)
    assert effective.places["egress.max"] == "free in rel"
    assert effective.places["ingress.max"] == "podpace-policy in rel"


def test_of_several_policies_of_the_cluster_the_higher_priority_has_the_word() -> None:
    """On all that is not a bound, in whatever order they came."""
    low = cluster(
        mode="enforce",
        on_violation="deny",
        require="both",
        take_over="true",
        readiness_gate="always",
        exempt_cidrs="10.0.0.0/8",
        egress__default="5M",
    )
    high = cluster(
        "high",
        priority="1",
        mode="observe",
        on_violation="clamp",
        require="none",
        take_over="false",
        readiness_gate="never",
        exempt_cidrs="",
        egress__default="7M",
    )

    effective = merge(None, select([low, high], {}))

    assert effective.mode is Mode.OBSERVE
    assert effective.on_violation is OnViolation.CLAMP
    assert effective.require is Require.NONE
    assert effective.take_over is False
    assert effective.readiness_gate is GateRule.NEVER
    assert effective.exempt_cidrs == ()
    assert rates(effective) == (7, None, None)
    assert set(effective.places.values()) == {"high in rel"}
    assert len(effective.places) == 7


@pytest.mark.parametrize(
    ("ours", "theirs", "mode"),
    [
        ({}, {}, Mode.ENFORCE),
        ({"mode": "observe"}, {}, Mode.OBSERVE),
        ({}, {"mode": "observe"}, Mode.OBSERVE),
        ({"mode": "enforce"}, {"mode": "observe"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"mode": "enforce"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"ingress__max": "1M"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"ingress__max": "1M", "mode": "observe"}, Mode.OBSERVE),
    ],
)
def test_observing_is_no_way_round_the_cluster(
    ours: dict[str, str], theirs: dict[str, str], mode: Mode
) -> None:
    """A namespace observes only where the cluster does not insist."""
    assert merge(own(**ours), [cluster(**theirs)]).mode is mode


@pytest.mark.parametrize(
    ("ours", "theirs", "exempt"),
    [
        (None, "10.0.0.0/8", ("10.0.0.0/8",)),
        ("10.1.0.0/16,11.0.0.0/8", "10.0.0.0/8", ("10.1.0.0/16",)),
        ("10.1.0.0/16", None, ("10.1.0.0/16",)),
        ("::/0", "10.0.0.0/8", ()),
        ("10.0.0.0/7", "10.0.0.0/8", ()),
        ("", "10.0.0.0/8", ()),
    ],
)
def test_a_namespace_exempts_only_within_what_the_cluster_exempts(
    ours: str | None, theirs: str | None, exempt: tuple[str, ...]
) -> None:
    """Where the cluster says nothing, the namespace may say anything."""
    mine = own() if ours is None else own(exempt_cidrs=ours)
    others = cluster() if theirs is None else cluster(exempt_cidrs=theirs)

    assert merge(mine, [others]).exempt_cidrs == exempt


def test_exempting_everything_is_no_way_round_a_cluster_max() -> None:
    """An exemption would lift the limit."""
    assert merge(own(exempt_cidrs="0.0.0.0/0"), [cluster(egress__max="1M")]).exempt_cidrs == ()


@pytest.mark.parametrize(
    ("key", "mild", "strict"),
    [
        ("on_violation", "clamp", "deny"),
        ("require", "any", "both"),
        ("mode", "observe", "enforce"),
        ("readiness_gate", "on-request", "always"),
    ],
)
def test_a_namespace_may_be_stricter_than_the_cluster_and_not_milder(
    key: str, mild: str, strict: str
) -> None:
    """Where the cluster is silent it may say what it likes."""

    def held(ours: str, theirs: str | None) -> object:
        others = cluster(**{key: theirs}) if theirs else cluster()
        return getattr(merge(own(**{key: ours}), [others]), key)

    assert held(strict, mild) == strict
    assert held(mild, strict) == strict
    assert held(mild, None) == mild


def test_a_namespace_decides_about_booking_where_the_cluster_is_silent() -> None:
    """Neither word is stricter; of the cluster's the first that says one."""
    assert merge(own(schedule="true"), [cluster()]).schedule is True
    assert merge(own(schedule="false"), [cluster(schedule="true")]).schedule is True
    assert merge(own(schedule="true"), [cluster(schedule="false")]).schedule is False
    assert merge(None, [cluster()]).schedule is False


def test_a_namespace_decides_about_take_over_where_the_cluster_is_silent() -> None:
    """Neither word is stricter, so the cluster's binds."""
    assert merge(own(take_over="true"), [cluster()]).take_over is True
    assert merge(own(take_over="false"), [cluster(take_over="true")]).take_over is True


def test_a_namespace_of_which_nothing_is_known_is_bounded_by_all_and_refused_nothing() -> None:
    """It may be any of them; what is too much is brought down instead of refused."""
    held = cluster("held", namespace_selector="a", mode="enforce", require="both")
    effective = merge_for_any(None, [ALL, FREE, PAID, held])

    assert rates(effective) == (10, None, 10)
    assert effective.on_violation is OnViolation.CLAMP
    assert effective.require is Require.NONE
    assert effective.mode is Mode.ENFORCE
    assert merge_for_any(None, [ALL]) == merge(None, [ALL])


@pytest.mark.parametrize(
    ("ours", "theirs", "held"),
    [
        (None, ["100M"], "100M cluster"),
        (None, ["100M", "50M"], "50M cluster"),
        ("30M", ["100M", "50M"], "30M namespace"),
        ("70M", ["50M"], "50M cluster"),
        ("50M", ["50M"], "50M cluster"),
        ("70M", [], "70M namespace"),
        (None, [], None),
    ],
)
def test_a_total_is_the_smallest_that_anybody_says(
    ours: str | None, theirs: list[str], held: str | None
) -> None:
    """A tenant may only tighten the platform's."""
    layers = [cluster(f"c{n}", egress__total_per_node=text) for n, text in enumerate(theirs)]

    found = merge(None if ours is None else own(egress__total_per_node=ours), layers)

    total = found.egress.total
    said = total and f"{total.bits_per_second // M}M {total.source}"
    assert (said, found.ingress.total) == (held, None)
    assert ("egress.total-per-node" in found.places) == (held is not None)


def test_a_total_of_the_cluster_is_held_and_not_got_round() -> None:
    """By a tenant's word that it is only observed, or that everything is exempt."""
    found = merge(
        own(mode="observe", exempt_cidrs="0.0.0.0/0"), [cluster(egress__total_per_node="9M")]
    )

    assert (found.mode, found.exempt_cidrs) == (Mode.ENFORCE, ())


@pytest.mark.parametrize(
    ("ours", "theirs", "held"),
    [
        ({}, {}, (None, None, None)),
        ({}, {"request__max": "5M"}, (None, None, 5)),
        ({}, {"request__min": "5M"}, (5, 5, None)),
        ({"request__default": "9M"}, {"request__max": "5M"}, (5, None, 5)),
        ({"request__default": "1M"}, {"request__min": "2M"}, (2, 2, None)),
        ({"request__max": "3M"}, {"request__max": "5M"}, (None, None, 3)),
        ({"request__max": "9M"}, {"request__max": "5M"}, (None, None, 5)),
        ({"request__min": "9M"}, {"request__max": "5M"}, (5, 5, 5)),
        ({"request__min": "2M"}, {"request__min": "3M"}, (3, 3, None)),
        ({"request__default": "2M"}, {"request__default": "3M"}, (2, None, None)),
    ],
)
def test_requests_have_an_interval_of_their_own(
    ours: dict[str, str], theirs: dict[str, str], held: tuple[object, ...]
) -> None:
    """Where there is a min there is a default: without a request a pod would be below any."""

    def egress(said: dict[str, str]) -> dict[str, str]:
        return {f"egress__{key}": text for key, text in said.items()}

    found = merge(own(**egress(ours)), [cluster(**egress(theirs))])

    request = found.egress.request
    values = (request.default, request.min, request.max)
    assert tuple(s and s.bits_per_second // M for s in values) == held
    keys = ("default", "min", "max")
    assert [f"egress.request.{key}" in found.places for key in keys] == [
        v is not None for v in held
    ]
    assert rates(found) == (None, None, None)
