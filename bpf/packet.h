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
    u32 tcp_header_bytes;
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
    packet->tcp_header_bytes = 0;
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
        packet->tcp_header_bytes = (*data_offset >> 4) * 4;
        header_bytes = network_bytes + packet->tcp_header_bytes;
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

#define TCP_HEADER_BYTES      20
#define TCP_FLAGS             13
#define TCP_WINDOW            14
#define TCP_FLAG_MASK         0x37 /* URG ACK RST SYN FIN; PSH says nothing here */
#define TCP_FLAG_ACK          0x10
#define TIMESTAMP_BYTES       12
#define OPTIONS_TIMESTAMP     0x0101080aU /* NOP, NOP, kind, length: as Linux lays them out */
#define OPTIONS_SACK          0x01010500U
#define OPTION_LENGTH_MASK    0xffU
#define SACK_ONE_BLOCK        10
#define TCP_ACKNOWLEDGED      8
#define DATA_TCP_HEADER_BYTES 32

/* A TCP packet without data. */
struct ack {
    u32 window;       /* as it stands in the header */
    u32 header_bytes; /* of a frame with data the other way: Ethernet, IP, TCP with timestamps */
    u8 has_sack;      /* says more than what it acknowledges */
    u8 has_hole;      /* says that something is missing: SACK blocks beyond what it acknowledges */
};

/* A SACK option as Linux lays it out, with its first block. */
struct sack {
    u32 option;
    u32 left_edge;
    u32 right_edge;
};

/* Whether the option says that data is missing. One block alone, before what is acknowledged, only
 * says that something came twice (RFC 2883). */
static inline __attribute__((always_inline)) int sack_has_hole(const struct sack *sack,
                                                               u32 acknowledged)
{
    u32 option = bpf_ntohl(sack->option);

    if ((option & ~OPTION_LENGTH_MASK) != OPTIONS_SACK)
        return 0;
    return (option & OPTION_LENGTH_MASK) > SACK_ONE_BLOCK ||
           (s32)(bpf_ntohl(sack->left_edge) - acknowledged) >= 0;
}

/* Whether it is an ACK and nothing else. */
static inline __attribute__((always_inline)) int
ack_read(struct __sk_buff *skb, const struct packet *packet, struct ack *ack)
{
    u32 tcp_bytes = packet->tcp_header_bytes, tcp_offset = skb->len - tcp_bytes;
    u32 offset = tcp_offset + TCP_HEADER_BYTES;
    u8 header[TCP_HEADER_BYTES];
    struct sack sack = {};

    if (!packet->is_tcp || packet->payload_bytes ||
        bpf_skb_load_bytes(skb, tcp_offset, header, sizeof(header)))
        return 0;
    if ((header[TCP_FLAGS] & TCP_FLAG_MASK) != TCP_FLAG_ACK)
        return 0;
    ack->window = header[TCP_WINDOW] << 8 | header[TCP_WINDOW + 1];
    ack->header_bytes = ETHERNET_HEADER_BYTES + tcp_offset - PACKET_START + DATA_TCP_HEADER_BYTES;
    ack->has_sack = 0;
    ack->has_hole = 0;
    if (tcp_bytes < TCP_HEADER_BYTES + sizeof(sack))
        return 1;
    if (bpf_skb_load_bytes(skb, offset, &sack, sizeof(sack)))
        return 0;
    if (bpf_ntohl(sack.option) == OPTIONS_TIMESTAMP) {
        offset += TIMESTAMP_BYTES;
        if (tcp_bytes < TCP_HEADER_BYTES + TIMESTAMP_BYTES + sizeof(sack))
            return 1;
        if (bpf_skb_load_bytes(skb, offset, &sack, sizeof(sack)))
            return 0;
    }
    ack->has_sack = (bpf_ntohl(sack.option) & ~OPTION_LENGTH_MASK) == OPTIONS_SACK;
    ack->has_hole = sack_has_hole(
        &sack, (u32)header[TCP_ACKNOWLEDGED] << 24 | header[TCP_ACKNOWLEDGED + 1] << 16 |
                   header[TCP_ACKNOWLEDGED + 2] << 8 | header[TCP_ACKNOWLEDGED + 3]);
    return 1;
}

#endif
