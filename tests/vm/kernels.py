"""Debian's kernels, unpacked into a folder outside the checkout and never installed.

apt fetches and verifies them, with lists of its own below the cache: the machine's own sources
stay as they are.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NAMES: Final = ("6.1", "6.12", "newest")
AMD64, ARM64 = "amd64", "arm64"
"""Debian's names of processors."""
_PART: Final = r"linux-(base|binary|image|modules)-[0-9].*-"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
TOO_OLD: Final = "5.10"
"""Below what Podpace needs: what it says there is tested."""
_SUITES: Final = {
    TOO_OLD: ("bullseye", "bullseye-security"),
    "6.1": ("bookworm", "bookworm-security"),
    "6.12": ("bookworm-backports",),
    "newest": ("trixie-backports", "sid"),
}


class VmError(Exception):
    """The machine cannot be made or run here; the message says what to do."""


@dataclass(frozen=True)
class Kernel:
    """One kernel: its image and the folder that holds ``lib/modules/RELEASE``."""

    release: str
    image: Path
    folder: Path
    architecture: str = AMD64


def cache_dir() -> Path:
    """Where kernels and roots are kept: ``$XDG_CACHE_HOME/podpace``, or that under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podpace"


def kernel(name: str, architecture: str = AMD64) -> Kernel:
    """One of ``NAMES`` or ``TOO_OLD``, fetched (about 100 MB) when it is not in the cache.

    "newest" is what was newest when it was fetched: remove the folder to fetch anew.
    """
    folder = cache_dir() / f"kernel-{name}{'' if architecture == AMD64 else f'-{architecture}'}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _fetch(name, architecture, Path(scratch))
            (Path(scratch) / "root").rename(folder)
    image = next((folder / "boot").glob("vmlinuz-*"))
    return Kernel(image.name.removeprefix("vmlinuz-"), image, folder, architecture)


def _fetch(name: str, architecture: str, scratch: Path) -> None:
    print(f"fetching Debian's kernel {name} for {architecture}", flush=True)
    apt = _Apt(scratch, _SUITES[name], architecture)
    packages = apt.kernel_packages()
    print("unpacking", *packages, flush=True)
    root = scratch / "root"
    root.mkdir()
    for package in apt.download(packages):
        # Newer packages have lib/ below usr/, older ones at the top.
        run("dpkg-deb", "--extract", package, root)
    if (root / "usr/lib/modules").exists():
        (root / "lib").symlink_to("usr/lib")
    if not (root / "boot").exists():
        (root / "boot").mkdir()
        for image in root.glob("lib/modules/*/vmlinuz"):
            image.rename(root / "boot" / f"vmlinuz-{image.parent.name}")
    release = next((root / "lib/modules").iterdir()).name
    run("depmod", "--basedir", root, release)


class _Apt:
    """apt with lists and a cache of its own."""

    def __init__(self, scratch: Path, suites: tuple[str, ...], architecture: str) -> None:
        self._architecture = architecture
        self._folder = scratch / "packages"
        for folder in ("lists/partial", "cache/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        self._folder.mkdir()
        lines = [f"deb [signed-by={_KEYRING}] {mirror(s)} {s} main" for s in suites]
        (scratch / "sources.list").write_text("\n".join(lines) + "\n")
        # Backports come second by default; here the highest version of any suite counts.
        (scratch / "preferences").write_text("Package: *\nPin: release *\nPin-Priority: 500\n")
        (scratch / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{scratch}/sources.list";\n'
            'Dir::Etc::SourceParts "-";\n'
            f'Dir::Etc::Preferences "{scratch}/preferences";\n'
            'Dir::Etc::PreferencesParts "-";\n'
            f'Dir::State::Lists "{scratch}/lists";\n'
            'Dir::State::Status "/dev/null";\n'
            f'Dir::Cache "{scratch}/cache";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Check-Valid-Until "false";\n'  # the mirror may be a snapshot
            'APT::Sandbox::User "root";\n'
            f'APT::Architecture "{architecture}";\n'
            f'APT::Architectures {{ "{architecture}"; }};\n'
        )
        self._environment = {**os.environ, "APT_CONFIG": str(scratch / "apt.conf")}
        self._run("apt-get", "update", "-q")

    def kernel_packages(self) -> list[str]:
        """What the newest kernel consists of: one package, or since 7.0 several."""
        whole = f"linux-image-{self._architecture}"
        shown = self._run("apt-cache", "depends", "--recurse", "--important", whole)
        part = re.compile(_PART + self._architecture)
        return sorted({line for line in shown.splitlines() if part.fullmatch(line)})

    def download(self, packages: list[str]) -> list[Path]:
        """Fetch packages; the files."""
        self._run("apt-get", "download", "-q", *packages)
        return sorted(self._folder.glob("*.deb"))

    def _run(self, *command: str) -> str:
        return run(*command, environment=self._environment, cwd=self._folder)


def mirror(suite: str) -> str:
    """The mirror that apt on this machine uses for a suite of Debian."""
    security = "security" in suite
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)").splitlines():
        uri, _, release = line.partition(" ")
        if release.startswith("bookworm") and ("security" in release) == security:
            return uri
    raise VmError(f"apt knows no mirror for {suite} here: Debian 12 with its usual sources does")


def run(
    *command: str | Path, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a command to its end at low priority; what it printed. Raises VmError."""
    if shutil.which(command[0]) is None:
        raise VmError(f"{command[0]} is missing; run: make setup")
    done = subprocess.run(
        ["nice", *map(str, command)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise VmError(
            f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-2000:]}"
        )
    return done.stdout
