/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Reading a packet at the cgroup hooks, where it starts with its IP header. No map.
 */
#ifndef PODPACE_PACKET_H
#define PODPACE_PACKET_H

#include "frames.h"
#include "limit.h"

#define IPV4_HEADER_BYTES 20
#define IPV6_HEADER_BYTES 40
#define TCP               6
#define UDP_HEADER_BYTES  8
#define TCP_DATA_OFFSET   12
#define LOOPBACK_IFINDEX  1
#define IPV4_MULTICAST    0xe  /* four bits of the destination */
#define IPV6_MULTICAST    0xff /* eight */
#define ECN_CE            3    /* congestion experienced */

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
    u8 is_multicast;
};

/* IPv6 extension headers that lead to another header, and how many of them are read. */
#define EXTENSION_HOP_BY_HOP  0
#define EXTENSION_ROUTING     43
#define EXTENSION_DESTINATION 60
#define MAX_EXTENSIONS        4
#define EXTENSION_UNIT_BYTES  8
#define OPTION_JUMBO          0xc2

/* Follows IPv6 extension headers to the transport's; what is beyond them is left unread. The
 * kernel's own option of a packet above 64 KiB (BIG TCP) is on no wire: its bytes. */
static inline __attribute__((always_inline)) u32 skip_extensions(const u8 *data, const u8 *data_end,
                                                                 u8 *protocol, u32 *network_bytes)
{
    u32 jumbo_bytes = 0;
    const u8 *extension;

#pragma unroll
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        if (*protocol != EXTENSION_HOP_BY_HOP && *protocol != EXTENSION_ROUTING &&
            *protocol != EXTENSION_DESTINATION)
            break;
        extension = data + *network_bytes;
        /* One pointer, so that the verifier sees that what is read is what was checked. */
        asm volatile("" : "+r"(extension));
        if (extension + EXTENSION_UNIT_BYTES > data_end)
            break;
        if (*protocol == EXTENSION_HOP_BY_HOP && extension[2] == OPTION_JUMBO)
            jumbo_bytes = EXTENSION_UNIT_BYTES;
        *protocol = extension[0];
        *network_bytes += (extension[1] + 1) * EXTENSION_UNIT_BYTES;
    }
    return jumbo_bytes;
}

/* Reads what there is to know of a packet on a link whose full frames are of `full_frame_bytes`.
 * Headers beyond the linear part, or none that we know: counted as one frame, not as TCP. */
static inline __attribute__((always_inline)) void
packet_read(struct __sk_buff *skb, struct packet *packet, u32 full_frame_bytes)
{
    u8 *data = (u8 *)(long)skb->data + PACKET_START, *data_end = (u8 *)(long)skb->data_end;
    u32 segments = skb->gso_segs, length = skb->len - PACKET_START;
    u32 network_bytes, header_bytes, mtu_bytes, jumbo_bytes;
    u8 protocol, *data_offset;

    packet->frame_bytes = length + ETHERNET_HEADER_BYTES;
    packet->payload_bytes = length;
    packet->is_tcp = 0;
    packet->version = 0;
    packet->ecn = 0;
    packet->is_multicast = 0;
    if (data + IPV4_HEADER_BYTES > data_end)
        return;
    packet->version = data[0] >> 4;
    if (UNLIKELY(packet->version != 4)) {
        if (data + IPV6_HEADER_BYTES > data_end)
            return;
        network_bytes = IPV6_HEADER_BYTES;
        protocol = data[6];
        packet->ecn = data[1] >> 4 & 3;
        packet->is_multicast = data[24] == IPV6_MULTICAST;
        jumbo_bytes = skip_extensions(data, data_end, &protocol, &network_bytes);
        network_bytes -= jumbo_bytes;
        length -= jumbo_bytes;
        data += jumbo_bytes;
        packet->frame_bytes -= jumbo_bytes;
    } else {
        network_bytes = (data[0] & 15) * 4;
        protocol = data[9];
        packet->ecn = data[1] & 3;
        packet->is_multicast = data[16] >> 4 == IPV4_MULTICAST;
    }
    header_bytes = network_bytes + UDP_HEADER_BYTES;
    mtu_bytes = full_frame_bytes - ETHERNET_HEADER_BYTES;
    if (protocol == TCP) {
        data_offset = data + network_bytes + TCP_DATA_OFFSET;
        asm volatile("" : "+r"(data_offset));
        if (data_offset + 1 > data_end)
            return;
        header_bytes = network_bytes + (*data_offset >> 4) * 4;
        packet->is_tcp = 1;
        packet->payload_bytes = length > header_bytes ? length - header_bytes : 0;
    } else if (UNLIKELY(segments <= 1 && length > mtu_bytes)) {
        packet->frame_bytes =
            cut_frames_bytes(length, network_bytes, mtu_bytes, packet->version == 6);
        return;
    }
    if (segments > 1)
        packet->frame_bytes += (segments - 1) * (ETHERNET_HEADER_BYTES + header_bytes);
}

#endif
