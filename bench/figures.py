"""Plots of the results as PNG: one per direction, TCP over IPv4."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from bench.cells import parse_cell
from bench.limiters import CniBandwidth, Policer, Tbf
from bench.measurement import Measurement
from bench.ours import Podpace
from bench.results import Results
from bench.rig import STANDARD_MTU

STYLES = {
    Policer.name: ("#d73027", "v"),
    Tbf.name: ("#f4a020", "s"),
    CniBandwidth.name: ("#6a51a3", "D"),
    Podpace.name: ("#1a9850", "o"),
}
"""Drawn in this order: the last one on top."""
_PANELS: tuple[tuple[str, str, Callable[[Measurement], float | None]], ...] = (
    ("utilisation", "linear", lambda m: m.utilisation),
    ("retransmits", "symlog", lambda m: m.retransmits),
    ("ping p99, ms", "log", lambda m: m.ping_p99_ms),
)


def draw(results: Results, directory: Path) -> list[Path]:
    """Writes the plots and returns their paths. Raises OSError."""
    directory.mkdir(exist_ok=True)
    return [
        path
        for direction in ("egress", "ingress")
        if (path := _draw(results, direction, directory / f"{direction}.png"))
    ]


def _draw(results: Results, direction: str, path: Path) -> Path | None:
    cells = sorted(
        {
            cell
            for key, _ in results.measurements
            if (cell := parse_cell(key)).direction == direction
            and cell.limit_bits_per_sec
            and not cell.is_udp
            and cell.family == 4
            and not cell.ecn
            and cell.mtu_bytes == STANDARD_MTU
        },
        key=lambda c: (c.limit_bits_per_sec, c.congestion_control != "cubic", c.flows),
    )
    if not cells:
        return None
    figure, panels = plt.subplots(
        len(_PANELS), 1, figsize=(max(9, 1.5 + 0.38 * len(cells)), 9), sharex=True
    )
    for panel, (title, scale, value) in zip(panels, _PANELS, strict=True):
        for limiter, (colour, marker) in STYLES.items():
            points = [
                (x, v)
                for x, cell in enumerate(cells)
                if (m := results.measurements.get((cell.key, limiter)))
                and m.error is None
                and (v := value(m)) is not None
            ]
            if points:
                panel.plot(
                    *zip(*points, strict=True),
                    marker,
                    color=colour,
                    label=limiter,
                    markersize=6,
                    alpha=0.9,
                    clip_on=False,
                    zorder=3,
                )
        panel.set_yscale(scale)
        panel.set_ylabel(title)
        panel.grid(visible=True, axis="y", alpha=0.3)
        for x in range(1, len(cells)):
            if cells[x].limit_bits_per_sec != cells[x - 1].limit_bits_per_sec:
                panel.axvline(x - 0.5, color="grey", linewidth=0.8, alpha=0.5)
    panels[0].set_ylim(0, 1.25)
    panels[0].axhspan(0.97, 1.01, color="#1a9850", alpha=0.15)
    panels[1].set_ylim(bottom=-0.2)
    labels = [" ".join(cell.key.split(",")[1:4]) for cell in cells]
    panels[-1].set_xticks(range(len(cells)), labels, rotation=60, ha="right")
    panels[0].set_title(f"{direction}, TCP: limit, congestion control, flows")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], names[::-1], loc="outside lower center", ncols=len(names), frameon=False
    )
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
