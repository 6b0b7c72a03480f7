"""Daemons of any version, started one after another on one rig."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ours import answers
from bench.rig import Rig
from bench.rig.process import EMULATED, sh
from enforcer.datapath import headers, libbpf

ROOT = Path(__file__).parents[2]
HOOKS = list(libbpf.AttachType)
LET_GO = 2 if EMULATED else 10
"""What passes when a limit has been taken off, in limits, at least: by emulated processors less."""
SLOWER = 4 if EMULATED else 1
"""How much longer than natively the client takes to start: traffic meanwhile lasts as long."""
START = "import sys; from enforcer.__main__ import main; main(sys.argv[1:])"


@dataclass
class Node:
    """A place where daemons of any version can be started one after another."""

    rig: Rig
    prefix: tuple[str, ...] = ()
    """What comes before each daemon's command."""
    more: tuple[str, ...] = ()
    """Options that only the daemon has."""

    @property
    def options(self) -> list[str]:
        """What every daemon and client here is told."""
        r = self.rig
        return [
            *("--socket", str(r.work / "enforcer.sock"), "--pin-root", str(r.bpffs / "podpace")),
            *("--state-dir", str(r.work / "state")),
        ]

    @property
    def generations(self) -> list[Path]:
        """Sets of pinned programs."""
        return sorted((self.rig.bpffs / "podpace").glob("v*/*"))

    @contextmanager
    def daemon(self, source: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
        """A daemon from this checkout or a copy of it, answering; killed at the end."""
        log = self.rig.work / "enforcer.log"
        with log.open("a") as out:
            process = subprocess.Popen(
                [*self.prefix, sys.executable, "-P", "-c", START, *self.options, *self.more],
                env={**os.environ, "PYTHONPATH": str(source)},
                stdout=out,
                stderr=out,
                text=True,
                cwd="/",
            )
        try:
            end = time.monotonic() + 400
            while not answers(self.rig.work / "enforcer.sock"):
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < end, "the daemon does not answer"
                time.sleep(0.02)
            yield process
        finally:
            process.kill()
            process.wait()

    def clean_up(self, source: Path = ROOT, *prefix: str) -> None:
        """What an operator runs at the end; fails when something is left."""
        command = [
            *(prefix or self.prefix),
            sys.executable,
            "-P",
            "-c",
            START,
            *self.options,
            "--cleanup",
        ]
        command += ["--cgroup-root", str(self.rig.cgroup.parent)]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        subprocess.run(command, env=environment, check=True, cwd="/")

    @property
    def files(self) -> list[Path]:
        """Everything of ours outside the cgroups: state, socket, pins."""
        r = self.rig
        ours = (r.work / "state", r.work / "enforcer.sock", r.bpffs / "podpace")
        return [path for top in ours if top.exists() for path in (top, *top.rglob("*"))]

    def client(self, *arguments: str | Path) -> str:
        """Run podpace against the daemon."""
        socket = self.rig.work / "enforcer.sock"
        return sh(Path(sys.executable).with_name("podpace"), *arguments, "--socket", socket)

    def passed_bytes(self) -> int:
        """What the kernel counted as sent."""
        said = json.loads(self.client("show", self.rig.cgroup, "-o", "json"))
        return int(said["egress"]["passed_bytes"])

    def programs(self, cgroup: Path | None = None) -> list[int]:
        """Ids of the programs on the cgroup, one per hook while all is well."""
        fd = os.open(cgroup or self.rig.cgroup, os.O_RDONLY)
        try:
            return [number for hook in HOOKS for number in libbpf.attached(fd, hook)]
        finally:
            os.close(fd)


def changed_copy(directory: Path, abi: int | None = None) -> Path:
    """A copy of the checkout's daemon whose program source, or ABI too, differs."""
    for name in ("contract", "enforcer", "bpf"):
        shutil.copytree(ROOT / name, directory / name)
    with (directory / "bpf" / "limiter.bpf.c").open("a") as source:
        source.write("\n/* another version */\n")
    if abi is not None:
        path = directory / "enforcer" / "datapath" / "abi.py"
        text, replaced = re.subn(
            r"(?m)^ABI_VERSION: Final = \d+$", f"ABI_VERSION: Final = {abi}", path.read_text()
        )
        assert replaced == 1
        path.write_text(text)
    return directory


@contextmanager
def neighbour(cgroup: Path, how: int = libbpf.BPF_F_ALLOW_MULTI) -> Iterator[int]:
    """Somebody else's program on the cgroup; its id."""
    with tempfile.TemporaryDirectory() as tree, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bcc import BPF

        flags = headers.write_tree(Path(tree))
        os.environ["BCC_KERNEL_SOURCE"] = tree
        text = "#include <uapi/linux/bpf.h>\nint neighbour(struct __sk_buff *skb) { return 1; }"
        module = BPF(text=text, cflags=list(flags))
    hook = libbpf.AttachType.EGRESS
    program = module.load_func(b"neighbour", BPF.CGROUP_SKB, attach_type=int(hook)).fd
    cgroup_fd = os.open(cgroup, os.O_RDONLY)
    try:
        libbpf.attach(program, cgroup_fd, hook, how)
        try:
            yield libbpf.program_identity(program)[0]
        finally:
            libbpf.detach(program, cgroup_fd, hook)
    finally:
        os.close(cgroup_fd)
