"""Container images without a registry or a builder: one layer, one command."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_OCI: Final = "application/vnd.oci.image"


def image_tar(path: Path, name: str, content: Path, command: Sequence[str]) -> None:
    """Write an OCI image of a folder, for ``ctr images import``, which takes the name from it."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"{_OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def as_json(value: object) -> bytes:
        return json.dumps(value).encode()

    layer = blob(_layer(content), "layer.v1.tar")
    platform = {"architecture": "amd64", "os": "linux"}
    settings = {"Cmd": list(command), "Env": ["PATH=/bin"], "WorkingDir": "/"}
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = blob(as_json(platform | {"config": settings, "rootfs": rootfs}), "config.v1+json")
    version = {"schemaVersion": 2}
    manifest = version | {
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": config,
        "layers": [layer],
    }
    entry = blob(as_json(manifest), "manifest.v1+json")
    entry |= {"platform": platform, "annotations": {"io.containerd.image.name": name}}
    index = version | {"mediaType": f"{_OCI}.index.v1+json", "manifests": [entry]}
    with tarfile.open(path, "w") as tar:
        files = {
            "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
            "index.json": as_json(index),
        }
        for file, data in (files | blobs).items():
            member = tarfile.TarInfo(file)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _layer(content: Path) -> bytes:
    def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in sorted(content.iterdir()):
            tar.add(entry, entry.name, filter=as_root)
    return buffer.getvalue()
