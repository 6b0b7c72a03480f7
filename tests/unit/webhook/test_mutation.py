"""The decision about a pod, and the patch. The cluster's table of cases has the rest."""

import json
from typing import Any

import msgspec
import pytest

from contract.effective import EffectivePolicy
from contract.merging import Layer, merge
from contract.names import Source
from contract.policy import parse_policy
from contract.problems import Problem
from tests.unit.webhook.patching import apply_patch
from webhook import checks
from webhook.jsonpatch import Operation, change_map, escape
from webhook.mutation import OUR_LABELS, Decision, decide, denial_message
from webhook.reviews import Pod, encode_patch, fit_warnings

EGRESS = "podpace.io/egress-bandwidth"


def policy(**data: str) -> EffectivePolicy:
    """The policy of a namespace, ``egress_max="1M"``."""
    said, _ = parse_policy({k.replace("_", ".", 1): v for k, v in data.items()})
    return merge(Layer("default", "podpace-policy", Source.NAMESPACE, said), ())


def pod(metadata: dict[str, Any], **spec: Any) -> Pod:
    """A pod as it comes off the wire."""
    return msgspec.json.decode(json.dumps({"metadata": metadata, "spec": spec}), type=Pod)


def change(raw: dict[str, Any], rules: EffectivePolicy) -> dict[str, Any]:
    """A pod as the API server stores it after our answer."""
    decision = decide(msgspec.convert(raw, Pod), rules)
    assert decision.allowed
    return apply_patch(raw, encode_patch(decision.patch))


def test_the_checks_run_in_this_order() -> None:
    """The order is what a user reads first; a change must be meant."""
    assert [c.__name__ for c in checks.CHECKS] == [
        "misspelt_keys",
        "too_many_keys",
        "unreadable_quantities",
        "unreadable_gate",
        "bursts_without_limit",
        "requests_above_limits",
        "requests_above_bookings",
        "out_of_bounds",
        "missing_limits",
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {EGRESS: "10M"}},
        {"annotations": {EGRESS: "10M"}, "labels": None},
        {"annotations": {EGRESS: "10M"}, "labels": {}},
        {"annotations": {EGRESS: "10M"}, "labels": {"app": "x", "a~b/c": "~1"}},
        {"annotations": {EGRESS: "10M"}, "labels": dict.fromkeys(OUR_LABELS, "wrong")},
    ],
)
def test_the_patch_works_on_any_shape_of_pod_and_changes_nothing_twice(
    metadata: dict[str, Any],
) -> None:
    """Absent, null, empty and full maps; the result needs no change."""
    raw = {"metadata": metadata, "spec": {}}

    changed = change(raw, policy())

    labels = changed["metadata"]["labels"]
    assert labels["podpace.io/egress-bits-per-second"] == "10000000"
    assert "podpace.io/ingress-bits-per-second" not in labels
    foreign = {k: v for k, v in (metadata.get("labels") or {}).items() if k not in OUR_LABELS}
    assert foreign.items() <= labels.items()
    assert decide(msgspec.convert(changed, Pod), policy()).patch == ()


def test_a_pod_that_is_none_of_our_business_is_not_touched() -> None:
    """No patch at all, not an empty map."""
    assert decide(pod({"name": "a"}), policy()).patch == ()


def test_only_our_keys_are_in_the_patch() -> None:
    """Whatever else the pod carries."""
    raw = pod({"annotations": {EGRESS: "1M", "a/b": "c"}, "labels": {"x": "y"}}, readinessGates=[])

    paths = {o.path for o in decide(raw, policy()).patch}

    assert paths
    assert all(p.startswith("/metadata/labels/podpace.io~1") for p in paths)


def test_an_update_is_refused_only_for_what_it_brings() -> None:
    """Old problems become warnings, and what is in force is within the policy."""
    old = pod({"annotations": {EGRESS: "10M"}})
    new = pod({"annotations": {EGRESS: "10M", "podpace.io/ingress-bandwidth": "5"}})

    touched = decide(old, policy(egress_max="1M"), old)
    worsened = decide(new, policy(egress_max="1M"), old)

    assert touched.allowed
    assert "is above the namespace's maximum" in touched.warnings[0]
    assert touched.resolution is not None
    assert touched.resolution.egress is not None
    assert touched.resolution.egress.limit.bits_per_second == 1_000_000
    assert [p.key for p in worsened.problems] == ["podpace.io/ingress-bandwidth"]


