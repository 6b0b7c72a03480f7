/* bpf/aqm.h and bpf/sent.h as a shared library for tests. */
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
struct bpf_spin_lock {
    u32 value;
};

#include "aqm.h"
#include "sent.h"

const u64 link_size = sizeof(struct link);
const u64 shaper_size = sizeof(struct shaper);
const u64 flow_size = sizeof(struct shaped_flow);

int admit(struct shaper *shaper, struct shaped_flow *flow, const struct link *link, u32 frame_bytes,
          int is_tcp, u64 now_ns)
{
    return aqm_admit(shaper, flow, link, frame_bytes, is_tcp, now_ns);
}

u64 cost_ns(const struct link *link, u32 frame_bytes)
{
    return aqm_cost_ns(link, frame_bytes);
}

int sent_late(struct shaper *shaper, struct link *link, u32 frame_bytes, u64 now_ns)
{
    return sent_is_late(shaper, link, frame_bytes, now_ns);
}

int take_far(struct shaper *shaper, const struct link *link, u32 frame_bytes)
{
    return aqm_take_far(shaper, link, frame_bytes);
}

void take_back(struct shaper *shaper, const struct link *link, u32 frame_bytes)
{
    aqm_take_back(shaper, link, frame_bytes);
}

void signalled(const struct shaper *shaper, struct shaped_flow *flow, u64 now_ns)
{
    aqm_signalled(shaper, flow, now_ns);
}
