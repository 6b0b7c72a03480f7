"""A real control plane on this machine: etcd, kube-apiserver, controllers and scheduler."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster import front_proxy
from tests.cluster.build import bin_dir
from tests.cluster.client import Client

_CONTROLLERS: Final = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "resourceclaim-controller",
    # Fills the roles that people are given: edit, view.
    "clusterrole-aggregation-controller",
)
_NODE_CONTROLLERS: Final = (
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "endpointslice-controller",
    "disruption-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
)
"""What pods that really run need besides."""
_API_WITH_KUBELETS: Final = (
    "--enable-admission-plugins=NodeRestriction",
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
)
# Pods would wait for their namespace's service account; without kubelets nothing is about those.
_API_WITHOUT_KUBELETS: Final = ("--disable-admission-plugins=ServiceAccount",)
READY_SECONDS: Final = 60
DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: a test run that is killed leaves no process behind."""


class ControlPlane:
    """Started by :meth:`start`; :meth:`stop` ends every process. One folder holds all it writes."""

    def __init__(
        self, folder: Path, users: Mapping[str, Sequence[str]], address: str = "127.0.0.1"
    ) -> None:
        """``users`` are names and their groups; each gets a token and a kubeconfig.

        The API server listens on ``address``.
        """
        self.folder = folder
        self.bin = bin_dir()
        self._users = {"admin": ("system:masters",)} | dict(users)
        self._tokens = {name: secrets.token_hex(16) for name in self._users}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.port = free_port()
        self._address = address
        self.url = f"https://{address}:{self.port}"
        self.ca_file = folder / "certs" / "apiserver.crt"
        self.front_proxy = folder / "front-proxy"

    def start(self, *, controllers: bool = True, kubelets: bool = False) -> None:
        """Returns when everything answers. ``kubelets``: pods will run, as service accounts."""
        (self.folder / "certs").mkdir(parents=True)
        front_proxy.write(self.front_proxy)
        self._write_credentials()
        client, peer = free_port(), free_port()
        etcd = f"http://127.0.0.1:{client}"
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={self.port}",
            f"--bind-address={self._address}",
            f"--cert-dir={self.folder / 'certs'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC,Node",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            *(_API_WITH_KUBELETS if kubelets else _API_WITHOUT_KUBELETS),
            # Aggregated APIs are called with this certificate.
            f"--requestheader-client-ca-file={self.front_proxy / 'ca.crt'}",
            f"--requestheader-allowed-names={front_proxy.NAME}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self.front_proxy / 'tls.crt'}",
            f"--proxy-client-key-file={self.front_proxy / 'tls.key'}",
            # Services are called by their endpoints, since there is no kube-proxy.
            "--enable-aggregator-routing=true",
        )
        self._wait_ready()
        if controllers:
            kubeconfig = self.kubeconfig("admin")
            names = _CONTROLLERS + (_NODE_CONTROLLERS if kubelets else ())
            self._run(
                "kube-controller-manager",
                f"--kubeconfig={kubeconfig}",
                f"--controllers={','.join(names)}",
                f"--service-account-private-key-file={self.folder / 'sa.key'}",
                f"--root-ca-file={self.ca_file}",
                # Emulated machines report late when this one is busy.
                "--node-monitor-grace-period=10m",
                "--leader-elect=false",
                "--secure-port=0",
                "--concurrent-namespace-syncs=10",
            )
            self._run(
                "kube-scheduler",
                f"--kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
            )

    def stop(self) -> None:
        """Ends what was started; its state goes with the folder, so nothing is asked politely."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def token(self, user: str) -> str:
        """A user's bearer token."""
        return self._tokens[user]

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig file for a user."""
        path = self.folder / f"{user.replace(':', '_')}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        # Whole at any moment: a kubectl that another thread started may be reading it.
        unfinished = path.with_suffix(f".{threading.get_ident()}")
        unfinished.write_text(yaml.safe_dump(content))
        unfinished.replace(path)
        return path

    def client(self, user: str = "admin") -> Client:
        """An API client that acts as a user."""
        return Client(self.url, self.ca_file, self._tokens[user])

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        user: str = "admin",
        seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Runs the real kubectl; its failure is the caller's to judge."""
        return subprocess.run(
            [str(self.bin / "kubectl"), f"--kubeconfig={self.kubeconfig(user)}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
            check=False,
        )

    def kubectl_podpace(
        self, *arguments: str, user: str = "admin"
    ) -> subprocess.CompletedProcess[str]:
        """The plugin as kubectl runs it; its failure is the caller's to judge."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("kubectl-podpace")), *arguments],
            env={"HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig(user))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def cpu_seconds(self, component: str) -> float:
        """What a component has used so far."""
        fields = self._proc(component, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self, component: str) -> int:
        """A component's memory."""
        return int(self._proc(component, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _proc(self, component: str, file: str) -> str:
        return Path(f"/proc/{self._started(component).pid}/{file}").read_text()

    def _started(self, component: str) -> subprocess.Popen[bytes]:
        command = str(self.bin / component)
        return next(p for p in self._processes if command in cast(list[str], p.args))

    def arguments(self, component: str) -> list[str]:
        """What a component was started with."""
        return cast(list[str], self._started(component).args)

    def log(self, component: str) -> str:
        """What a component has written."""
        return (self.folder / f"{component}.log").read_text(errors="replace")

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        lines = [
            f'{self._tokens[name]},{name},{name},"{",".join(groups)}"'
            for name, groups in self._users.items()
        ]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")

    def kill(self, component: str) -> None:
        """A component's machine loses its power."""
        victim = self._started(component)
        victim.kill()
        victim.wait()

    def start_again(self, component: str) -> None:
        """A killed one, as it was started before; returns when the API server answers."""
        dead = self._started(component)
        self._processes.remove(dead)
        self._run(component, *cast(list[str], dead.args)[len(DIES_WITH_US) + 1 :])
        self._wait_ready()

    def _run(self, component: str, *arguments: str) -> None:
        with (self.folder / f"{component}.log").open("ab") as log:
            process = subprocess.Popen(
                [*DIES_WITH_US, str(self.bin / component), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)

    def _wait_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            for process in self._processes:
                if process.poll() is not None:
                    message = f"{process.args!r} ended:\n{self.log('kube-apiserver')[-2000:]}"
                    raise AssertionError(message)
            # Until it has written its certificate there is nothing to trust.
            with contextlib.suppress(httpx.TransportError, OSError), self.client() as client:
                if client.http.get("/readyz").status_code == 200:
                    return
            time.sleep(0.1)
        message = f"not ready after {READY_SECONDS} s:\n{self.log('kube-apiserver')[-2000:]}"
        raise AssertionError(message)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
