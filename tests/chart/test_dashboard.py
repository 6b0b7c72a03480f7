"""The dashboard as a document; its queries are asked in ``tests/cluster/nodes``."""

import copy
import json
from functools import reduce
from itertools import combinations
from operator import getitem
from typing import Any

import pytest

from tests.chart.grafana import faults
from tests.chart.helm import CHART, find, objects
from tests.chart.matrix import MATRIX

DASHBOARD = json.loads((CHART / "dashboards" / "podpace.json").read_text())
PANELS = DASHBOARD["panels"]


def test_the_chart_ships_the_dashboard_unchanged() -> None:
    """Grafana's own braces would be Helm's if it were a template."""
    shipped = find(objects(MATRIX["monitoring"]), "ConfigMap", "podpace-dashboard")

    assert json.loads(shipped["data"]["podpace.json"]) == DASHBOARD
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_grafana_knows_every_field_and_value() -> None:
    """By the schema that Grafana itself is built from."""
    assert faults(DASHBOARD) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("panels", 1, "legnd"), True),
        (("panels", 1, "options", "legnd"), True),
        (("panels", 1, "options", "tooltip", "mode"), "many"),
        (("panels", 1, "targets", 0, "query"), "up"),
        (("panels", 1, "fieldConfig", "defaults", "min"), "0"),
        (("panels", 1, "type"), "timeserie"),
        (("templating", "list", 1, "refresh"), 7),
    ],
    ids=str,
)
def test_what_grafana_does_not_know_is_found(where: tuple[Any, ...], value: object) -> None:
    """The check above would see it."""
    wrong: Any = copy.deepcopy(DASHBOARD)
    *path, last = where
    reduce(getitem, path, wrong)[last] = value

    assert len(faults(wrong)) == 1


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    """Whoever is on call at night has not read the code."""
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"])
            assert panel["datasource"]["uid"] == "${datasource}"


def test_panels_have_their_own_place_and_number() -> None:
    """Grafana moves panels that overlap, each time otherwise."""
    assert len({p["id"] for p in PANELS}) == len(PANELS)
    for one, other in combinations(PANELS, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in PANELS)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )
