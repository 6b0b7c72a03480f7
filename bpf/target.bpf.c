/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What all programs look up first: the records of the target and of the flow, the exempt networks.
 * No limits record, or rate 0, means not limited: pass. Loopback is never counted.
 */
#include "limit.h"
#include "maps.h"
#include "packet.h"
#include "sharing.h"

#define PASS 1
/* Ten sockets and their programs take some microseconds. */
#define COPY_FOLLOWS_NS 50000ULL

#ifdef PODPACE_TEST_RUN
/* BPF_PROG_TEST_RUN gives programs empty cgroup storage; the tables of tests/kernel put the
 * records here instead. */
BPF_ARRAY(test_limits, struct limits, 1);
BPF_ARRAY(test_state, struct pod_state, 1);
/* A test run's socket is no TCP socket. */
BPF_ARRAY(test_flow, struct flow, 1);
#endif

/* Never 0, except to the verifier in a test run. */
static inline __attribute__((always_inline)) struct limits *limits_here(void)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_limits.lookup(&zero);
#else
    return (struct limits *)(long)target_limits.get_local_storage(0);
#endif
}

static inline __attribute__((always_inline)) struct pod_state *state_here(void)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_state.lookup(&zero);
#else
    return (struct pod_state *)(long)target_state.get_local_storage(0);
#endif
}

/* Whether the other end is in one of a list's networks. */
static inline __attribute__((always_inline)) int is_listed(struct __sk_buff *skb, u64 list,
                                                           u8 version, int outgoing)
{
    struct exempt_key key = {};
    u32 offset;

    exempt_key_start(&key, list, version);
    if (version == 4) {
        offset = outgoing ? 16 : 12;
        if (bpf_skb_load_bytes(skb, PACKET_START + offset, key.address, 4))
            return 0;
    } else if (version == 6) {
        offset = outgoing ? 24 : 8;
        if (bpf_skb_load_bytes(skb, PACKET_START + offset, key.address, 16))
            return 0;
    } else {
        return 0;
    }
    return exempt_networks.lookup(&key) != 0;
}

/* Where the node's link is shared: what stays on the node does not use it. */
static inline __attribute__((always_inline)) void
count_local(struct __sk_buff *skb, const struct limits *limits, struct direction_state *state,
            const struct packet *packet, int outgoing)
{
    if (UNLIKELY(limits->local_list) &&
        is_listed(skb, limits->local_list, packet->version, outgoing))
        __sync_fetch_and_add(&state->local_bytes, packet->frame_bytes);
}

/* Whether this is one more copy of the multicast packet that was counted last. Each socket of a
 * group gets one, and so does the target itself of what it sends to a group that it is in. Copies
 * share the packet's bytes, and follow each other at once. */
static inline __attribute__((always_inline)) int is_copy(struct __sk_buff *skb,
                                                         struct pod_state *state)
{
    u64 packet = (u64)(long)skb->data, now_ns = bpf_ktime_get_ns();
    int is_known =
        packet == state->multicast_packet && now_ns - state->multicast_at_ns < COPY_FOLLOWS_NS;

    state->multicast_packet = packet;
    state->multicast_at_ns = now_ns;
    if (!is_known)
        state->multicast_refused = 0;
    return is_known;
}

/* Has the daemon look for more, if this direction has used all it has. */
static inline __attribute__((always_inline)) void tell_sharing(const struct limits *limits,
                                                               const struct direction_state *state,
                                                               u64 limited_before, u64 now_ns)
{
    u64 *wanted_at_ns;
    int zero = 0;

    if (!may_be_given_more(limits) ||
        (state->limited_ns == limited_before && state->tokens_bytes >= 0))
        return;
    wanted_at_ns = sharing_wanted.lookup(&zero);
    if (wanted_at_ns && *wanted_at_ns + TELL_AGAIN_NS < now_ns)
        *wanted_at_ns = now_ns;
}

/* The flow's record, if this packet carries data: ACKs make no flow active. */
static inline __attribute__((always_inline)) struct flow *flow_of(struct __sk_buff *skb)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;

    return test_flow.lookup(&zero);
#else
    struct bpf_sock *sk = skb->sk;

    if (!sk)
        return 0;
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return 0;
    return flows.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
#endif
}
