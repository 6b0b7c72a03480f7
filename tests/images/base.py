"""A base image made on this machine, for where no image registry is reachable.

Debian 12 by debootstrap from the mirror that apt uses here, with this machine's apt sources and
certificate authorities, so that a build inside reaches the same package registries.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.debian import cache_dir, mirror

SUITE: Final = "bookworm"
_PACKAGES: Final = "ca-certificates"
_CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_CA_COPY: Final = Path("/etc/ssl/machine.crt")
"""Not the bundle's own place: a package that is installed later would write that anew."""
_PIP_CONFIGURATION: Final = f"[global]\ncert = {_CA_COPY}\n"


def base_tar() -> Path:
    """The root file system as a tar file; made once and kept outside the checkout.

    Raises ``RuntimeError`` where debootstrap is missing or fails.
    """
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    inputs = Path(__file__).read_bytes() + _CA_BUNDLE.read_bytes()
    path = folder / f"base-{hashlib.sha256(inputs).hexdigest()[:16]}.tar"
    if not path.exists():
        if shutil.which("debootstrap") is None:
            raise RuntimeError("debootstrap is missing; run: apt-get install debootstrap")
        _make(path)
    return path


def _make(path: Path) -> None:
    print("making a Debian base image; this takes about a minute", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        root = Path(scratch) / "root"
        _run(
            "debootstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            SUITE,
            str(root),
            mirror(),
        )
        for sources in (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d")):
            if sources.is_file():
                shutil.copy(sources, root / "etc/apt/sources.list")
            elif (sources / "debian.sources").exists():
                (root / "etc/apt/sources.list").unlink(missing_ok=True)
                shutil.copy(sources / "debian.sources", root / "etc/apt/sources.list.d")
        shutil.copy(_CA_BUNDLE, root / _CA_COPY.relative_to("/"))
        (root / "etc/pip.conf").write_text(_PIP_CONFIGURATION)
        shutil.rmtree(root / "var/cache/apt/archives")
        shutil.rmtree(root / "var/lib/apt/lists")
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)
        tar = Path(scratch) / "base.tar"
        _run("tar", "-C", str(root), "--numeric-owner", "-cf", str(tar), ".")
        tar.replace(path)


def _run(*command: str) -> None:
    done = subprocess.run(["nice", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stdout + done.stderr)[-2000:]}")
