"""More pods on a rig's node: each with a namespace, a veth and a cgroup of its own.

with rig() as r, crowd(r, 30) as pods, bulk(pods[7], TcpLoad(Direction.EGRESS)) as load: ...
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.rig.counters import Frames
from bench.rig.process import Place
from bench.rig.topology import PEER_ADDRESS, Rig, namespace, own_cgroup, run_batch

_FIRST_HOST = 10


@dataclass(frozen=True, slots=True)
class CrowdPod(Rig):
    """The rig, seen from one more pod; IPv4 only."""

    own_address: str = ""
    port: str = ""
    """The host's end of its veth."""

    peer_address: str = ""
    """Of a peer that is another pod."""

    def address(self, place: Place, family: int) -> str:
        """The address of an end."""
        other = self.peer_address or PEER_ADDRESS[family]
        return self.own_address if place is self.pod else other

    def towards(self, other: "CrowdPod") -> "CrowdPod":
        """The same pod, whose loads go to another one."""
        return replace(self, peer=other.pod, peer_address=other.own_address)


@contextmanager
def crowd(rig: Rig, pods: int) -> Iterator[list[CrowdPod]]:
    """So many pods, 200 at most."""
    top = rig.cgroup.parent
    with ExitStack() as stack:
        found = []
        for number in range(pods):
            host = _FIRST_HOST + number
            place = stack.enter_context(namespace(f"{rig.name}-c{number}"))
            cgroup = stack.enter_context(own_cgroup(top / f"c{number}"))
            found.append(_join(rig, place, cgroup, host))
        yield found


def _join(rig: Rig, name: str, cgroup: Path, host: int) -> CrowdPod:
    port, address, mac = f"vc{host}", f"10.9.0.{host}", f"02:00:0a:09:01:{host:02x}"
    run_batch(
        rig.node.namespace,
        [
            f"link add name {port} type veth peer name eth0 netns {name}",
            f"link set {port} master hub up",
        ],
    )
    run_batch(
        name,
        [
            "link set lo up",
            f"link set eth0 address {mac} up",
            f"addr add {address}/24 dev eth0",
        ],
    )
    Place(name).run("sh", "-ec", "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save")
    return CrowdPod(
        rig.name, Place(name, cgroup), rig.peer, rig.node, rig.bpffs, rig.work, address, port
    )


def received(pods: Sequence[CrowdPod]) -> Frames:
    """Frames that have left the host's ends towards the pods, by their root queues."""
    said = json.loads(pods[0].node.run("tc", "-s", "-j", "qdisc", "show"))
    at, ports = time.monotonic(), {pod.port for pod in pods}
    roots = [queue for queue in said if queue.get("root") and queue["dev"] in ports]
    return Frames(at, sum(q["bytes"] for q in roots), sum(q["packets"] for q in roots))
