"""What several files of this folder are given."""

import fcntl
from collections.abc import Iterator

import pytest

from bench.rig import rig, terminating
from tests.kernel.nodes import Node


@pytest.fixture
def node() -> Iterator[Node]:
    """A rig without a daemon; what daemons left is cleaned up and proved gone."""
    with terminating(), rig() as r:
        n = Node(r)
        try:
            yield n
        finally:
            n.clean_up()
            assert n.programs() == []
            assert n.files == []


@pytest.fixture(autouse=True)
def _place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Among the tests that run at once: those that are marked ``alone`` have the machine."""
    alone = request.node.get_closest_marker("alone") is not None
    shared = tmp_path_factory.getbasetemp().parent  # by pytest-xdist's workers
    with (shared / "door").open("w") as door, (shared / "machine").open("w") as machine:
        # Who waits for the machine holds the door, so that it becomes free.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
