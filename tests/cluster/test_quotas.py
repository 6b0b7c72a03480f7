"""Quotas and LimitRanges over bookings, on the real API server, and what is said of them."""

import json
import subprocess
import sys

from tests.cluster.client import Client, Json
from tests.cluster.helpers import until
from tests.cluster.install import Installation, asking, pod
from tests.cluster.logged import ROOT
from tests.pod_shapes import EGRESS
from tests.vectors.spelt import SPELT

_SECONDS = 60
"""How long a test waits before it gives up."""


def set_quota(admin: Client, namespace: str, **hard: str) -> Json:
    """A ResourceQuota of that much; its status is filled in as the controller does. The object."""
    spec = {"hard": {f"requests.podpace.io/{way}": amount for way, amount in hard.items()}}
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bandwidth"}}
    admin.create(path, body | {"spec": spec})
    status = spec | {"used": dict.fromkeys(spec["hard"], "0")}
    return admin.patch(f"{path}/bandwidth/status", {"status": status})


def reviewed(namespace: str, *objects: Json) -> list[Json]:
    """What ``review`` says of them beforehand, under the namespace's policy."""
    policy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "podpace-policy"}}
    done = subprocess.run(
        [*(sys.executable, "-m", "webhook", "review"), "-n", namespace, "-f-", "-ojson"],
        input="\n---\n".join(map(json.dumps, (policy | {"data": {"schedule": "true"}}, *objects))),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: list[Json] = json.loads(done.stdout)
    return found


def test_a_quota_refuses_the_sixth_pod_in_the_words_of_review(admin: Client, booking: str) -> None:
    """1G for the namespace, 200M each: the API server says what ``review`` said beforehand."""
    quota = {"requests.podpace.io/egress": "1G"}
    made = set_quota(admin, booking, egress="1G")
    pods = f"/api/v1/namespaces/{booking}/pods"
    for number in range(5):
        until(
            lambda number=number: admin.http.post(pods, json=asking(f"p{number}")),
            lambda answer: answer.is_success,
            _SECONDS,
        )

    refused = admin.http.post(pods, json=asking("p5"))

    assert made["spec"]["hard"] == quota
    assert refused.status_code == 403
    assert refused.json()["message"] == (
        'pods "p5" is forbidden: exceeded quota: bandwidth, '
        "requested: requests.podpace.io/egress=200M, used: requests.podpace.io/egress=1G, "
        "limited: requests.podpace.io/egress=1G"
    )
    said = {v["name"]: v for v in reviewed(booking, made, *(asking(f"p{n}") for n in range(6)))}
    assert [said[f"p{n}"]["message"] for n in range(5)] == [""] * 5
    assert said["p5"]["message"] == refused.json()["message"]


def test_review_and_api_server_say_the_same_of_both_directions_and_odd_spellings(
    admin: Client, booking: str
) -> None:
    """The order of the resources and the suffixes are the API server's."""
    quota = set_quota(admin, booking, ingress="0.5Gi", egress="1e8")
    body = asking("wide")
    body["metadata"]["annotations"]["podpace.io/ingress-request"] = "1G"

    refused = until(
        lambda: admin.http.post(f"/api/v1/namespaces/{booking}/pods?dryRun=All", json=body),
        lambda answer: answer.status_code == 403,
        _SECONDS,
    ).json()["message"]

    assert "limited: requests.podpace.io/egress=100e6,requests.podpace.io/ingress=512Mi" in refused
    assert [v["message"] for v in reviewed(booking, quota, body) if v["kind"] == "Pod"] == [refused]


def test_the_api_server_spells_quantities_as_we_do(admin: Client, namespace: str) -> None:
    """As far as a quota may be written."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    hard = {f"requests.example.com/r{n}": text for n, text in enumerate(SPELT)}

    made = admin.create(path, {"metadata": {"name": "spelt"}, "spec": {"hard": hard}})

    assert [*made["spec"]["hard"].values()] == [*SPELT.values()]


def test_explain_of_a_workload_names_the_quota_that_refused_its_pods(
    admin: Client, installation: Installation, booking: str
) -> None:
    """The ReplicaSet's real controller was told; its author reads it without another right."""
    quota = {"requests.podpace.io/egress": "100M"}
    path = f"/api/v1/namespaces/{booking}/resourcequotas"
    admin.create(path, {"metadata": {"name": "narrow"}, "spec": {"hard": quota}})
    used = dict.fromkeys(quota, "0")
    admin.patch(f"{path}/narrow/status", {"status": {"hard": quota, "used": used}})
    labels, template = {"app": "web"}, asking("web")
    template["metadata"] = {"labels": labels, "annotations": template["metadata"]["annotations"]}
    admin.create(
        f"/apis/apps/v1/namespaces/{booking}/replicasets",
        {
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
    )

    explained = until(
        lambda: installation.plane.kubectl_podpace("explain", "web", "-n", booking),
        lambda done: done.returncode == 0,
        _SECONDS,
    )

    assert "is forbidden: exceeded quota: narrow, requested: requests" in explained.stdout
    assert "quota narrow now: requests.podpace.io/egress 0 of 100M" in explained.stdout
    assert "have the quota raised" in explained.stdout


def test_a_limit_range_bounds_and_gives_what_containers_book(admin: Client, booking: str) -> None:
    """Its default is a booking of the pod's own; its max is the API server's to hold."""
    bounds = {"type": "Container", "default": {EGRESS: "5M"}, "max": {EGRESS: "50M"}}
    path = f"/api/v1/namespaces/{booking}/limitranges"
    admin.create(path, {"metadata": {"name": "bandwidth"}, "spec": {"limits": [bounds]}})
    pods = f"/api/v1/namespaces/{booking}/pods"

    made = until(
        lambda: admin.http.post(pods, json=pod({})).json(),
        lambda found: EGRESS in found["spec"]["containers"][0]["resources"].get("limits", {}),
        _SECONDS,
    )

    assert made["metadata"]["labels"]["podpace.io/egress-request-bits-per-second"] == "5000000"
    own = pod({}, name="own")
    own["spec"]["containers"][0]["resources"] = {"limits": {EGRESS: "60M"}}
    assert (
        "maximum podpace.io/egress usage per Container is 50M"
        in admin.http.post(pods, json=own).text
    )
