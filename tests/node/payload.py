"""What a run adds to the nodes' root: Kubernetes' binary, credentials, configuration.

One read-only ext4 image that all nodes mount at ``/opt/payload``.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.node.rootfs import GUEST, make_disk

_COMPONENTS: Final = ("kubelet", "kube-proxy")
_SPARE_BYTES: Final = 64 * 2**20


def payload(folder: Path, binaries: Path, files: Mapping[str, str]) -> Path:
    """Make the image in ``folder``. ``files`` are texts by their path below ``/opt/payload``."""
    content = folder / "payload"
    shutil.copytree(GUEST, content / "guest")
    (content / "bin").mkdir()
    shutil.copy(binaries / "controlplane", content / "bin/controlplane")
    for name in _COMPONENTS:
        (content / "bin" / name).symlink_to("controlplane")
    for name, text in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text(text)
    disk = folder / "payload.ext4"
    make_disk(content, disk, _size_bytes(content) + _SPARE_BYTES)
    shutil.rmtree(content)
    return disk


def _size_bytes(content: Path) -> int:
    """Room for the files; ext4 has blocks of 4 KiB."""
    sizes = (path.lstat().st_size for path in content.rglob("*"))
    return sum((size // 4096 + 2) * 4096 for size in sizes)
