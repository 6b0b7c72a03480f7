/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Incoming TCP that a queue at the veth holds: how much of the limit may a flow's window count on?
 * The queue keeps to the limit, so a flow's rate tells nothing of its share. What tells is whether
 * the limit is used: as long as it is, windows shrink towards equal parts of it, which is all that
 * has to be queued; when it is not, they grow. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_HELD_H
#define PODPACE_HELD_H

#include "controller.h"
#include "limit.h"

/* In a queue without losses, two segments keep a flow going. */
#define MIN_HELD_SEGMENTS 2
/* What can be queued beyond the path; room for jitter. */
#define RECEIVE_SLACK_US 20000ULL
/* Where the handshake gave no sample. */
#define UNKNOWN_RTT_US   50000ULL
#define MAX_RTT_US       1000000ULL
#define NO_RTT_SAMPLE    0xffffffffU
#define MAX_WINDOW_BYTES (1U << 30)
/* In 20 ms that is 32 MiB, as large as buffers of sockets are made. */
#define MAX_HELD_BYTES_PER_SEC ((32ULL << 20) * 50)
/* A single flow may need more than the limit: its path may be longer than it was at the handshake,
 * its reader may come late. */
#define MAX_SHARE_OF_LIMIT 8
/* How fast windows follow, a part of themselves each epoch; how fast they grow beyond the limit,
 * which a flow does not use while it starts either, and come back from there. */
#define FOLLOW_DIVISOR 16
#define BEYOND_DIVISOR 128
#define BACK_DIVISOR   32

/* By how many flows the limit is divided after an epoch that brought `achieved`, in 1/256. The
 * limit is the backstop's, 1.02 of the queue's: what is above 0.96 of it is above 0.98 of that. */
static inline __attribute__((always_inline)) u64 held_flows_q8(const struct direction_state *in,
                                                               const struct direction_limit *limit,
                                                               u64 achieved_bytes_per_sec)
{
    u64 flows_q8 = in->greedy_flows_q8;
    u64 seen = in->active_flows > in->window_flows ? in->active_flows : in->window_flows;

    if (achieved_bytes_per_sec * 25 >= limit->rate_bytes_per_sec * 24)
        flows_q8 += flows_q8 / (flows_q8 < Q8 ? BACK_DIVISOR : FOLLOW_DIVISOR) + 1;
    else if (flows_q8 > Q8)
        flows_q8 -= flows_q8 / FOLLOW_DIVISOR;
    else if (flows_q8)
        flows_q8 -= flows_q8 / BEYOND_DIVISOR + 1;
    /* The last epoch of a window: those that came in it count from now on. */
    if ((in->epoch + 1) % EPOCHS_PER_WINDOW == 0 && in->window_flows > in->active_flows)
        flows_q8 += (in->window_flows - in->active_flows) * Q8;
    if (seen && flows_q8 > seen * Q8)
        flows_q8 = seen * Q8;
    return flows_q8 > Q8 / MAX_SHARE_OF_LIMIT ? flows_q8 : Q8 / MAX_SHARE_OF_LIMIT;
}

/* What one flow's window counts on. Flows that begin together are counted as they come. */
static inline __attribute__((always_inline)) u64 held_share(const struct direction_state *in,
                                                            const struct direction_limit *limit)
{
    u64 flows_q8 = in->greedy_flows_q8 ? in->greedy_flows_q8 : Q8, seen = in->active_flows;

    /* As the epoch was planned: without a division, for this is asked at every ACK. */
    if (in->window_flows <= seen && in->share_bytes_per_sec &&
        in->epoch_rate_bytes_per_sec == limit->rate_bytes_per_sec)
        return in->share_bytes_per_sec;
    if (in->window_flows > seen) {
        flows_q8 += (in->window_flows - seen) * Q8;
        seen = in->window_flows;
    }
    if (seen && flows_q8 > seen * Q8)
        flows_q8 = seen * Q8;
    return limit->rate_bytes_per_sec * Q8 / flows_q8;
}

/* How long a path is taken to be: the least round trip that TCP has seen, for a receiver its
 * handshake's. */
static inline __attribute__((always_inline)) u64 path_rtt_us(u32 sample_us)
{
    if (sample_us == NO_RTT_SAMPLE)
        return UNKNOWN_RTT_US;
    return sample_us < MAX_RTT_US ? sample_us : MAX_RTT_US;
}

/* Payload bytes that a flow may have in flight towards us. */
static inline __attribute__((always_inline)) u64 held_window_bytes(u64 share_bytes_per_sec,
                                                                   u64 rtt_us, u32 segment_bytes)
{
    u64 window_bytes = share_bytes_per_sec * (rtt_us + RECEIVE_SLACK_US) / 1000000;
    u64 least_bytes = (u64)MIN_HELD_SEGMENTS * segment_bytes;

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

/* Called for every packet, in place of controller_tick. */
static inline __attribute__((always_inline)) void
held_tick(struct direction_state *in, const struct direction_limit *limit, u64 now_ns)
{
    u64 elapsed_ns = now_ns > in->epoch_started_at_ns ? now_ns - in->epoch_started_at_ns : 0;
    u64 achieved;

    if (!epoch_is_over(in, limit, elapsed_ns))
        return;
    if (!in->share_bytes_per_sec || elapsed_ns > 4 * in->epoch_length_ns) {
        /* Nothing is known of what goes on now. */
        in->greedy_flows_q8 = Q8;
    } else {
        achieved = in->epoch_bytes * 1000000 / (elapsed_ns / 1000 + 1);
        in->greedy_flows_q8 = held_flows_q8(in, limit, achieved);
        if (8 * achieved >= 7 * limit->rate_bytes_per_sec)
            in->limited_ns += elapsed_ns;
    }
    in->share_bytes_per_sec = share_of(limit->rate_bytes_per_sec, in->greedy_flows_q8);
    controller_plan(in, limit, in->share_bytes_per_sec, 0, now_ns);
    epoch_count(in);
}

#endif
