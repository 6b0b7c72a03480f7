/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The share controller: how much may one greedy flow send, so that all flows together use the
 * limit? Pure arithmetic: no map, no packet, no clock.
 *
 * Every epoch: the flows sent `achieved`, each greedy one at `share`, so there are
 * achieved / share greedy flows; flows that want less count as the fraction they use. The next
 * share is want / greedy flows, where want is the rate, corrected so that the bucket's credit
 * returns to a small reserve. That is max-min fair, and exact in the long run because the credit
 * integrates every error.
 */
#ifndef PODPACE_CONTROLLER_H
#define PODPACE_CONTROLLER_H

#include "limit.h"

#define Q8                      256ULL
#define MAX_GREEDY_FLOWS        65536ULL
#define MIN_SHARE_BYTES_PER_SEC 256ULL
/* Credit is led back over this time, or two epochs where those are longer: slower than the loop's
 * own delay, or it would swing. */
#define CREDIT_HORIZON_NS 128000000ULL
/* Where an epoch is longer than any limit asks for, flows wait for each single packet: credit is
 * led back half as fast, or it would overshoot by as much as it lacked. */
#define LONG_EPOCH_NS 500000000ULL
/* 8 ms and a frame of credit are kept for what is not paced. */
#define RESERVE_DIVISOR 512
/* Below this every packet's flow is looked up; above it the epoch is a busy one. */
#define QUIET_EPOCH_BYTES 262144
/* A window long enough for every greedy flow to have sent something. */
#define EPOCHS_PER_WINDOW 8
/* What a socket sends at once at a low share: half of its smallest window. It takes up a new share
 * only when that is paid for. */
#define QUANTUM_FRAMES 2
#define MAX_FOLLOW_NS  NSEC_PER_SEC
/* A socket whose segment was refused and that has nothing in flight tries again after half a second
 * (TCP_RESOURCE_PROBE_INTERVAL): it is silent, not gone. */
#define SILENT_AFTER_DROP_NS 700000000ULL

static inline __attribute__((always_inline)) s64 reserve_bytes(const struct direction_limit *limit)
{
    u64 reserve = limit->rate_bytes_per_sec / RESERVE_DIVISOR + limit->frame_bytes;

    return (s64)(reserve < limit->burst_bytes / 2 ? reserve : limit->burst_bytes / 2);
}

/* Bytes per second that all flows together should send in the next epoch. */
static inline __attribute__((always_inline)) u64
wanted_bytes_per_sec(const struct direction_limit *limit, s64 tokens_bytes, u64 epoch_ns)
{
    u64 rate = limit->rate_bytes_per_sec;
    u64 epochs = epoch_ns > LONG_EPOCH_NS ? 4 : 2;
    u64 horizon_ns = epochs * epoch_ns > CREDIT_HORIZON_NS ? epochs * epoch_ns : CREDIT_HORIZON_NS;
    s64 surplus_bytes = tokens_bytes - reserve_bytes(limit);
    u64 magnitude = (u64)(surplus_bytes < 0 ? -surplus_bytes : surplus_bytes);
    u64 correction = magnitude * 1000000 / (horizon_ns / 1000);

    if (surplus_bytes < 0)
        return correction < rate / 4 ? rate - correction : rate - rate / 4;
    return correction < rate / 4 ? rate + correction : rate + rate / 4;
}

static inline __attribute__((always_inline)) u64 share_of(u64 want_bytes_per_sec,
                                                          u64 greedy_flows_q8)
{
    u64 share = want_bytes_per_sec * Q8 / greedy_flows_q8;

    return share < MIN_SHARE_BYTES_PER_SEC ? MIN_SHARE_BYTES_PER_SEC : share;
}

/* How long it takes until the flows send at the share they were given: what an epoch must span,
 * or the controller would correct what is on its way already. */
static inline __attribute__((always_inline)) u64
epoch_length_ns(const struct direction_limit *limit, u64 share_bytes_per_sec, u64 rtt_ns)
{
    u64 epoch_ns = limit->epoch_ns > rtt_ns ? limit->epoch_ns : rtt_ns, follow_ns;

    if (!share_bytes_per_sec)
        return epoch_ns;
    follow_ns = QUANTUM_FRAMES * limit->frame_bytes * NSEC_PER_SEC / share_bytes_per_sec;
    if (follow_ns > MAX_FOLLOW_NS)
        follow_ns = MAX_FOLLOW_NS;
    return follow_ns > epoch_ns ? follow_ns : epoch_ns;
}

/* Plans the next epoch: how long, and how many bytes end it early. A start-up burst must not go on
 * for a whole epoch. Kept in the state, so that a packet costs no division. `slowest` is the lower
 * of the old share and the new: who sent at the old one takes up the new only when that is paid. */
static inline __attribute__((always_inline)) void
controller_plan(struct direction_state *state, const struct direction_limit *limit,
                u64 slowest_bytes_per_sec, u64 rtt_ns, u64 now_ns)
{
    u64 epoch_ns = epoch_length_ns(limit, slowest_bytes_per_sec, rtt_ns);

    state->epoch_started_at_ns = now_ns;
    state->epoch_length_ns = epoch_ns;
    state->epoch_enough_bytes = 2 * (limit->rate_bytes_per_sec * (epoch_ns / 1000) / 1000000);
    state->epoch_rate_bytes_per_sec = limit->rate_bytes_per_sec;
    state->epoch_bytes = 0;
}

