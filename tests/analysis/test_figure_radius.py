"""The figure of the context radius: every moment measured is a line of the right arm, early to late."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_experiments as more
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from synthetic_results import Synthetic

from analysis import collect, figure_captions, figure_radius, study, style, tidy
from analysis.study import Study
from mlm import figures, layout

Make = Callable[..., Synthetic]
PLACES = [0, 2, 4, 4 + figure_radius.APART]
NAMES = [f"radius.{distance}.loss_nats" for distance in (1, 4, 16, "all")]


def collected(make: Make, **told: Any) -> tuple[Study, tidy.Collected]:
    made = make(seeds=1, effects={"80-10-10": 0.0})
    more.radius(made, **told)
    planned = study.load(made.scale)
    collect.collect(planned, "radius")
    return planned, tidy.load(made.scale, "radius")


def panels(planned: Study, found: tidy.Collected, **asked: Any) -> dict[str, Axes]:
    with style.applied():
        drawn = figure_radius.draw(planned, "radius", found, figures.Figure(kind="radius", **asked))
    return {axes.get_title(loc="left"): axes for axes in drawn.axes}


def lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == "o"]


def bands(axes: Axes) -> list[FillBetweenPolyCollection]:
    found = (one for one in axes.collections if isinstance(one, FillBetweenPolyCollection))
    return [band for band in found if band.get_paths()]


def grey(line: Line2D) -> float:
    red, green, blue = to_rgb(line.get_color())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_line_is_the_means_of_a_moment_and_lines_get_darker_as_training_goes_on(make: Make) -> None:
    planned, found = collected(make, seeds=2)
    arms = planned.experiment("radius").arms
    drawn = panels(planned, found)
    assert tuple(drawn) == arms and len(arms) == 8
    for arm, axes in drawn.items():
        *kept, end = lines(axes)
        means = [found.array(arm, name).mean() for name in NAMES]
        assert list(end.get_xdata()) == PLACES and end.get_ydata() == pytest.approx(means)
        for line, tokens in zip(kept, more.ON_THE_WAY, strict=True):
            c = found.curves[(found.curves["arm"] == arm) & (found.curves["tokens"] == tokens)]
            means = [c[c["measure"] == name]["value"].mean() for name in NAMES]
            assert list(line.get_xdata()) == PLACES and line.get_ydata() == pytest.approx(means)
        greys = [grey(line) for line in (*kept, end)]
        assert greys[0] > greys[1] + 0.1 > greys[2] + 0.2
        told = ["0.12 M", "0.25 M", "0.98 M" if arm.startswith("mlm") else "0.49 M"]
        assert [text.get_text() for text in axes.texts] == told
        assert [text.get_color() for text in axes.texts] == [line.get_color() for line in (*kept, end)]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16", "all"]


def test_a_band_is_the_interval_over_seeds(make: Make) -> None:
    planned, found = collected(make, seeds=3)
    arm = planned.experiment("radius").arms[-1]
    (*_, band) = bands(panels(planned, found)[arm])
    at_one = found.array(arm, NAMES[0])
    half = 4.302652729911275 * at_one.std(ddof=1) / math.sqrt(3)  # t of two degrees of freedom, 97.5 %
    ys = band.get_paths()[0].vertices
    assert sorted({y for x, y in ys if x == 0}) == pytest.approx([at_one.mean() - half, at_one.mean() + half])


def test_where_only_the_end_is_measured_it_alone_is_drawn_and_late(make: Make) -> None:
    planned, found = collected(make, seeds=2, kept=False)
    for axes in panels(planned, found).values():
        (end,) = lines(axes)
        assert end.get_color() == style.line(0)[0] and len(axes.texts) == 1


def test_arms_are_drawn_as_named_and_of_missing_runs_nothing_is_made_up(make: Make) -> None:
    planned, _ = collected(make, seeds=3)
    for cell in planned.cells("radius"):
        if cell.arm == "mlm-64" or (cell.arm == "causal-16" and cell.seed):
            (layout.RESULTS / "runs" / cell.digest / "run.json").unlink()
    collect.collect(planned, "radius")
    found = tidy.load(planned.scale, "radius")
    drawn = panels(planned, found, arms=["causal-16", "mlm-64", "mlm-16"])
    assert list(drawn) == ["causal-16", "mlm-64", "mlm-16"]
    assert [(len(lines(axes)), len(bands(axes))) for axes in drawn.values()] == [(3, 0), (0, 0), (3, 3)]
    assert list(lines(drawn["causal-16"])[-1].get_ydata()) == [found.values("causal-16", n)[0] for n in NAMES]
    assert [text.get_text() for text in drawn["mlm-64"].texts] == ["—"]
    with style.applied():  # with nothing at all to draw
        figure_radius.draw(planned, "radius", found, figures.Figure(kind="radius", arms=["mlm-64"]))


def test_its_caption_says_what_is_resampled(make: Make) -> None:
    planned, _ = collected(make, seeds=1)
    assert (
        "all text further from it than a distance" in figure_captions.of(planned.experiment("radius"))["radius"]
    )
