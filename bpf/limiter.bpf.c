/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The limiter: three programs on a target's cgroup, and an iterator over its earlier sockets.
 * No record, or rate 0, means not limited: pass. Loopback is never counted.
 *
 * podpace_egress counts, computes the share, drops (with congestion notice) only beyond the debt,
 * and lets ACKs wait.
 *
 * podpace_ingress counts, marks ECN, drops beyond the debt.
 *
 * podpace_sockops paces every TCP socket at the share, and bounds its windows.
 *
 * bpf_iter__tcp does both for sockets that were open before the limit came, and lets go of them.
 *
 * Every map access is here, as bcc wants it; what needs none is in the headers.
 */
#include <uapi/linux/bpf.h>

#include "ack.h"
#include "bucket.h"
#include "controller.h"
#include "limit.h"
#include "maps.h"
#include "pacing.h"
#include "packet.h"
#include "window.h"

#define PASS                        1
#define DROP                        0
#define DROP_WITH_CONGESTION_NOTICE 2 /* egress: TCP keeps the segment and slows down */

#define TCP_OPTION_INITIAL_WINDOW 1001        /* TCP_BPF_IW */
#define TCP_OPTION_CALLBACK_FLAGS 1008        /* TCP_BPF_SOCK_OPS_CB_FLAGS, Linux 6.12 */
#define MAPPED_IPV4_PREFIX        0xffff0000U /* ::ffff:0:0/96, its third word as it is on the wire */
#define CURRENT_MSS               1           /* BPF_WRITE_HDR_TCP_CURRENT_MSS: no packet */

/* Packets up to this size (ACKs, SYNs, DNS) are not dropped for a bulk flow's debt, but for a
 * flood of their own. */
#define SMALL_PACKET_BYTES  300
#define SMALL_RESERVE_BYTES 131072
/* Where ACKs pace, TCP repays a deep debt; what nothing paces would stay in it. */
#define UNPACED_DEBT_DIVISOR 8
/* Below this every packet's flow is looked up, above it one in eight. */
#define QUIET_EPOCH_BYTES 262144
#define SAMPLED_PACKETS   8
/* A departure time further away than this is a drop instead. */
#define DEPARTURE_HORIZON_NS 200000000ULL

#ifdef PODPACE_TEST_RUN
/* BPF_PROG_TEST_RUN gives programs empty cgroup storage; the tables of tests/kernel put the
 * records here instead. */
BPF_ARRAY(test_limits, struct limits, 1);
BPF_ARRAY(test_state, struct pod_state, 1);
/* A test run's socket is no TCP socket. */
BPF_ARRAY(test_flow, struct flow, 1);
BPF_ARRAY(test_receipt, struct receipt, 1);
#endif

/* Never 0, except to the verifier in a test run. */
static inline __attribute__((always_inline)) struct limits *limits_here(void)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_limits.lookup(&zero);
#else
    return (struct limits *)(long)target_limits.get_local_storage(0);
#endif
}

static inline __attribute__((always_inline)) struct pod_state *state_here(void)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_state.lookup(&zero);
#else
    return (struct pod_state *)(long)target_state.get_local_storage(0);
#endif
}

static inline __attribute__((always_inline)) int
is_exempt(struct __sk_buff *skb, const struct limits *limits, u8 version, int outgoing)
{
    struct exempt_key key = {};
    u32 offset;

    if (!(limits->flags & FLAG_EXEMPT_CIDRS))
        return 0;
    key.prefix_bits = 64 + 128;
    key.cgroup_id_high = limits->cgroup_id >> 32;
    key.cgroup_id_low = limits->cgroup_id;
    if (version == 4) {
        key.address[10] = 0xff;
        key.address[11] = 0xff;
        offset = outgoing ? 16 : 12;
        if (bpf_skb_load_bytes(skb, PACKET_START + offset, key.address + 12, 4))
            return 0;
    } else if (version == 6) {
        offset = outgoing ? 24 : 8;
        if (bpf_skb_load_bytes(skb, PACKET_START + offset, key.address, 16))
            return 0;
    } else {
        return 0;
    }
    return exempt_cidrs.lookup(&key) != 0;
}

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

