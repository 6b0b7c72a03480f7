"""What the nodes boot: Debian 12 with Debian's containerd, runc and CNI plugins on its 6.1 kernel.

Made once from packages and kept outside the checkout, by a hash of what it is made from.
``python -m tests.node.rootfs`` makes it ahead of the tests.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.debian import cache_dir, mirror
from tests.node.oci import image_tar

GUEST: Final = Path(__file__).parent / "guest"
TRAFFIC_IMAGE: Final = "localhost/traffic:1"
"""busybox and iperf3; does nothing by itself. Also every pod's pause container."""
_SUITE: Final = "bookworm"
_PACKAGES: Final = (
    *("containerd", "runc", "containernetworking-plugins"),
    *("python3", "python3-bpfcc", "linux-libc-dev", "bpftool"),
    *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "kmod", "mount", "procps"),
    *("busybox-static", "socat", "iperf3", "iputils-ping"),
)
_BOOT_MODULES: Final = ("virtio_pci", "virtio_blk")
_DISK_BYTES: Final = 4 * 2**30
_IDLE: Final = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
NEEDS: Final = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
    "ip": "iproute2",
}
"""Programs, and the Debian packages they are in."""


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """A folder with everything that a virtual machine starts from."""

    folder: Path

    @property
    def disk(self) -> Path:
        """An ext4 file system; nobody writes to it."""
        return self.folder / "root.ext4"

    @property
    def kernel(self) -> Path:
        """Debian's."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Mounts the disk, and what a run adds to it."""
        return self.folder / "initrd"

    @property
    def images(self) -> Path:
        """OCI tars for the nodes' containerd."""
        return self.folder / "images"


def missing_programs() -> list[str]:
    """Debian packages to install before this can work."""
    return [package for program, package in NEEDS.items() if shutil.which(program) is None]


def root_filesystem() -> RootFilesystem:
    """The cached one, or a new one. Raises RuntimeError when a step fails."""
    digest = hashlib.sha256()
    for source in (Path(__file__), GUEST / "add-kernel", GUEST / "initrd-init"):
        digest.update(source.read_bytes())
    folder = cache_dir() / f"node-{digest.hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            _make(Path(scratch) / "root", RootFilesystem(made))
            if not folder.exists():
                made.rename(folder)
    return RootFilesystem(folder)


def _make(root: Path, made: RootFilesystem) -> None:
    started = time.monotonic()

    def progress(step: str) -> None:
        print(f"  node image: {step} ({time.monotonic() - started:.0f} s)", file=sys.stderr)

    made.images.mkdir(parents=True)
    progress("Debian and its packages; one to two minutes")
    _debootstrap(root)
    progress("the image that test pods run")
    _traffic_image(root, root.parent / "traffic", made.images)
    progress("initrd")
    _initrd(root, root.parent / "initrd", made.initrd)
    progress("disk")
    (root / "opt/payload").mkdir()
    (kernel,) = root.glob("boot/vmlinuz-*")
    kernel.rename(made.kernel)
    make_disk(root, made.disk, _DISK_BYTES)
    progress("done")


def make_disk(content: Path, disk: Path, size_bytes: int) -> None:
    """An ext4 image of a folder; it takes no more space than the folder."""
    with disk.open("wb") as file:
        file.truncate(size_bytes)
    features = "^has_journal,^metadata_csum"
    lazy = "lazy_itable_init=1,root_owner=0:0"
    run("mke2fs", "-q", "-t", "ext4", "-O", features, "-E", lazy, "-d", str(content), str(disk))


def run(*command: str, cwd: Path | None = None) -> str:
    """A step that must work; what it printed. Raises RuntimeError with its output."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}"
        raise RuntimeError(message)
    return done.stdout


def _debootstrap(root: Path) -> None:
    excluded = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    run(
        *("nice", "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        # Nobody needs this file system after a power cut.
        *("--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Languages none"),
        *(f"--dpkgopt=path-exclude={path}" for path in excluded),
        f"--include={','.join(_PACKAGES)}",
        f"--customize-hook={GUEST / 'add-kernel'} $1",
        *(_SUITE, str(root), mirror()),
    )


def _traffic_image(root: Path, content: Path, images: Path) -> None:
    """busybox and iperf3 with the libraries it is linked with."""
    for name in ("bin", "tmp", "etc"):
        (content / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", content / "bin/busybox")
    for applet in run("chroot", str(root), "/bin/busybox", "--list").split():
        if applet != "busybox":
            (content / "bin" / applet).symlink_to("busybox")
    shutil.copy(root / "usr/bin/iperf3", content / "bin/iperf3")
    linked = run("chroot", str(root), "/usr/bin/ldd", "/usr/bin/iperf3")
    for library in {word for word in linked.split() if word.startswith("/")}:
        (content / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy((root / library[1:]).resolve(), content / library[1:])
    (content / "tmp").chmod(0o1777)
    (content / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    command = ["/bin/sh", "-c", _IDLE]
    image_tar(images / "traffic.tar", TRAFFIC_IMAGE, content, command)


def _initrd(root: Path, content: Path, initrd: Path) -> None:
    """busybox and the drivers of the root's disk, in the order they have to be loaded."""
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (content / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", content / "bin/busybox")
    shutil.copy(GUEST / "initrd-init", content / "init")
    (version,) = (path.name for path in (root / "lib/modules").iterdir())
    order: list[str] = []
    for module in _BOOT_MODULES:
        shown = run("chroot", str(root), "/sbin/modprobe", "-S", version, "--show-depends", module)
        for line in shown.splitlines():
            kind, path = line.split()[:2]
            name = Path(path).name
            if kind == "insmod" and name not in order:
                shutil.copy(root / path[1:], content / "modules" / name)
                order.append(name)
    (content / "modules/order").write_text("\n".join(order) + "\n")
    archive = f"find . | {root / 'bin/busybox'} cpio -o -H newc > {initrd}"
    run("sh", "-c", archive, cwd=content)


if __name__ == "__main__":
    if absent := missing_programs():
        sys.exit(f"missing: apt-get install {' '.join(absent)}")
    print(root_filesystem().folder)
