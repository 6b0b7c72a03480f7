"""Keep the kernel from patching itself while packets pass: programs that do nothing, on a cgroup.

The first program on a hook, and the end of the last, switch the hook on and off in the kernel's
text. An emulated processor that runs there meanwhile takes what is half written for a fault: seen
on 6.12 and later, with QEMU 7.2 and 11, as a panic ("int3") in ip_finish_output.
"""

import ctypes
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/vm")
CGROUP_SKB, SOCK_OPS = 8, 13
INGRESS, EGRESS, CONNECTIONS = 0, 1, 3
ALLOW = bytes.fromhex("b7000000010000009500000000000000")
"""r0 = 1; exit"""

libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
CGROUP.mkdir()
cgroup = os.open(CGROUP, os.O_RDONLY)
for kind, hook in ((CGROUP_SKB, INGRESS), (CGROUP_SKB, EGRESS), (SOCK_OPS, CONNECTIONS)):
    program = libbpf.bpf_prog_load(kind, b"vm", b"GPL", ALLOW, len(ALLOW) // 8, None)
    if program < 0 or libbpf.bpf_prog_attach(program, cgroup, hook, 0) < 0:
        raise OSError(ctypes.get_errno(), "holding a hook")
