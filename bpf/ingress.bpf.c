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
    u64 now_ns, debt_bytes;
    int verdict = PASS, late, congested;

    if (skb->ifindex == LOOPBACK_IFINDEX) {
        note_arrival(skb);
        return PASS;
    }
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
    if (bucket_is_far(in, limit, packet.frame_bytes)) {
        bucket_take_far(in, packet.frame_bytes);
        return PASS;
    }
    now_ns = bpf_ktime_get_ns();

    bpf_spin_lock(&state->lock);
    bucket_refill(in, limit, now_ns);
    debt_bytes = limit->debt_bytes;
    if (packet.frame_bytes <= SMALL_PACKET_BYTES)
        debt_bytes += SMALL_RESERVE_BYTES;
    late = in->tokens_bytes < -(s64)debt_bytes;
    congested = in->tokens_bytes < (s64)(limit->burst_bytes / 2);
    if (bucket_settle(in, packet.frame_bytes, packet.is_tcp, late, limits->mode == MODE_ENFORCE,
                      now_ns))
        verdict = DROP;
    if (windows_hold(limits))
        held_tick(in, limit, now_ns);
    else
        controller_tick(in, limit, 0, now_ns);
    bpf_spin_unlock(&state->lock);

    /* One that arrives with CE was marked by somebody else. */
    if (congested && verdict == PASS && limits->mode == MODE_ENFORCE && packet.ecn != ECN_CE &&
        bpf_skb_ecn_set_ce(skb) == 1)
        __sync_fetch_and_add(&in->marked_packets, 1);
    return verdict;
}
