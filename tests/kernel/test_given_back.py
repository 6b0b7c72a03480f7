"""What a limit does to a connection, and that all of it is given back, whatever it is doing."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rig import Rig, rig
from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from contract.names import Mode
from enforcer.datapath import build
from enforcer.datapath.kernel import KernelDatapath
from enforcer.state import Target, Way
from tests.kernel.connections import NOT_PACED, Connection, connection, eventually
from tests.kernel.nodes import changed_copy

pytestmark = pytest.mark.slow_emulated
LIMIT = 20_000_000
RATE = LIMIT // 8
MOST_SHARE = RATE * 5 // 4
"""Of one flow, while credit is led back."""
OWN = 250_000
SENT_BYTES = 30_000
MUCH_BYTES = 3_000_000


@pytest.fixture
def wired() -> Iterator[Rig]:
    """A rig of its own: pins go with it."""
    with rig() as r:
        yield r


def datapath_of(r: Rig, source: Path | None = None) -> KernelDatapath:
    """The real datapath, of this source or another."""
    place = (r.bpffs / "podpace", cgroup2_mount())
    return build(*place) if source is None else build(*place, source)


def target_of(r: Rig, limit: int = LIMIT, *, ingress: int | None = None) -> Target:
    """The rig's pod."""
    group = r.cgroup
    limits = Limits(ingress and make_limit(ingress), make_limit(limit))
    return Target("pod", str(group), group.stat().st_ino, limits)


def paced(program: Connection, most: int = MOST_SHARE) -> bool:
    """Whether the program's connection is, once it has sent something."""
    program.ask(f"send {SENT_BYTES}")
    return program.pace <= most


def test_a_pace_that_an_application_sets_later_is_kept(wired: Rig) -> None:
    """A smaller one than its share holds, and stays when the limit goes."""
    datapath = datapath_of(wired)
    datapath.write(target_of(wired), Way())
    with connection(wired) as program:
        assert eventually(lambda: paced(program))
        program.ask(f"ask {OWN}")
        for _ in range(5):
            program.ask(f"send {SENT_BYTES}")
            time.sleep(0.05)
        assert program.pace == OWN
        datapath.detach(str(wired.cgroup))
        assert program.pace == OWN


def test_a_larger_pace_that_an_application_sets_later_does_not_lift_the_limit(wired: Rig) -> None:
    """It is paced at its share again soon, and has its own choice back afterwards."""
    datapath = datapath_of(wired)
    datapath.write(target_of(wired), Way())
    with connection(wired) as program:
        assert eventually(lambda: paced(program))
        program.ask(f"ask {10 * RATE}")
        assert eventually(lambda: paced(program))
        datapath.detach(str(wired.cgroup))
        assert program.pace == 10 * RATE


def test_an_applications_own_pace_outlives_an_upgrade(wired: Rig, tmp_path: Path) -> None:
    """Smaller or larger than the share; a connection without one is not left with ours."""
    target = target_of(wired)
    older = datapath_of(wired, changed_copy(tmp_path) / "bpf")
    older.write(target, Way())
    with (
        connection(wired, 7701) as smaller,
        connection(wired, 7702) as larger,
        connection(wired, 7703) as without,
    ):
        smaller.ask(f"ask {OWN}")
        larger.ask(f"ask {10 * RATE}")
        for program in (smaller, larger, without):
            assert eventually(lambda program=program: paced(program))
        newer = datapath_of(wired)
        newer.write(target, Way())
        newer.prune()
        for program in (smaller, larger, without):
            assert eventually(lambda program=program: paced(program))
        assert smaller.pace == OWN
        newer.detach(str(wired.cgroup))
        assert [program.pace for program in (smaller, larger, without)] == [
            OWN,
            10 * RATE,
            NOT_PACED,
        ]


@pytest.mark.parametrize("older", [True, False], ids=["older than the limit", "newer"])
@pytest.mark.parametrize("doing", ["nothing", "flood", "read"])
def test_a_connection_has_pace_and_window_back(wired: Rig, doing: str, older: bool) -> None:
    """While it is silent, sends, or receives; and the same limit holds it again afterwards."""
    datapath, target = datapath_of(wired), target_of(wired, ingress=LIMIT)

    def limit() -> None:
        datapath.write(target, Way())
        datapath.write(target, Way(True))

    def held(program: Connection) -> bool:
        datapath.tend([target])
        program.ask("send 1448") if doing != "flood" else None
        return program.pace <= MOST_SHARE and (doing != "read" or program.window < MUCH_BYTES // 4)

    if not older:
        limit()
    with connection(wired, peer_sends=doing == "read") as program:
        program.ask(doing)
        if older:
            time.sleep(0.5)
            limit()
        for _ in range(2):
            assert eventually(lambda: held(program))
            datapath.detach(str(wired.cgroup))
            assert program.pace == NOT_PACED
            if doing == "read":
                assert eventually(lambda: program.window > MUCH_BYTES)
            limit()


def test_a_socket_whose_process_has_gone_elsewhere_is_given_back(wired: Rig) -> None:
    """To another cgroup, and another network namespace: nothing of the target's is where it is."""
    datapath = datapath_of(wired)
    datapath.write(target_of(wired), Way())
    with connection(wired) as program:
        assert eventually(lambda: paced(program))
        program.ask(f"move {cgroup2_mount()}")
        program.ask(f"enter /run/netns/{wired.peer.namespace}")
        datapath.detach(str(wired.cgroup))
        assert program.pace == NOT_PACED


@pytest.mark.parametrize(
    "less", [Limits(ingress=make_limit(LIMIT)), Limits(None, make_limit(LIMIT), Mode.OBSERVE)]
)
def test_a_silent_connection_is_free_when_its_direction_is(wired: Rig, less: Limits) -> None:
    """Only the other direction is limited from now on, or nothing is but counted."""
    datapath, target = datapath_of(wired), target_of(wired, ingress=LIMIT)
    datapath.write(target, Way(is_shaped=True))
    with connection(wired) as program:
        assert eventually(lambda: paced(program))
        datapath.write(replace(target, limits=less), Way(is_shaped=True))
        assert program.pace == NOT_PACED
