"""Published tables: tied to our experiments by name, set beside our pairs, and told as the verdicts fell."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_results import EXPERIMENT, Synthetic

from analysis import contrasts, published, sentences, tidy
from analysis.published import Pair
from mlm import yaml_file
from mlm.errors import InputError

Make = Callable[..., Synthetic]


def pair(
    theirs: float, difference: float | None, verdict: str | None, row: str = "100-0-0", low: float | None = None
) -> Pair:
    return Pair(row, theirs, "a", "b", difference, low, low, verdict)


def test_every_arm_that_a_published_row_is_set_beside_is_an_arm_of_the_experiment() -> None:
    for name in published.names():
        source = published.load(name)
        for experiment in source.experiments:
            stated = yaml_file.read(Path(f"experiments/{experiment}.yaml"), "")
            arms = yaml_file.read(Path(f"experiments/{stated.get('extends', experiment)}.yaml"), "")["arms"]
            missing = [source.arm(row) for row in source.rows if source.arm(row) not in arms]
            # Two of that table's rates lie between ours, and its last is above all.
            between = [f"{rate} %, 100/0/0" for rate in (20, 50, 80)]
            assert missing == (between if name == "wettig" else [])


def test_differences_are_those_of_the_contrasts_where_one_is_stated(analysed: Make) -> None:
    made = analysed()
    collected, results = tidy.load(made.scale, EXPERIMENT), contrasts.load(made.scale, EXPERIMENT)
    c2 = published.load("c2")
    found = published.pairs(c2, "probe.accuracy", results, collected)
    assert [one.theirs for one in found] == [-0.9, -0.3, -0.2, -0.3, -0.3]
    stated = {r.arm: r for r in results if r.margin is None}
    for one in found:
        of = stated[one.arm]
        assert (one.difference, one.low, one.high, one.verdict) == pytest.approx(
            (of.difference, of.low, of.high, of.verdict)
        )
    columns, rows = published.beside(c2, found)
    assert len(rows) == 6 and {len(row) for row in rows} == {len(columns)}
    assert rows[0][-3:] == ("0", "0", "—") and rows[1][4] == "−0.9" and rows[1][-1] == "supported"
    without = published.pairs(c2, "probe.accuracy", [], collected)
    assert {one.shape for one in without} == {"described"}
    assert [one.difference for one in without] == [one.difference for one in found]
    means = {arm: float(collected.array(arm, "probe.accuracy").mean()) for arm in c2.rows}
    ours = max(means, key=lambda arm: means[arm])
    assert published.highest(c2, "probe.accuracy", collected) == ("80-10-10", ours)


def test_a_contrast_that_was_changed_after_results_only_describes(analysed: Make) -> None:
    made = analysed()
    c2, collected = published.load("c2"), tidy.load(made.scale, EXPERIMENT)
    results = contrasts.load(made.scale, EXPERIMENT)
    late = [replace(one, stated="post hoc") for one in results]
    before, after = (published.pairs(c2, "probe.accuracy", some, collected) for some in (results, late))
    assert any(one.shape != "described" for one in before)
    assert {one.shape for one in after} == {"described"}
    assert [one.verdict for one in after] == [one.verdict for one in before]
    told = published.beside(c2, after)[1]
    assert any(row[-1].endswith(", post hoc") for row in told)


def test_rows_whose_arms_are_not_there_have_dashes_and_nothing_is_said_of_them(analysed: Make) -> None:
    made = analysed(seeds=2)
    collected = tidy.load(made.scale, EXPERIMENT)
    wettig = published.load("wettig")
    found = published.pairs(wettig, "probe.accuracy", [], collected)
    assert len(found) == 8 and not any(one.comparable for one in found)
    assert published.beside(wettig, found)[1][1][-3:] == ("—", "—", "—")
    assert published.highest(wettig, "probe.accuracy", collected) is None
    assert sentences.shapes(found) == "No published difference has a counterpart here yet."
    assert found[-1].theirs == 0.6, "80/10/10 is compared with 80/10/10"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([pair(-0.9, -0.1, "supported")], "*Reproduced*, that is tested here and found with the"),
        ([pair(-0.9, 0.1, "contradicted")], "*Reversed*, tested and found with the other sign: 100/0/0."),
        ([pair(-0.9, -0.1, "inconclusive")], "*Open*, stated as a contrast and not decided: 100/0/0."),
        ([pair(-0.9, -0.1, "descriptive")], "*Open*, stated as a contrast and not decided: 100/0/0."),
        ([pair(-0.9, -0.1, "partial")], "*Open*, stated as a contrast and not decided: 100/0/0."),
        ([pair(-0.9, -0.1, None)], "All are described and not tested"),
        ([pair(0.0, -0.1, None), pair(0.3, 0.1, "supported", "x")], "two published differences one can"),
    ],
    ids=["supported", "contradicted", "inconclusive", "descriptive", "partial", "not stated", "no sign"],
)  # fmt: skip
def test_each_verdict_is_told_as_what_it_is(found: list[Pair], said: str) -> None:
    told = sentences.shapes(found)
    assert said in told
    assert sum(word in told for word in ("*Reproduced*", "*Reversed*", "*Open*", "not tested")) == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("baseline: 80-10-10", "baseline: 80-1-1", "c2.baseline: no row is called '80-1-1'"),
        ("compare: glue", "compare: blue", "ankner.compare: no column is called 'blue'"),
        (
            "    40 %, 80/10/10: 15 %, 80/10/10",
            "    40 %, 80/10/10: 15 %",
            "wettig.against: no row is called '15 %'",
        ),
        ("mnli: 84.3, ner: 94.9", "mnlu: 84.3, ner: 94.9", "rows.100-0-0: mnl"),
    ],
)
def test_a_slip_in_the_file_is_named(make: Make, old: str, new: str, problem: str) -> None:
    made = make(seeds=1)
    file = made.root / "paper" / "published.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=r"published\.yaml") as refused:
        for name in published.names():
            published.load(name)
    assert problem in str(refused.value)
