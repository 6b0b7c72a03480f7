"""Pods come and go by the thousand on one node: nothing is left, and memory stays flat."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from enforcer.datapath import libbpf
from tests.cluster.helpers import EGRESS, until
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import on, wait_enforced

MANY = 500
PER_SECOND = 20
ALIVE = 40
"""At most so many at a time."""


def _open_files(enforcer: Enforcer) -> int:
    return len(list(Path(f"/proc/{enforcer.pid}/fd").iterdir()))


def _left(enforcer: Enforcer) -> dict[str, int]:
    """What pods could leave on a node."""
    return {
        "targets": len(enforcer.targets()),
        "state files": len(list((enforcer.work / "targets").iterdir())),
        "records": sum(map(_records, enforcer.pin_root.rglob("target_*"))),
        "shaper records": sum(map(_records, enforcer.pin_root.rglob("shapers"))),
        "links": enforcer.node.network.place.run("ip", "-br", "link").count("\n"),
    }


def _records(pinned_map: Path) -> int:
    """By cgroup id, which is a u64."""
    with libbpf.pinned(str(pinned_map)) as fd:
        return sum(1 for _ in libbpf.map_keys(fd, 8))


@pytest.mark.long
def test_five_hundred_pods_on_one_node(
    installation: Installation, enforcers: list[Enforcer], namespace: str
) -> None:
    """More than any kubelet takes: all in force, at little cost."""
    enforcer, path = enforcers[0], f"/api/v1/namespaces/{namespace}/pods"
    both = {EGRESS: "10M", "podpace.io/ingress-bandwidth": "10M"}

    def create(n: int) -> None:
        installation.admin.create(path, on(enforcer.node, pod(both, name=f"m{n}")))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(MANY)))
    enforcer.node.wait_pods(MANY + 1, 600)  # its own is the one
    wait_enforced(installation.admin, namespace, MANY, 600)

    cpu, begin = enforcer.cpu_seconds(), time.monotonic()
    time.sleep(30)
    used = (enforcer.cpu_seconds() - cpu) / (time.monotonic() - begin)
    print(f"{MANY} pods: {enforcer.rss_bytes() / 1e6:.0f} MB, {used:.2%} of a core when idle")
    assert len(enforcer.targets()) == MANY
    assert enforcer.rss_bytes() < 90e6


@pytest.mark.parametrize(
    ("pods", "host_network"),
    [
        (100, False),
        # Network namespaces by the thousand take this machine's kernel more time than ours.
        pytest.param(5000, True, marks=pytest.mark.long),
        pytest.param(5000, False, marks=pytest.mark.long),
    ],
)
def test_pods_that_come_and_go_leave_nothing(
    installation: Installation,
    enforcers: list[Enforcer],
    namespace: str,
    pods: int,
    host_network: bool,
) -> None:
    """Created and deleted as fast as a busy node's scheduler and kubelet would."""
    enforcer, admin = enforcers[2], installation.admin
    path = f"/api/v1/namespaces/{namespace}/pods"
    until(enforcer.targets, lambda found: not found, 120)
    before = _left(enforcer)
    samples: list[tuple[int, float, int]] = []
    under_way: list[Future[None]] = []
    begin = time.monotonic()

    def create(n: int) -> None:
        both = {EGRESS: "10M", "podpace.io/ingress-bandwidth": "10M"}
        body = pod(both, name=f"c{n}", hostNetwork=host_network)
        admin.create(path, on(enforcer.node, body))

    def delete(n: int) -> None:
        enforcer.node.sandbox(namespace, f"c{n}")
        gone = admin.http.request("DELETE", f"{path}/c{n}", json={"gracePeriodSeconds": 1})
        assert gone.is_success, gone.text

    with ThreadPoolExecutor(8) as pool:
        for n in range(pods + ALIVE):
            time.sleep(max(0.0, begin + n / PER_SECOND - time.monotonic()))
            # A machine that is too slow takes longer: it must not gather pods instead.
            enforcer.node.wait_fewer(2 * ALIVE, 300)
            work = [pool.submit(create, n)] if n < pods else []
            work += [pool.submit(delete, n - ALIVE)] if n >= ALIVE else []
            under_way = [w for w in [*under_way, *work] if not w.done() or w.result() is not None]
            if n % (pods // 10) == pods // 10 - 1:
                samples.append((n + 1, enforcer.rss_bytes() / 1e6, _open_files(enforcer)))
                print(f"{n + 1} pods: {samples[-1][1]:.1f} MB, {samples[-1][2]} open files")
    rate = pods / (time.monotonic() - begin)
    enforcer.node.wait_pods(1, 300)
    until(enforcer.targets, lambda found: not found, 120)
    attached = sum(f":{namespace}/" in target for target in enforcer.said_at("attached"))
    after = _left(enforcer)

    print(f"{pods} pods at {rate:.1f}/s, {attached} limited; left: {after}")
    assert after == before
    assert attached == pods
    grown = samples[-1][1] - samples[len(samples) // 2][1]
    assert grown < 3, samples
    assert samples[-1][2] <= samples[0][2] + 5
