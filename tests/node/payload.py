"""What a run adds to the nodes' root: Kubernetes' binary, credentials, images and this checkout.

One read-only ext4 image that all nodes mount at ``/opt/payload``.
"""

import shutil
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tests.node.rootfs import GUEST, RootFilesystem, make_disk

REPOSITORY: Final = Path(__file__).parents[2]
_OURS: Final = ("contract", "enforcer", "bpf")
_COMPONENTS: Final = ("kubelet", "kube-proxy")
_SPARE_BYTES: Final = 64 * 2**20


def payload(folder: Path, binaries: Path, root: RootFilesystem, files: Mapping[str, str]) -> Path:
    """Make the image in ``folder``. ``files`` are texts by their path below ``/opt/payload``."""
    content = folder / "payload"
    shutil.copytree(GUEST, content / "guest")
    (content / "bin").mkdir()
    shutil.copy(binaries / "controlplane", content / "bin/controlplane")
    for name in _COMPONENTS:
        (content / "bin" / name).symlink_to("controlplane")
    shutil.copytree(root.images, content / "images")
    _python(content / "python")
    for name, text in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text(text)
    disk = folder / "payload.ext4"
    make_disk(content, disk, _size_bytes(content) + _SPARE_BYTES)
    shutil.rmtree(content)
    return disk


def _python(target: Path) -> None:
    """Our packages and what they depend on; bcc is Debian's, in the root."""
    ours, *others = _closure("podpace")
    for other in others:
        for file in other.files or ():
            source = Path(str(other.locate_file(file)))
            # Scripts in bin/ are outside the folder of packages.
            if ".." not in file.parts and source.exists():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / file)
    ignored = shutil.ignore_patterns("__pycache__")
    for package in _OURS:
        shutil.copytree(REPOSITORY / package, target / package, ignore=ignored)
    metadata = target / f"podpace-{ours.version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: podpace\nVersion: {ours.version}\n")


def _closure(name: str) -> list[Distribution]:
    """A distribution and, after it, all that it requires; extras left out."""
    found: dict[str, Distribution] = {}
    wanted = [name]
    while wanted:
        current = distribution(wanted.pop())
        if current.name in found:
            continue
        found[current.name] = current
        for requirement in current.requires or ():
            needed = Requirement(requirement)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                wanted.append(needed.name)
    return list(found.values())


def _size_bytes(content: Path) -> int:
    """Room for the files; ext4 has blocks of 4 KiB."""
    sizes = (path.lstat().st_size for path in content.rglob("*"))
    return sum((size // 4096 + 2) * 4096 for size in sizes)
