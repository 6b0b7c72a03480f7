"""Where counters are read: the aggregated API first, the enforcers where that is not to be had."""

import pytest

from client.errors import ClientError, UnreachableError
from client.kube.api import NotFoundError
from client.kube.counters import Counters
from contract.names import Direction
from contract.stats import path_of

PASSED = "podpace_passed_bytes_total"
SERVED = {
    "kind": "PodStatsList",
    "apiVersion": "stats.podpace.io/v1alpha1",
    "metadata": {},
    "problems": ["node b has not answered in time"],
    "items": [
        {
            "metadata": {"namespace": "shop", "name": "web"},
            "node": "a",
            "ingress": {},
            "egress": {PASSED: 5},
        }
    ],
}


class _Cluster:
    """``served`` is the API's answer, ``page`` the enforcer's; an error is raised."""

    def __init__(self, served, page):
        self._served, self._page = served, page

    def get(self, path):
        assert path == path_of("shop")
        return _given(self._served)

    def list(self, path, query=None):
        spec = {"nodeName": "a", "containers": []}
        return [{"metadata": {"namespace": "rel", "name": "e"}, "spec": spec}]

    def text(self, path):
        return _given(self._page)


def _given(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


PAGE = f'{PASSED}{{target="pod:shop/web",direction="egress"}} 7.0\n'
KEY = ("shop/web", Direction.EGRESS)


def _sample(served, page=PAGE, namespace="shop"):
    return Counters(_Cluster(served, page), "rel", namespace, frozenset({"a"})).sample()


def test_the_api_is_asked_first():
    """Its problems are told as the enforcers' are; a direction without counters has no row."""
    sample = _sample(SERVED, ClientError("not to be asked"))

    assert sample.values == {KEY: {PASSED: 5.0}}
    assert sample.problems == ("node b has not answered in time",)


@pytest.mark.parametrize("refused", [NotFoundError("no such API"), ClientError("503"), {"x": 1}])
def test_an_administrator_reads_the_enforcers_where_the_api_is_not(refused):
    """An older release, one that is down, one that is not understood."""
    assert _sample(refused).values[KEY][PASSED] == 7.0


def test_all_namespaces_are_read_from_the_enforcers():
    """The API answers for one."""
    assert _sample(ClientError("not to be asked"), namespace=None).values[KEY][PASSED] == 7.0


def test_who_may_read_neither_is_told_of_both():
    """In one line."""
    cluster = _Cluster(NotFoundError("no such API"), PAGE)
    cluster.list = lambda path, query=None: _given(ClientError("forbidden"))

    with pytest.raises(ClientError, match=r"stats\.podpace\.io.*no such API.*forbidden"):
        Counters(cluster, "rel", "shop", frozenset({"a"})).sample()


@pytest.mark.parametrize(
    ("refused", "said"),
    [(NotFoundError("no such API"), 1), (ClientError("503"), 2)],
)
def test_nodes_that_cannot_be_read_are_told_with_what_was_tried_before(refused, said):
    """An API that is not installed is nothing to tell of."""
    problems = _sample(refused, ClientError("HTTP status 503")).problems

    assert len(problems) == said
    assert problems[-1].startswith("the rates of node a cannot be read")


def test_an_api_server_that_is_away_is_asked_once():
    """Nothing else is tried."""
    with pytest.raises(UnreachableError):
        _sample(UnreachableError("away"), AssertionError("asked"))
