"""Fakes that implement our Protocols, for tests without a kernel."""

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from enforcer.errors import DatapathError
from enforcer.state import (
    Attachment,
    Counters,
    Link,
    Rates,
    ShaperCounters,
    Shaping,
    Surroundings,
    Target,
    TargetCounters,
    Used,
    Way,
)


def inode_of(path: str) -> int:
    """0 for what is not there."""
    return Path(path).stat().st_ino if Path(path).exists() else 0


class FakeDatapath:
    """Programs in a dictionary. ``fail`` names the operations that the kernel refuses."""

    source_hash = "0123abcd"

    def __init__(self) -> None:
        self.attached: dict[str, Target] = {}
        self.outdated: set[str] = set()
        self.shaped: set[str] = set()
        self.fail: dict[str, str] = {}
        self.calls: list[str] = []
        self.tended = threading.Event()
        self.pinned = True
        self.given: dict[int, Rates] = {}
        self.gifts: list[tuple[int, Rates]] = []
        """What was given, in order, by cgroup id."""
        self.used_bytes: dict[int, tuple[int, int]] = {}
        self.local_bytes: dict[int, tuple[int, int]] = {}
        self.wanted_at_ns = 0
        self.local_networks: tuple[str, ...] = ()

    def features(self) -> Mapping[str, str]:
        """Everything is supported but one."""
        return {"cgroup_skb": "supported", "iterator": "this kernel has none"}

    def observe(self, cgroup_path: str) -> Attachment | None:
        """As attached last."""
        self._call("observe")
        target = self.attached.get(cgroup_path)
        if target is None or not Path(cgroup_path).exists():
            return None
        current = cgroup_path not in self.outdated
        return Attachment(
            cgroup_path,
            target.cgroup_id,
            current,
            target.limits,
            shaped=cgroup_path in self.shaped,
        )

    def mark(self, cgroup_path: str) -> Hashable:
        """Of all that :meth:`observe` tells."""
        is_shaped, is_outdated = cgroup_path in self.shaped, cgroup_path in self.outdated
        return self.attached.get(cgroup_path), is_shaped, is_outdated, inode_of(cgroup_path)

    def write(self, target: Target, way: Way) -> None:
        """All or nothing."""
        path = target.cgroup_path
        is_there = path in self.attached and path not in self.outdated
        self._call("write" if is_there else "attach")
        self.attached[target.cgroup_path] = target
        self.outdated.discard(target.cgroup_path)
        (self.shaped.add if way.is_shaped else self.shaped.discard)(target.cgroup_path)

    def detach(self, cgroup_path: str) -> None:
        """Of any age."""
        self._call("detach")
        self.attached.pop(cgroup_path, None)

    def forget(self, cgroup_id: int) -> None:
        """The kernel took the programs with the cgroup."""
        self._call("forget")
        self.attached = {p: t for p, t in self.attached.items() if t.cgroup_id != cgroup_id}

    def counters(self, target: Target) -> TargetCounters:
        """Distinct numbers, so that a mix-up shows."""
        self._call("counters")
        return TargetCounters(
            ingress=Counters(11, 12, 13, 14, 15, 16, 17, 1_800_000_000, "policed", "no veth"),
            egress=Counters(21, 22, 23, 24, 25, 26, 27, 2_800_000_000, "paced", ""),
            earlier_sockets="iterator",
        )

    def give(self, target: Target, rates: Rates) -> None:
        """Kept."""
        if "give" in self.fail:
            raise DatapathError(self.fail["give"])
        self.given[target.cgroup_id] = rates
        self.gifts.append((target.cgroup_id, rates))

    def used(self, cgroup_id: int) -> Used | None:
        """As the test says."""
        found = self.used_bytes.get(cgroup_id)
        return None if found is None else Used(*found, *self.local_bytes.get(cgroup_id, (0, 0)))

    def note_local(self, networks: Iterable[str]) -> None:
        """Kept."""
        self.local_networks = tuple(networks)

    def wanted_ns(self) -> int:
        """As the test says."""
        return self.wanted_at_ns

    def tend(self, targets: Iterable[Target]) -> None:
        """Nothing to do."""
        list(targets)
        if "tend" in self.fail:
            raise DatapathError(self.fail["tend"])
        self.tended.set()

    def prune(self) -> None:
        """Counted."""
        self._call("prune")

    def unpin(self) -> None:
        """No pins are left."""
        self._call("unpin")
        self.pinned = False

    def _call(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.fail:
            raise DatapathError(self.fail[operation])


class FakeLog:
    """Keeps what was logged: (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        """A decision."""
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        """A failure."""
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        """A fault."""
        self.lines.append(("error", event, fields))

    @property
    def events(self) -> list[str]:
        """What happened, in order."""
        return [event for _, event, _ in self.lines]


def make_proc(folder: Path, cgroup_root: Path, v1_root: Path | None = None) -> Path:
    """A procfs with a mount table in which ``cgroup_root`` is cgroup v2."""
    (folder / "self").mkdir(parents=True)
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        f"2 1 0:28 / {cgroup_root} rw,relatime shared:4 - cgroup2 cgroup2 rw",
    ]
    if v1_root is not None:
        lines.append(f"3 1 0:29 / {v1_root} rw,relatime - cgroup cgroup rw,cpu")
    (folder / "self/mountinfo").write_text("\n".join(lines) + "\n")
    return folder


class FakeNetwork:
    """Interfaces in a dictionary by cgroup path. ``fail`` names the operations that are refused."""

    def __init__(self) -> None:
        self.links: dict[str, tuple[Link, ...]] = {}
        self.obstacles: dict[str, str] = {}
        self.held: dict[int, tuple[Shaping, tuple[str, ...]]] = {}
        self.passed_bytes: dict[int, int] = {}
        self.fail: dict[str, str] = {}
        self.given: dict[int, Rates] = {}
        self.sent_past: dict[int, int] = {}
        self.hosts: dict[str, bool | None] = {}
        """Whether each uses the host's network, as was said at the last look."""

    def features(self) -> Mapping[str, str]:
        """HTB only."""
        return {"htb": "supported"}

    def observe(
        self, cgroup_path: str, cgroup_id: int, uses_host_network: bool | None
    ) -> Surroundings:
        """As it was put last."""
        self.hosts[cgroup_path] = uses_host_network
        shaping, names = self.held.get(cgroup_id, (None, ()))
        links = tuple(
            replace(link, shaping=shaping) if link.name in names else link
            for link in self.links.get(cgroup_path, ())
        )
        there = {link.name for link in links}
        return Surroundings(
            links,
            self.obstacles.get(cgroup_path, ""),
            tuple(number for number, name in enumerate(names) if name not in there),
        )

    def shape(self, cgroup_id: int, shaping: Shaping, links: Sequence[Link]) -> None:
        """All of them."""
        self._call("shape")
        self.held[cgroup_id] = shaping, tuple(link.name for link in links)

    def give(self, cgroup_id: int, rates: Rates) -> None:
        """Kept."""
        self.given[cgroup_id] = rates

    def sent_past_bytes(self, cgroup_id: int) -> int:
        """As the test says."""
        return self.sent_past.get(cgroup_id, 0)

    def unshape(self, cgroup_id: int) -> None:
        """Whatever is there."""
        self._call("unshape")
        self.held.pop(cgroup_id, None)

    def counters(self, cgroup_id: int) -> ShaperCounters | None:
        """Distinct numbers, so that a mix-up shows."""
        if cgroup_id not in self.held:
            return None
        passed = self.passed_bytes.get(cgroup_id, 13)
        return ShaperCounters(31, 32_000_000, passed, 34, 35, 36, 37)

    def shaped(self) -> frozenset[int]:
        """Those that something is held for."""
        return frozenset(self.held)

    def sweep(self) -> list[str]:
        """Nothing was forgotten."""
        return []

    def changed(self, timeout_seconds: float) -> frozenset[str] | None:
        """Nothing ever does."""
        threading.Event().wait(timeout_seconds)
        return frozenset()

    def _call(self, operation: str) -> None:
        if operation in self.fail:
            raise DatapathError(self.fail[operation])