def test_a_gate_asked_for_later_is_told_to_be_too_late() -> None:
    """Readiness gates are immutable."""
    old = pod({"annotations": {EGRESS: "10M"}})
    new = pod({"annotations": {EGRESS: "10M", "podpace.io/readiness-gate": "true"}})

    decision = decide(new, policy(), old)

    assert any("only when a pod is created" in w for w in decision.warnings)
    assert all("readinessGates" not in o.path for o in decision.patch)


def test_a_denial_names_every_problem_and_cuts_long_texts() -> None:
    """One line each, at most a hundred; keys and texts are cut."""
    problems = [Problem(f"k{n}" * 100, "y" * 999, "is wrong", "write less") for n in range(150)]

    message = denial_message(problems, "the pod's bandwidth")

    lines = message.splitlines()
    assert lines[0] == "150 problems with the pod's bandwidth:"
    assert lines[-1].strip() == "and 50 more"
    assert len(lines) == 102
    assert max(map(len, lines)) < 250


def test_very_many_misspelt_keys_are_a_few_problems_and_the_limit_still_holds() -> None:
    """On an update, too, where the pod had them all before."""
    keys = {f"podpace.io/{n:05d}gress-bandwidt": "x" * 9999 for n in range(8700)}
    crowded = pod({"annotations": keys | {EGRESS: "10M"}})

    created = decide(crowded, policy(egress_max="1M"))
    updated = decide(crowded, policy(egress_max="1M"), crowded)

    assert 0 < len(created.problems) < 30
    assert "are more than 16 keys" in denial_message(created.problems, "it")
    assert updated.allowed
    assert updated.resolution is not None
    assert updated.resolution.egress is not None
    assert updated.resolution.egress.limit.bits_per_second == 1_000_000
    assert len(str(created.problems)) + len(str(updated.warnings)) < 20_000


@pytest.mark.parametrize("key", ["podpace.io/colour", "podpace.io/egress-quota"])
def test_an_unknown_key_that_is_no_near_miss_is_admitted_with_a_warning(key: str) -> None:
    """It may be a newer version's, whose chart is rolled out or back at the moment."""
    decision = decide(pod({"annotations": {key: "1M", EGRESS: "1M"}}), policy())

    assert decision.allowed
    assert decision.warnings == (f"{key} is a key that podpace does not know; it has no effect",)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (EGRESS, "write it as an annotation"),
        ("kubernetes.io/ingress-bandwidth", "write it as an annotation"),
        ("podpace.io/readiness-gate", "write it as an annotation"),
        ("podpace.io/ignore", "is a label of namespaces"),
    ],
)
def test_a_key_written_as_a_label_is_warned_of(key: str, said: str) -> None:
    """Nobody would read it there."""
    decision = decide(pod({"labels": {key: "10M", "app": "web"}}), policy())

    assert decision.allowed
    [warning] = decision.warnings
    assert key in warning
    assert said in warning


def test_warnings_fit_what_the_api_server_passes_on() -> None:
    """Cut one by one and all together, and the rest is counted."""
    fitted = fit_warnings(["w" * 300] * 40)

    assert all(len(w) <= 240 for w in fitted)
    assert sum(len(w.encode()) for w in fitted) <= 4096
    assert fitted[-1] == f"and {40 - len(fitted) + 1} more warnings"


def test_pointers_are_escaped() -> None:
    """RFC 6901, tilde first."""
    assert escape("a/b~c") == "a~1b~0c"


def test_removing_from_an_absent_map_is_nothing() -> None:
    """A remove of what is not there would fail the request."""
    assert change_map("/m", None, {}, frozenset({"a"})) == []
    assert change_map("/m", {"b": "1"}, {}, frozenset({"a"})) == []
    assert change_map("/m", {"a": "1"}, {}, frozenset({"a"})) == [Operation("remove", "/m/a")]


def test_a_mirror_pod_is_none_of_our_business() -> None:
    """Even when it would be refused."""
    mirror = pod({"annotations": {"kubernetes.io/config.mirror": "x", EGRESS: "wrong"}})

    assert decide(mirror, policy(require="both")) == Decision((), (), (), None)


TOTAL = policy(**{"egress_total-per-node": "100M", "ingress_default": "5M"})


def test_a_pod_without_a_limit_is_labelled_where_its_namespace_has_a_total() -> None:
    """So that the enforcer holds it; it may wait for that, too."""
    total = policy(**{"egress_total-per-node": "100M"})
    gate = {"podpace.io/readiness-gate": "true"}

    changed = change({"metadata": {"annotations": gate}, "spec": {}}, total)

    assert changed["metadata"]["labels"] == {
        "podpace.io/limited": "true",
        "podpace.io/egress-total-bits-per-second": "100000000",
        "podpace.io/source": "namespace",
        "podpace.io/mode": "enforce",
    }
    assert len(changed["spec"]["readinessGates"]) == 1
    assert not decide(pod({"annotations": gate}), total).warnings


