"""Whose memory tenants' sockets are: needs the memory controller in cgroup v2."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rig import rig, running
from bench.rig.topology import PEER_ADDRESS, cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import build
from enforcer.datapath.pins import SOURCE_DIR, generation_dir, source_hash
from enforcer.state import Target, Way

SOCKETS = 10_000
MANY = f"""
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({SOCKETS + 100}, {SOCKETS + 100}))
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range({SOCKETS})]
for s in sockets:
    s.sendto(b"x", (sys.argv[1], 9))
print("sent", flush=True)
sys.stdin.readline()
"""
COMPILE = (sys.executable, "-P", "-m", "enforcer.datapath.compiler")
RECORD_BYTES = 200
"""What a record takes at least."""


@contextmanager
def daemons_cgroup() -> Iterator[Path]:
    """A cgroup whose memory is counted, as a container of the daemon has."""
    root = cgroup2_mount()
    (root / "cgroup.subtree_control").write_text("+memory")
    group = root / f"podpace-daemon-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def charged_bytes(group: Path) -> int:
    """Of the kernel's memory, for maps."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(stat["kernel"])


def test_tenants_sockets_are_not_the_daemons_memory() -> None:
    """Ten thousand sockets that send one packet each: their records are charged to nobody's limit.

    The programs are compiled from the daemon's cgroup.
    """
    with rig() as r, daemons_cgroup() as group:
        pin_root = r.bpffs / "podpace"
        directory = generation_dir(pin_root, source_hash(SOURCE_DIR))
        directory.parent.mkdir(parents=True)
        script = f'echo $$ >{group}/cgroup.procs; exec "$@"'
        argv = ["sh", "-c", script, "sh", *COMPILE, str(SOURCE_DIR), str(directory)]
        subprocess.run(argv, check=True, cwd=Path(__file__).parents[3])
        before = charged_bytes(group)
        limits = Limits(egress=make_limit(10**9))
        target = Target("pod", str(r.cgroup), r.cgroup.stat().st_ino, limits)
        build(pin_root, cgroup2_mount()).write(target, Way())
        tenant = r.pod.command(sys.executable, "-I", "-S", "-c", MANY, PEER_ADDRESS[4])
        with running(tenant, stdin=-1, stdout=-1) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "sent\n"
            grown = charged_bytes(group) - before
    print(f"{grown} bytes for {SOCKETS} sockets")
    assert grown < SOCKETS * RECORD_BYTES / 10
