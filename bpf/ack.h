/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Incoming TCP paced by the target's own ACKs: when an ACK may leave, and how large a receive
 * window may be. A sender puts new data on the wire when an ACK arrives, so ACKs spaced by a flow's
 * share bring data at that share. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_ACK_H
#define PODPACE_ACK_H

#include "controller.h"
#include "limit.h"
#include "path.h"

/* Fewer segments in flight, and a lost one is found by a timeout only. */
#define MIN_RECEIVE_SEGMENTS 4
/* A minimum retransmission timeout is 200 ms after the ACK before (Linux; others have more). */
#define MAX_ACK_WAIT_NS 150000000ULL
/* Longer than windows take to shrink to a lower share, and many that began together to be paid. */
#define OUTGROWN_AFTER_NS  1500000000ULL
#define SECOND_EXTRA_BYTES 150000
#define NEWCOMER_EPOCHS    2
/* In which flows that begin together, a client's many connections, have all been seen. */
#define SETTING_IN_NS 100000000ULL
/* What a packet acknowledges at most; more is a sequence number that was never seen before. */
#define MAX_WINDOW_BYTES (1U << 30)

/* What TCP knows of what it has received. */
struct receipt {
    u32 sequence; /* the next byte it expects */
    u32 segments; /* received so far, ACKs included */
    u32 rtt_us;   /* of the path: the least it has seen; NO_RTT_SAMPLE */
};

/* Frame bytes that arrived since the flow's last ACK; 0 where it acknowledges nothing new. */
static inline __attribute__((always_inline)) u64
take_received_bytes(struct flow *flow, const struct receipt *receipt, u32 header_bytes)
{
    u32 fresh_bytes = receipt->sequence - flow->acked_sequence;
    u32 segments = receipt->segments - flow->acked_segments;

    flow->acked_sequence = receipt->sequence;
    flow->acked_segments = receipt->segments;
    if (!fresh_bytes || fresh_bytes > MAX_WINDOW_BYTES)
        return 0;
    return fresh_bytes + (u64)segments * header_bytes;
}

/* Whether credit is being used up. While it is not, nobody needs to be held back. */
static inline __attribute__((always_inline)) int is_strained(const struct direction_state *in,
                                                             const struct direction_limit *limit)
{
    return in->tokens_bytes < (s64)(limit->burst_bytes - limit->burst_bytes / 4);
}

/* What one flow may receive. The controller learns of flows that set in when its epoch ends, which
 * is too late: those whose ACKs wait are counted as they come. An eighth more of them than the
 * controller knows is noise. Flows that wait now and then and want less than a share make this too
 * little: then credit piles up, and lifts it. */
static inline __attribute__((always_inline)) u64 receive_share(const struct direction_state *in,
                                                               const struct direction_limit *limit,
                                                               u64 waiting_flows)
{
    u64 share = in->share_bytes_per_sec, greedy_q8 = in->greedy_flows_q8;

    if (!share || !greedy_q8)
        return limit->rate_bytes_per_sec / (waiting_flows ? waiting_flows : 1);
    if (is_strained(in, limit) && waiting_flows * Q8 > greedy_q8 + greedy_q8 / 8)
        share = share * greedy_q8 / (waiting_flows * Q8);
    return share;
}

/* At an epoch's end: there are at least seven eighths as many greedy flows as waited, and no more
 * than receive anything. Each of those is counted at its first ACK, so what one of them brings in a
 * burst, after a processor or a path has stood still, is not taken for another's. */
static inline __attribute__((always_inline)) void
learn_flows(struct direction_state *in, const struct direction_limit *limit, u64 waiting_flows)
{
    u64 least_q8 = waiting_flows * Q8 * 7 / 8, greedy_q8 = in->greedy_flows_q8;
    u64 seen = in->active_flows > in->window_flows ? in->active_flows : in->window_flows;

    if (seen && greedy_q8 > seen * Q8)
        greedy_q8 = seen * Q8;
    if (least_q8 > MAX_GREEDY_FLOWS * Q8)
        least_q8 = MAX_GREEDY_FLOWS * Q8;
    if (is_strained(in, limit) && least_q8 > greedy_q8)
        greedy_q8 = least_q8;
    if (!greedy_q8 || greedy_q8 == in->greedy_flows_q8)
        return;
    in->share_bytes_per_sec = in->share_bytes_per_sec * in->greedy_flows_q8 / greedy_q8;
    if (in->share_bytes_per_sec < MIN_SHARE_BYTES_PER_SEC)
        in->share_bytes_per_sec = MIN_SHARE_BYTES_PER_SEC;
    in->greedy_flows_q8 = greedy_q8;
}

