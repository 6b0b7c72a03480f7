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

    if (in->window_flows > seen) {
        flows_q8 += (in->window_flows - seen) * Q8;
        seen = in->window_flows;
    }
    if (seen && flows_q8 > seen * Q8)
        flows_q8 = seen * Q8;
    return limit->rate_bytes_per_sec * Q8 / flows_q8;
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
