"""Once the API server answers: the chart's webhook parts, and a token for the enforcer.

There are no controllers here, so no Deployment: the containers of docker-compose.dev.yml stand in
for the chart's pods, and the Service gets its endpoint by hand.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import yaml

from tests.dev.prepare import kubeconfig

CHART: Final = Path(__file__).parents[2] / "charts" / "podpace"
NAMESPACE: Final = "podpace-system"
NODE: Final = "dev"
WANTED_KINDS: Final = {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "Service",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
READY_SECONDS: Final = 60
TOKEN_HOURS: Final = 720


def main(state: Path, webhook_address: str) -> None:
    """Apply everything; running it again changes nothing."""
    until = time.monotonic() + READY_SECONDS
    while _kubectl(state, "get", "--raw=/readyz").returncode:
        if time.monotonic() > until:
            sys.exit(f"the API server is not ready after {READY_SECONDS} s; see its log")
        time.sleep(0.5)
    _apply(state, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    _apply(state, [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}])
    rendered = _run("helm", "template", "podpace", str(CHART), f"--namespace={NAMESPACE}")
    _apply(state, [o for o in yaml.safe_load_all(rendered) if o and o["kind"] in WANTED_KINDS])
    _apply(state, [_endpoint(webhook_address)])
    for name in ("default", "podpace-system"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        _apply(state, [account | {"metadata": {"name": "default", "namespace": name}}])
    token = _kubectl(
        state,
        *("create", "token", "podpace-enforcer", f"--namespace={NAMESPACE}"),
        *("--bound-object-kind=Node", f"--bound-object-name={NODE}", f"--duration={TOKEN_HOURS}h"),
    )
    if token.returncode:
        sys.exit(token.stderr)
    # The enforcer shares the machine's network, where the API server is at localhost.
    content = kubeconfig(
        "https://localhost:6443", token.stdout.strip(), state / "certs/apiserver.crt"
    )
    (state / "enforcer.kubeconfig").write_text(content)
    print("installed; try: kubectl --kubeconfig=/state/admin.kubeconfig get pods")


def _endpoint(address: str) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "podpace-webhook-dev",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "podpace-webhook"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


def _apply(state: Path, objects: list[dict[str, object]]) -> None:
    done = _kubectl(state, "apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    if done.returncode:
        sys.exit(done.stderr)


def _kubectl(
    state: Path, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", f"--kubeconfig={state / 'admin.kubeconfig'}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": "/tmp"},
        timeout=60,
        check=False,
    )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
