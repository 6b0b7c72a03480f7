/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How long a flow's path is taken to be, which its windows cover: the round trip of its handshake,
 * and more where data comes late while credit lies unused. Pure arithmetic: no map, no packet, no
 * clock.
 */
#ifndef PODPACE_PATH_H
#define PODPACE_PATH_H

#include "limit.h"

/* What a flow's window holds beyond its path: the ACKs that wait, and room for jitter. */
#define RECEIVE_SLACK_US 20000ULL
/* A path is taken for this much longer than at the handshake at most: with the slack, less than an
 * ACK may wait. */
#define MAX_PATH_EXTRA_NS 80000000ULL
/* A path is not taken for longer while its handshake is as young as this. */
#define PATH_KNOWN_NS NSEC_PER_SEC
/* In which the shortest wait of a flow's ACKs is looked for: longer than stalls are apart. */
#define PATH_PERIOD_NS 500000000ULL
/* Where the handshake gave no sample. */
#define UNKNOWN_RTT_US 50000ULL
#define MAX_RTT_US     1000000ULL
#define NO_RTT_SAMPLE  0xffffffffU

static inline __attribute__((always_inline)) u64 path_rtt_us(u32 sample_us)
{
    if (sample_us == NO_RTT_SAMPLE)
        return UNKNOWN_RTT_US;
    return sample_us < MAX_RTT_US ? sample_us : MAX_RTT_US;
}

/* What windows are to cover. */
static inline __attribute__((always_inline)) u64 flow_path_us(const struct flow *flow,
                                                              u32 sample_us)
{
    return path_rtt_us(sample_us) + flow->path_extra_ns / 1000;
}

/* A path may grow longer after the handshake, and processors along it may stand still: then a
 * window is used up long before its data comes, and credit lies unused. Asked of each ACK before it
 * is charged: when it is late, data came later than the flow's clock had allowed. A quarter of that
 * time, or of what the flow had received without a pause if that is less, is added to its path. A
 * thirty-second is taken away, so that a flow that wants less than an eighth of its share keeps to
 * the path it has. */
static inline __attribute__((always_inline)) void lengthen_path(struct flow *flow, int is_unused,
                                                                u64 now_ns)
{
    u64 late_ns, less_ns, extra_ns = flow->path_extra_ns;

    if (!flow->ack_due_ns || now_ns <= flow->ack_due_ns)
        return;
    late_ns = now_ns - flow->ack_due_ns;
    less_ns = late_ns / 32;
    if (is_unused && now_ns > flow->joined_ns + PATH_KNOWN_NS)
        extra_ns += (late_ns < flow->run_ns ? late_ns : flow->run_ns) / 4;
    extra_ns = extra_ns > less_ns ? extra_ns - less_ns : 0;
    flow->path_extra_ns = extra_ns < MAX_PATH_EXTRA_NS ? extra_ns : MAX_PATH_EXTRA_NS;
    flow->run_ns = 0;
}

/* Told of each ACK that was charged: where even the one that waits least waits longer than the
 * slack, the path is shorter than it is taken for. */
static inline __attribute__((always_inline)) void shorten_path(struct flow *flow, u64 departs_at_ns,
                                                               u64 now_ns)
{
    u64 wait_ns = departs_at_ns - now_ns, less_ns = 0;

    flow->run_ns += flow->ack_due_ns - departs_at_ns;
    if (wait_ns < flow->least_wait_ns)
        flow->least_wait_ns = wait_ns;
    if (now_ns < flow->waits_since_ns + PATH_PERIOD_NS)
        return;
    if (flow->least_wait_ns > RECEIVE_SLACK_US * 1000)
        less_ns = flow->least_wait_ns - RECEIVE_SLACK_US * 1000;
    flow->path_extra_ns -= less_ns < flow->path_extra_ns ? less_ns : flow->path_extra_ns;
    flow->least_wait_ns = wait_ns;
    flow->waits_since_ns = now_ns;
}

#endif
