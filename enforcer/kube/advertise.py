"""Tells the scheduler what this node's pods can book: extended resources of its own Node."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from contract.names import DIRECTIONS, RESOURCES, Direction
from contract.quantity import MIN_BITS_PER_SECOND, canonical_quantity, parse_value
from enforcer.kube.own_node import PATH, OwnNode
from enforcer.ports import Log
from kube.errors import ApiError
from kube.ports import MERGE_PATCH, Api

_LOOK_SECONDS: Final = 10.0
"""A change of the Node is told at once; the node's capacity and its pods are looked at so often."""

Bits = Mapping[Direction, int | None]
"""In bits per second; None: nothing is offered, or not known."""


def offered(capacity: Bits, booked: Bits, present: Bits) -> dict[Direction, int | None]:
    """What the Node should say, where it says ``present`` and pods have ``booked``.

    Never 0, and never lowered below what is booked: the kubelet's next restart would end pods until
    the rest fits. What it does not say, it says of nobody: a key that is absent ends no pod.
    """
    found: dict[Direction, int | None] = {}
    for direction in DIRECTIONS:
        most, now, least = capacity[direction], present[direction], booked.get(direction) or 0
        if most is None or most < MIN_BITS_PER_SECOND:
            found[direction] = None
        elif now is not None and most < now:
            found[direction] = max(most, min(now, least))
        else:
            found[direction] = most
    return found


class ExtendedResources:
    """Keeps ``status.capacity`` of one Node as it should be; implements ``ports.CapacityProvider``.

    Any thread may :meth:`see`. It writes when the Node says something else, and then only.
    """

    def __init__(
        self,
        api: Api,
        node_name: str,
        capacity: Callable[[Direction], int | None],
        booked: Callable[[Direction], int],
        *,
        list_booked: Callable[[], Mapping[Direction, int]],
        ready: Callable[[], bool],
        log: Log,
    ) -> None:
        """``capacity`` and ``booked`` are in bits per second, and true once it is ``ready``.

        ``booked``: by the pods that are known. ``list_booked``: by all, asked of the API server
        where a capacity is to be lowered; raises ApiError.
        """
        self._api = api
        self._path = f"{PATH}/{node_name}/status"
        self._capacity = capacity
        self._booked = booked
        self._list_booked = list_booked
        self._ready = ready
        self._log = log
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._present: dict[Direction, str | None] | None = None
        self._held: Bits = {}

    def see(self, node: OwnNode | None) -> None:
        """What the Node says; None: there is no such Node, and nothing to write to."""
        with self._lock:
            self._present = None if node is None else dict(node.capacity)
        self._changed.set()

    def advertised(self, direction: Direction) -> int | None:
        """What the scheduler has to give, in bits per second; None: nothing, or not known."""
        with self._lock:
            return _bits(None if self._present is None else self._present[direction])

    def booked(self, direction: Direction) -> int:
        """What this node's pods have of it."""
        return self._booked(direction)

    def step(self) -> None:
        """Put it right, and wait until something may have changed.

        Raises:
            ApiError: it was not written.
        """
        self._changed.clear()
        self.assert_now()
        self._changed.wait(_LOOK_SECONDS)

    def assert_now(self) -> bool:
        """Write what differs; whether anything did."""
        with self._lock:
            present = self._present
        if present is None or not self._ready():
            return False
        texts = {d: _bits(present[d]) for d in DIRECTIONS}
        capacity = {d: self._capacity(d) for d in DIRECTIONS}
        booked = self._booked_by_all() if _is_lower(capacity, texts) else {}
        wanted = offered(capacity, booked, texts)
        self._say_held(capacity, wanted)
        # By value: the API server spells numbers its own way.
        differs = {d: wanted[d] for d in DIRECTIONS if wanted[d] != texts[d]}
        # One that nobody can read, or 0, is in the way.
        differs |= {d: wanted[d] for d in DIRECTIONS if present[d] and texts[d] is None}
        self._write(differs)
        return bool(differs)

    def _booked_by_all(self) -> Bits:
        listed = self._list_booked()
        return {d: max(self._booked(d), listed[d]) for d in DIRECTIONS}

    def _say_held(self, capacity: Bits, wanted: Bits) -> None:
        """Once for each number, that it is more than the node has."""
        held = {d: n for d, n in wanted.items() if n is not None and n != capacity[d]}
        if held and held != self._held:
            self._log.warning(
                "capacity held back",
                reason="pods have booked more; it follows as they end",
                **{
                    str(direction): canonical_quantity(bits or 0)
                    for direction, bits in held.items()
                },
            )
        self._held = held

    def withdraw(self) -> None:
        """Offer nothing any more, for good. Whoever has booked keeps running."""
        with self._lock:
            present = self._present or {}
        gone = {d: None for d in DIRECTIONS if present.get(d) is not None}
        try:
            self._write(gone)
        except ApiError as error:
            self._log.warning("failed", operation="withdraw capacity", reason=str(error)[:300])

    def _write(self, differs: Bits) -> None:
        if not differs:
            return
        texts = {d: None if n is None else canonical_quantity(n) for d, n in differs.items()}
        capacity = {RESOURCES[d]: text for d, text in texts.items()}
        self._api.patch(self._path, {"status": {"capacity": capacity}}, MERGE_PATCH)
        with self._lock:
            if self._present is not None:
                self._present |= texts
        self._log.info("advertised", **{str(d): text or "nothing" for d, text in texts.items()})


def _is_lower(capacity: Bits, present: Bits) -> bool:
    """In any direction, and still something."""
    return any(
        most is not None and now is not None and most < now
        for most, now in ((capacity[d], present[d]) for d in DIRECTIONS)
    )


def _bits(text: str | None) -> int | None:
    """What is below 1k says as much as nothing."""
    value = None if text is None else parse_value(text)
    return value if value is not None and value >= MIN_BITS_PER_SECOND else None
