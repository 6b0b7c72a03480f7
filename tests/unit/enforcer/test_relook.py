"""enforcer.reconcile.relook: targets that are still coming up."""

from pathlib import Path

from enforcer.reconcile.relook import Relook


def cgroup(folder: Path, *, populated: bool) -> str:
    """A cgroup's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.events").write_text(f"populated {int(populated)}\nfrozen 0\n")
    return str(folder)


def ticks_when_due(relook: Relook, count: int) -> list[int]:
    """At which of the next ticks something is due."""
    return [tick for tick in range(1, count + 1) if relook.due()]


def test_an_empty_cgroup_waits_and_is_looked_at_when_a_process_comes(tmp_path):
    """However long that takes."""
    relook, path = Relook(), cgroup(tmp_path / "a", populated=False)
    relook.found(path, settled=False)
    assert ticks_when_due(relook, 500) == []
    cgroup(tmp_path / "a", populated=True)
    assert relook.due() == [path]


def test_looks_grow_rarer_and_end(tmp_path):
    """Six looks within seven seconds; after that the resync will do."""
    relook, path = Relook(), cgroup(tmp_path / "a", populated=True)
    relook.found(path, settled=False)
    assert ticks_when_due(relook, 1000) == [1, 3, 7, 15, 31]
    relook.found(path, settled=False)
    assert ticks_when_due(relook, 1000) == []


def test_a_settled_or_forgotten_target_is_not_looked_at(tmp_path):
    """It is held as well as it can be, or not limited any more."""
    relook, path = Relook(), cgroup(tmp_path / "a", populated=True)
    relook.found(path, settled=False)
    relook.found(path, settled=True)
    assert ticks_when_due(relook, 10) == []
    relook.found(path, settled=False)
    relook.forget(path)
    assert ticks_when_due(relook, 10) == []


def test_a_cgroup_that_is_gone_is_never_due(tmp_path):
    """The resync finds that out."""
    relook = Relook()
    relook.found(str(tmp_path / "gone"), settled=False)
    assert ticks_when_due(relook, 10) == []
