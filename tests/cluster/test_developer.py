"""A developer with ``edit`` in one namespace: ``kubectl podpace`` works there and nowhere else.

The table is the one of ``docs/user/kubectl.md``; nothing but the chart's own roles is given. API
server and webhook are real, the enforcer is its page of metrics: real ones are read in
``nodes/test_kubectl.py``.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import yaml

from contract.stats import API_SERVICE, path_of
from tests.cluster.helpers import EGRESS, until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, own_address, pod, render
from tests.cluster.nodes.identity import enforcer_pod
from tests.cluster.plane import ControlPlane

pytestmark = pytest.mark.long

MINE, OTHERS = "developers", "somebody-elses"
NODE = "developers-node"
WITH_STATS = {"stats": {"enabled": True}}
DEVELOPER, VIEWER = "tenant", "editor"
ENFORCERS = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"


def page() -> bytes:
    """As an enforcer's ``/metrics/pods``."""
    lines = ["podpace_read_timestamp_seconds 1.5e+09"]
    for namespace in (MINE, OTHERS):
        labels = (
            f'direction="egress",namespace="{namespace}",pod="web",target="pod:{namespace}/web"'
        )
        lines.append(f"podpace_limit_bytes_per_second{{{labels}}} 1.25e+06")
        lines.append(f"podpace_passed_bytes_total{{{labels}}} 5e+06")
    return "\n".join([*lines, ""]).encode()


class Page(BaseHTTPRequestHandler):
    """Answers with it."""

    def do_GET(self) -> None:
        """See ``page``."""
        self.send_response(200 if self.path == "/metrics/pods" else 404)
        self.end_headers()
        self.wfile.write(page())

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


