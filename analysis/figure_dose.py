"""A measure against a number of the configuration: a line for each value of other keys, seeds as points."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from analysis import figure_notes, labels, printed, reached, setup, style, tidy
from analysis.study import Study
from mlm import figures

Line = dict[float, str]
"""Place on the x axis -> arm."""


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """Mean over seeds with 95 % t interval; lines in the order of the experiment file."""
    measure = asked.measure or study.experiment(name).primary_measure
    found = lines(study, name, asked)
    figure = Figure(figsize=(style.WIDTH, 3.5))
    axes = figure.add_axes((0.095, 0.155, 0.89 - style.room(found), 0.775))
    if asked.log:
        axes.set_xscale("log")
    ends = []
    last = max(x for line in found.values() for x in line)
    for index, (text, line) in enumerate(found.items()):
        look = style.line(index)
        drawn = _line(axes, collected, measure, line, look, asked, index - (len(found) - 1) / 2)
        if not drawn or not text:
            continue
        place, x, y = drawn[-1]
        if place == last:
            ends.append((x, y, text, look[0]))
        else:  # from far inside, what leads to a label would pass for the line
            axes.annotate(text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=look[0],
                          fontsize=7.5)  # fmt: skip
    places = sorted({x for line in found.values() for x in line})
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{x:g}" for x in places]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06, y=0.06)
    axes.grid(axis="y")
    axes.set_xlabel(labels.key(str(asked.x)))
    axes.set_title(labels.title(measure), color=style.INK)
    style.label_ends(axes, ends)
    shown = [arm for line in found.values() for arm in line.values()]
    figure_notes.write(figure, [*figure_notes.runs(collected, shown), *_lost(collected, measure, shown)])
    return figure


def _lost(collected: tidy.Collected, measure: str, arms: Sequence[str]) -> Iterator[str]:
    """Arms of which some run's cost of reaching a loss is not known: a median stands, or dots alone."""
    told = {arm: one for arm in arms if (one := reached.of(collected, arm, measure)) and one.censored}
    for words, middle in (("Medians, as not all runs come to the loss", True), ("Without a median", False)):
        mine = [f"{labels.arm(arm)} {one}" for arm, one in told.items()
                if (printed.middle(collected, arm, measure).at is not None) == middle]  # fmt: skip
        if mine:
            yield f"{words}: {', '.join(mine)}"


def lines(study: Study, name: str, asked: figures.Figure) -> dict[str, Line]:
    """Words on the values of `by` -> the arms along the x axis."""
    runs = setup.planned(study, name)
    found: dict[str, Line] = {}
    for arm in asked.arms or study.experiment(name).arms:
        words = ", ".join(labels.setting(key, figures.setting(runs[arm], key)) for key in asked.by)
        found.setdefault(words, {})[float(figures.setting(runs[arm], str(asked.x)))] = arm
    return {words: dict(sorted(line.items())) for words, line in found.items()}


def _line(
    axes: Axes, collected: tidy.Collected, measure: str, line: Line, look: style.Look, asked: figures.Figure,
    place: float,
) -> list[tuple[float, float, float]]:  # fmt: skip
    """Draw one line; the places on the x axis that have a middle, each with x and y of where that is drawn."""
    colour, dash, marker = look
    middles = []
    # Lines stand a little aside from each other, so that their intervals can be told apart.
    apart = 0.012 * place
    width = max(line) - min(line) or 1.0
    for x, arm in line.items():
        at = x * (1 + 3 * apart) if asked.log else x + apart * width
        values = collected.array(arm, measure)
        axes.plot(
            [at] * len(values),
            values,
            "o",
            color=colour,
            markersize=2.4,
            alpha=0.45,
            markeredgewidth=0,
            zorder=2,
        )
        middle = printed.middle(collected, arm, measure)
        if middle.ends is not None:
            axes.plot([at] * 2, middle.ends, color=colour, linewidth=1.2, zorder=3)
        if middle.at is not None:
            middles.append((x, at, middle.at))
    if middles:
        axes.plot(
            *zip(*(one[1:] for one in middles), strict=True),
            color=colour,
            linestyle=dash,
            linewidth=1.2,
            marker=marker,
            markersize=4.5,
            zorder=4,
        )
    return middles
