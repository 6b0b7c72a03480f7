"""The table: who does what to policies and to a pod that runs, and what becomes of its limit.

Every row is run against the real API server, with webhook and audit; see ``test_rights``.
"""
# ruff: noqa: E501 - a row of the table is a line

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Data = dict[str, str]

EGRESS = "podpace.io/egress-bandwidth"
STANDARD = "kubernetes.io/egress-bandwidth"
LABEL = "podpace.io/egress-bits-per-second"
REQUEST = "podpace.io/egress-request"
REQUEST_LABEL = "podpace.io/egress-request-bits-per-second"
TOTAL_LABEL = "podpace.io/egress-total-bits-per-second"
MIRROR = "kubernetes.io/config.mirror"
NAMESPACE = "rights"
TIER = "rights-tier"
"""The cluster's policy that selects the namespace."""
BOUND: Data = {"egress.max": "100M", "on-violation": "clamp"}
"""What it says, beside the selector."""
RBAC = "forbidden"
VERB = "needs the verb change-bandwidth"
GONE = "every bound that this policy sets would be gone"
OTHERS = "labels and annotations of pods only"


@dataclass(frozen=True)
class Do:
    """One request. Paths begin at the namespace's or, with ``cluster``, the release namespace's."""

    verb: str
    """POST, PUT, DELETE, PATCH (merge) or STRATEGIC."""
    path: str
    body: Json | None = None
    cluster: bool = False


@dataclass(frozen=True)
class Row:
    """``said`` is part of the refusal; without it the request is allowed.

    Limits are of the pod ``web``: what the enforcer is told, in megabits per second, with ``request``,
    ``total``, ``observe`` and ``exempt`` where they are told, too; ``-``: none.
    """

    who: str
    does: str
    request: Do
    said: str = ""
    before: str = "50"
    after: str = "50"
    own: Data | None = None
    """The tenant's policy before."""
    asks: str | None = "50M"
    """The annotation of the pod."""
    verb_required: bool = False
    annotations: Json = field(default_factory=dict)
    """On the tier's policy before."""
    webhook_away: bool = False


def _own(verb: str, data: Data | None = None) -> Do:
    path = "configmaps" if verb == "POST" else "configmaps/podpace-policy"
    body = None if data is None else {"metadata": {"name": "podpace-policy"}, "data": data}
    return Do(verb, path, body)


def _tier(verb: str, data: Data | None = None, **metadata: Any) -> Do:
    selector = {"namespace-selector": f"kubernetes.io/metadata.name={NAMESPACE}"}
    body: Json | None = None
    if data is not None:
        body = {
            "metadata": {"name": TIER, "labels": {"podpace.io/policy": "true"}, **metadata},
            "data": selector | data,
        }
    return Do(verb, f"configmaps/{TIER}", body, cluster=True)


def _pod(metadata: Json, what: str = "", **more: Any) -> Do:
    return Do("PATCH", "pods/web" + what, {"metadata": metadata, **more})


def _binding(**metadata: Any) -> Do:
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    return Do(
        "POST", "pods/web/binding", {"metadata": {"name": "web", **metadata}, "target": target}
    )


def _make(name: str, annotations: Json) -> Do:
    container = {"name": "c", "image": "c"}
    return Do(
        "POST",
        "pods",
        {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"nodeName": "node-1", "containers": [container]},
        },
    )


def _condition(kind: str) -> Do:
    condition = {
        "type": kind,
        "status": "True",
        "reason": "Enforced",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return Do("STRATEGIC", "pods/web/status", {"status": {"conditions": [condition]}})


SECRET: Json = {"metadata": {"name": "stolen"}, "type": "Opaque"}
TOKEN: Json = {
    "metadata": {
        "name": "podpace-webhook-ca",
        "annotations": {"kubernetes.io/service-account.name": "podpace-enforcer"},
    },
    "type": "kubernetes.io/service-account-token",
}
OWNER: Json = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "name": "x",
    "uid": "00000000-0000-0000-0000-000000000000",
}
MAX20: Data = {"egress.max": "20M"}
TOTAL20: Data = {"egress.total-per-node": "20M"}

