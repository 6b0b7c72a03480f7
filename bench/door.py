"""The README's picture: how much of a limit gets through, and how long a packet waits meanwhile."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from bench.figures import STYLES
from bench.measurement import Measurement
from bench.results import Results

CELLS = {
    "egress,100M,cubic,10,v4": "sending, 10 connections",
    "ingress,100M,cubic,1,v4": "receiving, 1 connection",
    "ingress,100M,cubic,10,v4": "receiving, 10 connections",
}


def _ping(m: Measurement) -> float | None:
    return m.ping_p99_ms


_SHOWN: tuple[tuple[str, Callable[[Measurement], float | None], str], ...] = (
    ("part of the limit that gets through", lambda m: m.utilisation, "{:.0%}"),
    ("ping through it meanwhile, p99, ms", _ping, "{:.0f}"),
)
_LOST_MS = 2000
"""A ping that is lost counts as this."""


def draw_door(results: Results, path: Path) -> bool:
    """Writes the picture; False when none of its cells is measured. Raises OSError."""
    measured = {
        (cell, name): m
        for (cell, name), m in results.measurements.items()
        if cell in CELLS and name in STYLES and m.error is None
    }
    cells = [cell for cell in CELLS if any(c == cell for c, _ in measured)]
    if not cells:
        return False
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "podpace", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(1, 2, figsize=(9, 3.1), layout="constrained")
        for panel, (title, value, form) in zip(panels, _SHOWN, strict=True):
            _bars(panel, cells, measured, value, form)
            panel.set_title(title, fontsize=10)
        panels[0].set_xlim(0, 1.2)
        panels[1].set_xscale("log")
        panels[1].set_xlim(0.1, 20000)
        panels[1].set_yticklabels([])
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1], names[::-1], loc="outside lower center", ncols=4, frameon=False
        )
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return True


def _bars(
    panel: plt.Axes,
    cells: Sequence[str],
    measured: dict[tuple[str, str], Measurement],
    value: Callable[[Measurement], float | None],
    form: str,
) -> None:
    height = 0.8 / len(STYLES)
    for place, (limiter, (colour, _)) in enumerate(STYLES.items()):
        for row, cell in enumerate(reversed(cells)):
            m = measured.get((cell, limiter))
            if m is None or (found := value(m)) is None:
                continue
            y = row + height * (place - (len(STYLES) - 1) / 2)
            label = None if limiter in panel.get_legend_handles_labels()[1] else limiter
            panel.barh(y, found, height * 0.9, color=colour, label=label)
            text = form.format(found)
            if value is _ping:
                text = "lost" if found >= _LOST_MS else f"{found:.1f}" if found < 10 else text
            panel.annotate(
                text, (found, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
            )
    panel.set_yticks(range(len(cells)), [CELLS[cell] for cell in reversed(cells)])
    panel.spines[["top", "right"]].set_visible(False)
