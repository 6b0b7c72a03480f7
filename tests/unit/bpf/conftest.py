"""The arithmetic, compiled once."""

import ctypes
import shutil
import subprocess

import pytest

from tests.needs import missing
from tests.unit.bpf.arithmetic import Arithmetic, build
from tests.unit.bpf.shaper import (
    HEADERS,
    SOURCE,
    START,
    Flow,
    Link,
    Shaper,
    Target,
    link_of,
)


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Arithmetic:
    """bpf/bucket.h and bpf/controller.h."""
    return build(tmp_path_factory.mktemp("arithmetic"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compiled once."""
    if shutil.which("cc") is None:
        missing("needs a C compiler; run: apt-get install gcc libc6-dev")
    built = tmp_path_factory.mktemp("aqm") / "aqm.so"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{HEADERS}", "-o", built, SOURCE], check=True)
    c = ctypes.CDLL(str(built))
    u32, u64 = ctypes.c_uint32, ctypes.c_uint64
    shaper, flow, link = (ctypes.POINTER(kind) for kind in (Shaper, Flow, Link))
    c.admit.argtypes = (shaper, flow, link, u32, ctypes.c_int, u64)
    c.take_far.argtypes = (shaper, link, u32)
    c.cost_ns.argtypes = (link, u32)
    c.cost_ns.restype = u64
    c.sent_late.argtypes = (shaper, link, u32, u64)
    c.take_back.argtypes = (shaper, link, u32)
    c.take_back.restype = None
    c.signalled.argtypes = (shaper, flow, u64)
    c.signalled.restype = None
    sizes = {"link": Link, "shaper": Shaper, "flow": Flow}
    for name, kind in sizes.items():
        assert u64.in_dll(c, f"{name}_size").value == ctypes.sizeof(kind)
    return c


@pytest.fixture
def target(library: ctypes.CDLL) -> Target:
    """At 10 Mbit/s."""
    return Target(library, link_of(), Shaper(departs_at_ns=START, seen_at_ns=START))
