"""The table of rights, row by row: allowed or refused, and the limit before and after."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Final

import httpx
import pytest
import yaml

from tests.cluster import rights
from tests.cluster.client import Client, Json
from tests.cluster.helpers import EGRESS, EGRESS_LABEL, until
from tests.cluster.install import (
    KUBELET_USER,
    RELEASE_NAMESPACE,
    REQUIRE_VERB,
    WEBHOOK_USER,
    Installation,
    Replica,
    pod,
    render,
)
from tests.cluster.nodes.identity import bound_token, client_with, enforcer_pod
from tests.cluster.rights import (
    BOUND,
    NAMESPACE,
    REQUEST_LABEL,
    ROWS,
    TIER,
    TOTAL_LABEL,
    Do,
    Row,
)
from tests.docs.pages import ROOT

ENFORCER_S_NODE: Final = "node-2"
POD_S_NODE: Final = "node-1"
CANARIES: Final = "rights-canaries"
_PLACE: Final = f"/api/v1/namespaces/{NAMESPACE}"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_GROUP: Final = "rbac.authorization.k8s.io"
_KINDS: Final = {"PATCH": "merge-patch+json", "STRATEGIC": "strategic-merge-patch+json"}


class Stage:
    """Where rows are played: a namespace, its people, the cluster's policy over it, an audit."""

    def __init__(self, installation: Installation, clients: dict[str, Client]) -> None:
        self.installation = installation
        self.admin = installation.admin
        self.clients = clients
        self._verb_required = False
        self._away: list[Replica] = []
        self._canary = count(1)

    def set(self, row: Row) -> None:
        """Everything as it is before the row."""
        self._require_verb(wanted=row.verb_required)
        self._answer(wanted=True)
        selector = {"namespace-selector": f"kubernetes.io/metadata.name={NAMESPACE}"}
        self.installation.set_policy(RELEASE_NAMESPACE, selector | BOUND, TIER)
        path = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps/{TIER}"
        removal = {"podpace.io/allow-removal": None} | row.annotations
        self.admin.patch(path, {"metadata": {"annotations": removal}})
        if self.admin.http.get(f"{_PLACE}/configmaps/podpace-policy").is_success:
            self.installation.set_policy(NAMESPACE, None)
        if row.own is not None:
            self.installation.set_policy(NAMESPACE, row.own)
        for name in ("web", "mirror"):
            self.admin.delete(f"{_PLACE}/pods/{name}")
        binding = "binding" in row.request.path
        node = {} if binding else {"nodeName": POD_S_NODE}
        annotations = None if row.asks is None else {EGRESS: row.asks}
        self.admin.create(f"{_PLACE}/pods", pod(annotations, name="web", **node))
        self._answer(wanted=not row.webhook_away)

    def clear(self) -> None:
        """Everything as it was before the first row."""
        self.set(Row("", "", Do("", "")))
        for path in (f"{_PLACE}/pods/web", f"/api/v1/namespaces/{CANARIES}/pods/canary"):
            self.admin.delete(path)

    def play(self, who: str, request: Do) -> httpx.Response:
        """One request, as somebody."""
        place = f"/api/v1/namespaces/{RELEASE_NAMESPACE}" if request.cluster else _PLACE
        client, url = self.clients[who].http, f"{place}/{request.path}"
        if request.verb in _KINDS:
            kind = {"Content-Type": f"application/{_KINDS[request.verb]}"}
            return client.patch(url, json=request.body, headers=kind)
        body = {"gracePeriodSeconds": 0} if request.verb == "DELETE" else request.body
        return client.request(request.verb, url, json=body)

    def limit(self) -> str:
        """Of the pod: what its enforcer is told."""
        metadata = self.admin.get(f"{_PLACE}/pods/web")["metadata"]
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        if "podpace.io/limited" not in labels:
            return "-"
        told = [str(int(labels[EGRESS_LABEL]) // 10**6)]
        for word, key in (("request", REQUEST_LABEL), ("total", TOTAL_LABEL)):
            if key in labels:
                told.append(f"{word} {int(labels[key]) // 10**6}")
        if labels["podpace.io/mode"] != "enforce":
            told.append(labels["podpace.io/mode"])
        if "podpace.io/exempt-cidrs" in annotations:
            told.append("exempt")
        return " ".join(told)

    def settle(self) -> None:
        """Returns when the audit has done what came later than the row."""
        megabits = next(self._canary)
        self.installation.set_policy(CANARIES, {"egress.max": f"{megabits}M"})
        path = f"/api/v1/namespaces/{CANARIES}/pods/canary"
        until(
            lambda: self.admin.get(path)["metadata"].get("labels", {}).get(EGRESS_LABEL),
            lambda bits: bits == f"{megabits}000000",
        )

    def _require_verb(self, *, wanted: bool) -> None:
        if wanted is self._verb_required:
            return
        self._verb_required = wanted
        documents = yaml.dump_all(render("live-changes.yaml", REQUIRE_VERB))
        command = "apply" if wanted else "delete"
        done = self.installation.plane.kubectl(command, "-f", "-", stdin=documents)
        assert done.returncode == 0, done.stderr
        # The API server takes a moment to compile a policy.
        self.admin.delete(f"{_PLACE}/configmaps/podpace-policy")
        until(self._is_verb_asked_for, lambda asked: asked is wanted)

    def _is_verb_asked_for(self) -> bool:
        loose = {"metadata": {"name": "podpace-policy"}, "data": {"egress.min": "1M"}}
        path = f"{_PLACE}/configmaps"
        tried = self.clients["tenant"].http.post(path, params={"dryRun": "All"}, json=loose)
        return rights.VERB in tried.text

    def _answer(self, *, wanted: bool) -> None:
        """Whether the webhook can be called; the audit goes on."""
        if wanted is not bool(self._away):
            return
        if wanted:
            for replica in self._away:
                self.installation.set_endpoint(replica, ready=True)
            self._away = []
            self.installation.wait_called()
        else:
            self._away = list(self.installation.replicas)
            for replica in self._away:
                self.installation.set_endpoint(replica, ready=False)
            probe = pod({EGRESS: "wrong"}, name="probe")
            url = "/api/v1/namespaces/default/pods"
            until(
                lambda: self.admin.http.post(url, params={"dryRun": "All"}, json=probe),
                lambda response: response.is_success,
            )


def _grant(admin: Client, role: str, user: str, rules: list[Json] | None = None) -> None:
    """In the namespace: a ClusterRole that is there, or a role of these rules."""
    if rules is not None:
        admin.create(
            f"{_RBAC}/namespaces/{NAMESPACE}/roles", {"metadata": {"name": role}, "rules": rules}
        )
    kind = "ClusterRole" if rules is None else "Role"
    admin.create(
        f"{_RBAC}/namespaces/{NAMESPACE}/rolebindings",
        {
            "metadata": {"name": f"{role}-{user}"},
            "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": role},
            "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": user}],
        },
    )


