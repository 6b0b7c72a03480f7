"""One control plane and one installation for all cluster tests."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cluster.build import bin_dir, unbuildable
from tests.cluster.client import Client
from tests.cluster.guard import NODE, OTHER_NODE, write
from tests.cluster.helpers import EGRESS, PODS, until
from tests.cluster.install import RELEASE_NAMESPACE, USERS, Installation, pod
from tests.cluster.nodes.identity import bound_token, client_with, enforcer_pod
from tests.cluster.plane import ControlPlane
from tests.needs import missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who shares nodes, or else a file, shares a control plane when two halves run at once."""
    for item in items:
        folder = item.path.parent
        item.add_marker(pytest.mark.xdist_group(folder.name if folder != _HERE else item.path.name))


_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane; where it cannot be had, skips, or fails when CI=true."""
    if why := unbuildable():
        missing(why)
    bin_dir()
    started = ControlPlane(Path(tmp_path_factory.mktemp("plane")), USERS)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def installation(plane: ControlPlane) -> Iterator[Installation]:
    """The webhook installed, with one replica that the API server calls."""
    installed = Installation(plane)
    try:
        installed.apply()
        installed.add_replica("--audit-seconds=0", "--drain-seconds=1")
        installed.wait_called()
        yield installed
    finally:
        installed.stop()


_names = iter(range(10**6))


@pytest.fixture
def admin(installation: Installation) -> Client:
    """An administrator."""
    return installation.admin


@pytest.fixture
def namespace(installation: Installation) -> Iterator[str]:
    """A namespace of its own; its policy goes with it."""
    name = f"live-{next(_names)}"
    installation.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    installation.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def limited(admin: Client) -> Iterator[str]:
    """The path of a pod with 10 Mbit/s of egress."""
    made = admin.create(PODS, pod({EGRESS: "10M"}))
    path = f"{PODS}/{made['metadata']['name']}"
    yield path
    admin.delete(path)


@pytest.fixture
def booking(installation: Installation, namespace: str) -> Iterator[str]:
    """A namespace whose policy books; its pods leave at once, as no kubelet would let them go."""
    installation.set_policy(namespace, {"schedule": "true"})
    yield namespace
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for found in installation.admin.get(pods)["items"]:
        installation.admin.delete(f"{pods}/{found['metadata']['name']}")


@pytest.fixture(scope="module")
def agent(installation: Installation) -> Iterator[Client]:
    """The enforcer of node-1, with a token like those that are mounted; the guard is in force."""
    admin = installation.admin
    pods = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"
    nodes = [
        admin.create("/api/v1/nodes", {"metadata": {"name": name}}) for name in (NODE, OTHER_NODE)
    ]
    own_pod = admin.create(pods, enforcer_pod(NODE))
    with client_with(installation.plane, bound_token(admin, own_pod)) as client:
        probe = admin.create("/api/v1/namespaces/default/pods", pod(name="probe", nodeName=NODE))
        path = f"/api/v1/namespaces/default/pods/{probe['metadata']['name']}"
        # The API server takes a moment to compile a new policy; the same again is no change.
        tries = count()
        until(lambda: write(client, path, message=f"{next(tries)}"), lambda r: not r.is_success)
        yield client
        admin.delete(path)
    admin.delete(f"{pods}/{own_pod['metadata']['name']}")
    for node in nodes:
        admin.delete(f"/api/v1/nodes/{node['metadata']['name']}")
