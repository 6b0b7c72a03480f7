/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which of a record's limits holds now. Who shares with others has a rate that user space computes
 * several times a second; when nobody has done that for too long, the limits of a group that is
 * divided equally hold. No map.
 */
#ifndef PODPACE_SHARING_H
#define PODPACE_SHARING_H

#include "limit.h"

/* How often, at most, somebody's word is renewed that he uses all he has. */
#define TELL_AGAIN_NS 20000000ULL

static inline __attribute__((always_inline)) int is_stale(const struct limits *limits)
{
    return limits->current_until_ns && bpf_ktime_get_coarse_ns() > limits->current_until_ns;
}

static inline __attribute__((always_inline)) struct direction_limit *
ingress_of(struct limits *limits)
{
    return is_stale(limits) ? &limits->ingress_later : &limits->ingress;
}

static inline __attribute__((always_inline)) struct direction_limit *
egress_of(struct limits *limits)
{
    return is_stale(limits) ? &limits->egress_later : &limits->egress;
}

/* Whether the daemon is to look for more for it: not where it looks already. */
static inline __attribute__((always_inline)) int may_be_given_more(const struct limits *limits)
{
    return limits->flags & FLAG_SHARES && (!limits->current_until_ns || is_stale(limits));
}

#endif
