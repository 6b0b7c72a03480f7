/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Shaping at a target's interface: what a packet meets there, by a clock of the target's backlog.
 * Pure arithmetic: no map, no packet, no clock.
 *
 * The clock says when all that was let through will have left at the limit. What waits is bulk; a
 * flow that has nothing waiting passes it (sparse). Receive windows keep the backlog short
 * (held.h), so nothing has to be told by a loss or a mark; a bound is for who keeps to no window.
 */
#ifndef PODPACE_AQM_H
#define PODPACE_AQM_H

#include "limit.h"
#include "shape.h"

/* Small frames: ACKs, DNS, keep-alives, questions. */
#define SMALL_FRAME_BYTES 300
/* What waits longer is dropped: below TCP's least retransmission timeout (200 ms), which makes it
 * send everything twice... */
#define TCP_BOUND_NS   160000000ULL
#define OTHER_BOUND_NS 60000000ULL
/* ... but below 600 kbit/s that is less than a sender needs to go on at all. */
#define BOUND_FRAMES   8
#define MOST_QUEUED_NS 1000000000ULL
/* Sparse flows together may be ahead of the limit by this: full frames, small ones. */
#define SPARSE_BOUND_NS       2000000ULL
#define SPARSE_BOUND_SMALL_NS 50000000ULL
/* A flow is sparse when nothing of it has waited for so long: HTB's timers come late by up to its
 * burst, and what overtook its own flow was sent again (docs/design/0010-ablation.md). */
#define SETTLED_NS 20000000ULL
/* While nothing waits and all credit is unused, this much time at the limit passes between two
 * looks at the clocks: so little of a burst that being charged later changes nothing. */
#define MAY_PASS_NS 100000
/* The queue makes up for lost time at three halves of the limit (enforcer/net/queues.py). */
#define BULK_CEIL_HALVES 3
/* How far what a target's sockets send may be ahead of the bound on what they do not: they repay
 * it. And small frames of the others (ACKs, ICMP) for as long, where something else has used it up.
 */
#define SENT_AHEAD_NS      100000000ULL
#define MOST_CHARGED_BYTES (1ULL << 33) /* so that the product stays below 2^64 */

enum aqm_verdict {
    AQM_SPARSE, /* send at once, before what waits */
    AQM_BULK,   /* send in its turn */
    AQM_DROP,
};

/* What a frame costs the target, in time at its limit. */
static inline __attribute__((always_inline)) u64 aqm_cost_ns(const struct link *link, u32 bytes)
{
    return bytes * link->cost_multiplier >> link->cost_shift;
}

static inline __attribute__((always_inline)) u64 aqm_ahead_ns(u64 clock_ns, u64 now_ns)
{
    return clock_ns > now_ns ? clock_ns - now_ns : 0;
}

/* Counts a packet. Some packets hold the lock and others do not: hence atomically. */
static inline __attribute__((always_inline)) void aqm_count(struct shaper *shaper, u32 frame_bytes)
{
    __sync_fetch_and_add(&shaper->passed_bytes, frame_bytes);
    __sync_fetch_and_add(&shaper->passed_packets, 1);
}

/* All that there is to do for a packet far below the limit, without the lock, the clocks and the
 * flow's record, which are most of what the program costs; whether this is one. A limit that was
 * lowered is followed at once: costs are by the new one. */
static inline __attribute__((always_inline)) int
aqm_take_far(struct shaper *shaper, const struct link *link, u32 frame_bytes)
{
    u64 cost_ns = aqm_cost_ns(link, frame_bytes);

    if (shaper->uncharged_ns + cost_ns > shaper->may_pass_ns)
        return 0;
    __sync_fetch_and_add(&shaper->uncharged_ns, cost_ns);
    aqm_count(shaper, frame_bytes);
    return 1;
}

/* Another limit: what is queued takes another time to leave. A queue that would be above the bound
 * is thrown away when the limit changes (enforcer/net/shaping.py). */
static inline __attribute__((always_inline)) void
aqm_follow_rate(struct shaper *shaper, const struct link *link, u64 now_ns)
{
    u64 queued_ns = aqm_ahead_ns(shaper->departs_at_ns, now_ns), rate = shaper->rate_bytes_per_sec;

    if (rate == link->rate_bytes_per_sec)
        return;
    shaper->rate_bytes_per_sec = link->rate_bytes_per_sec;
    if (!rate || !queued_ns)
        return;
    if (queued_ns > MOST_QUEUED_NS)
        queued_ns = MOST_QUEUED_NS;
    /* In microseconds: 1 Tbit/s and a second fit. */
    queued_ns = queued_ns / 1000 * rate / link->rate_bytes_per_sec * 1000;
    if (queued_ns > TCP_BOUND_NS)
        queued_ns = 0;
    shaper->departs_at_ns = now_ns + queued_ns;
    shaper->bulk_departs_at_ns = shaper->departs_at_ns;
}

