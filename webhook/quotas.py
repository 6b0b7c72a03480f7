"""ResourceQuotas beside the pods that are reviewed: what the API server would say of them. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from contract.booking import Bookings
from contract.names import DIRECTIONS, RESOURCES, Direction
from contract.quantity import canonical_quantity, canonical_text, parse_value

COUNTED: Final = {direction: f"requests.{RESOURCES[direction]}" for direction in DIRECTIONS}
"""The only spelling that a quota counts; others it takes and passes over."""


@dataclass
class Quota:
    """One of a namespace, and what has been used of it."""

    namespace: str
    name: str
    hard: Mapping[Direction, int]
    """Bits per second."""
    spelt: Mapping[Direction, str]
    """The same, as the API server writes it back."""
    used: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))

    @classmethod
    def read(cls, namespace: str, name: str, hard: Mapping[str, str]) -> "Quota":
        """``hard`` as its spec has it; what is no quantity the API server refuses."""
        texts = {d: hard[key] for d, key in COUNTED.items() if key in hard}
        bits = {d: value for d, text in texts.items() if (value := parse_value(text)) is not None}
        return cls(namespace, name, bits, {d: canonical_text(texts[d]) for d in bits})

    def refuses(self, bookings: Bookings) -> str:
        """Why one pod more is too much, in the API server's words; empty: it is not."""
        over = [
            direction
            for direction in sorted(DIRECTIONS, key=COUNTED.__getitem__)
            if direction in self.hard
            and (bookings.of(direction) or 0) + self.used[direction] > self.hard[direction]
            and bookings.of(direction)
        ]
        if not over:
            return ""
        asked, used = (
            ",".join(f"{COUNTED[d]}={canonical_quantity(bits(d))}" for d in over)
            for bits in (lambda d: bookings.of(d) or 0, self.used.__getitem__)
        )
        hard = ",".join(f"{COUNTED[d]}={self.spelt[d]}" for d in over)
        return f"exceeded quota: {self.name}, requested: {asked}, used: {used}, limited: {hard}"

    def take(self, bookings: Bookings) -> None:
        """One pod more."""
        for direction in DIRECTIONS:
            self.used[direction] += bookings.of(direction) or 0


def refused(
    quotas: Iterable[Quota], namespace: str, name: str, bookings: Bookings, pods: int
) -> str:
    """What the API server refuses some of so many equal pods with; empty: all have room, and take
    it. ``name``: a pod's; of those that get theirs when they are made, with a ``*``."""
    for number in range(pods):
        here = [quota for quota in quotas if quota.namespace == namespace]
        reasons = [why for quota in here if (why := quota.refuses(bookings))]
        if reasons:
            said = f'pods "{name}" is forbidden: {reasons[0]}'
            return said if pods == 1 else f"{pods - number} of {pods} pods: {said}"
        for quota in here:
            quota.take(bookings)
    return ""


def uncounted(hard: Iterable[str]) -> Iterator[str]:
    """Keys of a quota that look as if they bounded something."""
    for key in hard:
        for direction in DIRECTIONS:
            if key.removeprefix("limits.") == RESOURCES[direction]:
                yield f"{key} is never counted; write {COUNTED[direction]}"
