/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Sockets that were open before the limit came: egress notes them for the daemon, bpf_iter__tcp
 * paces them, bounds their windows, and lets go of them.
 */
#include "bucket.h"
#include "controller.h"
#include "pacing.h"
#include "window.h"

#define TCP_OPTION_CALLBACK_FLAGS 1008 /* TCP_BPF_SOCK_OPS_CB_FLAGS, Linux 6.12 */
/* The daemon looks for sockets at another pace ten times a second. */
#define DAEMON_FOLLOWS_NS 100000000ULL
/* A socket's segments, where it does not say: over Ethernet, with timestamps. */
#define STANDARD_SEGMENT_BYTES 1448

/* What TCP knows of what it has received. */
struct receipt {
    u32 sequence; /* the next byte it expects */
    u32 rtt_us;   /* of the path: the least it has seen; NO_RTT_SAMPLE */
};

#ifdef PODPACE_TEST_RUN
BPF_ARRAY(test_receipt, struct receipt, 1);
#endif

/* A socket older than its limit, sending at another pace than its share: tell the daemon. It has to
 * come by for each new share, and one that was raised can not be judged before. */
static inline __attribute__((always_inline)) void note_earlier_socket(struct pod_state *state,
                                                                      struct flow *flow, u64 share)
{
    u64 known = flow->share_bytes_per_sec, *count;
    int zero = 0;

    if (known && share < known + known / 8 && share > known - known / 8)
        return;
    flow->share_bytes_per_sec = share;
    if (known && share > known && state->rtt_ns < DAEMON_FOLLOWS_NS)
        state->rtt_ns = DAEMON_FOLLOWS_NS;
    count = earlier_sockets.lookup(&zero);
    if (count)
        __sync_fetch_and_add(count, 1);
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

/* Where windows keep a queue short: a socket that sock_ops does not know counts as a flow, too, and
 * its window is set from outside: the daemon is told of one that does not fit its share. Asked of
 * its ACKs. */
static inline __attribute__((always_inline)) void
note_earlier_receiver(struct __sk_buff *skb, const struct limits *limits, struct pod_state *state)
{
    struct receipt receipt;
    struct flow *flow;
    u64 wanted, known, *count;
    int zero = 0;

    if (bucket_is_far(&state->ingress, &limits->ingress, 0))
        return;
    flow = receiver_of(skb, &receipt);
    if (!flow || flow->window_callbacks || receipt.sequence == flow->acked_sequence)
        return;
    flow->cgroup_id = limits->cgroup_id;
    flow->acked_sequence = receipt.sequence;
    count_flow(&state->ingress, &flow->received_window);
    wanted = window_bytes_for(limits, state, receipt.rtt_us, STANDARD_SEGMENT_BYTES, 1);
    known = flow->window_bytes;
    if (known && wanted < known + known / 4 && wanted > known - known / 4)
        return;
    flow->window_bytes = wanted;
    count = earlier_sockets.lookup(&zero);
    if (count)
        __sync_fetch_and_add(count, 1);
}

/* The iterator's context, as the kernel lays it out (struct bpf_iter__tcp). */
struct tcp_iterator {
    u64 meta;
    struct sock_common *sk_common;
    u32 uid;
};

/* Run by the daemon inside a network namespace. iterator_release[0] names the target whose
 * sockets are let go; 0 paces every socket that sock_ops does not pace yet. From Linux 6.12 on a
 * socket handed its callbacks here is sock_ops' own afterwards. */
int bpf_iter__tcp(struct tcp_iterator *ctx)
{
    struct sock_common *sk = ctx->sk_common;
    u32 pacing = NOT_PACED, no_clamp = NO_CLAMP, callbacks = BPF_SOCK_OPS_RTT_CB_FLAG;
    u32 window = NO_WINDOW_CLAMP;
    struct flow *flow;
    u64 *release;
    int zero = 0;

    if (!sk)
        return 0;
    flow = flows.sk_storage_get((void *)sk, 0, 0);
    release = iterator_release.lookup(&zero);
    if (!flow || !release)
        return 0;
    if (*release) {
        if (flow->cgroup_id != *release)
            return 0;
        /* What is set now and not by us is the application's own choice, and stays. */
        if (bpf_getsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                           sizeof(pacing)) ||
            pacing == flow->pacing_bytes_per_sec || !flow->pacing_bytes_per_sec) {
            pacing = flow->app_pacing_bytes_per_sec ? flow->app_pacing_bytes_per_sec : NOT_PACED;
            bpf_setsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                           sizeof(pacing));
        }
        bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CWND_CLAMP, &no_clamp,
                       sizeof(no_clamp));
        if (flow->app_window_bytes)
            window = flow->app_window_bytes;
        if (flow->window_bytes)
            bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window,
                           sizeof(window));
        return 0;
    }
    if (flow->window_bytes && !flow->window_callbacks) {
        window = flow->window_bytes;
        bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window, sizeof(window));
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
        if (!bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                            sizeof(callbacks)))
            flow->window_callbacks = 1;
    }
    if (flow->paced || !flow->share_bytes_per_sec)
        return 0;
    if (!flow->pacing_bytes_per_sec &&
        !bpf_getsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                        sizeof(pacing)))
        flow->app_pacing_bytes_per_sec = pacing == NOT_PACED ? 0 : pacing;
    pacing = pacing_of(flow->share_bytes_per_sec, STANDARD_SEGMENT_BYTES, 0);
    if (flow->app_pacing_bytes_per_sec && flow->app_pacing_bytes_per_sec < pacing)
        pacing = flow->app_pacing_bytes_per_sec;
    bpf_setsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing, sizeof(pacing));
    flow->pacing_bytes_per_sec = pacing;
    if (flow->window_callbacks)
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    if (!bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                        sizeof(callbacks)))
        flow->paced = 1;
    return 0;
}