/* The longest that an ACK of this flow may wait: MAX_ACK_WAIT_NS more than two of the smallest
 * windows take at its share. */
static inline __attribute__((always_inline)) u64 longest_ack_wait_ns(u64 share_bytes_per_sec)
{
    return MAX_ACK_WAIT_NS +
           2 * MIN_RECEIVE_SEGMENTS * FULL_FRAME_BYTES * NSEC_PER_SEC / (share_bytes_per_sec + 1);
}

/* Charges what an ACK acknowledges to the flow's clock. */
static inline __attribute__((always_inline)) void charge_ack(struct flow *flow, u64 frame_bytes,
                                                             u64 share_bytes_per_sec, u64 now_ns)
{
    if (flow->ack_due_ns < now_ns)
        flow->ack_due_ns = now_ns;
    flow->ack_due_ns += frame_bytes * NSEC_PER_SEC / (share_bytes_per_sec + 1);
}

static inline __attribute__((always_inline)) int is_newcomer(const struct flow *flow, u64 epoch)
{
    return flow->joined_epoch && epoch < flow->joined_epoch - 1 + NEWCOMER_EPOCHS;
}

/* When a newcomer's ACK may leave. Its own clock would run at the share of those who came before
 * it; so all newcomers share one clock besides, which runs at their shares together. */
static inline __attribute__((always_inline)) u64
newcomer_turn_ns(struct pod_state *state, u64 frame_bytes, u64 share_bytes_per_sec, u64 now_ns)
{
    u64 flows = state->newcomers ? state->newcomers : 1;
    u64 due_ns = state->newcomers_due_ns > now_ns ? state->newcomers_due_ns : now_ns;

    /* A racing writer makes two of them share a turn: harmless. */
    due_ns += frame_bytes * NSEC_PER_SEC / (share_bytes_per_sec * flows + 1);
    state->newcomers_due_ns = due_ns;
    return due_ns;
}

/* When an ACK for so many frame bytes leaves, not before `turn_ns`; now_ns: at once. Charges it to
 * the flow's clock: the first ACK after a pause is free. */
static inline __attribute__((always_inline)) u64 ack_departure_ns(struct flow *flow,
                                                                  u64 frame_bytes,
                                                                  u64 share_bytes_per_sec,
                                                                  u64 turn_ns, u64 now_ns)
{
    u64 departs_at_ns = flow->ack_due_ns > now_ns ? flow->ack_due_ns : now_ns;
    u64 latest_ns = now_ns + longest_ack_wait_ns(share_bytes_per_sec);
    u64 last_ns = flow->ack_left_ns > now_ns ? flow->ack_left_ns : now_ns, wait_ns;

    if (departs_at_ns < turn_ns)
        departs_at_ns = turn_ns;
    if (departs_at_ns > latest_ns) {
        departs_at_ns = latest_ns;
        if (!flow->ack_late_since_ns)
            flow->ack_late_since_ns = now_ns;
    } else if (departs_at_ns + MAX_ACK_WAIT_NS / 2 < latest_ns) {
        flow->ack_late_since_ns = 0;
    }
    /* An ACK restarts the sender's timer, which is its smoothed round trip and 200 ms at least:
     * what must not be longer is the time between two. */
    if (departs_at_ns > last_ns + flow->ack_wait_ns + MAX_ACK_WAIT_NS)
        departs_at_ns = last_ns + flow->ack_wait_ns + MAX_ACK_WAIT_NS;
    wait_ns = departs_at_ns - now_ns;
    flow->ack_wait_ns = flow->ack_wait_ns - flow->ack_wait_ns / 8 + wait_ns / 8;
    flow->ack_left_ns = departs_at_ns;
    flow->ack_due_ns = departs_at_ns;
    charge_ack(flow, frame_bytes, share_bytes_per_sec, now_ns);
    return departs_at_ns;
}

