/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The pace and the send window of a socket: set from sock_ops at each of its round trips. No map.
 */
#ifndef PODPACE_PACING_H
#define PODPACE_PACING_H

#include "limit.h"
#include "packet.h"
#include "socket.h"

#define OPTION_MAX_PACING_RATE 47
#define TCP_OPTION_CWND_CLAMP  1002 /* TCP_BPF_SNDCWND_CLAMP */
#define NOT_PACED              0xffffffffU
#define NO_CLAMP               0x7fffffffU
/* A socket's segments, where it does not say: over Ethernet, with timestamps. */
#define STANDARD_SEGMENT_BYTES 1448

/* A socket sends half of its window at once: a pair of segments, which keeps a delayed-ACK receiver
 * answering. Where a segment lasts longer than an ACK is delayed, one at a time, or many sockets
 * that started together would go on sending in step, and every pair would be a long wait. */
#define MIN_WINDOW_SEGMENTS  4
#define SLOW_WINDOW_SEGMENTS 2
#define SLOW_BYTES_PER_SEC   16000
/* A burst of one socket lasts at most this long at its share. */
#define BURST_NS 4000000ULL
/* A limit that others have left a socket to so often, and that was not seen meanwhile, is gone.
 * Every limit above the socket asks at the same events: more than limits are nested. */
#define MAX_PASSED_OVER 16

/* Whether this limit is the one to hold the socket, of those that are nested: the tightest is.
 * `holder` is who does. */
static inline __attribute__((always_inline)) int is_tightest(u64 *holder, u32 *passed_over,
                                                             u64 cgroup_id, u64 has, u64 wanted)
{
    if (*holder == cgroup_id) {
        if (*passed_over)
            *passed_over = 0;
        return 1;
    }
    if (*holder && wanted >= has && *passed_over < MAX_PASSED_OVER) {
        ++*passed_over;
        return 0;
    }
    *holder = cgroup_id;
    *passed_over = 0;
    return 1;
}

/* What a socket may pace at so that its frames, headers included, keep to the share. */
static inline __attribute__((always_inline)) u32 pacing_of(u64 share, u32 segment_bytes, int ipv6)
{
    u32 header_bytes = ETHERNET_HEADER_BYTES + (ipv6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES) + 32;
    u64 pacing = share * segment_bytes / (segment_bytes + header_bytes);

    return pacing < NOT_PACED ? pacing : NOT_PACED;
}

/* The pace that is set where so much is wanted: an application's own smaller one stays. */
static inline __attribute__((always_inline)) u32 own_pacing(const struct flow *flow, u32 wanted)
{
    u32 own = flow->app_pacing_bytes_per_sec;

    return own && own < wanted ? own : wanted;
}

/* The window beyond what share x RTT needs. */
static inline __attribute__((always_inline)) u32 least_window(u64 share)
{
    return share < SLOW_BYTES_PER_SEC ? SLOW_WINDOW_SEGMENTS : MIN_WINDOW_SEGMENTS;
}

/* Whether pace() would change nothing: it has this share, and its window is within an eighth of
 * what it should be. Without a division, for this is asked at every ACK. */
static inline __attribute__((always_inline)) int is_paced_at(const struct bpf_sock_ops *ops,
                                                             const struct flow *flow, u64 share)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : STANDARD_SEGMENT_BYTES;
    u64 wanted = share * (2ULL * (ops->srtt_us >> 3) + BURST_NS / 1000);
    u64 has = (u64)(flow->cwnd_clamp - least_window(share)) * segment_bytes * 1000000;

    return share == flow->share_bytes_per_sec && flow->cwnd_clamp != NO_CLAMP &&
           wanted <= has + has / 8 && wanted >= has - has / 8;
}

/* Learns what the application has asked for itself: what is set, and not by us. Whether that is
 * news. (Before Linux 6.0 it cannot be asked for.) */
static inline __attribute__((always_inline)) int learn_pacing(struct bpf_sock_ops *ops,
                                                              struct flow *flow)
{
    u32 set = NOT_PACED;

    if (bpf_getsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &set, sizeof(set)) ||
        set == flow->pacing_bytes_per_sec)
        return 0;
    flow->app_pacing_bytes_per_sec = set == NOT_PACED ? 0 : set;
    flow->pacing_bytes_per_sec = set;
    return 1;
}

/* Gives the socket the pace and the window of `share`; 0 takes both away. Writes only what
 * changed by more than an eighth (the window) or a sixty-fourth (the pace). */
static inline __attribute__((always_inline)) void pace(struct bpf_sock_ops *ops, struct flow *flow,
                                                       u64 share)
{
    u32 segment_bytes = ops->mss_cache ? ops->mss_cache : STANDARD_SEGMENT_BYTES;
    u32 wanted = NOT_PACED, clamp = NO_CLAMP, pacing;
    u64 window_bytes, has, step;

    if (share) {
        wanted = pacing_of(share, segment_bytes, ops->family == ADDRESS_FAMILY_IPV6);
        window_bytes = share * (2ULL * (ops->srtt_us >> 3) + BURST_NS / 1000) / 1000000;
        window_bytes = window_bytes / segment_bytes + least_window(share);
        if (window_bytes < NO_CLAMP)
            clamp = window_bytes;
    }
    has = flow->pacing_bytes_per_sec;
    pacing = own_pacing(flow, wanted);
    step = has / 64;
    if (pacing > has + step || pacing + step < has || (pacing == NOT_PACED && has != NOT_PACED)) {
        learn_pacing(ops, flow);
        pacing = own_pacing(flow, wanted);
        if (pacing != flow->pacing_bytes_per_sec)
            bpf_setsockopt(ops, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing, sizeof(pacing));
        flow->pacing_bytes_per_sec = pacing;
    }
    step = flow->cwnd_clamp / 8;
    if (clamp > flow->cwnd_clamp + step || clamp + step < flow->cwnd_clamp) {
        bpf_setsockopt(ops, SOL_TCP_LEVEL, TCP_OPTION_CWND_CLAMP, &clamp, sizeof(clamp));
        flow->cwnd_clamp = clamp;
    }
}

#endif
