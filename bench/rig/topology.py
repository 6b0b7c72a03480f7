"""The rig itself: ``pod`` and ``peer``, a bridge between them, a cgroup for the pod's processes.

      pod namespace           node namespace              peer namespace
    eth0 10.9.0.2 ───── vpod ─── bridge ─── vpeer ───── eth0 10.9.0.3
         fd00:9::2                                            fd00:9::3

The bridge lives in a namespace of its own, so that no firewall of the host sees the traffic and the
host keeps no interface of ours. All names begin with ``podpace-`` and a random part.
"""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import POLLERR, POLLPRI, poll

from bench.rig.process import Place, RigError, sh, shielded, terminating
from contract.names import Direction

POD_ADDRESS = {4: "10.9.0.2", 6: "fd00:9::2"}
PEER_ADDRESS = {4: "10.9.0.3", 6: "fd00:9::3"}
POD_PORT = "vpod"
"""The pod's host-side veth, in the node namespace: where a shaper for ingress sits."""
PEER_PORT = "vpeer"
_POD_MAC = "02:00:0a:09:00:02"
_PEER_MAC = "02:00:0a:09:00:03"
STANDARD_MTU = 1500
_PREFIX = "podpace-"
_TCP_ECN = "/proc/sys/net/ipv4/tcp_ecn"
_CGROUP_EMPTY_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Rig:
    """Names and places of one rig."""

    name: str
    pod: Place
    """Processes that are limited."""
    peer: Place
    """The other end, in a cgroup of its own."""
    node: Place
    """The namespace of the host-side veths and the bridge; no cgroup."""
    bpffs: Path
    """A private bpf file system; everything pinned there goes with the rig."""
    work: Path
    """A temporary directory."""

    @property
    def cgroup(self) -> Path:
        """The pod's cgroup: what a limit is attached to."""
        assert self.pod.cgroup is not None
        return self.pod.cgroup

    def ends(self, direction: Direction) -> tuple[Place, Place]:
        """(sender, receiver), seen from the pod."""
        return (self.pod, self.peer) if direction is Direction.EGRESS else (self.peer, self.pod)

    def address(self, place: Place, family: int) -> str:
        """The address of an end; ``family`` is 4 or 6."""
        return (POD_ADDRESS if place is self.pod else PEER_ADDRESS)[family]


def cgroup2_mount() -> Path:
    """Where cgroup v2 is mounted; RigError when it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    raise RigError("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup")


def leftovers(name: str = _PREFIX) -> list[str]:
    """Namespaces, cgroups and mounts of one rig, or of all. Empty when every rig has ended."""
    found = [str(p) for p in Path("/run/netns").glob(f"{name}*")]
    found += [str(p) for p in cgroup2_mount().glob(f"{name}*")]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return found + [m.split()[1] for m in mounts if f"/{name}" in m and " bpf " in m]


@contextmanager
def private_bpffs(directory: Path) -> Iterator[Path]:
    """A bpf file system of our own, mounted below ``directory``; its pins go when it does."""
    path = directory / "bpffs"
    path.mkdir()
    sh("mount", "-t", "bpf", "bpf", path)
    try:
        yield path
    finally:
        with shielded():
            sh("umount", "--lazy", path)
            path.rmdir()


@contextmanager
def own_cgroup(path: Path) -> Iterator[Path]:
    """A cgroup whose processes, and whose children, are gone when the block ends."""
    path.mkdir()
    try:
        yield path
    finally:
        with shielded():
            _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    for child in path.iterdir():
        if child.is_dir():
            _remove_cgroup(child)
    (path / "cgroup.kill").write_text("1")
    with (path / "cgroup.events").open() as events:
        changed = poll()
        changed.register(events, POLLPRI | POLLERR)
        while "populated 1" in events.read():
            if not changed.poll(_CGROUP_EMPTY_TIMEOUT_SECONDS * 1000):
                raise RigError(f"processes in {path} cannot be killed: see its cgroup.procs")
            events.seek(0)
    path.rmdir()


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace for as long as the block runs."""
    try:
        sh("ip", "netns", "add", name)
        yield name
    finally:
        with shielded(), suppress(RigError):
            sh("ip", "netns", "del", name)


