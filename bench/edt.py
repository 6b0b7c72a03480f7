"""Plain departure times that Podpace is compared with, in a process of its own.

    edt.py PIN RATE_BYTES_PER_SEC IFINDEX

Pins the program for tc, prints ``ready`` and takes a new rate per line on standard input. As
Cilium's bandwidth manager does it (bpf/lib/edt.h): one clock for each target, found by a number in
a hash, and what would depart more than two seconds from now is dropped.
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

#define NSEC_PER_SEC 1000000000ULL
#define HORIZON_NS   2000000000ULL
#define PASS         0
#define DROP         2

struct clock {
    u64 rate_bytes_per_sec;
    u64 last_ns;
};
BPF_HASH(clocks, u32, struct clock, 65536);

int edt(struct __sk_buff *skb)
{
    u32 target = skb->ifindex;
    struct clock *clock = clocks.lookup(&target);
    u64 now_ns, departs_ns, next_ns;

    if (!clock)
        return PASS;
    now_ns = bpf_ktime_get_ns();
    departs_ns = skb->tstamp > now_ns ? skb->tstamp : now_ns;
    next_ns = clock->last_ns + (u64)skb->wire_len * NSEC_PER_SEC / clock->rate_bytes_per_sec;
    if (next_ns <= departs_ns) {
        clock->last_ns = departs_ns;
        return PASS;
    }
    if (next_ns - now_ns >= HORIZON_NS)
        return DROP;
    clock->last_ns = next_ns;
    skb->tstamp = next_ns;
    return PASS;
}
"""


def main(pin: str, rate: int, ifindex: int) -> None:
    """Holds the program until standard input ends."""
    with tempfile.TemporaryDirectory() as directory_name:
        os.environ["BCC_KERNEL_SOURCE"] = directory_name
        bpf = BPF(text=PROGRAM, cflags=list(write_tree(Path(directory_name))))
    clocks = bpf["clocks"]

    def set_rate(rate_bytes_per_sec: int) -> None:
        clock = clocks.Leaf()
        clock.rate_bytes_per_sec = rate_bytes_per_sec
        clocks[ctypes.c_uint32(ifindex)] = clock

    set_rate(rate)
    obj_pin(bpf.load_func("edt", BPF.SCHED_CLS).fd, pin)
    print("ready", flush=True)
    for line in sys.stdin:
        set_rate(int(line))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
