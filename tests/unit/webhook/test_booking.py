"""What the scheduler is told of a pod's request."""

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.booking import read_bookings, scheduled_bits
from contract.merging import Layer, merge
from contract.names import Source
from contract.policy import parse_policy
from contract.quantity import canonical_quantity, format_bits_per_second, parse_value
from tests import pod_shapes
from tests.pod_shapes import EGRESS, REQUEST, SHAPES, Shape, container
from tests.unit.webhook.patching import apply_patch
from webhook.drift import correct, decode_pod
from webhook.mutation import Decision, decide
from webhook.reviews import Pod, encode_patch

Json = dict[str, Any]
BOOKED = "podpace.io/egress-booked-bits-per-second"


def policy(**data: str) -> Any:
    """Of the cluster, with ``schedule``."""
    said, problems = parse_policy({"schedule": "true"} | data)
    assert not problems
    return merge(None, (Layer("podpace-system", "podpace-policy", Source.CLUSTER, said),))


def decided(raw: Json, rules: Any, old: Json | None = None) -> Decision:
    """As the webhook gets it."""
    before = None if old is None else msgspec.convert(old, Pod)
    return decide(msgspec.json.decode(json.dumps(raw), type=Pod), rules, before)


def admitted(raw: Json, rules: Any, old: Json | None = None) -> Json:
    """The pod as the API server keeps it."""
    decision = decided(raw, rules, old)
    assert decision.allowed, decision.problems
    after = apply_patch(raw, encode_patch(decision.patch))
    # Its own defaults.
    for one in (*after["spec"]["containers"], *after["spec"].get("initContainers", ())):
        found = one.get("resources", {})
        if "limits" in found:
            found["requests"] = {**found["limits"], **found.get("requests", {})}
    return after


def scheduled(pod: Json) -> int | None:
    """Simulated: the most that its containers have at any time of the pod's life."""
    seen, sidecars, init = False, 0, pod["spec"].get("initContainers", ())
    most = 0

    def of(one: Json) -> int:
        nonlocal seen
        text = one.get("resources", {}).get("requests", {}).get(EGRESS)
        seen |= text is not None
        return parse_value(text or "0") or 0

    for one in init:
        most = max(most, sidecars + of(one))
        sidecars += of(one) if one.get("restartPolicy") == "Always" else 0
    most = max(most, sidecars + sum(map(of, pod["spec"]["containers"])))
    added = parse_value(pod["spec"].get("overhead", {}).get(EGRESS, "0")) or 0
    return most + added if seen else None


def labelled(pod: Json, key: str) -> str:
    """A bandwidth of the labels, as the table has it."""
    text = (pod["metadata"].get("labels") or {}).get(f"podpace.io/egress-{key}bits-per-second")
    return "-" if text is None else canonical_quantity(int(text))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.what)
def test_what_the_scheduler_sums_is_what_the_page_says(shape: Shape) -> None:
    """Booked, requested, limit; and the label says of the booking what the scheduler sums."""
    decision = decided(shape.pod, policy(**shape.policy))
    assert decision.allowed is not shape.refused, decision.problems
    if shape.refused:
        return

    after = admitted(shape.pod, policy(**shape.policy))

    booked = scheduled(after)
    assert ("-" if booked is None else canonical_quantity(booked)) == shape.booked
    assert labelled(after, "booked-") == shape.booked
    assert labelled(after, "request-") == shape.requested
    assert labelled(after, "") == shape.limit


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.refused], ids=lambda s: s.what)
def test_a_pod_that_was_admitted_is_not_patched_again(shape: Shape) -> None:
    """Nor when it is updated, nor by the audit, which sees its metadata only."""
    rules = policy(**shape.policy)
    after = admitted(shape.pod, rules)

    again, updated = decided(after, rules), decided(after, rules, after)

    assert again.patch == updated.patch == ()
    assert not updated.problems
    metadata = after["metadata"] | {"name": "a", "namespace": "b", "uid": "c"}
    seen = decode_pod(json.dumps({"metadata": metadata | {"resourceVersion": "1"}}).encode())
    assert correct(seen, rules) is None


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.what)
def test_without_schedule_no_container_is_touched(shape: Shape) -> None:
    """Whatever the pod asks for."""
    decision = decided(shape.pod, policy(**(dict(shape.policy) | {"schedule": "false"})))

    assert not [o for o in decision.patch if o.path.startswith("/spec/containers")]