/* The flow's record, if this packet carries data: ACKs make no flow active. */
static inline __attribute__((always_inline)) struct flow *flow_of(struct __sk_buff *skb)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_flow.lookup(&zero);
#else
    struct bpf_sock *sk = skb->sk;

    if (!sk)
        return 0;
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return 0;
    return flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
#endif
}

/* Whether to look at the packet's flow. sock_ops sees the flows that it paces at every round trip;
 * the others need to be found, but not by every packet of a busy epoch. */
static inline __attribute__((always_inline)) int flow_matters(const struct direction_state *state,
                                                              const struct packet *packet)
{
    if (!packet->payload_bytes)
        return 0;
    return !packet->is_tcp || state->epoch_bytes < QUIET_EPOCH_BYTES ||
           !(state->passed_packets % SAMPLED_PACKETS);
}

/* A socket older than its limit, sending at another pace than its share: tell the daemon. */
static inline __attribute__((always_inline)) void note_earlier_socket(struct flow *flow, u64 share)
{
    u64 known = flow->share_bytes_per_sec, *count;
    int zero = 0;

    if (known && share < known + known / 8 && share > known - known / 8)
        return;
    flow->share_bytes_per_sec = share;
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
    receipt->segments = tcp->segs_in;
    receipt->rtt_us = tcp->rtt_min;
    return flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
#endif
}

/* A socket whose window sock_ops does not bound, with a window that does not fit its share: tell
 * the daemon. */
static inline __attribute__((always_inline)) void note_earlier_window(struct flow *flow, u64 wanted,
                                                                      u64 now_ns)
{
    u64 known = flow->window_bytes, *count;
    int zero = 0;

    if (known && wanted < known + known / 4 && wanted > known - known / 4 &&
        (!flow->ack_late_since_ns || now_ns < flow->ack_late_since_ns + MAX_ACK_WAIT_NS))
        return;
    flow->window_bytes = wanted;
    count = earlier_sockets.lookup(&zero);
    if (count)
        __sync_fetch_and_add(count, 1);
}

/* Gives an ACK its departure time. What repairs a loss never waits: an ACK that tells of a hole, or
 * that says the same as the one before. One that only opens the window, or tells of data that came
 * twice, takes its turn: it acknowledges what the ACKs that wait before it do. */
static inline __attribute__((always_inline)) void pace_ack(struct __sk_buff *skb,
                                                           const struct packet *packet,
                                                           const struct limits *limits,
                                                           struct pod_state *state)
{
    u64 now_ns, share, frame_bytes, turn_ns, departs_at_ns, wanted;
    struct direction_state *in;
    struct receipt receipt;
    struct flow *flow;
    struct ack ack;
    int newcomer, is_duplicate;
    u32 window;

    if (!ack_read(skb, packet, &ack))
        return;
    flow = receiver_of(skb, &receipt);
    if (!flow)
        return;
    now_ns = bpf_ktime_get_ns();
    if (!flow->is_known) {
        flow->cgroup_id = limits->cgroup_id;
        flow->is_known = 1;
        flow->acked_sequence = receipt.sequence;
        flow->acked_segments = receipt.segments;
        flow->acked_window = ack.window;
        return;
    }
    frame_bytes = take_received_bytes(flow, &receipt, ack.header_bytes);
    window = flow->acked_window;
    flow->acked_window = ack.window;
    is_duplicate = !ack.has_sack && ack.window <= window;
    if (!frame_bytes && (ack.has_hole || is_duplicate))
        return;
    in = &state->ingress;
    if (frame_bytes) {
        if (flow->received_window < in->epoch / EPOCHS_PER_WINDOW || !flow->joined_ns) {
            flow->joined_epoch = in->epoch + 1;
            flow->joined_ns = now_ns;
        }
        count_flow(in, &flow->received_window);
    }
    newcomer = is_newcomer(flow, in->epoch) && is_strained(in, &limits->ingress);
    if ((newcomer || flow->ack_due_ns > now_ns) && flow->waited_epoch != in->epoch + 1) {
        flow->waited_epoch = in->epoch + 1;
        __sync_fetch_and_add(&state->waiting_flows, 1);
        if (newcomer)
            __sync_fetch_and_add(&state->newcomers, 1);
    }
    share = receive_share(in, &limits->ingress, waiting_flows(state));
    if (ack.has_hole) {
        charge_ack(flow, frame_bytes, share, now_ns);
        return;
    }
    lengthen_path(flow, !is_strained(in, &limits->ingress), now_ns);
    turn_ns = newcomer ? newcomer_turn_ns(state, frame_bytes, share, now_ns) : now_ns;
    departs_at_ns = ack_departure_ns(flow, frame_bytes, share, turn_ns, now_ns);
    shorten_path(flow, departs_at_ns, now_ns);
    slow_maximum(&state->ack_wait_ns, departs_at_ns - now_ns);
    slow_maximum(&state->ack_lag_ns, departs_at_ns - now_ns + path_rtt_us(receipt.rtt_us) * 1000);
    if (in->tokens_bytes < 0 && has_outgrown(flow, now_ns)) {
        flow->outgrown = 1;
        state->outgrown_until_ns = now_ns + OUTGROWN_AFTER_NS;
    }
    if (!flow->window_callbacks) {
        wanted = receive_window_bytes(share, flow_path_us(flow, receipt.rtt_us), 1448);
        note_earlier_window(flow, wanted, now_ns);
    }
    if (departs_at_ns == now_ns)
        return;
    skb->tstamp = departs_at_ns;
    skb->priority = ACK_CLASS;
    __sync_fetch_and_add(&state->waiting_acks, 1);
}

