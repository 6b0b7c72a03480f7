/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Every map, with who writes and who reads it. Declarations only: accesses are in the
 * .bpf.c files (see limiter.bpf.c).
 */
#ifndef PODPACE_MAPS_H
#define PODPACE_MAPS_H

#include "limit.h"

/* bcc's own macro keys cgroup storage by cgroup and attach type; a plain u64 key is shared by all
 * programs on a cgroup (Linux 5.9). */
#define CGROUP_STORAGE(_name, _leaf, _section)                                                     \
    struct _name##_table_t {                                                                       \
        u64 key;                                                                                   \
        _leaf leaf;                                                                                \
        _leaf *(*lookup)(u64 *);                                                                   \
        int (*update)(u64 *, _leaf *);                                                             \
        int (*get_local_storage)(u64);                                                             \
    };                                                                                             \
    __attribute__((section("maps/" _section))) struct _name##_table_t _name;                       \
    BPF_ANNOTATE_KV_PAIR(_name, u64, _leaf)

/* cgroup id -> limits. User space writes; the programs read their CPU's copy. */
CGROUP_STORAGE(target_limits, struct limits, "percpu_cgroup_storage");

/* cgroup id -> bucket, share, counters. The programs write, under the lock; user space reads. */
CGROUP_STORAGE(target_state, struct pod_state, "cgroup_storage");

/* Socket -> what we know of the flow. The programs write; the iterator reads. */
BPF_SK_STORAGE(flows, struct flow);

/* (list, network) -> 1: each list once, however many targets use it. 64 networks for each of 4,096
 * targets. User space writes; the programs and the shaper read. */
BPF_F_TABLE("lpm_trie", struct exempt_key, u32, exempt_networks, 262144, BPF_F_NO_PREALLOC);
/* The shaper, compiled in the same process, finds it by its name. */
__attribute__((section("maps/export"))) struct exempt_networks_table_t __exempt_networks;

/* cgroup id -> 1 where a socket that sock_ops is not called for sends or receives at another pace
 * than its share. The programs write; the daemon takes them out, and looks after that target. */
BPF_F_TABLE("hash", u64, u32, earlier_sockets, 16384, BPF_F_NO_PREALLOC);

/* [0]: the connection that a listening socket has just been sent a packet of over loopback. Written
 * by ingress and read by sock_ops, which the kernel calls next on the same CPU. */
BPF_PERCPU_ARRAY(loopback_arrival, struct arrival, 1);

/* [0]: when somebody that shares, and that the daemon gives nothing yet, last used all it has. The
 * programs and the shaper write; the daemon looks ten times a second. */
BPF_ARRAY(sharing_wanted, u64, 1);
__attribute__((section("maps/export"))) struct sharing_wanted_table_t __sharing_wanted;

/* [0]: the cgroup id whose sockets the iterator lets go; 0 to pace. [1]: how many of them are left,
 * counted by the other iterator. User space writes. */
BPF_ARRAY(iterator_release, u64, 2);

#endif
