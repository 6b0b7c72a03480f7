"""What the scheduler books for a pod: extended resources of its containers, in bits per second."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from contract.names import BOOKED_LABELS, DIRECTIONS, LABEL_BOOKED_BY_WEBHOOK, Direction

MAX_DIGITS: Final = 16
"""Of a label's number; 1P has as many."""
_SEPARATOR: Final = "_"


@dataclass(frozen=True, slots=True)
class Bookings:
    """Of one pod; None: the scheduler knows nothing of that direction."""

    ingress: int | None = None
    egress: int | None = None
    by_webhook: frozenset[Direction] = frozenset()
    """Where the webhook booked what the pod requests; elsewhere the pod brought it itself."""

    def of(self, direction: Direction) -> int | None:
        """One direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    def labels(self) -> dict[str, str]:
        """The labels that tell of it whoever does not see the pod's containers."""
        labels = {
            BOOKED_LABELS[direction]: str(bits)
            for direction in DIRECTIONS
            if (bits := self.of(direction)) is not None
        }
        ours = [direction for direction in DIRECTIONS if direction in self.by_webhook]
        return labels | ({LABEL_BOOKED_BY_WEBHOOK: _SEPARATOR.join(ours)} if ours else {})


NO_BOOKINGS: Final = Bookings()


def read_bookings(labels: Mapping[str, str]) -> Bookings:
    """What :meth:`Bookings.labels` wrote; what it did not write counts as not there."""
    ingress, egress = (_number(labels.get(BOOKED_LABELS[d], "")) for d in DIRECTIONS)
    return Bookings(ingress, egress, booked_by_webhook(labels))


def booked_by_webhook(labels: Mapping[str, str]) -> frozenset[Direction]:
    """The directions whose booking is the webhook's."""
    ours = labels.get(LABEL_BOOKED_BY_WEBHOOK, "").split(_SEPARATOR, len(DIRECTIONS))
    return frozenset(direction for direction in DIRECTIONS if direction in ours)


def scheduled_bits(containers: Iterable[int], init: Iterable[tuple[int, bool]]) -> int:
    """A pod's request as the scheduler sums it (``PodRequests`` in k8s.io/component-helpers).

    ``init``: the init containers in their order, each with whether it is a sidecar
    (``restartPolicy: Always``), which keeps what it has while others start and run.
    """
    sidecars = starting = 0
    for bits, is_sidecar in init:
        starting = max(starting, sidecars + bits)
        sidecars += bits if is_sidecar else 0
    return max(starting, sum(containers) + sidecars)


def _number(text: str) -> int | None:
    known = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if known else None