def test_the_page_has_the_table_of_shapes() -> None:
    """``python -m tests.pod_shapes`` writes it."""
    now, renewed = pod_shapes.pages()

    assert now == renewed


_amounts = st.integers(0, 10**9)


@given(st.lists(_amounts, min_size=1, max_size=4), st.lists(st.tuples(_amounts, st.booleans())))
def test_a_pod_is_summed_as_its_containers_run(
    containers: list[int], init: list[tuple[int, bool]]
) -> None:
    """The most that run at one time, whatever the order."""
    pod = {
        "spec": {
            "containers": [container(egress=str(n)) for n in containers],
            "initContainers": [
                container(egress=str(n), **({"restartPolicy": "Always"} if stays else {}))
                for n, stays in init
            ],
        }
    }
    for one in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
        one["resources"]["requests"] = one["resources"]["limits"]

    assert scheduled_bits(containers, init) == scheduled(pod)


def asking(request: str | None, **spec: Any) -> Json:
    """A pod with one container."""
    annotations = {} if request is None else {REQUEST: request}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [container()]} | spec}


def changed(pod: Json, request: str | None) -> Json:
    """The same with another request."""
    new = copy.deepcopy(pod)
    new["metadata"]["annotations"].pop(REQUEST, None)
    if request is not None:
        new["metadata"]["annotations"][REQUEST] = request
    return new


@pytest.mark.parametrize(
    "resources",
    [
        None,
        {},
        {"limits": None},
        {"limits": {}},
        {"limits": {"cpu": "1"}},
        {"requests": {"cpu": "1"}},
    ],
)
def test_the_patch_works_on_any_shape_of_resources(resources: Json | None) -> None:
    """What is there stays."""
    raw = asking("20M", containers=[container(resources=resources)])

    [after, *_] = apply_patch(raw, encode_patch(decided(raw, policy()).patch))["spec"]["containers"]

    there = (resources or {}).get("limits") or {}
    assert after["resources"]["limits"] == there | {EGRESS: "20M"}


def test_a_request_goes_down_below_the_booking_and_up_to_it_while_the_pod_runs() -> None:
    """The booking stays."""
    pod = admitted(asking("20M"), policy())

    lower = admitted(changed(pod, "5M"), policy(), pod)
    back = admitted(changed(lower, "20M"), policy(), lower)
    none = admitted(changed(back, None), policy(), back)

    assert [labelled(p, "request-") for p in (lower, back, none)] == ["5M", "20M", "-"]
    assert {labelled(p, "booked-") for p in (lower, back, none)} == {"20M"}
    again = admitted(changed(none, "20M"), policy(), none)
    assert labelled(again, "request-") == "20M"


def test_a_request_above_the_booking_is_refused_and_says_what_to_do() -> None:
    """Nobody kept room for it."""
    pod = admitted(asking("20M"), policy())

    decision = decided(changed(pod, "21M"), policy(), pod)

    [problem] = decision.problems
    assert problem.key == REQUEST
    assert "above what is booked for the pod, 20 Mbit/s" in problem.reason
    assert problem.fix == "write 20000000 or less, or create the pod anew"


def test_a_pod_that_was_there_before_cannot_raise_what_was_never_booked() -> None:
    """It may keep it and lower it."""
    pod = admitted(asking("20M"), policy(schedule="false"))

    raised = decided(changed(pod, "30M"), policy(), pod)
    lowered = decided(changed(pod, "10M"), policy(), pod)

    assert ["nothing is booked for the pod" in p.reason for p in raised.problems] == [True]
    assert lowered.allowed
    assert decided(pod, policy(), pod).allowed
    assert decided(changed(pod, "30M"), policy(schedule="false"), pod).allowed


