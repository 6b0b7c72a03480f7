/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The kernel's numbers for sockets; bcc gives programs none of its headers for user space.
 */
#ifndef PODPACE_SOCKET_H
#define PODPACE_SOCKET_H

#define SOL_SOCKET_LEVEL    1
#define SOL_TCP_LEVEL       6
#define ADDRESS_FAMILY_IPV6 10

/* The last word of the peer's address. The barrier keeps the compiler from choosing between two
 * places in the context, which the verifier refuses. */
static inline __attribute__((always_inline)) u32 remote_address(const struct bpf_sock_ops *ops)
{
    u32 address = ops->remote_ip4;

    asm volatile("" : "+r"(address));
    if (ops->family == ADDRESS_FAMILY_IPV6)
        address = ops->remote_ip6[3];
    return address;
}

#endif
