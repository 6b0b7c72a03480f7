/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Reading a packet at the cgroup hooks, where it starts with its IP header. No map.
 */
#ifndef PODPACE_PACKET_H
#define PODPACE_PACKET_H

#include "limit.h"

#define ETHERNET_HEADER_BYTES      14
#define IPV4_HEADER_BYTES          20
#define IPV6_HEADER_BYTES          40
#define TCP                        6
#define UDP_HEADER_BYTES           8
#define ETHERNET_MTU_BYTES         1500
#define FRAGMENT_BYTES             1480
#define IPV6_FRAGMENT_HEADER_BYTES 8
#define TCP_DATA_OFFSET            12
#define LOOPBACK_IFINDEX           1
#define ECN_CE                     3 /* congestion experienced */

#ifdef PODPACE_TEST_RUN
/* Up to Linux 6.12 a test run shows a packet's bytes to traffic-control programs only, and theirs
 * start with the Ethernet header. */
#define PACKET_START ETHERNET_HEADER_BYTES
#else
#define PACKET_START 0
#endif

struct packet {
    u32 frame_bytes;   /* of all its segments, Ethernet headers included */
    u32 payload_bytes; /* TCP: what follows the headers; else all of it */
    u8 is_tcp;
    u8 version; /* 4 or 6 */
    u8 ecn;     /* of the IP header */
};

/* Headers beyond the linear part, or none that we know: counted as one frame, not as TCP. */
static inline __attribute__((always_inline)) void packet_read(struct __sk_buff *skb,
                                                              struct packet *packet)
{
    u8 *data = (u8 *)(long)skb->data + PACKET_START, *data_end = (u8 *)(long)skb->data_end;
    u32 segments = skb->gso_segs, network_bytes, header_bytes, length = skb->len - PACKET_START;
    u8 protocol, *data_offset;

    packet->frame_bytes = length + ETHERNET_HEADER_BYTES;
    packet->payload_bytes = length;
    packet->is_tcp = 0;
    packet->version = 0;
    packet->ecn = 0;
    if (data + IPV4_HEADER_BYTES > data_end)
        return;
    packet->version = data[0] >> 4;
    if (packet->version == 4) {
        network_bytes = (data[0] & 15) * 4;
        protocol = data[9];
        packet->ecn = data[1] & 3;
    } else {
        if (data + IPV6_HEADER_BYTES > data_end)
            return;
        network_bytes = IPV6_HEADER_BYTES;
        protocol = data[6];
        packet->ecn = data[1] >> 4 & 3;
    }
    header_bytes = network_bytes + UDP_HEADER_BYTES;
    if (protocol == TCP) {
        data_offset = data + network_bytes + TCP_DATA_OFFSET;
        /* One pointer, so that the verifier sees that what is read is what was checked. */
        asm volatile("" : "+r"(data_offset));
        if (data_offset + 1 > data_end)
            return;
        header_bytes = network_bytes + (*data_offset >> 4) * 4;
        packet->is_tcp = 1;
        packet->payload_bytes = length > header_bytes ? length - header_bytes : 0;
    } else if (segments <= 1 && length > ETHERNET_MTU_BYTES) {
        /* A datagram that IP will cut: the hook comes before that. Taken for standard frames. */
        segments = (length - network_bytes + FRAGMENT_BYTES - 1) / FRAGMENT_BYTES;
        header_bytes = network_bytes + (packet->version == 6 ? IPV6_FRAGMENT_HEADER_BYTES : 0);
    }
    if (segments > 1)
        packet->frame_bytes += (segments - 1) * (ETHERNET_HEADER_BYTES + header_bytes);
}

#endif
