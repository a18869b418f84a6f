"""What is on disk is what is collected: whole, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_results import BUDGET, EFFECTS, EXPERIMENT, MEASURE_FILES, WHY, Synthetic, accept

from analysis import collect, study, tidy
from mlm.errors import InputError
from mlm.files import read_json, write_json

SMALL = {arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0")}
Make = Callable[..., Synthetic]


def gather(made: Synthetic) -> tidy.Collected:
    collect.collect(study.load(made.scale), EXPERIMENT)
    return tidy.load(made.scale, EXPERIMENT)


def test_every_value_comes_through_in_order_and_kinds_an_arm_lacks_do_not_exist(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    found = gather(made)
    assert not found.partial
    results = found.results
    assert list(dict.fromkeys(zip(results["arm"], results["seed"], strict=True))) == [
        (a, s) for a in SMALL for s in (0, 1)
    ]
    for (arm, seed), digest in made.digests.items():
        for file in MEASURE_FILES.values():
            for name, value in read_json(made.results / "runs" / digest / file, "")["values"].items():
                assert found.values(arm, name)[seed] == value
    assert not set(results[results["arm"] == "100-0-0"]["measure"]) & {
        "test.own.random.loss_nats",
        "test.own.same.accuracy",
    }
    assert len(found.array("80-10-10", "test.own.random.loss_nats")) == 2
    assert "seconds" not in made.table("results.csv").read_text() + made.table("curves.csv").read_text()
    assert "training_seconds" in made.table("seconds.csv").read_text()


def test_each_measure_brings_what_it_has(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    found = gather(made)
    level = found.values("80-10-10", "mine.depth")[1]
    assert found.values("80-10-10", "pairs.accuracy")[1] == level
    assert set(found.array("80-10-10", "reference.pairs.unigram.anaphor.accuracy")) == {0.5}
    assert set(found.array("80-10-10", "reference.tasks.trec.words.accuracy")) == {0.71}
    assert set(found.array("80-10-10", "count.tasks.trec.classes")) == {6}
    assert set(found.array("80-10-10", "untrained.trec.accuracy")) == {0.4}
    assert set(found.array("80-10-10", "reach.5.censored")) == {0}
    assert made.table("seconds.csv").read_text().count("reach.5.seconds,6.5") == 4
    c = found.curves
    mine = c[(c["arm"] == "80-10-10") & (c["seed"] == 1) & (c["measure"] == "pairs.accuracy")]
    assert mine["tokens"].tolist() == [262_144, BUDGET]
    assert mine["value"].tolist() == [level - 0.2, level]


def test_twice_the_same_bytes(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    names = ("results.csv", "curves.csv", "seconds.csv", "collected.json")
    gather(made)
    first = [made.table(name).read_bytes() for name in names]
    gather(made)
    assert first == [made.table(name).read_bytes() for name in names]


def test_missing_runs_and_measures_make_it_partial(make: Make) -> None:
    made = make(seeds=2, effects=SMALL, missing=(("100-0-0", 1),))
    (made.folder("80-10-10", 0) / MEASURE_FILES["probe"]).unlink()
    found = gather(made)
    assert found.partial
    assert found.runs == {"finished": 2, "diverged": 0, "unfinished": 2}
    rows = found.results[(found.results["arm"] == "100-0-0") & (found.results["seed"] == 1)]
    probe = rows[rows["measure"] == "probe.accuracy"].iloc[0]
    assert probe["status"] == "unfinished"
    assert found.values("100-0-0", "probe.accuracy").index.tolist() == [0]


def test_a_diverged_run_is_a_result(make: Make) -> None:
    found = gather(make(seeds=2, effects=SMALL, diverged=(("100-0-0", 1),)))
    assert not found.partial
    assert found.runs["diverged"] == 1
    assert found.diverged("100-0-0") == [1]
    rows = found.results[
        (found.results["status"] == "diverged") & (found.results["measure"] == "probe.accuracy")
    ]
    assert rows["value"].isna().all() and len(rows) == 1


def test_what_a_diverged_run_read_and_drew_is_none_of_its_arms_values(make: Make) -> None:
    """It read less than the others: it bends means of draws, and axes that go as far as an arm's runs."""
    found = gather(make(seeds=3, effects=SMALL, diverged=(("100-0-0", 0),)))
    rows = found.results[(found.results["arm"] == "100-0-0") & (found.results["seed"] == 0)]
    assert rows[rows["measure"].isin(["training.flops", "realised.selected"])]["value"].notna().sum() == 2
    for measure in ("training.flops", "training.tokens", "realised.selected"):
        assert found.values("100-0-0", measure).index.tolist() == [1, 2], measure


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def swap(path: Path, key: str, value: object) -> None:
    write_json(path, read_json(path, "") | {key: value})