@pytest.fixture(scope="module")
def enforcer(installation: Installation) -> Iterator[ThreadingHTTPServer]:
    """Of the one node; its pod is in the release namespace, as the DaemonSet's are."""
    server = ThreadingHTTPServer((own_address(), 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = installation.admin.create(ENFORCERS, enforcer_pod(NODE, server.server_port))
    path = f"{ENFORCERS}/{made['metadata']['name']}"
    address = {"podIP": own_address(), "podIPs": [{"ip": own_address()}]}
    installation.admin.patch(f"{path}/status", {"status": address})
    yield server
    installation.admin.delete(path)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ready(installation: Installation, enforcer: ThreadingHTTPServer) -> Iterator[ControlPlane]:
    """Two namespaces with a limited pod each; the developer may edit one, the viewer view it."""
    admin = installation.admin
    for namespace in (MINE, OTHERS):
        admin.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        path = f"/api/v1/namespaces/{namespace}/pods"
        admin.create(path, pod({EGRESS: "10M"}, name="web", labels={"app": "web"}, nodeName=NODE))
    for user, role in ((DEVELOPER, "edit"), (VIEWER, "view")):
        admin.create(
            f"/apis/rbac.authorization.k8s.io/v1/namespaces/{MINE}/rolebindings",
            {
                "metadata": {"name": user},
                "subjects": [{"kind": "User", "name": user}],
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
            },
        )
    objects = render("stats.yaml", WITH_STATS) + render("user-rbac.yaml", WITH_STATS)
    manifests = yaml.dump_all(objects)
    done = installation.plane.kubectl("apply", "-f", "-", stdin=manifests)
    assert done.returncode == 0, done.stderr
    replica = installation.add_replica("--audit-seconds=0", "--drain-seconds=1", stats=True)
    until(lambda: served(installation), bool)
    yield installation.plane
    # The API first: while nobody answers for it no namespace of the control plane can end.
    installation.plane.kubectl("delete", "-f", "-", stdin=manifests)
    installation.remove_replica(replica)
    for namespace in (MINE, OTHERS):
        admin.delete(f"/api/v1/namespaces/{namespace}")


def served(installation: Installation) -> bool:
    """Whether the API server has found somebody behind the API."""
    path = f"/apis/apiregistration.k8s.io/v1/apiservices/{API_SERVICE}"
    said = installation.admin.get(path).get("status", {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in said)


REFUSED = "forbidden"
ONCE = ("--once", "--interval=1")
TABLE = (
    # verb, of the own namespace: exit code and what is said; elsewhere it is always refused
    (("list",), 0, "web - 10 Mbit/s pod Unknown"),
    (("show", "web"), 0, "passed"),
    (("explain", "web"), 0, "egress 10 Mbit/s: the pod asks for it"),
    (("top", *ONCE), 0, f"{MINE}/web egress 10 Mbit/s"),
)


@pytest.mark.parametrize(("command", "code", "says"), TABLE, ids=[row[0][0] for row in TABLE])
def test_a_verb_works_in_the_own_namespace_and_nowhere_else(
    ready: ControlPlane, command: tuple[str, ...], code: int, says: str
) -> None:
    """Whole: no counters are missing, and no policy."""
    verb, *rest = command

    here = ready.kubectl_podpace(verb, "-n", MINE, *rest, user=DEVELOPER)
    elsewhere = ready.kubectl_podpace(verb, "-n", OTHERS, *rest, user=DEVELOPER)

    assert (here.returncode, here.stderr) == (code, "")
    assert says in " ".join(here.stdout.split())
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert REFUSED in elsewhere.stderr or "cannot" in elsewhere.stderr


def test_counters_of_all_namespaces_are_not_the_developers(ready: ControlPlane) -> None:
    """Nor are the enforcers' pages."""
    everywhere = ready.kubectl_podpace("top", "-A", *ONCE, user=DEVELOPER)
    nodes = ready.kubectl_podpace("nodes", "--interval=1", user=DEVELOPER)

    assert (everywhere.returncode, nodes.returncode) == (1, 1)


def _get(plane: ControlPlane, user: str, namespace: str) -> httpx.Response:
    with plane.client(user) as client:
        return client.http.get(path_of(namespace))


def test_the_api_server_decides_who_reads_which_namespace(ready: ControlPlane) -> None:
    """Before it calls us; the answer has pods of that namespace only."""
    mine, others = _get(ready, VIEWER, MINE), _get(ready, VIEWER, OTHERS)
    with ready.client() as admin:
        everybody = admin.http.get(path_of(MINE).replace(f"namespaces/{MINE}/", ""))

    assert mine.status_code == 200, mine.text
    (web,) = mine.json()["items"]
    assert web["metadata"] == {"namespace": MINE, "name": "web"}
    assert web["egress"]["podpace_limit_bytes_per_second"] == 1_250_000
    assert (mine.json()["problems"], mine.json()["kind"]) == ([], "PodStatsList")
    assert others.status_code == 403
    assert everybody.status_code == 404


def test_whoever_comes_past_the_api_server_is_refused(
    ready: ControlPlane, installation: Installation
) -> None:
    """Without a certificate, and with one of that authority that is no front proxy's."""
    replica = installation.replicas[-1]
    address = (replica.address, replica.stats_port)
    forged: dict[str, Any] = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}

    def ask(certificate: str | None) -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            file = ready.front_proxy / certificate
            context.load_cert_chain(file.with_suffix(".crt"), file.with_suffix(".key"))
        # Not by httpx, which leaves the socket of a refused connection open.
        with contextlib.closing(HTTPSConnection(*address, context=context, timeout=30)) as made:
            made.request("GET", path_of(MINE), headers=forged)
            return made.getresponse().status

    for certificate in (None, "other"):
        with pytest.raises(OSError):  # noqa: PT011 - reset, an alert, or nothing
            ask(certificate)
    assert ask("tls") == 200


def test_without_anybody_behind_it_administrators_read_the_enforcers(
    ready: ControlPlane, installation: Installation
) -> None:
    """And a developer is told what is missing, beside everything else."""
    replica = installation.replicas[-1]
    installation.set_endpoint(replica, ready=False)
    try:
        gone = until(lambda: _get(ready, DEVELOPER, MINE), lambda answer: answer.status_code == 503)
        show = ready.kubectl_podpace("show", "web", "-n", MINE, user=DEVELOPER)
        top = ready.kubectl_podpace("top", "-n", MINE, "-o", "json", "--interval=1")
    finally:
        installation.set_endpoint(replica, ready=True)
        until(lambda: served(installation), bool)

    assert gone.status_code == 503
    assert (show.returncode, "\npassed " in show.stdout) == (0, False)
    assert "no counters: neither stats.podpace.io" in show.stderr
    assert [row["target"] for row in json.loads(top.stdout)] == [f"{MINE}/web"]
    assert top.stderr == ""


def _egress(installation: Installation, namespace: str = MINE) -> str:
    found = installation.admin.get(f"/api/v1/namespaces/{namespace}/pods/web")
    label: str = found["metadata"]["labels"]["podpace.io/egress-bits-per-second"]
    return label


def test_set_changes_pods_of_the_own_namespace_within_its_policies(
    ready: ControlPlane, installation: Installation
) -> None:
    """And says whose word it was; with a dry run nothing is changed."""
    installation.set_policy(MINE, {"egress.max": "15M", "on-violation": "clamp"})
    mine = ("set", "-n", MINE)
    try:
        tried = ready.kubectl_podpace(*mine, "web", "--egress=12M", "--dry-run", user=DEVELOPER)
        after_dry_run = _egress(installation)
        done = ready.kubectl_podpace(*mine, "-l", "app=web", "--egress=20M", user=DEVELOPER)
        bounded = _egress(installation)
        elsewhere = ready.kubectl_podpace("set", "-n", OTHERS, "web", "--egress=1M", user=DEVELOPER)
        viewer = ready.kubectl_podpace(*mine, "web", "--egress=1M", user=VIEWER)
    finally:
        installation.set_policy(MINE, None)

    assert (tried.returncode, tried.stderr, after_dry_run) == (0, "", "10000000")
    assert "egress  12 Mbit/s: the pod asks for it" in tried.stdout
    assert (done.returncode, done.stderr, bounded) == (0, "", "15000000")
    assert f"above the namespace's maximum (podpace-policy in {MINE})" in done.stdout
    for refused in (elsewhere, viewer):
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "cannot" in refused.stderr
    assert _egress(installation, OTHERS) == "10000000"


def test_set_changes_no_pod_when_one_of_them_is_refused(
    ready: ControlPlane, installation: Installation
) -> None:
    """The webhook is asked for each before; its words are told."""
    path = f"/api/v1/namespaces/{MINE}/pods"
    installation.admin.create(path, pod({EGRESS: "1M"}, name="bursty", labels={"app": "web"}))
    before = _egress(installation)
    # A burst needs a limit, and one of the two has none afterwards.
    bursty = {"metadata": {"annotations": {"podpace.io/egress-burst": "1Mi"}}}
    installation.admin.patch(f"{path}/bursty", bursty)
    try:
        done = ready.kubectl_podpace(
            "set", "-n", MINE, "-l", "app=web", "--egress=none", user=DEVELOPER
        )
    finally:
        installation.admin.delete(f"{path}/bursty")
    wrong = ready.kubectl_podpace("set", "-n", MINE, "web", "--egress=10Mbps", user=DEVELOPER)
    nobody = ready.kubectl_podpace(
        "set", "-n", MINE, "-l", "app=none", "--egress=1M", user=DEVELOPER
    )

    assert (done.returncode, done.stdout, _egress(installation)) == (1, "", before)
    assert f"{MINE}/bursty: " in done.stderr
    assert "podpace.io/egress-burst" in done.stderr
    assert (wrong.returncode, nobody.returncode) == (2, 1)
    assert '--egress: "10Mbps"' in wrong.stderr
