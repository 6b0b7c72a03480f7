/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The limiter: three programs on a target's cgroup, and an iterator over its earlier sockets.
 * No record, or rate 0, means not limited: pass. Loopback is never counted.
 *
 *   podpace_egress    counts, computes the share; drops (with congestion notice) only beyond the
 * debt podpace_ingress   counts, marks ECN; drops beyond the debt podpace_sockops   paces every TCP
 * socket at the share bpf_iter__tcp     paces sockets that were open before the limit came, and
 * lets go of them
 *
 * Every map access is here; the arithmetic is in bucket.h and controller.h.
 */
#include <uapi/linux/bpf.h>

#include "bucket.h"
#include "controller.h"
#include "limit.h"
#include "maps.h"
#include "packet.h"

#define PASS                        1
#define DROP                        0
#define DROP_WITH_CONGESTION_NOTICE 2 /* egress: TCP keeps the segment and slows down */

#define SOL_SOCKET_LEVEL          1
#define OPTION_MAX_PACING_RATE    47
#define SOL_TCP_LEVEL             6
#define TCP_OPTION_INITIAL_WINDOW 1001 /* TCP_BPF_IW */
#define TCP_OPTION_CWND_CLAMP     1002 /* TCP_BPF_SNDCWND_CLAMP */
#define TCP_OPTION_CALLBACK_FLAGS 1008 /* TCP_BPF_SOCK_OPS_CB_FLAGS, Linux 6.12 */
#define NOT_PACED                 0xffffffffU
#define NO_CLAMP                  0x7fffffffU

/* A socket sends half of its window at once: a pair of segments, which keeps a delayed-ACK receiver
 * answering. Where a segment lasts longer than an ACK is delayed, one at a time, or many sockets
 * that started together would go on sending in step, and every pair would be a long wait. */
#define MIN_WINDOW_SEGMENTS  4
#define SLOW_WINDOW_SEGMENTS 2
#define SLOW_BYTES_PER_SEC   16000
/* A burst of one socket lasts at most this long at its share. */
#define BURST_NS 4000000ULL
/* Packets up to this size (ACKs, SYNs, DNS) are not dropped for a bulk flow's debt, but for a
 * flood of their own. */
#define SMALL_PACKET_BYTES  300
#define SMALL_RESERVE_BYTES 131072
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

