"""The store of policies, and a folder as their source."""

from pathlib import Path

import pytest

from contract.names import Source
from webhook.errors import WebhookError
from webhook.folder import PolicyFolder
from webhook.policies import PolicyKey, PolicyStore

RELEASE = "podpace-system"


def egress_max(store: PolicyStore, namespace: str) -> int | None:
    """What holds there."""
    bound = store.effective(namespace).egress.max
    return bound.bits_per_second if bound else None


def test_the_release_namespaces_policy_is_the_clusters() -> None:
    """It holds everywhere, in namespaces with and without one of their own."""
    store = PolicyStore(RELEASE, without_cluster=True)
    store.put(PolicyKey("a"), {"ingress.max": "1M"})

    store.put(PolicyKey(RELEASE), {"egress.max": "2M"})

    assert egress_max(store, "a") == egress_max(store, "b") == 2_000_000
    assert store.effective("a").ingress.max is not None
    bound = store.effective("b").egress.max
    assert bound is not None
    assert bound.source is Source.CLUSTER


def test_a_bad_policy_leaves_the_last_good_one_in_force() -> None:
    """And the next good one ends that."""
    store = PolicyStore(RELEASE, without_cluster=True)
    store.put(PolicyKey("a"), {"egress.max": "1M"})

    assert store.put(PolicyKey("a"), {"egress.max": "a lot"})

    assert egress_max(store, "a") == 1_000_000
    assert set(store.bad) == {PolicyKey("a")}
    assert store.put(PolicyKey("a"), {"egress.max": "3M"}) == ()
    assert egress_max(store, "a") == 3_000_000
    assert store.bad == {}


def test_a_bad_policy_with_no_good_one_before_holds_as_far_as_it_can_be_read() -> None:
    """No limit is lifted by a mistake beside it."""
    store = PolicyStore(RELEASE, without_cluster=True)

    store.put(PolicyKey("a"), {"egress.max": "1M", "ingress.max": "x"})

    assert egress_max(store, "a") == 1_000_000


def test_a_removed_policy_is_forgotten() -> None:
    """The cluster's again."""
    store = PolicyStore(RELEASE, without_cluster=True)
    store.put(PolicyKey("a"), {"egress.max": "1M"})

    store.remove(PolicyKey("a"))
    store.remove(PolicyKey("never-there"))

    assert egress_max(store, "a") is None


def test_a_new_list_is_all_there_is() -> None:
    """Policies that went away while nobody watched are gone."""
    store = PolicyStore(RELEASE, without_cluster=True)
    store.put(PolicyKey("a"), {"egress.max": "1M"})
    assert not store.synced

    store.replace({PolicyKey("b"): {"egress.max": "2M"}, PolicyKey("c"): {"egress.max": "x"}})

    assert (egress_max(store, "a"), egress_max(store, "b")) == (None, 2_000_000)
    assert set(store.bad) == {PolicyKey("c")}
    assert store.synced


FREE = PolicyKey(RELEASE, "free")
FREE_DATA = {"namespace-selector": "tier in (free,trial)", "egress.max": "10M"}


def clustered() -> PolicyStore:
    """A store that is told of namespaces, with a policy for all and one for free tiers."""
    store = PolicyStore(RELEASE)
    store.replace({PolicyKey(RELEASE): {"egress.max": "100M"}}, selected=False)
    store.replace({FREE: FREE_DATA}, selected=True)
    store.replace_namespaces({"shop": {"tier": "paid"}, "trial": {"tier": "trial"}})
    return store


def test_a_policy_holds_where_its_selector_selects() -> None:
    """And a namespace that gets another label has other bounds from then on."""
    store = clustered()
    assert (egress_max(store, "shop"), egress_max(store, "trial")) == (100_000_000, 10_000_000)

    store.put_namespace("shop", {"tier": "free"})
    store.put_namespace("trial", {})

    assert (egress_max(store, "shop"), egress_max(store, "trial")) == (10_000_000, 100_000_000)
    assert [layer.name for layer in store.cluster_layers("shop")] == ["free", "podpace-policy"]


