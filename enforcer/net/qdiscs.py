"""Which queueing disciplines a target's interfaces carry.

One dump over rtnetlink, spoken here because the library for it (pyroute2) would add 20 MB to a
daemon that is to stay below 60 MB; measured with version 0.9.
"""

import socket
import struct
from typing import Final

from enforcer.namespaces import in_namespace, network_namespaces

_RTM_GETQDISC: Final = 38
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_TCMSG: Final = struct.Struct("=BxxxiIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TCA_KIND: Final = 1
_TC_H_ROOT: Final = 0xFFFFFFFF
_LOOPBACK: Final = 1


def keeps_departure_times(cgroup_path: str) -> bool:
    """Whether every interface (but loopback) of the cgroup's processes has ``fq`` as its root.

    False where there is no process yet, or where it cannot be found out.
    """
    try:
        namespaces = network_namespaces([cgroup_path])
        roots = [kind for path in namespaces.values() for kind in in_namespace(path, root_qdiscs)]
    except OSError:
        return False
    return bool(roots) and all(kind == "fq" for kind in roots)


def root_qdiscs() -> list[str]:
    """Kinds of the root qdiscs in this thread's network namespace, loopback's left out."""
    kinds: list[str] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        body = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        netlink.send(
            _HEADER.pack(_HEADER.size + len(body), _RTM_GETQDISC, _NLM_F_REQUEST_DUMP, 1, 0) + body
        )
        while True:
            answer = netlink.recv(65536)
            offset = 0
            while offset < len(answer):
                length, kind, _flags, _sequence, _port = _HEADER.unpack_from(answer, offset)
                if kind == _NLMSG_DONE:
                    return kinds
                if kind == _NLMSG_ERROR:
                    raise OSError("the kernel refused to list qdiscs")
                kinds += _root_kind(answer[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3


def _root_kind(message: bytes) -> list[str]:
    _family, interface, _handle, parent, _info = _TCMSG.unpack_from(message)
    if interface == _LOOPBACK or parent != _TC_H_ROOT:
        return []
    offset = _TCMSG.size
    while offset < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == _TCA_KIND:
            return [message[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0").decode()]
        offset += (length + 3) & ~3
    return []
