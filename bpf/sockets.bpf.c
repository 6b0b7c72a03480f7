/* SPDX-License-Identifier: GPL-2.0-only
 *
 * podpace_sockops paces every TCP socket at the share, and bounds its windows.
 */
#include "controller.h"
#include "pacing.h"
#include "window.h"

#define TCP_OPTION_INITIAL_WINDOW 1001        /* TCP_BPF_IW */
#define MAPPED_IPV4_PREFIX        0xffff0000U /* ::ffff:0:0/96, its third word as it is on the wire */
#define CURRENT_MSS               1           /* BPF_WRITE_HDR_TCP_CURRENT_MSS: no packet */
#define MAX_RTT_NS                100000000ULL

/* Whether the socket's peer is in an exempt network. */
static inline __attribute__((always_inline)) int peer_is_exempt(const struct bpf_sock_ops *ops,
                                                                const struct limits *limits)
{
    struct exempt_key key = {};
    u32 peer[4] = {};

    if (!limits->exempt_list)
        return 0;
    peer[3] = remote_address(ops);
    if (ops->family == ADDRESS_FAMILY_IPV6) {
        peer[0] = ops->remote_ip6[0];
        peer[1] = ops->remote_ip6[1];
        peer[2] = ops->remote_ip6[2];
    } else {
        peer[2] = MAPPED_IPV4_PREFIX;
    }
    if (!peer[0] && !peer[1] && peer[2] == MAPPED_IPV4_PREFIX) {
        exempt_key_start(&key, limits->exempt_list, 4);
        peer[0] = peer[3];
    } else {
        exempt_key_start(&key, limits->exempt_list, 6);
    }
    __builtin_memcpy(key.address, peer, sizeof(peer));
    return exempt_networks.lookup(&key) != 0;
}

/* Asks the kernel for calls at this socket's events. What others have asked for stays, and is never
 * taken away: nobody can tell who asked. */
static inline __attribute__((always_inline)) void ask_for(struct bpf_sock_ops *ops, u32 callbacks)
{
    u32 has = ops->bpf_sock_ops_cb_flags;

    if ((has & callbacks) != callbacks)
        bpf_sock_ops_cb_flags_set(ops, has | callbacks);
}

/* A slow maximum. A racing writer loses one sample: harmless. */
static inline __attribute__((always_inline)) void note_rtt(struct pod_state *state,
                                                           const struct bpf_sock_ops *ops)
{
    u64 rtt_ns = (u64)(ops->srtt_us >> 3) * 1000;

    if (rtt_ns > MAX_RTT_NS)
        rtt_ns = MAX_RTT_NS;
    if (rtt_ns > state->rtt_ns)
        state->rtt_ns = rtt_ns;
    else if ((state->rtt_ns - rtt_ns) >> 8)
        state->rtt_ns -= (state->rtt_ns - rtt_ns) >> 8;
}

/* What the socket sends: at its start and at each round trip. */
static inline __attribute__((always_inline)) void
follow_share(struct bpf_sock_ops *ops, struct flow *flow, struct limits *limits,
             struct pod_state *state, int established)
{
    int ours = !flow->paced_by || flow->paced_by == limits->cgroup_id, changed = 0;
    u64 share = state->egress.share_bytes_per_sec;
    u32 window = MIN_WINDOW_SEGMENTS;

    if (!share)
        share = egress_of(limits)->rate_bytes_per_sec;
    note_rtt(state, ops);
    /* Once in a window an application may have chosen another pace since. */
    if (!established && count_flow(&state->egress, ours ? &flow->window : &flow->outer_window) &&
        ours)
        changed = learn_pacing(ops, flow);
    if (!is_tightest(&flow->paced_by, &flow->pace_passed_over, limits->cgroup_id,
                     flow->share_bytes_per_sec, share))
        return;
    if (!changed && is_paced_at(ops, flow, share))
        return;
    pace(ops, flow, share);
    flow->share_bytes_per_sec = share;
    if (established && flow->cwnd_clamp < 10)
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_INITIAL_WINDOW, &window, sizeof(window));
}

int podpace_sockops(struct bpf_sock_ops *ops)
{
    int established = ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
                      ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB;
    struct limits *limits;
    struct pod_state *state;
    struct bpf_sock *sk;
    struct flow *flow;
    u32 segments, callbacks;
    int free;

    if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
        /* Called for every packet that leaves; an ACK is where a window is told. */
        if (ops->args[0] == CURRENT_MSS || ops->skb_len)
            return PASS;
    } else if (!established && ops->op != BPF_SOCK_OPS_RTT_CB &&
               ops->op != BPF_SOCK_OPS_RWND_INIT && ops->op != BPF_SOCK_OPS_TCP_CONNECT_CB) {
        return PASS;
    }
    limits = limits_here();
    state = state_here();
    if (!limits || !state)
        return PASS;
    callbacks = BPF_SOCK_OPS_RTT_CB_FLAG;
    if (limits->ingress.rate_bytes_per_sec && limits->mode == MODE_ENFORCE)
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    if (limits->flags & FLAG_HANDOVER) {
        if (established)
            ask_for(ops, callbacks);
        return PASS;
    }
    if (ops->op == BPF_SOCK_OPS_RWND_INIT) {
        if (windows_hold(limits) && !comes_by_loopback(ops) && !peer_is_exempt(ops, limits)) {
            segments = first_window_segments(limits, state);
            if (segments && (!ops->reply || segments < ops->reply))
                ops->reply = segments;
        }
        return PASS;
    }
    sk = ops->sk;
    if (!sk)
        return PASS;
    if (ops->op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
        /* A socket may be connected once more, another way. */
        flow = flows.sk_storage_get(sk, 0, 0);
        if (flow) {
            flow->on_loopback = 0;
            flow->window_bytes = 0;
            flow->bounded_by = 0;
        }
        return PASS;
    }
    flow = flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!flow)
        return PASS;
    if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && comes_by_loopback(ops))
        flow->on_loopback = 1;
    free = flow->on_loopback || peer_is_exempt(ops, limits);

    flow->acks_heard = HEARD_ACKS;
    if (!free && windows_hold(limits))
        follow_window(ops, flow, limits, state, established);
    else if (flow->bounded_by && flow->bounded_by == limits->cgroup_id)
        free_window(ops, flow);
    if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
        return PASS;

    flow->heard = HEARD_WINDOWS;
    ask_for(ops, callbacks);
    if (limits->egress.rate_bytes_per_sec && limits->mode == MODE_ENFORCE && !free) {
        follow_share(ops, flow, limits, state, established);
    } else if (flow->paced_by && flow->paced_by == limits->cgroup_id) {
        pace(ops, flow, 0);
        flow->paced_by = 0;
    }
    return PASS;
}
