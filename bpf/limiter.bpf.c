/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The limiter: three programs on a target's cgroup, and an iterator over its earlier sockets.
 *
 * bcc rewrites map accesses in one file only: enforcer/datapath/compiler.py puts the .bpf.c files
 * that this one includes in their place. What accesses no map is in the headers.
 */
#include <uapi/linux/bpf.h>

#include "target.bpf.c"

#include "earlier.bpf.c"
#include "loopback.bpf.c"
#include "noted.bpf.c"
#include "egress.bpf.c"
#include "ingress.bpf.c"
#include "sockets.bpf.c"
