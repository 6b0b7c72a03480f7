"""Which pods do not follow, how urgent that is, and what their owners are told."""

import json
from typing import Any

import pytest

from contract import names
from contract.effective import EffectivePolicy
from tests.unit.webhook.patching import apply_patch
from webhook.drift import Correction, Urgency, correct, decode_pod
from webhook.policies import PolicyKey, PolicyStore

EGRESS = names.ANNOTATION_EGRESS_BANDWIDTH
RELEASE = "podpace-system"


def policy(**cluster: str) -> EffectivePolicy:
    """The cluster's, in force in any namespace."""
    store = PolicyStore(RELEASE)
    store.replace({PolicyKey(RELEASE): {k.replace("_", "."): v for k, v in cluster.items()}})
    store.replace_namespaces({"a": {}})
    return store.effective("a")


def pod(
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """As the API server tells of it."""
    found: dict[str, Any] = {"name": "p", "namespace": "a", "uid": "u", "resourceVersion": "7"}
    found["managedFields"] = [{"manager": "kubelet", "fieldsV1": {"f:metadata": {"f:x": {}}}}]
    if labels is not None:
        found["labels"] = labels
    if annotations is not None:
        found["annotations"] = annotations
    return {"kind": "PartialObjectMetadata", "metadata": found | metadata}


def judge(body: dict[str, Any], rule: EffectivePolicy) -> Correction | None:
    """What is to be done about it."""
    return correct(decode_pod(json.dumps(body).encode()), rule)


def follow(body: dict[str, Any], rule: EffectivePolicy) -> dict[str, Any]:
    """The pod after its correction."""
    correction = judge(body, rule)
    return body if correction is None else apply_patch(body, correction.patch)


@pytest.mark.parametrize("labels", [None, {}, {"app": "web"}])
@pytest.mark.parametrize("annotations", [None, {}, {"other": "x"}, {EGRESS: "10M"}])
def test_a_correction_is_made_once_and_keeps_what_is_not_ours(
    labels: dict[str, str] | None, annotations: dict[str, str] | None
) -> None:
    """Also where a map is absent, or holds others' words only."""
    rule = policy(egress_max="1M", **{"exempt-cidrs": "10.0.0.0/8"})

    followed = follow(pod(labels, annotations), rule)

    metadata = followed["metadata"]
    assert metadata["labels"][names.LABEL_EGRESS_BITS_PER_SECOND] == "1000000"
    assert metadata["annotations"][names.ANNOTATION_EXEMPT_CIDRS] == "10.0.0.0/8"
    assert (labels or {}).items() <= metadata["labels"].items()
    assert (annotations or {}).items() <= metadata["annotations"].items()
    assert judge(followed, rule) is None


def test_a_correction_is_for_this_version_of_this_pod_only() -> None:
    """The API server refuses it for any other."""
    correction = judge(pod(), policy(egress_max="1M"))

    assert correction is not None
    assert correction.patch[:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
    ]


@pytest.mark.parametrize(
    "body",
    [
        pod(annotations={names.ANNOTATION_MIRROR: "x"}),
        pod(deletionTimestamp="2030-01-01T00:00:00Z"),
    ],
)
def test_static_pods_and_those_that_are_going_are_left_alone(body: dict[str, Any]) -> None:
    """Nobody could act on it."""
    assert judge(body, policy(egress_max="1M")) is None


LIMITED = {names.LABEL_LIMITED: "true", names.LABEL_MODE: "enforce"}
RATE = names.LABEL_EGRESS_BITS_PER_SECOND


@pytest.mark.parametrize(
    ("labels", "urgency"),
    [
        ({}, Urgency.UNLIMITED),
        ({RATE: "1000000"}, Urgency.UNLIMITED),
        (LIMITED, Urgency.UNLIMITED),
        (LIMITED | {RATE: "lots"}, Urgency.UNLIMITED),
        (LIMITED | {RATE: "9" * 5000}, Urgency.LOOSE),
        (LIMITED | {RATE: "1000000", names.LABEL_MODE: "observe"}, Urgency.UNLIMITED),
        (LIMITED | {RATE: "2000000"}, Urgency.LOOSE),
        (LIMITED | {RATE: "1000"}, Urgency.OTHER),
        (LIMITED | {RATE: "1000000"}, Urgency.OTHER),
    ],
)
def test_who_is_unlimited_comes_first_then_who_has_too_much(
    labels: dict[str, str], urgency: Urgency
) -> None:
    """The rest harms nobody else."""
    correction = judge(pod(labels), policy(egress_max="1M"))

    assert correction is not None
    assert correction.urgency is urgency


REQUEST = names.ANNOTATION_EGRESS_REQUEST
TOTAL = names.LABEL_EGRESS_TOTAL_BITS_PER_SECOND


@pytest.mark.parametrize(
    ("labels", "urgency"),
    [
        ({}, Urgency.UNLIMITED),
        (LIMITED, Urgency.UNLIMITED),
        (LIMITED | {TOTAL: "8000000"}, Urgency.LOOSE),
        (LIMITED | {TOTAL: "1000"}, Urgency.OTHER),
    ],
)
def test_a_missing_total_is_no_limit_and_a_larger_one_is_loose(
    labels: dict[str, str], urgency: Urgency
) -> None:
    """As with a pod's own."""
    correction = judge(pod(labels), policy(**{"egress_total-per-node": "4M"}))

    assert correction is not None
    assert correction.urgency is urgency
    followed = apply_patch(pod(labels), correction.patch)
    assert followed["metadata"]["labels"][TOTAL] == "4000000"


@pytest.mark.parametrize(
    ("rule", "annotations", "labels", "reason", "says"),
    [
        (
            {"egress_request.max": "4M"},
            {REQUEST: "9M"},
            {},
            "RequestChanged",
            "4 Mbit/s guaranteed, the cluster policy's request.max; 9 Mbit/s is asked for",
        ),
        ({"egress_request.min": "4M"}, {}, {}, "RequestChanged", "4 Mbit/s guaranteed, the clu"),
        (
            {"egress_total-per-node": "4M"},
            {},
            {},
            "TotalChanged",
            "shares 4 Mbit/s with all pods of the namespace on its node",
        ),
        (
            {"egress_max": "1M"},
            {EGRESS: "10M"},
            {},
            "LimitClamped",
            "limited to 1 Mbit/s, the cluster policy's max; 10 M",
        ),
        (
            {"egress_min": "5M"},
            {EGRESS: "1M"},
            {},
            "LimitRaised",
            "limited to 5 Mbit/s, the cluster policy's min; 1 M",
        ),
        (
            {"egress_default": "2M"},
            {},
            {},
            "LimitAdded",
            "limited to 2 Mbit/s, the cluster policy's default",
        ),
        (
            {"egress_max": "1M"},
            {},
            {},
            "LimitAdded",
            "limited to 1 Mbit/s, the cluster policy's default",
        ),
        ({}, {EGRESS: "10M"}, {}, None, ""),
        ({"egress_max": "1M"}, {EGRESS: "10M"}, LIMITED | {RATE: "1000000"}, None, ""),
    ],
)
def test_an_owner_is_told_where_the_policy_decides_otherwise(
    rule: dict[str, str],
    annotations: dict[str, str],
    labels: dict[str, str],
    reason: str | None,
    says: str,
) -> None:
    """And only when the limit changes by it."""
    correction = judge(pod(labels, annotations), policy(**rule))

    assert correction is not None
    if reason is None:
        assert correction.notice is None
    else:
        assert correction.notice is not None
        assert correction.notice.reason == f"Bandwidth{reason}"
        assert f"egress: {says}" in correction.notice.text


def test_of_a_pod_only_what_decides_is_kept() -> None:
    """A tenant's large metadata, and managedFields, do not fill the leader's memory."""
    large = {f"podpace.io/{n}": "x" * 1000 for n in range(100)} | {EGRESS: "1" * 100_000}
    seen = decode_pod(json.dumps(pod(large, large)).encode())
    small = decode_pod(json.dumps(pod({"app": "x"}, {EGRESS: "1M"}, uid="2")).encode())
    same = decode_pod(json.dumps(pod({"app": "y"}, {EGRESS: "1M"}, uid="3")).encode())

    assert len(seen.said) < 10_000
    assert small.said == '[{},{"podpace.io/egress-bandwidth":"1M"}]'
    assert small.said is same.said


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"metadata":{"name":1}}', b"[]"])
def test_what_is_no_pod_is_an_error(body: bytes) -> None:
    """The list-watch passes over it."""
    with pytest.raises(ValueError, match=r".+"):
        decode_pod(body)
