"""Throughput over time, in the terminal and as PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

from bench.limiters import Policer, Tbf
from bench.ours import Podpace
from bench.timeline import Timeline
from bench.units import rate_text

FLOOR_BITS_PER_SEC = 1e6
"""Lower rates are drawn here: the axis is logarithmic and a stalled flow has none."""
_SHOWN_FREE_SECONDS = 1.4
COLOURS = {Podpace.name: "green+", Tbf.name: "orange+", Policer.name: "red+"}
"""In plotext; rich and matplotlib know them by other names."""
RICH_COLOURS = {Podpace.name: "green", Tbf.name: "bright_yellow", Policer.name: "red"}
PNG_COLOURS = {Podpace.name: "#1a9850", Tbf.name: "#f4a020", Policer.name: "#d73027"}


def _log(bits_per_sec: float) -> float:
    return math.log10(max(bits_per_sec, FLOOR_BITS_PER_SEC))


def _decades(timelines: Sequence[Timeline]) -> range:
    highest = max(max(t.goodput_bits_per_sec) for t in timelines)
    return range(int(math.log10(FLOOR_BITS_PER_SEC)), math.ceil(math.log10(highest)) + 1)


def terminal_chart(timelines: Sequence[Timeline], width: int, height: int) -> str:
    """ANSI text: every limiter's goodput over time, over the limits in force."""
    import plotext

    decades = _decades(timelines)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    for timeline in reversed(timelines):  # the first one on top
        since = [i for i, at in enumerate(timeline.at_seconds) if at >= -_SHOWN_FREE_SECONDS]
        plotext.plot(
            [timeline.at_seconds[i] for i in since],
            [_log(timeline.goodput_bits_per_sec[i]) for i in since],
            marker="braille",
            color=COLOURS[timeline.limiter],
        )
    plotext.ylim(decades[0], decades[-1])
    plotext.yticks(list(decades), [rate_text(10**d) for d in decades])
    end = max(t.at_seconds[-1] for t in timelines)
    plotext.xlim(-_SHOWN_FREE_SECONDS, end)
    limited = [p for p in timelines[0].phases if p.limit_bits_per_sec]
    middles = [(p.start_seconds + p.end_seconds) / 2 for p in limited]
    labels = [f"limit {rate_text(p.limit_bits_per_sec or 0)}" for p in limited]
    plotext.xticks([-_SHOWN_FREE_SECONDS / 2, *middles], ["no limit", *labels])
    for phase in limited:
        plotext.vline(phase.start_seconds, color="gray")
    return str(plotext.build())


def timelines_png(timelines: Sequence[Timeline], path: Path) -> None:
    """One panel per direction. Raises OSError when the file cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    directions = list(dict.fromkeys(t.direction for t in timelines))
    figure, panels = plt.subplots(
        len(directions),
        1,
        figsize=(10, 4.2 * len(directions)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for direction, panel in zip(directions, panels[:, 0], strict=True):
        drawn = [t for t in timelines if t.direction == direction]
        for timeline in reversed(drawn):  # the first one on top
            panel.plot(
                timeline.at_seconds,
                [max(rate, FLOOR_BITS_PER_SEC) for rate in timeline.goodput_bits_per_sec],
                color=PNG_COLOURS[timeline.limiter],
                linewidth=1.8,
                label=timeline.limiter,
            )
        for phase in drawn[0].phases[1:]:
            assert phase.limit_bits_per_sec
            panel.hlines(
                phase.limit_bits_per_sec,
                phase.start_seconds,
                phase.end_seconds,
                color="black",
                linestyle=":",
                linewidth=1,
                label="limit" if phase is drawn[0].phases[1] else None,
            )
        panel.set_yscale("log")
        panel.set_ylim(bottom=FLOOR_BITS_PER_SEC)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rate_text(value)))
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.set_title(f"{direction}: one TCP flow, its limit set and changed while it runs")
        panel.set_ylabel("goodput")
        panel.margins(x=0.01)
        handles, labels = panel.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: (labels[i] == "limit", -i))
        panel.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper right")
    panels[-1, 0].set_xlabel("seconds since the limit was set")
    figure.savefig(path, dpi=130)
    plt.close(figure)
