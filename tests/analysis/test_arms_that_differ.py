"""What arms do not share is told by arm: objectives, schedules, budgets, beginnings, losses reached."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import BUDGET, EXPERIMENT, MEASURE_FILES, Synthetic, write_json

from analysis import (
    collect,
    comparison_content,
    contrasts,
    figure_arms,
    figure_contrasts,
    figures,
    numbers,
    outputs,
    panels,
    report_content,
    runs,
    sentences,
    study,
    style,
    table,
    tidy,
)
from analysis.printed import Panel
from analysis.quote import Quoter
from mlm import config, measures, schedules
from mlm.errors import InputError
from mlm.figures import Figure
from mlm.files import read_json

Make = Callable[..., Synthetic]
TWO = {"80-10-10": 0.0, "100-0-0": -0.03}
MIXED = {"80-10-10": 0.0, "causal": -0.03}
CAUSAL = {"causal": {"objective": "causal", "masking": {"predicted": 0.15}}}


def printed(made: Synthetic) -> dict[str, Panel]:
    collected = tidy.load(made.scale, EXPERIMENT)
    return {panel.name: panel for panel in panels.panels(study.load(made.scale), EXPERIMENT, collected)}


def cells(panel: Panel) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(panel.columns, row, strict=True)) for row in panel.rows}


def ids(made: Synthetic) -> dict[str, Any]:
    return dict(numbers.of(study.load(made.scale), EXPERIMENT))


def means(made: Synthetic) -> dict[tuple[str, str], dict[str, str]]:
    table.write(study.load(made.scale), EXPERIMENT)
    with made.table("table.csv").open() as stream:
        return {(row["row"], row["measure"]): row for row in csv.DictReader(stream)}


def with_contrast(made: Synthetic, measure: str) -> contrasts.Result:
    """The primary contrast, on another measure."""
    path = made.results / made.scale / "study.json"
    content = read_json(path, "")
    content["experiments"][EXPERIMENT]["contrasts"][0]["measure"] = measure
    write_json(path, content)
    contrasts.write(study.load(made.scale), EXPERIMENT)
    return contrasts.load(made.scale, EXPERIMENT)[0]


@pytest.mark.parametrize(
    ("lost", "decay", "end", "verdict"),
    [
        ({("100-0-0", seed): "never" for seed in (0, 1, 2)}, 1_572_864, 1_048_576, "inconclusive"),
        ({("100-0-0", seed): "never" for seed in range(8)}, 1_572_864, 1_048_576, "contradicted"),
        ({("80-10-10", seed): "never" for seed in range(8)}, 1_800_000, 786_432, "supported"),
    ],
    ids=["some", "all", "an arm that decays sooner"],
)
def test_a_loss_that_not_every_run_reaches_is_compared_up_to_where_all_were_looked_at(
    analysed: Make, lost: dict[tuple[str, int], str], decay: int, end: int, verdict: str
) -> None:
    """That is the last evaluation before the learning rate decays in either arm; evaluations are 2¹⁸ apart."""
    made = analysed(effects=TWO, unreached=lost, changes={"100-0-0": {"optimizer": {"decay_tokens": decay}}})
    trunks = [schedules.trunk_tokens(runs.planned(digest)) for digest in made.digests.values()]
    assert min(trunks) // 2**18 * 2**18 == end
    result = with_contrast(made, "reach.5.tokens")
    assert (result.verdict, result.untested, result.n, result.up_to_tokens) == (verdict, False, 8, end)
    assert result.note == (
        f"compared up to {end:,} tokens, before which {len(lost)} of 16 runs do not come down to the loss"
    )
    assert (result.difference or 0) == pytest.approx(
        sum((end - 600_000) * (1 if arm == "100-0-0" else -1) for arm, _ in lost) / 8, abs=1
    )
    assert len(result.runs) == 16 and set(result.runs) == set(made.digests.values())
    planned, quote = study.load(made.scale), Quoter(ids(made))
    within = f"within the first {end:,} tokens"
    for said in (sentences.verdict(result, quote, 1), sentences.headline(result, quote)):
        assert f"{within}" in said and "95 % interval" in said
    assert "only complete pairs" not in sentences.verdict(result, quote, 1)
    told = report_content.build(planned, EXPERIMENT).contrasts
    assert (
        told.rows[0][0] == f"100/0/0 − 80/10/10, {within}"
        and "within the first n tokens" in told.caption.lower()
    )
    with style.applied():
        texts = [text.get_text() for text in figure_contrasts.draw([result]).axes[0].texts]
        assert [text for text in texts if text.endswith(f"]\nwithin the first {end / 1e6:.2f} M")]
    shown = comparison_content.content(planned, [EXPERIMENT])["experiments"][0]["after"]["reach.5.tokens"]
    assert shown["100-0-0"]["difference"] is None
    assert f"compared up to {end:,} tokens" in shown["100-0-0"]["verdicts"][0]["detail"]


def test_a_run_past_the_loss_from_the_start_gives_no_verdict(analysed: Make) -> None:
    made = analysed(effects=TWO, unreached={("80-10-10", 7): "begun", ("100-0-0", 1): "never"})
    result = with_contrast(made, "reach.5.tokens")
    assert (result.verdict, result.untested, result.n) == ("descriptive", True, 6)
    told = "7 of 8 runs of 100/0/0; the loss is reached by 8 of 8, 1 from the start runs of 80/10/10"
    assert result.note == f"the loss is reached by {told}"
    assert (result.p, result.p_holm, result.low, result.high) == (None, None, None, None)
    quote = Quoter(ids(made))
    for said in (sentences.verdict(result, quote, 1), sentences.headline(result, quote)):
        assert "95 %" not in said and "so few seeds" not in said and told in said
    figures.write(study.load(made.scale), EXPERIMENT)


def test_a_loss_that_every_run_reaches_is_tested_as_any_other_measure(analysed: Make) -> None:
    result = with_contrast(analysed(effects=TWO), "reach.5.tokens")
    assert (result.verdict, result.n, result.note, result.untested) == ("supported", 8, "", False)
    assert result.up_to_tokens is None


def test_an_untested_contrast_keeps_its_place_in_its_family(analysed: Make) -> None:
    effects = {"80-10-10": 0.0, "80-0-20": -0.1, "80-20-0": -0.1}
    made = analysed(effects=effects, unreached={("80-0-20", 0): "never"})
    first = with_contrast(made, "reach.5.flops")
    second = contrasts.load(made.scale, EXPERIMENT)[1]
    assert first.verdict == "descriptive" and second.p is not None
    assert second.p_holm == pytest.approx(2 * second.p)


def test_means_of_reaching_stand_beside_how_many_do(analysed: Make) -> None:
    lost = {("100-0-0", 0): "never", ("100-0-0", 1): "begun", ("80-10-10", 2): "begun"}
    made = analysed(seeds=4, effects=TWO, unreached=lost)
    rows = cells(printed(made)["reach"])
    assert [row["reached"] for row in rows.values()] == ["4 of 4, 1 from the start", "3 of 4, 1 from the start"]
    assert (rows["100/0/0"]["5 nats: tokens"], rows["100/0/0"]["teraFLOPs"]) == ("—", "—")
    row = means(made)["100-0-0", "reach.5.tokens"]
    assert (float(row["n"]), row["reached"]) == (2, "3 of 4, 1 from the start")
    entries = ids(made)
    key = "split.100-0-0.reach.5.tokens.mean"
    assert entries[key]["n"] == 2 and len(entries[key]["runs"]) == 2
    assert Quoter(entries).num(key) == "600,001 (reached by 3 of 4, 1 from the start)"


def test_a_figure_of_reaching_shows_every_run_and_no_mean_over_some(analysed: Make) -> None:
    lost = {("80-0-20", 3): "never", **{("100-0-0", seed): "never" for seed in range(5)}}
    made = analysed(effects={**TWO, "80-0-20": -0.01}, unreached=lost)
    planned, collected = study.load(made.scale), tidy.load(made.scale, EXPERIMENT)
    measure = "reach.5.tokens"
    with style.applied():
        asked = Figure(kind="arms", measure=measure, arms=["80-10-10", "80-0-20", "100-0-0"])
        axes = figure_arms.draw(planned, EXPERIMENT, collected, asked).axes[0]
    late = [line.get_xdata() for line in axes.lines if line.get_marker() == ">"]
    assert [len(line) for line in late] == [0, 1, 5]
    times = [collected.array(arm, measure) for arm in asked.arms]
    assert all((late[place] > times[place].max()).all() for place in (1, 2))
    large = [float(line.get_xdata()[0]) for line in axes.lines if line.get_markersize() == 5]
    # Seven of eight: the fourth to come there is the median; three of eight: nobody knows it.
    assert large == [pytest.approx(times[0].mean()), sorted(times[1])[3]]
    said = [text.get_text() for text in axes.texts]
    assert "— (3 of 8)" in said and any(one.endswith(" M (7 of 8)") for one in said)
    rows = cells(printed(made)["reach"])  # as the figure has it
    shown = {arm: (row["5 nats: tokens"], row["teraFLOPs"]) for arm, row in rows.items()}
    assert shown["100/0/0"] == ("—", "—")
    assert shown["80/0/20"] == (f"median {sorted(times[1])[3]:,.0f}", "—")
    assert " ± " in shown["80/10/10"][0]


def test_of_no_run_that_reaches_there_is_no_mean_and_it_is_told(analysed: Make) -> None:
    made = analysed(seeds=2, effects=TWO, unreached={("100-0-0", seed): "never" for seed in (0, 1)})
    assert cells(printed(made)["reach"])["100/0/0"]["5 nats: tokens"] == "—"
    row = means(made)["100-0-0", "reach.5.tokens"]
    assert (row["mean"], float(row["n"]), row["reached"]) == ("", 0, "0 of 2")
    assert cells(printed(made)["reach"])["100/0/0"]["reached"] == "0 of 2"


def test_fine_tuning_that_diverged_leaves_a_finished_run_without_its_value(make: Make) -> None:
    made = make(seeds=8, effects=TWO)
    path = made.folder("100-0-0", 3) / MEASURE_FILES["tasks.trec"]
    write_json(path, read_json(path, "") | {"values": {}, "counts": {"restarts": 5, "diverged": 1}})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    found = tidy.load(made.scale, EXPERIMENT)
    assert not found.partial and found.runs["finished"] == 16
    assert found.values("100-0-0", "trec.accuracy").index.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert found.values("100-0-0", "count.tasks.trec.diverged")[3] == 1
    assert with_contrast(made, "trec.accuracy").note == "100/0/0 has no value at seed 3"
    write_json(path, read_json(path, "") | {"counts": {"restarts": 5, "diverged": 0}})
    with pytest.raises(InputError, match="values: none"):
        collect.collect(planned, EXPERIMENT)


def test_predicted_are_counted_and_of_a_causal_arm_nothing_is_corrupted(analysed: Make) -> None:
    made = analysed(seeds=2, effects=MIXED, changes={**CAUSAL, "80-10-10": {"masking": {"predicted": 0.5}}})
    rows = cells(printed(made)["realised"])
    drawn = [393_000, 393_001]
    assert rows["80/10/10"]["predicted"] == f"{sum(round(n * 0.5) for n in drawn):,}"
    assert rows["causal"]["predicted"] == f"{sum(round(n * 0.15) for n in drawn):,}"
    assert [rows["causal"][f"{kind} %"] for kind in ("[MASK]", "same", "random")] == ["—"] * 3
    assert rows["80/10/10"]["same %"] == "10.00"
    asked = cells(report_content.build(study.load(made.scale), EXPERIMENT).splits)
    assert [asked["causal"][f"{kind} %"] for kind in ("[MASK]", "same", "random")] == ["—"] * 3
    assert asked["causal"]["rate %"].startswith("100 → ")


def test_runs_that_do_not_say_predicted_all_that_they_selected(make: Make) -> None:
    made = make(seeds=1, effects=TWO)
    path: Path = made.folder("100-0-0", 0) / "run.json"
    record = read_json(path, "")
    del record["realised"]["predicted"]
    write_json(path, record)
    collect.collect(study.load(made.scale), EXPERIMENT)
    found = tidy.load(made.scale, EXPERIMENT)
    assert found.array("100-0-0", "realised.predicted").tolist() == [393_000]


@pytest.mark.parametrize(
    ("change", "rate", "mask"),
    [
        ({"shape": "linear", "rate": 0.15}, 0.225, 0.8),
        ({"shape": "step", "rate": 0.1, "at": 0.25}, 0.15, 0.8),
        # Of the selected: the split weighs by the rate at which it is drawn.
        (
            {"shape": "step", "rate": 0.1, "split": {"mask": 0.4, "random": 0.6}},
            0.2,
            (0.3 * 0.8 + 0.1 * 0.4) / 0.4,
        ),
    ],
    ids=["linear", "step", "split"],
)
def test_what_a_changing_mask_asks_for_is_its_mean(change: dict[str, Any], rate: float, mask: float) -> None:
    masking = {"rate": 0.3, "change": change}
    run = config.Run.model_validate({"masking": masking, "budget_tokens": 400 * 4096})
    found, shares = measures.corruption(run)
    assert found == pytest.approx(rate, abs=1e-3)
    assert shares["mask"] == pytest.approx(mask, abs=1e-3)
    assert sum(shares.values()) == pytest.approx(1)


def test_asked_for_and_drawn_compare_over_the_whole_run(analysed: Make) -> None:
    change = {"masking": {"rate": 0.2, "change": {"shape": "linear", "rate": 0.1}}}
    made = analysed(seeds=1, effects=TWO, changes={"100-0-0": change})
    rows = cells(report_content.build(study.load(made.scale), EXPERIMENT).splits)
    assert rows["100/0/0"]["rate %"].startswith("15 → 14.9")


def test_encoders_that_begin_alike_are_one_reference_and_others_one_an_arm(analysed: Make) -> None:
    alike, apart = ["untrained encoder"], ["untrained, 80/10/10", "untrained, causal"]
    for begun, heads in (((), alike), (("causal",), apart)):
        made = analysed(seeds=2, effects=MIXED, changes=CAUSAL, begun_apart=begun)
        for name in ("features", "pairs", "tasks"):
            rows = [row for row in printed(made)[name].references if row[0].startswith("untrained")]
            assert [row[:2] for row in rows] == [(head, "2") for head in heads]
        found = {key: entry for key, entry in ids(made).items() if "untrained.probe.accuracy" in key}
        arms = [f"split.{arm}." for arm in MIXED] if begun else ["split."]
        assert list(found) == [f"{arm}untrained.probe.accuracy.mean" for arm in arms]
        for entry, arm in zip(found.values(), MIXED, strict=False):
            assert entry["n"] == 2
            assert entry["runs"] == sorted(made.untrained[arm, seed] for seed in (0, 1))
        rows = {row for row, measure in means(made) if row.startswith("untrained")}
        assert rows == ({"untrained 80-10-10", "untrained causal"} if begun else {"untrained"})
        figures.write(study.load(made.scale), EXPERIMENT)


def test_budgets_that_differ_are_shown_with_seconds_where_bytes_may_differ(analysed: Make) -> None:
    half = {"100-0-0": {"budget_tokens": BUDGET // 2, "optimizer": {"decay_tokens": 0}}}
    made = analysed(seeds=3, effects=TWO, changes=half, diverged=(("80-10-10", 2),))
    planned = study.load(made.scale)
    rows = cells(printed(made)["budget"])
    shown = [(row["tokens"], row["teraFLOPs"], row["of baseline %"]) for row in rows.values()]
    assert shown == [("2,621,440", "1.000", "100.00"), ("1,310,720", "0.500", "50.00")]
    entries = ids(made)
    assert entries["split.100-0-0.training.flops"]["value"] == 5 * 10**11
    assert entries["split.80-10-10.training.tokens"]["value"] == BUDGET
    assert entries["split.80-10-10.training.tokens"]["unit"] == "tokens"
    assert "split.training.tokens" not in entries and entries["split.training.steps"]["value"] == 640
    content = report_content.build(planned, EXPERIMENT)
    timed = cells(content.tables["budget"])["100/0/0"]["seconds"]
    seconds = tidy.seconds(made.scale, EXPERIMENT)
    mine = seconds[(seconds["arm"] == "100-0-0") & (seconds["measure"] == "training_seconds")]["value"]
    assert timed.startswith(f"{mine.mean():.1f} ± ")
    assert cells(content.tables["reach"])["100/0/0"]["seconds"] == "6.5 ± 0.0"

    table.write(planned, EXPERIMENT)
    files = [made.root / path for path in outputs.files("table", made.scale, EXPERIMENT)]
    before = [path.read_bytes() for path in files]
    for file in made.results.glob("runs/*/run.json"):
        write_json(file, json.loads(file.read_text()) | {"training_seconds": 99.0, "wall_seconds": 100.0})
    collect.collect(planned, EXPERIMENT)
    table.write(planned, EXPERIMENT)
    assert [path.read_bytes() for path in files] == before
    assert ids(made) == entries and not [key for key in entries if "second" in key]


def test_equal_budgets_are_one_number_and_no_table(analysed: Make) -> None:
    made = analysed(seeds=2, effects=TWO, diverged=(("100-0-0", 1),))
    assert "budget" not in printed(made)
    assert ids(made)["split.training.tokens"]["value"] == BUDGET


def test_captions_and_heads_say_what_the_arms_are(analysed: Make) -> None:
    made = analysed(seeds=1, effects=MIXED, changes=CAUSAL)
    loss = printed(made)["loss"]
    assert loss.columns[0] == "arm"
    assert "(15 %, all [MASK]; the same targets from the left alone for causal)" in loss.caption
    assert loss.caption.endswith("and only among those that read alike.")
    assert [cells(loss)["causal"][f"own, {kind}"] for kind in ("[MASK]", "same", "random")] == ["—"] * 3
    assert cells(loss)["causal"]["yardstick"] != "—" != cells(loss)["causal"]["own"]
    plain = printed(analysed(seeds=1, effects=TWO))["loss"]
    assert plain.columns[0] == "MASK/SAME/RND"
    assert "from the left" not in plain.caption
    assert plain.caption.endswith("Only the yardstick compares across arms.")