/* At a look at the clocks: charges what has passed without one. More may pass if nothing waits and
 * all credit is unused. A packet that passes meanwhile is charged to nobody: harmless. */
static inline __attribute__((always_inline)) void
aqm_settle_far(struct shaper *shaper, const struct link *link, u64 now_ns)
{
    shaper->departs_at_ns += shaper->uncharged_ns;
    shaper->uncharged_ns = 0;
    shaper->may_pass_ns =
        shaper->departs_at_ns + link->burst_ns <= now_ns && shaper->bulk_departs_at_ns <= now_ns
            ? MAY_PASS_NS
            : 0;
}

/* What becomes of a packet; counts and charges it unless it is dropped. */
static inline __attribute__((always_inline)) int aqm_admit(struct shaper *shaper,
                                                           struct shaped_flow *flow,
                                                           const struct link *link, u32 frame_bytes,
                                                           int is_tcp, u64 now_ns)
{
    u64 cost_ns = aqm_cost_ns(link, frame_bytes), behind_ns, delay_ns, bound_ns, least_ns;
    u64 sparse_ns = frame_bytes <= SMALL_FRAME_BYTES ? SPARSE_BOUND_SMALL_NS : SPARSE_BOUND_NS;
    int waits = now_ns < flow->bulk_until_ns, verdict = AQM_BULK;

    aqm_follow_rate(shaper, link, now_ns);
    aqm_settle_far(shaper, link, now_ns);
    if (shaper->departs_at_ns > shaper->seen_at_ns && now_ns > shaper->seen_at_ns)
        shaper->limited_ns +=
            (shaper->departs_at_ns < now_ns ? shaper->departs_at_ns : now_ns) - shaper->seen_at_ns;
    shaper->seen_at_ns = now_ns;
    /* Idle time is worth the burst. */
    behind_ns = link->burst_ns < now_ns ? now_ns - link->burst_ns : 0;
    if (shaper->departs_at_ns < behind_ns)
        shaper->departs_at_ns = behind_ns;
    if (shaper->sparse_until_ns < now_ns)
        shaper->sparse_until_ns = now_ns;
    delay_ns = aqm_ahead_ns(shaper->departs_at_ns, now_ns);

    if (now_ns >= flow->bulk_until_ns + SETTLED_NS && frame_bytes <= link->full_frame_bytes &&
        shaper->sparse_until_ns - now_ns < sparse_ns) {
        verdict = AQM_SPARSE;
        shaper->sparse_until_ns += cost_ns;
    } else {
        bound_ns = is_tcp ? TCP_BOUND_NS : OTHER_BOUND_NS;
        least_ns = aqm_cost_ns(link, BOUND_FRAMES * link->full_frame_bytes);
        if (bound_ns < least_ns)
            bound_ns = least_ns;
        /* A flow that has nothing queued cannot slow down, and its loss would cost a timeout. */
        if (delay_ns > bound_ns + (waits ? 0 : bound_ns / 4)) {
            shaper->dropped_bytes += frame_bytes;
            shaper->dropped_packets++;
            return AQM_DROP;
        }
        if (shaper->bulk_departs_at_ns < now_ns)
            shaper->bulk_departs_at_ns = now_ns;
        shaper->bulk_departs_at_ns += cost_ns * 2 / BULK_CEIL_HALVES;
        flow->bulk_until_ns = shaper->departs_at_ns + cost_ns > shaper->bulk_departs_at_ns
                                  ? shaper->departs_at_ns + cost_ns
                                  : shaper->bulk_departs_at_ns;
    }
    shaper->delay_ns = delay_ns;
    shaper->departs_at_ns += cost_ns;
    aqm_count(shaper, frame_bytes);
    return verdict;
}

/* Something that the target sends past its own sockets: counts it; whether it is dropped. What the
 * sockets send has been held to the limit by the programs on its cgroup; the rest has what that
 * leaves of the bound. Without a lock: a packet more or less does not matter. */
static inline __attribute__((always_inline)) int
aqm_sent_is_late(struct shaper *shaper, struct link *link, u32 frame_bytes, u64 now_ns)
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
    if (until_ns > now_ns + (frame_bytes <= SMALL_FRAME_BYTES ? SENT_AHEAD_NS - 1 : 0)) {
        __sync_fetch_and_add(&shaper->sent_dropped_bytes, frame_bytes);
        __sync_fetch_and_add(&shaper->sent_dropped_packets, 1);
        return 1;
    }
    shaper->sent_until_ns += frame_bytes * NSEC_PER_SEC / rate;
    return 0;
}

#endif
