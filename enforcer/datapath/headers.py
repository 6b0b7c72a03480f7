"""A kernel header tree just large enough for bcc, so that nodes need no kernel headers.

bcc wants a kernel source tree (``BCC_KERNEL_SOURCE``). Our programs use stable UAPI only, so a
few generated files and the UAPI headers of linux-libc-dev do. Tried with bcc 0.26.
"""

import platform
from pathlib import Path
from typing import Final

_TYPES: Final = """\
#define CONFIG_BPF_SYSCALL 1
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
typedef _Bool bool;
"""
_GENERATED: Final = {
    "linux/kconfig.h": _TYPES,
    "linux/log2.h": "",
    "asm/page.h": "",
    "uapi/linux/bpf.h": "",  # bcc brings its own
    "uapi/linux/if_packet.h": '#include "/usr/include/linux/if_packet.h"\n',
}


def write_tree(root: Path) -> tuple[str, ...]:
    """Write the tree below ``root`` and return the compiler flags that go with it."""
    for name, text in _GENERATED.items():
        path = root / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ("-I/usr/include", f"-I/usr/include/{platform.machine()}-linux-gnu")
