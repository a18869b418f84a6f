"""Forest of the stated contrasts: every pair, the mean, its interval and what follows."""

import textwrap
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from analysis import labels, style
from analysis.contrasts import Result

ROW = 0.29  # inches
HEADING, DIFFERENCE, PAIRS, HOLM, VERDICT = 0.04, 4.82, 5.13, 5.58, 5.67
"""Where the columns of text end or begin, in inches from the left."""
LEFT, WIDE, NARROW = (
    0.96,
    2.37,
    1.7,
)  # inches: where axes begin and how wide they are; these give way to long words
LETTER = 0.0575  # inches of a letter of 7.5 points: most are digits here
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
    names = list(dict.fromkeys(result.measure for result in results))
    groups = [[r for r in results if r.measure == name] for name in names]
    sizes = [len(group) + len({r.family for r in group}) for group in groups]
    top, bottom, between = 0.66, 0.6, 1.05
    layout = _Layout.of(results)
    height = top + bottom + ROW * sum(sizes) + between * (len(groups) - 1)
    figure = Figure(figsize=(style.WIDTH, height))
    y = height - top
    for name, group, size in zip(names, groups, sizes, strict=True):
        y -= ROW * size
        place = layout.left / style.WIDTH, y / height, layout.width / style.WIDTH, ROW * size / height
        _panel(figure.add_axes(place), name, group, size, layout)
        y -= between
    return figure


class _Layout(NamedTuple):
    """Sizes that all panels share, so that they stand below each other."""

    left: float
    width: float
    """Inches, of the axes."""
    arms: float
    differences: float
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


def _panel(axes: Axes, measure: str, results: list[Result], rows: int, layout: _Layout) -> None:
    low, high = _limits(results)
    axes.set_xlim(low, high)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axvline(0, color=style.MUTED, linewidth=0.8, zorder=1)
    place, family = 0, ""
    _aside(axes, HEADING, -1.5, "Differences between arms, paired by seed", ha="left", size=8.5, weight="bold")
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
    base = f" minus {against[0]}" if len(against) == 1 else " minus the one below it"
    axes.set_xlabel(textwrap.fill(f"arm{base}: {labels.measure(measure)}", 52, break_on_hyphens=False))
    if max(abs(low), abs(high)) >= 1e4:
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _against(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(labels.arm(r.against) for r in results))


def _difference(result: Result) -> str:
    digits = labels.digits(result.measure)
    ends = f"[{labels.number(result.low, digits)}, {labels.number(result.high, digits)}]"
    within = "" if result.up_to_tokens is None else f"\n{labels.within(result.up_to_tokens)}"
    return f"{labels.number(result.difference, digits)} {ends}{within}"


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
        _aside(axes, DIFFERENCE, y, "no complete pair", ha="right", size=7.2)
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
            markersize=5.5,
            markerfacecolor=face,
            markeredgecolor=style.INK,
            zorder=4,
        )
        _aside(axes, DIFFERENCE, y, _difference(result), ha="right", size=layout.differences)
    _aside(axes, HOLM, y, labels.number(result.tested[1], 4), ha="right", size=7.2)
    pairs = str(result.n) if result.n == result.planned else f"{result.n}/{result.planned}"
    _aside(axes, PAIRS, y, pairs, ha="right", size=7.2)
    strong = "bold" if result.verdict in FILLED else "normal"
    later = f"\n{result.stated}" if result.stated == "post hoc" else ""
    _aside(axes, VERDICT, y, result.verdict + later, ha="left", size=6.8 if later else 7.2, weight=strong)


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