def test_a_policy_that_gives_more_later_gives_no_more_than_is_booked() -> None:
    """And less at once."""
    pod = admitted(asking(None), policy(**{"egress.request.default": "20M"}))

    more = admitted(pod, policy(**{"egress.request.default": "50M"}), pod)
    less = admitted(pod, policy(**{"egress.request.default": "5M"}), pod)

    assert (labelled(more, "request-"), labelled(less, "request-")) == ("20M", "5M")
    assert (labelled(more, "booked-"), labelled(less, "booked-")) == ("20M", "20M")


@pytest.mark.parametrize("request_text", ["5M", "50M"])
def test_what_another_webhook_changes_at_creation_is_booked_anew(request_text: str) -> None:
    """The API server asks again, with our booking in the pod."""
    once = admitted(asking("20M"), policy())

    twice = admitted(changed(once, request_text), policy())

    assert labelled(twice, "request-") == labelled(twice, "booked-") == request_text
    assert scheduled(twice) == parse_value(request_text)


def test_whoever_claims_that_his_booking_is_the_webhooks_gets_what_he_requests() -> None:
    """Neither more nor less, at creation; elsewhere than on the first container it is his own."""
    mark = {"labels": {"podpace.io/booked-by-webhook": "egress"}}
    first = asking("20M", containers=[container(egress="50M")])
    second = asking("20M", containers=[container(), container("second", "50M")])
    for raw in (first, second):
        raw["metadata"] |= copy.deepcopy(mark)

    assert scheduled(admitted(first, policy())) == 20_000_000
    after = admitted(second, policy())
    assert (scheduled(after), labelled(after, "request-")) == (50_000_000, "20M")


def test_a_running_pod_cannot_claim_that_its_booking_is_the_webhooks() -> None:
    """The label of before counts."""
    pod = admitted(asking(None, containers=[container(egress="30M")]), policy())
    claimed = copy.deepcopy(pod)
    claimed["metadata"]["labels"]["podpace.io/booked-by-webhook"] = "egress"

    after = admitted(claimed, policy(), pod)

    assert after["metadata"]["labels"] == pod["metadata"]["labels"]


def test_where_nothing_is_held_nothing_is_booked_and_that_is_told() -> None:
    """A booking there would leave the pod Pending, or promise what nobody keeps."""
    decision = decided(asking("20M", nodeSelector={"kubernetes.io/os": "windows"}), policy())

    assert decision.warnings[0].startswith(
        "nothing is booked with the scheduler: no enforcer is on"
    )


@pytest.mark.parametrize("amount", ["9223372036854775808", "1e400", "-5M", "x", "1.5P"])
def test_an_amount_that_the_scheduler_would_misread_is_refused(amount: str) -> None:
    """Beyond 2^63 it reads another number; what is no quantity the API server refuses itself."""
    raw = asking("20M", containers=[container(egress=amount)])

    assert not decided(raw, policy()).allowed


def test_both_directions_are_booked_in_one_patch() -> None:
    """One operation where the container has no resources, two texts in it."""
    raw = asking("20M")
    raw["metadata"]["annotations"]["podpace.io/ingress-request"] = "400G"

    patches = [o for o in decided(raw, policy()).patch if o.path.startswith("/spec")]

    assert [o.path for o in patches] == ["/spec/containers/0/resources"]
    assert patches[0].value == {"limits": {"podpace.io/ingress": "400G", EGRESS: "20M"}}


@given(st.integers(1, 10**15))
def test_an_amount_is_written_as_the_api_server_writes_it_back(bits: int) -> None:
    """The same number, by the largest suffix that leaves it whole."""
    text = canonical_quantity(bits)

    assert parse_value(text) == bits
    assert not text.endswith("000")
    assert not text[:-1].endswith("000") or not text[-1].isalpha()
    assert format_bits_per_second(bits)


def test_labels_of_a_booking_are_read_back() -> None:
    """Whatever else is written there counts as nothing."""
    pod = admitted(asking("20M"), policy())

    assert read_bookings(pod["metadata"]["labels"]).labels().items() <= (
        pod["metadata"]["labels"].items()
    )
    assert (
        read_bookings({BOOKED: "9" * 17, "podpace.io/booked-by-webhook": "up_down_x"}).labels()
        == {}
    )
