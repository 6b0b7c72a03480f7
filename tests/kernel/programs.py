"""The limiter programs, loaded for BPF_PROG_TEST_RUN.

A test run has no cgroup, so the programs are compiled to find their records in two arrays.
"""

import ctypes
import functools
import os
import re
import socket
import struct
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from contract.limits import Limits
from contract.names import Direction
from enforcer.datapath import abi, compiler, exempt, libbpf, state_abi
from enforcer.datapath.pins import SOURCE_DIR
from tests.kernel import flows
from tests.kernel.cases import RATE
from tests.kernel.packets import ETHERNET_BYTES
from tests.needs import missing

PASS: Final = 1
DROP: Final = 0
DROP_WITH_CONGESTION_NOTICE: Final = 2
LOOPBACK_IFINDEX: Final = 1
CGROUP_ID: Final = 0x1_0000_0002
_ETHER_TYPES: Final = {4: (0x0800, 20), 6: (0x86DD, 40)}
_ETHER_TYPE_EXPERIMENTAL: Final = 0x88B5
_CONTEXT_BYTES: Final = 192
"""sizeof(struct __sk_buff) up to hwtstamp."""
_IFINDEX: Final = struct.Struct("=40xI")
_RECEIPT: Final = struct.Struct("=II")
_TSTAMP: Final = struct.Struct("=152xQ")
_SEGMENTS: Final = struct.Struct("=164xI")
_HOUR_NS: Final = 3600 * abi.NSEC_PER_SEC
_FIRST: Final = bytes(4)