OWN_POLICY = [
    Row("tenant", "creates a policy that is tighter", _own("POST", MAX20), after="20"),
    Row("tenant", "creates a policy that is looser", _own("POST", {"egress.max": "1G"})),
    Row("tenant", "creates a default below the cluster's max, for a pod that asks for nothing", _own("POST", {"egress.default": "5M"}), asks=None, before="100", after="5"),
    Row("tenant", "creates a default above the cluster's max", _own("POST", {"egress.default": "1G"}), asks=None, before="100", after="100"),
    Row("tenant", "creates a min above, without the verb being asked for", _own("POST", {"egress.min": "80M"}), after="80"),
    Row("tenant", "creates a min above the cluster's max", _own("POST", {"egress.min": "1G"}), after="100"),
    Row("tenant", "observes instead of enforcing", _own("POST", {"mode": "observe"})),
    Row("tenant", "exempts everything", _own("POST", {"exempt-cidrs": "0.0.0.0/0,::/0"})),
    Row("tenant", "selects namespaces", _own("POST", {"namespace-selector": ""}), said="is for the cluster's policies only"),
    Row("tenant", "deletes his policy", _own("DELETE"), own=MAX20, before="20", after="50"),
    Row("tenant", "deletes his policy, and the pod asks for more than the cluster gives", _own("DELETE"), own=MAX20, asks="1G", before="20", after="100"),
    Row("tenant", "empties his policy", _own("PUT", {}), own=MAX20, asks="1G", before="20", after="100"),
    Row("tenant", "deletes all ConfigMaps", Do("DELETE", "configmaps"), own=MAX20, asks="1G", before="20", after="100"),
    Row("tenant", "sets a total", _own("POST", TOTAL20), after="50 total 20"),
    Row("tenant", "guarantees to all of his pods", _own("POST", {"egress.request.default": "5M"}), after="50 request 5"),
]  # fmt: skip

OWN_POLICY_WITH_VERB = [
    Row("tenant", "creates a policy that is tighter", _own("POST", MAX20), after="20", verb_required=True),
    Row("tenant", "makes his max smaller", _own("PUT", {"egress.max": "10M"}), own=MAX20, before="20", after="10", verb_required=True),
    Row("tenant", "makes his max larger", _own("PUT", {"egress.max": "40M"}), said=VERB, own=MAX20, before="20", after="20", verb_required=True),
    Row("tenant", "creates a min above", _own("POST", {"egress.min": "80M"}), said=VERB, verb_required=True),
    Row("tenant", "creates a default", _own("POST", {"egress.default": "5M"}), said=VERB, asks=None, before="100", after="100", verb_required=True),
    Row("tenant", "makes his default smaller", _own("PUT", {"egress.default": "5M"}), own={"egress.default": "9M"}, asks=None, before="9", after="5", verb_required=True),
    Row("tenant", "makes his default larger", _own("PUT", {"egress.default": "20M"}), said=VERB, own={"egress.default": "9M"}, asks=None, before="9", after="9", verb_required=True),
    Row("tenant", "takes his default out", _own("PUT", {}), said=VERB, own={"egress.default": "9M"}, asks=None, before="9", after="9", verb_required=True),
    Row("tenant", "deletes his policy", _own("DELETE"), said=VERB, own=MAX20, before="20", after="20", verb_required=True),
    Row("tenant", "deletes all ConfigMaps", Do("DELETE", "configmaps"), said=VERB, own=MAX20, before="20", after="20", verb_required=True),
    Row("tenant", "empties his policy", _own("PUT", {}), said=VERB, own=MAX20, before="20", after="20", verb_required=True),
    Row("tenant", "observes instead of enforcing", _own("POST", {"mode": "observe"}), said=VERB, verb_required=True),
    Row("tenant", "exempts everything", _own("POST", {"exempt-cidrs": "0.0.0.0/0"}), said=VERB, verb_required=True),
    Row("tenant", "sets a first total", _own("POST", TOTAL20), after="50 total 20", verb_required=True),
    Row("tenant", "makes his total larger", _own("PUT", {"egress.total-per-node": "40M"}), said=VERB, own=TOTAL20, before="50 total 20", after="50 total 20", verb_required=True),
    Row("tenant", "deletes his total", _own("DELETE"), said=VERB, own=TOTAL20, before="50 total 20", after="50 total 20", verb_required=True),
    Row("tenant", "guarantees to all of his pods", _own("POST", {"egress.request.default": "5M"}), said=VERB, verb_required=True),
    Row("lead", "creates a min above", _own("POST", {"egress.min": "80M"}), after="80", verb_required=True),
    Row("lead", "creates a min above the cluster's max", _own("POST", {"egress.min": "1G"}), after="100", verb_required=True),
    Row("lead", "makes his max larger", _own("PUT", {"egress.max": "40M"}), own=MAX20, before="20", after="40", verb_required=True),
    Row("lead", "deletes his policy", _own("DELETE"), own=MAX20, asks="1G", before="20", after="100", verb_required=True),
]  # fmt: skip