int podpace_egress(struct __sk_buff *skb)
{
    struct limits *limits;
    struct pod_state *state;
    struct direction_state *out;
    struct direction_limit *limit;
    struct packet packet;
    struct flow *flow;
    u64 now_ns, wait_ns = 0;
    int verdict = PASS, late = 0;

    if (skb->ifindex == LOOPBACK_IFINDEX)
        return PASS;
    limits = limits_here();
    state = state_here();
    if (!limits || !state)
        return PASS;
    limit = &limits->egress;
    if (!limit->rate_bytes_per_sec && !acks_pace(limits))
        return PASS;
    packet_read(skb, &packet);
    if (is_exempt(skb, limits, packet.version, 1))
        return PASS;
    if (packet.is_tcp && !packet.payload_bytes && acks_pace(limits))
        pace_ack(skb, &packet, limits, state);
    if (!limit->rate_bytes_per_sec)
        return PASS;
    out = &state->egress;
    now_ns = bucket_needs_no_clock(out, limit, packet.frame_bytes) ? 0 : bpf_ktime_get_ns();
    flow = now_ns && flow_matters(out, &packet) ? flow_of(skb) : 0;
    if (flow) {
        flow->cgroup_id = limits->cgroup_id;
        count_flow(out, &flow->window);
    }

    bpf_spin_lock(&state->lock);
    if (now_ns)
        bucket_refill(out, limit, now_ns);
    if (packet.is_tcp && packet.payload_bytes) {
        late = out->tokens_bytes < -(s64)limit->debt_bytes;
    } else if (packet.frame_bytes <= SMALL_PACKET_BYTES) {
        late = out->tokens_bytes < -(s64)(limit->debt_bytes + SMALL_RESERVE_BYTES);
    } else if (out->tokens_bytes < 0) {
        late = 1;
        if (limits->flags & FLAG_EGRESS_FQ) {
            wait_ns = (u64)-out->tokens_bytes * 1000000 / (limit->rate_bytes_per_sec / 1000 + 1);
            late = wait_ns > DEPARTURE_HORIZON_NS;
        }
    }
    if (late && limits->mode == MODE_ENFORCE) {
        verdict = DROP_WITH_CONGESTION_NOTICE;
    } else {
        out->passed_bytes += packet.frame_bytes;
        out->passed_packets++;
    }
    if (late) {
        out->dropped_bytes += packet.frame_bytes;
        out->dropped_packets++;
        if (packet.is_tcp)
            out->dropped_at_ns = now_ns;
    } else {
        out->tokens_bytes -= packet.frame_bytes;
        out->epoch_bytes += packet.frame_bytes;
    }
    if (now_ns)
        controller_tick(out, limit, state->rtt_ns, now_ns);
    bpf_spin_unlock(&state->lock);

    if (flow && packet.is_tcp && !flow->paced && limits->mode == MODE_ENFORCE)
        note_earlier_socket(flow, out->share_bytes_per_sec);
    if (wait_ns && verdict == PASS && limits->mode == MODE_ENFORCE)
        skb->tstamp = now_ns + wait_ns;
    return verdict;
}

