"""docs/operator/migrating.md: its check finds every limiter, its commands free a pod that runs."""

import re
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from bench.limiters import CniBandwidth
from bench.rig import Rig, RigError, rig
from bench.rig.process import Place
from bench.rig.topology import PEER_ADDRESS, POD_PORT, uncounted
from contract.names import Direction
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/operator/migrating.md"
(CHECK,) = (block.text for block in blocks(PAGE) if "run=node" in block.words)


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


def queues_of_1_5(node: Place) -> str:
    """What the plugin's 1.5 makes for subnets: classes, one of them for what is not limited."""
    htb = ("root", "handle", "1:", "htb", "default", "30")
    node.run("tc", "qdisc", "replace", "dev", POD_PORT, *htb)
    node.run(
        *("tc", "class", "add", "dev", POD_PORT, "parent", "1:", "classid", "1:30"),
        *("htb", "rate", "10mbit"),
    )
    return "root"


def redirect_to_nowhere(node: Place) -> str:
    """What is left when the interface of a limit on sending is deleted."""
    node.run("ip", "link", "add", "bwpx", "type", "ifb")
    node.run("ip", "link", "set", "bwpx", "up")
    node.run("tc", "qdisc", "add", "dev", POD_PORT, "ingress")
    node.run(
        *("tc", "filter", "add", "dev", POD_PORT, "ingress", "u32", "match", "u32", "0", "0"),
        *("action", "mirred", "egress", "redirect", "dev", "bwpx"),
    )
    node.run("ip", "link", "del", "bwpx")
    return "ingress"


@pytest.mark.parametrize("left", [queues_of_1_5, redirect_to_nowhere])
def test_what_older_versions_and_halves_of_them_leave_is_found(
    left: Callable[[Place], str],
) -> None:
    """A check for the plugin's names alone would miss both."""
    with rig() as made, uncounted(made.node, POD_PORT):
        where = left(made.node)
        try:
            found = look(made)
        finally:
            made.node.run("tc", "qdisc", "del", "dev", POD_PORT, where)

    assert POD_PORT in found
    assert "nobody" not in found


def test_our_own_queue_is_nobody_else() -> None:
    """By its handle."""
    with rig() as made:
        made.node.run(
            *("tc", "qdisc", "replace", "dev", POD_PORT, "root", "handle", "7bd0:", "htb")
        )
        try:
            assert look(made) == "nobody else limits pods here\n"
        finally:
            made.node.run("tc", "qdisc", "del", "dev", POD_PORT, "root")


@pytest.mark.slow_emulated
def test_a_pod_that_runs_is_freed_without_being_cut_off() -> None:
    """As the page says; the other way round it can send nothing, which the page says as well."""
    commands = re.findall(r"^```sh\n(veth=.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (freed,) = (text.replace("veth1234abcd", POD_PORT) for text in commands)
    ping = ("ping", "-c1", "-W1", PEER_ADDRESS[4])
    with rig() as made, ExitStack() as stack:
        stack.enter_context(suppress(RigError))  # DEL finds nothing to take away
        stack.enter_context(CniBandwidth().applied(made, Direction.EGRESS, 10_000_000))
        stack.enter_context(suppress(RigError))
        stack.enter_context(CniBandwidth().applied(made, Direction.INGRESS, 10_000_000))
        made.pod.run(*ping)
        made.node.run("bash", "-uo", "pipefail", "-c", freed)

        made.pod.run(*ping)
        assert look(made) == "nobody else limits pods here\n"
