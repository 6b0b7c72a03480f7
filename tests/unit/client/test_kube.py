"""client.kube's decisions: what is read from pods, and where limits came from."""

from dataclasses import replace

import pytest

from client.errors import ClientError
from client.kube.api import NotFoundError, connect
from client.kube.explain import explain
from client.kube.pods import read_pod
from client.kube.policies import read_policies
from contract.limits import Limit
from contract.names import Direction, Source

M = 10**6
OUR_EGRESS = "podpace.io/egress-bandwidth"


def _json(annotations=None, labels=None, conditions=(), node="node-a", gates=()):
    return {
        "metadata": {
            "namespace": "default",
            "name": "web",
            "annotations": annotations,
            "labels": {f"podpace.io/{k}": v for k, v in (labels or {}).items()},
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main"}],
            "readinessGates": [{"conditionType": gate} for gate in gates],
        },
        "status": {"phase": "Running", "conditions": list(conditions)},
    }


def _limited(egress=10 * M, annotations=None, source="pod"):
    labels = {"limited": "true", "source": source, "egress-burst-bits": "1000"}
    return read_pod(_json(annotations, labels | {"egress-bits-per-second": str(egress)}))


def test_a_limited_pod_is_read_whole():
    """Labels, annotations that ask, condition, gate."""
    labels = {
        "limited": "true",
        "ingress-bits-per-second": "5000000",
        "ingress-burst-bits": "1048576",
        "source": "namespace",
        "mode": "observe",
    }
    condition = {
        "type": "podpace.io/BandwidthEnforced",
        "status": "False",
        "reason": "Observing",
        "message": "ingress 5 Mbit/s (observed)",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    annotations = {
        "kubernetes.io/ingress-bandwidth": "5M",
        "podpace.io/exempt-cidrs": "10.0.0.0/8,fd00::/8",
        "example.com/a": "b",
    }

    pod = read_pod(_json(annotations, labels, [condition], gates=["podpace.io/BandwidthEnforced"]))

    assert (pod.ingress, pod.egress) == (Limit(5 * M, 1048576), None)
    assert (pod.source, pod.mode, pod.node, pod.gated) == ("namespace", "observe", "node-a", True)
    assert pod.condition is not None
    assert (pod.condition.status, pod.condition.reason) == ("False", "Observing")
    assert pod.exempt_cidrs == ("10.0.0.0/8", "fd00::/8")
    assert pod.annotations == {"kubernetes.io/ingress-bandwidth": "5M"}


@pytest.mark.parametrize("label", ["", "-5", "5M", "1_000"])
def test_a_label_that_the_webhook_would_not_write_is_no_limit(label):
    """And no crash."""
    assert _limited(label).egress is None


def test_a_pod_without_metadata_maps_and_status_is_read():
    """The API leaves out what is empty."""
    pod = read_pod({"metadata": {"namespace": "a", "name": "b"}, "spec": {"containers": []}})

    assert (pod.limited, pod.condition, pod.node, pod.ready) == (False, None, "", False)


@pytest.mark.parametrize(
    ("pod", "namespace", "cluster", "because"),
    [
        (
            _limited(annotations={OUR_EGRESS: "10M"}),
            None,
            None,
            f"the pod asks for it ({OUR_EGRESS})",
        ),
        (
            _limited(annotations={"kubernetes.io/egress-bandwidth": "10M"}),
            None,
            None,
            "the pod asks for it (kubernetes.io/egress-bandwidth)",
        ),
        (
            _limited(annotations={OUR_EGRESS: "10M", "kubernetes.io/egress-bandwidth": "20M"}),
            None,
            None,
            f"the pod asks for it ({OUR_EGRESS})",
        ),
        (
            _limited(),
            {"egress.default": "10M"},
            {"egress.default": "20M"},
            "it is the namespace's default (podpace-policy in default)",
        ),
        (
            _limited(),
            None,
            {"egress.default": "10M"},
            "it is the cluster's default (podpace-policy in rel)",
        ),
        (
            _limited(),
            None,
            {"egress.max": "10M"},
            "it is the cluster's maximum, which holds for pods that ask for nothing "
            "(podpace-policy in rel)",
        ),
        (
            _limited(annotations={OUR_EGRESS: "99M"}),
            {"egress.max": "10M", "on-violation": "clamp"},
            None,
            f"{OUR_EGRESS} is above the namespace's maximum (podpace-policy in default), and was "
            "brought down to it",
        ),
        (
            _limited(annotations={OUR_EGRESS: "1M"}),
            {"egress.min": "10M", "on-violation": "clamp"},
            None,
            f"{OUR_EGRESS} is below the namespace's minimum (podpace-policy in default), and was "
            "raised to it",
        ),
        (
            read_pod(_json()),
            {"ingress.default": "1M"},
            None,
            "neither the pod nor a policy sets a limit",
        ),
    ],
)
def test_the_origin_of_a_limit_is_named(pod, namespace, cluster, because):
    """Whose annotation or whose policy, and where that is."""
    explained = explain(pod, _read(namespace, cluster)).directions[1]

    assert explained.direction is Direction.EGRESS
    assert explained.because == because


TOTAL = {"limited": "true", "egress-total-bits-per-second": "9000000"}


@pytest.mark.parametrize(
    ("labels", "cluster", "says"),
    [
        (
            TOTAL,
            {"egress.total-per-node": "9M"},
            "9 Mbit/s for all pods of default on its node together: it is the cluster's total "
            "(podpace-policy in rel)",
        ),
        (
            TOTAL,
            None,
            "9 Mbit/s for all pods of default on its node together; the policies that you can read "
            "say otherwise by now",
        ),
        (
            {},
            {"egress.total-per-node": "9M"},
            "by the cluster's total (podpace-policy in rel) all pods here should share, and this "
            "one does not yet",
        ),
        ({}, None, ""),
    ],
)
def test_whose_total_bounds_a_pod_is_explained(labels, cluster, says):
    """And that it has no limit of its own."""
    pod = read_pod(_json(labels=labels))

    explained = explain(pod, _read(None, cluster)).directions[1]

    assert (explained.bits_per_second, explained.shares) == (None, says)
    assert pod.limited == bool(labels)
    assert pod.describe(Direction.EGRESS) == ("of 9 Mbit/s together" if labels else "-")


BOOKED = {
    "limited": "true",
    "egress-request-bits-per-second": "9000000",
    "egress-booked-bits-per-second": "9000000",
}


@pytest.mark.parametrize(
    ("labels", "cluster", "guaranteed", "booked"),
    [
        (
            BOOKED | {"booked-by-webhook": "egress"},
            {"schedule": "true", "egress.request.default": "50M"},
            "9 Mbit/s guaranteed: it is what is booked, which cannot be more while the pod runs",
            "9 Mbit/s booked with the scheduler, by the webhook, when it was created",
        ),
        (
            BOOKED,
            None,
            "9 Mbit/s guaranteed: the pod asks for it (podpace.io/egress of containers)",
            "9 Mbit/s booked with the scheduler, by its containers' resources",
        ),
        (
            {"limited": "true", "egress-request-bits-per-second": "5000000"},
            {"egress.request.default": "5M"},
            "5 Mbit/s guaranteed: it is the cluster's default (podpace-policy in rel)",
            "nothing is booked with the scheduler: no policy says schedule",
        ),
        (
            {"limited": "true", "egress-request-bits-per-second": "5000000"},
            {"egress.request.default": "5M", "schedule": "true"},
            "5 Mbit/s guaranteed: it is the cluster's default (podpace-policy in rel)",
            "nothing is booked with the scheduler: see its warnings, or create the pod anew",
        ),
        ({}, {"schedule": "true"}, "", ""),
    ],
)
def test_what_is_booked_is_explained_beside_what_is_guaranteed(labels, cluster, guaranteed, booked):
    """And why nothing is."""
    explained = explain(read_pod(_json(labels=labels)), _read(None, cluster)).directions[1]

    assert (explained.guaranteed, explained.booked) == (guaranteed, booked)


def test_labels_that_do_not_follow_are_said_to_be_old():
    """A policy that came after the pod."""
    policies = _read({"egress.default": "10M"}, None)

    explained = explain(_limited(20 * M), policies).directions[1]

    assert explained.because.startswith("annotations and policies now say 10 Mbit/s")
    assert explained.bits_per_second == 20 * M


def test_what_a_policy_says_is_told_and_what_cannot_be_read_is_a_problem():
    """Every policy is shown, whichever won."""
    namespace = {"egress.default": "10M", "egress.max": "much"}

    explanation = explain(_limited(), _read(namespace, {"egress.min": "1M"}))

    assert [(p.place, p.namespaces, p.says) for p in explanation.policies] == [
        ("podpace-policy in rel", "all", "egress.min 1 Mbit/s"),
        ("podpace-policy in default", "default", "egress.default 10 Mbit/s"),
    ]
    (problem,) = explanation.problems
    assert problem.startswith('podpace-policy in default: egress.max: "much"')


def test_every_value_is_told_with_the_config_map_that_it_comes_from():
    """Among several policies that select the namespace."""
    free = {"namespace-selector": "tier in (free,trial)", "priority": "10", "egress.max": "10M"}
    namespace = {"egress.default": "5M"}
    cluster = {"ingress.max": "1G", "mode": "observe", "egress.burst.max": "1M"}

    policies = _read(namespace, cluster, {"free": free}, {"tier": "trial"})
    explanation = explain(_limited(5 * M), policies)

    assert {v.key: (v.text, v.place) for v in explanation.values} == {
        "egress.burst.max": ("1000000 bits", "podpace-policy in rel"),
        "egress.default": ("5 Mbit/s", "podpace-policy in default"),
        "egress.max": ("10 Mbit/s", "free in rel"),
        "ingress.default": ("1 Gbit/s", "podpace-policy in rel"),
        "ingress.max": ("1 Gbit/s", "podpace-policy in rel"),
        "mode": ("observe", "podpace-policy in rel"),
    }
    first = explanation.policies[0]
    assert (first.place, first.priority, first.namespaces) == (
        "free in rel",
        10,
        "tier in (free,trial)",
    )
    assert _read(namespace, cluster, {"free": free}, {"tier": "paid"}).cluster[0].name != "free"


def test_who_may_not_read_the_cluster_s_policies_sees_the_rest():
    """A limit that they made is not taken for an old one."""
    own = {"egress.default": "10M"}
    policies = read_policies(_Policies(own, None, forbidden=True), "default", "rel")

    lower, same = explain(_limited(5 * M), policies), explain(_limited(10 * M), policies)

    assert lower.directions[1].because == "the cluster's policies decided, which you may not read"
    assert same.directions[1].because == "it is the namespace's default (podpace-policy in default)"
    assert lower.problems == ("the cluster's policies are not seen: forbidden",)


class _Policies:
    """An API server that has policies, and one namespace."""

    def __init__(self, namespace, cluster, selected=None, labels=None, *, forbidden=False):
        label = {"podpace.io/policy": "true"}
        maps = [
            ("default", "podpace-policy", {}, namespace),
            ("rel", "podpace-policy", label, cluster),
        ]
        maps += [("rel", name, label, data) for name, data in (selected or {}).items()]
        self.maps = {
            (where, name): {
                "metadata": {"namespace": where, "name": name, "labels": labels},
                "data": data,
            }
            for where, name, labels, data in maps
            if data is not None
        }
        self.labels = labels
        self.forbidden = forbidden

    def get(self, path):
        if path == "/api/v1/namespaces/default":
            return {"metadata": {"name": "default", "labels": self.labels}}
        _, _, _, where, _, name = path.lstrip("/").split("/")
        if (where, name) not in self.maps:
            raise NotFoundError(path)
        return self.maps[where, name]

    def list(self, path, query=None):
        assert (path, query) == (
            "/api/v1/namespaces/rel/configmaps",
            {"labelSelector": "podpace.io/policy=true"},
        )
        if self.forbidden:
            raise ClientError("forbidden")
        return [
            o for (where, _), o in self.maps.items() if where == "rel" and o["metadata"]["labels"]
        ]


def _read(namespace, cluster, selected=None, labels=None):
    return read_policies(_Policies(namespace, cluster, selected, labels), "default", "rel")


def test_labels_in_a_namespace_that_is_left_out_are_not_said_to_be_corrected_soon():
    """Nobody looks there."""
    policies = replace(_read({"egress.default": "10M"}, None), left_out=True)

    because = explain(_limited(20 * M), policies).directions[1].because

    assert "the namespace is left out of podpace" in because
    assert "within a minute" not in because


def test_the_source_label_is_not_needed_to_explain():
    """Explaining compares; it does not believe labels."""
    pod = _limited(annotations={OUR_EGRESS: "10M"}, source=Source.CLUSTER)

    assert explain(pod, _read(None, None)).directions[1].because.startswith("the pod asks")


def test_a_kubeconfig_that_is_not_there_is_a_usage_error(tmp_path):
    """Exit code 2, and what to give."""
    with pytest.raises(ClientError, match="give --kubeconfig or --context") as caught:
        connect(tmp_path / "none", None)

    assert caught.value.exit_code == 2
