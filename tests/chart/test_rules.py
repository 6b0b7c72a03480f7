"""The alerts: each fires for its fault, nothing fires without one. By Prometheus' own promtool."""

import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import CHART, find, objects
from tests.chart.matrix import MATRIX
from tests.debian import prometheus

RULES: Final = CHART / "rules" / "podpace.yaml"
ALERTS: Final = [
    rule["alert"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
]
_BUCKET: Final = "apiserver_admission_webhook_admission_duration_seconds_bucket"
_NODE: Final = 'bytes_per_second{group="node",direction="egress",instance="n1"}'
_OTHER_NODE: Final = 'bytes_per_second{group="node",direction="egress",instance="n2"}'
HEALTHY: Final = {
    'up{job="podpace-webhook",instance="a"}': "1x120",
    'up{job="podpace-webhook",instance="b"}': "0x120",
    'up{job="podpace-enforcer",instance="n1",node="node-1"}': "1x120",
    'apiserver_admission_webhook_fail_open_count{name="pods.podpace.io"}': "3x120",
    f'{_BUCKET}{{name="pods.podpace.io",le="0.1"}}': "0+60x120",
    f'{_BUCKET}{{name="pods.podpace.io",le="1"}}': "0+60x120",
    f'{_BUCKET}{{name="pods.podpace.io",le="+Inf"}}': "0+60x120",
    "podpace_webhook_certificate_expiry_timestamp_seconds": "604800x120",
    'podpace_loop_last_success_timestamp_seconds{loop="policy watch",pod="a"}': "0+60x120",
    'podpace_loop_last_success_timestamp_seconds{loop="certificates",pod="a"}': "0+60x120",
    'podpace_policy_bad{namespace="shop",policy="podpace-policy"}': "0x120",
    'podpace_cluster_policies{instance="a"}': "2x120",
    'podpace_cluster_policies{instance="b"}': "2x60 0 2x58",
    'podpace_audit_pods_total{result="failed"}': "2x120",
    'podpace_errors_total{instance="n1",node="node-1",operation="attach"}': "1x120",
    'podpace_pods{instance="n1",node="node-1",reason="Enforced"}': "7x120",
    'podpace_pods{instance="n1",node="node-1",reason="Failed"}': "0x120",
    'podpace_build_info{version="1",abi="1",instance="n1"}': "1x120",
    'podpace_capacity_bytes_per_second{direction="egress",instance="n1"}': "100x120",
    'podpace_booked_bytes_per_second{direction="egress",instance="n1"}': "100x120",
    'podpace_booked_bytes_per_second{direction="ingress",instance="n1"}': "0x120",
    'podpace_advertised_bytes_per_second{direction="egress",instance="n1"}': "100x120",
    f"podpace_group_requested_{_NODE}": "100x120",
    f"podpace_group_requested_{_OTHER_NODE}": "0x120",
}
"""Two hours, a sample a minute; one replica of two may be away."""
FAULTS: Final[dict[str, dict[str, str]]] = {
    "PodpaceWebhookDown": {'up{job="podpace-webhook",instance="a"}': "0x120"},
    "PodpaceWebhookFailsOpen": {
        'apiserver_admission_webhook_fail_open_count{name="pods.podpace.io"}': "0+1x120"
    },
    "PodpaceWebhookSlow": {f'{_BUCKET}{{name="pods.podpace.io",le="0.1"}}': "0+50x120"},
    "PodpaceWebhookCertificateExpires": {
        "podpace_webhook_certificate_expiry_timestamp_seconds": "90000x120"
    },
    "PodpacePoliciesStale": {
        'podpace_loop_last_success_timestamp_seconds{loop="policy watch",pod="a"}': "0+30x120"
    },
    "PodpaceWebhookLoopFails": {
        'podpace_loop_last_success_timestamp_seconds{loop="certificates",pod="a"}': "0+30x120"
    },
    "PodpacePolicyBad": {'podpace_policy_bad{namespace="shop",policy="podpace-policy"}': "1x120"},
    "PodpacePolicyLost": {
        'podpace_cluster_policies{instance="a"}': "2x80 1x38",
        'podpace_cluster_policies{instance="b"}': "2x80 1x38",
    },
    "PodpaceAuditFails": {'podpace_audit_pods_total{result="failed"}': "0+1x120"},
    "PodpaceEnforcerDown": {'up{job="podpace-enforcer",instance="n1",node="node-1"}': "0x120"},
    "PodpaceEnforcerErrors": {
        'podpace_errors_total{instance="n1",node="node-1",operation="attach"}': "0+1x120"
    },
    "PodpacePodsNotLimited": {'podpace_pods{instance="n1",node="node-1",reason="Failed"}': "2x120"},
    "PodpaceNodeOverbooked": {f"podpace_group_requested_{_NODE}": "101x120"},
    "PodpaceCapacityWithdrawn": {
        'podpace_booked_bytes_per_second{direction="ingress",instance="n1"}': "1x120"
    },
    "PodpaceCapacityUnknown": {f"podpace_group_requested_{_OTHER_NODE}": "1x120"},
    "PodpaceVersionsDiffer": {'podpace_build_info{version="2",abi="1",instance="n2"}': "1x120"},
}


def promtool(*arguments: str) -> None:
    """Fails the test with what promtool says."""
    done = subprocess.run(
        [str(prometheus() / "promtool"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_firing(folder: Path, series: dict[str, str], alerts: list[str]) -> None:
    """Exactly ``alerts`` fire after 100 minutes of ``series``."""
    firing: list[dict[str, Any]] = [
        {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts
    ]
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    test = {
        "interval": "1m",
        "input_series": [{"series": s, "values": values} for s, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "100m", "exp_samples": firing}],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
    promtool("test", "rules", str(file))


def test_the_rules_are_rules() -> None:
    """Syntax, and every query."""
    promtool("check", "rules", "--lint-fatal", str(RULES))


def test_a_healthy_installation_is_silent(tmp_path: Path) -> None:
    """Nothing that happens every day wakes anybody up."""
    check_firing(tmp_path, HEALTHY, [])


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_for_its_fault_alone(alert: str, tmp_path: Path) -> None:
    """A new alert needs a fault here."""
    check_firing(tmp_path, HEALTHY | FAULTS[alert], [alert])


def test_a_capacity_that_is_held_for_pods_without_our_label_is_told_too(tmp_path: Path) -> None:
    """Nobody's metrics count what they have booked."""
    lower = {'podpace_capacity_bytes_per_second{direction="ingress",instance="n1"}': "50x120"}
    told = {'podpace_advertised_bytes_per_second{direction="ingress",instance="n1"}': "60x120"}

    check_firing(tmp_path, HEALTHY | lower | told, ["PodpaceCapacityWithdrawn"])


def test_the_chart_ships_these_rules() -> None:
    """Nothing is lost on the way into the PrometheusRule."""
    shipped = find(objects(MATRIX["monitoring"]), "PrometheusRule", "podpace")["spec"]

    assert shipped == yaml.safe_load(RULES.read_text())
