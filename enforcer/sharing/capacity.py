"""What the pods of a node can share in each direction, and where that is known from."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from contract.limits import BITS_PER_BYTE
from contract.names import CAPACITY_KEYS, DIRECTIONS, Direction
from contract.problems import Problem
from contract.quantity import parse_bits_per_second
from enforcer.ports import Log
from enforcer.state import NOT_LOOKED, Capacity, CapacitySource, DeviceSpeed

_OF_DEVICE_PERCENT: Final = 95
"""Of a device's speed: what the wire adds to each frame (24 of 1538 bytes), and room for what the
node itself sends."""
_LOOK_SECONDS: Final = 10.0


UNKNOWN: Final = Capacity(None, CapacitySource.UNKNOWN, NOT_LOOKED)


def choose_capacity(
    direction: Direction,
    annotations: Mapping[str, str],
    option_bits_per_second: int | None,
    device: DeviceSpeed,
) -> Capacity:
    """The Node's annotation, else the option, else 0.95 of the device's speed.

    An annotation that cannot be read counts as not written, and is told.
    """
    key, unread = CAPACITY_KEYS[direction], ""
    if key in annotations:
        bits = parse_bits_per_second(key, annotations[key].strip())
        if not isinstance(bits, Problem):
            return Capacity(bits // BITS_PER_BYTE, CapacitySource.ANNOTATION)
        unread = str(bits.shortened())
    if option_bits_per_second is not None:
        return Capacity(option_bits_per_second // BITS_PER_BYTE, CapacitySource.OPTION, unread)
    if device.bits_per_second is None:
        why = f"{device.name}: {device.why}" if device.name else device.why
        return Capacity(None, CapacitySource.UNKNOWN, "; ".join(filter(None, (why, unread))))
    usable = device.bits_per_second * _OF_DEVICE_PERCENT // (100 * BITS_PER_BYTE)
    detail = "; ".join(filter(None, (device.name, unread)))
    return Capacity(usable, CapacitySource.DEVICE, detail)


class Capacities:
    """As they are now. Safe to call from several threads."""

    def __init__(
        self,
        options: Mapping[Direction, int | None],
        read_device: Callable[[], DeviceSpeed],
        log: Log,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``options``: bits per second."""
        self._sleep = sleep
        self._options = options
        self._read_device = read_device
        self._log = log
        self._lock = threading.Lock()
        self._annotations: Mapping[str, str] = {}
        self._device = DeviceSpeed("", None, NOT_LOOKED)
        self.looked = False
        """Whether the device has been looked at."""
        self._now = dict.fromkeys(DIRECTIONS, UNKNOWN)

    def of(self, direction: Direction) -> Capacity:
        """One direction's."""
        return self._now[direction]

    def bits_per_second(self, direction: Direction) -> int | None:
        """One direction's, as it is booked; None: not known."""
        found = self._now[direction].bytes_per_sec
        return None if found is None else found * BITS_PER_BYTE

    def annotate(self, annotations: Mapping[str, str]) -> None:
        """What the Node says now."""
        with self._lock:
            self._annotations = annotations
            self._choose()

    def look(self) -> None:
        """See what the device's speed is now."""
        device = self._read_device()
        with self._lock:
            self._device = device
            self._choose()
        self.looked = True

    def step(self) -> None:
        """Look, and wait: a device comes up, or another route is the default."""
        self.look()
        self._sleep(_LOOK_SECONDS)

    def _choose(self) -> None:
        for direction in DIRECTIONS:
            option = self._options.get(direction)
            found = choose_capacity(direction, self._annotations, option, self._device)
            if found != self._now[direction]:
                self._now[direction] = found
                self._log.info(
                    "capacity",
                    direction=str(direction),
                    bytes_per_sec=found.bytes_per_sec,
                    source=str(found.source),
                    detail=found.detail[:300],
                )
