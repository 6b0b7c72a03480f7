/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Two programs at a target's interface on the host. podpace_shape, at its tc egress, where the
 * target's incoming traffic passes, in front of a queue that lets sparse flows go first; and
 * podpace_sent, at its tc ingress, bounds what the target sends past the hooks of its cgroup.
 * No record for the interface means that everything passes: whatever follows decides.
 *
 * Every map access is here; the arithmetic is in aqm.h and sent.h.
 */
#include <uapi/linux/bpf.h>

#include "aqm.h"
#include "limit.h"
#include "sent.h"
#include "shape.h"

#define NEXT -1 /* TC_ACT_UNSPEC, TCX_NEXT: neighbours' programs run too */
#define SHOT 2  /* TC_ACT_SHOT, TCX_DROP */

#define ETHERNET_BYTES 14
#define PROTOCOL_IPV4  0x0800
#define PROTOCOL_IPV6  0x86dd
#define IPV4_PROTOCOL  9
#define IPV4_SOURCE    12
#define IPV6_SOURCE    8
#define IPV4_TARGET    16
#define IPV6_TARGET    24
#define IPV6_PROTOCOL  6
#define TRANSPORT_TCP  6
#define SHAPED_FLOWS   65536
#define SHAPED_TARGETS 4096
#define SHAPED_LINKS   8192
#define INET           2
#define INET6          10
#define CGROUP_LEVELS  16
/* Of each segment of a GSO packet, in a frame: Ethernet, IP, TCP with timestamps. */
#define SEGMENT_HEADER_BYTES      66
#define IPV6_SEGMENT_HEADER_BYTES 86

/* Interface on the host -> whose it is and what holds there. User space writes. */
BPF_F_TABLE("hash", u32, struct link, links, SHAPED_LINKS, BPF_F_NO_PREALLOC);

/* cgroup id -> clocks and counters. User space makes and removes them; the program writes. */
BPF_F_TABLE("hash", u64, struct shaper, shapers, SHAPED_TARGETS, BPF_F_NO_PREALLOC);

/* (cgroup id, hash of the flow) -> the flow's clocks. The program writes. */
BPF_TABLE("lru_hash", struct shaped_flow_key, struct shaped_flow, shaped_flows, SHAPED_FLOWS);

/* The limiter's (maps.h), which is compiled before this in the same process. */
BPF_TABLE("extern", struct exempt_key, u32, exempt_networks, 0);

/* When somebody that shares last used all it has; the daemon looks ten times a second. */
BPF_TABLE("extern", int, u64, sharing_wanted, 1);

/* Whether the address at these places, by IP version, is of an exempt network. */
static inline __attribute__((always_inline)) int
is_exempt(struct __sk_buff *skb, const struct link *link, u32 ipv4_offset, u32 ipv6_offset)
{
    struct exempt_key key = {};

    if (skb->protocol == __builtin_bswap16(PROTOCOL_IPV4)) {
        exempt_key_start(&key, link->exempt_list, 4);
        if (bpf_skb_load_bytes(skb, ETHERNET_BYTES + ipv4_offset, key.address, 4))
            return 0;
    } else if (skb->protocol == __builtin_bswap16(PROTOCOL_IPV6)) {
        exempt_key_start(&key, link->exempt_list, 6);
        if (bpf_skb_load_bytes(skb, ETHERNET_BYTES + ipv6_offset, key.address, 16))
            return 0;
    } else {
        return 0;
    }
    return exempt_networks.lookup(&key) != 0;
}

static inline __attribute__((always_inline)) int is_tcp(struct __sk_buff *skb)
{
    u8 protocol = 0;

    if (skb->protocol == __builtin_bswap16(PROTOCOL_IPV4))
        bpf_skb_load_bytes(skb, ETHERNET_BYTES + IPV4_PROTOCOL, &protocol, 1);
    else if (skb->protocol == __builtin_bswap16(PROTOCOL_IPV6))
        bpf_skb_load_bytes(skb, ETHERNET_BYTES + IPV6_PROTOCOL, &protocol, 1);
    return protocol == TRANSPORT_TCP;
}

