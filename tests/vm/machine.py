"""A virtual machine on one of Debian's kernels, its root a folder of this machine.

The root is exported read-only over 9p and every write goes to memory, so a machine neither changes
anything here nor needs an image. QEMU emulates the processor unless it is told otherwise, which is
slow, but the same everywhere. What measures time takes a processor whose clock counts instructions:
it does not stand still when this machine has something else to do.
"""

import lzma
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.rig import running
from tests.vm.kernels import AMD64, ARM64, Kernel, VmError, run
from tests.vm.roots import CHECKOUT, VENV

HERE: Final = Path(__file__).parent
TIMED_OUT: Final = 124
"""The exit code of a command that was ended, as timeout(1) has it."""
EMULATED: Final = ("-accel", "tcg,thread=multi,tb-size=512", "-smp", "2")
COUNTED: Final = (
    *("-accel", "tcg,thread=single,tb-size=512", "-smp", "1"),
    *("-icount", "shift=0,sleep=off"),
)
"""An instruction takes a nanosecond, and nothing waits while there is nothing to do. One processor:
QEMU would let several take turns in one thread."""
KVM: Final = ("-accel", "kvm", "-smp", "2")
_NOT_COPIED: Final = (".venv", "__pycache__", ".*_cache", ".hypothesis")
_KERNEL_OPTIONS: Final = "mitigations=off panic=-1 quiet loglevel=4 audit=0"
_COMPUTERS: Final = {
    # Four levels of page tables: five are slower to emulate. On a busy machine the timer's
    # interrupts come too late for the kernel's check of them.
    AMD64: (
        *("qemu-system-x86_64", "-machine", "q35", "-cpu", "max,la57=off"),
        *("-append", f"console=ttyS0 no_timer_check {_KERNEL_OPTIONS}"),
    ),
    # Signing of pointers by an emulated processor costs more than all the rest.
    ARM64: (
        *("qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth=off"),
        *("-append", f"console=ttyAMA0 {_KERNEL_OPTIONS}"),
    ),
}
_MODULES: Final = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
"""What it takes to reach the root and to talk."""


@dataclass(frozen=True)
class Machine:
    """What to boot."""

    kernel: Kernel
    root: Path = Path("/")
    shares: tuple[Path, ...] = ()
    """Folders that the machine sees, and writes, as they are here, under the same path."""
    memory_mib: int = 2048
    timeout_seconds: float = 1200
    processor: tuple[str, ...] = EMULATED


def call(machine: Machine, command: Sequence[str]) -> int:
    """Run a command as root in the checkout, in a machine of its own; its exit code.

    What it prints comes out here as it comes. After the timeout the machine is killed and the
    result is ``TIMED_OUT``. Raises VmError when the machine ends without a result.
    """
    with tempfile.TemporaryDirectory(prefix="podpace-vm-") as folder:
        control, copy = Path(folder) / "control", Path(folder) / "checkout"
        control.mkdir()
        _copy_checkout(copy)
        shares = {f"share{i}": path.resolve() for i, path in enumerate(machine.shares)}
        _write_control(control, machine, command, shares)
        initrd = control / "initrd"
        initrd.write_bytes(initial_archive(_initial_files(machine)))
        folders = {"root": machine.root, "control": control, "checkout": copy, **shares}
        qemu = _command(machine, control, folders)
        with running(qemu, stdin=subprocess.DEVNULL) as process:
            try:
                process.wait(machine.timeout_seconds)
            except subprocess.TimeoutExpired:
                print(f"vm: ended after {machine.timeout_seconds:.0f} s", flush=True)
                return TIMED_OUT
        try:
            return int((control / "exit-code").read_text())
        except (FileNotFoundError, ValueError) as e:
            log = (control / "console").read_text(errors="replace")
            raise VmError(f"the machine ended without a result:\n{log[-12_000:]}") from e


