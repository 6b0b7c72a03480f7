"""What the audit costs in a large cluster: ``python -m bench.audit`` prints the figures of
``docs/operator/sizing.md``.

A real API server holds the pods, with managedFields as clusters have them; nothing runs them. Some
of them do not follow. One webhook starts, becomes leader, and is watched.
"""

import argparse
import http.client
import json
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from contract import names
from tests.cluster.client import Client, Json
from tests.cluster.install import RELEASE_NAMESPACE, USERS, Replica, own_address, render
from tests.cluster.plane import ControlPlane

NAMESPACES: Final = 100
DRIFTED: Final = 100
"""Pods without their labels."""
_VARIABLES: Final = 45
"""Of each pod's container: they make its managedFields as long as those of a pod that runs, 3.7 kB
(a kubelet writes as much about its status)."""
_CREATORS: Final = 8
_LABELS: Final = {
    names.LABEL_LIMITED: "true",
    names.LABEL_EGRESS_BITS_PER_SECOND: "10000000",
    names.LABEL_EGRESS_BURST_BITS: "1048576",
    names.LABEL_SOURCE: "pod",
    names.LABEL_MODE: "enforce",
}


def _pod(number: int) -> Json:
    drifted = number < DRIFTED
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number // 20:05d}-7d9c8b6f5-{number:06d}",
            "labels": {"app": f"web-{number // 20}"} | ({} if drifted else _LABELS),
            "annotations": {names.ANNOTATION_EGRESS_BANDWIDTH: "10M"},
        },
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "main",
                    "env": [{"name": f"VARIABLE_{n}", "value": "x"} for n in range(_VARIABLES)],
                }
            ]
        },
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
    for number in range(NAMESPACES):
        admin.create("/api/v1/namespaces", {"metadata": {"name": f"team-{number:03d}"}})

    context = ssl.create_default_context(cafile=str(plane.ca_file))
    headers = {
        "Authorization": f"Bearer {plane.token('admin')}",
        "Content-Type": "application/json",
    }

    def create(worker: int) -> None:
        # As little as possible beside the API server's own work: there are many.
        connection = http.client.HTTPSConnection("127.0.0.1", plane.port, context=context)
        for number in range(worker, pods, _CREATORS):
            path = f"/api/v1/namespaces/team-{number % NAMESPACES:03d}/pods"
            connection.request("POST", path, json.dumps(_pod(number)), headers)
            with connection.getresponse() as response:
                said = response.read()
                if response.status != 201:
                    raise RuntimeError(said[:300])
        connection.close()

    with ThreadPoolExecutor(_CREATORS) as pool:
        list(pool.map(create, range(_CREATORS)))


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
            print(f"lease writes in {lasted:.0f} s: {_changed(leases, wrote)}")
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