CLUSTER_POLICY = [
    *(Row(who, "deletes the cluster's policy", _tier("DELETE"), said=RBAC) for who in ("tenant", "lead", "webhook", "enforcer")),
    *(Row(who, "empties the cluster's policy", _tier("PUT", {}), said=RBAC) for who in ("tenant", "lead", "webhook", "enforcer")),
    Row("tenant", "makes a policy of the cluster of his own", Do("POST", "configmaps", {"metadata": {"name": "mine", "labels": {"podpace.io/policy": "true"}}, "data": {"mode": "observe", "priority": "999"}})),
    Row("platform", "deletes the cluster's policy", _tier("DELETE"), said=GONE),
    Row("platform", "deletes all ConfigMaps with the label", Do("DELETE", "configmaps?labelSelector=podpace.io/policy=true", cluster=True), said=GONE),
    Row("platform", "empties the cluster's policy", _tier("PUT", {}), said=GONE),
    Row("platform", "takes the label off the cluster's policy", _tier("PUT", BOUND, labels={}), said=GONE),
    Row("platform", "deletes the cluster's policy on purpose", _tier("DELETE"), annotations={"podpace.io/allow-removal": "true"}, asks="1G", before="100", after="1000"),
    Row("platform", "empties the cluster's policy on purpose", _tier("PUT", {}, annotations={"podpace.io/allow-removal": "true"}), asks="1G", before="100", after="1000"),
    Row("platform", "makes the cluster's max smaller", _tier("PUT", BOUND | {"egress.max": "30M"}), after="30"),
    Row("platform", "makes the cluster's max larger", _tier("PUT", BOUND | {"egress.max": "300M"}), asks="1G", before="100", after="300"),
    Row("platform", "makes the cluster's max larger where live changes need the verb", _tier("PUT", BOUND | {"egress.max": "300M"}), asks="1G", before="100", after="300", verb_required=True),
    Row("platform", "selects other namespaces", _tier("PUT", BOUND | {"namespace-selector": "kubernetes.io/metadata.name=other"}), asks="1G", before="100", after="1000"),
    Row("platform", "writes a selector that is none", _tier("PUT", BOUND | {"namespace-selector": "tier = free or trial"}), said="namespace-selector"),
    Row("platform", "writes a selector that is none while no webhook answers", _tier("PUT", BOUND | {"namespace-selector": "tier = free or trial"}), said="is no label selector", webhook_away=True),
]  # fmt: skip

PODS = [
    Row("tenant", "changes the limit", _pod({"annotations": {EGRESS: "60M"}}), after="60"),
    Row("tenant", "changes the limit without the verb", _pod({"annotations": {EGRESS: "60M"}}), said=VERB, verb_required=True),
    Row("lead", "changes the limit with the verb", _pod({"annotations": {EGRESS: "60M"}}), after="60", verb_required=True),
    Row("platform", "changes the limit", _pod({"annotations": {EGRESS: "60M"}}), after="60", verb_required=True),
    Row("tenant", "writes the label by hand", _pod({"labels": {LABEL: "999000000"}})),
    Row("tenant", "takes the label away", _pod({"labels": {"podpace.io/limited": None, LABEL: None}})),
    Row("tenant", "writes a total's label by hand", _pod({"labels": {TOTAL_LABEL: "999000000"}})),
    Row("tenant", "takes the total's label off", _pod({"labels": {TOTAL_LABEL: None}}), own=TOTAL20, before="50 total 20", after="50 total 20"),
    Row("tenant", "takes the total's label off while no webhook answers", _pod({"labels": {TOTAL_LABEL: None}}), said="follow from the annotations", own=TOTAL20, before="50 total 20", after="50 total 20", webhook_away=True),
    Row("tenant", "writes a request's label by hand while no webhook answers", _pod({"labels": {REQUEST_LABEL: "999000000"}}), said="follow from the annotations", webhook_away=True),
    Row("tenant", "asks for a request", _pod({"annotations": {REQUEST: "30M"}}), after="50 request 30"),
    Row("tenant", "asks for a request, and the verb is asked for", _pod({"annotations": {REQUEST: "30M"}}), said=VERB, verb_required=True),
    Row("platform", "writes the label by hand", _pod({"labels": {LABEL: "999000000"}})),
    Row("tenant", "writes the label by hand while no webhook answers", _pod({"labels": {LABEL: "999000000"}}), said="follow from the annotations", webhook_away=True),
    Row("platform", "takes the label away while no webhook answers", _pod({"labels": {"podpace.io/limited": None}}), said="follow from the annotations", webhook_away=True),
    Row("tenant", "writes another label while no webhook answers", _pod({"labels": {"app": "x"}}), webhook_away=True),
    Row("tenant", "creates a mirror pod", _make("mirror", {MIRROR: "x", EGRESS: "1G"}), said="only nodes create pods"),
    Row("platform", "creates a mirror pod", _make("mirror", {MIRROR: "x", EGRESS: "1G"}), said="only nodes create pods"),
    Row("kubelet", "creates a mirror pod of its node", _make("mirror", {MIRROR: "x"})),
]  # fmt: skip

