/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Shaping at a target's interface: what a packet meets there, by a clock of the target's backlog
 * and one of each flow's own. Pure arithmetic: no map, no packet, no clock.
 *
 * The target's clock says when all that was let through will have left at the limit. What waits is
 * bulk; a flow with no backlog of its own passes it (sparse). Where the backlog is above the
 * target, flows that have their part in it are told to slow down, one packet at a time.
 */
#ifndef PODPACE_AQM_H
#define PODPACE_AQM_H

#include "limit.h"
#include "shape.h"

/* Frames up to this size (ACKs, DNS, keep-alives) make no flow active. */
#define IDLE_FRAME_BYTES 300
/* A flow that is above a target for longer than a round trip is told so, once in an interval: with
 * CE (CoDel's target, RFC 8289), or by a loss, which costs more and so comes where windows that
 * hold 20 ms (held.h) do not get. */
#define MARK_TARGET_NS     5000000ULL
#define DROP_TARGET_NS     30000000ULL
#define SIGNAL_INTERVAL_NS 100000000ULL
/* Segments that a TCP flow keeps in flight at any rate: two by its standard, four by BBR. Below
 * what they take to send, a target only makes timeouts... */
#define MARK_TARGET_SEGMENTS 2
#define DROP_TARGET_SEGMENTS 4
/* ... and a delay that grows by more than TCP's least retransmission timeout (200 ms) makes it
 * send everything twice. */
#define MAX_MARK_TARGET_NS 40000000ULL
#define MAX_DROP_TARGET_NS 130000000ULL
#define TCP_BOUND_NS       160000000ULL
#define MOST_QUEUED_NS     1000000000ULL
#define OTHER_BOUND_NS     60000000ULL
/* Below 600 kbit/s that is less than a sender needs to go on at all. */
#define BOUND_FRAMES 8
/* Flows are counted over this long, or over eight frames at low rates. */
#define FLOW_WINDOW_NS     20000000ULL
#define MAX_FLOW_WINDOW_NS 500000000ULL
#define FLOW_WINDOW_FRAMES 8
/* Sparse flows together may be ahead of the limit by this: full frames, small ones. */
#define SPARSE_BOUND_NS       5000000ULL
#define SPARSE_BOUND_SMALL_NS 50000000ULL
/* What a flow of small frames may send in one go, and the part of the limit it may have before
 * what waits, in place of a smaller fair share. */
#define SMALL_QUANTUM_BYTES 6056
#define SMALL_SHARERS       8
/* While nothing waits and all credit is unused, this much time at the limit passes between two
 * looks at the clocks: so little of a burst that being charged later changes nothing. */
#define MAY_PASS_NS 100000
/* The queue makes up for lost time at three halves of the limit (enforcer/net/queues.py). */
#define BULK_CEIL_HALVES 3

