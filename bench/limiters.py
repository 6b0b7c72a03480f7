"""The limiters that Podpace is compared with, each put on a rig as its users put it on a pod."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from bench.rig import Place, Rig, RigError, running, shielded, uncounted
from bench.rig.process import sh
from bench.rig.topology import PEER_PORT, POD_ADDRESS, POD_PORT, count_frames
from contract.names import Direction

CNI_PLUGIN = Path("/usr/lib/cni/bandwidth")
# containerd passes math.MaxUint32 when a pod asks for no burst (internal/cri/server).
CNI_BURST_BITS = 2**32 - 1
_TBF_LATENCY = "25ms"

Change = Callable[[int], None]
"""Sets another limit, in bits per second, while traffic flows."""


class Limiter(Protocol):
    """Something that holds one direction of a rig's pod to a rate."""

    @property
    def name(self) -> str:
        """As it is called in tables."""
        ...

    def applied(
        self, rig: Rig, direction: Direction, bits_per_sec: int
    ) -> AbstractContextManager[Change]:
        """Limits for as long as the block runs. Raises RigError."""
        ...


class Unlimited:
    """Nothing at all: what the machine can do."""

    name = "no limit"

    @contextmanager
    def applied(self, _rig: Rig, _direction: Direction, _bits_per_sec: int) -> Iterator[Change]:
        """Does nothing."""
        yield lambda _bits_per_sec: None


def _root_port(direction: Direction) -> str:
    return PEER_PORT if direction is Direction.EGRESS else POD_PORT


class Tbf:
    """TBF as an administrator would set it: 2 ms of burst, 25 ms of queue."""

    name = "TBF, 2 ms burst"

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, bits_per_sec: int) -> Iterator[Change]:
        """On the host's side of the way to the pod (ingress) or from it (egress)."""
        port = _root_port(direction)

        def put(verb: str, bits: int) -> None:
            # TBF cannot pass a GSO packet's segment larger than its bucket.
            burst_bytes = max(bits // 4000, 32768)
            rig.node.run(
                *("tc", "qdisc", verb, "dev", port, "root", "handle", "7b:", "tbf"),
                *("rate", f"{bits}bit", "burst", str(burst_bytes), "latency", _TBF_LATENCY),
            )

        put("replace", bits_per_sec)
        try:
            yield lambda bits: put("change", bits)
        finally:
            with shielded():
                count_frames(rig.node, port)


class CniBandwidth:
    """The CNI bandwidth plugin, called as containerd calls it, with the burst it gives."""

    name = "CNI bandwidth plugin"

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, bits_per_sec: int) -> Iterator[Change]:
        """ADD, and DEL at the end. A pod's limit cannot be changed while it runs."""
        if not CNI_PLUGIN.exists():
            raise RigError(f"{CNI_PLUGIN} is missing: apt-get install containernetworking-plugins")
        # The plugin adds its qdisc where ours counts frames.
        with uncounted(rig.node, POD_PORT):
            try:
                self._call("ADD", rig, direction, bits_per_sec)
                try:
                    yield self._unchangeable
                finally:
                    with shielded():
                        self._call("DEL", rig, direction, bits_per_sec)
            finally:
                # DEL leaves the ingress qdisc to whoever removes the veth.
                with shielded(), suppress(RigError):
                    rig.node.run("tc", "qdisc", "del", "dev", POD_PORT, "ingress")

    @staticmethod
    def _unchangeable(_bits_per_sec: int) -> None:
        raise RigError("the CNI bandwidth plugin cannot change the limit of a running pod")

    @staticmethod
    def _call(verb: str, rig: Rig, direction: Direction, bits_per_sec: int) -> None:
        namespace = f"/run/netns/{rig.pod.namespace}"
        which = str(direction)
        previous = {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": POD_PORT, "mac": _mac(rig.node, POD_PORT)},
                {"name": "eth0", "mac": _mac(rig.pod, "eth0"), "sandbox": namespace},
            ],
            "ips": [{"address": f"{POD_ADDRESS[4]}/24", "interface": 1}],
        }
        bandwidth = {f"{which}Rate": bits_per_sec, f"{which}Burst": CNI_BURST_BITS}
        config = {
            "cniVersion": "1.0.0",
            "name": "podpace-bench",
            "type": "bandwidth",
            "capabilities": {"bandwidth": True},
            "runtimeConfig": {"bandwidth": bandwidth},
            "prevResult": previous,
        }
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": rig.name,
            "CNI_NETNS": namespace,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(CNI_PLUGIN.parent),
        }
        assignments = [f"{k}={v}" for k, v in environment.items()]
        sh(*rig.node.command("env", *assignments, CNI_PLUGIN), stdin=json.dumps(config))


def _mac(place: Place, interface: str) -> str:
    said = json.loads(place.run("ip", "-j", "link", "show", "dev", interface))
    return str(said[0]["address"])


class Policer:
    """A plain token bucket that drops, in cgroup_skb: the obvious design."""

    name = "dropping bucket"

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, bits_per_sec: int) -> Iterator[Change]:
        """On the pod's cgroup."""
        program = Path(__file__).with_name("policer.py")
        argv = [sys.executable, program, rig.cgroup, direction, bits_per_sec // 8]
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        with running(list(map(str, argv)), **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline() != "ready\n":
                raise RigError(f"the dropping bucket did not start: {process.stderr.read()}")

            def change(bits: int) -> None:
                assert process.stdin is not None
                process.stdin.write(f"{bits // 8}\n")
                process.stdin.flush()

            try:
                yield change
            finally:
                with shielded():
                    process.stdin.close()
                    process.wait()


class EmptyProgram(Policer):
    """A program in cgroup_skb that does nothing: what the kernel needs to run and to time one."""

    name = "empty program"

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, _bits_per_sec: int) -> Iterator[Change]:
        """On the pod's cgroup."""
        with super().applied(rig, direction, 0):
            yield lambda _bits_per_sec: None


class PlainEdt:
    """Departure times alone, on the pod's host-side veth, in front of fq."""

    name = "plain EDT and fq"

    @contextmanager
    def applied(self, rig: Rig, direction: Direction, bits_per_sec: int) -> Iterator[Change]:
        """Where TBF would be. Raises RigError where the kernel has no fq."""
        port = _root_port(direction)
        program = Path(__file__).with_name("edt.py")
        pin = rig.bpffs / "edt"
        rig.node.run(
            *("tc", "qdisc", "replace", "dev", port, "root", "handle", "ed:", "fq"),
            # More than two seconds of the rate, so that it is the horizon that drops.
            *("limit", "1000000", "flow_limit", "1000000"),
        )
        try:
            # Not from /sys, which shows the namespace that it was mounted in.
            said = json.loads(rig.node.run("ip", "-j", "link", "show", "dev", port))
            index = str(said[0]["ifindex"])
            argv = [sys.executable, str(program), str(pin), str(bits_per_sec // 8), index]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with running(argv, **pipes) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    raise RigError("plain EDT did not start: see above")
                rig.node.run("tc", "qdisc", "add", "dev", port, "clsact")
                where = ("dev", port, "egress", "bpf", "direct-action", "object-pinned", pin)
                rig.node.run("tc", "filter", "add", *where)

                def change(bits: int) -> None:
                    assert process.stdin is not None
                    process.stdin.write(f"{bits // 8}\n")
                    process.stdin.flush()

                yield change
        finally:
            with shielded():
                pin.unlink(missing_ok=True)
                with suppress(RigError):
                    rig.node.run("tc", "qdisc", "del", "dev", port, "clsact")
                count_frames(rig.node, port)
