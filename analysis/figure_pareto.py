"""Which arm has the lowest loss for what was spent: tokens and operations; seconds in a figure of their own."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figure_curves, figure_notes, figure_over, labels, runs, setup, style, summary, tidy
from analysis.study import Study

HEIGHT = 3.5  # inches
FRONT = "#c9c9c9"
Spent = Callable[[str, int], float]
"""(arm, tokens) -> what was spent until then."""


class Point(NamedTuple):
    """An arm at a moment of its training."""

    spent: float
    loss: float
    arm: str


def draw(study: Study, name: str, collected: tidy.Collected) -> Figure:
    """Held-out loss over tokens and over operations."""
    grown = {
        arm: figure_over.operations(run, collected, arm) for arm, run in setup.planned(study, name).items()
    }

    def operations(arm: str, tokens: int) -> float:
        return float(np.interp(tokens, *grown[arm])) / figure_curves.TERA

    axes: tuple[tuple[str, Spent], ...] = (
        ("training tokens (millions)", lambda _, tokens: tokens / figure_curves.MILLION),
        ("training operations (teraFLOPs)", operations),
    )
    return _draw(study, name, collected, axes)


def seconds(study: Study, name: str, collected: tidy.Collected) -> Figure:
    """Held-out loss over seconds of training: no machine gives the same twice."""
    took: dict[tuple[str, int], list[float]] = {}
    for cell in study.cells(name):
        record = runs.run(cell.digest)
        for line in runs.metrics(record) if record and record.status == "finished" else ():
            if line["event"] == "evaluation":
                took.setdefault((cell.arm, line["tokens"]), []).append(line["train_seconds"])
    return _draw(
        study, name, collected,
        (("seconds of training, here", lambda arm, tokens: float(np.mean(took.get((arm, tokens), [0.0])))),),
    )  # fmt: skip


def _draw(study: Study, name: str, collected: tidy.Collected, asked: Sequence[tuple[str, Spent]]) -> Figure:
    """A panel for each thing that is spent; the front lies under the lines."""
    experiment = study.experiment(name)
    found = {arm: moments for arm in experiment.arms if (moments := figure_curves.moments(collected, arm))}
    causal = [arm for arm, run in setup.planned(study, name).items() if run.causal]
    figure = Figure(figsize=(style.WIDTH, HEIGHT))
    left, between, right = 0.085, 0.02, style.room(map(labels.arm, experiment.arms))
    width = (1 - left - right - 0.015 - between * (len(asked) - 1)) / len(asked)
    shared: Axes | None = None
    for number, (title, spent) in enumerate(asked):
        place = (left + number * (width + between), 0.155, width, 0.775)
        axes = figure.add_axes(place, sharey=shared)
        last, shared = number + 1 == len(asked), shared or axes
        _panel(axes, experiment.arms, experiment.baseline, found, spent)
        # Those that read from the left alone have another task: nothing is said across.
        for kind in (causal, [arm for arm in experiment.arms if arm not in causal]):
            _front(axes, [
                Point(spent(arm, tokens), estimate.mean, arm)
                for arm in kind for tokens, estimate in found.get(arm, ()) if spent(arm, tokens) > 0
            ])  # fmt: skip
        axes.set_xlabel(title)
        axes.grid(axis="y")
        axes.tick_params(labelleft=number == 0)
        if found:
            axes.set_xscale("log")
            style.logarithmic(axes.xaxis)
        if last:
            ends = [
                (spent(arm, moments[-1][0]), moments[-1][1].mean, labels.arm(arm),
                 style.line(experiment.arms.index(arm))[0])
                for arm, moments in found.items()
            ]  # fmt: skip
            style.label_ends(axes, ends)
    assert shared is not None
    shared.set_title(labels.title(figure_curves.MEASURE), color=style.INK)
    figure_notes.write(figure, figure_notes.runs(collected, experiment.arms))
    return figure


def _panel(
    axes: Axes,
    arms: Sequence[str],
    baseline: str,
    found: dict[str, list[tuple[int, summary.Estimate]]],
    spent: Spent,
) -> None:
    for index, arm in enumerate(arms):
        points = [(spent(arm, tokens), e) for tokens, e in found.get(arm, ()) if spent(arm, tokens) > 0]
        colour, dash, marker = style.line(index)
        axes.plot(
            [at for at, _ in points], [e.mean for _, e in points], color=colour, linestyle=dash, linewidth=1.1,
            marker=marker, markersize=3, markevery=style.every(len(points), index, figure_curves.FEW),
            zorder=4 if arm == baseline else 3,
        )  # fmt: skip
        style.band(axes, points, colour, alpha=0.12)


def front(points: Iterable[Point]) -> list[Point]:
    """Those than which no other has a loss as low for as little, by what was spent.

    >>> front([Point(2, 5.0, "a"), Point(1, 6.0, "a"), Point(2, 5.5, "b"), Point(3, 5.2, "b")])
    [Point(spent=1, loss=6.0, arm='a'), Point(spent=2, loss=5.0, arm='a')]
    """
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept


def _front(axes: Axes, points: Iterable[Point]) -> None:
    kept = front(points)
    if kept:
        axes.plot([p.spent for p in kept], [p.loss for p in kept], color=FRONT, linewidth=7, zorder=1,
                  solid_joinstyle="round")  # fmt: skip
