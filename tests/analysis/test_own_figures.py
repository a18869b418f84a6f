"""Figures that an experiment asks for: what they show is what was measured, and nothing is dropped unsaid."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic_experiments as more
from matplotlib import colors
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from synthetic_results import EXPERIMENT, Synthetic, write_json

from analysis import (
    collect,
    contrasts,
    figure_arms,
    figure_captions,
    figure_contrasts,
    figure_dose,
    figure_leaving,
    figure_matrix,
    figure_over,
    figures,
    labels,
    leaving,
    outputs,
    report,
    study,
    style,
    tidy,
)
from analysis.study import Study
from mlm import config, yaml_file
from mlm import figures as asked
from mlm.errors import InputError
from mlm.experiment import Experiment
from mlm.files import read_json

Make = Callable[..., Synthetic]
Ready = Callable[[Callable[[Synthetic], None], str], tuple[Study, tidy.Collected]]
BASE = {"80-10-10": 0.0, "100-0-0": -0.03}


@pytest.fixture
def ready(make: Make) -> Ready:
    """ready(write, name) collects an experiment that `write` adds to a study."""

    def build(write: Callable[[Synthetic], None], name: str) -> tuple[Study, tidy.Collected]:
        made = make(seeds=2, effects=BASE)
        write(made)
        planned = study.load(made.scale)
        collect.collect(planned, name)
        contrasts.write(planned, name)
        return planned, tidy.load(made.scale, name)

    return build


def test_slopes_are_those_the_runs_were_made_with_and_every_run_is_drawn(ready: Ready) -> None:
    planned, collected = ready(lambda made: more.credit(made, lost=2.6), "credit")
    figure = planned.experiment("credit").figures[0]
    found = leaving.lines(planned, "credit", collected, figure)
    assert [(line.learning_rate, line.words) for line in found] == list(
        itertools.product(more.LEARNING_RATES, ("MLM", "causal"))
    )
    censored = sum(int(line.censored.sum()) for line in found)
    assert sum(len(line.seeds) for line in found) == 8 * 18 and censored > 8
    for line in found:
        slope = line.estimate()
        assert slope is not None and line.begun == 0
        assert slope.low < more.SLOPES["causal" if line.words == "causal" else "mlm"] < slope.high
    late = found[-2]
    assert [cell.left for cell in late.cells()][-1] == 0 and late.cells()[-1].median is None
    assert set(found[1].candidates) == {8.5, 32.5, 128.5}
    difference = leaving.apart(found[0], found[1])
    assert difference is not None and difference.low > 0
    assert difference.value == pytest.approx((found[0].slope() or 0) - (found[1].slope() or 0))

    with style.applied():
        drawn = figure_leaving.draw(planned, "credit", collected, figure)
    marks = [
        line
        for axes in drawn.axes
        for line in axes.lines
        if len(line.get_xdata()) and line.get_marker() not in ("_", "None")
    ]
    still = [line for line in marks if line.get_markerfacecolor() == "white"]
    assert len(still) == censored
    assert {float(line.get_ydata()[0]) for line in still} == {float(more.LOOKED_AT)}
    left = [line for line in marks if line.get_alpha() == 0.6]
    assert sum(len(line.get_xdata()) for line in left) == 8 * 18 - censored
    assert [axes.texts[-1].get_text() for axes in drawn.axes] == [
        f"learning rate {rate:g}" for rate in more.LEARNING_RATES
    ]


def test_a_dose_has_a_line_a_value_and_its_means_over_seeds(ready: Ready) -> None:
    planned, collected = ready(more.rate, "rate")
    figure = planned.experiment("rate").figures[0]
    lines = figure_dose.lines(planned, "rate", figure)
    assert {words: list(line) for words, line in lines.items()} == {
        "80/10/10": list(more.RATES),
        "100/0/0": list(more.RATES),
    }
    with style.applied():
        axes = figure_dose.draw(planned, "rate", collected, figure).axes[0]
    means = [line for line in axes.lines if len(line.get_xdata()) == 4 and line.get_marker() != "None"]
    for line, arms in zip(means, lines.values(), strict=True):
        expected = [collected.array(arm, "test.yardstick.loss_nats").mean() for arm in arms.values()]
        assert line.get_ydata() == pytest.approx(expected)
    assert {text.get_text() for text in axes.texts} == {"80/10/10", "100/0/0"}


def test_a_line_that_ends_inside_has_its_words_beside_it(ready: Ready) -> None:
    planned, collected = ready(more.rate, "rate")
    arms = [f"80-10-10-at-{100 * r:g}" for r in more.RATES]
    figure = asked.Figure(kind="dose", x="masking.rate", by=["masking.split"], arms=[*arms, "100-0-0-at-15"])
    with style.applied():
        axes = figure_dose.draw(planned, "rate", collected, figure).axes[0]
    leaders = [line for line in axes.lines if not line.get_clip_on()]
    beside = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(leaders) == 1 and [text.get_text() for text in beside] == ["100/0/0"]
    mean = collected.array("100-0-0-at-15", "test.yardstick.loss_nats").mean()
    assert beside[0].xy == pytest.approx((0.15, mean), rel=0.1)


def test_a_dose_of_a_cost_has_medians_where_some_runs_do_not_come_to_the_loss(ready: Ready) -> None:
    """A mean over the runs that do would be too low."""
    planned, collected = ready(lambda made: more.credit(made, lost=2.6), "credit")
    measure, rate = "reach.unigram-0.5.tokens", more.LEARNING_RATES[-1]
    arms = [f"mlm-{group}-at-{rate:g}" for group in more.GROUPS]
    figure = asked.Figure(kind="dose", x="attention.group", measure=measure, arms=arms, log=True)
    with style.applied():
        drawn = figure_dose.draw(planned, "credit", collected, figure)
    ends = {x for line in drawn.axes[0].lines if line.get_marker() == "o" and line.get_markersize() > 4
            for x in line.get_xdata()}  # fmt: skip
    reached = [len(collected.array(arm, measure)) for arm in arms]
    assert reached[-1] < 4 and len(ends) == sum(
        n >= 4 for n in reached
    )  # of fewer than half there is no median
    (note,) = (text.get_text() for text in drawn.texts)
    assert f"Without a median: {arms[-1]} {reached[-1]} of 8" in note
    dots = [line for line in drawn.axes[0].lines if line.get_markersize() == 2.4]
    assert [len(line.get_xdata()) for line in dots] == reached  # none is dropped


def test_runs_that_had_left_at_first_leave_a_line_without_a_slope(ready: Ready) -> None:
    planned, collected = ready(more.credit, "credit")
    figure = planned.experiment("credit").figures[0]
    mine = (collected.results["arm"] == "mlm-16-at-0.001") & (collected.results["seed"] == 0)
    for what in ("begun", "censored"):
        here = mine & (collected.results["measure"] == f"reach.unigram-0.5.{what}")
        collected.results.loc[here, "value"] = 1.0
    first, second, *_ = leaving.lines(planned, "credit", collected, figure)
    assert first.begun == 1 and first.estimate() is None and second.estimate() is not None
    assert leaving.apart(first, second) is None


def test_arms_are_rows_in_the_order_of_the_file_under_their_groups(ready: Ready) -> None:
    planned, collected = ready(more.rate, "rate")
    with style.applied():
        axes = figure_arms.draw(planned, "rate", collected, planned.experiment("rate").figures[1]).axes[0]
    shown = [text.get_text() for text in axes.texts]
    arms = planned.experiment("rate").arms
    assert [text for text in shown if text in {*arms, "80/10/10", "100/0/0"}] == [
        "80/10/10", *arms[:4], "100/0/0", *arms[4:],
    ]  # fmt: skip
    seeds = [line for line in axes.lines if len(line.get_xdata()) == 8]
    assert len(seeds) == len(arms)
    assert sorted(seeds[3].get_xdata()) == sorted(collected.array(arms[3], "test.yardstick.loss_nats"))


def test_the_matrix_is_paired_with_the_arm_whose_corruption_it_is(ready: Ready) -> None:
    planned, collected = ready(more.corruptions, "corruptions")
    arms = list(planned.experiment("corruptions").arms)
    found = figure_matrix.differences(collected, arms, arms)
    assert [found[arm, arm].mean for arm in arms] == pytest.approx([0, 0, 0])
    under = [collected.array(arm, "corruption.0-0-100.loss_nats") for arm in (arms[0], "0-0-100")]
    apart = found[arms[0], "0-0-100"]
    assert apart.mean == pytest.approx((under[0] - under[1]).mean())
    with style.applied():
        axes = figure_matrix.draw(planned, "corruptions", collected, asked.Figure(kind="matrix")).axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert labels.number(apart.mean, 2, signed=True) in shown
    assert f"± {labels.number(apart.half_width, 2)}" in shown
    tints = {
        tuple(round(at) for at in patch.get_center()): patch.get_facecolor()
        for patch in axes.patches
        if isinstance(patch, Rectangle) and patch.get_fill() and patch.get_facecolor()[3]
    }
    for (row, column), estimate in found.items():
        if row != column:
            *rgb, depth = tints[arms.index(column), arms.index(row)]
            tint = figure_matrix.LOWER if estimate.mean < 0 else figure_matrix.HIGHER
            assert rgb == list(colors.to_rgb(tint))
            assert depth == pytest.approx(abs(estimate.mean) / max(abs(each.mean) for each in found.values()))


def test_operations_end_with_those_of_the_run(ready: Ready) -> None:
    _, collected = ready(more.corruptions, "corruptions")
    growing = {"lengths": {"shape": "staged", "values": [16, 64]}, "budget_tokens": 1_048_576}
    run = config.Run.model_validate(growing)
    tokens, done = figure_over.operations(run, collected, "80-10-10")
    assert (tokens[-1], done[-1]) == (1_048_576, collected.array("80-10-10", "training.flops")[0])
    assert done[len(done) // 2] / done[-1] < 0.5  # short sequences cost less


def test_own_figures_are_written_as_said_twice_the_same_bytes_and_stand_on_the_page(ready: Ready) -> None:
    planned, _ = ready(more.corruptions, "corruptions")
    own = [one.stem for one in planned.experiment("corruptions").figures]
    paths = [Path(path) for path in outputs.files("figures", planned.scale, "corruptions", own)]
    assert {path.stem for path in paths} == {*asked.EVERY, "matrix", "over", "operations"}
    bits = []
    for _ in range(2):
        figures.write(planned, "corruptions")
        bits.append([path.read_bytes() for path in paths])
    assert bits[0] == bits[1]
    report.write(planned, "corruptions")
    page = outputs.report(planned.scale, "corruptions").read_text()
    captions = figure_captions.of(planned.experiment("corruptions"))
    for name in own:
        assert f'id="{name}-caption"' in page and captions[name].split(".")[0].replace("'", "&#39;") in page


def test_runs_that_began_past_the_plateau_are_told_of(ready: Ready) -> None:
    def write(made: Synthetic) -> None:
        def values(arm: str, seed: int, run: config.Run) -> dict[str, float]:
            begun = seed == 0
            found = {"reach.unigram-0.5.censored": float(begun), "reach.unigram-0.5.begun": float(begun)}
            return found | ({} if begun else {"reach.unigram-0.5.tokens": 1e5 * (seed + 1)})

        arms: dict[str, dict[str, Any]] = {f"g{g}": {"attention": {"group": g}} for g in (16, 64)}
        more.add(made, "begun", arms, values, [{"kind": "leaving"}], [{"arm": "g64"}], seeds=4,
                 measure="reach.unigram-0.5.tokens")  # fmt: skip

    planned, collected = ready(write, "begun")
    (line,) = leaving.lines(planned, "begun", collected, planned.experiment("begun").figures[0])
    assert (len(line.seeds), line.begun) == (6, 2)
    with style.applied():
        drawn = figure_leaving.draw(planned, "begun", collected, planned.experiment("begun").figures[0])
    assert any("not drawn: 2. n = 4 seeds" in text.get_text() for text in drawn.texts)
    assert contrasts.load(planned.scale, "begun")[0].verdict == "descriptive"


@pytest.mark.parametrize(
    ("figure", "problem"),
    [
        ({"kind": "pie"}, r"figures.0.kind: is 'pie'; choose one of"),
        ({"kind": "dose"}, r"figures.0: x: missing"),
        ({"kind": "matrix", "x": "tokens"}, r"x: does not go with kind: matrix"),
        ({"kind": "over", "x": "seconds"}, r"x: is 'seconds'; choose one of tokens, flops"),
        ({"kind": "arms", "by": ["a", "b"]}, r"by: one key groups"),
        ({"kind": "radius", "log": True}, r"log: does not go with kind: radius; known keys: kind, name, arms"),
        ({"kind": "arms", "name": "curves"}, r"two figures are called curves"),
        ({"kind": "arms", "lg": True}, r"lg: unknown key; did you mean `log`"),
    ],
)
def test_a_figure_that_says_nothing_sensible_is_refused(figure: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        yaml_file.validated(Experiment, {"figures": [figure]}, "experiments/x.yaml")


def test_a_figure_that_could_not_be_drawn_is_told_before_the_start() -> None:
    changes: dict[str, dict[str, Any]] = {"a": {}, "b": {"budget_tokens": 8192}, "c": {"objective": "causal"}}
    runs = {arm: config.Run.model_validate(own) for arm, own in changes.items()}
    known = {arm: ["probe.accuracy"] for arm in runs}

    def told(**figure: Any) -> list[str]:
        return list(
            asked.problems("x.yaml", [asked.Figure(**figure)], "probe.accuracy", list(runs), runs, known)
        )

    assert told(kind="arms") == told(kind="dose", x="budget_tokens", arms=["a", "b"]) == []
    assert "figures.0.arms: no arm is called 'd'; there are: a, b, c" in told(kind="arms", arms=["d"])[0]
    assert "no arm has the measure pairs.accuracy" in told(kind="arms", measure="pairs.accuracy")[0]
    assert "no run has encoder.hight" in told(kind="arms", by=["encoder.hight"])[0]
    assert "objective of arm a is 'mlm', no number" in told(kind="dose", x="objective", arms=["a"])[0]
    assert "a and b have the same place" in told(kind="dose", x="masking.rate", arms=["a", "b"])[0]
    assert told(kind="dose", x="masking.rate", by=["objective"], arms=["a", "c"]) == []
    assert "the measure reach.unigram-0.5.observed_tokens" in told(kind="leaving")[0]
    known["a"] += ["reach.4.4.tokens"]  # of a yardstick loss a run does not say how far it was looked at
    assert "the measure reach.4.4.observed_tokens" in told(kind="leaving", level="4.4")[0]
    assert "the measure corruption.a.loss_nats" in told(kind="matrix")[0]
    assert "no arm has the measure radius.all.loss_nats" in told(kind="radius")[0]
    known["b"].append("radius.all.loss_nats")
    assert told(kind="radius") == [] and len(told(kind="radius", arms=["a", "c"])) == 1


def test_labels_and_captions_hold_for_causal_arms_too(make: Make) -> None:
    made = make(seeds=1, effects=BASE)
    captions = figure_captions.of(study.load(made.scale).experiment(EXPERIMENT))
    assert "[MASK]" not in labels.measure("test.yardstick.loss_nats")
    assert "a causal one has the text to their left" in captions["curves"]


def test_contrasts_against_several_arms_name_both(ready: Ready) -> None:
    def write(made: Synthetic) -> None:
        more.rate(made, seeds=2)
        path = made.results / made.scale / "study.json"
        content = read_json(path, "")
        content["experiments"]["rate"]["contrasts"][1]["against"] = "100-0-0-at-60"
        write_json(path, content)

    planned, _ = ready(write, "rate")
    results = contrasts.load(planned.scale, "rate")
    with style.applied():
        texts = [text.get_text() for text in figure_contrasts.draw(results).axes[0].texts]
    assert "80-10-10-at-60\n− 80-10-10-at-15" in texts and "100-0-0-at-15\n− 100-0-0-at-60" in texts
    with style.applied():
        texts = [text.get_text() for text in figure_contrasts.draw(results[:1]).axes[0].texts]
    assert "80-10-10-at-60" in texts
