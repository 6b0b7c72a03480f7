"""TCP that no limit is for: with exempt networks, and between a target's own processes."""

import sys

import pytest

from bench.ours import podpace
from bench.rig import TcpLoad, bulk, rig, running
from bench.rig.topology import PEER_ADDRESS
from contract.names import Direction

LIMIT = 2_000_000
SENT_BYTES = 5_000_000
"""20 s of the limit."""
QUICK_SECONDS = 10
LOCAL = f"""
import socket, sys, threading, time
family, address = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, sys.argv[1]
server = socket.create_server((address, 0), family=family)
client = socket.create_connection(server.getsockname()[:2])
threading.Thread(target=client.sendall, args=(bytes({SENT_BYTES}),)).start()
connection, _ = server.accept()
start, left = time.monotonic(), {SENT_BYTES}
while left:
    left -= len(connection.recv(65536))
print(time.monotonic() - start, flush=True)
"""


@pytest.mark.slow_emulated
@pytest.mark.parametrize("family", [4, 6])
def test_exempt_peers_and_loopback_are_not_slowed_down(family: int) -> None:
    """Neither what is sent nor what is received; before they are exempt, peers are held."""
    networks = ("--exempt", f"{PEER_ADDRESS[4]}/32", "--exempt", f"{PEER_ADDRESS[6]}/128")
    with rig() as r, podpace(r) as limiter, running(r.pod.command("sleep", "infinity")):
        limits = ("--egress", str(LIMIT), "--ingress", str(LIMIT))
        limiter.client("attach", r.cgroup, *limits)
        with bulk(r, TcpLoad(Direction.EGRESS, 3, family=family)) as load:
            limited = load.result().goodput_bits_per_sec()
        for address in ("127.0.0.1", "::1", r.address(r.pod, family)):
            argv = r.pod.command(sys.executable, "-I", "-S", "-c", LOCAL, address)
            with running(argv, stdout=-1) as local:
                assert local.stdout is not None
                assert float(local.stdout.readline()) < QUICK_SECONDS, address
        limiter.client("attach", r.cgroup, *limits, *networks)
        free = {}
        for direction in Direction:
            with bulk(r, TcpLoad(direction, 3, family=family)) as load:
                free[direction] = load.result().goodput_bits_per_sec()
        limiter.client("detach", r.cgroup)
    assert limited <= 1.1 * LIMIT
    assert min(free.values()) > 5 * LIMIT
