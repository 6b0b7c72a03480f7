"""bpf/bucket.h, controller.h, frames.h and held.h through ctypes."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

from contract.limits import Limits, make_limit
from enforcer.datapath import abi
from tests.needs import missing

SOURCE = Path(__file__).with_name("arithmetic.c")
HEADERS = Path(__file__).parents[3] / "bpf"
NSEC_PER_MSEC = 10**6
NSEC_PER_SEC = 10**9
START_NS = 3600 * NSEC_PER_SEC
"""Some time after boot."""


def declared(structure: str) -> list[str]:
    """The names of a structure's numbers, in the order of bpf/limit.h."""
    body = (HEADERS / "limit.h").read_text().split(f"struct {structure} {{")[1].split("};")[0]
    return re.findall(r"^\s*[su]64 (\w+);", body, re.MULTILINE)


class DirectionLimit(ctypes.Structure):
    """struct direction_limit."""

    _fields_ = [(name, ctypes.c_uint64) for name in declared("direction_limit")]


class DirectionState(ctypes.Structure):
    """struct direction_state."""

    _fields_ = [
        (name, ctypes.c_int64 if name == "tokens_bytes" else ctypes.c_uint64)
        for name in declared("direction_state")
    ]


class Arithmetic:
    """The functions and constants of the headers."""

    def __init__(self, library: Path) -> None:
        c = ctypes.CDLL(str(library))
        u64 = ctypes.c_uint64
        limit, state = ctypes.POINTER(DirectionLimit), ctypes.POINTER(DirectionState)
        self.refill = _function(c.refill, None, state, limit, u64)
        self.tick = _function(c.tick, None, state, limit, u64, u64)
        self.wanted = _function(c.wanted, u64, limit, ctypes.c_int64, u64)
        self.share = _function(c.share, u64, u64, u64)
        self.epoch_length = _function(c.epoch_length, u64, limit, u64, u64)
        u32 = ctypes.c_uint32
        self.rtt_us = _function(c.rtt_us, u64, u32)
        self.window_wanted = _function(c.window_wanted, u64, u64, u64, u32)
        self.cut_frames = _function(c.cut_frames, u32, u32, u32, u32, ctypes.c_int)
        self.tick_held = _function(c.tick_held, None, state, limit, u64)
        self.share_held = _function(c.share_held, u64, state, limit)
        self.window_next = _function(c.window_next, u64, u64, u64, u64)
        self.part_of = _function(c.part_of, ctypes.c_int, u32, u32)
        self.min_held_segments = _constant(c, "min_held_segments")
        self.max_share_of_limit = _constant(c, "max_share_of_limit")
        self.receive_slack_us = _constant(c, "receive_slack_us")
        self.unknown_rtt_us = _constant(c, "unknown_rtt_us")
        self.max_rtt_us = _constant(c, "max_rtt_us")
        self.max_window_bytes = _constant(c, "max_window_bytes")
        self.max_refill_ns = _constant(c, "max_refill_ns")
        self.min_share_bytes_per_sec = _constant(c, "min_share_bytes_per_sec")
        self.epochs_per_window = _constant(c, "epochs_per_window")
        self.q8 = _constant(c, "q8")
        self.silent_after_drop_ns = _constant(c, "silent_after_drop_ns")
        assert _constant(c, "limit_size") == ctypes.sizeof(DirectionLimit)
        assert _constant(c, "state_size") == ctypes.sizeof(DirectionState)


def _function(function, result, *arguments):
    function.restype, function.argtypes = result, arguments
    return function


def _constant(library: ctypes.CDLL, name: str) -> int:
    return ctypes.c_uint64.in_dll(library, name).value


def build(directory: Path) -> Arithmetic:
    """Compile in ``directory`` and load; where there is no C compiler, skips or fails."""
    if shutil.which("cc") is None:
        missing("needs a C compiler; run: apt-get install gcc libc6-dev")
    library = directory / "arithmetic.so"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{HEADERS}", "-o", library, SOURCE], check=True)
    return Arithmetic(library)


def limit_of(bits_per_second: int, burst_bits: int | None = None) -> DirectionLimit:
    """An egress limit as the daemon writes it."""
    record = abi.encode_limits(1, Limits(egress=make_limit(bits_per_second, burst_bits)))
    return DirectionLimit.from_buffer_copy(record[-ctypes.sizeof(DirectionLimit) :])


def held_limit_of(bits_per_second: int) -> DirectionLimit:
    """An ingress limit as the daemon writes it where a queue holds it."""
    limits = Limits(ingress=make_limit(bits_per_second))
    record = abi.encode_limits(1, limits, ingress_shaped=True)
    return DirectionLimit.from_buffer_copy(record[-2 * ctypes.sizeof(DirectionLimit) :])
