"""The nodes' images, already imported: Podpace's own, built by a container engine, and the traffic
image.

Importing them on an emulated machine takes minutes. So Debian's containerd, the version that the
nodes have, imports them here, and its folder becomes a disk that the nodes mount.
``python -m tests.node.images`` makes it ahead of the tests.
"""

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.cluster.plane import DIES_WITH_US
from tests.debian import cache_dir
from tests.images.base import base_tar
from tests.images.build import (
    IMAGES,
    REPOSITORY,
    build_images,
    kept_engine,
    missing_packages,
)
from tests.images.engine import running
from tests.node.rootfs import RootFilesystem, make_disk, root_filesystem, run

TAG: Final = IMAGES["enforcer"].partition(":")[2]
_SOURCES: Final = (
    *("bpf", "certs", "client", "contract", "enforcer", "kube", "webhook"),
    "pyproject.toml",
)
_DISK_BYTES: Final = 4 * 2**30
_CONTAINERD_SECONDS: Final = 30
_CONFIGURATION: Final = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'


def image_store(root: RootFilesystem) -> Path:
    """An ext4 image of ``/var/lib/containerd``; nobody writes to it.

    Needs the machine's own network where it has to be made.
    """
    base = base_tar()
    digest = hashlib.sha256(f"{base.name} {root.folder.name}".encode())
    for path in (Path(__file__), *_sources()):
        digest.update(f"{path.relative_to(REPOSITORY)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    made = cache_dir() / f"node-images-{digest.hexdigest()[:16]}.ext4"
    if not made.exists():
        for older in cache_dir().glob("node-images-*.ext4"):
            older.unlink()
        with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
            ours = _build(Path(scratch) / "ours.tar")
            store = _import((root.images / "traffic.tar", ours), Path(scratch))
            disk = Path(scratch) / "disk"
            make_disk(store, disk, _DISK_BYTES)
            disk.replace(made)
    return made


def _sources() -> Iterator[Path]:
    for name in _SOURCES:
        source = REPOSITORY / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _build(tar: Path) -> Path:
    """Both images by their Dockerfiles."""
    with kept_engine() as engine, running(engine, for_builds=True):
        build_images(engine)
        engine.docker("save", "--output", str(tar), *IMAGES.values())
    return tar


def _import(tars: tuple[Path, ...], scratch: Path) -> Path:
    """What containerd keeps once it has imported the tars, for the kubelet's namespace."""
    store, socket = scratch / "store", scratch / "containerd.sock"
    (scratch / "config.toml").write_text(_CONFIGURATION)
    with _containerd(scratch, store, socket):
        for tar in tars:
            print(f"  node images: importing {tar.name}", file=sys.stderr, flush=True)
            run("ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", str(tar))
    return store


@contextlib.contextmanager
def _containerd(scratch: Path, store: Path, socket: Path) -> Iterator[None]:
    command = [
        # What it mounts while it unpacks is not the machine's business.
        *(*DIES_WITH_US, "unshare", "--mount", "containerd"),
        *("--config", str(scratch / "config.toml")),
        *("--root", str(store), "--state", str(scratch / "state"), "--address", str(socket)),
    ]
    log = scratch / "containerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + _CONTAINERD_SECONDS
        while not socket.exists():
            running_in_time = process.poll() is None and time.monotonic() < until
            assert running_in_time, log.read_text()[-3000:]
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(_CONTAINERD_SECONDS)


if __name__ == "__main__":
    if absent := missing_packages():
        sys.exit(f"missing: apt-get install {' '.join(absent)}")
    print(image_store(root_filesystem()))
