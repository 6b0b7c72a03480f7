/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Token bucket with debt. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_BUCKET_H
#define PODPACE_BUCKET_H

#include "limit.h"

/* Idle time worth more than this is worth no more: keeps the product below 2^64 up to 18 GB/s. */
#define MAX_REFILL_NS NSEC_PER_SEC

/* Credits the time since the last refill, up to the burst. CPUs' clocks may differ by a little:
 * a step back counts as no time. */
static inline __attribute__((always_inline)) void
bucket_refill(struct direction_state *state, const struct direction_limit *limit, u64 now_ns)
{
    u64 idle_ns = now_ns > state->refilled_at_ns ? now_ns - state->refilled_at_ns : 0;

    if (!idle_ns)
        return;
    /* The first packet after attach starts with an empty bucket, not with a second's credit. */
    if (!state->refilled_at_ns)
        idle_ns = 0;
    if (idle_ns > MAX_REFILL_NS)
        idle_ns = MAX_REFILL_NS;
    state->refilled_at_ns = now_ns;
    state->tokens_bytes += (s64)(idle_ns * limit->rate_bytes_per_sec / NSEC_PER_SEC);
    if (state->tokens_bytes > (s64)limit->burst_bytes)
        state->tokens_bytes = (s64)limit->burst_bytes;
}

#endif