def test_every_pod_of_the_namespace_carries_its_total() -> None:
    """Beside its own limits."""
    changed = change({"metadata": {"annotations": {EGRESS: "10M"}}}, TOTAL)

    labels = changed["metadata"]["labels"]
    assert labels["podpace.io/egress-bits-per-second"] == "10000000"
    assert labels["podpace.io/egress-total-bits-per-second"] == "100000000"
    assert labels["podpace.io/ingress-bits-per-second"] == "5000000"
    assert "podpace.io/ingress-total-bits-per-second" not in labels
    assert labels["podpace.io/source"] == "pod"


def test_a_limit_above_the_total_stays_and_is_told() -> None:
    """It cannot be reached, and harms nobody."""
    decision = decide(pod({"annotations": {EGRESS: "200M"}}), TOTAL)

    assert decision.allowed
    assert decision.resolution is not None
    assert decision.resolution.egress is not None
    assert decision.resolution.egress.limit.bits_per_second == 200_000_000
    assert decision.warnings == (
        "podpace.io/egress-bandwidth is above what all pods of the namespace have on a node "
        "together, 100 Mbit/s by the namespace's policy",
    )
    assert not decide(pod({"annotations": {EGRESS: "100M"}}), TOTAL).warnings


def test_a_total_that_is_gone_takes_its_labels_along() -> None:
    """Nothing is held any more that nobody wants."""
    before = change({"metadata": {}}, policy(**{"egress_total-per-node": "100M"}))

    after = change(before, policy())

    assert not after["metadata"]["labels"]


REQUEST = "podpace.io/egress-request"


@pytest.mark.parametrize(
    ("annotations", "rules", "problem"),
    [
        ({EGRESS: "10M", REQUEST: "10M"}, {}, None),
        ({REQUEST: "1G"}, {}, None),
        (
            {EGRESS: "10M", REQUEST: "20M"},
            {},
            "is above the pod's limit, 10 Mbit/s, of which it is a part; "
            "write 10000000 or less, or raise podpace.io/egress-bandwidth",
        ),
        (
            {REQUEST: "20M"},
            {"egress_default": "10M"},
            "is above the pod's limit, 10 Mbit/s, of which it is a part; "
            "write 10000000 or less, or raise podpace.io/egress-bandwidth",
        ),
        (
            {REQUEST: "20M"},
            {"egress_request.max": "5M"},
            "is above the namespace's maximum, 5 Mbit/s; write 5000000 or less",
        ),
        (
            {REQUEST: "20M"},
            {"egress_request.min": "50M"},
            "is below the namespace's minimum, 50 Mbit/s; write 50000000 or more",
        ),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_what_to_do(
    annotations: dict[str, str], rules: dict[str, str], problem: str | None
) -> None:
    """Above the limit, or out of the policy's bounds."""
    decision = decide(pod({"annotations": annotations}), policy(**rules))

    told = [str(found).partition('" ')[2] for found in decision.problems]
    assert told == ([] if problem is None else [problem])


def test_a_request_above_the_policys_limit_is_brought_down_where_it_says_so() -> None:
    """A pod that contradicts itself is refused all the same."""
    clamp = policy(**{"egress_max": "5M", "on-violation": "clamp"})

    brought = decide(pod({"annotations": {REQUEST: "8M"}}), clamp)
    own = decide(pod({"annotations": {EGRESS: "2M", REQUEST: "8M"}}), clamp)

    assert brought.allowed
    assert brought.resolution is not None
    assert brought.resolution.egress_request is not None
    assert brought.resolution.egress_request.bits_per_second == 5_000_000
    assert len(brought.warnings) == 1
    assert brought.warnings[0].endswith("of which it is a part; it was brought within bounds")
    assert not own.allowed


def test_a_request_above_the_total_is_told_of() -> None:
    """It is met as far as the total goes."""
    rules = policy(**{"egress_total-per-node": "10M"})

    decision = decide(pod({"annotations": {REQUEST: "20M"}}), rules)

    assert decision.allowed
    assert decision.warnings == (
        "podpace.io/egress-request is above the total of the namespace on each node, 10 Mbit/s by "
        "the namespace's policy; it cannot be met",
    )
