"""A rig whose pod has its incoming TCP paced by its ACKs, below the daemon."""

import functools
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.rig import Rig, running
from contract.limits import Limits, make_limit
from enforcer.datapath import abi, compiler, libbpf
from enforcer.datapath.libbpf import AttachType
from enforcer.datapath.pins import SOURCE_DIR
from enforcer.net import ack_queues
from enforcer.net.namespaces import in_namespace
from enforcer.net.rtnetlink import Netlink
from tests.kernel.shaping import sent_windows

_HOOKS: Final = {
    "podpace_ingress": AttachType.INGRESS,
    "podpace_egress": AttachType.EGRESS,
    "podpace_sockops": AttachType.SOCK_OPS,
}
_TRAFFIC_BYTES: Final = 30_000
_TRAFFIC_TIMEOUT_SECONDS: Final = 20
_POLL_SECONDS: Final = 0.02
_RECEIVER: Final = """
import socket, sys
address, port, clamp, buffer = sys.argv[1], *map(int, sys.argv[2:])
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if clamp:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, clamp)
    s.bind((address, port))
    s.listen()
    print("ready", flush=True)
    connection, _ = s.accept()
    print("accepted", flush=True)
    while connection.recv(65536):
        pass
"""
_SENDER: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
    sys.stdin.readline()
    while True:
        s.send(bytes(65536))
"""
_PORT: Final = 5999

Programs = dict[str, int]


@functools.cache
def _compiled() -> tuple[object, Programs]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Debian's bcc is older than this Python
        return compiler.load(SOURCE_DIR)


def load() -> Programs:
    """The programs' and maps' file descriptors; they live as long as this process."""
    return _compiled()[1]


@dataclass(frozen=True)
class Paced:
    """A rig's pod under a limit."""

    rig: Rig
    cgroup_id: int
    programs: Programs

    def state(self) -> abi.PodState:
        """Its record."""
        value = libbpf.map_lookup(
            self.programs["target_state"],
            abi.map_key(self.cgroup_id),
            abi.STATE_BYTES,
            locked=True,
        )
        assert value is not None
        return abi.decode_state(value)

    def wait_for_traffic(self) -> None:
        """Until more came in than a control connection."""
        end = time.monotonic() + _TRAFFIC_TIMEOUT_SECONDS
        while self.state().ingress.passed_bytes < _TRAFFIC_BYTES:
            assert time.monotonic() < end, "no traffic comes in"
            time.sleep(_POLL_SECONDS)

    def sent_again(self) -> Callable[[], int]:
        """Segments that the peer's TCP has sent once more since this call."""
        before = self._sent_again()
        return lambda: self._sent_again() - before

    def _sent_again(self) -> int:
        lines = self.rig.peer.run("cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("RetransSegs")])

    def largest_window_of(
        self, *, clamp_bytes: int, seconds: float, after_seconds: float = 0
    ) -> int:
        """The largest window that a receiver in the pod told a greedy sender."""
        largest = 0
        with connection(self.rig, clamp_bytes=clamp_bytes) as send:
            send()
            start = now = time.monotonic()
            while now < start + seconds:
                told = sent_windows(self.rig, _PORT, "dport")
                if now >= start + after_seconds:
                    largest = max(largest, *told, 0)
                now = time.monotonic()
        return largest


@contextmanager
def connection(
    rig: Rig, *, clamp_bytes: int = 0, buffer_bytes: int = 0
) -> Iterator[Callable[[], None]]:
    """A connection to the pod whose receiver has asked for so much; a call makes the peer send."""
    address, python = rig.address(rig.pod, 4), [sys.executable, "-I", "-S", "-c"]
    asked = (address, str(_PORT), str(clamp_bytes), str(buffer_bytes))
    receiver = rig.pod.command(*python, _RECEIVER, *asked)
    sender = rig.peer.command(*python, _SENDER, address, str(_PORT))
    with running(receiver, stdout=-1) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "ready\n"
        with running(sender, stdin=-1) as sending:
            assert sending.stdin is not None
            assert listening.stdout.readline() == "accepted\n"

            def send() -> None:
                assert sending.stdin is not None
                sending.stdin.write("go\n")
                sending.stdin.flush()

            yield send


def put_queues() -> None:
    """On every interface of this thread's namespace."""
    with Netlink() as netlink:
        for ifindex in ack_queues.interfaces(netlink):
            ack_queues.put(netlink, ifindex)
            assert ack_queues.are_there(netlink, ifindex)


@contextmanager
def paced(programs: Programs, rig: Rig, bits_per_sec: int) -> Iterator[Paced]:
    """Limits what comes in for as long as the block runs; the rig takes all of it away."""
    in_namespace(f"/run/netns/{rig.pod.namespace}", put_queues)
    cgroup = os.open(rig.cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        cgroup_id = os.fstat(cgroup).st_ino
        key = abi.map_key(cgroup_id)
        for name, hook in _HOOKS.items():
            libbpf.attach(programs[name], cgroup, hook)
        libbpf.map_update(programs["target_state"], key, bytes(abi.STATE_BYTES), locked=True)
        limits = Limits(ingress=make_limit(bits_per_sec))
        record = abi.encode_limits(cgroup_id, limits, egress_fq=True, ingress_ack=True)
        libbpf.map_update(programs["target_limits"], key, record * libbpf.possible_cpus())
        yield Paced(rig, cgroup_id, programs)
    finally:
        os.close(cgroup)
