"""Figures that every experiment has: what was drawn beside what was asked for, and loss for what is spent."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import synthetic_experiments as more
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from synthetic_results import EXPERIMENT, Synthetic

from analysis import (
    collect,
    contrasts,
    figure_contrasts,
    figure_layers,
    figure_pareto,
    figure_realised,
    labels,
    runs,
    study,
    style,
    tidy,
)
from analysis.figure_pareto import Point
from mlm import config

Make = Callable[..., Synthetic]
THREE = {"80-10-10": 0.0, "0-0-100": -0.2, "causal": -0.1}
POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from("abc")), max_size=30)


@pytest.fixture
def loaded(make: Make) -> tuple[study.Study, tidy.Collected]:
    made = make(effects=THREE, seeds=3, diverged=(("0-0-100", 2),), changes={"causal": {"objective": "causal"}})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    return planned, tidy.load(made.scale, EXPERIMENT)


def test_shares_are_those_of_the_counts_and_stand_beside_what_was_asked_for(
    loaded: tuple[study.Study, tidy.Collected],
) -> None:
    planned, collected = loaded
    for arm in THREE:
        cells = [cell for cell in planned.cells(EXPERIMENT) if cell.arm == arm]
        records = [r for cell in cells if (r := runs.run(cell.digest)) and r.status == "finished"]
        wanted = [100 * record.realised.random / record.realised.selected for record in records]
        assert figure_realised.shares(collected, arm, "random") == pytest.approx(wanted)
    with style.applied():
        figure = figure_realised.draw(planned, EXPERIMENT, collected)
    rate, mask, same, random = figure.axes
    words = [text.get_text() for text in random.texts]
    assert words[1:] == ["10 → 10.00", "100 → 100.00", "—"]
    assert [text.get_text() for text in mask.texts][-1] == "—" == [text.get_text() for text in same.texts][-1]
    dots = [line for line in rate.lines if line.get_marker() == "o"]
    expected = [figure_realised.shares(collected, arm, "rate").mean() - asked
                for arm, asked in zip(THREE, (15, 15, 100), strict=True)]  # fmt: skip
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx(expected)
    assert rate.get_xlim()[0] < min(expected)


def test_what_is_asked_for_follows_a_schedule_over_the_whole_run() -> None:
    change = {"shape": "linear", "rate": 0.3}
    run = config.Run.model_validate({"masking": {"rate": 0.1, "change": change}, "budget_tokens": 4_096_000})
    assert figure_realised.asked(run, "rate") == pytest.approx(20, abs=0.1)
    assert figure_realised.asked(config.Run.model_validate({"objective": "causal"}), "mask") is None


@given(POINTS)
def test_the_front_is_what_nothing_beats(raw: list[tuple[int, int, str]]) -> None:
    points = [Point(*one) for one in raw]
    front = figure_pareto.front(points)
    for point in points:
        beaten = any(
            (other.spent, other.loss) != (point.spent, point.loss)
            and other.spent <= point.spent and other.loss <= point.loss
            for other in points
        )  # fmt: skip
        assert ((point.spent, point.loss) in {(one.spent, one.loss) for one in front}) is not beaten
    assert all(a.spent < b.spent and a.loss > b.loss for a, b in itertools.pairwise(front))


def test_loss_is_drawn_against_tokens_operations_and_the_seconds_that_it_took(
    loaded: tuple[study.Study, tidy.Collected],
) -> None:
    planned, collected = loaded
    with style.applied():
        tokens, operations = figure_pareto.draw(planned, EXPERIMENT, collected).axes
        (seconds,) = figure_pareto.seconds(planned, EXPERIMENT, collected).axes
    cells = [cell for cell in planned.cells(EXPERIMENT) if cell.arm == "80-10-10"]
    records = [record for cell in cells if (record := runs.run(cell.digest))]
    lines = [[line for line in runs.metrics(record) if line["event"] == "evaluation"] for record in records]
    losses = np.mean([[line["yardstick"]["loss_nats"] for line in of] for of in lines], axis=0)
    took = np.mean([[line["train_seconds"] for line in of] for of in lines], axis=0)
    spent = [np.array([line["tokens"] for line in lines[0]]) / 1e6, None, took]
    for axes, x in zip((tokens, operations, seconds), spent, strict=True):
        drawn = axes.lines[0]
        assert drawn.get_ydata() == pytest.approx(losses)
        if x is not None:
            assert drawn.get_xdata() == pytest.approx(x)
        assert (
            len([line for line in axes.lines if line.get_color() == figure_pareto.FRONT]) == 2
        )  # causal apart
    flops = records[0].flops / 1e12
    assert operations.lines[0].get_xdata()[-1] == pytest.approx(flops)
    assert {text.get_text() for text in operations.texts} == {labels.arm(arm) for arm in THREE}


def test_an_experiment_without_a_probe_has_no_empty_axes(make: Make) -> None:
    made = make(seeds=1, effects={"80-10-10": 0.0, "100-0-0": 0.0})
    more.rate(made, seeds=1)
    planned = study.load(made.scale)
    collect.collect(planned, "rate")
    figure = figure_layers.draw(planned.experiment("rate"), tidy.load(made.scale, "rate"))
    assert not figure.axes and "not probed" in figure.texts[0].get_text()


def grey(colour: str) -> float:
    """Luma of a colour, as a printer or a photocopier makes of it (ITU-R BT.601)."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def test_no_two_arms_look_alike_and_those_of_one_grey_have_other_dashes_and_markers() -> None:
    looks = [style.line(index) for index in range(24)]
    assert len(set(looks)) == len(looks)
    for a, b in itertools.combinations(looks[:8], 2):
        assert a[1] != b[1] or abs(grey(a[0]) - grey(b[0])) > 0.15
        assert a[2] != b[2]


def test_long_words_in_the_forest_stay_readable_and_do_not_run_into_each_other(make: Make) -> None:
    made = make(effects={"80-10-10": 0.0, "100-0-0": -0.03})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    contrasts.write(planned, EXPERIMENT)
    (first, *_) = contrasts.load(made.scale, EXPERIMENT)
    row = {"measure": "reach.unigram-0.5.tokens", "difference": -1_643_936.0, "low": -2_110_196.0,
           "high": -1_163_651.0, "differences": (-1.6e6,) * 8}  # fmt: skip
    long = [
        first.__class__(**{**vars(first), **row, "arm": f"mlm-256-at-0.00{n}", "against": against})
        for n, against in enumerate(("short-first-flops", "narrow-first"))
    ]
    with style.applied():
        figure = figure_contrasts.draw(long)
        figure.canvas.draw()  # type: ignore[attr-defined]
    (axes,) = figure.axes
    texts = [text for text in axes.texts if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= style.SMALLEST
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes.values())
    for text, box in boxes.items():
        if text.startswith("−1,643,936"):
            assert box.x0 > axes.bbox.x1
        if text.startswith("mlm-256"):
            assert box.x1 < axes.bbox.x0
