"""What each arm comes to at the learning rates that were tried: a panel an arm, its best rate ringed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from analysis import figure_notes, labels, style, tidy
from analysis.study import Experiment

if TYPE_CHECKING:
    from analysis.tune import Row

ACROSS = 4
"""Panels in a row."""
HIGH, ABOVE, BELOW = 1.55, 0.5, 0.58  # inches: a row of panels with its titles, and what is around all of them


def draw(experiment: Experiment, collected: tidy.Collected, rows: Sequence["Row"]) -> Figure:
    """Every seed a point, the mean a line; every panel spans as much, so that slopes can be compared.

    Levels cannot: each arm is judged under its own corruption, unless `tune.measure` says otherwise.
    """
    measure = experiment.primary_measure
    arms = list(dict.fromkeys(row.arm for row in rows))
    across = min(ACROSS, len(arms))
    down = -(-len(arms) // across)
    height = ABOVE + BELOW + HIGH * down
    figure = Figure(figsize=(style.WIDTH, height))
    panels = figure.subplots(down, across, sharex=True, squeeze=False)
    figure.subplots_adjust(
        left=0.075, right=0.985, top=1 - ABOVE / height, bottom=BELOW / height, wspace=0.42, hspace=0.36
    )
    drawn = [_panel(axes, experiment, collected, [row for row in rows if row.arm == arm])
             for axes, arm in zip(panels.flat, arms, strict=False)]  # fmt: skip
    span = max((high - low for low, high in drawn), default=0.0) * 1.16 or 1.0
    for axes, (low, high) in zip(panels.flat, drawn, strict=False):
        middle = (low + high) / 2
        axes.set_ylim(middle - span / 2, middle + span / 2)
    for place, axes in enumerate(panels.flat):
        if place >= len(arms):
            axes.set_visible(False)
        elif place + across >= len(arms):  # nothing stands below it
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("learning rate")
    figure.suptitle(
        labels.title(measure), x=0.012, y=1 - 0.09 / height, ha="left", va="top", fontsize=8.5,
        fontweight="bold", color=style.INK,
    )  # fmt: skip
    figure_notes.write(figure, figure_notes.runs(collected, experiment.tried))
    return figure


def _panel(
    axes: Axes, experiment: Experiment, collected: tidy.Collected, rows: Sequence["Row"]
) -> tuple[float, float]:
    """Draw an arm; the lowest and highest of its values."""
    trials = {place: name for name, place in experiment.tried.items()}
    seen: list[float] = []
    for row in rows:
        values = collected.array(trials[row.arm, row.learning_rate], experiment.primary_measure)
        seen += values.tolist()
        axes.plot([row.learning_rate] * len(values), values, "o", markersize=2.6, color=style.MUTED, alpha=0.75,
                  markeredgewidth=0, zorder=2)  # fmt: skip
    means = [(row.learning_rate, row.mean) for row in sorted(rows, key=lambda row: row.learning_rate)]
    if whole := [place for place in means if np.isfinite(place[1])]:
        axes.plot(*zip(*whole, strict=True), color=style.INK, marker="o", markersize=3.5, zorder=3)
    for row in rows:
        if row.best:
            at, colour = (row.learning_rate, row.mean), style.WARNING if row.edge else style.INK
            axes.plot(*([place] for place in at), "o", markersize=8.5, markerfacecolor="none",
                      markeredgecolor=colour, zorder=4)  # fmt: skip
        if row.edge:
            axes.annotate("edge", (row.learning_rate, row.mean), xytext=(0, 7), textcoords="offset points",
                          ha="center", fontsize=6.5, color=style.WARNING, zorder=4)  # fmt: skip
    axes.set_title(labels.arm(rows[0].arm))
    axes.set_xscale("log")
    axes.margins(x=0.14)
    axes.xaxis.set_major_locator(FixedLocator([at for at, _ in means]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{at:g}" for at, _ in means]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=6.8)
    axes.grid(axis="y")
    return (min(seen), max(seen)) if seen else (0.0, 0.0)
