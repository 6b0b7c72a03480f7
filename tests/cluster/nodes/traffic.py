"""Real traffic between the pods of simulated nodes, by the instruments of the bench."""

from dataclasses import dataclass

from bench.rig import Place
from contract.names import Direction
from tests.cluster.nodes.sandbox import Sandbox


@dataclass(frozen=True)
class Pair:
    """A limited pod and another one; stands in for the bench's rig."""

    pod_sandbox: Sandbox
    peer_sandbox: Sandbox

    @property
    def pod(self) -> Place:
        """The limited end."""
        return self.pod_sandbox.place()

    @property
    def peer(self) -> Place:
        """The other end."""
        return self.peer_sandbox.place()

    def ends(self, direction: Direction) -> tuple[Place, Place]:
        """(sender, receiver), seen from the pod."""
        return (self.pod, self.peer) if direction is Direction.EGRESS else (self.peer, self.pod)

    def address(self, place: Place, family: int) -> str:
        """The address of an end; ``family`` is 4 or 6."""
        sandbox = self.pod_sandbox if place == self.pod else self.peer_sandbox
        return sandbox.addresses[family]
