"""Every arm's loss under every arm's corruption: trained on the row's, judged under the column's."""

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis import figure_notes, labels, style, summary, tidy
from analysis.study import Study
from mlm import figures, measures

LOWER, HIGHER = "#7CA0C4", "#F08C98"
"""Of the largest loss below the diagonal's and above it, light enough to write on; none is white."""
CELL = 0.46  # inches, of a row


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """Means over seeds; below each its paired difference to the arm that trained on this corruption."""
    arms = asked.arms or list(study.experiment(name).arms)
    columns = [arm for arm in arms if any(len(_values(collected, row, arm)) for row in arms)]
    rows = [arm for arm in arms if any(len(_values(collected, arm, column)) for column in columns)] or arms
    left, bottom = 1.45, 0.2
    wide = (style.WIDTH - left - 0.1) / max(len(columns), 1)
    longest = max((len(labels.arm(arm)) for arm in columns), default=0)
    upright = style.LETTER * longest > wide
    top = 0.52 + (style.LETTER * longest if upright else 0.0)
    height = top + bottom + CELL * len(rows)
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.add_axes(
        (left / style.WIDTH, bottom / height, 1 - (left + 0.1) / style.WIDTH, CELL * len(rows) / height)
    )
    axes.set_xlim(-0.5, max(len(columns), 1) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(range(len(columns)), [labels.arm(arm) for arm in columns], fontsize=7.5)
    if upright:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_yticks(range(len(rows)), [labels.arm(arm) for arm in rows], fontsize=7.5)
    axes.set_title("Held-out loss (nats) under the corruption of", loc="center")
    axes.set_ylabel("trained with", fontweight="bold", fontsize=8.5)
    apart = differences(collected, rows, columns)
    largest = max((abs(found.mean) for found in apart.values()), default=0.0)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            values, size = _values(collected, row, column), max(style.SMALLEST, min(8.0, 16 * wide))
            _cell(axes, i, j, values, apart.get((row, column)), largest, own=row == column, size=size)
    figure_notes.write(figure, figure_notes.runs(collected, rows))
    return figure


def differences(
    collected: tidy.Collected, rows: list[str], columns: list[str]
) -> dict[tuple[str, str], summary.Estimate]:
    """(row, column) -> a loss minus that of the column's own arm, paired by seed, where there is one."""
    found = {}
    for column in columns:
        own = _series(collected, column, column)
        for row in rows:
            estimate = summary.estimate((_series(collected, row, column) - own).dropna().to_numpy(dtype=float))
            if estimate is not None:
                found[row, column] = estimate
    return found


def _series(collected: tidy.Collected, row: str, column: str) -> pd.Series:
    return collected.values(row, f"{measures.under(column)}.loss_nats")


def _values(collected: tidy.Collected, row: str, column: str) -> NDArray[np.float64]:
    return collected.array(row, f"{measures.under(column)}.loss_nats")


def _cell(
    axes: Axes, i: int, j: int, values: NDArray[np.float64], apart: summary.Estimate | None, largest: float, *,
    own: bool, size: float,
) -> None:  # fmt: skip
    if not len(values):
        axes.text(j, i, "—", ha="center", va="center", color=style.MUTED)
        return
    share = min(1.0, abs(apart.mean) / largest) if largest and apart else 0.0
    colour = colors.to_rgba(LOWER if apart and apart.mean < 0 else HIGHER, share)
    axes.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, facecolor=colour, linewidth=0))
    mean, small = labels.number(float(values.mean()), 2), max(style.SMALLEST, 0.82 * size)
    axes.text(j, i if own else i - 0.25, mean, ha="center", va="center", fontsize=size, color=style.INK)
    if own:
        frame = Rectangle(
            (j - 0.46, i - 0.45), 0.92, 0.90, facecolor="none", edgecolor=style.INK, linewidth=1.2
        )
        axes.add_patch(frame)
    elif apart:
        words = labels.number(apart.mean, 2, signed=True)
        half = f"± {labels.number(apart.half_width, 2)}" if apart.n > 1 else ""
        for text, below in ((words, 0.06), (half, 0.31)):
            axes.text(
                j, i + below, text, ha="center", va="center", fontsize=small, color=style.INK, style="italic"
            )
