"""Podpace on a rig: a daemon of its own, and limits through the two commands."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.limiters import Change
from bench.rig import Rig, RigError, running, shielded, uncounted
from bench.rig.process import PATIENCE, sh
from bench.rig.topology import POD_PORT
from contract.names import Direction
from enforcer.reconcile.ways import UNQUEUED_BITS_PER_SEC

CHECKOUT = Path(__file__).resolve().parents[1]
_DAEMON_START_TIMEOUT_SECONDS = 400 * PATIENCE
"""Compiling takes a second; on an emulated processor that has to share, minutes."""
_SHAPED_TIMEOUT_SECONDS = 20 * PATIENCE


class Podpace:
    """Podpace, through its two commands. Make one with :func:`podpace`."""

    name = "podpace"

    def __init__(self, socket: Path, pin_root: Path, source: Path, name: str) -> None:
        self._socket = socket
        self.pin_root = pin_root
        self._source = source
        self.name = name

    def client(self, *argv: str | Path) -> str:
        """Runs ``podpace`` against this daemon; raises RigError."""
        return sh(*_command(self._source, "client"), *argv, "--socket", self._socket)

    def show(self, rig: Rig) -> dict[str, Any]:
        """What the daemon says of the pod's cgroup."""
        status: dict[str, Any] = json.loads(self.client("show", rig.cgroup, "-o", "json"))
        return status

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, bits_per_sec: int) -> Iterator[Change]:
        """On the pod's cgroup."""

        def attach(bits: int) -> None:
            self.client("attach", rig.cgroup, f"--{direction}", str(bits))

        # A pod has a process from its beginning; the shaper goes where the rig counts frames.
        with ExitStack() as stack:
            stack.enter_context(running(rig.pod.command("sleep", "infinity")))
            if direction is Direction.INGRESS:
                stack.enter_context(uncounted(rig.node, POD_PORT))
            try:
                self._attach_whole(rig, direction, attach, bits_per_sec)
                yield attach
            finally:
                with shielded():
                    self.client("detach", rig.cgroup)

    def _attach_whole(
        self, rig: Rig, direction: Direction, attach: Change, bits_per_sec: int
    ) -> None:
        """Attaches, and waits until incoming traffic is held where it comes in."""
        end = time.monotonic() + _SHAPED_TIMEOUT_SECONDS
        attach(bits_per_sec)
        while direction is Direction.INGRESS and bits_per_sec < UNQUEUED_BITS_PER_SEC:
            side = self.show(rig)["ingress"]
            if side["enforcement"] != "policed":
                return
            if time.monotonic() > end:
                raise RigError(f"incoming traffic is policed: {side['why']}")
            time.sleep(0.05)


def _command(source: Path, package: str) -> list[str]:
    """Runs a package of that checkout, whatever else is installed or stands here."""
    return ["env", f"PYTHONPATH={source}", sys.executable, "-P", "-m", package]


def _daemon(rig: Rig, source: Path, name: str) -> list[str]:
    """Where the host's ends of the veths are, as on a node."""
    return rig.node.command(
        *_command(source, "enforcer"),
        *("--socket", rig.work / f"{name}.sock", "--pin-root", _pin_root(rig, name)),
        *("--state-dir", rig.work / f"{name}-state"),
    )


def _pin_root(rig: Rig, name: str) -> Path:
    return rig.bpffs / name.replace(".", "_")


@contextmanager
def daemon(
    rig: Rig, source: Path = CHECKOUT, name: str = Podpace.name, more: Sequence[str] = ()
) -> Iterator[tuple[Podpace, subprocess.Popen[str]]]:
    """A daemon that answers; killed at the end, while its limits stay in force.

    ``source`` is the checkout that it runs from. Several stand beside each other by their names; of
    one name the next goes on where the last one ended.
    """
    path, log_path = rig.work / f"{name}.sock", rig.work / f"{name}.log"
    with (
        log_path.open("w") as log,
        running([*_daemon(rig, source, name), *more], stdout=log, stderr=log) as process,
    ):
        _wait_for_daemon(process, path, log_path)
        yield Podpace(path, _pin_root(rig, name), source, name), process


def clean_up(rig: Rig, source: Path = CHECKOUT, name: str = Podpace.name) -> None:
    """Take everything of that name away; only of this rig: other limits are not ours to lift."""
    argv = _daemon(rig, source, name)
    sh(*argv, "--cgroup-root", rig.cgroup.parent, "--cleanup")


@contextmanager
def podpace(
    rig: Rig, source: Path = CHECKOUT, name: str = Podpace.name, more: Sequence[str] = ()
) -> Iterator[Podpace]:
    """A daemon with a socket, pins and state of its own; all of it is gone afterwards.

    ``more`` are options of its.
    """
    try:
        with daemon(rig, source, name, more) as (limiter, process):
            yield limiter
            process.terminate()
            process.wait(timeout=10 * PATIENCE)
    finally:
        with shielded():
            clean_up(rig, source, name)


def answers(path: Path) -> bool:
    """Whether a daemon answers at this socket."""
    # First by hand: where nobody listens, httpx forgets to close its socket.
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)):
            return False
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=60) as http:
        try:
            return http.get("http://enforcer/targets").status_code == 200
        except httpx.TransportError:
            return False


def _wait_for_daemon(daemon: subprocess.Popen[str], path: Path, log: Path) -> None:
    end = time.monotonic() + _DAEMON_START_TIMEOUT_SECONDS
    while daemon.poll() is None and time.monotonic() < end:
        if answers(path):
            return
        time.sleep(0.05)
    raise RigError(f"podpace-enforcer does not answer; its log: {log.read_text()[-2000:]}")
