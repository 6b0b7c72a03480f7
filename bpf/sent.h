/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What a target sends past its own sockets (packet sockets, what it forwards), at its interface on
 * the host. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_SENT_H
#define PODPACE_SENT_H

#include "aqm.h"

/* How far what a target's sockets send may be ahead of the bound on what they do not: they repay
 * it. And small frames of the others (ACKs, ICMP) for as long, where something else has used it up.
 */
#define SENT_AHEAD_NS      100000000ULL
#define MOST_CHARGED_BYTES (1ULL << 33) /* so that the product stays below 2^64 */

/* Something that the target sends past its own sockets: counts it; whether it is dropped. What the
 * sockets send has been held to the limit by the programs on its cgroup; the rest has what that
 * leaves of the bound. Without a lock: a packet more or less does not matter. */
static inline __attribute__((always_inline)) int
sent_is_late(struct shaper *shaper, struct link *link, u32 frame_bytes, u64 now_ns)
{
    u64 own_bytes = link->own_bytes, until_ns = shaper->sent_until_ns;
    u64 new_bytes = own_bytes - link->own_charged_bytes, rate = link->sent_rate_bytes_per_sec;

    __sync_fetch_and_add(&shaper->sent_past_bytes, frame_bytes);
    link->own_charged_bytes = own_bytes;
    until_ns +=
        (new_bytes < MOST_CHARGED_BYTES ? new_bytes : MOST_CHARGED_BYTES) * NSEC_PER_SEC / rate;
    if (until_ns > now_ns + SENT_AHEAD_NS)
        until_ns = now_ns + SENT_AHEAD_NS;
    if (until_ns + link->sent_burst_ns < now_ns)
        until_ns = now_ns - link->sent_burst_ns;
    shaper->sent_until_ns = until_ns;
    if (until_ns > now_ns + (frame_bytes <= IDLE_FRAME_BYTES ? SENT_AHEAD_NS - 1 : 0)) {
        __sync_fetch_and_add(&shaper->sent_dropped_bytes, frame_bytes);
        __sync_fetch_and_add(&shaper->sent_dropped_packets, 1);
        return 1;
    }
    shaper->sent_until_ns += frame_bytes * NSEC_PER_SEC / rate;
    return 0;
}

#endif
