"""Plots of results as SVG: the same bytes for the same figures, on white ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from . import defaults
from .results import Results
from .tables import seconds
from .work import MIB

_STYLE = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "path",  # looks the same wherever it is shown
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_HAND, _INK = "#999999", "#333333"
# Of the palette of Okabe and Ito, which the colour-blind tell apart.
_LINES = ("#0072B2", "#009E73", "#E69F00", "#D55E00")
_WIDTH = 9.0


def draw(results: Results, folder: Path) -> list[str]:
    """Draw all that there is and return the names of the files, in order."""
    drawn = []
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": "agg"}):
        for name, plot in _plots(results):
            figure = plot()
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.svg"
            nothing = {"Date": None, "Creator": None}
            figure.savefig(path, format="svg", metadata=nothing)
            lines = path.read_text().splitlines()
            path.write_text("\n".join(line.rstrip() for line in lines) + "\n")
            drawn.append(path.name)
    return drawn


def names(results: Results) -> list[str]:
    """Return the names of what `draw` draws, without drawing."""
    return [name for name, _ in _plots(results)]


def _plots(results: Results) -> Iterator[tuple[str, Callable[[], Figure]]]:
    cells = defaults.cells(results)
    if any(len(rows) > 1 for rows in cells.values()):
        yield "defaults-parts", lambda: _parts(cells)
    if any(len(points) > 1 for points in defaults.thresholds(results).values()):
        yield "defaults-threshold", lambda: _threshold(results)


def _parts(cells: Mapping[tuple[float, float, int], Sequence[Any]]) -> Figure:
    """Draw time over part size: a panel for each size and rate, a line a latency.

    Time is over that of the best part size for the same size and link, all with as many
    connections as by default.
    """
    shown = {key: rows for key, rows in cells.items() if len(rows) > 1}
    sizes = sorted({key[2] for key in shown})
    rates = sorted({key[1] for key in shown}, key=lambda rate: rate or float("inf"))
    latencies = sorted({key[0] for key in shown})
    figure = Figure(figsize=(_WIDTH, 1.75 * len(rates) + 0.7), layout="constrained")
    grid = figure.subplots(len(rates), len(sizes), squeeze=False, sharey=True)
    colors = dict(zip(latencies, _LINES, strict=False))
    for line, rate in zip(grid, rates, strict=True):
        for axes, size in zip(line, sizes, strict=True):
            curves = {
                latency: defaults.curve(shown.get((latency, rate, size), ()))
                for latency in latencies
            }
            if not any(curves.values()):
                axes.text(2, 1.9, "not measured", color="#666666")
            for latency, curve in curves.items():
                if curve:
                    axes.plot(
                        [at for at, _ in curve],
                        [share for _, share in curve],
                        color=colors.get(latency, _INK),
                        marker="o",
                        markersize=3,
                        linewidth=1.2,
                    )
            axes.axhline(1.1, color=_HAND, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_xscale("log", base=2)
            axes.set_xlim(0.8, 80)
            axes.set_xticks((1, 2, 4, 8, 16, 32, 64))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.set_ylim(0.95, 3)
            said = f"{rate / 1e6:.0f} MB/s" if rate else "no cap"
            axes.set_title(f"{size / MIB:,.0f} MiB, {said}")
    for axes in grid[-1]:
        axes.set_xlabel("part size, MiB")
    for line in grid:
        line[0].set_ylabel("time, best = 1")
    handles = [
        mpl.lines.Line2D([], [], color=colors[one], marker="o", markersize=3,
                         label=f"{one * 1000:.0f} ms") for one in latencies
    ]  # fmt: skip
    handles.append(
        mpl.lines.Line2D([], [], color=_HAND, linestyle=(0, (4, 3)), label="10 % more")
    )
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure


def _threshold(results: Results) -> Figure:
    """Draw time over size: one body against parts, a panel a rate, a color a latency."""
    found = defaults.thresholds(results)
    rates = sorted({key[1] for key in found}, key=lambda rate: rate or float("inf"))
    latencies = sorted({key[0] for key in found})
    figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
    grid = figure.subplots(1, len(rates), squeeze=False)[0]
    colors = dict(zip(latencies, _LINES, strict=False))
    for axes, rate in zip(grid, rates, strict=True):
        for latency in latencies:
            points = found.get((latency, rate), ())
            at = [size / MIB for size, _, _ in points]
            color = colors.get(latency, _INK)
            axes.plot(at, [one for _, one, _ in points], color=color, linewidth=1.1,
                      linestyle=(0, (4, 2)), marker="s", markersize=3)  # fmt: skip
            axes.plot(at, [parts for _, _, parts in points], color=color,
                      linewidth=1.3, marker="o", markersize=3)  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.axvline(8, color=_HAND, linewidth=0.8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: seconds(y)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{rate / 1e6:.0f} MB/s" if rate else "no cap")
        axes.set_xlabel("MiB of the object")
    line = mpl.lines.Line2D
    handles = [line([], [], color=colors[one], label=f"{one * 1000:.0f} ms")
               for one in latencies]  # fmt: skip
    handles += [
        line([], [], color=_INK, linestyle=(0, (4, 2)), marker="s", markersize=3,
             label="one body"),
        line([], [], color=_INK, marker="o", markersize=3, label="parts, the best"),
        line([], [], color=_HAND, label="threshold, 8 MiB"),
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure
