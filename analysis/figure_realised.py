"""What was drawn against what was asked for: the share of tokens selected, and what stood in their place."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis import figure_notes, labels, setup, style, summary, tidy
from analysis.study import Study
from mlm import config, measures

ROW = 0.24  # inches
TOP, BOTTOM = 0.55, 0.56  # inches above and below the axes
BESIDE = 0.76  # inches, for the words right of a panel
LEAST = 0.05
"""Percentage points that a panel shows on either side of what was asked for, at least."""
TITLES = {"rate": "selected", "mask": "[MASK]", "same": "same", "random": "random"}
LETTERS = 6.5  # points


def draw(study: Study, name: str, collected: tidy.Collected) -> Figure:
    """A panel a quantity, a row an arm: drawn minus asked for, mean over seeds with 95 % t interval."""
    runs = setup.planned(study, name)
    arms = list(study.experiment(name).arms)
    height = TOP + BOTTOM + ROW * len(arms)
    figure = Figure(figsize=(style.WIDTH, height))
    left = 0.2 + style.LETTER * max([6, *(len(labels.arm(arm)) for arm in arms)])
    pitch = (style.WIDTH - left) / len(TITLES)
    for number, (quantity, title) in enumerate(TITLES.items()):
        place = (
            (left + number * pitch) / style.WIDTH, BOTTOM / height, (pitch - BESIDE) / style.WIDTH,
            ROW * len(arms) / height,
        )  # fmt: skip
        axes = figure.add_axes(place)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=style.MUTED, linewidth=0.8, zorder=1)
        axes.grid(axis="x")
        axes.set_title(title, fontsize=8, pad=15)
        axes.text(1.06, -0.78, "asked → drawn", transform=axes.get_yaxis_transform(), fontsize=LETTERS,
                  color=style.MUTED, va="center")  # fmt: skip
        furthest = LEAST
        for row, arm in enumerate(arms):
            if number == 0:
                axes.text(-0.05, row, labels.arm(arm), transform=axes.get_yaxis_transform(), ha="right",
                          va="center", fontsize=7.5)  # fmt: skip
            furthest = max([furthest, *map(abs, _row(axes, row, collected, arm, runs[arm], quantity))])
        axes.set_xlim(-1.15 * furthest, 1.15 * furthest)
        axes.xaxis.set_major_locator(MaxNLocator(2, symmetric=True))
        axes.xaxis.set_major_formatter(lambda x, _: labels.number(x, None, signed=bool(x)))
        axes.tick_params(axis="x", labelsize=7)
    words = "drawn minus asked for (percentage points)"
    figure.text((left + (style.WIDTH - left) / 2) / style.WIDTH, 0.2 / height, words, ha="center", fontsize=8)
    figure_notes.write(figure, figure_notes.runs(collected, arms))
    return figure


def shares(collected: tidy.Collected, arm: str, quantity: str) -> NDArray[np.float64]:
    """[n] per cent of the ordinary tokens, or of those selected, by seed."""
    part, whole = ("selected", "eligible") if quantity == "rate" else (quantity, "selected")
    counts = [collected.values(arm, f"realised.{key}") for key in (part, whole)]
    found = 100 * counts[0] / counts[1].where(counts[1] > 0)
    return found.dropna().to_numpy(dtype=np.float64)


def asked(run: config.Run, quantity: str) -> float | None:
    """Per cent, over the whole run; None where nothing stands in a token's place."""
    rate, split = measures.corruption(run)
    if quantity == "rate":
        return 100 * rate
    return 100 * split[quantity] if run.corrupts else None


def _row(
    axes: Axes, row: int, collected: tidy.Collected, arm: str, run: config.Run, quantity: str
) -> Iterator[float]:
    """Draw an arm; how far its marks reach."""
    wanted, found = asked(run, quantity), summary.estimate(shares(collected, arm, quantity))
    beside = axes.get_yaxis_transform()
    if wanted is None or found is None:
        axes.text(1.06, row, "—", transform=beside, fontsize=LETTERS, va="center", color=style.MUTED)
        return
    apart = found.mean - wanted
    yield apart
    if found.n > 1:
        ends = found.low - wanted, found.high - wanted
        axes.plot(ends, [row] * 2, color=style.INK, linewidth=1.6, zorder=3)
        yield from ends
    axes.plot([apart], [row], "o", color=style.INK, markersize=4, zorder=4)
    words = f"{labels.number(round(wanted, 2), None)} → {labels.number(found.mean, 2)}"
    axes.text(1.06, row, words, transform=beside, fontsize=LETTERS, va="center")
