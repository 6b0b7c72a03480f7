"""A node's link in memory."""

from contract.names import Direction
from enforcer.net.uplink import Uplink
from enforcer.state import Capacity, CapacitySource

CAPACITY = 10**9 // 8


class FakeLink:
    """Implements ``ports.SharedLink``."""

    def __init__(self) -> None:
        self.uplink = Uplink(2, "", ("10.0.0.0/24",))
        self.capacity: int | None = CAPACITY
        self.sent_bytes = 0
        self.looks = 0

    def look(self) -> None:
        """Counted."""
        self.looks += 1

    def of(self, direction: Direction) -> Capacity:
        """Egress only."""
        known = self.capacity if direction is Direction.EGRESS else None
        return Capacity(known, CapacitySource.OPTION)

    def counted_bytes(self) -> tuple[int, int] | None:
        """As the test's traffic says."""
        return 0, self.sent_bytes
