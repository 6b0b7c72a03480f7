"""Which queues this kernel has, tried in a network namespace that nobody else sees."""

import ctypes
import errno
import os
import threading
from typing import Final

from enforcer.net import ack_queues, queues
from enforcer.net.rtnetlink import Netlink

_CLONE_NEWNET: Final = 0x40000000
_LOOPBACK: Final = 1
_PROBED_RATE: Final = 1_250_000
_PROBED_BURST_NS: Final = 20_000_000
_libc = ctypes.CDLL(None, use_errno=True)


def probe_queues() -> dict[str, str]:
    """Queue to ``supported`` or why not; loads the kernel's modules where they are installed."""
    found: dict[str, str] = {}

    def body() -> None:
        if _libc.unshare(_CLONE_NEWNET):
            reason = f"no namespace to try it in: {os.strerror(ctypes.get_errno())}"
            found.update(htb=reason, fq=reason)
            return
        with Netlink() as netlink:
            found["fq"] = _try_fq(netlink)
            found["htb"] = _try_htb(netlink)

    thread = threading.Thread(target=body, name="probe queues")
    thread.start()
    thread.join()
    return found


def _try_htb(netlink: Netlink) -> str:
    try:
        queues.put_htb(netlink, _LOOPBACK, _PROBED_RATE, _PROBED_BURST_NS)
    except OSError as error:
        return _told("sch_htb and sch_tbf", error)
    return "supported"


def _try_fq(netlink: Netlink) -> str:
    try:
        queues.put_fq(netlink, _LOOPBACK)
        queues.remove_root(netlink, _LOOPBACK)
        ack_queues.put(netlink, _LOOPBACK)
        queues.remove_root(netlink, _LOOPBACK)
    except OSError as error:
        return _told("sch_fq and sch_prio", error)
    return "supported"


def _told(module: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"this kernel has no {module}"
    return f"{module}: {error.strerror}"
