/* SPDX-License-Identifier: GPL-2.0-only
 *
 * bpf/bucket.h, controller.h, frames.h and held.h as ordinary functions; arithmetic.py calls them.
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
#include "frames.h"
#include "held.h"

const u64 limit_size = sizeof(struct direction_limit);
const u64 state_size = sizeof(struct direction_state);
const u64 min_held_segments = MIN_HELD_SEGMENTS;
const u64 max_share_of_limit = MAX_SHARE_OF_LIMIT;
const u64 receive_slack_us = RECEIVE_SLACK_US;
const u64 unknown_rtt_us = UNKNOWN_RTT_US;
const u64 max_rtt_us = MAX_RTT_US;
const u64 max_window_bytes = MAX_WINDOW_BYTES;
const u64 max_refill_ns = MAX_REFILL_NS;
const u64 min_share_bytes_per_sec = MIN_SHARE_BYTES_PER_SEC;
const u64 epochs_per_window = EPOCHS_PER_WINDOW;
const u64 q8 = Q8;
const u64 silent_after_drop_ns = SILENT_AFTER_DROP_NS;

void refill(struct direction_state *state, const struct direction_limit *limit, u64 now_ns)
{
    bucket_refill(state, limit, now_ns);
}

u32 cut_frames(u32 length, u32 network_bytes, u32 mtu_bytes, int is_ipv6)
{
    return cut_frames_bytes(length, network_bytes, mtu_bytes, is_ipv6);
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

void tick_held(struct direction_state *in, const struct direction_limit *limit, u64 now_ns)
{
    held_tick(in, limit, now_ns);
}

u64 share_held(const struct direction_state *in, const struct direction_limit *limit)
{
    return held_share(in, limit);
}

u64 rtt_us(u32 sample_us)
{
    return path_rtt_us(sample_us);
}

u64 window_wanted(u64 share_bytes_per_sec, u64 rtt_us, u32 segment_bytes)
{
    return held_window_bytes(share_bytes_per_sec, rtt_us, segment_bytes);
}

u64 window_next(u64 wanted_bytes, u64 told_bytes, u64 arrived_bytes)
{
    return next_window_bytes(wanted_bytes, told_bytes, arrived_bytes);
}

int part_of(u32 window_bytes, u32 buffer_bytes)
{
    return is_part_of(window_bytes, buffer_bytes);
}
