"""Debian's container engine, started by hand in namespaces of its own.

Its mount namespace has cgroup v2 alone at /sys/fs/cgroup, as on a node, and a BPF file system; its
cgroup namespace makes one cgroup of the test's own the root. Builds need the package registries,
so they share the machine's network and the engine makes no bridge there; everything else runs in
a network namespace that goes with the engine.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.rig.topology import cgroup2_mount, own_cgroup

STARTED_SECONDS: Final = 60
_INSIDE: Final = """
set -e
mount --make-rprivate /
for mount in $(awk '$5 ~ "^/sys/fs/cgroup/" {print $5}' /proc/self/mountinfo | sort -r); do
    umount "$mount"
done
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
[ "$1" = build ] || ip link set lo up
shift
exec "$@"
"""


class Engine:
    """A running dockerd; :meth:`docker` is its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.cgroup = cgroup2_mount() / f"podpace-images-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, for_builds: bool) -> None:
        """Returns when it answers. Images are kept from one start to the next."""
        namespaces = ["unshare", "--mount", "--cgroup", *([] if for_builds else ["--net"])]
        command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *namespaces,
            *("bash", "-c", _INSIDE, "inside", "build" if for_builds else "run"),
            "dockerd",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'docker.pid'}",
            f"--host=unix://{self.socket}",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
            "--ip-forward=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            *(["--bridge=none"] if for_builds else []),
        ]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # It must be inside before its cgroup becomes the root of its namespace.
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text("0"),  # noqa: PLW1509
            )
        until = time.monotonic() + STARTED_SECONDS
        while self.docker("version", check=False).returncode:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends the engine and its containers."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def log(self) -> str:
        """The end of the engine's log."""
        return (self.folder / "dockerd.log").read_text(errors="replace")[-3000:]

    def environment(self) -> dict[str, str]:
        """For client commands; BuildKit's plugin is not in Debian 12."""
        return os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def docker(
        self, *arguments: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs the client; its failure fails the test with what it said."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert not done.returncode, f"docker {arguments[0]}: {done.stdout[-3000:]}{done.stderr}"
        return done

    def build(self, *arguments: str) -> None:
        """``docker build`` with its steps shown as they come."""
        with subprocess.Popen(
            ["docker", "build", "--network=host", *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith(("Step", "Successfully")):
                    print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
        assert not process.returncode, "".join(lines[-40:])

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image or a container."""
        (content,) = json.loads(self.docker("inspect", name).stdout)
        return dict(content)


@contextlib.contextmanager
def running(engine: Engine, *, for_builds: bool) -> Iterator[Engine]:
    """Started; afterwards it and all that it started are gone, its images are kept."""
    with own_cgroup(engine.cgroup):
        try:
            engine.start(for_builds=for_builds)
            yield engine
        finally:
            engine.stop()
