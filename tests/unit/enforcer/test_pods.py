"""enforcer.pods: reading pods, judging what came of them, patches; all of it pure."""

import json

import msgspec
import pytest

from contract import names
from contract.limits import Limits, Sharing, make_limit
from contract.names import Direction, Mode, Reason
from enforcer.pods.cgroups import pod_uid
from enforcer.pods.condition import Held, InForce, NotInForce, judge, released
from enforcer.pods.patches import status_patch
from enforcer.pods.pod import Condition, read_pod
from tests.unit.enforcer.pod_json import UID, condition_json, labels, make_pod, pod_json

PACED = Held("paced")
BOTH = Limits(make_limit(10_000_000), make_limit(5_000_000))
HASH = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID.format(1)}", UID.format(1)),
        (f"kubepods-pod{UID.format(1).replace('-', '_')}.slice", UID.format(1)),
        (f"kubepods-burstable-pod{UID.format(1).replace('-', '_')}.slice", UID.format(1)),
        (f"kubepods-besteffort-pod{UID.format(1).replace('-', '_')}.slice", UID.format(1)),
        (f"kubelet-kubepods-burstable-pod{UID.format(1).replace('-', '_')}.slice", UID.format(1)),
        (f"pod{HASH}", HASH),
        (f"kubepods-burstable-pod{HASH}.slice", HASH),
        ("kubepods.slice", None),
        ("kubepods-burstable.slice", None),
        ("burstable", None),
        ("podpace", None),
        (f"podman-{HASH}.scope", None),
        (f"cri-containerd-{HASH}{HASH}.scope", None),
        (f"pod{UID.format(1)}x", None),
        (f"libpod-pod{HASH}.slice", None),
    ],
)
def test_a_pods_cgroup_is_known_by_its_name(name, uid):
    """Both kubelet drivers, all QoS classes, kind's prefix; nothing else."""
    assert pod_uid(name) == uid


def test_a_pod_is_read_from_its_labels():
    """Rates, bursts, mode, exempt networks, origin."""
    pod = make_pod(
        labels=labels("5000000", "10000000", ingress_burst_bits="200000", source="namespace"),
        annotations={names.ANNOTATION_EXEMPT_CIDRS: "10.0.0.0/8,2001:db8::/32"},
        host_network=True,
    )

    assert pod.target_name == "pod:shop/p1"
    assert pod.asked.limits == Limits(
        make_limit(10_000_000, 200_000),
        make_limit(5_000_000),
        Mode.ENFORCE,
        ("10.0.0.0/8", "2001:db8::/32"),
    )
    assert pod.asked.origin == "from namespace shop"
    assert pod.host_network
    assert pod.asked.problems == ()


def test_nulls_are_read_as_nothing():
    """Some clients send them."""
    body = pod_json()
    body["spec"]["readinessGates"] = None
    body["status"]["conditions"] = None
    body["metadata"]["annotations"] = None

    pod = read_pod(json.dumps(body).encode())

    assert not pod.gated
    assert pod.condition is None


def test_what_is_no_pod_raises():
    """The reflector leaves it out; it does not end the watch."""
    with pytest.raises(msgspec.MsgspecError):
        read_pod(b'{"metadata": {"name": 5}}')


@pytest.mark.parametrize("text", ["5M", "", "-1", "1e6", " 5", "\u0665", "9" * 17, "999"])
def test_a_label_that_nobody_can_read_keeps_the_limit_as_it_was(text):
    """In the unreadable direction only; the other one follows."""
    asked = make_pod(labels=labels(text, "2000000")).asked

    held = asked.over(BOTH)

    assert asked.unreadable == {Direction.EGRESS}
    assert [p.key for p in asked.problems] == [names.LABEL_EGRESS_BITS_PER_SECOND]
    assert held.egress == BOTH.egress
    assert held.ingress == make_limit(2_000_000)


