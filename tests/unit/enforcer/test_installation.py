"""An enforcer that is told to go for good cleans up, one that is replaced does not."""

from collections.abc import Callable

import pytest

from enforcer.kube.installation import Installation
from enforcer.logs import make_log
from kube.errors import ApiError
from tests.unit.webhook.fake_api import FakeApi

NAMESPACE = "/api/v1/namespaces/podpace-system"
OBJECT = f"{NAMESPACE}/configmaps/podpace-enforcer"
HERE = {"metadata": {"name": "podpace-enforcer"}}
LEAVING = {"metadata": {"name": "podpace-enforcer", "deletionTimestamp": "2026-01-01T00:00:00Z"}}


class Cluster(FakeApi):
    """With the installation in it."""

    def __init__(self) -> None:
        super().__init__()
        self.put(NAMESPACE, {"metadata": {"name": "podpace-system"}})
        self.put(OBJECT, HERE)


def nothing(_cluster: Cluster, _installation: Installation) -> None:
    """A rolling update, a drained node, a restart."""


def deleted_with_rights(cluster: Cluster, installation: Installation) -> None:
    """`kubectl delete -f`: the watch has told, nothing can be asked any more."""
    installation.remove(HERE)
    cluster.fail = ApiError("Unauthorized", 401)


def deleted_while_a_watch_is_away(cluster: Cluster, _installation: Installation) -> None:
    """The account is still there."""
    del cluster.objects[OBJECT]


def namespace_deleted(cluster: Cluster, _installation: Installation) -> None:
    """Its pods go first, everything else is still there."""
    cluster.objects[NAMESPACE]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def being_deleted(cluster: Cluster, installation: Installation) -> None:
    """In the foreground, as Argo CD deletes."""
    cluster.objects[OBJECT] = LEAVING
    installation.put(LEAVING)


def api_server_away(cluster: Cluster, _installation: Installation) -> None:
    """Nothing is known: limits stay."""
    cluster.fail = ApiError("connection refused")


def rights_taken(cluster: Cluster, _installation: Installation) -> None:
    """Somebody has changed roles: limits stay."""
    cluster.fail = ApiError("Forbidden", 403)


def replaced_by_force(cluster: Cluster, installation: Installation) -> None:
    """`kubectl replace --force` deletes and makes anew."""
    installation.remove(HERE)
    installation.put(HERE)
    cluster.fail = ApiError("connection refused")


WHAT: list[tuple[Callable[[Cluster, Installation], None], bool]] = [
    (nothing, False),
    (deleted_with_rights, True),
    (deleted_while_a_watch_is_away, True),
    (namespace_deleted, True),
    (being_deleted, True),
    (api_server_away, False),
    (rights_taken, False),
    (replaced_by_force, False),
]


@pytest.mark.parametrize(("happens", "removed"), WHAT, ids=[w.__name__ for w, _ in WHAT])
def test_only_what_was_seen_to_be_deleted_is_removed(
    happens: Callable[[Cluster, Installation], None], removed: bool
) -> None:
    """Each way to end a daemon."""
    cluster = Cluster()
    installation = Installation(cluster, "podpace-system", "podpace-enforcer", make_log("error"))
    installation.replace([HERE])

    happens(cluster, installation)

    assert installation.removed(wait_seconds=0) is removed


def test_what_was_never_there_was_not_deleted() -> None:
    """A chart of before, or a misspelt name."""
    cluster = Cluster()
    del cluster.objects[OBJECT]
    installation = Installation(cluster, "podpace-system", "podpace-enforcer", make_log("error"))
    installation.replace([])

    assert not installation.removed(wait_seconds=0)


def test_a_list_without_it_says_that_it_was_deleted() -> None:
    """While the watch was away."""
    cluster = Cluster()
    installation = Installation(cluster, "podpace-system", "podpace-enforcer", make_log("error"))
    installation.replace([HERE])
    installation.replace([])
    cluster.fail = ApiError("Unauthorized", 401)

    assert installation.removed(wait_seconds=0)
