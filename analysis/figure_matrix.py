"""Every arm's loss under every arm's corruption: trained on the row's, judged under the column's."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis import figure_notes, labels, style, tidy
from analysis.study import Study
from mlm import figures, measures

LIGHT, DARK = 1.0, 0.35
"""Greys of no difference to the diagonal and of the largest; text turns white on the darker half."""
CELL = 0.4  # inches, of a row


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """Means over seeds; below each its paired mean difference to the arm that trained on this corruption."""
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
    largest = float(np.nanmax(np.abs(apart), initial=0.0)) if np.isfinite(apart).any() else 0.0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            _cell(
                axes,
                i,
                j,
                _values(collected, row, column),
                apart[i, j],
                largest,
                row == column,
                min(8.0, 16 * wide),
            )
    figure_notes.write(figure, figure_notes.lost(collected, rows))
    return figure


def differences(collected: tidy.Collected, rows: list[str], columns: list[str]) -> NDArray[np.float64]:
    """[rows, columns] mean over seeds of a loss minus that of the column's own arm; NaN where unknown."""
    found = np.full((len(rows), len(columns)), math.nan)
    for j, column in enumerate(columns):
        own = _series(collected, column, column)
        for i, row in enumerate(rows):
            paired = (_series(collected, row, column) - own).dropna()
            found[i, j] = paired.mean() if len(paired) else math.nan
    return found


def _series(collected: tidy.Collected, row: str, column: str) -> pd.Series:
    return collected.values(row, f"{measures.under(column)}.loss_nats")


def _values(collected: tidy.Collected, row: str, column: str) -> NDArray[np.float64]:
    return collected.array(row, f"{measures.under(column)}.loss_nats")


def _cell(
    axes: Axes,
    i: int,
    j: int,
    values: NDArray[np.float64],
    apart: float,
    largest: float,
    own: bool,
    size: float,
) -> None:
    if not len(values):
        axes.text(j, i, "—", ha="center", va="center", color=style.MUTED)
        return
    share = min(1.0, abs(apart) / largest) if largest and math.isfinite(apart) else 0.0
    grey = LIGHT - (LIGHT - DARK) * share
    axes.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, facecolor=str(grey), linewidth=0))
    ink = "white" if grey < 0.47 else style.INK
    axes.text(
        j,
        i if own else i - 0.17,
        labels.number(float(values.mean()), 2),
        ha="center",
        va="center",
        fontsize=size,
        color=ink,
    )
    if own:
        axes.add_patch(
            Rectangle((j - 0.46, i - 0.45), 0.92, 0.90, facecolor="none", edgecolor=style.INK, linewidth=1.2)
        )
    elif math.isfinite(apart):
        text = labels.number(apart, 2, signed=True)
        axes.text(j, i + 0.22, text, ha="center", va="center", fontsize=0.82 * size, color=ink, style="italic")