def test_a_selector_that_changes_counts_at_once() -> None:
    """Nothing merged before is found after."""
    store = clustered()
    assert egress_max(store, "shop") == 100_000_000

    store.put(FREE, FREE_DATA | {"namespace-selector": "tier=paid"})

    assert (egress_max(store, "shop"), egress_max(store, "trial")) == (10_000_000, 100_000_000)
    store.remove(FREE)
    assert egress_max(store, "shop") == 100_000_000


def test_the_two_lists_of_policies_do_not_take_each_other_s_away() -> None:
    """They come from two watches."""
    store = clustered()

    store.replace({}, selected=False)
    assert egress_max(store, "trial") == 10_000_000
    store.replace({}, selected=True)
    assert egress_max(store, "trial") is None


def test_a_store_is_synced_when_all_three_lists_have_come() -> None:
    """A replica that does not know labels yet would take a tier's bounds from its pods."""
    store = PolicyStore(RELEASE)
    seen = [store.synced]
    store.replace({}, selected=False)
    seen.append(store.synced)
    store.replace({}, selected=True)
    seen.append(store.synced)
    store.replace_namespaces({})

    assert (*seen, store.synced) == (False, False, False, True)


def test_a_namespace_that_was_not_heard_of_yet_is_bounded_by_every_policy() -> None:
    """Its first pods come before the watch tells its labels. Nothing is kept of invented names."""
    store = clustered()

    assert egress_max(store, "new") == 10_000_000
    store.put_namespace("new", {"tier": "paid"})
    assert egress_max(store, "new") == 100_000_000
    store.remove_namespace("new")
    assert egress_max(store, "new") == 10_000_000


def test_policies_that_say_something_are_counted() -> None:
    """An alert is about the day when there are fewer."""
    store = clustered()
    assert store.cluster_policies == 2

    store.put(PolicyKey(RELEASE), {})

    assert store.cluster_policies == 1


def _write(folder: Path, value: str) -> None:
    (folder / "p.yaml").write_text(
        f"kind: ConfigMap\nmetadata: {{name: podpace-policy, namespace: a}}\n"
        f"data: {{egress.max: {value}}}\n"
    )


def test_a_folder_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Also when a policy goes."""
    store = PolicyStore(RELEASE, without_cluster=True)
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


def test_a_folder_may_have_namespaces_and_policies_that_select_them(tmp_path: Path) -> None:
    """As a cluster has them."""
    store = PolicyStore(RELEASE, without_cluster=True)
    (tmp_path / "p.yaml").write_text(
        f"kind: ConfigMap\nmetadata: {{name: free, namespace: {RELEASE}, "
        'labels: {podpace.io/policy: "true"}}\n'
        "data: {namespace-selector: tier=free, egress.max: 1M}\n"
        "---\nkind: Namespace\nmetadata: {name: shop, labels: {tier: free}}\n"
    )

    PolicyFolder(tmp_path, store, "default").step()

    assert (egress_max(store, "shop"), egress_max(store, "other")) == (1_000_000, None)


def test_a_folder_with_an_unreadable_file_leaves_the_policies_as_they_were(tmp_path: Path) -> None:
    """The message says which file."""
    store = PolicyStore(RELEASE, without_cluster=True)
    folder = PolicyFolder(tmp_path, store, "default")
    _write(tmp_path, "1M")
    folder.step()
    (tmp_path / "q.yaml").write_text("a: [")

    with pytest.raises(WebhookError, match=r"q\.yaml"):
        folder.step()

    assert egress_max(store, "a") == 1_000_000


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """An empty policy would lift every limit."""
    folder = PolicyFolder(tmp_path / "none", PolicyStore(RELEASE, without_cluster=True), "default")

    with pytest.raises(WebhookError, match="--policy-dir"):
        folder.step()
