"""enforcer.net.graph: which links lead out of a target, as a table of what people build."""

from dataclasses import dataclass

import pytest

from enforcer.net.graph import (
    HOST_NETWORK,
    NO_PROCESS,
    NO_VETH,
    NOT_ITS_OWN,
    Space,
    ways_out,
)
from enforcer.net.rtnetlink import NO_ID, Interface

POD, INNER, ELSEWHERE, HOST_SEEN = 3, 4, 9, 0
"""Numbers of namespaces; the last as those inside number the host's."""


def interface(name: str, kind: str = "veth", far: int = NO_ID, *, is_up: bool = True) -> Interface:
    """One interface; ``far`` is the namespace of its other end or of what it stands on."""
    return Interface(7, name, kind, is_up, 1500, 2, far)


END = interface("vp", far=POD)
SECOND = interface("vq", far=POD)
HOST = Space(is_host=True)
SANDBOX = Space()
UPLINK = interface("eth0", far=HOST_SEEN)


def pod(*inside: Interface, ends: tuple[Interface, ...] = (END,), is_owned: bool = True) -> Space:
    """A namespace behind veths."""
    return Space(POD, ends, is_owned=is_owned, inside=(UPLINK, *inside), host_number=HOST_SEEN)


def alone(*inside: Interface) -> Space:
    """A namespace that no veth joins to the host's."""
    return Space(INNER, inside=inside, host_number=HOST_SEEN)


@dataclass(frozen=True)
class Case:
    """What there is, and what it means; ``says`` is what the pod's spec says, if anybody does."""

    name: str
    spaces: tuple[Space, ...]
    leads: tuple[Interface, ...] = ()
    obstacle: str = ""
    says: bool | None = None


MACVLAN = "its net1 (macvlan) has no veth on the host"
CASES = [
    Case("a pod", (pod(),), (END,)),
    Case("two interfaces", (pod(ends=(END, SECOND)),), (END, SECOND)),
    Case("nothing runs", (), obstacle=NO_PROCESS),
    Case("the host's network", (HOST,), obstacle=HOST_NETWORK),
    Case("the host's network, as the spec says", (HOST,), obstacle=HOST_NETWORK, says=True),
    Case(
        "containers of a pod on the host's network",
        (HOST, pod()),
        obstacle=HOST_NETWORK,
        says=True,
    ),
    Case("CRI-O's monitor", (HOST, pod()), (END,)),
    Case("CRI-O's monitor in a pod", (HOST, pod()), (END,), says=False),
    Case("CRI-O's monitor before its container", (HOST,), obstacle=NO_PROCESS, says=False),
    Case("a sandbox", (pod(), SANDBOX), (END,)),
    Case("a sandbox alone", (SANDBOX,), obstacle=NO_VETH),
    Case(
        "docker in docker",
        (
            pod(interface("br0", "bridge"), interface("in0", far=INNER)),
            alone(interface("eth0", far=POD)),
        ),
        (END,),
    ),
    Case(
        "a macvlan that stands on the pod's interface, in a namespace inside",
        (pod(), alone(interface("net1", "macvlan", POD))),
        (END,),
    ),
    Case("a macvlan on the host's", (pod(interface("net1", "macvlan", HOST_SEEN)),), (), MACVLAN),
    Case(
        "a macvlan on the host's, and no veth",
        (alone(interface("net1", "macvlan", HOST_SEEN)),),
        (),
        MACVLAN,
    ),
    Case(
        "a macvlan on the host's that is down",
        (pod(interface("net1", "macvlan", HOST_SEEN, is_up=False)),),
        (END,),
    ),
    Case("a macvlan on the pod's own", (pod(interface("net1", "macvlan")),), (END,)),
    Case(
        "wireguard made on the host",
        (pod(interface("wg0", "wireguard", HOST_SEEN)),),
        obstacle="its wg0 (wireguard) has no veth on the host",
    ),
    Case(
        "hardware",
        (pod(interface("eth1", "")),),
        obstacle="its eth1 (hardware) has no veth on the host",
    ),
    Case(
        "tunnels that every namespace has",
        (pod(interface("sit0", "sit"), interface("tunl0", "ipip")),),
        (END,),
    ),
    Case("a veth to somewhere else", (pod(interface("eth1", far=ELSEWHERE)),), (END,)),
    Case("a namespace that is another's", (pod(is_owned=False),), obstacle=NOT_ITS_OWN),
    Case("a session in another's namespace", (HOST, pod(is_owned=False)), obstacle=HOST_NETWORK),
    Case(
        "hardware of a namespace that is another's",
        (pod(), Space(5, (SECOND,), is_owned=False, inside=(interface("eth1", ""),))),
        (END,),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_leads_out(case: Case) -> None:
    """Links that end on the host carry a target's traffic; nothing it builds inside hides them."""
    ways = ways_out(case.spaces, case.says)
    assert (ways.interfaces, ways.obstacle) == (case.leads, case.obstacle)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sandbox_more_changes_nothing(case: Case) -> None:
    """Wherever it comes among the namespaces: a tenant can make any number."""
    if not case.spaces or case.obstacle == NO_PROCESS:
        return
    for spaces in ((SANDBOX, *case.spaces), (*case.spaces, SANDBOX, alone(UPLINK))):
        ways = ways_out(spaces, case.says)
        assert (ways.interfaces, ways.obstacle) == (case.leads, case.obstacle)


def test_every_joined_namespace_is_listened_to() -> None:
    """Link events name the namespace that they concern."""
    ways = ways_out((HOST, pod(), Space(5, (SECOND,), is_owned=False), SANDBOX), None)
    assert ways.namespace_ids == {POD, 5}
