/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the programs and user space share: records, constants, names of counters.
 * enforcer/datapath/abi.py is user space's view; tests/kernel/test_layout.py compares the two.
 * A change here is a new ABI: raise ABI_VERSION in abi.py.
 */
#ifndef PODPACE_LIMIT_H
#define PODPACE_LIMIT_H

#define NSEC_PER_SEC 1000000000ULL

/* What few packets meet is put behind what most do: a program that runs once in a millisecond finds
 * nothing of itself in the cache, and each line counts. */
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* limits.mode */
#define MODE_ENFORCE 0
#define MODE_OBSERVE 1

/* limits.flags */
#define FLAG_INGRESS_SHAPED 4  /* a queue holds what comes in; ingress bounds what passes it by */
#define FLAG_HANDOVER       8  /* sockets are still as older programs set them: leave them alone */
#define FLAG_SHARES         16 /* of a total, or of the node's link: it may be given more */

/* flow.heard, flow.acks_heard after each call of sock_ops. The kernel calls it at each round trip
 * in which a socket sent, and for each ACK; unless another program has taken our flags off. */
#define HEARD_WINDOWS 3
#define HEARD_ACKS    64

/* One direction's limit, with what follows from it, so that no packet pays for a division.
 * rate 0: not limited. */
struct direction_limit {
    u64 rate_bytes_per_sec;
    u64 frame_bytes; /* of a full frame on the target's link */
    u64 burst_bytes; /* credit after idleness */
    u64 debt_bytes;  /* how far below zero the credit may go before packets are dropped */
    /* Credit for a time: ns * multiplier >> shift. The multiplier is below 2^33. */
    u64 credit_multiplier;
    u64 credit_shift;
    u64 epoch_ns;        /* how often the share is computed */
    u64 bits_per_second; /* as the user said it; these two are for user space to read back */
    u64 burst_bits;
};

/* Written by user space only, one copy per CPU, in cgroup storage. All zero: not limited, pass. */
struct limits {
    u64 cgroup_id;
    u64 exempt_list; /* of exempt_networks; 0: none */
    u64 local_list;  /* the same of what does not leave the node, which is counted apart */
    u32 mode;
    u32 flags;
    u64 current_until_ns; /* these hold until then, by CLOCK_MONOTONIC; 0: for good ... */
    struct direction_limit ingress;
    struct direction_limit egress;
    struct direction_limit ingress_later; /* ... and then these (sharing.h) */
    struct direction_limit egress_later;
};

/* One direction's bucket, share controller and counters; written by the programs only. */
struct direction_state {
    /* What every packet touches fits one cache line; the next has what a look at the clock needs.
     */
    s64 tokens_bytes;             /* as of the last look; below zero: debt */
    u64 granted_bytes;            /* may pass until somebody has to look again */
    u64 taken_bytes;              /* of them; these two are in no other count yet */
    u64 taken_packets;            /* ... */
    u64 epoch_rate_bytes_per_sec; /* of the limit, when the epoch was planned */
    u64 refilled_at_ns;
    u64 epoch_started_at_ns;
    u64 epoch_length_ns;

    u64 epoch_bytes;
    u64 epoch_enough_bytes; /* end it early */
    u64 passed_bytes;
    u64 passed_packets;
    u64 epoch;               /* number of the running epoch */
    u64 window_flows;        /* distinct flows seen in the running window of epochs */
    u64 stray_window;        /* last window with a flow that sock_ops does not pace, + 1 */
    u64 share_bytes_per_sec; /* what one greedy flow may send */

    u64 active_flows;    /* distinct flows in the window before */
    u64 greedy_flows_q8; /* flows that would use a larger share, in 1/256 */
    u64 dropped_at_ns;   /* last refused TCP segment */
    u64 dropped_bytes;
    u64 dropped_packets;
    u64 marked_packets;
    u64 limited_ns;  /* time in epochs that used the limit up */
    u64 local_bytes; /* of those that passed, to or from the node itself; dropped ones, too */
};

/* One per target, in cgroup storage shared by its programs. */
struct pod_state {
    struct bpf_spin_lock lock;
    u32 reserved;
    u64 rtt_ns; /* a slow maximum over the target's connections: how long a new share takes to
                   arrive */
    u64 multicast_packet;  /* the last one that was counted: where it lies ... */
    u64 multicast_at_ns;   /* ... when it was seen last ... */
    u64 multicast_refused; /* ... and whether it was refused, as its copies are */
    u64 reserved_line;     /* the kernel puts 16 bytes before this record: lines begin here */
    struct direction_state ingress;
    struct direction_state egress;
};

/* One per socket, freed with it. Of limits that are nested, the one that holds it tightest paces
 * what it sends, and so for what it receives. */
struct flow {
    /* What it sends. */
    u64 paced_by;             /* cgroup id of that limit; 0: none */
    u64 share_bytes_per_sec;  /* its share, when the socket was last paced, or the daemon told of it
                               */
    u64 window;               /* last window of that limit in which it sent data, + 1 */
    u64 outer_window;         /* the same of another limit */
    u32 pacing_bytes_per_sec; /* what was last set; ~0 is the kernel's "not paced"; 0: not known yet
                               */
    u32 app_pacing_bytes_per_sec; /* what the application has asked for itself; 0: nothing */
    u32 cwnd_clamp;
    u32 pace_passed_over; /* how often other limits have left it to that one since it was last seen
                           */

    /* What it receives, where windows keep the queue short that holds it. */
    u64 bounded_by;                 /* the limit that bounds its window; 0: none */
    u64 window_share_bytes_per_sec; /* its share, then */
    u64 received_window;            /* last window in which it received data, + 1 */
    u64 outer_received_window;
    u64 window_received;      /* bytes received when its receive window was last looked at */
    u32 window_bytes;         /* its bound; 0: never bounded */
    u32 app_window_bytes;     /* what the application has asked for itself; 0: nothing known */
    u32 receive_buffer_bytes; /* the socket's, then */
    u32 window_passed_over;

    u32 acked_sequence; /* where sock_ops is not called for it: what its last ACK acknowledged */
    u32 heard;       /* for so many more windows it counts as one that sock_ops is called for ... */
    u32 acks_heard;  /* ... and for so many more ACKs */
    u32 on_loopback; /* its packets leave nobody's limit */
};

/* Names a connection, for as long as one packet of it is dealt with. */
struct arrival {
    u32 remote_address; /* the last word of it; these two in network order */
    u32 remote_port;
    u32 local_port;
};

/* A network of a list. Families are apart: ::/0 holds no IPv4 address. */
struct exempt_key {
    u32 prefix_bits; /* of what follows: EXEMPT_LIST_BITS and the network's */
    u32 list_high;
    u32 list_low;
    u32 version;    /* 4 or 6 */
    u8 address[16]; /* of IPv4 the first four */
};
#define EXEMPT_LIST_BITS 96

static inline __attribute__((always_inline)) void exempt_key_start(struct exempt_key *key, u64 list,
                                                                   u32 version)
{
    key->prefix_bits = EXEMPT_LIST_BITS + (version == 4 ? 32 : 128);
    key->list_high = list >> 32;
    key->list_low = list;
    key->version = version;
}

#endif
