/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Sockets that sock_ops is not called for: those that were open before the limit came, and those
 * whose callback flags another program has taken off. Egress notes them for the daemon,
 * bpf_iter__tcp paces them, bounds their windows, and lets go of them.
 */
#include "bucket.h"
#include "controller.h"
#include "pacing.h"
#include "window.h"

/* The daemon looks for sockets at another pace ten times a second. */
#define DAEMON_FOLLOWS_NS 100000000ULL
#define SOCK_STREAM       1
/* In a busy epoch one ACK in eight is looked at. */
#define SAMPLED_ACKS 8

/* What TCP knows of what it has received. */
struct receipt {
    u32 sequence; /* the next byte it expects */
    u32 rtt_us;   /* of the path: the least it has seen; NO_RTT_SAMPLE */
};

#ifdef PODPACE_TEST_RUN
BPF_ARRAY(test_receipt, struct receipt, 1);
#endif

static inline __attribute__((always_inline)) void tell_daemon(u64 cgroup_id)
{
    u32 one = 1;

    if (!earlier_sockets.lookup(&cgroup_id))
        earlier_sockets.update(&cgroup_id, &one);
}

/* A packet of a flow is seen: counts the flow once in a window, in which sock_ops might have. */
static inline __attribute__((always_inline)) void
count_sender(struct flow *flow, const struct limits *limits, struct direction_state *out)
{
    if (!flow->paced_by)
        flow->paced_by = limits->cgroup_id;
    if (flow->paced_by != limits->cgroup_id)
        count_flow(out, &flow->outer_window);
    else if (count_flow(out, &flow->window) && flow->heard)
        flow->heard--;
}

/* A raw socket may send what looks like TCP, and can not be paced. */
static inline __attribute__((always_inline)) int is_tcp_socket(struct __sk_buff *skb)
{
#ifdef PODPACE_TEST_RUN
    return 1;
#else
    struct bpf_sock *sk = skb->sk;

    if (!sk)
        return 0;
    sk = bpf_sk_fullsock(sk);
    return sk && sk->type == SOCK_STREAM && sk->protocol == TCP;
#endif
}

/* A socket that sock_ops is not called for, sending at another pace than its share: tell the
 * daemon. It has to come by for each new share, and one that was raised can not be judged before.
 */
static inline __attribute__((always_inline)) void
note_earlier_sender(struct __sk_buff *skb, struct pod_state *state, struct flow *flow,
                    const struct limits *limits, u64 share)
{
    u64 known = flow->share_bytes_per_sec;

    if (limits->flags & FLAG_HANDOVER || !is_tcp_socket(skb))
        return;
    if (!is_tightest(&flow->paced_by, &flow->pace_passed_over, limits->cgroup_id, known, share) ||
        (known && share < known + known / 8 && share > known - known / 8))
        return;
    flow->share_bytes_per_sec = share;
    if (known && share > known && state->rtt_ns < DAEMON_FOLLOWS_NS)
        state->rtt_ns = DAEMON_FOLLOWS_NS;
    tell_daemon(limits->cgroup_id);
}

/* The flow that an ACK belongs to, and what it acknowledges. */
static inline __attribute__((always_inline)) struct flow *receiver_of(struct __sk_buff *skb,
                                                                      struct receipt *receipt)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;
    struct receipt *known = test_receipt.lookup(&zero);

    if (!known)
        return 0;
    *receipt = *known;
    return test_flow.lookup(&zero);
#else
    struct bpf_sock *sk = skb->sk;
    struct bpf_tcp_sock *tcp;

    if (!sk)
        return 0;
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return 0;
    tcp = bpf_tcp_sock(sk);
    if (!tcp)
        return 0;
    receipt->sequence = tcp->rcv_nxt;
    receipt->rtt_us = tcp->rtt_min;
    return flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
#endif
}

/* Where windows keep a queue short: a socket that sock_ops is not called for counts as a flow, too,
 * and its window is set from outside: the daemon is told of one that does not fit its share. Asked
 * of its ACKs. */
static inline __attribute__((always_inline)) void
note_earlier_receiver(struct __sk_buff *skb, struct limits *limits, struct pod_state *state)
{
    struct direction_state *in = &state->ingress;
    struct receipt receipt;
    struct flow *flow;
    u64 share, wanted, known;

    if (limits->flags & FLAG_HANDOVER || bucket_grants(in, ingress_of(limits)) ||
        (in->epoch_bytes >= QUIET_EPOCH_BYTES && bpf_get_prandom_u32() % SAMPLED_ACKS))
        return;
    flow = receiver_of(skb, &receipt);
    if (!flow || receipt.sequence == flow->acked_sequence)
        return;
    flow->acked_sequence = receipt.sequence;
    if (flow->acks_heard) {
        flow->acks_heard--;
        return;
    }
    count_flow(in, !flow->bounded_by || flow->bounded_by == limits->cgroup_id
                       ? &flow->received_window
                       : &flow->outer_received_window);
    in->stray_window = window_of(in);
    share = held_share(in, ingress_of(limits));
    if (!is_tightest(&flow->bounded_by, &flow->window_passed_over, limits->cgroup_id,
                     flow->window_share_bytes_per_sec, share))
        return;
    flow->window_share_bytes_per_sec = share;
    wanted = held_window_bytes(share, path_rtt_us(receipt.rtt_us), STANDARD_SEGMENT_BYTES);
    known = flow->window_bytes;
    if (known && wanted < known + known / 4 && wanted > known - known / 4)
        return;
    flow->window_bytes = wanted;
    tell_daemon(limits->cgroup_id);
}
