"""Plain departure times that Podpace is compared with, in a process of its own.

    edt.py PIN RATE_BYTES_PER_SEC

Pins the program for tc, prints ``ready`` and takes a new rate per line on standard input. As
Cilium's bandwidth manager does it: one clock, and what would depart more than two seconds from now
is dropped.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

from bcc import BPF

from enforcer.datapath.headers import write_tree
from enforcer.datapath.libbpf import obj_pin

PROGRAM = r"""
#include <uapi/linux/bpf.h>

#define HORIZON_NS 2000000000ULL
#define PASS       0
#define DROP       2

struct clock {
    u64 rate_bytes_per_sec;
    u64 next_ns;
};
BPF_ARRAY(clocks, struct clock, 1);

int edt(struct __sk_buff *skb)
{
    u32 zero = 0;
    struct clock *clock = clocks.lookup(&zero);
    if (!clock)
        return PASS;
    u64 now_ns = bpf_ktime_get_ns(), departs_ns = clock->next_ns;
    if (departs_ns < now_ns)
        departs_ns = now_ns;
    if (departs_ns - now_ns > HORIZON_NS)
        return DROP;
    clock->next_ns = departs_ns + (u64)skb->wire_len * 1000000000ULL / clock->rate_bytes_per_sec;
    skb->tstamp = departs_ns;
    return PASS;
}
"""


def main(pin: str, rate: int) -> None:
    """Holds the program until standard input ends."""
    with tempfile.TemporaryDirectory() as directory_name:
        os.environ["BCC_KERNEL_SOURCE"] = directory_name
        bpf = BPF(text=PROGRAM, cflags=list(write_tree(Path(directory_name))))
    clocks = bpf["clocks"]

    def set_rate(rate_bytes_per_sec: int) -> None:
        clock = clocks.Leaf()
        clock.rate_bytes_per_sec = rate_bytes_per_sec
        clocks[ctypes.c_int(0)] = clock

    set_rate(rate)
    obj_pin(bpf.load_func("edt", BPF.SCHED_CLS).fd, pin)
    print("ready", flush=True)
    for line in sys.stdin:
        set_rate(int(line))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
