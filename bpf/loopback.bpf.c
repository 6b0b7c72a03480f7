/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Connections that stay on the machine: to the target itself, to its sidecar. They are no limit's
 * matter, and are told by the device that their packets pass, for addresses tell nothing (a mesh's
 * go from 127.0.0.1 to 127.0.0.6, or to the pod's own).
 */
#include "packet.h"
#include "socket.h"

#define TCP_SYN_SENT 2
#define TCP_LISTEN   10

/* A packet leaves over loopback: its socket is to be left alone. A connection's first packet comes
 * before sock_ops is called for it. */
static inline __attribute__((always_inline)) void mark_loopback(struct __sk_buff *skb)
{
#ifdef PODPACE_TEST_RUN
    int zero = 0;
    struct flow *flow = test_flow.lookup(&zero);
#else
    struct bpf_sock *sk = skb->sk;
    struct flow *flow;

    if (!sk)
        return;
    sk = bpf_sk_fullsock(sk);
    if (!sk || sk->protocol != TCP)
        return;
    flow = flows.sk_storage_get(sk, 0, sk->state == TCP_SYN_SENT ? BPF_SK_STORAGE_GET_F_CREATE : 0);
#endif
    if (flow && !flow->on_loopback)
        flow->on_loopback = 1;
}

/* A packet for a listening socket comes in over loopback. What it opens has no socket yet: sock_ops
 * is called for that next, on this CPU, and asks comes_by_loopback(). */
static inline __attribute__((always_inline)) void note_arrival(struct __sk_buff *skb)
{
    struct bpf_sock *sk = skb->sk;
    struct arrival arrival = {}, *noted;
    u16 ports[2] = {};
    u8 first = 0;
    u32 ip_bytes = IPV6_HEADER_BYTES, source_offset = 20;
    int zero = 0;

    if (!sk || sk->state != TCP_LISTEN)
        return;
    if (bpf_skb_load_bytes(skb, PACKET_START, &first, 1))
        return;
    if (first >> 4 == 4) {
        ip_bytes = (first & 15) * 4;
        source_offset = 12;
    }
    if (bpf_skb_load_bytes(skb, PACKET_START + source_offset, &arrival.remote_address, 4) ||
        bpf_skb_load_bytes(skb, PACKET_START + ip_bytes, ports, sizeof(ports)))
        return;
    /* As sock_ops shows them. */
    arrival.remote_port = bpf_htonl(bpf_ntohs(ports[0]));
    arrival.local_port = bpf_ntohs(ports[1]);
    noted = loopback_arrival.lookup(&zero);
    if (noted)
        *noted = arrival;
}

/* Whether the packet that opens this connection came over loopback. */
static inline __attribute__((always_inline)) int comes_by_loopback(const struct bpf_sock_ops *ops)
{
    int zero = 0;
    struct arrival *arrival = loopback_arrival.lookup(&zero);
    u32 address = remote_address(ops);

    return arrival && arrival->local_port == ops->local_port &&
           arrival->remote_port == ops->remote_port && arrival->remote_address == address;
}
