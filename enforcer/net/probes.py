"""Which queues this kernel has, tried in a network namespace that nobody else sees."""

import ctypes
import errno
import os
import threading
from typing import Final

from enforcer.net import queues
from enforcer.net.rtnetlink import Netlink

_CLONE_NEWNET: Final = 0x40000000
_LOOPBACK: Final = 1
_PROBED_RATE: Final = 1_250_000
_PROBED_BURST_NS: Final = 20_000_000
_PROBED_FRAME_BYTES: Final = 1522
_libc = ctypes.CDLL(None, use_errno=True)


def probe_queues() -> dict[str, str]:
    """Queue to ``supported`` or why not; loads the kernel's modules where they are installed."""
    found: dict[str, str] = {}

    def body() -> None:
        if _libc.unshare(_CLONE_NEWNET):
            reason = f"no namespace to try it in: {os.strerror(ctypes.get_errno())}"
            found["htb"] = reason
            return
        with Netlink() as netlink:
            found["htb"] = _try_htb(netlink)

    thread = threading.Thread(target=body, name="probe queues")
    thread.start()
    thread.join()
    return found


def _try_htb(netlink: Netlink) -> str:
    try:
        queues.put_htb(netlink, _LOOPBACK, _PROBED_RATE, _PROBED_BURST_NS, _PROBED_FRAME_BYTES)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return "this kernel has no sch_htb and sch_tbf"
        return f"sch_htb and sch_tbf: {error.strerror}"
    return "supported"
