"""A root with the newest Debian: its bcc and its Python, where this machine has older ones."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.rig import running
from tests.vm.kernels import VmError, cache_dir, mirror, run

CHECKOUT: Final = Path(__file__).parents[2]
VENV: Final = "/opt/venv"
_CHROOT: Final = Path(__file__).with_name("chroot")
_SUITE: Final = "sid"
_PACKAGES: Final = (
    *("python3-bpfcc", "python3-venv", "gcc", "libc6-dev", "linux-libc-dev", "ca-certificates"),
    *("iproute2", "iperf3", "containernetworking-plugins", "kmod", "procps"),
)
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_NOT_FOR_TESTS: Final = ("podpace", "mypy", "ruff", "import-linter", "types-")


def newest() -> Path:
    """The root, made when it is not in the cache: Debian and our Python packages (3 min).

    "Newest" is what was newest then: remove the folder to make it anew.
    """
    requirements = sorted(_requirements())
    inputs = f"{CHECKOUT}{_PACKAGES}{requirements}".encode()
    root = cache_dir() / f"root-{_SUITE}-{hashlib.sha256(inputs).hexdigest()[:16]}"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            made = Path(scratch) / "root"
            _make(made, requirements)
            made.rename(root)
    return root


def call(root: Path, command: Sequence[str]) -> int:
    """Run a command in the checkout, with this root on this kernel; its exit code."""
    environment = {"PATH": f"{VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    wanted = ["unshare", "--mount", "--propagation", "private", str(_CHROOT), str(root)]
    with running(
        ["setpriv", "--pdeathsig", "KILL", *wanted, str(CHECKOUT), *command],
        env={**os.environ, **environment, "CI": "true"},
        stdin=subprocess.DEVNULL,
    ) as process:
        return process.wait()


def _make(root: Path, requirements: list[str]) -> None:
    print(f"making a root with Debian {_SUITE}", flush=True)
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    # The mirror may be a snapshot.
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']
    run("mmdebstrap", *options, _SUITE, root, mirror(_SUITE))
    # What this machine trusts and asks, so that pip reaches what it reaches here.
    shutil.copy(f"/{_CERTIFICATES}", root / _CERTIFICATES)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    pip = [f"{VENV}/bin/pip", "install", "-q", "--disable-pip-version-check"]
    for command in (
        ["python3", "-m", "venv", "--system-site-packages", VENV],
        [*pip, *requirements],
        [*pip, "--no-deps", "-e", str(CHECKOUT)],
    ):
        if call(root, command):
            raise VmError(f"{' '.join(command)} failed in {root}")


def _requirements() -> Iterator[str]:
    """What the tests need, from pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in (
        *(*project["dependencies"], *extras["daemons"]),
        *(*extras["fast"], *extras["dev"]),
    ):
        if not requirement.startswith(_NOT_FOR_TESTS):
            yield requirement
