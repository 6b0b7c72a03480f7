"""Two network namespaces, a cgroup, and instruments whose readings can be trusted.

    with rig() as r, bulk(r, TcpLoad(Direction.EGRESS, seconds=5)) as load, ping(r, 5) as pings:
        print(load.result().goodput_bits_per_sec(), pings.result().p99_ms)

``docs/measuring.md`` says what every instrument counts. Needs root, iproute2 and iperf3.
"""

from bench.rig.counters import (
    CpuMeter,
    FrameCounter,
    ProgramStats,
    SocketCounters,
    bpf_stats,
    socket_counters,
)
from bench.rig.iperf import BulkResult, TcpLoad, UdpLoad, bulk
from bench.rig.probes import (
    ConnectResult,
    LatencyResult,
    PingResult,
    connects,
    ping,
    requests,
)
from bench.rig.process import Place, RigError, running, shielded, terminating
from bench.rig.topology import (
    STANDARD_MTU,
    Rig,
    cgroup2_mount,
    leftovers,
    negotiating_ecn,
    path_delay,
    path_mtu,
    private_bpffs,
    rig,
    set_path_delay,
    uncounted,
)

__all__ = [
    "STANDARD_MTU",
    "BulkResult",
    "ConnectResult",
    "CpuMeter",
    "FrameCounter",
    "LatencyResult",
    "PingResult",
    "Place",
    "ProgramStats",
    "Rig",
    "RigError",
    "SocketCounters",
    "TcpLoad",
    "UdpLoad",
    "bpf_stats",
    "bulk",
    "cgroup2_mount",
    "connects",
    "leftovers",
    "negotiating_ecn",
    "path_delay",
    "path_mtu",
    "ping",
    "private_bpffs",
    "requests",
    "rig",
    "running",
    "set_path_delay",
    "shielded",
    "socket_counters",
    "terminating",
    "uncounted",
]
