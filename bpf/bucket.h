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

/* What the rate carries in 7.6 us, as a shift; and a full frame, so that slow limits read the clock
 * for every packet. */
#define FAR_SHIFT        17
#define FAR_MARGIN_BYTES 1514

/* Packets up to this size (ACKs, SYNs, DNS) are not dropped for a bulk flow's debt, but for a
 * flood of their own. */
#define SMALL_PACKET_BYTES  300
#define SMALL_RESERVE_BYTES 131072

/* Credits the time since the last refill, up to the burst. CPUs' clocks may differ by a little:
 * a step back counts as no time. */
static inline __attribute__((always_inline)) void
bucket_refill(struct direction_state *state, const struct direction_limit *limit, u64 now_ns)
{
    u64 idle_ns = now_ns > state->refilled_at_ns ? now_ns - state->refilled_at_ns : 0;
    u64 credit_bytes;

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

/* Whether the packet leaves the bucket full but for 7.6 us of the rate: then neither credit nor the
 * share needs the time, and the lock is half of what a program costs beyond finding its records. So
 * it is for packets far below a high limit; at 1 Gbit/s no packet qualifies. Read without the lock:
 * a packet more or less does not matter. */
static inline __attribute__((always_inline)) int bucket_is_far(const struct direction_state *state,
                                                               const struct direction_limit *limit,
                                                               u32 frame_bytes)
{
    s64 room_bytes = (s64)limit->burst_bytes - state->tokens_bytes;
    u64 slack_bytes = limit->rate_bytes_per_sec >> FAR_SHIFT;

    /* A limit that was changed is followed at once. */
    return room_bytes >= 0 && state->epoch_rate_bytes_per_sec == limit->rate_bytes_per_sec &&
           (u64)room_bytes + frame_bytes + FAR_MARGIN_BYTES < slack_bytes;
}

/* Counts a packet. Some packets hold the lock and others do not: hence atomically. */
static inline __attribute__((always_inline)) void count_passed(struct direction_state *state,
                                                               u32 frame_bytes)
{
    __sync_fetch_and_add(&state->passed_bytes, frame_bytes);
    __sync_fetch_and_add(&state->passed_packets, 1);
}

/* Under the lock: charges a packet, or refuses one that is late. Whether it is to be dropped; who
 * only observes drops nothing. */
static inline __attribute__((always_inline)) int bucket_settle(struct direction_state *state,
                                                               u32 frame_bytes, int is_tcp,
                                                               int is_late, int is_enforced,
                                                               u64 now_ns)
{
    int is_dropped = is_late && is_enforced;

    if (!is_dropped)
        count_passed(state, frame_bytes);
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

/* All that there is to do for a packet far below the limit, without the lock. Who holds it
 * meanwhile may lose the packet from the credit: 7.6 us of the rate at most. It is not in the
 * epoch, whose bytes tell how the limit is shared: far below it, it is not. */
static inline __attribute__((always_inline)) void bucket_take_far(struct direction_state *state,
                                                                  u32 frame_bytes)
{
    __sync_fetch_and_add(&state->tokens_bytes, -(s64)frame_bytes);
    count_passed(state, frame_bytes);
}

#endif