SPOILT = {
    "metrics.jsonl": (cut, "metrics.jsonl: truncated or altered"),
    "run.json": (cut, "run.json: damaged"),
    "config.json": (lambda path: swap(path, "code", "0"), "config.json: altered"),
    MEASURE_FILES["probe"]: (cut, "probe-.*: damaged"),
    MEASURE_FILES["evaluation"]: (
        lambda path: swap(path, "run", "another"),
        "evaluation-.*: run: is 'another'",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_damage_is_refused_by_name_and_nothing_is_written(make: Make, name: str) -> None:
    made = make(seeds=1, effects=SMALL)
    spoil, said = SPOILT[name]
    spoil(made.folder("100-0-0", 0) / name)
    with pytest.raises(InputError, match=said):
        gather(made)
    assert not made.table("results.csv").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "diverged", "values": {}}, "status: is diverged, but the run finished"),
        ({"values": {}}, "values: none"),
        ({"values": {"probe.acuracy": 0.5}}, "values.probe.acuracy: no measure"),
        (
            {"over_training": [{"step": 1, "tokens": 8, "values": {"pairs.x": 0.5}}]},
            "values.pairs.x: no measure",
        ),
        ({"values": {"probe.accuracy": "0.5x"}}, "values.probe.accuracy: "),
    ],
)
def test_a_measure_that_contradicts_its_run_is_refused(
    make: Make, change: dict[str, object], said: str
) -> None:
    made = make(seeds=1, effects=SMALL)
    path = made.folder("100-0-0", 0) / MEASURE_FILES["probe"]
    write_json(path, read_json(path, "") | change)
    with pytest.raises(InputError, match=said):
        gather(made)


def test_a_measure_that_is_not_a_number_is_refused(make: Make) -> None:
    made = make(seeds=1, effects=SMALL)
    path = made.folder("100-0-0", 0) / MEASURE_FILES["probe"]
    path.write_text(path.read_text().replace("0.6", 'NaN, "x": 0.6', 1))
    with pytest.raises(InputError, match="not a finite number"):
        gather(made)


def test_mixtures_of_code_are_refused_unless_accepted(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    swap(made.folder("100-0-0", 1) / "run.json", "code", "another0code0000")
    with pytest.raises(InputError, match=r"different code .*another0code0000: 1 runs"):
        gather(made)
    accept(made, "100-0-0")
    gather(made)
    assert read_json(made.table("collected.json"), "")["accepted"] == [{"why": WHY, "arms": ["100-0-0"]}]
    for seed in made.seeds:  # of one code, and not of the planned one
        swap(made.folder("80-10-10", seed) / "run.json", "code", "another0code0000")
    with pytest.raises(InputError, match=r"different code .*another0code0000: 2 runs"):
        gather(made)


def test_a_table_changed_by_hand_is_noticed(make: Make) -> None:
    made = make(seeds=1, effects=SMALL)
    gather(made)
    path = made.table("results.csv")
    path.write_text(path.read_text().replace("0.7", "0.8", 1))
    with pytest.raises(
        InputError, match=r"results.csv, line \d+: truncated or altered .*now 'split,80-10-10,0,.*,0\.8"
    ):
        tidy.load(made.scale, EXPERIMENT)


def test_no_study_and_no_experiment_name_what_there_is(make: Make) -> None:
    made = make(seeds=1, effects=SMALL)
    with pytest.raises(InputError, match=r"no scale is called 'galaxy'; .* begun: laptop"):
        study.load("galaxy")
    with pytest.raises(InputError, match="there are: split"):
        study.load(made.scale).experiment("splat")
    (made.results / made.scale / "study.json").write_text(json.dumps({"scale": "laptop"}))
    with pytest.raises(InputError, match=r"study.json: evidence: "):
        study.load(made.scale)