static inline __attribute__((always_inline)) int
recently_refused(const struct direction_state *state, u64 now_ns)
{
    return state->dropped_at_ns && now_ns < state->dropped_at_ns + SILENT_AFTER_DROP_NS;
}

/* Flows that would have used a larger share in the epoch that ends, in 1/256. */
static inline __attribute__((always_inline)) u64
greedy_flows_q8(const struct direction_state *state, u64 achieved_bytes_per_sec, int refused)
{
    u64 before = state->greedy_flows_q8;
    u64 greedy = achieved_bytes_per_sec * Q8 / state->share_bytes_per_sec;
    u64 seen =
        state->active_flows > state->window_flows ? state->active_flows : state->window_flows;

    /* Up at once, down slowly: a flow too fast costs the others, one too slow only itself. */
    if (greedy < 2 * before)
        greedy = (3 * before + greedy) / 4;
    /* Sockets follow a new share after a while: what they send until then must not be taken for
     * more flows than there are. */
    if (seen && greedy > (seen + 1) * Q8)
        greedy = (seen + 1) * Q8;
    if (refused) {
        if (greedy < before)
            greedy = before;
        if (state->dropped_at_ns >= state->epoch_started_at_ns && greedy < seen * Q8)
            greedy = seen * Q8;
    }
    if (greedy < Q8)
        greedy = Q8;
    return greedy < MAX_GREEDY_FLOWS * Q8 ? greedy : MAX_GREEDY_FLOWS * Q8;
}

/* Whether its time is up, or it has brought twice what it should. A limit that was changed is
 * followed at once, however long the epoch was to be. */
static inline __attribute__((always_inline)) int epoch_is_over(const struct direction_state *state,
                                                               const struct direction_limit *limit,
                                                               u64 elapsed_ns)
{
    return elapsed_ns >= state->epoch_length_ns ||
           state->epoch_rate_bytes_per_sec != limit->rate_bytes_per_sec ||
           (elapsed_ns >= state->epoch_length_ns / 8 &&
            state->epoch_bytes >= state->epoch_enough_bytes);
}

static inline __attribute__((always_inline)) void epoch_count(struct direction_state *state)
{
    state->epoch++;
    if (state->epoch % EPOCHS_PER_WINDOW == 0) {
        state->active_flows = state->window_flows;
        state->window_flows = 0;
    }
}

/* Called for every packet: at an epoch's end, computes the next share. */
static inline __attribute__((always_inline)) void
controller_tick(struct direction_state *state, const struct direction_limit *limit, u64 rtt_ns,
                u64 now_ns)
{
    u64 elapsed_ns = now_ns > state->epoch_started_at_ns ? now_ns - state->epoch_started_at_ns : 0;
    u64 epoch_ns = state->epoch_length_ns, slowest = state->share_bytes_per_sec, achieved;
    int refused;

    if (!epoch_is_over(state, limit, elapsed_ns))
        return;
    refused = recently_refused(state, now_ns);
    /* Credit that piles up while refused sockets are silent is not for later. */
    if (refused && state->tokens_bytes > reserve_bytes(limit))
        state->tokens_bytes = reserve_bytes(limit);
    if (!state->share_bytes_per_sec || (elapsed_ns > 4 * epoch_ns && !refused)) {
        /* Nothing is known of what goes on now; the first flow may have it all. */
        state->greedy_flows_q8 = Q8;
    } else {
        achieved = state->epoch_bytes * 1000000 / (elapsed_ns / 1000 + 1);
        state->greedy_flows_q8 = greedy_flows_q8(state, achieved, refused);
        if (8 * achieved >= 7 * limit->rate_bytes_per_sec)
            state->limited_ns += elapsed_ns;
    }
    /* How fast credit may be led back follows from the share that comes, not from the one that was.
     */
    epoch_ns =
        epoch_length_ns(limit, share_of(limit->rate_bytes_per_sec, state->greedy_flows_q8), rtt_ns);
    state->share_bytes_per_sec = share_of(
        wanted_bytes_per_sec(limit, state->tokens_bytes, epoch_ns), state->greedy_flows_q8);
    if (!slowest || slowest > state->share_bytes_per_sec)
        slowest = state->share_bytes_per_sec;
    controller_plan(state, limit, slowest, rtt_ns, now_ns);
    epoch_count(state);
}

/* The number of the running window of epochs, + 1. */
static inline __attribute__((always_inline)) u64 window_of(const struct direction_state *state)
{
    return state->epoch / EPOCHS_PER_WINDOW + 1;
}

/* Counts the flow once per window; whether this was the once. Two CPUs may race for the last flow
 * of a window: harmless. */
static inline __attribute__((always_inline)) int count_flow(struct direction_state *state,
                                                            u64 *last_window)
{
    u64 window = window_of(state);

    if (*last_window == window)
        return 0;
    *last_window = window;
    __sync_fetch_and_add(&state->window_flows, 1);
    return 1;
}

#endif
