"""Forest of the stated contrasts: every pair, the mean, its interval and what follows."""

from itertools import chain
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis import labels, style
from analysis.contrasts import Result
from analysis.printed import DASH

ROW = 0.29  # inches
HEADING, DIFFERENCE, PAIRS, HOLM, VERDICT = 0.06, 4.72, 4.98, 5.45, 5.54
"""Where the columns of text end or begin, in inches from the left."""
LEFT, WIDE, NARROW = (
    0.96,
    2.37,
    1.7,
)  # inches: where axes begin and how wide they are; these give way to long words
LETTER = 0.0575  # inches of a letter of 7.5 points: most are digits here
DOT = 5.5  # points
HEADINGS = {
    "primary": "Primary",
    "secondary": "Secondary",
    "equivalence": "Equivalence",
}
FILLED = {"supported", "contradicted", "equivalent"}
"""Verdicts at the level; their points are filled."""
UNBOUNDED = {"arrowstyle": "->", "color": style.MUTED, "linewidth": 0.9, "linestyle": ":", "shrinkB": 0}


def draw(results: list[Result]) -> Figure:
    """One panel a measure, for measures have units of their own."""
    names = dict.fromkeys(result.measure for result in results)
    layout = _Layout.of(results)
    groups = list(
        chain.from_iterable(_apart([r for r in results if r.measure == name], layout) for name in names)
    )
    sizes = [len(group) + len({r.family for r in group}) for group in groups]
    top, bottom, between = 0.46, 0.46, 0.94
    height = top + bottom + ROW * sum(sizes) + between * max(len(groups) - 1, 0)
    figure = Figure(figsize=(style.WIDTH, height))
    y = height - top
    for group, size in zip(groups, sizes, strict=True):
        y -= ROW * size
        place = layout.left / style.WIDTH, y / height, layout.width / style.WIDTH, ROW * size / height
        _panel(figure.add_axes(place), group, size, layout)
        y -= between
    return figure


class _Layout(NamedTuple):
    """Sizes that all panels share, so that they stand below each other."""

    left: float
    width: float
    """Inches, of the axes."""
    arms: float
    numbers: float
    """Points."""

    @classmethod
    def of(cls, results: list[Result]) -> "_Layout":
        names = [line for result in results for line in _versus(result, results)]
        numbers = [line for result in results for line in _difference(result).splitlines()]
        name, number = (max(map(len, lines), default=1) for lines in (names, numbers))
        left = max(LEFT, 0.16 + style.LETTER * name * 6.8 / 7.5)
        for points in (7.2, 6.6, style.SMALLEST):
            width = min(WIDE, DIFFERENCE - 0.1 - LETTER * number * points / 7.5 - left)
            if width >= NARROW:
                break
        return cls(left, max(width, 1.0), style.fitting("x" * name, left - 0.16, 7.8), points)


def _versus(result: Result, results: list[Result]) -> list[str]:
    """The arm; below it the one it is compared with, where there are several in a panel."""
    beside = [other for other in results if other.measure == result.measure]
    against = [f"− {labels.arm(result.against)}"] if len(_against(beside)) > 1 else []
    return [labels.arm(result.arm), *against]


def _apart(results: list[Result], layout: _Layout) -> list[list[Result]]:
    """Equivalences have axes of their own where their dots would hide their intervals on those of all."""
    low, high = _limits(results)
    same = [r for r in results if r.margin is not None]
    points = layout.width * 72 / (high - low)
    ends = [(r.low, r.high) for r in same if r.low is not None and r.high is not None]
    if all(points * (above - below) >= DOT for below, above in ends):
        return [results]
    others = [r for r in results if r.margin is None]
    return [others, same] if others else [same]