/* Whether this is the packet to answer a window that has outgrown us with. */
static inline __attribute__((always_inline)) int must_answer(struct __sk_buff *skb,
                                                             const struct packet *packet,
                                                             const struct pod_state *state,
                                                             u64 now_ns)
{
    struct flow *flow;

    if (state->outgrown_until_ns < now_ns || !packet->is_tcp || !packet->payload_bytes)
        return 0;
    flow = flow_of(skb);
    if (!flow || !flow->outgrown)
        return 0;
    flow->outgrown = 0;
    flow->ack_late_since_ns = now_ns;
    return 1;
}

int podpace_ingress(struct __sk_buff *skb)
{
    struct limits *limits;
    struct pod_state *state;
    struct direction_state *in;
    struct direction_limit *limit;
    struct packet packet;
    u64 now_ns, epoch, debt_bytes;
    int verdict = PASS, late, congested, paced, answer = 0;

    if (skb->ifindex == LOOPBACK_IFINDEX)
        return PASS;
    limits = limits_here();
    state = state_here();
    if (!limits || !state)
        return PASS;
    limit = &limits->ingress;
    if (!limit->rate_bytes_per_sec)
        return PASS;
    packet_read(skb, &packet);
    if (is_exempt(skb, limits, packet.version, 0))
        return PASS;
    in = &state->ingress;
    now_ns = bucket_needs_no_clock(in, limit, packet.frame_bytes) ? 0 : bpf_ktime_get_ns();
    paced = now_ns && acks_pace(limits);
    if (paced && must_answer(skb, &packet, state, now_ns)) {
        answer = bpf_skb_ecn_set_ce(skb) != 1;
        if (!answer)
            __sync_fetch_and_add(&in->marked_packets, 1);
    }

    bpf_spin_lock(&state->lock);
    if (now_ns)
        bucket_refill(in, limit, now_ns);
    debt_bytes = limit->debt_bytes;
    if (packet.frame_bytes <= SMALL_PACKET_BYTES)
        debt_bytes += SMALL_RESERVE_BYTES;
    else if (paced && !packet.is_tcp)
        debt_bytes /= UNPACED_DEBT_DIVISOR;
    late = in->tokens_bytes < -(s64)debt_bytes;
    /* Where ACKs pace, the credit is near zero all the time. */
    congested =
        in->tokens_bytes < (paced ? -(s64)(limit->debt_bytes / 2) : (s64)(limit->burst_bytes / 2));
    if (paced && !late)
        late = answer || exceeds_second(state, limit, packet.frame_bytes, now_ns);
    if (late && limits->mode == MODE_ENFORCE) {
        verdict = DROP;
    } else {
        in->passed_bytes += packet.frame_bytes;
        in->passed_packets++;
    }
    if (late) {
        in->dropped_bytes += packet.frame_bytes;
        in->dropped_packets++;
        if (packet.is_tcp)
            in->dropped_at_ns = now_ns;
    } else {
        in->tokens_bytes -= packet.frame_bytes;
        in->epoch_bytes += packet.frame_bytes;
        if (paced && !packet.is_tcp)
            in->epoch_unpaced_bytes += packet.frame_bytes;
    }
    epoch = in->epoch;
    if (now_ns)
        controller_tick(in, limit, paced ? state->ack_lag_ns : 0, now_ns);
    if (paced && in->epoch != epoch) {
        learn_flows(in, limit, state->waiting_flows);
        state->waited_flows = state->waiting_flows;
        state->waiting_flows = 0;
        state->newcomers = 0;
    }
    bpf_spin_unlock(&state->lock);

    /* One that arrives with CE was marked by somebody else. */
    if (congested && verdict == PASS && limits->mode == MODE_ENFORCE && packet.ecn != ECN_CE &&
        bpf_skb_ecn_set_ce(skb) == 1)
        __sync_fetch_and_add(&in->marked_packets, 1);
    return verdict;
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
        if (acks_pace(limits) && !is_free(ops, limits))
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
    pacing = pacing_of(flow->share_bytes_per_sec, 1448, 0);
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
