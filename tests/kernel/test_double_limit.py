"""The check for a second limiter in docs/operator/migrating.md finds the real CNI plugin."""

import pytest

from bench.limiters import CniBandwidth
from bench.rig import Rig, rig
from contract.names import Direction
from tests.docs.pages import ROOT, blocks

(CHECK,) = (
    block.text for block in blocks(ROOT / "docs/operator/migrating.md") if "run=node" in block.words
)


def look(made: Rig) -> str:
    """What an operator sees on this node."""
    return made.node.run("bash", "-euo", "pipefail", "-c", CHECK)


@pytest.mark.slow_emulated
@pytest.mark.parametrize("direction", list(Direction))
def test_a_pod_that_the_cni_plugin_limits_is_found(direction: Direction) -> None:
    """In either direction; and nobody is accused before."""
    with rig() as made:
        assert look(made) == "nobody else limits pods here\n"
        with CniBandwidth().applied(made, direction, 10_000_000):
            assert "qdisc tbf" in look(made)
        assert look(made) == "nobody else limits pods here\n"
