/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The daemon's iterators. bpf_iter__tcp paces sockets that sock_ops is not called for, bounds their
 * windows, and lets sockets go; bpf_iter__task_file looks for those that are left.
 */
#include "pacing.h"
#include "window.h"

#define TCP_OPTION_CALLBACK_FLAGS 1008 /* TCP_BPF_SOCK_OPS_CB_FLAGS, Linux 6.12 */

/* The iterator's context, as the kernel lays it out (struct bpf_iter__tcp). */
struct tcp_iterator {
    u64 meta;
    struct sock_common *sk_common;
    u32 uid;
};

/* What is set and not by us is the application's own choice. */
static inline __attribute__((always_inline)) void learn_earlier_pacing(void *sk, struct flow *flow)
{
    u32 set = NOT_PACED;

    if (bpf_getsockopt(sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &set, sizeof(set)) ||
        set == flow->pacing_bytes_per_sec)
        return;
    flow->app_pacing_bytes_per_sec = set == NOT_PACED ? 0 : set;
    flow->pacing_bytes_per_sec = set;
}

static inline __attribute__((always_inline)) void set_pacing(void *sk, struct flow *flow,
                                                             u32 wanted)
{
    u32 pacing = own_pacing(flow, wanted);

    if (pacing != flow->pacing_bytes_per_sec)
        bpf_setsockopt(sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing, sizeof(pacing));
    flow->pacing_bytes_per_sec = pacing;
}

/* Sets the noted bound. The first time, what bounds the window is the kernel's or the
 * application's. */
static inline __attribute__((always_inline)) void set_window(void *sk, struct flow *flow)
{
    u32 set = 0, buffer = 0, window = flow->window_bytes;

    if (!flow->receive_buffer_bytes &&
        !bpf_getsockopt(sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &set, sizeof(set)) &&
        !bpf_getsockopt(sk, SOL_SOCKET_LEVEL, OPTION_RECEIVE_BUFFER, &buffer, sizeof(buffer))) {
        if (set && set < buffer && !is_part_of(set, buffer))
            flow->app_window_bytes = set;
        flow->receive_buffer_bytes = buffer;
    }
    if (flow->app_window_bytes && flow->app_window_bytes < window)
        window = flow->app_window_bytes;
    bpf_setsockopt(sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window, sizeof(window));
}

/* Gives the socket back what its application has chosen, and forgets. */
static inline __attribute__((always_inline)) void let_go(void *sk, struct flow *flow, u64 cgroup_id)
{
    u32 clamp = NO_CLAMP, window = NO_WINDOW_CLAMP;

    if (flow->paced_by == cgroup_id) {
        if (flow->pacing_bytes_per_sec) {
            learn_earlier_pacing(sk, flow);
            set_pacing(sk, flow, NOT_PACED);
        }
        if (flow->cwnd_clamp)
            bpf_setsockopt(sk, SOL_TCP_LEVEL, TCP_OPTION_CWND_CLAMP, &clamp, sizeof(clamp));
        flow->pacing_bytes_per_sec = 0;
        flow->cwnd_clamp = 0;
        flow->share_bytes_per_sec = 0;
        flow->paced_by = 0;
    }
    if (flow->bounded_by == cgroup_id) {
        if (flow->app_window_bytes)
            window = flow->app_window_bytes;
        if (flow->window_bytes)
            bpf_setsockopt(sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window, sizeof(window));
        flow->window_bytes = 0;
        flow->receive_buffer_bytes = 0;
        flow->bounded_by = 0;
    }
}

/* Run by the daemon inside a network namespace. iterator_release[0] names the target whose
 * sockets are let go; 0 looks after every socket that sock_ops is not called for. From Linux 6.12
 * on a socket handed its callbacks here is sock_ops' own afterwards. */
int bpf_iter__tcp(struct tcp_iterator *ctx)
{
    struct sock_common *sk = ctx->sk_common;
    u32 callbacks = BPF_SOCK_OPS_RTT_CB_FLAG, has = 0;
    struct flow *flow;
    u64 *release;
    int zero = 0;

    if (!sk)
        return 0;
    flow = flows.sk_storage_get((void *)sk, 0, 0);
    release = iterator_release.lookup(&zero);
    if (!flow || !release)
        return 0;
    if (*release) {
        let_go(sk, flow, *release);
        return 0;
    }
    if (flow->on_loopback)
        return 0;
    if (flow->window_bytes && !flow->acks_heard) {
        set_window(sk, flow);
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    } else if (flow->heard || !flow->share_bytes_per_sec) {
        return 0;
    }
    if (!flow->heard && flow->share_bytes_per_sec) {
        learn_earlier_pacing(sk, flow);
        set_pacing(sk, flow, pacing_of(flow->share_bytes_per_sec, STANDARD_SEGMENT_BYTES, 0));
    }
    /* What other programs have asked for stays. */
    if (bpf_getsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &has, sizeof(has)))
        return 0;
    callbacks |= has;
    if (bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                       sizeof(callbacks)))
        return 0;
    flow->heard = HEARD_WINDOWS;
    if (callbacks & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
        flow->acks_heard = HEARD_ACKS;
    return 0;
}

/* The iterator's context (struct bpf_iter__task_file). */
struct file_iterator {
    u64 meta;
    void *task;
    u32 fd;
    void *file;
};

/* The beginning of the kernel's struct socket. */
struct socket_of_file {
    u64 state, flags, file;
    struct sock_common *sk;
};

static struct socket_of_file *(*socket_of)(void *file) = (void *)BPF_FUNC_sock_from_file;

/* Run by the daemon over the open files of all processes: counts in iterator_release[1] the
 * sockets, in whatever namespace they are, that still have something of the target in
 * iterator_release[0]. */
int bpf_iter__task_file(struct file_iterator *ctx)
{
    struct socket_of_file *socket;
    void *file = ctx->file;
    struct flow *flow;
    u64 *release, *left;
    int zero = 0, one = 1;

    if (!file)
        return 0;
    socket = socket_of(file);
    if (!socket || !socket->sk)
        return 0;
    flow = flows.sk_storage_get((void *)socket->sk, 0, 0);
    release = iterator_release.lookup(&zero);
    left = iterator_release.lookup(&one);
    if (!flow || !release || !left)
        return 0;
    if ((flow->paced_by == *release && (flow->pacing_bytes_per_sec || flow->cwnd_clamp)) ||
        (flow->bounded_by == *release && flow->window_bytes))
        ++*left;
    return 0;
}
