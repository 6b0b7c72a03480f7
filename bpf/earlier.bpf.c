/* SPDX-License-Identifier: GPL-2.0-only
 *
 * bpf_iter__tcp paces sockets that were open before the limit came, bounds their windows, and lets
 * go of them.
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

/* Run by the daemon inside a network namespace. iterator_release[0] names the target whose
 * sockets are let go; 0 paces every socket that sock_ops does not pace yet. From Linux 6.12 on a
 * socket handed its callbacks here is sock_ops' own afterwards. */
int bpf_iter__tcp(struct tcp_iterator *ctx)
{
    struct sock_common *sk = ctx->sk_common;
    u32 pacing = NOT_PACED, no_clamp = NO_CLAMP, callbacks = BPF_SOCK_OPS_RTT_CB_FLAG;
    u32 window = NO_WINDOW_CLAMP;
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
        if (flow->cgroup_id != *release)
            return 0;
        /* What is set now and not by us is the application's own choice, and stays. */
        if (bpf_getsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                           sizeof(pacing)) ||
            pacing == flow->pacing_bytes_per_sec || !flow->pacing_bytes_per_sec) {
            pacing = flow->app_pacing_bytes_per_sec ? flow->app_pacing_bytes_per_sec : NOT_PACED;
            bpf_setsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                           sizeof(pacing));
        }
        bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CWND_CLAMP, &no_clamp,
                       sizeof(no_clamp));
        if (flow->app_window_bytes)
            window = flow->app_window_bytes;
        if (flow->window_bytes)
            bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window,
                           sizeof(window));
        return 0;
    }
    if (flow->window_bytes && !flow->window_callbacks) {
        window = flow->window_bytes;
        bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_WINDOW_CLAMP, &window, sizeof(window));
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
        if (!bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                            sizeof(callbacks)))
            flow->window_callbacks = 1;
    }
    if (flow->paced || !flow->share_bytes_per_sec)
        return 0;
    if (!flow->pacing_bytes_per_sec &&
        !bpf_getsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing,
                        sizeof(pacing)))
        flow->app_pacing_bytes_per_sec = pacing == NOT_PACED ? 0 : pacing;
    pacing = pacing_of(flow->share_bytes_per_sec, 1448, 0);
    if (flow->app_pacing_bytes_per_sec && flow->app_pacing_bytes_per_sec < pacing)
        pacing = flow->app_pacing_bytes_per_sec;
    bpf_setsockopt((void *)sk, SOL_SOCKET_LEVEL, OPTION_MAX_PACING_RATE, &pacing, sizeof(pacing));
    flow->pacing_bytes_per_sec = pacing;
    if (flow->window_callbacks)
        callbacks |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    if (!bpf_setsockopt((void *)sk, SOL_TCP_LEVEL, TCP_OPTION_CALLBACK_FLAGS, &callbacks,
                        sizeof(callbacks)))
        flow->paced = 1;
    return 0;
}
