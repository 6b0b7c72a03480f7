"""``kubectl podpace set``: what options write, and that all are asked before any is changed."""

import pytest

from client.errors import ClientError, UnreachableError, UsageError
from client.kube.pods import read_pod
from client.kube.setting import NotAllSetError, Wish, make_annotations, set_all, try_all

NOTHING = Wish()


def _pod(name):
    return read_pod({"metadata": {"namespace": "shop", "name": name}, "spec": {}})


class _Cluster:
    """Refuses what is in ``refuses``; answers with the pod as it was patched."""

    def __init__(self, refuses=(), error=ClientError):
        self.asked = []
        self._refuses = refuses
        self._error = error

    def merge(self, path, body, *, dry_run=False):
        name = path.rpartition("/")[2]
        self.asked.append((name, dry_run))
        if name in self._refuses:
            raise self._error("above the maximum")
        annotations = body["metadata"]["annotations"]
        metadata = {"namespace": "shop", "name": name, "annotations": annotations}
        return {"metadata": metadata, "spec": {}}


@pytest.mark.parametrize(
    ("ingress", "egress", "written"),
    [
        (NOTHING, Wish(limit="10M"), {"podpace.io/egress-bandwidth": "10M"}),
        (
            Wish(request="1M"),
            Wish(limit="10M", burst="1Mi", request="none"),
            {
                "podpace.io/ingress-request": "1M",
                "podpace.io/egress-bandwidth": "10M",
                "podpace.io/egress-burst": "1Mi",
                "podpace.io/egress-request": None,
            },
        ),
        (
            Wish(limit="none"),
            NOTHING,
            {"podpace.io/ingress-bandwidth": None, "kubernetes.io/ingress-bandwidth": None},
        ),
    ],
)
def test_only_what_an_option_names_is_written(ingress, egress, written):
    """``none`` takes off, and no other key takes its place."""
    assert make_annotations(ingress, egress) == written


def test_a_text_that_is_no_quantity_is_told_by_its_option():
    """All of them at once, and the API server is not asked."""
    with pytest.raises(UsageError) as caught:
        make_annotations(Wish(limit="10Mbps"), Wish(request="much"))

    first, second = caught.value.lines
    assert first.startswith('--ingress: "10Mbps" ')
    assert second.startswith('--egress-request: "much" ')


def test_nothing_to_set_is_a_mistake():
    """And says what there is."""
    with pytest.raises(UsageError, match="give --ingress"):
        make_annotations(NOTHING, NOTHING)


def test_one_refusal_names_its_pod_and_the_others_are_asked_as_well():
    """By dry runs alone: who sees this error has changed nothing."""
    cluster = _Cluster(refuses=("a", "c"))

    with pytest.raises(NotAllSetError) as caught:
        try_all(cluster, map(_pod, "abc"), {"podpace.io/egress-bandwidth": "1G"})

    assert caught.value.lines == ("shop/a: above the maximum", "shop/c: above the maximum")
    assert caught.value.exit_code == 1
    assert cluster.asked == [("a", True), ("b", True), ("c", True)]


def test_pods_are_told_as_the_api_server_has_them_then():
    """Its answer counts, not what was sent."""
    cluster = _Cluster()

    (changed,) = set_all(cluster, [_pod("a")], {"podpace.io/egress-bandwidth": "1G"})

    assert changed.annotations == {"podpace.io/egress-bandwidth": "1G"}
    assert cluster.asked == [("a", False)]


def test_an_api_server_that_is_away_is_not_asked_for_every_pod():
    """Its exit code is 3."""
    cluster = _Cluster(refuses=("a",), error=UnreachableError)

    with pytest.raises(UnreachableError):
        try_all(cluster, map(_pod, "ab"), {"podpace.io/egress-bandwidth": "1G"})

    assert cluster.asked == [("a", True)]
