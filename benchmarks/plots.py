"""Plots of results as SVG: the same bytes for the same figures, on white ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from . import defaults
from .results import Results, series
from .tables import (
    ELSEWHERE,
    GROUPS,
    SERIES,
    checks,
    is_peer,
    peers_of,
    point,
    seconds,
    title_of,
)
from .work import MIB, OURS

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
# Of the palette of Okabe and Ito, which the colour-blind tell apart.
_OURS, _CHECKED, _PLAIN, _HAND = "#0072B2", "#56B4E9", "#E69F00", "#999999"
_INK = "#333333"
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
    for group in GROUPS:
        rows = peers_of(results, group)
        if rows:
            yield f"peers-{group}", lambda rows=rows: _bars(results, rows)
    for name in SERIES:
        rows = series(results, name)
        if len(rows) > 1:
            yield f"growth-{name}", lambda name=name, rows=rows: _curves(name, rows)
    cells = defaults.cells(results)
    if any(len(rows) > 1 for rows in cells.values()):
        yield "defaults-parts", lambda: _parts(cells)
    if any(len(points) > 1 for points in defaults.thresholds(results).values()):
        yield "defaults-threshold", lambda: _threshold(results)


def _bars(results: Results, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a panel a row: a bar for each candidate, as a ratio to the reference."""
    counts = [len(_bar_names(row)) for row in rows]
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    heights = [max(counts[at * columns : (at + 1) * columns]) for at in range(lines)]
    figure = Figure(
        figsize=(_WIDTH, sum(0.19 * n + 0.75 for n in heights) + 0.35),
        layout="constrained",
    )
    grid = figure.subplots(
        lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, axes in zip(rows, grid.flat, strict=False):
        _bar_panel(results, row, axes)
    for axes in list(grid.flat)[len(rows) :]:
        axes.set_axis_off()
    kinds = ((_OURS, "ours"), (_CHECKED, "others, which check bytes"),
             (_PLAIN, "others, which check nothing"), (_HAND, "by hand, which checks nothing"))  # fmt: skip
    handles = [mpl.patches.Patch(color=color, label=text) for color, text in kinds]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False
    )
    return figure


def _bar_names(row: Mapping[str, Any]) -> list[str]:
    found = [n for n in row["candidates"] if n != row["less"]]
    return sorted(found, key=lambda n: (_share(row, n)["median"], n))


def _share(row: Mapping[str, Any], name: str) -> Mapping[str, float]:
    found = row["candidates"][name]
    return found["ratio"] or found["wall"]


def _bar_panel(results: Results, row: Mapping[str, Any], axes: Axes) -> None:
    order = _bar_names(row)
    spreads = [_share(row, name) for name in order]
    middles = [spread["median"] for spread in spreads]
    colors = [_color(results, name) for name in order]
    axes.barh(range(len(order)), middles, color=colors, height=0.72)
    less = [max(0.0, m - s["min"]) for m, s in zip(middles, spreads, strict=True)]
    more = [max(0.0, s["max"] - m) for m, s in zip(middles, spreads, strict=True)]
    axes.errorbar(
        middles,
        range(len(order)),
        xerr=(less, more),
        fmt="none",
        ecolor=_INK,
        elinewidth=0.8,
    )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    top = max(spread["max"] for spread in spreads)
    wide = top > 6 * min(middles)
    if wide:
        axes.set_xscale("log")
        axes.set_xlim(min(0.5, 0.7 * min(s["min"] for s in spreads)), top * 2)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.set_xlim(0, top * 1.14)
    for at, (middle, spread) in enumerate(zip(middles, spreads, strict=True)):
        axes.annotate(
            f"{middle:.2f}",
            (spread["max"], at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=_INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    reference = {"bound": "latency alone"}.get(row["reference"], row["reference"])
    if reference and row["candidates"][order[0]]["ratio"]:
        dashes = (0, (4, 3))
        axes.axvline(1.0, color=_INK, linewidth=0.8, linestyle=dashes, zorder=0)
        axes.set_xlabel(f"time, {reference} = 1" + (", log" if wide else ""))
    else:
        axes.set_xlabel("seconds")
    axes.set_title(title_of(row))
    axes.tick_params(axis="y", length=0)


def _color(results: Results, name: str) -> str:
    if name.startswith(OURS):
        return _OURS
    if not is_peer(name):
        return _HAND
    return _PLAIN if checks(results, name) in ("", "none") else _CHECKED


def _curves(name: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw time and memory of a series over what grows."""
    unit, title = SERIES[name]
    scale = MIB if name == "size" else 1
    at = [point(row) / scale for row in rows]
    found = [next(iter(row["candidates"].values())) for row in rows]
    figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
    time, memory = figure.subplots(1, 2)
    wide = name in ("files", "size", "map")
    _spread_line(time, at, [one["wall"] for one in found], 1.0)
    if name in ELSEWHERE:
        total = rows[0]["work"]["size"] * rows[0]["work"]["count"] / 1e6
        rates = [
            {key: total / value for key, value in one["wall"].items()} for one in found
        ]
        _spread_line(memory, at, rates, 1.0)
    else:
        _spread_line(memory, at, [one["rss"] for one in found], MIB)
    for axes in (time, memory):
        axes.set_xscale("log", base=10 if wide else 2)
        axes.set_xticks(at)
        axes.xaxis.set_major_formatter(FuncFormatter(_count))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("MiB of the file" if name == "size" else unit)
        axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
    if wide:
        time.set_yscale("log")
        first, last = found[-1]["wall"]["median"], at[-1]
        line = [first * x / last for x in at]
        time.plot(at, line, color=_HAND, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        time.annotate(
            "in proportion",
            (at[0], line[0]),
            xytext=(14, 0),
            textcoords="offset points",
            va="center",
            color="#666666",
            fontsize=7.5,
        )
        time.yaxis.set_major_formatter(FuncFormatter(lambda y, _: seconds(y)))
    else:
        time.set_ylim(bottom=0)
        time.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} s"))
    memory.set_ylim(0, max(2.0, 1.1 * memory.get_ylim()[1]))
    time.set_title("time")
    memory.set_title("MB/s" if name in ELSEWHERE else "growth of memory, MiB")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


def _count(value: float, _: object) -> str:
    for factor, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= factor and not value % factor:
            return f"{value / factor:g}{unit}"
    return f"{value:,g}"


def _spread_line(
    axes: Axes, at: Sequence[float], spreads: Sequence[Mapping[str, float]], unit: float
) -> None:
    middles = [one["median"] / unit for one in spreads]
    least = [one["min"] / unit for one in spreads]
    most = [one["max"] / unit for one in spreads]
    axes.fill_between(at, least, most, color=_OURS, alpha=0.2, linewidth=0)
    axes.plot(at, middles, color=_OURS, marker="o", markersize=3.5, linewidth=1.4)


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
