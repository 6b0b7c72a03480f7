/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What packets are on the wire. Pure arithmetic: no map, no packet, no clock.
 */
#ifndef PODPACE_FRAMES_H
#define PODPACE_FRAMES_H

#define ETHERNET_HEADER_BYTES      14
#define IPV6_FRAGMENT_HEADER_BYTES 8
#define FRAGMENT_UNIT_BYTES        8

/* The frames of a packet of `length` that IP cuts, or has joined: the hooks are not where those
 * are. All fragments but the last carry as many whole units as fit; each has the headers, of IPv6 a
 * fragment header, too. */
static inline __attribute__((always_inline)) u32 cut_frames_bytes(u32 length, u32 network_bytes,
                                                                  u32 mtu_bytes, int is_ipv6)
{
    u32 header_bytes = network_bytes + (is_ipv6 ? IPV6_FRAGMENT_HEADER_BYTES : 0);
    u32 each_bytes =
        mtu_bytes > header_bytes ? (mtu_bytes - header_bytes) & ~(FRAGMENT_UNIT_BYTES - 1U) : 0;
    u32 carried_bytes = length - network_bytes, fragments;

    if (!each_bytes || length < network_bytes)
        return ETHERNET_HEADER_BYTES + length;
    fragments = (carried_bytes + each_bytes - 1) / each_bytes;
    return carried_bytes + fragments * (ETHERNET_HEADER_BYTES + header_bytes);
}

#endif
