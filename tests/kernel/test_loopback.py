"""Connections that stay in the pod, between whatever addresses: no limit's matter."""

import json
import sys
from collections.abc import Iterator

import pytest

from bench.rig import Rig, rig, running
from bench.rig.topology import POD_ADDRESS, cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import build
from enforcer.datapath.kernel import KernelDatapath
from enforcer.state import Target, Way
from tests.kernel.connections import NOT_PACED, SO_MAX_PACING_RATE

LIMIT = 1_000_000
SENT_BYTES = 2_000_000
"""16 s of the limit."""
QUICK_SECONDS = 6
LOCAL = f"""
import json, socket, sys, threading, time
source, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
server = socket.create_server((address, 0), family=family)
client = socket.create_connection(server.getsockname()[:2], source_address=(source, 0))
connection, _ = server.accept()
paces = lambda: [s.getsockopt(socket.SOL_SOCKET, {SO_MAX_PACING_RATE}) & 0xffffffff
                 for s in (client, connection)]
said, start = {{"first": paces()}}, time.monotonic()
for near, far in ((client, connection), (connection, client)):
    threading.Thread(target=near.sendall, args=(bytes({SENT_BYTES}),)).start()
    left = {SENT_BYTES}
    while left:
        left -= len(far.recv(65536))
said |= {{"seconds": time.monotonic() - start, "last": paces(),
          "windows": [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)
                      for s in (client, connection)]}}
print(json.dumps(said), flush=True)
"""
MESH = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1", "127.0.0.6"),
    ("127.0.0.6", POD_ADDRESS[4]),
    (POD_ADDRESS[4], "127.0.0.1"),
    (POD_ADDRESS[4], POD_ADDRESS[4]),
    (POD_ADDRESS[4], "10.77.0.1"),
    ("::1", "::1"),
    ("::1", POD_ADDRESS[6]),
    (POD_ADDRESS[6], "fd77::1"),
]
"""From a sidecar to the pod and back, as REDIRECT and the mesh's own addresses make them; and
between two addresses of the pod."""

pytestmark = pytest.mark.slow_emulated


@pytest.fixture(scope="module")
def limited() -> Iterator[tuple[Rig, KernelDatapath, Target]]:
    """A pod with a second address, limited both ways, what comes in held by windows."""
    with rig() as r, running(r.pod.command("sleep", "infinity")):
        r.pod.run("ip", "addr", "add", "10.77.0.1/32", "dev", "eth0")
        r.pod.run("ip", "addr", "add", "fd77::1/128", "dev", "eth0", "nodad")
        datapath = build(r.bpffs / "podpace", cgroup2_mount())
        limits = Limits(make_limit(LIMIT), make_limit(LIMIT))
        target = Target("pod", str(r.cgroup), r.cgroup.stat().st_ino, limits)
        datapath.write(target, Way())
        datapath.write(target, Way(True))
        yield r, datapath, target


@pytest.mark.parametrize(("source", "address"), MESH)
def test_a_connection_within_the_pod_is_left_alone(
    limited: tuple[Rig, KernelDatapath, Target], source: str, address: str
) -> None:
    """From its first packet on neither end is paced, has its window bounded, or is counted."""
    r, datapath, target = limited
    before = datapath.counters(target)
    argv = r.pod.command(sys.executable, "-I", "-S", "-c", LOCAL, source, address)
    with running(argv, stdout=-1) as local:
        assert local.stdout is not None
        said = json.loads(local.stdout.readline())
    after = datapath.counters(target)
    assert said["first"] == said["last"] == [NOT_PACED, NOT_PACED]
    assert min(said["windows"]) > LIMIT // 8 // 10
    assert said["seconds"] < QUICK_SECONDS
    for side in ("egress", "ingress"):
        assert getattr(after, side).active_flows == 0
        assert getattr(after, side).passed_packets == getattr(before, side).passed_packets
