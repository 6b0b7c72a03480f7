/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The kernel's numbers for sockets; bcc gives programs none of its headers for user space.
 */
#ifndef PODPACE_SOCKET_H
#define PODPACE_SOCKET_H

#define SOL_SOCKET_LEVEL    1
#define SOL_TCP_LEVEL       6
#define ADDRESS_FAMILY_IPV6 10

#endif
