"""Roots that are not this machine's: the newest Debian, and this Debian for another processor."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.rig import running
from tests.vm.kernels import ARM64, VmError, cache_dir, mirror, run

CHECKOUT: Final = Path(__file__).parents[2]
VENV: Final = "/opt/venv"
_CHROOT: Final = Path(__file__).with_name("chroot")
_SUITE: Final = "sid"
_PACKAGES: Final = (
    *("python3-bpfcc", "python3-venv", "gcc", "libc6-dev", "linux-libc-dev", "ca-certificates"),
    *("iproute2", "iperf3", "containernetworking-plugins", "kmod", "procps"),
)
_SUITE_HERE: Final = "bookworm"
_PYTHON_HERE: Final = "3.11"
_BASE: Final = (
    *(
        "base-files",
        "dash",
        "bash",
        "coreutils",
        "util-linux",
        "mount",
        "libc-bin",
        "busybox-static",
    ),
    *("grep", "sed", "findutils", "hostname", "login", "curl", "ethtool", "iputils-ping"),
)
"""What a root is that nobody has configured: these are there anyway where Debian is installed."""
_CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
_NOT_FOR_TESTS: Final = ("podpace", "mypy", "ruff", "import-linter", "types-")


def newest() -> Path:
    """The root, made when it is not in the cache: Debian and our Python packages (3 min).

    "Newest" is what was newest then: remove the folder to make it anew.
    """
    return _cached(_SUITE, _make)


def arm64() -> Path:
    """This Debian for arm64, unpacked and not configured, as nothing of it runs here (3 min)."""
    return _cached(f"{_SUITE_HERE}-{ARM64}", _make_arm64)


def _cached(name: str, make: Callable[[Path, list[str]], None]) -> Path:
    requirements = sorted(_requirements())
    inputs = f"{CHECKOUT}{_PACKAGES}{_BASE}{requirements}".encode()
    root = cache_dir() / f"root-{name}-{hashlib.sha256(inputs).hexdigest()[:16]}"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            made = Path(scratch) / "root"
            make(made, requirements)
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


def _make_arm64(root: Path, requirements: list[str]) -> None:
    print(f"unpacking Debian {_SUITE_HERE} for {ARM64}", flush=True)
    include = ",".join((*_PACKAGES, *_BASE))
    options = ["--mode=root", "--variant=extract", f"--architectures={ARM64}"]
    options += [f"--include={include}", '--aptopt=Acquire::Check-Valid-Until "false"']
    run("mmdebstrap", *options, _SUITE_HERE, root, mirror(_SUITE_HERE))
    for name in ("passwd", "group", "hosts", "nsswitch.conf"):
        shutil.copy(f"/etc/{name}", root / "etc")
    venv = Path(f"{root}{VENV}")
    packages = venv / f"lib/python{_PYTHON_HERE}/site-packages"
    packages.mkdir(parents=True)
    wheels = ["--only-binary=:all:", "--implementation=cp", f"--python-version={_PYTHON_HERE}"]
    wheels += [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in (17, 28, 34)]
    wheels += ["--platform=manylinux2014_aarch64", f"--target={packages}"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, *wheels, *requirements)
    _write_venv(venv, packages)


def _write_venv(venv: Path, packages: Path) -> None:
    """What ``python3 -m venv`` and pip would write if they could be run."""
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
    (packages / "podpace.pth").write_text(f"{CHECKOUT}\n")
    shutil.rmtree(packages / "bin", ignore_errors=True)
    commands = venv / "bin"
    commands.mkdir()
    for name in ("python", "python3"):
        (commands / name).symlink_to("/usr/bin/python3")
    for name, place in {**_project()["scripts"], "pytest": "pytest:console_main"}.items():
        module, _, function = place.partition(":")
        start = f"#!{VENV}/bin/python3\nimport sys\nfrom {module} import {function}\n"
        (commands / name).write_text(f"{start}sys.exit({function}())\n")
        (commands / name).chmod(0o755)


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return found


def _requirements() -> Iterator[str]:
    """What the tests need, from pyproject.toml."""
    project = _project()
    extras = project["optional-dependencies"]
    for requirement in (
        *(*project["dependencies"], *extras["daemons"]),
        *(*extras["fast"], *extras["dev"]),
    ):
        if not requirement.startswith(_NOT_FOR_TESTS):
            yield requirement
