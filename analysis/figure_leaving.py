"""Tokens until a plateau is left against the tokens that a position sees: one panel a learning rate."""

import math
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from analysis import figure_notes, labels, leaving, style, survival, tidy
from analysis.study import Study
from mlm import figures

PANELS = 3
"""Side by side, at most."""
HIGH = 2.35  # inches, of a panel's axes
HEAD = 0.135  # inches a line of the words above a panel
BELOW = 0.3  # inches, for the ticks of a panel


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """Every run a mark, medians joined; open marks with arrows are of runs that never left."""
    found = leaving.lines(study, name, collected, asked)
    panels = [(rate, list(lines)) for rate, lines in groupby(found, key=lambda line: line.learning_rate)]
    looks = {words: style.line(i) for i, words in enumerate(dict.fromkeys(line.words for line in found))}
    columns = min(len(panels), PANELS)
    deep = math.ceil(len(panels) / columns)
    head = 0.28 + HEAD * max(len(lines) for _, lines in panels)
    height = deep * (HIGH + head + BELOW) + 0.28
    figure = Figure(figsize=(style.WIDTH, height))
    left, between = 0.62, 0.24
    width = (style.WIDTH - left - 0.1 - between * (columns - 1)) / columns
    shared: Axes | None = None
    for index, (rate, lines) in enumerate(panels):
        row, column = divmod(index, columns)
        bottom = height - 0.06 - head - HIGH - row * (HIGH + head + BELOW)
        begin = left + column * (width + between)
        place = (begin / style.WIDTH, bottom / height, width / style.WIDTH, HIGH / height)
        axes = figure.add_axes(place, sharex=shared, sharey=shared)
        shared = shared or axes
        _panel(axes, rate, lines, looks, first=column == 0)
    assert shared is not None
    _scales(shared, sorted({float(x) for line in found for x in line.candidates}))
    begun = sum(line.begun for line in found)
    notes = [f"Runs past the level when first evaluated, not drawn: {begun}"] if begun else []
    arms = [arm for line in found for arm in line.arms]
    figure_notes.write(figure, notes + figure_notes.runs(collected, arms))
    figure.text(0.5, 0.15 / height, "visible tokens (a causal position's mean)", ha="center", fontsize=8)
    return figure


def _panel(
    axes: Axes, rate: float, lines: list[leaving.Line], looks: dict[str, style.Look], *, first: bool
) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(which="major")
    if first:
        axes.set_ylabel("training tokens until the plateau is left")
    else:
        axes.tick_params(labelleft=False)
    wide, inches = axes.get_position().width * style.WIDTH, HIGH
    above = 1 + 0.1 / inches
    for number, line in enumerate(lines):
        _line(axes, line, looks[line.words])
        colour, _, marker = looks[line.words]
        y = above + HEAD * (len(lines) - 1 - number) / inches
        words = f"{line.words}: {_slope(line.estimate(), line.begun)}"
        axes.plot(
            [0.05 / wide], [y], marker, color=colour, markersize=4, transform=axes.transAxes, clip_on=False
        )
        axes.text(0.13 / wide, y, words, transform=axes.transAxes, color=colour, va="center",
                  fontsize=style.fitting(words, wide - 0.13, 6.8))  # fmt: skip
    axes.text(0.0, above + HEAD * (len(lines) + 0.2) / inches, f"{labels.key(leaving.PANEL)} {rate:g}",
              transform=axes.transAxes, fontsize=8, fontweight="bold", va="center")  # fmt: skip


def _slope(found: survival.Slope | None, begun: int) -> str:
    if found is None:
        return "no slope: some had left at first" if begun else "too few leave for a slope"
    ends = (
        f" [{labels.number(found.low, 2)}, {labels.number(found.high, 2)}]" if math.isfinite(found.low) else ""
    )
    return f"slope {labels.number(found.value, 2)}{ends}"


def _line(axes: Axes, line: leaving.Line, look: style.Look) -> None:
    colour, dash, marker = look
    order = np.argsort(line.seeds, kind="stable")
    ranks = np.empty(len(order))
    for x in np.unique(line.candidates):
        here = order[line.candidates[order] == x]
        ranks[here] = np.linspace(-1, 1, len(here)) if len(here) > 1 else 0.0
    x = line.candidates * np.exp(0.11 * ranks)  # side by side, so that equal times are told apart
    left = ~line.censored
    axes.plot(
        x[left], line.tokens[left], marker, color=colour, markersize=2.6, alpha=0.6, markeredgewidth=0, zorder=3
    )
    for at in np.unique(line.candidates):
        here = line.tokens[line.candidates == at]
        if survival.range_covers_median(len(here)):
            axes.plot([at, at], [here.min(), here.max()], color=colour, linewidth=0.9, alpha=0.6, zorder=2)
    for at, tokens in zip(x[line.censored], line.tokens[line.censored], strict=True):
        axes.annotate(
            "", xy=(at, tokens), xytext=(0, 9), xycoords="data", textcoords="offset points",
            arrowprops={"arrowstyle": "<-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 1.5},
        )  # fmt: skip
        axes.plot([at], [tokens], marker, markersize=3.6, markerfacecolor="white", markeredgecolor=colour,
                  markeredgewidth=0.8, zorder=4)  # fmt: skip
    medians = [(cell.candidates, cell.median) for cell in line.cells() if cell.median is not None]
    if medians:
        axes.plot(*zip(*medians, strict=True), color=colour, linestyle=dash, linewidth=1.3, zorder=4)
        axes.plot(*zip(*medians, strict=True), "_", color=colour, markersize=11, markeredgewidth=1.8, zorder=5)


def _scales(axes: Axes, places: list[float]) -> None:
    """Ticks at the numbers of visible tokens that there are, and at 1, 2 and 5 times powers of ten."""
    wide = [x for i, x in enumerate(places) if i == 0 or x > 1.3 * places[i - 1]]
    axes.xaxis.set_major_locator(FixedLocator(wide))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{x:g}" for x in wide]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(style.millions())
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.05, high * 1.18)  # room for the arrows
