"""One look for all figures: colours that survive colour blindness and grey, direct labels, same bytes twice."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.summary import Estimate
from mlm.files import write_atomically

INK, MUTED, FAINT, WARNING = "#1a1a1a", "#666666", "#d9d9d9", "#b03030"
LETTER = 0.064  # inches that a letter of 7.5 points takes, most of the time
SMALLEST = 6.0  # points, of any text
WIDTH = 6.4  # inches: a text block's width, so that type is as large in print as it says

Dash = str | tuple[float, tuple[float, ...]]
Look = tuple[str, Dash, str]
"""Colour, dash and marker."""

# Paul Tol's "bright" scheme (personal.sron.nl/~pault), reordered so that neighbours differ in grey too;
# dash and marker tell arms apart where colour does not, and colours of one grey have different dashes.
_LINES: tuple[Look, ...] = (
    ("#222222", "-", "o"),
    ("#EE6677", "-", "s"),
    ("#4477AA", (0, (5, 1.5)), "^"),
    ("#228833", (0, (1.2, 1.2)), "D"),
    ("#AA3377", (0, (5, 1.5, 1.2, 1.5)), "v"),
    ("#66A9D6", (0, (2.6, 0.9)), "P"),
    ("#B8A010", (0, (3, 1, 1, 1, 1, 1)), "X"),
    ("#999933", (0, (8, 2)), "h"),
)
REFERENCE: Look = (MUTED, (0, (1, 2)), "_")
_SETTINGS: dict[Any, Any] = {
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same outlines everywhere
    "mathtext.fontset": "dejavusans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#ececec",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "mlm",
}
EPOCH = "1700000000"
"""The moment that files with a date are given, so that building them twice gives the same bytes."""


def logarithmic(axis: Axis) -> None:
    """Marks at 1, 2 and 5 times the powers of ten of a logarithmic axis, written out."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
    axis.set_minor_formatter(NullFormatter())


def band(axes: Axes, points: Iterable[tuple[float, Estimate]], colour: str, alpha: float = 0.18) -> None:
    """Intervals along a line, where there is more than one value to have one."""
    there = [(at, estimate) for at, estimate in points if estimate.n > 1]
    low, high = [estimate.low for _, estimate in there], [estimate.high for _, estimate in there]
    axes.fill_between([at for at, _ in there], low, high, color=colour, alpha=alpha, linewidth=0, zorder=2)


def millions() -> FuncFormatter:
    """Ticks of an axis of tokens.

    >>> millions()(1_250_000), millions()(-500_000)
    ('1.25 M', '−0.5 M')
    """
    return FuncFormatter(lambda tokens, _: f"{tokens / 1e6:g} M".replace("-", "−"))


def round_ticks(axes: Axes, inches: float, most: int = 5) -> None:
    """Ticks of the x axis at round numbers, so few that their labels do not run together.

    Args:
        inches: how wide the axes are, whose limits are those that stay.
    """
    low, high = axes.get_xlim()
    for number in range(most, 1, -1):
        axes.xaxis.set_major_locator(MaxNLocator(number, steps=[1, 2, 5, 10]))
        places = axes.get_xticks()
        longest = max(map(len, axes.xaxis.get_major_formatter().format_ticks(list(places))))
        if (longest + 2) * LETTER <= inches * (places[1] - places[0]) / (high - low):
            return


def line(index: int) -> Look:
    """Colour, dash and marker of the arm at a place of the experiment file.

    Past the last colour the first ones come again, with the dashes and markers of others.

    >>> line(0)[0] == line(8)[0], line(0)[1:] == line(8)[1:]
    (True, False)
    """
    again, place = divmod(index, len(_LINES))
    return (_LINES[place][0], *_LINES[(place + 3 * again) % len(_LINES)][1:])


