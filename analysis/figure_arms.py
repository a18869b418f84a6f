"""A measure of each arm: every seed a point, the mean with its interval, in the order of the file."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figure_notes, labels, printed, reached, setup, style, tidy
from analysis.study import Experiment, Study
from mlm import figures

ROW = 0.27  # inches
RIGHT, TOP, BOTTOM = 1.45, 0.5, 0.45  # inches around the axes


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """One row an arm, under a heading a group where `by` groups them."""
    experiment = study.experiment(name)
    measure = asked.measure or experiment.primary_measure
    rows = _rows(study, name, asked)
    height = TOP + BOTTOM + ROW * len(rows)
    figure = Figure(figsize=(style.WIDTH, height))
    left = 0.2 + style.LETTER * max([8, *(len(labels.arm(arm)) for _, arm in rows if arm)])
    width = style.WIDTH - left - RIGHT
    axes = figure.add_axes((left / style.WIDTH, BOTTOM / height, width / style.WIDTH, ROW * len(rows) / height))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    base = printed.middle(collected, experiment.baseline, measure).at
    drawn = [arm for _, arm in rows if arm]
    if base is not None and experiment.baseline in drawn:
        axes.axvline(base, color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for place, (heading, arm) in enumerate(rows):
        if arm is None:
            axes.text(
                -left / width + 0.03, place, heading, transform=axes.get_yaxis_transform(), fontweight="bold",
                fontsize=7.5, va="center", clip_on=False,
            )  # fmt: skip
        else:
            _row(axes, place, arm, collected, measure, experiment)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.margins(x=0.05)
    if measure.endswith(".tokens"):
        axes.xaxis.set_major_formatter(style.millions())
    axes.autoscale_view()
    style.round_ticks(axes, width, 6)
    axes.set_xlabel(labels.measure(measure))
    told = [reached.of(collected, arm, measure) for arm in drawn]
    lost = any(one is not None and one.censored for one in told)
    heads = "mean ± half the\n95 % interval" + (", or median\n(runs that came there)" if lost else "")
    axes.text(
        1.02, -0.5, heads, transform=axes.get_yaxis_transform(), fontsize=6.8, color=style.MUTED, va="bottom"
    )
    figure_notes.write(figure, figure_notes.runs(collected, drawn))
    return figure


def _rows(study: Study, name: str, asked: figures.Figure) -> list[tuple[str, str | None]]:
    """(heading, None) or (heading, arm), from the top."""
    arms = asked.arms or list(study.experiment(name).arms)
    if not asked.by:
        return [("", arm) for arm in arms]
    groups: dict[str, list[str]] = {}
    runs = setup.planned(study, name)
    for arm in arms:
        groups.setdefault(labels.setting(asked.by[0], figures.setting(runs[arm], asked.by[0])), []).append(arm)
    rows: list[tuple[str, str | None]] = []
    for heading, members in groups.items():
        rows += [(heading, None), *((heading, arm) for arm in members)]
    return rows


def _row(
    axes: Axes, place: int, arm: str, collected: tidy.Collected, measure: str, experiment: Experiment
) -> None:
    values = collected.array(arm, measure)
    beside = axes.get_yaxis_transform()
    weight = "bold" if arm == experiment.baseline else "normal"
    axes.text(
        -0.02,
        place,
        labels.arm(arm),
        transform=beside,
        ha="right",
        va="center",
        fontsize=7.8,
        fontweight=weight,
    )
    late = reached.unreached(collected, arm, measure).to_numpy()
    # Seeds lie side by side in their order, so that equal values are still told apart.
    aside = place + 0.13 + 0.18 * np.linspace(0, 1, len(values))
    axes.plot(values, aside, "o", markersize=2.6, color=style.MUTED, alpha=0.75, markeredgewidth=0, zorder=2)
    aside = place + np.linspace(-0.28, 0.31, len(late))
    axes.plot(
        late,
        aside,
        ">",
        markersize=3,
        color=style.MUTED,
        markerfacecolor="white",
        markeredgewidth=0.6,
        zorder=2,
    )
    unit, letter = labels.scale(measure)
    middle, interval, text = printed.middle(
        collected, arm, measure, unit, 2 if letter else labels.digits(measure)
    )
    told = reached.of(collected, arm, measure)
    text += letter if middle is not None else ""
    text += f" ({told})" if told is not None and told.censored else ""
    if interval is not None:
        axes.plot(interval, [place] * 2, color=style.INK, linewidth=1.8, zorder=3)
    if middle is not None:
        axes.plot([middle], [place], "o", markersize=5, color=style.INK, zorder=4)
    axes.text(1.02, place, text, transform=beside, va="center", fontsize=7.2)
