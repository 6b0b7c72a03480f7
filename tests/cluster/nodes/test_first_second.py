"""A pod that sends from its first moment on is limited from its first moment on."""

from tests.cluster.helpers import EGRESS
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import on
from tests.cluster.nodes.receiver import Receiver

PODS = 8
RATE_BYTES_PER_SEC = 10_000_000 / 8
ALLOWANCE_BYTES = 150_000


def test_the_first_second_holds_the_limit_too(
    installation: Installation, enforcers: list[Enforcer], namespace: str
) -> None:
    """Not more than 1.1 seconds' worth and 150 kB, on each node."""
    admin, path = installation.admin, f"/api/v1/namespaces/{namespace}/pods"
    peer_node = enforcers[0].node
    admin.create(path, on(peer_node, pod(name="peer")))
    peer = peer_node.sandbox(namespace, "peer")
    sent = []
    for n in range(PODS):
        with Receiver(peer) as receiver:
            flood = f"cat /dev/zero >/dev/tcp/{receiver.address}/{receiver.port}"
            body = pod({EGRESS: "10M"}, name=f"eager-{n}")
            body["spec"]["containers"][0]["command"] = ["bash", "-c", flood]
            admin.create(path, on(enforcers[n % len(enforcers)].node, body))
            sent.append(receiver.frame_bytes(1.0))

    print(f"first second: {min(sent) / 1e3:.0f} to {max(sent) / 1e3:.0f} kB at 1250 kB/s")
    assert min(sent) > 0.5 * RATE_BYTES_PER_SEC
    assert max(sent) <= 1.1 * RATE_BYTES_PER_SEC + ALLOWANCE_BYTES