def _copy_checkout(copy: Path) -> None:
    """The sources, and the history that says which they are."""

    def take(source: str, destination: str) -> None:
        with suppress(FileNotFoundError):  # somebody works here
            shutil.copy2(source, destination, follow_symlinks=False)

    ignore = shutil.ignore_patterns(*_NOT_COPIED)
    shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=ignore, copy_function=take)
    (copy / ".venv").mkdir()


def _write_control(
    control: Path, machine: Machine, command: Sequence[str], shares: dict[str, Path]
) -> None:
    for script in ("start", "hold.py"):
        shutil.copy(HERE / script, control)
    (control / "checkout").write_text(f"{CHECKOUT}\n")
    (control / "kernel").write_text(f"{machine.kernel.folder}\n")
    lines = [f"{tag} {path}\n" for tag, path in shares.items()]
    (control / "shares").write_text("".join(lines))
    venv = CHECKOUT / ".venv" if machine.root == Path("/") else VENV
    environment = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": f"{venv}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PODPACE_VM": machine.kernel.release,
        "CI": "true",  # nothing is missing here: a test that finds something missing must fail
    }
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    script = [*exports, f"cd {shlex.quote(str(CHECKOUT))} || exit 1\n", f"{shlex.join(command)}\n"]
    (control / "command").write_text("".join(script))


def _command(machine: Machine, control: Path, folders: dict[str, Path]) -> list[str]:
    """QEMU in a mount namespace of its own, killed when we end, however we end."""
    qemu = [
        *_COMPUTERS[machine.kernel.architecture],
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
        *(*machine.processor, "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel.image), "-initrd", str(control / "initrd")),
        *("-serial", f"file:{control / 'console'}"),
        *("-device", "virtio-serial-pci", "-chardev", "stdio,id=out,signal=off"),
        *("-device", "virtconsole,chardev=out"),
    ]
    for tag, path in folders.items():
        access = ",readonly=on" if tag == "root" else ""
        qemu += [
            "-fsdev",
            f"local,id={tag},path={path},security_model=none,multidevs=remap{access}",
        ]
        qemu += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
        *("sh", "-ec", _script(machine), "sh", *qemu),
    ]


def _script(machine: Machine) -> str:
    """What shows the kernel in a root that is not this machine's."""
    show = ""
    if machine.root != Path("/"):
        path, inside = (
            shlex.quote(str(p))
            for p in (machine.kernel.folder, f"{machine.root}{machine.kernel.folder}")
        )
        show = f"mkdir -p {inside} && mount --bind {path} {inside}\n"
    return f'{show}exec nice "$@"\n'


def _initial_files(machine: Machine) -> dict[str, bytes]:
    """The initial file system: busybox, the modules in their order, and ``init``."""
    kernel, busybox = machine.kernel, shutil.which("busybox", path=f"{machine.root}/bin:/bin")
    if busybox is None:
        raise VmError("busybox is missing; run: make setup")
    files = {"init": (HERE / "init").read_bytes(), "bin/busybox": Path(busybox).read_bytes()}
    order = []
    for module in _MODULES:
        shown = run(
            *("modprobe", "--dirname", kernel.folder, "--set-version", kernel.release),
            *("--config", "/dev/null", "--show-depends", module),
        )
        for line in shown.splitlines():
            kind, _, path = line.strip().partition(" ")
            name = Path(path).name.removesuffix(".xz")
            if kind == "insmod" and name not in order:
                order.append(name)
                data = Path(path).read_bytes()
                files[f"modules/{name}"] = lzma.decompress(data) if path.endswith(".xz") else data
    files["modules/order"] = "".join(f"{name}\n" for name in order).encode()
    return files


def initial_archive(files: dict[str, bytes]) -> bytes:
    """These files, and the folders to mount on, in the format of initial file systems ("newc")."""
    folders = ("bin", "dev", "lower", "modules", "root", "writes")
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    out = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + encoded
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)