enum aqm_verdict {
    AQM_SPARSE, /* send at once, before what waits */
    AQM_BULK,   /* send in its turn */
    AQM_MARK,   /* send in its turn, with CE if it can carry it */
    AQM_SIGNAL, /* the same, but drop it if it cannot */
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

/* Flows that sent data in the window before, at least one. */
static inline __attribute__((always_inline)) void aqm_count_flow(struct shaper *shaper,
                                                                 struct shaped_flow *flow,
                                                                 const struct link *link,
                                                                 u32 frame_bytes, u64 now_ns)
{
    u64 window_ns = aqm_cost_ns(link, FLOW_WINDOW_FRAMES * link->full_frame_bytes);

    if (window_ns < FLOW_WINDOW_NS)
        window_ns = FLOW_WINDOW_NS;
    /* A flow that waits for its queued packets to arrive is active. */
    window_ns += aqm_ahead_ns(shaper->departs_at_ns, now_ns);
    if (window_ns > MAX_FLOW_WINDOW_NS)
        window_ns = MAX_FLOW_WINDOW_NS;
    if (now_ns > shaper->window_started_at_ns + window_ns) {
        shaper->active_flows =
            now_ns > shaper->window_started_at_ns + 2 * window_ns ? 0 : shaper->window_flows;
        shaper->window_flows = 0;
        shaper->window_started_at_ns = now_ns;
        shaper->window++;
    }
    if (frame_bytes > IDLE_FRAME_BYTES && flow->window != shaper->window) {
        flow->window = shaper->window;
        shaper->window_flows++;
    }
}

/* `least_ns`, or what the segments take to send. */
static inline __attribute__((always_inline)) u64
aqm_target_ns(const struct link *link, u64 segments, u64 least_ns, u64 most_ns)
{
    u64 target_ns = aqm_cost_ns(link, link->full_frame_bytes) * segments;

    if (target_ns < least_ns)
        return least_ns;
    return target_ns < most_ns ? target_ns : most_ns;
}

/* What becomes of a packet; counts and charges it unless it is dropped. */
static inline __attribute__((always_inline)) int aqm_admit(struct shaper *shaper,
                                                           struct shaped_flow *flow,
                                                           const struct link *link, u32 frame_bytes,
                                                           int is_tcp, u64 now_ns)
{
    u64 cost_ns = aqm_cost_ns(link, frame_bytes);
    u64 flows, mark_ns, drop_ns, delay_ns, own_ns, bound_ns, behind_ns;
    u64 sharers;
    int sparse, is_small, verdict = AQM_BULK;

    aqm_follow_rate(shaper, link, now_ns);
    aqm_settle_far(shaper, link, now_ns);
    aqm_count_flow(shaper, flow, link, frame_bytes, now_ns);
    flows =
        shaper->active_flows > shaper->window_flows ? shaper->active_flows : shaper->window_flows;
    if (!flows)
        flows = 1;
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
    if (flow->own_until_ns < now_ns)
        flow->own_until_ns = now_ns;
    delay_ns = aqm_ahead_ns(shaper->departs_at_ns, now_ns);
    own_ns = flow->own_until_ns - now_ns;
    mark_ns = aqm_target_ns(link, MARK_TARGET_SEGMENTS * flows, MARK_TARGET_NS, MAX_MARK_TARGET_NS);
    drop_ns = aqm_target_ns(link, DROP_TARGET_SEGMENTS * flows, DROP_TARGET_NS, MAX_DROP_TARGET_NS);

    /* A quantum at its fair share is what a flow may send in one go; of small frames (requests,
     * ACKs) more, and at more than its share: they are a round trip that somebody waits for. */
    is_small = frame_bytes <= IDLE_FRAME_BYTES;
    sharers = is_small && flows > SMALL_SHARERS ? SMALL_SHARERS : flows;
    sparse =
        frame_bytes <= link->full_frame_bytes &&
        own_ns <= (is_small ? aqm_cost_ns(link, SMALL_QUANTUM_BYTES) * sharers
                            : aqm_cost_ns(link, link->full_frame_bytes - frame_bytes) * flows) &&
        now_ns >= flow->bulk_until_ns &&
        shaper->sparse_until_ns - now_ns < (is_small ? SPARSE_BOUND_SMALL_NS : SPARSE_BOUND_NS);
    if (sparse) {
        verdict = AQM_SPARSE;
        shaper->sparse_until_ns += cost_ns;
    } else {
        bound_ns = is_tcp ? TCP_BOUND_NS : OTHER_BOUND_NS;
        if (bound_ns < aqm_cost_ns(link, BOUND_FRAMES * link->full_frame_bytes))
            bound_ns = aqm_cost_ns(link, BOUND_FRAMES * link->full_frame_bytes);
        /* A flow that has nothing queued cannot slow down, and its loss would cost a timeout. */
        if (!own_ns)
            bound_ns += bound_ns / 4;
        if (delay_ns > bound_ns) {
            verdict = AQM_DROP;
        } else if (delay_ns <= mark_ns || own_ns <= mark_ns) {
            if (now_ns > flow->next_signal_at_ns + SIGNAL_INTERVAL_NS)
                flow->signals = 0;
        } else if (now_ns >= flow->next_signal_at_ns) {
            /* A GSO packet may be all that TCP has in flight but for what is queued: its loss must
             * leave enough behind to be noticed by. */
            if (delay_ns > drop_ns && own_ns > drop_ns && own_ns >= 2 * cost_ns * flows)
                verdict = AQM_SIGNAL;
            else
                verdict = AQM_MARK;
        }
    }
    if (verdict == AQM_DROP) {
        shaper->dropped_bytes += frame_bytes;
        shaper->dropped_packets++;
        return verdict;
    }
    shaper->delay_ns = delay_ns;
    shaper->departs_at_ns += cost_ns;
    flow->own_until_ns += cost_ns * sharers;
    if (!sparse) {
        if (shaper->bulk_departs_at_ns < now_ns)
            shaper->bulk_departs_at_ns = now_ns;
        shaper->bulk_departs_at_ns += cost_ns * 2 / BULK_CEIL_HALVES;
        flow->bulk_until_ns = shaper->departs_at_ns > shaper->bulk_departs_at_ns
                                  ? shaper->departs_at_ns
                                  : shaper->bulk_departs_at_ns;
    }
    aqm_count(shaper, frame_bytes);
    if (sparse)
        shaper->sparse_packets++;
    return verdict;
}

/* A flow was told: not again within an interval and the round trip that it takes to obey. */
static inline __attribute__((always_inline)) void
aqm_signalled(const struct shaper *shaper, struct shaped_flow *flow, u64 now_ns)
{
    flow->signals++;
    flow->next_signal_at_ns =
        now_ns + ((SIGNAL_INTERVAL_NS + shaper->delay_ns) >> (flow->signals > 3));
}

/* Takes back what aqm_admit charged for a packet that could not be marked. */
static inline __attribute__((always_inline)) void
aqm_take_back(struct shaper *shaper, const struct link *link, u32 frame_bytes)
{
    shaper->departs_at_ns -= aqm_cost_ns(link, frame_bytes);
    __sync_fetch_and_add(&shaper->passed_bytes, -(u64)frame_bytes);
    __sync_fetch_and_add(&shaper->passed_packets, -1);
    shaper->dropped_bytes += frame_bytes;
    shaper->dropped_packets++;
}

#endif
