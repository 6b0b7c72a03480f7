"""Requests that come at once, half, or for another cgroup of the same name, to a real daemon."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from enforcer.datapath import exempt, libbpf
from tests.kernel.nodes import HOOKS, Node
from tests.processes import HANGS_SECONDS

pytestmark = pytest.mark.slow_emulated
BODY = json.dumps({"egress": "10M", "exempt_cidrs": ["10.1.0.0/16"]}).encode()


def url_of(group: Path) -> str:
    """Where the control socket keeps a cgroup's limits."""
    return f"http://enforcer/targets/{str(group).replace('/', '%2F')}"


def client_of(node: Node) -> httpx.Client:
    """A client with a connection of its own."""
    transport = httpx.HTTPTransport(uds=str(node.rig.work / "enforcer.sock"))
    return httpx.Client(transport=transport, timeout=HANGS_SECONDS)


def limited(node: Node) -> list[str]:
    """The cgroups that the daemon says are limited."""
    said = json.loads(node.client("list", "-o", "json"))
    return [Path(target["cgroup_path"]).name for target in said["targets"]]


def exempt_networks(node: Node) -> list[str]:
    """What is kept, each list once."""
    with libbpf.pinned(str(node.generations[0] / "exempt_networks")) as map_fd:
        keys = list(libbpf.map_keys(map_fd, exempt.KEY_BYTES))
    return sorted(exempt.cidr_of(key) for key in keys)


@pytest.fixture
def group(node: Node) -> Path:
    """A cgroup below the rig's, which takes it away."""
    path = node.rig.cgroup / "one"
    path.mkdir()
    return path


def test_clients_that_come_at_once_leave_what_the_last_one_asked(node: Node, group: Path) -> None:
    """Four clients switch one target on and off: every request is answered, nothing half is left.

    Whoever was last, there are all programs and a listed target, or neither.
    """

    def switch(rounds: int) -> list[int]:
        with client_of(node) as http:
            return [
                answer.status_code
                for _ in range(rounds)
                for answer in (
                    http.put(url_of(group), content=BODY),
                    http.delete(url_of(group)),
                )
            ]

    with node.daemon(), ThreadPoolExecutor(4) as clients:
        codes = [code for codes in clients.map(switch, [25] * 4) for code in codes]

        assert set(codes) <= {200, 204, 404}
        assert codes.count(200) == 100
        assert limited(node) == []
        assert node.programs(group) == []

        with client_of(node) as http:
            assert http.put(url_of(group), content=BODY).status_code == 200
        assert limited(node) == ["one"]
        assert len(node.programs(group)) == len(HOOKS)


def half_request(path: str) -> bytes:
    """The head of a request and half of its body."""
    head = f"PUT {path} HTTP/1.1\r\nHost: enforcer\r\nContent-Length: {len(BODY)}\r\n\r\n"
    return head.encode() + BODY[: len(BODY) // 2]


@pytest.mark.parametrize("cut", ["in the head", "in the body", "before the answer"])
def test_a_client_that_hangs_up_leaves_all_or_nothing(node: Node, group: Path, cut: str) -> None:
    """Half a request changes nothing, a whole one is carried out; no descriptor stays open."""
    path = url_of(group).removeprefix("http://enforcer")
    half = half_request(path)
    sent = {
        "in the head": half[:30],
        "in the body": half,
        "before the answer": half + BODY[len(BODY) // 2 :],
    }[cut]
    whole = cut == "before the answer"
    with node.daemon() as daemon, client_of(node) as http:
        http.get("http://enforcer/healthz")
        process = psutil.Process(daemon.pid)
        before = process.num_fds()
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(node.rig.work / "enforcer.sock"))
                client.sendall(sent)
        wait_until(lambda: limited(node) == ["one"] * whole)
        # One less where it has closed our own idle connection meanwhile.
        wait_until(lambda: process.num_fds() <= before)

        assert len(node.programs(group)) == len(HOOKS) * whole
        assert limited(node) == ["one"] * whole
        assert http.put(url_of(group), content=BODY).status_code == 200
        assert len(node.programs(group)) == len(HOOKS)


def test_a_cgroup_made_anew_is_another_one(node: Node, group: Path) -> None:
    """It is not limited until asked, counts from zero, and nothing is kept of the one before."""
    with node.daemon(), client_of(node) as http:
        assert http.put(url_of(group), content=BODY).status_code == 200
        first = group.stat().st_ino
        assert exempt_networks(node) == ["10.1.0.0/16"]
        group.rmdir()
        group.mkdir()
        second = group.stat().st_ino
        assert second != first

        assert limited(node) == []
        assert http.get(url_of(group)).status_code == 404
        assert http.put(url_of(group), content=BODY).status_code == 200
        assert len(node.programs(group)) == len(HOOKS)
        assert limited(node) == ["one"]
        assert http.get(url_of(group)).json()["egress"]["passed_bytes"] == 0
        assert exempt_networks(node) == ["10.1.0.0/16"]


def test_a_list_of_exempt_networks_is_kept_once(node: Node, group: Path) -> None:
    """However many use it, until the last has gone; a change of one is none of the others."""
    other = group.with_name("two")
    other.mkdir()
    with node.daemon(), client_of(node) as http:
        for place in (group, other):
            assert http.put(url_of(place), content=BODY).status_code == 200
        assert exempt_networks(node) == ["10.1.0.0/16"]
        changed = json.dumps({"egress": "10M", "exempt_cidrs": ["fd00::/8", "10.1.0.0/16"]})
        assert http.put(url_of(other), content=changed.encode()).status_code == 200
        assert exempt_networks(node) == ["10.1.0.0/16", "10.1.0.0/16", "fd00::/8"]
        assert http.delete(url_of(group)).status_code == 204
        assert exempt_networks(node) == ["10.1.0.0/16", "fd00::/8"]
    with node.daemon(), client_of(node) as http:
        assert http.get(url_of(other)).json()["exempt_cidrs"] == ["10.1.0.0/16", "fd00::/8"]
        assert http.delete(url_of(other)).status_code == 204
        assert exempt_networks(node) == []


def wait_until(holds: object, seconds: float = 30) -> None:
    """Until it does; fails when it never does."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