@pytest.fixture(scope="module")
def stage(installation: Installation) -> Iterator[Stage]:
    """Built once."""
    admin = installation.admin
    with ExitStack() as stack:
        for name in (NAMESPACE, CANARIES):
            admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
            stack.callback(admin.delete, f"/api/v1/namespaces/{name}")
        for node in (POD_S_NODE, ENFORCER_S_NODE):
            admin.create("/api/v1/nodes", {"metadata": {"name": node}})
            stack.callback(admin.delete, f"/api/v1/nodes/{node}")
        for user in ("tenant", "lead"):
            _grant(admin, "edit", user)
        verb = {"apiGroups": [""], "resources": ["pods"], "verbs": ["change-bandwidth"]}
        _grant(admin, "bandwidth", "lead", [verb])
        _grant(
            admin,
            "status",
            "controller",
            [
                {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
                {"apiGroups": [""], "resources": ["pods/binding", "bindings"], "verbs": ["create"]},
            ],
        )
        admin.create(
            f"{_RBAC}/clusterrolebindings",
            {
                "metadata": {"name": "platform"},
                "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": _GROUP, "kind": "User", "name": "platform"}],
            },
        )
        stack.callback(admin.delete, f"{_RBAC}/clusterrolebindings/platform")
        enforcers = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"
        its_pod = admin.create(enforcers, enforcer_pod(ENFORCER_S_NODE))
        stack.callback(admin.delete, f"{enforcers}/{its_pod['metadata']['name']}")
        token = bound_token(admin, its_pod)
        plane = installation.plane
        people = {
            who: stack.enter_context(plane.client(user))
            for who, user in (
                ("tenant", "tenant"),
                ("lead", "lead"),
                ("platform", "platform"),
                ("controller", "controller"),
                ("webhook", WEBHOOK_USER),
                ("kubelet", KUBELET_USER),
            )
        }
        people["enforcer"] = stack.enter_context(client_with(plane, token))
        audit = installation.add_replica("--audit-seconds=0.5", "--drain-seconds=0")
        stack.callback(installation.remove_replica, audit)
        admin.create(f"/api/v1/namespaces/{CANARIES}/pods", pod(name="canary"))
        stage = Stage(installation, people)
        stack.callback(installation.set_policy, RELEASE_NAMESPACE, None, TIER)
        stack.callback(stage.clear)
        configmaps = f"{_PLACE}/configmaps"
        until(lambda: people["tenant"].http.get(configmaps), lambda r: r.is_success)
        yield stage


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.who} {r.does}{', verb' * r.verb_required}")
def test_who_does_what_and_what_becomes_of_the_limit(row: Row, stage: Stage) -> None:
    """Allowed or refused with the reason; the limit follows, or stays."""
    stage.set(row)
    before = until(stage.limit, lambda found: found == row.before, seconds=10)

    begin = time.monotonic()
    response = stage.play(row.who, row.request)

    assert response.is_success is (not row.said), response.text
    assert row.said in response.text
    if response.is_success:
        if row.before == row.after:
            stage.settle()
        after = until(stage.limit, lambda found: found == row.after)
    else:
        after = stage.limit()
    print(
        f"| {row.who} | {row.does} | {'refused' if row.said else 'allowed'} | {before} | {after} |"
    )
    assert after == row.after, f"after {time.monotonic() - begin:.1f} s"


def test_the_table_is_large_enough() -> None:
    """No row may be lost unseen, and each of the people has some."""
    assert len({(row.who, row.does, row.verb_required) for row in ROWS}) == len(ROWS)
    assert len(ROWS) >= 40
    assert {row.who for row in ROWS} >= {"tenant", "lead", "platform", "webhook", "enforcer"}


def test_the_page_names_every_guard() -> None:
    """docs/operator/security.md."""
    rendered = [
        o
        for template in ("pod-guard", "policy-guard", "webhook-guard", "enforcer-guard")
        for o in render(f"{template}.yaml")
    ] + render("live-changes.yaml", REQUIRE_VERB)
    guards = {o["metadata"]["name"] for o in rendered if o["kind"] == "ValidatingAdmissionPolicy"}
    page = (ROOT / "docs/operator/security.md").read_text()

    assert guards
    assert [guard for guard in guards if f"`{guard}`" not in page] == []
