"""The dashboard as a document; its queries are asked in ``tests/cluster/nodes``."""

import json
from itertools import combinations
from typing import Any

from tests.chart.helm import CHART, find, objects
from tests.chart.matrix import MATRIX

DASHBOARD = json.loads((CHART / "dashboards" / "podpace.json").read_text())
PANELS = DASHBOARD["panels"]


def test_the_chart_ships_the_dashboard_unchanged() -> None:
    """Grafana's own braces would be Helm's if it were a template."""
    shipped = find(objects(MATRIX["monitoring"]), "ConfigMap", "podpace-dashboard")

    assert json.loads(shipped["data"]["podpace.json"]) == DASHBOARD
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"


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