def _wire(node: str, pod: str, peer: str) -> None:
    """Links, addresses and neighbours.

    Neighbours are permanent and metrics are not saved, so that no cell inherits from the one
    before it; a ``pfifo`` on the peer's port counts frames (see counters.FrameCounter).
    """
    commands = ["link add name hub type bridge mcast_snooping 0", "link set hub up"]
    for end, port in ((pod, POD_PORT), (peer, PEER_PORT)):
        commands += [
            f"link add name {port} type veth peer name eth0 netns {end}",
            f"link set {port} master hub up",
        ]
    run_batch(node, commands)
    for end, own, own_mac, other, other_mac in (
        (pod, POD_ADDRESS, _POD_MAC, PEER_ADDRESS, _PEER_MAC),
        (peer, PEER_ADDRESS, _PEER_MAC, POD_ADDRESS, _POD_MAC),
    ):
        commands = ["link set lo up", f"link set eth0 address {own_mac} up"]
        for family, prefix, options in ((4, 24, ""), (6, 64, "nodad")):
            commands += [
                f"addr add {own[family]}/{prefix} dev eth0 {options}",
                f"neigh replace {other[family]} lladdr {other_mac} dev eth0 nud permanent",
            ]
        run_batch(end, commands)
        settings = {
            "ipv4/tcp_no_metrics_save": "1",
            # A thousand short connections a second must not run out of ports.
            "ipv4/ip_local_port_range": "10000 65000",
            "ipv4/tcp_tw_reuse": "1",
        }
        write = "; ".join(f"echo {v} >/proc/sys/net/{k}" for k, v in settings.items())
        Place(end).run("sh", "-ec", write)
    for port in (POD_PORT, PEER_PORT):
        count_frames(Place(node), port)


def count_frames(node: Place, port: str) -> None:
    """Puts the counting qdisc back on a port after a limiter had its place."""
    node.run("tc", "qdisc", "replace", "dev", port, "root", "handle", "fc:", "pfifo")


@contextmanager
def uncounted(node: Place, port: str) -> Iterator[None]:
    """A port without its counting qdisc: as a pod's is, or for who wants its place."""
    if "qdisc pfifo fc:" not in node.run("tc", "qdisc", "show", "dev", port):
        yield
        return
    node.run("tc", "qdisc", "del", "dev", port, "root")
    try:
        yield
    finally:
        with shielded():
            count_frames(node, port)


@contextmanager
def path_delay(rig: Rig, rtt_ms: int) -> Iterator[None]:
    """A longer path, by netem behind the peer's interface; nothing where it is 0.

    Raises RigError where the kernel has no netem.
    """
    if not rtt_ms:
        yield
        return
    set_path_delay(rig, rtt_ms)
    try:
        yield
    finally:
        with shielded():
            rig.peer.run("tc", "qdisc", "del", "dev", "eth0", "root")


def set_path_delay(rig: Rig, rtt_ms: int) -> None:
    """Changes the path inside :func:`path_delay`; what is under way already keeps its time."""
    rig.peer.run(
        *("tc", "qdisc", "replace", "dev", "eth0", "root"),
        *("netem", "delay", f"{rtt_ms}ms", "limit", "100000"),
    )


@contextmanager
def path_mtu(rig: Rig, mtu_bytes: int) -> Iterator[None]:
    """Links with another MTU, end to end; nothing where it is the rig's own."""
    if mtu_bytes == STANDARD_MTU:
        yield
        return

    def set_all(value: int) -> None:
        for place, links in (
            (rig.node, (POD_PORT, PEER_PORT, "hub")),
            (rig.pod, ("eth0",)),
            (rig.peer, ("eth0",)),
        ):
            for link in links:
                place.run("ip", "link", "set", link, "mtu", str(value))

    try:
        set_all(mtu_bytes)
        yield
    finally:
        with shielded():
            set_all(STANDARD_MTU)


@contextmanager
def negotiating_ecn(rig: Rig, wanted: bool) -> Iterator[None]:
    """Both ends ask for explicit congestion notification when they connect; nothing if not wanted.

    Only the rig's own namespaces are changed.
    """
    if not wanted:
        yield
        return
    ends = (rig.pod, rig.peer)
    before = [end.run("cat", _TCP_ECN).strip() for end in ends]
    try:
        for end in ends:
            end.run("sh", "-ec", f"echo 1 >{_TCP_ECN}")
        yield
    finally:
        with shielded():
            for end, value in zip(ends, before, strict=True):
                end.run("sh", "-ec", f"echo {value} >{_TCP_ECN}")


def run_batch(place: str, commands: list[str]) -> None:
    """Commands of ip, in the namespace of that name."""
    sh("ip", "-n", place, "-batch", "-", stdin="\n".join(commands))


@contextmanager
def rig() -> Iterator[Rig]:
    """Sets a rig up and takes everything of it away again, whatever happens in between.

    SIGTERM and SIGHUP raise KeyboardInterrupt while it is up, as Ctrl-C does.
    """
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    with ExitStack() as stack:
        stack.enter_context(terminating())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-")))
        bpffs = stack.enter_context(private_bpffs(work))
        node, pod, peer = (
            stack.enter_context(namespace(f"{name}-{part}")) for part in ("node", "pod", "peer")
        )
        # After the namespaces, so that it is emptied before they go.
        top = stack.enter_context(own_cgroup(cgroup2_mount() / name))
        for part in ("pod", "peer"):
            (top / part).mkdir()
        _wire(node, pod, peer)
        yield Rig(
            name, Place(pod, top / "pod"), Place(peer, top / "peer"), Place(node), bpffs, work
        )