STATUS = [
    Row("tenant", "writes the status", _pod({"annotations": {EGRESS: "1G"}}, "/status"), said=RBAC),
    Row("controller", "brings our annotation in by the status", _pod({"annotations": {EGRESS: "1G"}}, "/status"), said="not through its status"),
    Row("controller", "brings the standard annotation in by the status", _pod({"annotations": {STANDARD: "1G"}}, "/status"), said="not through its status"),
    Row("controller", "brings the standard annotation in by the status where live changes need the verb", _pod({"annotations": {STANDARD: "1G"}}, "/status"), said="not through its status", verb_required=True),
    Row("controller", "makes a mirror pod by the status", _pod({"annotations": {MIRROR: "x"}}, "/status"), said="may not add mirror pod annotation"),
    Row("controller", "writes the label by the status", _pod({"labels": {LABEL: "999000000"}}, "/status"), said="labels follow from the annotations"),
    Row("controller", "says that the limit is enforced", _condition("podpace.io/BandwidthEnforced"), said="only the enforcer says"),
    Row("controller", "writes another annotation by the status", _pod({"annotations": {"a": "b"}}, "/status")),
    Row("tenant", "binds the pod", _binding(), said=RBAC),
    Row("controller", "brings our label in by a Binding", _binding(labels={LABEL: "999000000"}), said="a Binding brings no podpace.io labels"),
    Row("controller", "brings our annotation in by a Binding", _binding(annotations={EGRESS: "1G"}), said="a Binding brings no bandwidth annotations"),
    Row("controller", "brings the standard annotation in by a Binding", _binding(annotations={STANDARD: "1G"}), said="a Binding brings no bandwidth annotations"),
    Row("controller", "makes a mirror pod by a Binding", _binding(annotations={MIRROR: "x"}), said="a Binding brings no bandwidth annotations"),
    Row("controller", "brings our label in by a Binding of the old kind", Do("POST", "bindings", _binding(labels={LABEL: "999000000"}).body), said="a Binding brings no podpace.io labels"),
    Row("controller", "binds the pod with a label of its own", _binding(labels={"topology.kubernetes.io/zone": "a"})),
]  # fmt: skip

OURS = [
    Row("webhook", "corrects a label", _pod({"labels": {LABEL: "40000000"}}), after="50"),
    Row("webhook", "changes what a pod runs", Do("STRATEGIC", "pods/web", {"spec": {"containers": [{"name": "main", "image": "evil"}]}}), said=OTHERS),
    Row("webhook", "changes another label", _pod({"labels": {"app": "evil"}}), said="labels under podpace.io only"),
    Row("webhook", "changes another annotation", _pod({"annotations": {"a": "evil"}}), said="annotations under podpace.io only"),
    Row("webhook", "makes a pod wait for somebody", _pod({"finalizers": ["evil.example.com/x"]}), said=OTHERS),
    Row("webhook", "gives a pod an owner", _pod({"ownerReferences": [OWNER]}), said=OTHERS),
    Row("webhook", "writes the status", _condition("Ready"), said=RBAC),
    Row("webhook", "creates a pod", _make("evil", {}), said=RBAC),
    Row("webhook", "creates a Secret", Do("POST", "secrets", SECRET, cluster=True), said="podpace-webhook-ca and the Lease"),
    Row("webhook", "has a token put into its Secret", Do("POST", "secrets", TOKEN, cluster=True), said="podpace-webhook-ca and the Lease"),
    Row("webhook", "creates a Secret in another namespace", Do("POST", "secrets", SECRET), said=RBAC),
    Row("webhook", "deletes a tenant's policy", _own("DELETE"), said=RBAC, own=MAX20, before="20", after="20"),
    Row("enforcer", "writes its condition on another node's pod", _condition("podpace.io/BandwidthEnforced"), said="own node only"),
    Row("enforcer", "brings an annotation in by the status", _pod({"annotations": {EGRESS: "1G"}}, "/status"), said="ValidatingAdmissionPolicy"),
    Row("enforcer", "writes the label by hand", _pod({"labels": {LABEL: "999000000"}}), said=RBAC),
    Row("enforcer", "writes a tenant's policy", _own("POST", {"egress.min": "80M"}), said=RBAC),
    Row("enforcer", "creates a mirror pod", _make("mirror", {MIRROR: "x"}), said=RBAC),
]  # fmt: skip

ROWS = sorted(
    [*OWN_POLICY, *OWN_POLICY_WITH_VERB, *CLUSTER_POLICY, *PODS, *STATUS, *OURS],
    key=lambda row: (row.webhook_away, row.verb_required),
)
"""Those under the same circumstances stand together."""
