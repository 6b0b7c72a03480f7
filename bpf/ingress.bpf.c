/* SPDX-License-Identifier: GPL-2.0-only
 *
 * podpace_ingress counts what arrives, marks ECN, drops beyond the debt.
 */
#include "bucket.h"
#include "controller.h"
#include "window.h"

#define DROP 0

int podpace_ingress(struct __sk_buff *skb)
{
    struct limits *limits;
    struct pod_state *state;
    struct direction_state *in;
    struct direction_limit *limit;
    struct packet packet;
    u64 now_ns, limited_ns, debt_bytes;
    int verdict = PASS, markable, late, congested;

    if (UNLIKELY(skb->ifindex == LOOPBACK_IFINDEX)) {
        note_arrival(skb);
        return PASS;
    }
    limits = limits_here();
    if (!limits || !limits->ingress.rate_bytes_per_sec)
        return PASS;
    limit = ingress_of(limits);
    state = state_here();
    if (!state)
        return PASS;
    packet_read(skb, &packet, limit->frame_bytes);
    if (UNLIKELY(limits->exempt_list) && is_listed(skb, limits->exempt_list, packet.version, 0))
        return PASS;
    if (UNLIKELY(packet.is_multicast) && is_copy(skb, state))
        return state->multicast_refused ? DROP : PASS;
    in = &state->ingress;
    count_local(skb, limits, in, &packet, 0);
    /* One that arrives with CE was marked by somebody else. Behind a queue, it is the queue that
     * says how congested it is. */
    markable = packet.ecn && packet.ecn != ECN_CE && limits->mode == MODE_ENFORCE &&
               !(limits->flags & FLAG_INGRESS_SHAPED);
    if (bucket_grants(in, limit) &&
        (!markable || bucket_left(in) >= (s64)(limit->burst_bytes / 2))) {
        bucket_take(in, packet.frame_bytes);
        return PASS;
    }
    now_ns = bpf_ktime_get_ns();

    bpf_spin_lock(&state->lock);
    limited_ns = in->limited_ns;
    bucket_gather(in);
    bucket_refill(in, limit, now_ns);
    debt_bytes = limit->debt_bytes;
    if (packet.frame_bytes <= SMALL_PACKET_BYTES)
        debt_bytes += SMALL_RESERVE_BYTES;
    late = in->tokens_bytes < -(s64)debt_bytes;
    congested = in->tokens_bytes < (s64)(limit->burst_bytes / 2);
    if (bucket_settle(in, packet.frame_bytes, packet.is_tcp, late, limits->mode == MODE_ENFORCE,
                      now_ns))
        verdict = DROP;
    if (packet.is_multicast)
        state->multicast_refused = verdict != PASS;
    if (windows_hold(limits))
        held_tick(in, limit, now_ns);
    else
        controller_tick(in, limit, 0, now_ns);
    bucket_grant(in, limit, window_of(in));
    bpf_spin_unlock(&state->lock);

    tell_sharing(limits, in, limited_ns, now_ns);
    if (congested && markable && verdict == PASS && bpf_skb_ecn_set_ce(skb) == 1)
        __sync_fetch_and_add(&in->marked_packets, 1);
    return verdict;
}
