/* SPDX-License-Identifier: GPL-2.0-only
 *
 * podpace_egress counts what leaves, computes the share, drops (with congestion notice) only beyond
 * the debt.
 */
#include "bucket.h"
#include "controller.h"
#include "packet.h"
#include "window.h"

#define DROP_WITH_CONGESTION_NOTICE 2 /* TCP keeps the segment and slows down */

/* In a busy epoch one packet in eight has its flow looked up. */
#define SAMPLED_PACKETS 8
/* A departure time further away than this is a drop instead. */
#define DEPARTURE_HORIZON_NS 200000000ULL

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

int podpace_egress(struct __sk_buff *skb)
{
    struct limits *limits;
    struct pod_state *state;
    struct direction_state *out;
    struct direction_limit *limit;
    struct packet packet;
    struct flow *flow;
    u64 now_ns, wait_ns = 0;
    int verdict = PASS, held, late = 0;

    if (skb->ifindex == LOOPBACK_IFINDEX) {
        mark_loopback(skb);
        return PASS;
    }
    limits = limits_here();
    state = state_here();
    if (!limits || !state)
        return PASS;
    limit = &limits->egress;
    held = windows_hold(limits);
    if (!limit->rate_bytes_per_sec && !held)
        return PASS;
    packet_read(skb, &packet);
    if (is_exempt(skb, limits, packet.version, 1))
        return PASS;
    if (held && packet.is_tcp && !packet.payload_bytes)
        note_earlier_receiver(skb, limits, state);
    if (!limit->rate_bytes_per_sec)
        return PASS;
    out = &state->egress;
    if (bucket_is_far(out, limit, packet.frame_bytes)) {
        bucket_take_far(out, packet.frame_bytes);
        return PASS;
    }
    now_ns = bpf_ktime_get_ns();
    flow = flow_matters(out, &packet) ? flow_of(skb) : 0;
    if (flow)
        count_sender(flow, limits, out);

    bpf_spin_lock(&state->lock);
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
    if (bucket_settle(out, packet.frame_bytes, packet.is_tcp, late, limits->mode == MODE_ENFORCE,
                      now_ns))
        verdict = DROP_WITH_CONGESTION_NOTICE;
    controller_tick(out, limit, state->rtt_ns, now_ns);
    bpf_spin_unlock(&state->lock);

    if (flow && packet.is_tcp && !flow->heard && limits->mode == MODE_ENFORCE)
        note_earlier_sender(skb, state, flow, limits, out->share_bytes_per_sec);
    if (wait_ns && verdict == PASS && limits->mode == MODE_ENFORCE)
        skb->tstamp = now_ns + wait_ns;
    return verdict;
}
