"""A daemon that looks after a rig's veth, and what is on it."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.rig import Rig, running
from bench.rig.process import Place, sh
from bench.rig.topology import POD_PORT
from tests.kernel.nodes import Node

_PACKETS = """
import socket, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
    s.bind(("eth0", 0x88b5))
    peer, own = bytes.fromhex(sys.argv[1].replace(":", "")), b"\\x02" + bytes(5)
    frame = peer + own + b"\\x88\\xb5" + bytes(1400)
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        try:
            s.send(frame)
        except OSError:
            time.sleep(0.001)
"""
_TIMEOUT_SECONDS = 60
_MUCH_BYTES = 100_000


def flood(rig: Rig, place: Place, seconds: float) -> list[str]:
    """A command that sends frames to the rig's peer by a packet socket, as many as it can."""
    peer = json.loads(rig.peer.run("ip", "-j", "link", "show", "eth0"))[0]["address"]
    return place.command(sys.executable, "-I", "-S", "-c", _PACKETS, peer, str(seconds))


@dataclass
class VethNode(Node):
    """Its daemon runs in the namespace of the host's ends of the veths, as on a node."""

    def __post_init__(self) -> None:
        self.prefix = tuple(self.rig.node.command())

    @contextmanager
    def inhabited(self) -> Iterator[subprocess.Popen[str]]:
        """A process in the pod, as a pod always has one; nothing of the rig's on its veth."""
        self.tc("qdisc", "del", "dev", POD_PORT, "root")
        with running(self.rig.pod.command("sleep", "infinity")) as process:
            yield process

    def tc(self, *arguments: str) -> str:
        """Run tc where the host's ends are."""
        return self.rig.node.run("tc", *arguments)

    def ingress(self, cgroup: Path | None = None) -> dict[str, Any]:
        """What ``podpace show`` says of incoming traffic."""
        said = json.loads(self.client("show", cgroup or self.rig.cgroup, "-o", "json"))
        found: dict[str, Any] = said["ingress"]
        return found

    def wait_until(self, enforcement: str, cgroup: Path | None = None) -> dict[str, Any]:
        """Poll ``podpace show`` until incoming traffic is held so."""
        end = time.monotonic() + _TIMEOUT_SECONDS
        while (found := self.ingress(cgroup))["enforcement"] != enforcement:
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def features(self) -> dict[str, str]:
        """What the daemon found of the kernel."""
        said = sh(
            "curl", "-s", "--unix-socket", self.rig.work / "enforcer.sock", "http://p/healthz"
        )
        found: dict[str, str] = json.loads(said)["features"]
        return found

    def queues(self, port: str = POD_PORT) -> list[dict[str, Any]]:
        """The queues on an interface; what they have counted is left out."""
        found: list[dict[str, Any]] = json.loads(self.tc("-j", "qdisc", "show", "dev", port))
        for queue in found:
            queue["options"].pop("direct_packets_stat", None)
        return found

    def filters(self, port: str = POD_PORT) -> list[str]:
        """Names of the BPF filters at its egress."""
        said = json.loads(self.tc("-j", "filter", "show", "dev", port, "egress"))
        return [f["options"]["bpf_name"] for f in said if "bpf_name" in f.get("options", {})]


def sent_windows(rig: Rig, port: int, end: str) -> list[int]:
    """The receive windows that the peer was told on connections with that port at ``end``.

    Of those that it has sent much on: an idle one keeps what it was told first.
    """
    said = rig.peer.run("ss", "-tinH", end, "=", f":{port}")
    found = re.findall(r"bytes_sent:(\d+).* snd_wnd:(\d+)", said)
    return [int(window) for sent, window in found if int(sent) > _MUCH_BYTES]
