"""The device of the default route, and the speed that it tells."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from enforcer.state import DeviceSpeed

_UP: Final = 0x1
_ZERO_V6: Final = "0" * 32
_BITS_PER_MEGABIT: Final = 10**6
_DEEPEST: Final = 4
"""A VLAN on a bond on hardware is three."""


def read_uplink(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> DeviceSpeed:
    """The device that packets to the world leave by; its speed where it is to be believed.

    Virtual devices tell a number that means nothing (a veth 10 Gbit/s, a tap 10 Mbit/s), so it is
    asked of hardware and of bonds of it, through VLANs. Several default routes: nobody knows which
    is used.
    """
    devices = sorted(set(_default_devices(proc)))
    if len(devices) != 1:
        why = "there is no default route" if not devices else "several default routes"
        return DeviceSpeed(", ".join(devices), None, why)
    return _speed(devices[0], devices[0], sys, _DEEPEST)


def _default_devices(proc: Path) -> Iterator[str]:
    """Of the IPv4 routes of the smallest metric, and of IPv6's."""
    for routes in (_routes_v4(proc), _routes_v6(proc)):
        found = list(routes)
        least = min((metric for metric, _ in found), default=0)
        yield from (device for metric, device in found if metric == least)


def _routes_v4(proc: Path) -> Iterator[tuple[int, str]]:
    """Format: Documentation/networking and net/ipv4/fib_trie.c, fib_route_seq_show()."""
    for line in _lines(proc / "net" / "route")[1:]:
        device, destination, _, flags, _, _, metric, mask, *_ = line.split()
        if destination == mask == "00000000" and int(flags, 16) & _UP:
            yield int(metric), device


def _routes_v6(proc: Path) -> Iterator[tuple[int, str]]:
    """Format: net/ipv6/route.c, rt6_info_route()."""
    for line in _lines(proc / "net" / "ipv6_route"):
        destination, prefix, _, _, _, metric, _, _, flags, device = line.split()
        # The kernel's own entry that rejects everything is on the loopback.
        if destination == _ZERO_V6 and prefix == "00" and int(flags, 16) & _UP and device != "lo":
            yield int(metric, 16), device


def _speed(uplink: str, device: str, sys: Path, depth: int) -> DeviceSpeed:
    folder = sys / "class" / "net" / device
    if (folder / "device").exists() or (folder / "bonding").exists():
        try:
            megabits = int((folder / "speed").read_text())
        except (OSError, ValueError):
            megabits = -1
        if megabits <= 0:
            return DeviceSpeed(uplink, None, f"{device} tells no speed")
        return DeviceSpeed(uplink, megabits * _BITS_PER_MEGABIT)
    below = [path.name.removeprefix("lower_") for path in sorted(folder.glob("lower_*"))]
    if len(below) != 1 or depth == 0:
        return DeviceSpeed(uplink, None, f"{device} is no hardware, and stands on no single device")
    return _speed(uplink, below[0], sys, depth - 1)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
