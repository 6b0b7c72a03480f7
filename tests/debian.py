"""Packages of other Debian releases, unpacked beside the system instead of installed.

Through the machine's own apt and mirror, with an apt state of their own: the machine's sources
stay as they are.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cache_dir() -> Path:
    """Where what was fetched or built is kept, outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podpace"


def mirror() -> str:
    """The mirror that apt on this machine uses for Debian itself. Raises ``RuntimeError``."""
    listed = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(SUITE)")
    for line in listed.splitlines():
        address, _, rest = line.partition(" ")
        if rest.startswith("Debian ") and "security" not in rest:
            return address
    raise RuntimeError("apt knows no Debian mirror here; run: apt-get update")


def unpacked(suite: str, *packages: str) -> Path:
    """A folder with the files of ``packages`` of a release, without what they depend on.

    Fetched once and kept. Raises ``RuntimeError`` where apt cannot.
    """
    key = hashlib.sha256(" ".join((suite, *packages)).encode()).hexdigest()[:12]
    folder = cache_dir() / f"{suite}-{packages[0]}-{key}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        debs, content = _download(Path(scratch), suite, packages), Path(scratch, "content")
        for deb in debs:
            _run("dpkg-deb", "-x", str(deb), str(content))
        if not folder.exists():
            content.rename(folder)
    return folder


def prometheus() -> Path:
    """The folder with ``prometheus`` and ``promtool``.

    Not installed: Debian's package starts a server and lets the network reach it.
    """
    return unpacked("bookworm", "prometheus") / "usr/bin"


def _download(scratch: Path, suite: str, packages: tuple[str, ...]) -> list[Path]:
    for name in ("lists/partial", "debs"):
        (scratch / name).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n")
    apt = [
        "apt-get",
        f"-oDir::Etc::SourceList={sources}",
        "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={scratch / 'lists'}",
        "-oDir::Cache::pkgcache=",
        "-oDir::Cache::srcpkgcache=",
        "-oAPT::Sandbox::User=root",
    ]
    _run(*apt, "update", "-q")
    _run(*apt, "download", "-q", *packages, folder=scratch / "debs")
    return sorted((scratch / "debs").glob("*.deb"))


def _run(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
