"""What kubectl's flags put in place of what a kubeconfig says."""

from pathlib import Path

import pytest
import yaml

from kube.errors import NoClusterError
from kube.kubeconfig import Changes, read

CONFIG = {
    "current-context": "one",
    "clusters": [
        {"name": "one", "cluster": {"server": "http://one"}},
        {"name": "two", "cluster": {"server": "http://two", "proxy-url": "http://proxy"}},
    ],
    "users": [
        {"name": "jane", "user": {"token": "jane's", "as-groups": ["a", "b"]}},
        {"name": "ops", "user": {"exec": {"command": "/never/run"}}},
    ],
    "contexts": [
        {"name": "one", "context": {"cluster": "one", "user": "jane", "namespace": "shop"}}
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """With two clusters and two users."""
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def test_groups_of_a_kubeconfig_are_impersonated(file: Path) -> None:
    """Each is a header of its own."""
    assert read((file,), None).impersonate_groups == ("a", "b")


def test_a_flag_wins_over_the_context(file: Path) -> None:
    """Another cluster, another user, who we are to be taken for."""
    changes = Changes(
        cluster="two", token="mine", impersonate_user="joe", impersonate_groups=("c",)
    )
    found = read((file,), None, changes=changes)

    assert (found.server, found.proxy, found.namespace) == ("http://two", "http://proxy", "shop")
    assert found.headers() == {"Authorization": "Bearer mine", "Impersonate-User": "joe"}
    assert found.impersonate_groups == ("c",)


def test_who_gives_a_token_needs_no_exec_plugin(file: Path) -> None:
    """The plugin is not even started."""
    found = read((file,), None, changes=Changes(user="ops", token="mine"))

    assert found.headers() == {"Authorization": "Bearer mine"}


def test_a_server_needs_no_kubeconfig(tmp_path: Path) -> None:
    """`--server` and `--token` are all there is in a pipeline."""
    changes = Changes(server="http://there:8080/", token="t")
    found = read((tmp_path / "none",), None, may_be_missing=True, changes=changes)

    assert (found.server, found.namespace) == ("http://there:8080", "default")


@pytest.mark.parametrize("changes", [Changes(cluster="three"), Changes(user="nobody")])
def test_a_name_that_is_not_there_is_told_with_those_that_are(file: Path, changes: Changes) -> None:
    """A typing mistake must not lead to the context's cluster."""
    with pytest.raises(NoClusterError, match="it has: "):
        read((file,), None, changes=changes)
