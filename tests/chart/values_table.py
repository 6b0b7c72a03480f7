"""``python -m tests.chart.values_table`` writes the chart's README from ``values.yaml``."""

import json
import re
from collections.abc import Iterator

import yaml

from tests.chart.helm import CHART

README = CHART / "README.md"
WHOLE = {
    *("resources", "nodeSelector", "labels", "podLabels", "podAnnotations", "appArmorProfile"),
    "affinity",
    *("readinessProbe", "livenessProbe", "startupProbe"),
}
"""Values that are shown with what is below them."""
_START, _END = "<!-- values -->\n", "<!-- /values -->\n"


def rows() -> Iterator[tuple[str, str, str]]:
    """Path, default as JSON, and what the comment says, of every value that has no values below.

    A comment holds for the lines below it until the next one, as for whoever reads the file.
    """
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    path: list[tuple[int, str]] = []
    said: dict[int, str] = {}
    fresh: list[str] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        comment = re.match(r"( *)# ?(.*)", line)
        if comment:
            fresh.append(comment[2].strip())
            continue
        key = re.match(r"( *)([A-Za-z]+):", line)
        if key is None:
            if not line.strip():
                fresh = []
            continue
        depth = len(key[1])
        path = [*((d, k) for d, k in path if d < depth), (depth, key[2])]
        if fresh:
            said = {d: text for d, text in said.items() if d < depth} | {depth: " ".join(fresh)}
            fresh = []
        if WHOLE & {name for _, name in path[:-1]}:
            continue
        value = values
        for _, name in path:
            value = value[name]
        if has_values(key[2], value):
            continue
        yield ".".join(name for _, name in path), json.dumps(value), said[max(said)] if said else ""


def has_values(key: str, value: object) -> bool:
    """Whether there are values of ours below it."""
    return isinstance(value, dict) and bool(value) and key not in WHOLE


def table() -> str:
    """As Markdown."""
    lines = ["| value | default | |", "|---|---|---|"]
    for path, default, text in rows():
        cells = (f"`{path}`", f"`{default}`", text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def renewed(readme: str) -> str:
    """The README with the table as it has to be."""
    before, _, rest = readme.partition(_START)
    _, _, after = rest.partition(_END)
    return before + _START + table() + _END + after


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
    print(f"wrote {README}")