def every(moments: int, index: int, most: int) -> tuple[int, int]:
    """First and distance of the moments that have a marker: all up to `most`, then fewer, each arm's elsewhere.

    >>> every(10, 3, most=16), every(80, 3, most=16)
    ((0, 1), (3, 10))
    """
    if moments <= most:
        return 0, 1
    apart = -(-2 * moments // most)
    return index % apart, apart


def fitting(text: str, inches: float, largest: float) -> float:
    """Points of a text that is not to be longer; never below `SMALLEST`."""
    return max(SMALLEST, min(largest, 7.5 * inches / (LETTER * max(1, len(text)))))


@contextmanager
def applied() -> Iterator[None]:
    """The style, for the figures made inside; the caller's settings come back after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        for key, value in _SETTINGS.items():
            mpl.rcParams[key] = value
        yield


@contextmanager
def _fonts_without_layout() -> Iterator[None]:
    """Fonts are cut to the glyphs that are drawn, without their rules of ligatures and kerning.

    A PDF places glyphs by number and reads no such rule; following them took most of the time of a figure.
    """
    before = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*before, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = before


def save(figure: Figure, place: Path, name: str) -> None:
    """Write a figure as SVG, PDF and PNG (200 dots an inch) without dates, atomically."""
    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = EPOCH
    try:
        for kind, changing in (("svg", "Date"), ("pdf", "CreationDate"), ("png", "Software")):
            buffer = io.BytesIO()
            with _fonts_without_layout():
                figure.savefig(buffer, format=kind, metadata={changing: None}, dpi=200)
            write_atomically(place / f"{name}.{kind}", buffer.getvalue())
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
        else:
            os.environ["SOURCE_DATE_EPOCH"] = before


def mark(figure: Figure, marks: Sequence[str]) -> None:
    """A discreet line in the corner of the figure that says what it is not."""
    if marks:
        figure.text(
            0.995,
            0.006,
            " · ".join(marks),
            ha="right",
            va="bottom",
            fontsize=7,
            style="italic",
            color=WARNING,
        )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near the wanted ones, at least `gap` apart and within [low, high], in the order given.

    Labels that would overlap are moved as a block about their common mean (pool adjacent violators).

    >>> spread([1.0, 1.0, 3.0], gap=0.5, low=0.0, high=4.0)
    [0.75, 1.25, 3.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, list[int]]] = []  # (lowest height, members)
    for index in order:
        block = (wanted[index], [index])
        while blocks and blocks[-1][0] + gap * len(blocks[-1][1]) > block[0]:
            below = blocks.pop()
            members = below[1] + block[1]
            start = sum(wanted[i] - gap * k for k, i in enumerate(members)) / len(members)
            block = (start, members)
        blocks.append(block)
    placed = [0.0] * len(wanted)
    for start, members in blocks:
        inside = max(low, min(start, high - gap * (len(members) - 1)))
        for k, index in enumerate(members):
            placed[index] = inside + gap * k
    # Moving a block inside may push it onto the next one: settle upwards, then downwards.
    for previous, index in pairwise(order):
        placed[index] = max(placed[index], placed[previous] + gap)
    if order:
        placed[order[-1]] = min(placed[order[-1]], high)
    for following, index in pairwise(order[::-1]):
        placed[index] = min(placed[index], placed[following] - gap)
    return placed


def room(texts: Iterable[str]) -> float:
    """Share of a figure's width that `label_ends` takes beside the axes, leaders included."""
    return (0.33 + LETTER * max((len(text) for text in texts), default=0)) / WIDTH


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], *, size: float = 7.5) -> None:
    """Write labels to the right of the axes, joined to where their lines end, without overlap.

    Args:
        ends: x and y of a line's end in data units, text, colour.
    """
    if not ends:
        return
    limits = axes.get_xlim(), axes.get_ylim()
    figure = axes.get_figure(root=True)
    assert figure is not None
    inches = axes.get_position().height * figure.get_figheight()
    within = axes.transData + axes.transAxes.inverted()
    points = [within.transform((x, y)) for x, y, _, _ in ends]
    places = spread([float(y) for _, y in points], 1.25 * size / 72 / inches, 0.0, 1.0)
    for (x, y), (_, _, text, colour), place in zip(points, ends, places, strict=True):
        start = float(x) + 0.008
        leader = ([start, max(start, 1.0) + 0.012, 1.040, 1.050], [y, y, place, place])
        axes.plot(
            *leader, transform=axes.transAxes, color=colour, linewidth=0.6, clip_on=False, solid_capstyle="butt"
        )
        axes.text(1.058, place, text, transform=axes.transAxes, color=colour, fontsize=size, va="center")
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
