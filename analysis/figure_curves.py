"""Learning curves: held-out loss on the common yardstick over training tokens, by arm."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import figure_notes, labels, style, summary, tidy
from analysis.study import Experiment

MEASURE = tidy.YARDSTICK
MILLION, TERA = 1e6, 1e12
Grown = tuple[Sequence[float], Sequence[float]]
FEW = 16
"""Moments up to which each has a mark of its own."""


def draw(
    experiment: Experiment, collected: tidy.Collected, measure: str = MEASURE, *,
    arms: Sequence[str] | None = None, spent: Mapping[str, Grown] | None = None, log: bool = False,
) -> Figure:  # fmt: skip
    """Mean over seeds and pointwise 95 % t interval of a measure, for every arm that has values.

    Args:
        measure: of curves.csv.
        arms: those to draw; all unless told.
        spent: arm -> tokens, ascending, and operations until then, for an x axis of operations.
        log: whether the x axis is logarithmic; a moment at zero is left out then.
    """
    figure = Figure(figsize=(style.WIDTH, 3.5))
    drawn = [arm for arm in experiment.arms if arms is None or arm in arms]
    axes = figure.add_axes((0.085, 0.155, 0.9 - style.room(map(labels.arm, drawn)), 0.775))
    unit, title = (
        (TERA, "training operations (teraFLOPs)") if spent else (MILLION, "training tokens (millions)")
    )
    ends, last = [], 0.0
    later: list[float] = []
    for index, arm in enumerate(experiment.arms):
        if arm not in drawn:
            continue
        colour, dash, marker = style.line(index)
        points = [
            ((float(np.interp(at, *spent[arm])) if spent else at) / unit, found)
            for at, found in moments(collected, arm, measure)
            if at or not log
        ]
        if not points:
            continue
        places = [at for at, _ in points]
        front = 4 if arm == experiment.baseline else 3
        axes.plot(places, [e.mean for _, e in points], color=colour, linestyle=dash, marker=marker,
                  markersize=3.5, markevery=style.every(len(points), index, FEW), zorder=front)  # fmt: skip
        style.band(axes, points, colour)
        later += [y for at, e in points if at for y in (e.mean, *((e.low, e.high) if e.n > 1 else ()))]
        ends.append((places[-1], points[-1][1].mean, labels.arm(arm), colour))
        last = max(last, places[-1])
    axes.grid(axis="y")
    if log and ends:
        axes.set_xscale("log")
        style.logarithmic(axes.xaxis)
    else:
        axes.set_xlim(0, last * 1.005 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if later:  # the fall from the first step would press all else together
            room = 0.05 * (max(later) - min(later) or 1)
            axes.set_ylim(min(later) - room, max(later) + room)
    axes.set_xlabel(title)
    axes.set_title(labels.title(measure), color=style.INK)
    style.label_ends(axes, ends)
    figure_notes.write(figure, figure_notes.runs(collected, drawn))
    return figure


def moments(collected: tidy.Collected, arm: str, measure: str = MEASURE) -> list[tuple[int, summary.Estimate]]:
    """Training tokens, ascending, and the measure over an arm's seeds at that moment."""
    c = collected.curves
    # A run that diverged would bend the mean where it drops out.
    mine = c[(c["arm"] == arm) & (c["measure"] == measure) & ~c["seed"].isin(collected.diverged(arm))]
    groups = mine.dropna(subset="value").groupby("tokens", sort=True)["value"]
    found = ((int(str(tokens)), summary.estimate(values.to_numpy(dtype=float))) for tokens, values in groups)
    return [(tokens, estimate) for tokens, estimate in found if estimate is not None]
