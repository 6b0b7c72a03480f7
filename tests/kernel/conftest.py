"""What several files of this folder are given."""

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