def test_a_mode_that_nobody_can_read_is_enforced():
    """Bad input never lifts a limit."""
    asked = make_pod(labels=labels(mode="off")).asked

    assert asked.limits.mode is Mode.ENFORCE
    assert len(asked.problems) == 1


def test_an_exempt_network_that_nobody_can_read_is_not_exempt():
    """The others are."""
    annotations = {names.ANNOTATION_EXEMPT_CIDRS: "10.0.0.0/8,everything"}
    asked = make_pod(annotations=annotations).asked

    assert asked.limits.exempt_cidrs == ("10.0.0.0/8",)
    assert len(asked.problems) == 1


def test_a_static_pods_cgroup_carries_its_configurations_hash():
    """Its uid at the API server is another one."""
    mirror = {"kubernetes.io/config.mirror": HASH}

    assert make_pod(annotations=mirror).cgroup_uid == HASH


def test_a_mirror_annotation_cannot_name_an_ordinary_pod():
    """Who may create pods could limit somebody else's that way."""
    victim = {"kubernetes.io/config.mirror": UID.format(9)}

    assert make_pod(1, annotations=victim).cgroup_uid == UID.format(1)


@pytest.mark.parametrize(
    ("pod", "outcome", "status", "reason", "message"),
    [
        (
            make_pod(labels=labels("5000000", "10000000", source="namespace")),
            InForce(BOTH, Held("shaped"), PACED),
            "True",
            Reason.ENFORCED,
            "ingress 10 Mbit/s (shaped on veth), egress 5 Mbit/s (paced); from namespace shop",
        ),
        (
            make_pod(),
            InForce(Limits(egress=make_limit(5_000_000)), Held("policed", "no veth"), PACED),
            "True",
            Reason.ENFORCED,
            "egress 5 Mbit/s (paced); from the pod",
        ),
        (
            make_pod(labels=labels(None, "10000000", source="cluster")),
            InForce(Limits(make_limit(10_000_000)), Held("policed", "no veth"), PACED),
            "True",
            Reason.ENFORCED,
            "ingress 10 Mbit/s (policed: no veth); from the cluster's policy",
        ),
        (
            make_pod(),
            InForce(
                Limits(
                    egress=make_limit(100_000_000),
                    ingress_sharing=Sharing(3_000_000),
                    egress_sharing=Sharing(20_000_000, 500_000_000),
                    group="namespace:shop",
                ),
                Held("shaped"),
                PACED,
            ),
            "True",
            Reason.ENFORCED,
            "ingress 3 Mbit/s guaranteed (shaped on veth), egress 100 Mbit/s, 20 Mbit/s of it "
            "guaranteed, of 500 Mbit/s for namespace shop on this node (paced); from the pod",
        ),
        (
            make_pod(
                labels=labels("5000000") | {"podpace.io/egress-booked-bits-per-second": "3000000"}
            ),
            InForce(
                Limits(egress=make_limit(5_000_000), egress_sharing=Sharing(2_000_000)),
                PACED,
                PACED,
            ),
            "True",
            Reason.ENFORCED,
            "egress 5 Mbit/s, 2 Mbit/s of it guaranteed, 3 Mbit/s booked (paced); from the pod",
        ),
        (
            make_pod(labels=labels(mode="observe")),
            InForce(Limits(None, make_limit(5_000_000), Mode.OBSERVE), PACED, Held("observed")),
            "False",
            Reason.OBSERVING,
            "only observed, nothing is held back; egress 5 Mbit/s (observed); from the pod",
        ),
        (
            make_pod(),
            NotInForce(Reason.UNSUPPORTED, "no bpffs; mount it"),
            "False",
            Reason.UNSUPPORTED,
            "no bpffs; mount it; asked for: egress 5 Mbit/s; from the pod",
        ),
        (
            make_pod(),
            NotInForce(Reason.FAILED, "ENOMEM", Limits(egress=make_limit(1_000_000))),
            "False",
            Reason.PARTLY_ENFORCED,
            "ENOMEM; still in force: egress 1 Mbit/s; asked for: egress 5 Mbit/s; from the pod",
        ),
        (
            make_pod(),
            NotInForce(Reason.PENDING, "no cgroup yet"),
            "Unknown",
            Reason.PENDING,
            "no cgroup yet; asked for: egress 5 Mbit/s; from the pod",
        ),
    ],
)
def test_the_condition_says_what_is_true(pod, outcome, status, reason, message):
    """What is in force and how, where it came from, or why not."""
    found = judge(pod, outcome)

    assert (found.status, found.reason, found.message) == (status, reason, message)