int podpace_shape(struct __sk_buff *skb)
{
    struct shaped_flow_key key = {};
    struct shaped_flow *flow, fresh = {};
    struct shaper *shaper;
    struct link *link;
    u64 now_ns;
    u32 ifindex = skb->ifindex, frame_bytes = skb->wire_len;
    int verdict, tcp, marked;

    link = links.lookup(&ifindex);
    if (!link || !link->rate_bytes_per_sec)
        return NEXT;
    key.cgroup_id = link->cgroup_id;
    shaper = shapers.lookup(&key.cgroup_id);
    if (!shaper)
        return NEXT;
    if (UNLIKELY(link->exempt_list) && is_exempt(skb, link, IPV4_SOURCE, IPV6_SOURCE)) {
        skb->priority = link->direct_class;
        return NEXT;
    }
    /* HTB's direct queue goes before its classes, where nothing waits now. */
    if (aqm_take_far(shaper, link, frame_bytes)) {
        skb->priority = link->direct_class;
        return NEXT;
    }
    key.hash = bpf_get_hash_recalc(skb);
    flow = shaped_flows.lookup_or_try_init(&key, &fresh);
    if (!flow)
        return NEXT;
    tcp = is_tcp(skb);
    now_ns = bpf_ktime_get_ns();

    bpf_spin_lock(&shaper->lock);
    verdict = aqm_admit(shaper, flow, link, frame_bytes, tcp, now_ns);
    bpf_spin_unlock(&shaper->lock);

    if (verdict == AQM_MARK || verdict == AQM_SIGNAL) {
        marked = bpf_skb_ecn_set_ce(skb) == 1;
        bpf_spin_lock(&shaper->lock);
        if (marked)
            shaper->marked_packets++;
        else if (verdict == AQM_SIGNAL)
            aqm_take_back(shaper, link, frame_bytes);
        if (marked || verdict == AQM_SIGNAL)
            aqm_signalled(shaper, flow, now_ns);
        bpf_spin_unlock(&shaper->lock);
        if (!marked && verdict == AQM_SIGNAL)
            verdict = AQM_DROP;
    }
    if (verdict == AQM_DROP)
        return SHOT;
    skb->priority = verdict == AQM_SPARSE ? link->sparse_class : link->bulk_class;
    return NEXT;
}

/* Whether a socket of the target's cgroup, or one below, sent it by its cgroup's hooks. Packet
 * sockets do not pass those; what is forwarded has no socket, what others send another cgroup. */
static inline __attribute__((always_inline)) int is_own(struct __sk_buff *skb, struct link *link)
{
    struct bpf_sock *socket = skb->sk;
    u32 level = link->cgroup_level;

    if (!socket || (socket->family != INET && socket->family != INET6))
        return 0;
    if (level)
        return bpf_skb_ancestor_cgroup_id(skb, level) == link->cgroup_id;
    for (level = 1; level <= CGROUP_LEVELS; level++)
        if (bpf_skb_ancestor_cgroup_id(skb, level) == link->cgroup_id) {
            link->cgroup_level = level;
            return 1;
        }
    return 0;
}

static inline __attribute__((always_inline)) u32 sent_frame_bytes(struct __sk_buff *skb)
{
    u32 segments = skb->gso_segs, header_bytes = SEGMENT_HEADER_BYTES;

    if (skb->protocol == __builtin_bswap16(PROTOCOL_IPV6))
        header_bytes = IPV6_SEGMENT_HEADER_BYTES;
    /* A packet socket says only how large its segments are. */
    if (!segments && skb->gso_size)
        segments = (skb->len - header_bytes) / skb->gso_size + 1;
    return skb->len + (segments > 1 ? (segments - 1) * header_bytes : 0);
}

int podpace_sent(struct __sk_buff *skb)
{
    u32 ifindex = skb->ifindex, frame_bytes;
    struct shaper *shaper;
    struct link *link;
    u64 cgroup_id, now_ns, *wanted_at_ns;
    int zero = 0;

    link = links.lookup(&ifindex);
    if (!link || !link->sent_rate_bytes_per_sec)
        return NEXT;
    if (UNLIKELY(link->exempt_list) && is_exempt(skb, link, IPV4_TARGET, IPV6_TARGET))
        return NEXT;
    frame_bytes = sent_frame_bytes(skb);
    if (is_own(skb, link)) {
        __sync_fetch_and_add(&link->own_bytes, frame_bytes);
        return NEXT;
    }
    cgroup_id = link->cgroup_id;
    shaper = shapers.lookup(&cgroup_id);
    now_ns = bpf_ktime_get_ns();
    if (!shaper || !sent_is_late(shaper, link, frame_bytes, now_ns))
        return NEXT;
    wanted_at_ns = sharing_wanted.lookup(&zero);
    if (wanted_at_ns)
        *wanted_at_ns = now_ns;
    return SHOT;
}
