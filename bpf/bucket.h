/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Token bucket with debt. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_BUCKET_H
#define PODPACE_BUCKET_H

#include "limit.h"

/* Idle time worth more than this is worth no more: the product stays below 2^63. */
#define MAX_REFILL_NS NSEC_PER_SEC

/* Less credit than this stays with the clock: rounding it down for every packet of a flood would
 * credit nothing at all. */
#define MIN_CREDIT_BYTES 256

/* So long a time of the rate may pass between two looks, as a shift: 3.9 ms. */
#define GRANT_SHIFT 8

/* Packets up to this size (ACKs, SYNs, DNS) are not dropped for a bulk flow's debt, but for a
 * flood of their own. */
#define SMALL_PACKET_BYTES  300
#define SMALL_RESERVE_BYTES 131072

/* Credits the time since the last refill, up to the burst. CPUs' clocks may differ by a little:
 * a step back counts as no time. Who was limited otherwise starts from this limit's own debt. */
static inline __attribute__((always_inline)) void
bucket_refill(struct direction_state *state, const struct direction_limit *limit, u64 now_ns)
{
    u64 idle_ns = now_ns > state->refilled_at_ns ? now_ns - state->refilled_at_ns : 0;
    u64 credit_bytes;

    if (state->epoch_rate_bytes_per_sec != limit->rate_bytes_per_sec &&
        state->tokens_bytes < -(s64)limit->debt_bytes)
        state->tokens_bytes = -(s64)limit->debt_bytes;
    /* The first packet after attach starts with an empty bucket, not with a second's credit. */
    if (!state->refilled_at_ns) {
        state->refilled_at_ns = now_ns;
        return;
    }
    if (idle_ns > MAX_REFILL_NS)
        idle_ns = MAX_REFILL_NS;
    credit_bytes = idle_ns * limit->credit_multiplier >> limit->credit_shift;
    if (credit_bytes < MIN_CREDIT_BYTES && idle_ns < MAX_REFILL_NS)
        return;
    state->refilled_at_ns = now_ns;
    state->tokens_bytes += (s64)credit_bytes;
    if (state->tokens_bytes > (s64)limit->burst_bytes)
        state->tokens_bytes = (s64)limit->burst_bytes;
}

/* Reading the clock, taking the lock and finding the flow is most of what a packet costs, and few
 * packets need it: with each look goes a grant, so many bytes that may pass without another one.
 * They are counted, and charged at the next look. A limit that was changed is followed at once. */
static inline __attribute__((always_inline)) int bucket_grants(const struct direction_state *state,
                                                               const struct direction_limit *limit)
{
    return state->taken_bytes < state->granted_bytes &&
           state->epoch_rate_bytes_per_sec == limit->rate_bytes_per_sec;
}

/* The credit, without what the time since the last look is worth. */
static inline __attribute__((always_inline)) s64 bucket_left(const struct direction_state *state)
{
    return state->tokens_bytes - (s64)state->taken_bytes;
}

/* All that there is to do for a packet within the grant, without the lock. */
static inline __attribute__((always_inline)) void bucket_take(struct direction_state *state,
                                                              u32 frame_bytes)
{
    __sync_fetch_and_add(&state->taken_bytes, frame_bytes);
    __sync_fetch_and_add(&state->taken_packets, 1);
}

/* Under the lock: charges what was taken since the last look. Others go on taking meanwhile. */
static inline __attribute__((always_inline)) void bucket_gather(struct direction_state *state)
{
    u64 bytes = state->taken_bytes, packets = state->taken_packets;

    __sync_fetch_and_add(&state->taken_bytes, -bytes);
    __sync_fetch_and_add(&state->taken_packets, -packets);
    state->tokens_bytes -= (s64)bytes;
    state->epoch_bytes += bytes;
    state->passed_bytes += bytes;
    state->passed_packets += packets;
}

/* Under the lock, as the last thing: grants what the debt allows, a short time of the rate at most.
 * Nothing while flows are about that sock_ops does not pace, for they are found and counted by
 * looking; but where the bucket is nearly full nobody has to share. */
static inline __attribute__((always_inline)) void
bucket_grant(struct direction_state *state, const struct direction_limit *limit, u64 window)
{
    s64 room_bytes = state->tokens_bytes + (s64)limit->debt_bytes;
    u64 most_bytes = limit->rate_bytes_per_sec >> GRANT_SHIFT;

    if (room_bytes <= 0 ||
        (state->stray_window + 1 >= window &&
         state->tokens_bytes < (s64)(limit->burst_bytes - limit->burst_bytes / 4)))
        state->granted_bytes = 0;
    else
        state->granted_bytes = (u64)room_bytes < most_bytes ? (u64)room_bytes : most_bytes;
}

/* Under the lock: charges a packet, or refuses one that is late. Whether it is to be dropped; who
 * only observes drops nothing. */
static inline __attribute__((always_inline)) int bucket_settle(struct direction_state *state,
                                                               u32 frame_bytes, int is_tcp,
                                                               int is_late, int is_enforced,
                                                               u64 now_ns)
{
    int is_dropped = is_late && is_enforced;

    if (!is_dropped) {
        state->passed_bytes += frame_bytes;
        state->passed_packets++;
    }
    if (is_late) {
        state->dropped_bytes += frame_bytes;
        state->dropped_packets++;
        if (is_tcp)
            state->dropped_at_ns = now_ns;
    } else {
        state->tokens_bytes -= frame_bytes;
        state->epoch_bytes += frame_bytes;
    }
    return is_dropped;
}

#endif