def test_a_direction_that_cannot_be_read_is_not_in_force():
    """Part of it is; the message says what to do."""
    pod = make_pod(labels=labels("5M", "10000000"))

    found = judge(pod, InForce(Limits(make_limit(10_000_000)), PACED, PACED))

    assert (found.status, found.reason) == ("False", Reason.PARTLY_ENFORCED)
    assert '"5M" is not a plain decimal number; write the bandwidth annotation' in found.message


def test_what_is_shared_is_read_from_labels():
    """A request; the total of the namespace, which is the group; a pod without a limit, too."""
    shared = labels(
        None, egress_request_bits_per_second="2000", egress_total_bits_per_second="9000000"
    )

    assert make_pod(labels=shared).asked.limits == Limits(
        egress_sharing=Sharing(2_000, 9_000_000), group="namespace:shop"
    )


def test_a_total_that_cannot_be_read_stays_as_it_was():
    """Bad input never lifts a limit."""
    before = make_pod(labels=labels(egress_total_bits_per_second="9000000")).asked.limits
    asked = make_pod(labels=labels(egress_total_bits_per_second="9M")).asked

    assert asked.over(before) == before
    assert asked.problems


def test_a_readiness_gate_does_not_wait_for_what_will_not_come():
    """Observing is all this pod gets, or it asks for nothing any more."""
    gated = make_pod(gated=True, labels=labels(mode="observe"))
    limits = Limits(None, make_limit(5_000_000), Mode.OBSERVE)

    assert judge(gated, InForce(limits, PACED, Held("observed"))).status == "True"
    assert released(gated).status == "True"
    assert released(make_pod()) is None


def test_a_readiness_gate_waits_until_the_limit_is_in_force():
    """Not True before."""
    gated = make_pod(gated=True)

    assert judge(gated, NotInForce(Reason.PENDING, "")).status != "True"
    assert judge(gated, NotInForce(Reason.FAILED, "")).status != "True"


def test_a_patch_names_the_pod_by_uid_and_one_condition_by_type():
    """Another pod of that name is left alone, and every other condition."""
    patch = status_patch(make_pod(), Condition("True", "Enforced", "m"), "2026-02-02T00:00:00Z")

    assert patch == {
        "metadata": {"uid": UID.format(1)},
        "status": {
            "conditions": [
                {
                    "type": names.CONDITION_BANDWIDTH_ENFORCED,
                    "status": "True",
                    "reason": "Enforced",
                    "message": "m",
                    "lastTransitionTime": "2026-02-02T00:00:00Z",
                    "observedGeneration": 1,
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("status", "time"), [("True", "2026-01-01T00:00:00Z"), ("False", "2026-02-02T00:00:00Z")]
)
def test_the_transition_time_moves_only_with_the_status(status, time):
    """As the API's conventions have it."""
    pod = make_pod(conditions=condition_json("True", "Enforced", "old"))

    patch = status_patch(pod, Condition(status, "Enforced", "new"), "2026-02-02T00:00:00Z")

    assert patch["status"]["conditions"][0]["lastTransitionTime"] == time


def test_a_condition_is_taken_away_by_its_type():
    """A strategic merge cannot leave out; it deletes."""
    patch = status_patch(make_pod(), None, "2026-02-02T00:00:00Z")

    assert patch["status"]["conditions"] == [
        {"type": names.CONDITION_BANDWIDTH_ENFORCED, "$patch": "delete"}
    ]