/* The flow's record, if this packet carries data: ACKs make no flow active. */
static inline __attribute__((always_inline)) struct flow *flow_of(struct __sk_buff *skb)
{
    struct bpf_sock *sk = skb->sk;

    if (!sk)
        return 0;
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return 0;
    return flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
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

/* Counts the flow once per window. Two CPUs may race for the last flow of a window: harmless. */
static inline __attribute__((always_inline)) void count_flow(struct direction_state *state,
                                                             struct flow *flow)
{
    u64 window = state->epoch / EPOCHS_PER_WINDOW + 1;

    if (flow->window == window)
        return;
    flow->window = window;
    __sync_fetch_and_add(&state->window_flows, 1);
}

/* What a socket may pace at so that its frames, headers included, keep to the share. */
static inline __attribute__((always_inline)) u32 pacing_of(u64 share, u32 segment_bytes, int ipv6)
{
    u32 header_bytes = ETHERNET_HEADER_BYTES + (ipv6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES) + 32;
    u64 pacing = share * segment_bytes / (segment_bytes + header_bytes);

    return pacing < NOT_PACED ? pacing : NOT_PACED;
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
    if (!limit->rate_bytes_per_sec)
        return PASS;
    packet_read(skb, &packet);
    if (is_exempt(skb, limits, packet.version, 1))
        return PASS;
    out = &state->egress;
    now_ns = bucket_needs_no_clock(out, limit, packet.frame_bytes) ? 0 : bpf_ktime_get_ns();
    flow = now_ns && flow_matters(out, &packet) ? flow_of(skb) : 0;
    if (flow) {
        flow->cgroup_id = limits->cgroup_id;
        count_flow(out, flow);
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

int podpace_ingress(struct __sk_buff *skb)
{
    struct limits *limits;
    struct pod_state *state;
    struct direction_state *in;
    struct direction_limit *limit;
    struct packet packet;
    u64 now_ns;
    int verdict = PASS, late, congested;

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

    bpf_spin_lock(&state->lock);
    if (now_ns)
        bucket_refill(in, limit, now_ns);
    late = in->tokens_bytes <
           -(s64)(limit->debt_bytes +
                  (packet.frame_bytes > SMALL_PACKET_BYTES ? 0 : SMALL_RESERVE_BYTES));
    congested = in->tokens_bytes < (s64)(limit->burst_bytes / 2);
    if (late && limits->mode == MODE_ENFORCE) {
        verdict = DROP;
    } else {
        in->passed_bytes += packet.frame_bytes;
        in->passed_packets++;
    }
    if (late) {
        in->dropped_bytes += packet.frame_bytes;
        in->dropped_packets++;
    } else {
        in->tokens_bytes -= packet.frame_bytes;
        in->epoch_bytes += packet.frame_bytes;
    }
    if (now_ns)
        controller_tick(in, limit, 0, now_ns);
    bpf_spin_unlock(&state->lock);

    /* One that arrives with CE was marked by somebody else. */
    if (congested && verdict == PASS && limits->mode == MODE_ENFORCE && packet.ecn != ECN_CE &&
        bpf_skb_ecn_set_ce(skb) == 1)
        __sync_fetch_and_add(&in->marked_packets, 1);
    return verdict;
}

/* The window beyond what share x RTT needs. */
static inline __attribute__((always_inline)) u32 least_window(u64 share)
{
    return share < SLOW_BYTES_PER_SEC ? SLOW_WINDOW_SEGMENTS : MIN_WINDOW_SEGMENTS;
}

/* Whether pace() would change nothing: it has this share, and its window is within an eighth of
 * what it should be. Without a division, for this is asked at every ACK. */
static inline __attribute__((always_inline)) int is_paced_at(const struct bpf_sock_ops *ops,
                                                             const struct flow *flow, u64 share)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : 1448;
    u64 wanted = share * (2ULL * (ops->srtt_us >> 3) + BURST_NS / 1000);
    u64 has = (u64)(flow->cwnd_clamp - least_window(share)) * segment_bytes * 1000000;

    return share == flow->share_bytes_per_sec && flow->cwnd_clamp != NO_CLAMP &&
           wanted <= has + has / 8 && wanted >= has - has / 8;
}

/* Gives the socket the pace and the window of `share`; 0 takes both away. Writes only what
 * changed by more than an eighth (the window) or a sixty-fourth (the pace). */
static inline __attribute__((always_inline)) void pace(struct bpf_sock_ops *ops, struct flow *flow,
                                                       u64 share)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : 1448;
    u32 pacing = NOT_PACED, clamp = NO_CLAMP, own = flow->app_pacing_bytes_per_sec, step;
    u64 window_bytes;

    if (share) {
        pacing = pacing_of(share, segment_bytes, ops->family == 10);
        window_bytes = share * (2ULL * (ops->srtt_us >> 3) + BURST_NS / 1000) / 1000000;
        window_bytes = window_bytes / segment_bytes + least_window(share);
        if (window_bytes < NO_CLAMP)
            clamp = window_bytes;
    }
    if (own && own < pacing)
        pacing = own;
    step = flow->pacing_bytes_per_sec / 64;
    if (pacing > flow->pacing_bytes_per_sec + step || pacing + step < flow->pacing_bytes_per_sec ||
        (pacing == NOT_PACED && flow->pacing_bytes_per_sec != NOT_PACED)) {
        /* What is set now and not by us is the application's own choice. */
        if (flow->pacing_bytes_per_sec &&
            !bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &own, sizeof(own)) &&
            own != flow->pacing_bytes_per_sec) {
            flow->app_pacing_bytes_per_sec = own == NOT_PACED ? 0 : own;
            if (own < pacing)
                pacing = own;
        }
        bpf_setsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing, sizeof(pacing));
        flow->pacing_bytes_per_sec = pacing;
    }
    step = flow->cwnd_clamp / 8;
    if (clamp > flow->cwnd_clamp + step || clamp + step < flow->cwnd_clamp) {
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_CWND_CLAMP, &clamp, sizeof(clamp));
        flow->cwnd_clamp = clamp;
    }
}

int podpace_sockops(struct bpf_sock_ops *ops)
{
    struct limits *limits = limits_here();
    struct pod_state *state = state_here();
    struct flow *flow;
    struct bpf_sock *sk;
    u64 rtt_ns, share;
    u32 window = MIN_WINDOW_SEGMENTS, own = NOT_PACED;
    int established = ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
                      ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB;

    if (!limits || !state)
        return PASS;
    if (!established && ops->op != BPF_SOCK_OPS_RTT_CB)
        return PASS;
    sk = ops->sk;
    if (!sk)
        return PASS;
    flow = flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!flow)
        return PASS;
    flow->cgroup_id = limits->cgroup_id;
    if (established) {
        bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTT_CB_FLAG);
        flow->pacing_bytes_per_sec = NOT_PACED;
        flow->cwnd_clamp = NO_CLAMP;
        if (!bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &own, sizeof(own)))
            flow->app_pacing_bytes_per_sec = own == NOT_PACED ? 0 : own;
    }
    flow->paced = 1;
    if (!limits->egress.rate_bytes_per_sec || limits->mode != MODE_ENFORCE) {
        pace(ops, flow, 0);
        return PASS;
    }
    if (!established)
        count_flow(&state->egress, flow);
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
        return 0;
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
    if (!bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                        sizeof(callbacks)))
        flow->paced = 1;
    return 0;
}
