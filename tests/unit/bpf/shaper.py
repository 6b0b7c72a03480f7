"""bpf/aqm.h and bpf/sent.h through ctypes, in simulated time."""

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from enforcer.datapath import shaper_abi

SOURCE = Path(__file__).with_name("shaper.c")
HEADERS = Path(__file__).parents[3] / "bpf"
SPARSE, BULK, MARK, SIGNAL, DROP = range(5)
MSEC = 10**6
SEC = 10**9
START = 3600 * SEC
FRAME = 1514
RATE = 10_000_000 // 8


def declared(structure: str) -> list[tuple[str, type]]:
    """The numbers of a structure of bpf/shape.h, in order."""
    body = (HEADERS / "shape.h").read_text().split(f"struct {structure} {{")[1].split("};")[0]
    kinds = {
        "u64": ctypes.c_uint64,
        "u32": ctypes.c_uint32,
        "struct bpf_spin_lock": ctypes.c_uint32,
    }
    found = re.findall(r"^\s*(u64|u32|struct bpf_spin_lock) (\w+);", body, re.MULTILINE)
    return [(name, kinds[kind]) for kind, name in found]


class Link(ctypes.Structure):
    """struct link."""

    _fields_ = declared("link")


class Shaper(ctypes.Structure):
    """struct shaper."""

    _fields_ = declared("shaper")


class Flow(ctypes.Structure):
    """struct shaped_flow."""

    _fields_ = declared("shaped_flow")


def link_of(rate: int = RATE, burst_ns: int = 20 * MSEC) -> Link:
    """As user space writes it."""
    record = shaper_abi.LinkRecord(1, rate, burst_ns, 0, 0, 0, rate, 1514, 0, 2, 3, 1)
    return Link.from_buffer_copy(shaper_abi.encode_link(record))


@dataclass
class Target:
    """One shaper with a busy past: no credit is left."""

    c: ctypes.CDLL
    link: Link
    shaper: Shaper
    now: int = START

    def send(self, flow: Flow, frame_bytes: int = FRAME, *, tcp: bool = True) -> int:
        """One packet now; a signal is obeyed by dropping it, as without ECN."""
        if self.c.take_far(self.shaper, self.link, frame_bytes):
            return SPARSE
        verdict = self.c.admit(self.shaper, flow, self.link, frame_bytes, int(tcp), self.now)
        if verdict == SIGNAL:
            self.c.take_back(self.shaper, self.link, frame_bytes)
            self.c.signalled(self.shaper, flow, self.now)
        return verdict

    @property
    def delay_ns(self) -> int:
        """What waits."""
        return max(0, self.shaper.departs_at_ns - self.now)


def fill(target: Target, flow: Flow, until_ns: int) -> None:
    """Queue frames of a flow that nothing stops."""
    while target.delay_ns < until_ns:
        target.c.admit(target.shaper, flow, target.link, FRAME, 1, target.now)
