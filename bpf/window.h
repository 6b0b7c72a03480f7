/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The receive window of a socket for which a queue holds what it receives: set from sock_ops, which
 * is called for each packet that leaves while the socket mostly receives. No map.
 */
#ifndef PODPACE_WINDOW_H
#define PODPACE_WINDOW_H

#include "held.h"
#include "limit.h"
#include "pacing.h"
#include "sharing.h"
#include "socket.h"

#define TCP_OPTION_WINDOW_CLAMP 10 /* from BPF: Linux 5.11 */
#define OPTION_RECEIVE_BUFFER   8
#define NO_WINDOW_CLAMP         0x3fffffffU
/* The kernel's first window is 64 KiB at most: no more than that many standard segments. */
#define FIRST_WINDOW_SEGMENTS 44
#define FIRST_SEGMENT_BYTES   1460
#define FIRST_WINDOW_FLOWS    8
/* A bound is looked at whenever that part of it has come, even where it is to stay: the kernel
 * raises it when it grows the socket's buffer, and what has been told once cannot be taken back. */
#define LOOK_DIVISOR 4

/* Whether windows keep a queue short that holds what comes in. Where they would be larger than any
 * socket's buffer, its packets need not call us. */
static inline __attribute__((always_inline)) int windows_hold(const struct limits *limits)
{
    return limits->flags & FLAG_INGRESS_SHAPED && limits->ingress.rate_bytes_per_sec &&
           limits->ingress.rate_bytes_per_sec < MAX_HELD_BYTES_PER_SEC &&
           limits->mode == MODE_ENFORCE;
}

/* A new connection's first window, in segments, as if it opened with seven others; 0: the kernel's
 * own. What it is told once cannot be taken back. */
static inline __attribute__((always_inline)) u32
first_window_segments(struct limits *limits, const struct pod_state *state)
{
    u64 share = held_share(&state->ingress, ingress_of(limits)) / FIRST_WINDOW_FLOWS;
    u64 segments = held_window_bytes(share, 0, FIRST_SEGMENT_BYTES) / FIRST_SEGMENT_BYTES;

    return segments < FIRST_WINDOW_SEGMENTS ? segments : 0;
}

/* Asks what bounds the socket's window now: where neither we nor the kernel did that, it is the
 * application's own choice. Just after the handshake the kernel lowers what was set to what the
 * buffer takes, a quarter of it at least. Returns the bound; 0: it cannot be asked for. */
static inline __attribute__((always_inline)) u32 learn_window(struct bpf_sock_ops *ops,
                                                              struct flow *flow)
{
    u32 has_bytes = flow->window_bytes, set_bytes = 0, buffer_bytes = 0;
    int kernels_own;

    if (bpf_getsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &set_bytes,
                       sizeof(set_bytes)) ||
        bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_RECEIVE_BUFFER, &buffer_bytes,
                       sizeof(buffer_bytes)))
        return 0;
    if (!has_bytes)
        kernels_own = set_bytes > buffer_bytes || is_part_of(set_bytes, buffer_bytes);
    else if (flow->receive_buffer_bytes)
        kernels_own =
            buffer_bytes != flow->receive_buffer_bytes || is_part_of(set_bytes, buffer_bytes);
    else
        kernels_own = set_bytes >= buffer_bytes / 4;
    if (set_bytes != has_bytes && !kernels_own)
        flow->app_window_bytes = set_bytes;
    flow->receive_buffer_bytes = has_bytes ? buffer_bytes : 0;
    return set_bytes;
}

/* Bounds the socket's receive window. */
static inline __attribute__((always_inline)) void bound_window(struct bpf_sock_ops *ops,
                                                               struct flow *flow, u32 wanted_bytes)
{
    u32 set_bytes = learn_window(ops, flow);

    if (flow->app_window_bytes && flow->app_window_bytes < wanted_bytes)
        wanted_bytes = flow->app_window_bytes;
    if (set_bytes != wanted_bytes)
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &wanted_bytes,
                       sizeof(wanted_bytes));
    flow->window_bytes = wanted_bytes;
    flow->window_received = ops->bytes_received;
}

/* Gives the socket its window back, and forgets. */
static inline __attribute__((always_inline)) void free_window(struct bpf_sock_ops *ops,
                                                              struct flow *flow)
{
    if (flow->window_bytes)
        bound_window(ops, flow, NO_WINDOW_CLAMP);
    flow->window_bytes = 0;
    flow->bounded_by = 0;
}

/* At a connection's start: what the application has asked for by then, and the first bound. */
static inline __attribute__((always_inline)) void
first_window(struct bpf_sock_ops *ops, struct flow *flow, u32 segments, u32 window_bytes)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : FIRST_SEGMENT_BYTES, own = 0;

    if (!flow->window_bytes &&
        !bpf_getsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &own, sizeof(own)))
        flow->app_window_bytes = own;
    if (segments && segments * segment_bytes < window_bytes)
        window_bytes = segments * segment_bytes;
    if (flow->app_window_bytes && flow->app_window_bytes < window_bytes)
        window_bytes = flow->app_window_bytes;
    bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window_bytes,
                   sizeof(window_bytes));
    flow->window_bytes = window_bytes;
    flow->window_received = ops->bytes_received;
    flow->receive_buffer_bytes = 0;
}

/* At a connection's start, and before each ACK of it leaves: counts the flow, and bounds the window
 * that it is to tell. */
static inline __attribute__((always_inline)) void
follow_window(struct bpf_sock_ops *ops, struct flow *flow, struct limits *limits,
              struct pod_state *state, int established)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : STANDARD_SEGMENT_BYTES;
    u64 share = held_share(&state->ingress, ingress_of(limits)), window;
    u32 has_bytes = flow->window_bytes, arrived_bytes = ops->bytes_received - flow->window_received;
    int ours = !flow->bounded_by || flow->bounded_by == limits->cgroup_id;

    if (arrived_bytes && !established)
        count_flow(&state->ingress, ours ? &flow->received_window : &flow->outer_received_window);
    if (!is_tightest(&flow->bounded_by, &flow->window_passed_over, limits->cgroup_id,
                     flow->window_share_bytes_per_sec, share))
        return;
    if (share == flow->window_share_bytes_per_sec && has_bytes && !established &&
        arrived_bytes < has_bytes / LOOK_DIVISOR)
        return;
    window = held_window_bytes(share, path_rtt_us(ops->rtt_min), segment_bytes);
    flow->window_share_bytes_per_sec = share;
    if (established) {
        first_window(ops, flow, first_window_segments(limits, state), window);
        return;
    }
    if (has_bytes)
        window = next_window_bytes(window, has_bytes, arrived_bytes);
    if (arrived_bytes >= has_bytes / LOOK_DIVISOR || window > has_bytes + has_bytes / 8 ||
        window + has_bytes / 8 < has_bytes)
        bound_window(ops, flow, window);
}

#endif
