/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the shaper and user space share. enforcer/datapath/shaper_abi.py is user space's view;
 * tests/kernel/test_layout.py compares the two.
 */
#ifndef PODPACE_SHAPE_H
#define PODPACE_SHAPE_H

/* link.flags */
#define LINK_OWN_CLSACT 2 /* these two for user space to read back: clsact there is ours, ... */
#define LINK_OLD_QUEUES 4 /* ... queues of an older version may be at its other end */

/* One interface of a target. Written by user space, but for what is said below. All zero: pass. */
struct link {
    /* All that a packet touches that the target's own sockets send, in one cache line. */
    u64 cgroup_id;               /* whose traffic this is */
    u64 exempt_list;             /* of exempt_networks; 0: none */
    u64 sent_rate_bytes_per_sec; /* of what it sends beside its own sockets; 0: not bounded */
    u64 own_bytes;               /* what those sent; this and the next two the program writes */
    u64 own_charged_bytes;       /* of it, to the shaper's clock */
    u32 cgroup_level;            /* of the target, found by its first packet */
    u32 flags;
    u64 sent_burst_ns;

    u64 rate_bytes_per_sec; /* of what it receives, now; 0: not shaped */
    u64 burst_ns;           /* credit after idleness, as time at the rate */
    /* Time for bytes: bytes * multiplier >> shift. */
    u64 cost_multiplier;
    u64 cost_shift;
    u64 limit_bytes_per_sec; /* of what it receives at most; for user space to read back */
    u32 full_frame_bytes;    /* what the interface's MTU lets be, headers included */
    u32 sparse_class;        /* of HTB, which stands behind the program: skb->priority names it */
    u32 bulk_class;
    u32 direct_class; /* what is exempt */
};

/* One per target, whatever the number of its interfaces. Made by user space, written by the
 * program. */
struct shaper {
    struct bpf_spin_lock lock;
    u32 reserved;
    u64 uncharged_ns; /* time at the limit that has passed without a look at the clocks below */
    u64 may_pass_ns;  /* how much of it may */
    u64 passed_bytes;
    u64 passed_packets;
    u64 sparse_packets; /* of the passed */

    u64 rate_bytes_per_sec; /* of the limit that the clocks count by */
    u64 departs_at_ns;      /* when all that was let through has left, at the limit */
    u64 bulk_departs_at_ns; /* the same for the queue alone, which makes up for lost time slowly */
    u64 sparse_until_ns;    /* the same for what passed the backlog */
    u64 window_started_at_ns;
    u64 window; /* number of the running window */
    u64 window_flows;
    u64 active_flows; /* in the window before */
    u64 delay_ns;     /* that the last packet met */
    u64 seen_at_ns;   /* the last packet */
    u64 limited_ns;   /* time with a backlog */
    u64 dropped_bytes;
    u64 dropped_packets;
    u64 marked_packets;

    /* What the target sends past its own sockets. */
    u64 sent_until_ns;   /* when that and what those sent would have left at the bound */
    u64 sent_past_bytes; /* dropped packets too */
    u64 sent_dropped_bytes;
    u64 sent_dropped_packets;
};

struct shaped_flow_key {
    u64 cgroup_id;
    u32 hash;
    u32 reserved;
};

/* One per flow, the oldest are forgotten first. Written under the shaper's lock. */
struct shaped_flow {
    u64 own_until_ns;  /* when what it sent would have left, at its fair share */
    u64 bulk_until_ns; /* when its last queued packet has left */
    u64 next_signal_at_ns;
    u64 signals; /* in a row */
    u64 window;  /* the last in which it sent data */
};

#endif
