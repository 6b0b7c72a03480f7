"""One virtual machine: QEMU with KVM where there is one, else emulated."""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Final

from tests.cluster.plane import DIES_WITH_US
from tests.node.network import HOST, PLACES, Place
from tests.node.rootfs import RootFilesystem
from tests.node.shell import Done, run_script

_MEMORY_MIB: Final = 3072
"""Compiling the programs takes 300 MiB. With half of this a node that has nine pods reads its
binaries from disk again and again, and the kubelet restarts what does not answer in time."""
# A busy computer delivers timer interrupts too late for the kernel's check of them.
_KERNEL_OPTIONS: Final = "console=ttyS0 loglevel=4 panic=-1 mitigations=off no_timer_check"


class Machine:
    """A node's virtual machine."""

    def __init__(self, place: Place, folder: Path) -> None:
        """``folder`` takes its logs and what it writes to its disk."""
        self.place = place
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, root: RootFilesystem, payload: Path, images: Path) -> None:
        """Boot; returns at once. Both are ext4 images that all nodes share."""
        self._folder.mkdir(parents=True)
        peers = ",".join(f"{p.pod_cidr}@{p.address}" for p in PLACES if p != self.place)
        environment = {
            "NODE": self.place.name,
            "ADDRESS": self.place.address,
            "POD_CIDR": self.place.pod_cidr,
            "PEERS": peers,
            "GATEWAY": HOST,
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        mac = "52:54:00:77:00:" + self.place.address.rpartition(".")[2].zfill(2)
        command = [
            *DIES_WITH_US,
            "qemu-system-x86_64",
            *_processor(),
            *("-machine", "q35", "-m", str(_MEMORY_MIB)),
            *("-nodefaults", "-no-reboot", "-display", "none"),
            *("-serial", f"file:{self._console}"),
            *("-qmp", f"unix:{self._qmp},server=on,wait=off"),
            *("-kernel", str(root.kernel), "-initrd", str(root.initrd)),
            *("-append", f"{_KERNEL_OPTIONS} {' '.join(words)}"),
            *("-drive", f"file={root.disk},format=raw,if=virtio,snapshot=on"),
            *("-drive", f"file={payload},format=raw,if=virtio,readonly=on"),
            *("-drive", f"file={images},format=raw,if=virtio,snapshot=on"),
            *("-device", "virtio-rng-pci"),
            *("-netdev", f"tap,id=net,ifname={self.place.tap},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=net,romfile=,mac={mac}"),
        ]
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TMPDIR": str(self._folder)},
            )

    def stop(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reboot(self) -> None:
        """Off and on again with the same disks, their caches written; returns at once."""
        self._on_reboot("reset")
        # Whoever asks for it gets no answer.
        with contextlib.suppress(OSError):
            self.run("for key in s u b; do echo $key >/proc/sysrq-trigger; done", 10)

    def restart_kubelet(self) -> None:
        """Kill it; ``guest/init`` starts it again, as a service manager would. Returns at once."""
        self.ok("pkill -9 -x kubelet")

    def _on_reboot(self, action: str) -> None:
        """QEMU ends instead where nothing else is said, so that a panic does not go unseen."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._qmp))
            lines = connection.makefile("rw", encoding="utf-8")
            lines.readline()
            for command in (
                {"execute": "qmp_capabilities"},
                {"execute": "set-action", "arguments": {"reboot": action}},
            ):
                lines.write(f"{json.dumps(command)}\n")
                lines.flush()
                answer = lines.readline()
                assert "return" in answer, answer

    def run(self, script: str, seconds: float = 60.0) -> Done:
        """Run a bash script on it, outside every pod.

        Raises OSError when the machine does not answer in time.
        """
        return run_script(self.place.address, script, seconds)

    def ok(self, script: str, seconds: float = 60.0) -> str:
        """Run a script that must work; its output without the last line break."""
        done = self.run(script, seconds)
        assert done.code == 0, f"{self.place.name}: {script!r} gave {done.code}:\n{done.output}"
        return done.output.rstrip("\n")

    def check_alive(self) -> None:
        """Fails the test when QEMU has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            log = (self._folder / "qemu.log").read_text(errors="replace")
            message = f"{self.place.name}: QEMU ended with {code}:\n{log}\n{self.console()}"
            raise AssertionError(message)

    @property
    def _qmp(self) -> Path:
        return self._folder / "qmp"

    @property
    def _console(self) -> Path:
        return self._folder / "console.log"

    def console(self) -> str:
        """The end of what it wrote to its console."""
        with contextlib.suppress(FileNotFoundError):
            return self._console.read_text(errors="replace")[-3000:]
        return ""

    def logs(self) -> str:
        """The ends of its services' logs, as far as it answers."""
        try:
            return self.run("tail -n 20 /var/log/{containerd,kubelet,kube-proxy}.log", 10).output
        except OSError as error:
            return f"no answer: {error}"


def _processor() -> tuple[str, ...]:
    """KVM takes more than /dev/kvm: the machine's own processor has to offer it.

    Emulated, there is one: Linux 6.1 was seen to stand still for good with both of two, as one set
    up netfilter and the other started the kubelet, and this machine has two for two nodes.
    """
    offered = {"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split())
    if offered and Path("/dev/kvm").exists():
        return ("-accel", "kvm", "-cpu", "host", "-smp", "2")
    return ("-accel", "tcg,tb-size=256", "-cpu", "max,la57=off")
