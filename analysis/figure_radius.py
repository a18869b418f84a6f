"""How far context matters while the arms train: loss with text beyond a distance resampled, a panel an arm."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import figure_notes, labels, over_training, style, summary, tidy
from analysis.study import Study
from mlm import figures, measures

PANELS = 4
"""Side by side, at most."""
HIGH, WIDEST = 1.55, 2.3  # inches, of a panel's axes
LEADER = 0.065  # of their width, to the labels beside them
HEAD, BELOW = 0.26, 0.24  # inches, for a panel's title and its ticks
LETTERS = 6.5  # points
APART = 1.5
"""Doublings of the distance after which `all`, which is none, has its place."""
EARLY_TO_LATE = LinearSegmentedColormap.from_list(
    "moments", [style.line(index)[0] for index in (5, 2, 0)]  # from light to dark, in grey too
)  # fmt: skip

Moments = dict[int, dict[int | None, summary.Estimate]]
"""Training tokens, ascending -> distance in tokens, None where nothing is resampled -> the loss in nats."""


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """Means over seeds with 95 % t bands, a line for each moment at which weights were measured."""
    experiment = study.experiment(name)
    arms = asked.arms or list(experiment.arms)
    near = distances(measure for arm in arms for measure in experiment.measures[arm])
    places: dict[int | None, float] = {distance: math.log2(distance) for distance in near}
    places[None] = max(places.values(), default=0.0) + APART
    found = {arm: moments(collected, arm, places) for arm in arms}
    deep = math.ceil(len(arms) / PANELS)
    columns = math.ceil(len(arms) / deep)
    height = deep * (HEAD + HIGH + BELOW) + 0.3
    figure = Figure(figsize=(style.WIDTH, height))
    beside = max((len(_words(at)) for each in found.values() for at in each), default=0)
    left, right = 0.52, 0.08 + style.LETTER * beside * LETTERS / 7.5
    width = min(WIDEST, ((style.WIDTH - left) / columns - right) / (1 + LEADER))
    pitch = (1 + LEADER) * width + right
    panels: dict[str, Axes] = {}
    for index, arm in enumerate(arms):
        row, column = divmod(index, columns)
        bottom = height - HEAD - HIGH - row * (HEAD + HIGH + BELOW)
        begin = left + column * pitch
        place = (begin / style.WIDTH, bottom / height, width / style.WIDTH, HIGH / height)
        shared = next(iter(panels.values()), None)
        panels[arm] = figure.add_axes(place, sharex=shared, sharey=shared)
        _panel(panels[arm], found[arm], places)
        if column:
            panels[arm].tick_params(labelleft=False)
        else:
            panels[arm].set_ylabel("held-out loss (nats)")
        title = labels.arm(arm)
        panels[arm].set_title(title, fontsize=style.fitting(title, 0.9 * pitch, 8.0))
    for arm, axes in panels.items():  # once all have the limits that they share
        style.label_ends(axes, _ends(found[arm], places), size=LETTERS)
    figure_notes.write(figure, figure_notes.runs(collected, arms))
    words = "distance beyond which text is resampled (tokens)"
    middle = (left + (columns * pitch - right) / 2) / style.WIDTH
    figure.text(middle, 0.15 / height, words, ha="center", fontsize=8)
    return figure


def distances(names: Iterable[str]) -> list[int]:
    """The distances that are among the names of measures, ascending.

    >>> distances(["radius.16.loss_nats", "radius.all.loss_nats", "radius.4.loss_nats", "probe.accuracy"])
    [4, 16]
    """
    found = (name.split(".")[1] for name in names if name.startswith("radius."))
    return sorted({int(distance) for distance in found if distance != "all"})


def moments(collected: tidy.Collected, arm: str, places: Iterable[int | None]) -> Moments:
    """What was measured of an arm's kept weights, and at the end of its runs."""
    found: Moments = {}
    for distance in places:
        measure = f"{measures.radius(distance)}.loss_nats"
        for at, estimate in over_training.points(collected, arm, measure).items():
            found.setdefault(at, {})[distance] = estimate
    return dict(sorted(found.items()))


def _panel(axes: Axes, found: Moments, places: dict[int | None, float]) -> None:
    for (_, line), colour in zip(found.items(), _colours(len(found)), strict=True):
        at = [places[distance] for distance in line]
        axes.plot(at, [e.mean for e in line.values()], color=colour, marker="o", markersize=2.8, linewidth=1.1,
                  zorder=3)  # fmt: skip
        style.band(axes, ((places[distance], e) for distance, e in line.items()), colour)
    if not found:
        axes.text(0.5, 0.5, "—", transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
    axes.axvline(places[None] - APART / 2, color=style.FAINT, linewidth=0.8, zorder=1)
    axes.set_xticks(list(places.values()), ["all" if d is None else str(d) for d in places], fontsize=7)
    axes.set_xlim(min(places.values()) - 0.3, places[None] + 0.3)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(axis="y")


def _ends(found: Moments, places: dict[int | None, float]) -> list[tuple[float, float, str, str]]:
    """Where each line ends, and what stands beside it."""
    ends = []
    for (tokens, line), colour in zip(found.items(), _colours(len(found)), strict=True):
        distance, last = list(line.items())[-1]
        ends.append((places[distance], last.mean, _words(tokens), colour))
    return ends


def _colours(moments: int) -> list[str]:
    """From early to late; a moment alone is late."""
    return [to_hex(EARLY_TO_LATE(share)) for share in np.linspace(1, 0, moments)[::-1]]


def _words(tokens: int) -> str:
    """Tokens in millions.

    >>> _words(245_760), _words(3_072_000), _words(25_600)
    ('0.25 M', '3.1 M', '0.026 M')
    """
    return f"{float(f'{tokens / 1e6:.2g}'):g} M"
