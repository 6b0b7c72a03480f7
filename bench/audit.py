"""What the audit costs in a large cluster: ``python -m bench.audit`` prints the figures of
``docs/operator/sizing.md``.

A real API server holds the pods, with managedFields as clusters have them; nothing runs them. Some
of them do not follow. One webhook starts, becomes leader, and is watched.
"""

import argparse
import base64
import json
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import yaml

from contract import names
from tests.cluster.client import Client, Json
from tests.cluster.install import RELEASE_NAMESPACE, USERS, Replica, own_address, render
from tests.cluster.plane import ControlPlane

NAMESPACES: Final = 100
DRIFTED: Final = 100
"""Pods without their labels."""
_MANAGED_FIELDS: Final = 60
"""Entries: 3.7 kB, as a pod that runs has them."""
_AT_ONCE: Final = 100
_LABELS: Final = {
    names.LABEL_LIMITED: "true",
    names.LABEL_EGRESS_BITS_PER_SECOND: "10000000",
    names.LABEL_EGRESS_BURST_BITS: "1048576",
    names.LABEL_SOURCE: "pod",
    names.LABEL_MODE: "enforce",
}


def _pod(number: int) -> Json:
    name = f"web-{number // 20:05d}-7d9c8b6f5-{number:06d}"
    managed = {
        f"f:entry-{n:02d}": {"f:one": {}, "f:other": {}, ".": {}} for n in range(_MANAGED_FIELDS)
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": f"team-{number % NAMESPACES:03d}",
            "uid": str(uuid.uuid4()),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": f"web-{number // 20}"} | ({} if number < DRIFTED else _LABELS),
            "annotations": {names.ANNOTATION_EGRESS_BANDWIDTH: "10M"},
            "managedFields": [
                {
                    "manager": "kubelet",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:status": managed},
                    "subresource": "status",
                }
            ],
        },
        "spec": {"containers": [{"name": "main", "image": "main"}], "nodeName": "node-1"},
        "status": {"phase": "Running"},
    }


@contextmanager
def _plane() -> Iterator[tuple[ControlPlane, Client]]:
    with tempfile.TemporaryDirectory(prefix="podpace-audit-") as folder:
        plane = ControlPlane(Path(folder), USERS)
        try:
            plane.start(controllers=False)
            with plane.client() as admin:
                admin.create("/api/v1/namespaces", {"metadata": {"name": RELEASE_NAMESPACE}})
                for template in ("webhook-rbac.yaml", "webhook-certificates.yaml"):
                    done = plane.kubectl(
                        "apply", "-f", "-", stdin=yaml.safe_dump_all(render(template))
                    )
                    if done.returncode:
                        raise RuntimeError(done.stderr)
                yield plane, admin
        finally:
            plane.stop()


def _create(plane: ControlPlane, admin: Client, pods: int) -> None:
    """Straight into etcd: through the API server it would take longer than all the rest."""
    for number in range(NAMESPACES):
        admin.create("/api/v1/namespaces", {"metadata": {"name": f"team-{number:03d}"}})
    [etcd] = [
        word.partition("=")[2]
        for word in plane.arguments("etcd")
        if word.startswith("--advertise-client-urls=")
    ]
    with httpx.Client(base_url=etcd, timeout=60, trust_env=False) as client:
        for start in range(0, pods, _AT_ONCE):
            puts = [_put(_pod(number)) for number in range(start, min(start + _AT_ONCE, pods))]
            client.post("/v3/kv/txn", json={"success": puts}).raise_for_status()


def _put(pod: Json) -> Json:
    metadata = pod["metadata"]
    key = f"/registry/pods/{metadata['namespace']}/{metadata['name']}"
    encoded = (base64.b64encode(text).decode() for text in (key.encode(), json.dumps(pod).encode()))
    return {"requestPut": dict(zip(("key", "value"), encoded, strict=True))}


def _requests(admin: Client, resource: str) -> dict[str, float]:
    """By verb, of the webhook's and everybody's."""
    found: dict[str, float] = {}
    pattern = re.compile(r"apiserver_request_total\{([^}]*)\} (\S+)")
    for labels, value in pattern.findall(admin.http.get("/metrics").text):
        if f'resource="{resource}"' in labels:
            verb = re.search(r'verb="(\w+)"', labels)
            if verb:
                found[verb[1]] = found.get(verb[1], 0.0) + float(value)
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int, what: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _changed(before: dict[str, float], after: dict[str, float]) -> str:
    rows = {verb: int(after[verb] - before.get(verb, 0)) for verb in after}
    return ", ".join(f"{count} {verb}" for verb, count in sorted(rows.items()) if count) or "none"


def measure(pods: int, seconds: float) -> None:
    """Prints what was seen."""
    with _plane() as (plane, admin):
        print(f"creating {pods} pods", file=sys.stderr, flush=True)
        started = time.monotonic()
        _create(plane, admin, pods)
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        one = admin.get("/api/v1/namespaces/team-000/pods?limit=1")["items"][0]["metadata"]
        managed = len(str(one["managedFields"]))
        leases, listed = _requests(admin, "leases"), _requests(admin, "pods")
        started = time.monotonic()
        replica = Replica(plane, own_address(), "--drain-seconds=0")
        try:
            replica.wait_ready()
            ready = time.monotonic() - started
            replica.wait_log(lambda e: e["event"] == "pods listed", seconds=600)
            known = time.monotonic() - started
            while replica.metric('podpace_audit_pods_total{result="labelled"}') < DRIFTED:
                time.sleep(0.1)
            passed = time.monotonic() - started
            pid, cpu = replica.process.pid, _cpu_seconds(replica.process.pid)
            peak = _megabytes(pid, "VmHWM")
            first = _changed(listed, _requests(admin, "pods"))
            listed = _requests(admin, "pods")
            begun = time.monotonic()
            time.sleep(seconds)
            idle = _changed(listed, _requests(admin, "pods"))
            burnt = _cpu_seconds(pid) - cpu
            wrote = _requests(admin, "leases")
            lasted = time.monotonic() - started
            print(f"pods: {pods}, managedFields of one: {managed} bytes as JSON or so")
            print(f"ready after {ready:.1f} s, all pods known after {known:.1f} s,")
            print(f"the {DRIFTED} that had drifted corrected after {passed:.1f} s")
            print(f"processor time until then: {cpu:.1f} s")
            print(f"requests about pods until then: {first}")
            print(f"in the {time.monotonic() - begun:.0f} s after it: {idle}")
            print(f"processor time in them: {burnt:.2f} s")
            leased = _changed(leases, wrote)
            print(f"requests about leases in {lasted:.0f} s: {leased}; ours are a GET and a PUT,")
            print("the API server renews one of its own every ten seconds")
            print(f"memory: {_megabytes(pid, 'VmRSS'):.0f} MB, at most {peak:.0f} MB")
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                print(f"its reader of large reviews: {_megabytes(int(child), 'VmRSS'):.0f} MB")
            print(f"API server: {plane.rss_bytes('kube-apiserver') / 1e6:.0f} MB")
        finally:
            replica.terminate()
            replica.join()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="watched after the first pass")
    arguments = parser.parse_args()
    measure(arguments.pods, arguments.seconds)


if __name__ == "__main__":
    main()
