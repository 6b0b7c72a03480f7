"""This namespace's interfaces, kept up to date by events; and news of them for who waits."""

import errno
import threading
from typing import Final

from enforcer.net.rtnetlink import (
    NO_ID,
    RTMGRP_LINK,
    Interface,
    LinkChange,
    Netlink,
    interfaces,
    link_changes,
)

_VETH: Final = "veth"


class LinkTable:
    """Cheap to ask five hundred times. Safe to call from several threads; raises OSError."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events = Netlink(RTMGRP_LINK)
        self._table: dict[int, Interface] = {}
        self._ends: dict[int, dict[int, Interface]] = {}
        self._is_known = False

    def all(self) -> dict[int, Interface]:
        """By ifindex, as of now."""
        with self._lock:
            self._catch_up()
            return self._table.copy()

    def get(self, ifindex: int) -> Interface | None:
        """One, as of now."""
        with self._lock:
            self._catch_up()
            return self._table.get(ifindex)

    def ends(self, namespace_id: int) -> tuple[Interface, ...]:
        """The ends here of the veths into the namespace that has this number here."""
        with self._lock:
            self._catch_up()
            return tuple(self._ends.get(namespace_id, {}).values())

    def close(self) -> None:
        """Close the socket."""
        self._events.close()

    def _catch_up(self) -> None:
        try:
            changes = link_changes(self._events.events())
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._is_known = False
        if not self._is_known:
            self._table, self._ends = {}, {}
            with Netlink() as netlink:
                changes = [LinkChange(found, is_gone=False) for found in interfaces(netlink)]
            self._is_known = True
        for change in changes:
            self._take(change)

    def _take(self, change: LinkChange) -> None:
        now, ifindex = change.interface, change.interface.ifindex
        before = self._table.pop(ifindex, None)
        if before is not None:
            ends = self._ends.get(before.peer_namespace_id, {})
            ends.pop(ifindex, None)
            if not ends:
                self._ends.pop(before.peer_namespace_id, None)
        if change.is_gone:
            return
        self._table[ifindex] = now
        if now.kind == _VETH and now.peer_namespace_id != NO_ID:
            self._ends.setdefault(now.peer_namespace_id, {})[ifindex] = now


class LinkWatch:
    """Link events, for a thread that waits for them."""

    def __init__(self) -> None:
        self._events = Netlink(RTMGRP_LINK)

    def wait(self, timeout_seconds: float) -> list[LinkChange] | None:
        """What changed; None when some of it was lost and everything may have."""
        try:
            return link_changes(self._events.events(timeout_seconds))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return None
