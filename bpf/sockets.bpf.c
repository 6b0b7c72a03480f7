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

/* Whether what this socket sends and receives is not limited: its peer is in an exempt network, or
 * is the target itself, so that its packets go over loopback. */
static inline __attribute__((always_inline)) int is_free(const struct bpf_sock_ops *ops,
                                                         const struct limits *limits)
{
    struct exempt_key key = {};
    u32 peer[4] = {};

    if (ops->family == ADDRESS_FAMILY_IPV6) {
        peer[0] = ops->remote_ip6[0];
        peer[1] = ops->remote_ip6[1];
        peer[2] = ops->remote_ip6[2];
        peer[3] = ops->remote_ip6[3];
        if (peer[0] == ops->local_ip6[0] && peer[1] == ops->local_ip6[1] &&
            peer[2] == ops->local_ip6[2] && peer[3] == ops->local_ip6[3])
            return 1;
    } else {
        peer[2] = MAPPED_IPV4_PREFIX;
        peer[3] = ops->remote_ip4;
        if (peer[3] == ops->local_ip4)
            return 1;
    }
    if (!(limits->flags & FLAG_EXEMPT_CIDRS))
        return 0;
    key.prefix_bits = 64 + 128;
    key.cgroup_id_high = limits->cgroup_id >> 32;
    key.cgroup_id_low = limits->cgroup_id;
    __builtin_memcpy(key.address, peer, sizeof(peer));
    return exempt_cidrs.lookup(&key) != 0;
}

int podpace_sockops(struct bpf_sock_ops *ops)
{
    struct limits *limits = limits_here();
    struct pod_state *state = state_here();
    struct flow *flow;
    struct bpf_sock *sk;
    u64 rtt_ns, share;
    u32 window = MIN_WINDOW_SEGMENTS, own = NOT_PACED;
    int free, established = ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
                            ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB;

    if (!limits || !state)
        return PASS;
    if (ops->op == BPF_SOCK_OPS_RWND_INIT) {
        if (windows_hold(limits) && !is_free(ops, limits))
            ops->reply = first_window_segments(limits, state);
        return PASS;
    }
    if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
        /* Called for every packet that leaves; an ACK is where a window is told. */
        if (ops->args[0] == CURRENT_MSS || ops->skb_len)
            return PASS;
    } else if (!established && ops->op != BPF_SOCK_OPS_RTT_CB) {
        return PASS;
    }
    sk = ops->sk;
    if (!sk)
        return PASS;
    flow = flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!flow)
        return PASS;
    flow->cgroup_id = limits->cgroup_id;
    free = is_free(ops, limits);
    if (ops->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
        receive(ops, flow, limits, state, free);
        return PASS;
    }
    if (established) {
        bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
        flow->pacing_bytes_per_sec = NOT_PACED;
        flow->cwnd_clamp = NO_CLAMP;
        if (!bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &own, sizeof(own)))
            flow->app_pacing_bytes_per_sec = own == NOT_PACED ? 0 : own;
    }
    flow->paced = 1;
    receive(ops, flow, limits, state, free);
    if (!limits->egress.rate_bytes_per_sec || limits->mode != MODE_ENFORCE || free) {
        pace(ops, flow, 0);
        return PASS;
    }
    if (!established)
        count_flow(&state->egress, &flow->window);
    share = state->egress.share_bytes_per_sec;
    if (!share)
        share = limits->egress.rate_bytes_per_sec;
    rtt_ns = (u64)(ops->srtt_us >> 3) * 1000;
    if (rtt_ns > 100000000ULL)
        rtt_ns = 100000000ULL;
    /* A racing writer loses one sample of a maximum: harmless. */
    if (rtt_ns > state->rtt_ns)
        state->rtt_ns = rtt_ns;
    else if ((state->rtt_ns - rtt_ns) >> 8)
        state->rtt_ns -= (state->rtt_ns - rtt_ns) >> 8;
    if (is_paced_at(ops, flow, share))
        return PASS;
    pace(ops, flow, share);
    flow->share_bytes_per_sec = share;
    if (established && flow->cwnd_clamp < 10)
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_INITIAL_WINDOW, &window, sizeof(window));
    return PASS;
}