def _panel(axes: Axes, results: list[Result], rows: int, layout: _Layout) -> None:
    measure = results[0].measure
    low, high = _limits(results)
    axes.set_xlim(low, high)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axvline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    place, family = 0, ""
    title = labels.title(measure)
    size = style.fitting(title, style.WIDTH - 2 * HEADING, 8.5)
    _aside(axes, HEADING, -1.5, title, ha="left", size=size, weight="bold")
    for title, x in (
        ("difference [95 % interval]", DIFFERENCE),
        ("n", PAIRS),
        ("Holm p", HOLM),
        ("verdict", VERDICT),
    ):
        side = "left" if title == "verdict" else "right"
        _aside(axes, x, -0.72, title, ha=side, color=style.MUTED, size=6.8)
    for result in results:
        if result.family != family:
            family = result.family
            _aside(axes, HEADING, place, HEADINGS[family], ha="left", weight="bold", size=7.5)
            place += 1
        _row(axes, result, place, low, high, "\n".join(_versus(result, results)), layout)
        place += 1
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    against = _against(results)
    apart = f"arm minus {against[0]}" if len(against) == 1 else "upper arm minus lower arm"
    axes.set_xlabel(f"difference: {apart}")
    unit, letter = labels.scale(measure)
    axes.xaxis.set_major_formatter(lambda x, _: labels.number(x / unit, None) + (letter if x else ""))
    style.round_ticks(axes, layout.width)


def _against(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(labels.arm(r.against) for r in results))


def _difference(result: Result) -> str:
    unit, letter = labels.scale(result.measure)
    shown = [None if x is None else x / unit for x in (result.difference, result.low, result.high)]
    digits = labels.telling(2 if letter else result.digits, *shown)
    low, high = (labels.number(end, digits) for end in shown[1:])
    end = result.up_to_tokens
    within = "" if end is None else f"\nwithin the first {labels.number(end / unit, 2)}{letter}"
    return f"{labels.number(shown[0], digits, signed=True)}{letter} [{low}, {high}]{within}"


def _row(axes: Axes, result: Result, y: int, low: float, high: float, versus: str, layout: _Layout) -> None:
    _aside(
        axes, layout.left - 0.07, y, versus, ha="right", size=min(layout.arms, 6.8 if "\n" in versus else 7.8)
    )
    if result.margin is not None:
        box = Rectangle(
            (-result.margin, y - 0.42), 2 * result.margin, 0.84, color="#dfe8f1", linewidth=0, zorder=0
        )
        axes.add_patch(box)
    if result.difference is None:
        _aside(axes, DIFFERENCE, y, "no complete pair", ha="right", size=layout.numbers)
    else:
        axes.plot(
            result.differences,
            [y + 0.26] * result.n,
            "|",
            color=style.MUTED,
            markersize=3.5,
            alpha=0.8,
            zorder=2,
        )
        if result.low is not None and result.high is not None and result.bounded:
            axes.plot([result.low, result.high], [y, y], color=style.INK, linewidth=1.8, zorder=3)
        elif result.low is not None:
            for end in (low, high):
                axes.annotate("", xy=(end, y), xytext=(result.difference, y), arrowprops=UNBOUNDED)
        face = style.INK if result.verdict in FILLED else "white"
        axes.plot(
            [result.difference],
            [y],
            "o",
            markersize=DOT,
            markerfacecolor=face,
            markeredgecolor=style.INK,
            zorder=4,
        )
        _aside(axes, DIFFERENCE, y, _difference(result), ha="right", size=layout.numbers)
    p = result.tested[1]
    held = DASH if p is None else labels.p_value(p).removeprefix("= ")
    _aside(axes, HOLM, y, held, ha="right", size=layout.numbers)
    pairs = str(result.n) if result.n == result.planned else f"{result.n}/{result.planned}"
    _aside(axes, PAIRS, y, pairs, ha="right", size=layout.numbers)
    strong = "bold" if result.verdict in FILLED else "normal"
    later = f"\n{result.stated}" if result.stated == "post hoc" else ""
    size = min(layout.numbers, 6.8) if later else layout.numbers
    _aside(axes, VERDICT, y, result.verdict + later, ha="left", size=size, weight=strong)


def _aside(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    ha: str,
    size: float,
    color: str = style.INK,
    weight: str = "normal",
) -> None:
    """Text beside the axes: x in inches from the left of the figure, y in rows."""
    place = axes.get_position()
    axes.text(
        (x / style.WIDTH - place.x0) / place.width,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        ha=ha,
        va="center",
        fontsize=size,
        color=color,
        fontweight=weight,
        clip_on=False,
    )


def _limits(results: list[Result]) -> tuple[float, float]:
    ends = [0.0]
    for result in results:
        ends += [*result.differences, *((result.low or 0.0, result.high or 0.0) if result.bounded else ())]
        ends += [-result.margin, result.margin] if result.margin is not None else []
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low or 1.0)
    return low - room, high + room
