/* SPDX-License-Identifier: GPL-2.0-only
 *
 * bpf/bucket.h and bpf/controller.h as ordinary functions; arithmetic.py calls them.
 */
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

struct bpf_spin_lock {
    u32 value;
};

#include "bucket.h"
#include "controller.h"

const u64 limit_size = sizeof(struct direction_limit);
const u64 state_size = sizeof(struct direction_state);
const u64 max_refill_ns = MAX_REFILL_NS;
const u64 min_share_bytes_per_sec = MIN_SHARE_BYTES_PER_SEC;
const u64 epochs_per_window = EPOCHS_PER_WINDOW;
const u64 q8 = Q8;
const u64 silent_after_drop_ns = SILENT_AFTER_DROP_NS;

void refill(struct direction_state *state, const struct direction_limit *limit, u64 now_ns)
{
    bucket_refill(state, limit, now_ns);
}

int needs_no_clock(const struct direction_state *state, const struct direction_limit *limit,
                   u32 frame_bytes)
{
    return bucket_needs_no_clock(state, limit, frame_bytes);
}

u64 wanted(const struct direction_limit *limit, s64 tokens_bytes, u64 epoch_ns)
{
    return wanted_bytes_per_sec(limit, tokens_bytes, epoch_ns);
}

u64 share(u64 want_bytes_per_sec, u64 greedy_flows_q8)
{
    return share_of(want_bytes_per_sec, greedy_flows_q8);
}

u64 epoch_length(const struct direction_limit *limit, u64 share_bytes_per_sec, u64 rtt_ns)
{
    return epoch_length_ns(limit, share_bytes_per_sec, rtt_ns);
}

void tick(struct direction_state *state, const struct direction_limit *limit, u64 rtt_ns,
          u64 now_ns)
{
    controller_tick(state, limit, rtt_ns, now_ns);
}
