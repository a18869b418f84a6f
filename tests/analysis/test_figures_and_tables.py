"""Tables that fill no gap; figures that are the same bytes twice and say what they are not."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic

from analysis import (
    contrasts,
    figure_contrasts,
    figures,
    labels,
    outputs,
    panels,
    report_tables,
    study,
    style,
    table,
    tidy,
)
from mlm import grammar

Make = Callable[..., Synthetic]


def test_the_forest_draws_the_results(analysed: Make) -> None:
    """Intervals, seeds and margins where they are; a point is filled exactly where there is a verdict."""
    effects = EFFECTS | {"100-0-0": -0.05, "80-0-20": 0.06, "80-20-0": 0.0, "81-9-10": 0.0}
    made = analysed(effects=effects, spread=0.003)
    results = contrasts.load(made.scale, EXPERIMENT)
    assert {one.verdict for one in results} >= {"supported", "contradicted", "inconclusive", "equivalent"}
    with style.applied():
        forest, equivalences = figure_contrasts.draw(results).axes  # whose dots would hide their intervals
    for result in results:
        axes = equivalences if result.margin else forest
        rows = {text.get_text(): text.get_position()[1] for text in axes.texts}
        y = rows[labels.arm(result.arm)]
        near = [line for line in axes.lines[1:] if abs(float(line.get_ydata()[0]) - y) < 0.5]
        interval, point = (next(line for line in near if line.get_marker() == m) for m in ("None", "o"))
        (ticks,) = [line for line in near if line.get_marker() == "|"]
        assert list(interval.get_xdata()) == [result.low, result.high]
        assert list(ticks.get_xdata()) == list(result.differences)
        assert list(point.get_xdata()) == [result.difference]
        decided = result.verdict in ("supported", "contradicted", "equivalent")
        assert (point.get_markerfacecolor() == "white") != decided
        boxes = [box for box in axes.patches if abs(box.get_y() + box.get_height() / 2 - y) < 0.5]
        ends = [(box.get_x(), box.get_x() + box.get_width()) for box in boxes]
        assert ends == ([(-result.margin, result.margin)] if result.margin else [])


def test_no_end_of_an_interval_is_shown_as_zero_that_is_not(analysed: Make) -> None:
    """Beside `inconclusive` an interval from −0.0004 must not seem to begin at zero."""
    made = analysed(seeds=6)
    result = replace(contrasts.load(made.scale, EXPERIMENT)[0], difference=0.0062, low=-0.0004, high=0.0134)
    result = replace(result, p_holm=0.28125)
    printed = report_tables.contrasts([result])
    row = dict(zip(printed.columns, printed.rows[0], strict=True))
    assert (row["difference"], row["95 % interval"]) == ("+0.0062", "−0.0004 to 0.0134")
    with style.applied():
        texts = [text.get_text() for text in figure_contrasts.draw([result]).axes[0].texts]
    assert "+0.0062 [−0.0004, 0.0134]" in texts
    assert row["Holm p"] == "0.281" and "0.281" in texts


def test_a_kind_that_an_arm_lacks_is_a_dash(analysed: Make) -> None:
    made = analysed(seeds=3)
    planned = study.load(made.scale)
    printed = {p.name: p for p in panels.panels(planned, EXPERIMENT, tidy.load(made.scale, EXPERIMENT))}
    rows = {row[0]: row for row in printed["loss"].rows}
    assert rows["100/0/0"][-2:] == ("—", "—")
    assert rows["0/0/100"][4:6] == ("—", "—")
    assert "—" not in rows["80/10/10"]
    realised = {row[0]: row for row in printed["realised"].rows}
    assert realised["81/9/10"][3:6] == ("81.00", "9.00", "10.00")
    assert [row[0] for row in printed["features"].references] == [
        "untrained encoder",
        "lookup, first piece",
        "lookup, whole word",
    ]


def test_pairs_and_tasks_have_tables_with_what_needs_no_pre_training(analysed: Make) -> None:
    made = analysed(seeds=3)
    collected = tidy.load(made.scale, EXPERIMENT)
    printed = {p.name: p for p in panels.panels(study.load(made.scale), EXPERIMENT, collected)}
    kinds = tuple(kind.replace("_", " ") for kind in grammar.KINDS)
    assert printed["pairs"].columns[2:] == ("all", *kinds)
    row = next(row for row in printed["pairs"].rows if row[0] == "80/10/10")
    mean = collected.array("80-10-10", "pairs.anaphor.accuracy").mean()
    assert row[-1].startswith(f"{mean:.3f} ± ")
    assert printed["pairs"].references == (
        ("untrained encoder", "3", *(f"{0.5 + 0.01 * max(i, 0):.3f} ± 0.000" for i in range(-1, 5))),
        ("token frequencies", "—", *["0.500"] * 6),
    )
    assert printed["tasks"].columns[2:] == ("trec",)
    assert [row[-1] for row in printed["tasks"].references] == ["0.400 ± 0.000", "0.230", "0.710"]


def test_what_is_not_measured_has_no_table_and_the_figures_are_drawn_all_the_same(analysed: Make) -> None:
    made = analysed(seeds=3, off=("probe", "evaluation", "tasks.trec", "reach"))
    planned = study.load(made.scale)
    printed = panels.panels(planned, EXPERIMENT, tidy.load(made.scale, EXPERIMENT))
    assert [panel.name for panel in printed] == ["pairs", "realised"]
    assert [row[:2] for row in printed[0].rows] == [(labels.arm(arm), "3") for arm in EFFECTS]
    table.write(planned, EXPERIMENT)
    figures.write(planned, EXPERIMENT)


def test_tables_and_figures_twice_the_same_bytes(analysed: Make) -> None:
    made = analysed(seeds=3)
    paths = [
        made.root / name for c in ("table", "figures") for name in outputs.files(c, made.scale, EXPERIMENT)
    ]
    bits = []
    for _ in range(2):
        planned = study.load(made.scale)
        table.write(planned, EXPERIMENT)
        figures.write(planned, EXPERIMENT)
        bits.append([path.read_bytes() for path in paths])
    assert bits[0] == bits[1]
    assert all(bits[0])


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 2, "evidence": False},
        {"seeds": 2, "diverged": tuple((arm, seed) for arm in EFFECTS for seed in range(2))},
        {"seeds": 2, "missing": tuple((arm, seed) for arm in EFFECTS for seed in range(2))},
        {"seeds": 1, "effects": {arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0")}},
    ],
    ids=["smoke", "all diverged", "nothing yet", "one seed"],
)
def test_whatever_is_there_can_be_drawn(analysed: Make, options: dict[str, object]) -> None:
    made = analysed(**options)
    planned = study.load(made.scale)
    table.write(planned, EXPERIMENT)
    figures.write(planned, EXPERIMENT)
    text = made.table("table.md").read_text()
    assert ("smoke, not evidence" in text) == (not made.evidence)
    assert ("partial: 0 of 14" in text) == ("missing" in options)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_labels_never_overlap_and_keep_their_order(wanted: list[float]) -> None:
    placed = style.spread(wanted, gap=1.0, low=0.0, high=10.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = [placed[i] for i in order]
    assert all(above - below >= 1 - 1e-9 for below, above in itertools.pairwise(heights))
    assert min(heights) >= -1e-9 and max(heights) <= 10 + 1e-9
