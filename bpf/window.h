/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The receive window of a socket for which a queue holds what it receives: set from sock_ops, which
 * is called for each packet that leaves while the socket mostly receives. No map.
 */
#ifndef PODPACE_WINDOW_H
#define PODPACE_WINDOW_H

#include "held.h"
#include "limit.h"
#include "socket.h"

#define TCP_OPTION_WINDOW_CLAMP 10 /* from BPF: Linux 5.11 */
#define OPTION_RECEIVE_BUFFER   8
#define NO_WINDOW_CLAMP         0x3fffffffU
/* The kernel's first window is 64 KiB at most: no more than that many standard segments. */
#define FIRST_WINDOW_SEGMENTS 44
#define FIRST_SEGMENT_BYTES   1460
#define FIRST_WINDOW_FLOWS    8
/* The bound is looked at so often, 2^23 ns, even where it is to stay: the kernel raises it whenever
 * it grows the socket's buffer, and what has been told once cannot be taken back. */
#define LOOK_SHIFT 23
/* Traffic after which a socket is judged a sender or a receiver. */
#define JUDGED_BYTES 65536

/* Whether windows keep a queue short that holds what comes in. Where they would be larger than any
 * socket's buffer, its packets need not call us. */
static inline __attribute__((always_inline)) int windows_hold(const struct limits *limits)
{
    return limits->flags & FLAG_INGRESS_SHAPED && limits->ingress.rate_bytes_per_sec &&
           limits->ingress.rate_bytes_per_sec < MAX_HELD_BYTES_PER_SEC &&
           limits->mode == MODE_ENFORCE;
}

/* Payload bytes that each of `parts` flows, which share a share, may have in flight towards us. */
static inline __attribute__((always_inline)) u64 window_bytes_for(const struct limits *limits,
                                                                  const struct pod_state *state,
                                                                  u32 rtt_us, u32 segment_bytes,
                                                                  u32 parts)
{
    return held_window_bytes(held_share(&state->ingress, &limits->ingress) / parts,
                             path_rtt_us(rtt_us), segment_bytes);
}

/* A new connection's first window, in segments, as if it opened with seven others; 0: the kernel's
 * own. What it is told once cannot be taken back. */
static inline __attribute__((always_inline)) u32
first_window_segments(const struct limits *limits, const struct pod_state *state)
{
    u64 segments = window_bytes_for(limits, state, 0, FIRST_SEGMENT_BYTES, FIRST_WINDOW_FLOWS) /
                   FIRST_SEGMENT_BYTES;

    return segments < FIRST_WINDOW_SEGMENTS ? segments : 0;
}

/* Bounds the socket's receive window; `wanted_bytes` NO_WINDOW_CLAMP gives it back. */
static inline __attribute__((always_inline)) void bound_window(struct bpf_sock_ops *ops,
                                                               struct flow *flow, u32 wanted_bytes)
{
    u32 now = bpf_ktime_get_ns() >> LOOK_SHIFT;
    u32 has_bytes = flow->window_bytes, step = has_bytes / 8, set_bytes = 0, buffer_bytes = 0;
    int kernels_own;

    if (flow->app_window_bytes && flow->app_window_bytes < wanted_bytes)
        wanted_bytes = flow->app_window_bytes;
    if (flow->window_looked == now && wanted_bytes <= has_bytes + step &&
        wanted_bytes + step >= has_bytes)
        return;
    flow->window_looked = now;
    flow->window_received = ops->bytes_received;
    if (!bpf_getsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &set_bytes,
                        sizeof(set_bytes)) &&
        !bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_RECEIVE_BUFFER, &buffer_bytes,
                        sizeof(buffer_bytes))) {
        /* Changed, and not by us nor by the kernel: the application's own choice. Just after the
         * handshake the kernel lowers it to what the buffer takes, a quarter of it at least. */
        kernels_own = flow->receive_buffer_bytes ? buffer_bytes != flow->receive_buffer_bytes ||
                                                       is_part_of(set_bytes, buffer_bytes)
                                                 : set_bytes >= buffer_bytes / 4;
        if (has_bytes && set_bytes != has_bytes && !kernels_own) {
            flow->app_window_bytes = set_bytes;
            if (set_bytes < wanted_bytes)
                wanted_bytes = set_bytes;
        }
        flow->receive_buffer_bytes = has_bytes ? buffer_bytes : 0;
    }
    if (set_bytes != wanted_bytes)
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &wanted_bytes,
                       sizeof(wanted_bytes));
    flow->window_bytes = wanted_bytes;
}

/* Whether the socket has sent much more than it received: then its packets need not call us. Asked
 * at its round trips; with nothing in flight it may become a receiver unheard. */
static inline __attribute__((always_inline)) int mostly_sends(const struct bpf_sock_ops *ops,
                                                              struct flow *flow)
{
    u64 sent_bytes = ops->bytes_acked - flow->bytes_acked;
    u64 received_bytes = ops->bytes_received - flow->bytes_received;

    if (!ops->packets_out)
        return 0;
    if (sent_bytes + received_bytes < JUDGED_BYTES)
        return !flow->window_callbacks;
    flow->bytes_acked = ops->bytes_acked;
    flow->bytes_received = ops->bytes_received;
    return sent_bytes > 8 * received_bytes;
}

/* The receive side of a socket, not limited if `free`: its window, and whether its packets call us.
 */
static inline __attribute__((always_inline)) void receive(struct bpf_sock_ops *ops,
                                                          struct flow *flow,
                                                          const struct limits *limits,
                                                          struct pod_state *state, int free)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : 1448, callbacks = 0, own = 0, flags;
    int established = ops->op != BPF_SOCK_OPS_RTT_CB && ops->op != BPF_SOCK_OPS_HDR_OPT_LEN_CB;
    u64 window;

    if (windows_hold(limits) && !free) {
        if (ops->bytes_received != flow->window_received)
            count_flow(&state->ingress, &flow->received_window);
        window = window_bytes_for(limits, state, ops->rtt_min, segment_bytes, 1);
        if (established) {
            flow->window_bytes = 0;
            flow->window_received = ops->bytes_received;
            if (!bpf_getsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &own, sizeof(own)))
                flow->app_window_bytes = own;
            own = first_window_segments(limits, state) * segment_bytes;
            if (own && own < window)
                window = own;
        } else if (flow->window_bytes) {
            window = next_window_bytes(window, flow->window_bytes,
                                       ops->bytes_received - flow->window_received);
        }
        bound_window(ops, flow, window);
        callbacks = ops->op != BPF_SOCK_OPS_RTT_CB || !mostly_sends(ops, flow);
    } else if (flow->window_bytes) {
        bound_window(ops, flow, NO_WINDOW_CLAMP);
        flow->window_bytes = 0;
    }
    if (callbacks == flow->window_callbacks)
        return;
    flow->window_callbacks = callbacks;
    /* What other programs on the socket have asked for stays. */
    flags = ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    if (callbacks)
        flags |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    bpf_sock_ops_cb_flags_set(ops, flags);
}

#endif
