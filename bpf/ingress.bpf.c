/* SPDX-License-Identifier: GPL-2.0-only
 *
 * podpace_ingress counts what arrives, marks ECN, drops beyond the debt.
 */
#include "ack.h"
#include "bucket.h"
#include "controller.h"
#include "window.h"

#define DROP 0

/* Where ACKs pace, TCP repays a deep debt; what nothing paces would stay in it. */
#define UNPACED_DEBT_DIVISOR 8

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
    int verdict = PASS, late, congested, paced, held, answer = 0;

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
    if (bucket_is_far(in, limit, packet.frame_bytes)) {
        bucket_take_far(in, packet.frame_bytes);
        return PASS;
    }
    now_ns = bpf_ktime_get_ns();
    paced = acks_pace(limits);
    held = windows_hold(limits);
    if (paced && must_answer(skb, &packet, state, now_ns)) {
        answer = bpf_skb_ecn_set_ce(skb) != 1;
        if (!answer)
            __sync_fetch_and_add(&in->marked_packets, 1);
    }

    bpf_spin_lock(&state->lock);
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
    if (bucket_settle(in, packet.frame_bytes, packet.is_tcp, late, limits->mode == MODE_ENFORCE,
                      now_ns))
        verdict = DROP;
    if (!late && paced && !packet.is_tcp)
        in->epoch_unpaced_bytes += packet.frame_bytes;
    epoch = in->epoch;
    if (held)
        held_tick(in, limit, now_ns);
    else
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
