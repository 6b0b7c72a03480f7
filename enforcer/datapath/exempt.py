"""Lists of exempt networks in the programs' map: each once, however many targets use it.

The limiter and the shaper read one map, (list, network) to 1: ``struct exempt_key`` in bpf/limit.h.
"""

import ipaddress
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from enforcer.datapath import libbpf
from enforcer.state import exempt_list_id

_KEY: Final = struct.Struct("=IIII16s")
KEY_BYTES: Final = _KEY.size
_LIST_BITS: Final = 96
"""Before the network's own bits: the list's id and the family."""
_V4: Final = 4
_PRESENT: Final = (1).to_bytes(4, "little")


class ExemptLists:
    """The lists in one map, and who uses them. Safe to call from several threads; raises OSError.

    What is there is read once, when it is made: nobody else writes.
    """

    def __init__(self, map_fd: int) -> None:
        self._map_fd = map_fd
        self._lock = threading.Lock()
        self._networks: dict[int, set[str]] = defaultdict(set)
        self._used: dict[int, int] = {}
        """List by cgroup id."""
        for key in list(libbpf.map_keys(map_fd, KEY_BYTES)):
            self._networks[list_of(key)].add(cidr_of(key))

    def networks(self, list_id: int) -> tuple[str, ...]:
        """What is there of a list, sorted."""
        return tuple(sorted(self._networks.get(list_id, ())))

    def found(self, cgroup_id: int, list_id: int) -> None:
        """A target's record names this list."""
        if list_id:
            with self._lock:
                self._used[cgroup_id] = list_id

    def use(self, cgroup_id: int, cidrs: Iterable[str]) -> None:
        """A target's record names the list of these; the one before goes when nobody uses it."""
        with self._lock:
            self._use(cgroup_id, set(cidrs))

    def _use(self, cgroup_id: int, wanted: set[str]) -> None:
        before, list_id = self._used.get(cgroup_id, 0), exempt_list_id(wanted)
        if list_id:
            self._used[cgroup_id] = list_id
            for cidr in wanted - self._networks[list_id]:
                libbpf.map_update(self._map_fd, encode(list_id, cidr), _PRESENT)
                self._networks[list_id].add(cidr)
        else:
            self._used.pop(cgroup_id, None)
        if before != list_id:
            self._drop_unused(before)

    def sweep(self) -> None:
        """Remove lists that no target uses: a daemon that was killed may have left some."""
        with self._lock:
            for list_id in list(self._networks):
                self._drop_unused(list_id)

    def _drop_unused(self, list_id: int) -> None:
        if list_id in self._used.values():
            return
        for cidr in sorted(self._networks.pop(list_id, ())):
            libbpf.map_delete(self._map_fd, encode(list_id, cidr))


def encode(list_id: int, cidr: str) -> bytes:
    """A key. The CIDR was checked before: a bad one raises ValueError."""
    network = ipaddress.ip_network(cidr, strict=False)
    prefix_bits = _LIST_BITS + network.prefixlen
    address = network.network_address.packed
    return _KEY.pack(prefix_bits, list_id >> 32, list_id & 0xFFFFFFFF, network.version, address)


def list_of(key: bytes) -> int:
    """Whose network this is."""
    _prefix_bits, high, low, _version, _address = _KEY.unpack(key)
    return int(high) << 32 | int(low)


def cidr_of(key: bytes) -> str:
    """The CIDR, as ``ipaddress`` writes it."""
    prefix_bits, _high, _low, version, address = _KEY.unpack(key)
    packed: bytes = address[:4] if version == _V4 else address
    return str(ipaddress.ip_network((packed, prefix_bits - _LIST_BITS)))
