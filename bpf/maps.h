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

/* (cgroup id, CIDR) -> 1. User space writes; the programs read. */
BPF_F_TABLE("lpm_trie", struct exempt_key, u32, exempt_cidrs, 16384, BPF_F_NO_PREALLOC);

/* [0]: how often a socket older than its limit sent something at another pace than its share.
 * The programs count; the daemon sees it move and paces those sockets from outside. */
BPF_ARRAY(earlier_sockets, u64, 1);

/* [0]: the cgroup id whose sockets the iterator lets go; 0 to pace. User space writes. */
BPF_ARRAY(iterator_release, u64, 1);

#endif
