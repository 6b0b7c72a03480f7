"""What a limit that nobody reaches leaves of the throughput, on the same connections.

Runs side by side do not show it: the same load may run at one of several speeds for as long as it
lasts, by where the scheduler has put its ends. So the limit comes and goes while the load runs on.
What the receiver reads is compared, and none of the rig's queues counts frames meanwhile: it would
stand where a pod has none, at a speed of its own.
"""

import time
from typing import Final

from bench.cells import Cell
from bench.limiters import Limiter
from bench.rig import Rig, bulk, socket_counters, uncounted
from bench.rig.process import PATIENCE
from bench.rig.topology import PEER_PORT, POD_PORT

TURNS: Final = 30
_TURN_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 0.5
_LONG_SECONDS: Final = 600.0 * PATIENCE
"""A load ends with its block."""


def throughput_left(rig: Rig, limiter: Limiter, cell: Cell, bits_per_sec: int) -> list[float]:
    """Turn by turn: the rate with the limit as a part of the rate before and after it.

    Raises RigError.
    """
    _, receiver = rig.ends(cell.direction)

    def rate() -> float:
        time.sleep(_SETTLE_SECONDS)
        before = socket_counters(receiver)
        time.sleep(_TURN_SECONDS)
        passed = socket_counters(receiver) - before
        return passed.received_bytes / passed.at_seconds

    parts = []
    ports = uncounted(rig.node, POD_PORT), uncounted(rig.node, PEER_PORT)
    with ports[0], ports[1], bulk(rig, cell.load(_LONG_SECONDS)):
        without = rate()
        for _ in range(TURNS):
            with limiter.applied(rig, cell.direction, bits_per_sec):
                limited = rate()
            earlier, without = without, rate()
            parts.append(2 * limited / (earlier + without))
    return parts
