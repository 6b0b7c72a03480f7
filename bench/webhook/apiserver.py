"""What the webhook adds to pod creations, by the API server's own metric."""

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.cluster.client import Client
from tests.cluster.install import USERS, Installation
from tests.cluster.load import steady_load
from tests.cluster.plane import ControlPlane

_SERIES: Final = re.compile(
    r"apiserver_admission_webhook_admission_duration_seconds_bucket\{(.*)\} (\S+)"
)


def measure(per_second: int, seconds: int) -> dict[str, Any]:
    """Creates pods for real and reads the histogram before and after."""
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder), USERS)
        try:
            plane.start(controllers=False)
            installation = Installation(plane)
            installation.apply()
            installation.add_replica("--audit-seconds=0", "--drain-seconds=0")
            installation.wait_called()
            with steady_load(plane, per_second, dry_run=False):
                time.sleep(3)
            before = _histogram(installation.admin)
            print(f"{per_second} pod creations a second for {seconds} s", file=sys.stderr)
            with steady_load(plane, per_second, dry_run=False) as outcome:
                time.sleep(seconds)
            after = _histogram(installation.admin)
            installation.stop()
        finally:
            plane.stop()
    counts = {edge: after[edge] - before.get(edge, 0) for edge in after}
    return {
        "pods": outcome.done,
        "per_second": outcome.done / outcome.seconds,
        "failures": len(outcome.failures),
        "buckets": counts,
        "p99_ms": quantile(counts, 0.99) * 1e3,
        "p50_ms": quantile(counts, 0.5) * 1e3,
    }


def quantile(counts: dict[float, float], part: float) -> float:
    """Seconds, interpolated within its bucket as Prometheus does."""
    edges = sorted(counts)
    rank, below, lower = part * counts[edges[-1]], 0.0, 0.0
    for edge in edges:
        if counts[edge] >= rank:
            inside = counts[edge] - below
            return lower + (edge - lower) * ((rank - below) / inside if inside else 0)
        below, lower = counts[edge], edge
    return lower


def _histogram(admin: Client) -> dict[float, float]:
    counts: dict[float, float] = {}
    for labels, value in _SERIES.findall(admin.http.get("/metrics").text):
        edge = labels.split('le="')[1].split('"')[0]
        if 'name="pods.podpace.io"' in labels and 'operation="CREATE"' in labels:
            counts[float(edge)] = counts.get(float(edge), 0) + float(value)
    return counts
