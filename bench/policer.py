"""The plain dropping token bucket that Podpace is compared with, in a process of its own.

    policer.py CGROUP ingress|egress RATE_BYTES_PER_SEC

Attaches, prints ``ready``, takes a new rate per line on standard input, and detaches at its end.
With rate 0 a program that does nothing is attached instead: what one costs at least.
A process, because bcc and LLVM stay in memory.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

from bcc import BPF

from enforcer.datapath.headers import write_tree

PROGRAM = r"""
#include <uapi/linux/bpf.h>
#include <linux/if_ether.h>

/* What a frame has in front of its TCP payload: Ethernet, IP, TCP with timestamps. */
#define HEADERS_V4_BYTES 66
#define HEADERS_V6_BYTES 86

struct bucket {
    u64 rate_bytes_per_sec;
    s64 burst_bytes;
    s64 tokens_bytes;
    u64 filled_at_ns;
    struct bpf_spin_lock lock;
    u32 padding;
};
BPF_ARRAY(buckets, struct bucket, 1);

static inline __attribute__((always_inline)) int passes(struct __sk_buff *skb)
{
    u32 zero = 0;
    struct bucket *bucket = buckets.lookup(&zero);
    if (!bucket || skb->ifindex == 1)
        return 1;
    u64 frame_bytes = skb->len + ETH_HLEN;
    if (skb->gso_segs > 1)
        frame_bytes += (u64)(skb->gso_segs - 1) *
            (skb->protocol == __builtin_bswap16(ETH_P_IPV6) ? HEADERS_V6_BYTES : HEADERS_V4_BYTES);
    u64 now_ns = bpf_ktime_get_ns();
    bpf_spin_lock(&bucket->lock);
    u64 passed_ns = now_ns - bucket->filled_at_ns;
    if (passed_ns > 1000000000ULL)
        passed_ns = 1000000000ULL;
    bucket->filled_at_ns = now_ns;
    bucket->tokens_bytes += passed_ns * bucket->rate_bytes_per_sec / 1000000000ULL;
    if (bucket->tokens_bytes > bucket->burst_bytes)
        bucket->tokens_bytes = bucket->burst_bytes;
    int enough = bucket->tokens_bytes > 0;
    if (enough)
        bucket->tokens_bytes -= frame_bytes;
    bpf_spin_unlock(&bucket->lock);
    return enough;
}

int ingress(struct __sk_buff *skb) { return passes(skb); }

/* 2 is a drop that TCP sees as congestion and UDP does not see as EPERM. */
int egress(struct __sk_buff *skb) { return passes(skb) ? 1 : 2; }

int nothing(struct __sk_buff *skb) { return 1; }
"""
ATTACH_TYPE = {"ingress": 0, "egress": 1}
ALLOW_MULTI = 2
MIN_BURST_BYTES = 65536


def main(cgroup: str, direction: str, rate: int) -> None:
    """Polices one direction of one cgroup until standard input ends."""
    attach_type = ATTACH_TYPE[direction]
    with tempfile.TemporaryDirectory() as directory_name:
        os.environ["BCC_KERNEL_SOURCE"] = directory_name
        bpf = BPF(text=PROGRAM, cflags=list(write_tree(Path(directory_name))))
    function = direction if rate else "nothing"
    program = bpf.load_func(function, BPF.CGROUP_SKB, attach_type=attach_type)
    buckets = bpf["buckets"]

    def set_rate(rate_bytes_per_sec: int) -> None:
        bucket = buckets.Leaf()
        bucket.rate_bytes_per_sec = rate_bytes_per_sec
        bucket.burst_bytes = max(rate_bytes_per_sec // 50, MIN_BURST_BYTES)
        bucket.tokens_bytes = bucket.burst_bytes
        buckets[ctypes.c_int(0)] = bucket

    set_rate(rate)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    bpf.attach_func(program, directory, attach_type, ALLOW_MULTI)
    try:
        print("ready", flush=True)
        for line in sys.stdin:
            set_rate(int(line))
            print("ready", flush=True)
    finally:
        if Path(cgroup).exists():
            bpf.detach_func(program, directory, attach_type)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