class _Options(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_char_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


Receipt = tuple[int, int]
"""What TCP has received: the next byte it expects; and its path's round trip in us."""


@dataclass(frozen=True)
class Outcome:
    """What a program did with a packet."""

    verdict: int
    packet: bytes
    departs_at_ns: int
    """0: at once."""
    before: state_abi.PodState
    after: state_abi.PodState
    flow: flows.Flow

    def changed(self, direction: Direction) -> dict[str, int]:
        """The fields of one direction that differ, with by how much, as at the next look."""
        was, now = (
            gathered(getattr(state, direction.value)) for state in (self.before, self.after)
        )
        changes = {name: getattr(now, name) - getattr(was, name) for name in was.__slots__}
        return {name: change for name, change in changes.items() if change}


class Programs:
    """The loaded programs and their records."""

    def __init__(self) -> None:
        self.module, self.fds = compiler.load(SOURCE_DIR, "-DPODPACE_TEST_RUN")
        # Loaded once more as the type that can be test run on every kernel: see bpf/packet.h.
        for name in (f"podpace_{direction.value}" for direction in Direction):
            del self.module.funcs[name.encode()]
            self.fds[name] = self.module.load_func(name, self.module.SCHED_CLS).fd
        self._limits_fd = self.module[b"test_limits"].map_fd
        self._state_fd = self.module[b"test_state"].map_fd
        self._flow_fd = self.module[b"test_flow"].map_fd
        self._receipt_fd = self.module[b"test_receipt"].map_fd
        self._run = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_prog_test_run_opts
        self._ifindex = other_interface()

    def run(
        self,
        direction: Direction,
        packet: bytes,
        limits: Limits,
        state: state_abi.PodState,
        *,
        ingress_shaped: bool = False,
        mtu_bytes: int = abi.STANDARD_MTU,
        flow: flows.Flow | None = None,
        receipt: Receipt | None = None,
        segments: int = 0,
        ifindex: int | None = None,
        repeat: int = 1,
        at_once: int = 1,
    ) -> Outcome:
        """Write both records, hand the program a packet, and read the state after.

        ``at_once`` threads do so side by side, on a processor each as far as there are; what is
        told of the packet is the last one's.
        """
        record = abi.encode_limits(
            CGROUP_ID, limits, ingress_shaped=ingress_shaped, mtu_bytes=mtu_bytes
        )
        libbpf.map_update(self._limits_fd, _FIRST, record)
        libbpf.map_update(self._state_fd, _FIRST, state_abi.encode_state(state))
        libbpf.map_update(self._flow_fd, _FIRST, flows.encode_flow(flow or flows.Flow()))
        libbpf.map_update(self._receipt_fd, _FIRST, _RECEIPT.pack(*(receipt or (0, 0))))
        frame = bytes(ETHERNET_BYTES - 2) + ether_type(packet).to_bytes(2, "big") + packet
        context = bytearray(_CONTEXT_BYTES)
        context[: _IFINDEX.size] = _IFINDEX.pack(self._ifindex if ifindex is None else ifindex)
        context[_SEGMENTS.size - 4 : _SEGMENTS.size] = segments.to_bytes(4, "little")
        run = functools.partial(
            self._run_once, self.fds[f"podpace_{direction.value}"], frame, bytes(context)
        )
        processors = sorted(os.sched_getaffinity(0))
        places = [{processors[number % len(processors)]} for number in range(at_once)]
        start = threading.Barrier(at_once)

        def run_at(place: set[int]) -> tuple[int, bytes, bytes]:
            if at_once > 1:
                os.sched_setaffinity(0, place)
            start.wait()
            return run(repeat)

        with ThreadPoolExecutor(at_once) as threads:
            *_, (verdict, packet_after, context_after) = threads.map(run_at, places)
        value = libbpf.map_lookup(self._state_fd, _FIRST, state_abi.STATE_BYTES)
        flow_after = libbpf.map_lookup(self._flow_fd, _FIRST, flows.FLOW_BYTES)
        assert value is not None
        assert flow_after is not None
        return Outcome(
            verdict,
            packet_after,
            _TSTAMP.unpack_from(context_after)[0],
            state,
            state_abi.decode_state(value),
            flows.decode_flow(flow_after),
        )

    def _run_once(
        self, program_fd: int, frame: bytes, context: bytes, repeat: int
    ) -> tuple[int, bytes, bytes]:
        """Verdict, packet and context of the last of ``repeat`` runs."""
        out = ctypes.create_string_buffer(len(frame))
        context_out = ctypes.create_string_buffer(_CONTEXT_BYTES)
        options = _Options(
            sz=ctypes.sizeof(_Options),
            data_in=frame,
            data_out=ctypes.addressof(out),
            data_size_in=len(frame),
            data_size_out=len(frame),
            ctx_in=context,
            ctx_out=ctypes.addressof(context_out),
            ctx_size_in=_CONTEXT_BYTES,
            ctx_size_out=_CONTEXT_BYTES,
            repeat=repeat,
        )
        if self._run(program_fd, ctypes.byref(options)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "test run")
        return options.retval, out.raw[ETHERNET_BYTES:], context_out.raw

    def set_exempt(self, *entries: tuple[int, str]) -> None:
        """Make these (list, CIDR) the only ones."""
        map_fd = self.fds["exempt_networks"]
        for key in list(libbpf.map_keys(map_fd, exempt.KEY_BYTES)):
            libbpf.map_delete(map_fd, key)
        for list_id, cidr in entries:
            libbpf.map_update(map_fd, exempt.encode(list_id, cidr), b"\1\0\0\0")

    def told(self) -> bool:
        """Whether the daemon has been told of the target's sockets since the last call."""
        map_fd, key = self.fds["earlier_sockets"], abi.map_key(CGROUP_ID)
        noted = list(libbpf.map_keys(map_fd, abi.CGROUP_ID_BYTES))
        assert noted in ([], [key])
        if noted:
            libbpf.map_delete(map_fd, key)
        return bool(noted)


def gathered(side: state_abi.DirectionState) -> state_abi.DirectionState:
    """What was taken from a grant, charged and counted."""
    return replace(
        side,
        granted_bytes=0,
        taken_bytes=0,
        taken_packets=0,
        tokens_bytes=side.tokens_bytes - side.taken_bytes,
        epoch_bytes=side.epoch_bytes + side.taken_bytes,
        passed_bytes=side.passed_bytes + side.taken_bytes,
        passed_packets=side.passed_packets + side.taken_packets,
    )


@functools.cache
def load() -> Programs:
    """Compile and load once for all tests; where that cannot be, skips or fails."""
    if os.geteuid() != 0:
        missing("needs root: run the tests with sudo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Debian's bcc is older than this Python
        try:
            import bcc  # noqa: F401
        except ImportError:
            missing("needs bcc; run: apt-get install python3-bpfcc")
        return Programs()


def other_interface() -> int:
    """Any interface but loopback."""
    others = [number for number, _name in socket.if_nameindex() if number != LOOPBACK_IFINDEX]
    if not others:
        missing("needs a network interface besides lo; run: ip link add type veth")
    return others[0]


def ether_type(packet: bytes) -> int:
    """IP's, or one for experiments where newer kernels would refuse to call it IP."""
    number, least_bytes = _ETHER_TYPES.get(packet[0] >> 4, (_ETHER_TYPE_EXPERIMENTAL, 0))
    return number if len(packet) >= least_bytes else _ETHER_TYPE_EXPERIMENTAL


def constant(name: str) -> int:
    """A number that the programs keep to themselves."""
    for path in sorted(SOURCE_DIR.glob("*.[ch]")):
        if found := re.search(
            rf"^#define {name} +(\d+)U?L*(?: +/\*.*)?$", path.read_text(), re.MULTILINE
        ):
            return int(found[1])
    raise LookupError(name)


def blank_state() -> state_abi.PodState:
    """A record as attach writes it."""
    return state_abi.decode_state(bytes(state_abi.STATE_BYTES))


def still_state(
    direction: Direction, tokens_bytes: int, rate_bytes_per_sec: int = RATE
) -> state_abi.PodState:
    """So much credit, and no time that passes: its clock is ahead, which counts as none."""
    later_ns = time.monotonic_ns() + _HOUR_NS
    return with_fields(
        blank_state(),
        direction,
        tokens_bytes=tokens_bytes,
        refilled_at_ns=later_ns,
        epoch_started_at_ns=later_ns,
        epoch_length_ns=_HOUR_NS,
        epoch_enough_bytes=2**62,
        epoch_rate_bytes_per_sec=rate_bytes_per_sec,
    )


def with_fields(
    state: state_abi.PodState, direction: Direction, **fields: int
) -> state_abi.PodState:
    """The state with some fields of one direction replaced."""
    name = direction.value
    return replace(state, **{name: replace(getattr(state, name), **fields)})
