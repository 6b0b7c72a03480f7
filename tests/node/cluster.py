"""A cluster of real nodes: the test control plane, and machines with kubelet and containerd."""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from tests.cluster.client import Client, Json
from tests.cluster.plane import ControlPlane
from tests.node.machine import Machine
from tests.node.network import HOST, PLACES, own_network
from tests.node.payload import payload
from tests.node.rootfs import RootFilesystem

T = TypeVar("T")
Say = Callable[[str], None]
READY_SECONDS: Final = 300
"""An idle computer with two cores takes 50 s without KVM."""
PROXY_USER: Final = "system:kube-proxy"
_USERS: Final = {
    PROXY_USER: (),
    **{f"system:node:{place.name}": ("system:nodes",) for place in PLACES},
}


class Cluster:
    """Nodes that are Ready."""

    def __init__(self, plane: ControlPlane, machines: dict[str, Machine], say: Say) -> None:
        self.plane = plane
        self.machines = machines
        self.admin: Client = plane.client()
        self.say = say

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Runs the real kubectl, which must work; what it printed."""
        done = self.plane.kubectl(*arguments, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *manifests: Json) -> None:
        """Server-side apply, with kubectl."""
        text = yaml.safe_dump_all(manifests)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def until(
        self,
        what: str,
        read: Callable[[], T],
        good: Callable[[T], Any],
        seconds: float = READY_SECONDS,
    ) -> T:
        """Polls until ``good``, saying every ten seconds what is being waited for."""
        started = said = time.monotonic()
        while True:
            found = read()
            if good(found):
                self.say(f"{what} ({time.monotonic() - started:.0f} s)")
                return found
            for machine in self.machines.values():
                machine.check_alive()
            now = time.monotonic()
            assert now - started < seconds, (
                f"{what}: not in {seconds} s; still {found}\n"
                + "".join(
                    f"--- {name}\n{machine.console()}\n{machine.logs()}\n"
                    for name, machine in self.machines.items()
                )
            )
            if now - said > 10:
                said = now
                self.say(f"waiting: {what} ({now - started:.0f} s)")
            time.sleep(0.25)


@contextlib.contextmanager
def running(folder: Path, root: RootFilesystem, images: Path, say: Say) -> Iterator[Cluster]:
    """Everything started, nodes Ready; nothing is left when the block ends.

    The calling thread is inside the cluster's network meanwhile.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_network())
        plane = ControlPlane(folder, _USERS, HOST)
        stack.callback(plane.stop)
        plane.start(kubelets=True)
        say("control plane is ready")
        disk = payload(folder, plane.bin, _credentials(plane))
        machines: dict[str, Machine] = {}
        for place in PLACES:
            machine = machines[place.name] = Machine(place, folder / place.name)
            stack.callback(machine.stop)
            machine.start(root, disk, images)
        say("virtual machines are started")
        cluster = Cluster(plane, machines, say)
        stack.callback(cluster.admin.http.close)
        cluster.until("nodes are Ready", lambda: _ready_nodes(cluster.admin), _all_ready)
        yield cluster


def _all_ready(names: set[str]) -> bool:
    return names == {place.name for place in PLACES}


def _ready_nodes(admin: Client) -> set[str]:
    """Ready, and open to pods."""
    return {
        node["metadata"]["name"]
        for node in admin.get("/api/v1/nodes")["items"]
        if not node["spec"].get("taints")
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node["status"].get("conditions", ())
        )
    }


def _credentials(plane: ControlPlane) -> dict[str, str]:
    files: dict[str, str] = {}
    for place in PLACES:
        users = {"kubelet": f"system:node:{place.name}", "proxy": PROXY_USER}
        for name, user in users.items():
            files[f"nodes/{place.name}/{name}"] = _kubeconfig(plane, plane.token(user))
    return files


def _kubeconfig(plane: ControlPlane, token: str) -> str:
    authority = base64.b64encode(plane.ca_file.read_bytes()).decode()
    cluster = {"server": plane.url, "certificate-authority-data": authority}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
    )
