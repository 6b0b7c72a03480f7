"""The daemon of one simulated node: a real podpace-enforcer with a token of its own pod."""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
import yaml

from bench.rig.process import sh
from tests.cluster.client import Json
from tests.cluster.helpers import until
from tests.cluster.install import RELEASE_NAMESPACE, own_address
from tests.cluster.logged import LoggedProcess
from tests.cluster.nodes.identity import bound_token, enforcer_pod
from tests.cluster.nodes.kubelet import SimulatedNode
from tests.cluster.nodes.relay import Relay
from tests.cluster.plane import ControlPlane, free_port

_METRICS_PORT: Final = 9464
_READY_SECONDS: Final = 60


class Enforcer:
    """Runs in its node's namespace; reaches the API server, and is reached, through relays."""

    def __init__(self, plane: ControlPlane, node: SimulatedNode, work: Path, bpffs: Path) -> None:
        self.node = node
        self.work = work / node.name
        self.work.mkdir()
        self._plane = plane
        self._admin = plane.client()
        self.pin_root = bpffs / node.name
        self.port = free_port()
        """Its metrics, on this machine's address: what the API server's pod proxy calls."""
        self.api = Relay(("127.0.0.1", plane.port), ("127.0.0.1", plane.port), node.network.name)
        self._metrics = Relay(
            (own_address(), self.port), ("127.0.0.1", _METRICS_PORT), None, node.network.name
        )
        self._pods = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"
        self.pod = self._admin.create(self._pods, enforcer_pod(node.name, self.port))
        self.process: LoggedProcess | None = None
        self._starts = 0
        self.renew_token()

    @property
    def log(self) -> list[Json]:
        """Of the process that runs now."""
        return self.running.log

    @property
    def running(self) -> LoggedProcess:
        """The process."""
        assert self.process is not None
        return self.process

    @property
    def pid(self) -> int:
        """Its process id: what started it has become it."""
        return self.running.process.pid

    def renew_token(self) -> None:
        """As the kubelet does before the old one expires."""
        token = self.work / "token"
        fresh = self.work / "token.new"
        self.token = bound_token(self._admin, self.pod)
        fresh.write_text(self.token)
        fresh.replace(token)
        cluster = {"server": self._plane.url, "certificate-authority": str(self._plane.ca_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "enforcer", "user": {"tokenFile": str(token)}}],
            "contexts": [{"name": "node", "context": {"cluster": "test", "user": "enforcer"}}],
        }
        (self.work / "kubeconfig").write_text(yaml.safe_dump(content))

    def revoke_token(self) -> None:
        """The pod that the token is bound to goes, and a new one comes: the old token is void."""
        self._admin.delete(f"{self._pods}/{self.pod['metadata']['name']}")
        body = enforcer_pod(self.node.name, self.port)
        made = until(
            lambda: self._admin.http.post(self._pods, json=body), lambda r: r.status_code == 201
        )
        self.pod = made.json()

    def options(self) -> list[str]:
        """What it is told, and what cleaning up is told."""
        return [
            f"--cgroup-root={self.node.cgroup_root}",
            f"--pin-root={self.pin_root}",
            f"--state-dir={self.work / 'targets'}",
            f"--socket={self.work / 'enforcer.sock'}",
        ]

    def start(self, *more: str) -> None:
        """Returns when it is ready."""
        self._starts += 1
        command = self.node.network.place.command(
            *(sys.executable, "-m", "enforcer", *self.options()),
            f"--node-name={self.node.name}",
            f"--kubeconfig={self.work / 'kubeconfig'}",
            f"--metrics-address=127.0.0.1:{_METRICS_PORT}",
            "--splay-seconds=0",
            *more,
        )
        self.process = LoggedProcess(command, self.work / f"enforcer-{self._starts}.err")
        until(lambda: self.ready() or self.process.process.poll() is not None, bool, _READY_SECONDS)
        assert self.ready(), f"{self.log[-5:]} {self.process.errors()[-3000:]}"

    def said_at(self, event: str, start: int = 0) -> dict[str, float]:
        """When (time.time()) an event was last logged from line ``start`` on, by target."""
        return {
            line["target"]: datetime.fromisoformat(line["timestamp"]).timestamp()
            for line in self.log[start:]
            if line["event"] == event
        }

    def wait_said(self, event: str, target: str, start: int = 0) -> Json:
        """The log line that says so, waiting for it."""
        return self.running.wait_log(
            lambda line: line["event"] == event and line.get("target") == target, start=start
        )

    def ready(self) -> bool:
        """What the kubelet's probe would see."""
        try:
            return self._get("/readyz").is_success
        except httpx.TransportError:
            return False

    def metrics(self) -> str:
        """All series."""
        return self._get("/metrics").text

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://{own_address()}:{self.port}{path}", trust_env=False)

    def show(self, target: str) -> Json:
        """What the control socket says of a target."""
        podpace = Path(sys.executable).with_name("podpace")
        socket = self.work / "enforcer.sock"
        content: Json = json.loads(sh(podpace, "show", target, "-o", "json", "--socket", socket))
        return content

    def targets(self) -> list[str]:
        """Names of everything that it holds."""
        podpace = Path(sys.executable).with_name("podpace")
        said = sh(podpace, "list", "-o", "json", "--socket", self.work / "enforcer.sock")
        return [target["target"] for target in json.loads(said)["targets"]]

    def stop(self) -> None:
        """SIGTERM; limits stay in force."""
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            assert self.process.errors() == ""
            self.process = None

    def kill(self) -> None:
        """SIGKILL; limits stay in force."""
        self.running.process.kill()
        self.running.join()
        self.process = None

    def clean_up(self) -> str:
        """What an operator runs before taking Podpace off a node; what it printed."""
        place = self.node.network.place
        return place.run(sys.executable, "-m", "enforcer", "--cleanup", *self.options())

    def close(self) -> None:
        """The process, its pod and its relays end; the node is clean."""
        self.stop()
        self.clean_up()
        self._admin.delete(f"{self._pods}/{self.pod['metadata']['name']}")
        self._admin.http.close()
        self.api.close()
        self._metrics.close()

    def rss_bytes(self) -> int:
        """Memory that is its own or shared; fails when it has ended."""
        assert self.running.process.poll() is None, self.running.errors()[-3000:]
        statm = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
