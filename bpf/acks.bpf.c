/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ACKs that wait: each pure ACK that leaves is charged with what it acknowledges, and given a time.
 */
#include "ack.h"
#include "bucket.h"
#include "packet.h"
#include "window.h"

#ifdef PODPACE_TEST_RUN
BPF_ARRAY(test_receipt, struct receipt, 1);
#endif

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

/* Where windows keep a queue short: a socket that sock_ops does not know counts as a flow, too, and
 * its window is set from outside. Asked of its ACKs. */
static inline __attribute__((always_inline)) void
hold_earlier(struct __sk_buff *skb, const struct limits *limits, struct pod_state *state)
{
    struct receipt receipt;
    struct flow *flow;
    u64 path_us;

    if (bucket_is_far(&state->ingress, &limits->ingress, 0))
        return;
    flow = receiver_of(skb, &receipt);
    if (!flow || flow->window_callbacks || receipt.sequence == flow->acked_sequence)
        return;
    flow->cgroup_id = limits->cgroup_id;
    flow->acked_sequence = receipt.sequence;
    count_flow(&state->ingress, &flow->received_window);
    path_us = flow_path_us(flow, receipt.rtt_us);
    note_earlier_window(flow, window_bytes_for(limits, state, path_us, 1448, 1), 0);
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
    u32 window, account;

    in = &state->ingress;
    /* Far below the limit nothing needs to wait: the flow's account of it goes on later. */
    if (bucket_is_far(in, &limits->ingress, 0)) {
        if (!state->passed_acks)
            state->passed_acks = 1;
        return;
    }
    if (!ack_read(skb, packet, &ack))
        return;
    flow = receiver_of(skb, &receipt);
    if (!flow)
        return;
    now_ns = bpf_ktime_get_ns();
    if (state->passed_acks) {
        state->passed_acks = 0;
        state->account++;
    }
    account = (u32)state->account + 1;
    if (flow->account != account) {
        flow->cgroup_id = limits->cgroup_id;
        flow->account = account;
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
        wanted = receive_window_bytes(share, flow_path_us(flow, receipt.rtt_us), 1448,
                                      MIN_RECEIVE_SEGMENTS);
        note_earlier_window(flow, wanted, now_ns);
    }
    if (departs_at_ns == now_ns)
        return;
    skb->tstamp = departs_at_ns;
    skb->priority = ACK_CLASS;
    __sync_fetch_and_add(&state->waiting_acks, 1);
}