/* Fifty first windows at once are more than a debt of a tenth of a second. Where ACKs pace, it may
 * be deeper, for it is repaid; but no second after a pause brings more than 1.1 s of the limit and
 * 150 kB. A pause is over with the first packet that finds all credit unused. */
static inline __attribute__((always_inline)) int exceeds_second(struct pod_state *state,
                                                                const struct direction_limit *limit,
                                                                u32 frame_bytes, u64 now_ns)
{
    u64 rate = limit->rate_bytes_per_sec;

    if (now_ns >= state->second_started_at_ns + NSEC_PER_SEC ||
        state->ingress.tokens_bytes >= (s64)limit->burst_bytes) {
        state->second_started_at_ns = now_ns;
        state->second_bytes = 0;
    }
    if (state->second_bytes + frame_bytes > rate + rate / 10 + SECOND_EXTRA_BYTES)
        return 1;
    state->second_bytes += frame_bytes;
    return 0;
}

/* Whether the sender's window has outgrown what ACKs can hold back: it needs another signal. */
static inline __attribute__((always_inline)) int has_outgrown(const struct flow *flow, u64 now_ns)
{
    return flow->ack_late_since_ns && now_ns > flow->ack_late_since_ns + OUTGROWN_AFTER_NS;
}

/* Payload bytes that a flow may have in flight towards us. */
static inline __attribute__((always_inline)) u64
receive_window_bytes(u64 share_bytes_per_sec, u64 rtt_us, u32 segment_bytes, u32 least_segments)
{
    u64 window_bytes = share_bytes_per_sec * (rtt_us + RECEIVE_SLACK_US) / 1000000;
    u64 least_bytes = (u64)least_segments * segment_bytes;

    if (window_bytes < least_bytes)
        window_bytes = least_bytes;
    return window_bytes < MAX_WINDOW_BYTES ? window_bytes : MAX_WINDOW_BYTES;
}

/* Whether a window bound may be the kernel's own. Newer kernels (6.12) set one without growing the
 * buffer, whenever they learn how much of it payload fills: its size times so many 256ths. An
 * application that asks for exactly that, later than at the handshake, is not told from it. */
static inline __attribute__((always_inline)) int is_part_of(u32 window_bytes, u32 buffer_bytes)
{
    u64 part_q8 = buffer_bytes ? (window_bytes * 256ULL + buffer_bytes - 1) / buffer_bytes : 0;

    return part_q8 <= 256 && part_q8 * buffer_bytes / 256 == window_bytes;
}

/* The window that a flow is told next: it grows by what has arrived at most, as a sender's does,
 * for what was told once cannot be taken back. */
static inline __attribute__((always_inline)) u64 next_window_bytes(u64 wanted_bytes, u64 told_bytes,
                                                                   u64 arrived_bytes)
{
    return wanted_bytes < told_bytes + arrived_bytes ? wanted_bytes : told_bytes + arrived_bytes;
}

/* Whether it is too early to tell how many flows begin together with this one: the first of fifty
 * would be told windows as if they were alone, and take them back over half a second. Asked before
 * its first ACK has left, too. */
static inline __attribute__((always_inline)) int sets_in(const struct flow *flow,
                                                         u64 received_bytes, u64 now_ns)
{
    if (!flow->joined_ns)
        return received_bytes < 2 * (u64)flow->window_bytes;
    return now_ns < flow->joined_ns + SETTING_IN_NS;
}

/* A value that rises at once and falls slowly. Racing writers lose a sample: harmless. */
static inline __attribute__((always_inline)) void slow_maximum(u64 *maximum, u64 sample)
{
    if (sample > *maximum)
        *maximum = sample;
    else
        *maximum -= (*maximum - sample) >> 6;
}

#endif
