"""The Grafana dashboard's queries, asked of a real Prometheus that scrapes the real programs."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from bench.rig import TcpLoad, bulk
from contract.names import Direction
from tests import debian
from tests.chart.helm import CHART
from tests.cluster.helpers import EGRESS, until
from tests.cluster.install import Installation, own_address, pod, put_policy
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.traffic import Pair
from tests.cluster.plane import DIES_WITH_US, free_port

DASHBOARD: Final = json.loads((CHART / "dashboards" / "podpace.json").read_text())
PANELS: Final = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
QUERIES: Final = [
    pytest.param(target["expr"], id=f"{panel['title']}: {target['legendFormat']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES: Final = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
_NAMESPACE: Final = "dashboard"
_SECONDS: Final = 6


class Prometheus:
    """Debian's binary, scraping every second."""

    def __init__(self, folder: Path, jobs: list[dict[str, Any]]) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yaml"
        content = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        config.write_text(yaml.safe_dump(content))
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*DIES_WITH_US, str(debian.prometheus() / "prometheus")),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self._url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an API call; fails the test when Prometheus refuses it."""
        response = httpx.get(f"{self._url}/api/v1/{path}", params=parameters, trust_env=False)
        assert response.is_success, response.text
        return response.json()["data"]

    def wait_up(self, targets: int) -> None:
        """Returns when all have been scraped twice."""

        def up() -> list[Any]:
            assert self.process.poll() is None, self.log.read_text()
            try:
                found: list[Any] = self.get(
                    "query", query="count_over_time(up[1m]) > 1 and up == 1"
                )["result"]
            except httpx.TransportError:
                return []
            return found

        until(up, lambda found: len(found) == targets)

    def stop(self) -> None:
        """It ends."""
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def prometheus(
    installation: Installation,
    enforcers: list[Enforcer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """After a while with a limited pod that sends, and one that went past the webhook."""
    plane, admin = installation.plane, installation.admin
    (first, second), (replica, *_) = enforcers[:2], installation.replicas
    # As the chart starts them, with a capacity.
    first.stop()
    # A link of no known speed, as here, would have nothing to tell of its capacity.
    first.start("--pod-metrics", "--advertise", "--egress-capacity=1G", "--ingress-capacity=1G")
    token = plane.folder / "prometheus.token"
    token.write_text(plane.token("admin"))
    jobs = [
        {
            "job_name": "podpace-webhook",
            "static_configs": [{"targets": [f"{replica.address}:{replica.health_port}"]}],
        },
        {
            "job_name": "podpace-enforcer",
            "honor_labels": True,
            "static_configs": [
                {"targets": [f"{own_address()}:{e.port}"], "labels": {"node": e.node.name}}
                for e in (first, second)
            ],
        },
        {
            "job_name": "apiserver",
            "scheme": "https",
            "tls_config": {"ca_file": str(plane.ca_file)},
            "authorization": {"credentials_file": str(token)},
            "static_configs": [{"targets": [f"127.0.0.1:{plane.port}"]}],
        },
    ]
    running = Prometheus(Path(tmp_path_factory.mktemp("prometheus")), jobs)
    admin.create("/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
    path = f"/api/v1/namespaces/{_NAMESPACE}/pods"
    try:
        _go_past_the_webhook(installation, path)
        for name, annotations in (("sender", {EGRESS: "10M"}), ("receiver", None)):
            body = pod(annotations, name=name)
            body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": first.node.name}
            admin.create(path, body)
        sender, receiver = (first.node.sandbox(_NAMESPACE, n) for n in ("sender", "receiver"))
        until(
            lambda: admin.get(f"{path}/sender"), lambda p: "BandwidthEnforced" in str(p["status"])
        )
        running.wait_up(4)
        with bulk(Pair(sender, receiver), TcpLoad(Direction.EGRESS, _SECONDS)) as load:
            for _ in range(_SECONDS):
                admin.http.post(path, params={"dryRun": "All"}, json=pod({EGRESS: "1M"}))
            load.result()
            yield running
    finally:
        running.stop()
        admin.delete(f"/api/v1/namespaces/{_NAMESPACE}")
        first.stop()
        first.start()


def _go_past_the_webhook(installation: Installation, path: str) -> None:
    """Nobody answers, and failurePolicy is Ignore: a bad policy and a bad pod get in."""
    replica = installation.replicas[0]
    installation.set_endpoint(replica, ready=False)
    until(
        lambda: installation.admin.http.post(
            path, params={"dryRun": "All"}, json=pod({EGRESS: "wrong"}, name="past")
        ),
        lambda response: response.is_success,
    )
    put_policy(installation.admin, _NAMESPACE, {"mode": "wrong", "egress.total-per-node": "100M"})
    installation.set_endpoint(replica, ready=True)
    installation.wait_called()


def _as_grafana_asks(query: str) -> str:
    """Variables at "All"."""
    for variable in VARIABLES:
        query = query.replace(f"${variable['name']}", ".*")
    return query.replace("$__rate_interval", "1m")


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_of_the_dashboard_finds_data(prometheus: Prometheus, query: str) -> None:
    """Whatever a series is called, program and dashboard agree."""
    found = until(lambda: prometheus.get("query", query=_as_grafana_asks(query))["result"], bool)

    assert all(sample["value"][1] != "NaN" for sample in found), found


def test_the_rate_that_the_dashboard_draws_is_the_limit(prometheus: Prometheus) -> None:
    """Units: bits on both lines, of the same pod."""
    selector = f'namespace="{_NAMESPACE}",pod="sender",direction="egress"'
    limit = prometheus.get("query", query=f"8 * podpace_limit_bytes_per_second{{{selector}}}")
    sent = prometheus.get(
        "query", query=f"8 * increase(podpace_passed_bytes_total{{{selector}}}[1m])"
    )

    assert [float(s["value"][1]) for s in limit["result"]] == [1e7]
    (total,) = (float(s["value"][1]) for s in sent["result"])
    # increase() extrapolates to the minute's ends; what is off by bits and bytes is off by eight.
    assert 0.4 < total / (1e7 * _SECONDS) < 2.5


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: str(v["name"]))
def test_each_variable_has_values(prometheus: Prometheus, variable: dict[str, Any]) -> None:
    """Grafana asks for the values of a label."""
    matched = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert matched is not None

    values = prometheus.get(
        f"label/{matched[2]}/values", **{"match[]": _as_grafana_asks(matched[1])}
    )

    assert values


def test_the_alerts_look_at_series_that_there_are(prometheus: Prometheus) -> None:
    """An alert on a name that nobody exports never fires."""
    rules = yaml.safe_load((CHART / "rules" / "podpace.yaml").read_text())
    expressions = " ".join(r["expr"] for g in rules["groups"] for r in g["rules"])
    names = set(re.findall(r"\b(?:podpace|apiserver)_\w+", expressions))

    assert len(names) >= 8
    for name in names:
        assert prometheus.get("query", query=name)["result"], name
