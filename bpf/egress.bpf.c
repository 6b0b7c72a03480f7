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
    u64 now_ns, limited_ns;
    int verdict = PASS, carries, late;

    if (UNLIKELY(skb->ifindex == LOOPBACK_IFINDEX)) {
        mark_loopback(skb);
        return PASS;
    }
    limits = limits_here();
    if (!limits)
        return PASS;
    limit = egress_of(limits);
    if (!limit->rate_bytes_per_sec && !windows_hold(limits))
        return PASS;
    state = state_here();
    if (!state)
        return PASS;
    packet_read(skb, &packet, limit->frame_bytes);
    if (UNLIKELY(limits->exempt_list) && is_listed(skb, limits->exempt_list, packet.version, 1))
        return PASS;
    carries = packet.is_tcp && packet.payload_bytes;
    if (UNLIKELY(packet.is_tcp && !carries) && windows_hold(limits))
        note_earlier_receiver(skb, limits, state);
    if (!limit->rate_bytes_per_sec)
        return PASS;
    if (UNLIKELY(packet.is_multicast) && is_copy(skb, state))
        return state->multicast_refused ? DROP_WITH_CONGESTION_NOTICE : PASS;
    out = &state->egress;
    count_local(skb, limits, out, &packet, 1);
    if (bucket_grants(out, limit) &&
        (carries || packet.frame_bytes <= SMALL_PACKET_BYTES || bucket_left(out) >= 0)) {
        bucket_take(out, packet.frame_bytes);
        return PASS;
    }
    now_ns = bpf_ktime_get_ns();
    flow = flow_matters(out, &packet) ? flow_of(skb) : 0;
    if (flow) {
        count_sender(flow, limits, out);
        if (!packet.is_tcp || !flow->heard)
            out->stray_window = window_of(out);
    }

    bpf_spin_lock(&state->lock);
    limited_ns = out->limited_ns;
    bucket_gather(out);
    bucket_refill(out, limit, now_ns);
    if (carries) {
        late = out->tokens_bytes < -(s64)limit->debt_bytes;
    } else if (packet.frame_bytes <= SMALL_PACKET_BYTES) {
        late = out->tokens_bytes < -(s64)(limit->debt_bytes + SMALL_RESERVE_BYTES);
    } else {
        late = out->tokens_bytes < 0;
    }
    if (bucket_settle(out, packet.frame_bytes, packet.is_tcp, late, limits->mode == MODE_ENFORCE,
                      now_ns))
        verdict = DROP_WITH_CONGESTION_NOTICE;
    if (packet.is_multicast)
        state->multicast_refused = verdict != PASS;
    controller_tick(out, limit, state->rtt_ns, now_ns);
    bucket_grant(out, limit, window_of(out));
    bpf_spin_unlock(&state->lock);

    tell_sharing(limits, out, limited_ns, now_ns);
    if (flow && packet.is_tcp && !flow->heard && limits->mode == MODE_ENFORCE)
        note_earlier_sender(skb, state, flow, limits, out->share_bytes_per_sec);
    return verdict;
}
