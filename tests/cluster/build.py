"""Kubernetes' and Helm's binaries: built once from ``controlplane/``, kept outside the checkout.

The cache's key is a hash of the sources, so an edit builds anew. ``python -m tests.cluster.build``
builds ahead of the tests and shows progress: the first build compiles all of Kubernetes. Helm comes
first and is kept by itself, since the chart's tests need nothing else.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "controlplane"
KUBERNETES_VERSION: Final = "v1.37.2"
COMPONENTS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
"""All of them are one binary, ``controlplane``."""
HELMS: Final = {"helm": "helm.sh/helm/v4/cmd/helm", "helm3": "helm.sh/helm/v3/cmd/helm"}
_VERSION_PACKAGE: Final = "k8s.io/component-base/version"
_HELM3_PACKAGES: Final = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
"""Without a stamp it takes every cluster that it is not connected to for a 1.20."""
_NO_GO: Final = "needs Go 1.26 or later to build Kubernetes and Helm: `make setup` installs it"


class BuildError(Exception):
    """The binary cannot be made here; the message says what to install."""


def cache_dir() -> Path:
    """Where binaries are kept: ``$XDG_CACHE_HOME/podpace``, or the same under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podpace"


def helm_dir() -> Path:
    """A folder with ``HELMS``, after building what is not cached.

    Whoever else builds at the same time is waited for: two builds compile everything twice.

    Raises:
        BuildError: there is no Go toolchain, or the build failed.
    """
    return _built("helm", _build_helms)


def bin_dir() -> Path:
    """A folder with one link per component, and ``HELMS``; as :func:`helm_dir` otherwise."""
    helm_dir()
    return _built("controlplane", _build_controlplane)


def is_built() -> bool:
    """Whether nothing has to be compiled."""
    return all(_folder(product).exists() for product in ("helm", "controlplane"))


def unbuildable() -> str:
    """Why the binaries cannot be had here, with what to install; empty when they can."""
    return "" if is_built() or _go() else _NO_GO


def _folder(product: str) -> Path:
    return cache_dir() / f"{product}-{_sources_hash()}"


def _built(product: str, build: Callable[[Path], None]) -> Path:
    folder = _folder(product)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock_file = folder.parent / f"build-{product}.lock"
        with open(lock_file, "w") as lock:  # noqa: PTH123 - flock needs a file
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for {product}, which is being built", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                    # One rename publishes all of it: an interrupted build leaves nothing half done.
                    made = Path(scratch) / product
                    made.mkdir()
                    build(made)
                    made.rename(folder)
    return folder


def _sources_hash() -> str:
    digest = hashlib.sha256(KUBERNETES_VERSION.encode())
    for name in ("main.go", "go.mod", "go.sum"):
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()[:16]


def _go() -> str | None:
    """``make setup`` puts one beside this Python where the machine has none."""
    return shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))


def _build_helms(folder: Path) -> None:
    for name, package in HELMS.items():
        _compile(package, folder / name)


def _build_controlplane(folder: Path) -> None:
    _compile(".", folder / "controlplane")
    for name in COMPONENTS:
        (folder / name).symlink_to("controlplane")
    for name in HELMS:
        (folder / name).symlink_to(helm_dir() / name)


def _compile(package: str, target: Path) -> None:
    go = _go()
    if go is None:
        raise BuildError(_NO_GO)
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    values = [f"{_VERSION_PACKAGE}.{k}={v}" for k, v in stamps.items()]
    for helm3 in _HELM3_PACKAGES:
        values += [f"{helm3}.k8sVersionMajor={major}", f"{helm3}.k8sVersionMinor={minor}"]
    flags = "-s -w " + " ".join(f"-X {value}" for value in values)
    command = [go, "build", "-v", "-trimpath", "-ldflags", flags, "-o", str(target), package]
    _run_with_progress(target.name, command)


def _run_with_progress(name: str, command: list[str]) -> None:
    """Runs ``go build -v`` and says every few seconds how many packages are done."""
    print(f"building {name}; all of them take 10 to 20 minutes when cold", file=sys.stderr)
    started = reported = time.monotonic()
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    tail: list[str] = []
    with subprocess.Popen(
        ["nice", "-n", "19", *command],
        cwd=SOURCES,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for done, line in enumerate(process.stderr, start=1):
            tail = [*tail[-20:], line]
            if time.monotonic() - reported > 5:
                reported = time.monotonic()
                elapsed = f"{reported - started:.0f} s"
                print(f"  {done} packages, {elapsed}: {line.strip()}", file=sys.stderr, flush=True)
    if process.returncode:
        message = "go build failed:\n" + "".join(tail)
        raise BuildError(message)


if __name__ == "__main__":
    print(bin_dir())
