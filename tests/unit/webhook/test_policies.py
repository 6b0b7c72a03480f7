"""The store of policies, and a folder as their source."""

from pathlib import Path

import pytest

from contract.names import Source
from webhook.errors import WebhookError
from webhook.folder import PolicyFolder
from webhook.policies import PolicyStore

RELEASE = "podpace-system"


def egress_max(store: PolicyStore, namespace: str) -> int | None:
    """What holds there."""
    bound = store.effective(namespace).egress.max
    return bound.bits_per_second if bound else None


def test_the_release_namespaces_policy_is_the_clusters() -> None:
    """It holds everywhere, in namespaces with and without one of their own."""
    store = PolicyStore(RELEASE)
    store.put("a", {"ingress.max": "1M"})

    store.put(RELEASE, {"egress.max": "2M"})

    assert egress_max(store, "a") == egress_max(store, "b") == 2_000_000
    assert store.effective("a").ingress.max is not None
    bound = store.effective("b").egress.max
    assert bound is not None
    assert bound.source is Source.CLUSTER


def test_a_bad_policy_leaves_the_last_good_one_in_force() -> None:
    """And the next good one ends that."""
    store = PolicyStore(RELEASE)
    store.put("a", {"egress.max": "1M"})

    assert store.put("a", {"egress.max": "a lot"})

    assert egress_max(store, "a") == 1_000_000
    assert set(store.bad) == {"a"}
    assert store.put("a", {"egress.max": "3M"}) == ()
    assert egress_max(store, "a") == 3_000_000
    assert store.bad == {}


def test_a_bad_policy_with_no_good_one_before_holds_as_far_as_it_can_be_read() -> None:
    """No limit is lifted by a mistake beside it."""
    store = PolicyStore(RELEASE)

    store.put("a", {"egress.max": "1M", "ingress.max": "x"})

    assert egress_max(store, "a") == 1_000_000


def test_a_removed_policy_is_forgotten() -> None:
    """The cluster's again."""
    store = PolicyStore(RELEASE)
    store.put("a", {"egress.max": "1M"})

    store.remove("a")
    store.remove("never-there")

    assert egress_max(store, "a") is None


def test_a_new_list_is_all_there_is() -> None:
    """Policies that went away while nobody watched are gone."""
    store = PolicyStore(RELEASE)
    store.put("a", {"egress.max": "1M"})
    assert not store.synced

    bad = store.replace({"b": {"egress.max": "2M"}, "c": {"egress.max": "x"}})

    assert (egress_max(store, "a"), egress_max(store, "b")) == (None, 2_000_000)
    assert set(bad) == {"c"}
    assert store.synced


def _write(folder: Path, value: str) -> None:
    (folder / "p.yaml").write_text(
        f"kind: ConfigMap\nmetadata: {{name: podpace-policy, namespace: a}}\n"
        f"data: {{egress.max: {value}}}\n"
    )


def test_a_folder_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Also when a policy goes."""
    store = PolicyStore(RELEASE)
    folder = PolicyFolder(tmp_path, store, "default")
    _write(tmp_path, "1M")
    folder.step()
    assert egress_max(store, "a") == 1_000_000

    _write(tmp_path, "200M")
    folder.step()
    assert egress_max(store, "a") == 200_000_000
    (tmp_path / "p.yaml").unlink()
    folder.step()
    assert egress_max(store, "a") is None


def test_a_folder_with_an_unreadable_file_leaves_the_policies_as_they_were(tmp_path: Path) -> None:
    """The message says which file."""
    store = PolicyStore(RELEASE)
    folder = PolicyFolder(tmp_path, store, "default")
    _write(tmp_path, "1M")
    folder.step()
    (tmp_path / "q.yaml").write_text("a: [")

    with pytest.raises(WebhookError, match=r"q\.yaml"):
        folder.step()

    assert egress_max(store, "a") == 1_000_000


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """An empty policy would lift every limit."""
    folder = PolicyFolder(tmp_path / "none", PolicyStore(RELEASE), "default")

    with pytest.raises(WebhookError, match="--policy-dir"):
        folder.step()
