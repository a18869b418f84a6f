"""What a repetition is compared with, and when a difference is a fault."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_results import EXPERIMENT, Synthetic

from analysis import collect, published_runs, runs, study, tidy, verify, verify_checks
from analysis.published_runs import Reference
from mlm import machine
from mlm.__main__ import main
from mlm.errors import InputError
from mlm.files import write_json

TWO = {"80-10-10": 0.0, "100-0-0": -0.03}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def made(make: Callable[..., Synthetic]) -> Iterator[Reference]:
    """What would be published of a study, on this type of machine."""
    written = make(effects=TWO, seeds=2)
    planned = study.load(written.scale)
    collect.collect(planned, EXPERIMENT)
    here = runs.Machine.model_validate(machine.record())
    yield published_runs.of(planned, EXPERIMENT).model_copy(update={"machine": here})


def test_a_reference_is_read_as_it_was_written(made: Reference, tmp_path: Path) -> None:
    assert published_runs.load(tmp_path) is None
    write_json(tmp_path / published_runs.FILE, made.model_dump(mode="json"))
    assert published_runs.load(tmp_path) == made
    write_json(tmp_path / published_runs.FILE, {**made.model_dump(mode="json"), "runs": 3})
    with pytest.raises(InputError, match=r"reference.json: runs: .*publish"):
        published_runs.load(tmp_path)


def test_bits_are_promised_by_the_same_machine_code_and_configuration_alone(made: Reference) -> None:
    assert made.machine and verify_checks.unlike(made, made, "100-0-0") == []
    other = made.machine.model_copy(update={"flags": ("avx512f",)})
    changed = {
        "processor": {"machine": other},
        "dtype": {"numerics": {**made.numerics, "dtype": "float32"}},
        "torch": {"versions": {**made.versions, "torch": "2.14.0"}},
        "compiler": {"versions": {**made.versions, "compiler": "g++ 15"}},
        "training code": {"codes": dict.fromkeys(made.codes, "another")},
        "100-0-0: masking.rate": {
            "arms": {**made.arms, "100-0-0": {**made.arms["100-0-0"], "masking": {"rate": 0.3}}}
        },
    }
    for what, change in changed.items():
        found = verify_checks.unlike(made, made.model_copy(update=change), "100-0-0")
        assert any(one.startswith(f"{what}: ") for one in found), what
    assert len(verify_checks.unlike(made, made.model_copy(update=changed["100-0-0: masking.rate"]))) == 0
    cuda = {"numerics": {**made.numerics, "device": "cuda"}, "gpu": "one type"}
    there = made.model_copy(update=cuda)
    assert verify_checks.unlike(there, there) == []
    (told,) = verify_checks.unlike(there.model_copy(update={"gpu": "another"}), there)
    assert told == "GPU: another here, one type there"
    (told,) = verify_checks.unlike(there, there.model_copy(update={"gpu": None}))
    assert told.endswith("not recorded, or several there")
    assert "older than reference.json" in verify_checks.unlike(made, None)[0]


def test_a_run_differs_where_a_hash_a_count_or_a_value_does(made: Reference) -> None:
    here = made.runs[0]
    assert all(check.holds for check in verify_checks.bits("split", here, here, promised=True))
    values = {name: value + 0.5 for name, value in here.values.items()}
    there = here.model_copy(update={"values": values, "curve_sha256": "0" * 64})
    found = {check.what: check for check in verify_checks.bits("split", here, there, promised=True)}
    assert found["weights"].holds and not found["curve"].holds
    renamed = here.model_copy(update={"run": "another"})
    alike = list(verify_checks.bits("split", here, renamed, promised=False))
    assert "weights" not in {check.what for check in alike} and all(check.holds for check in alike)
    assert found["part-of-speech accuracy"].apart == "−0.500000" and not found["part-of-speech accuracy"].holds
    (count,) = verify_checks.counted("split", here, {"tokens": here.exact["tokens"] - 64}, same=True)
    assert (count.holds, count.promised, count.apart) == (False, True, "+64")


def test_means_outside_the_interval_of_more_runs_are_told_with_their_size(made: Reference) -> None:
    collected = tidy.load("laptop", EXPERIMENT)
    mean = float(collected.array("100-0-0", "probe.accuracy").mean())
    row = {"row": "100-0-0", "kind": "arm", "measure": "probe.accuracy", "sd": 0.01, "n": 8.0, "reached": ""}

    def told(apart: float, among: int = 1) -> verify_checks.Check:
        table = pd.DataFrame([row | {"mean": mean - apart}])
        names = ["probe.accuracy", "not.measured"]
        (check,) = verify_checks.intervals("split", collected, table, ["100-0-0"], names, among)
        return check

    half = verify_checks.prediction(0.01, 8, 2, 1)
    assert told(0.99 * half).holds and not told(1.01 * half).holds and told(1.01 * half, among=5).holds
    assert told(0.05).apart == "+0.050, 5.0 SD"


def test_nothing_is_promised_of_costs_that_were_not_known_or_did_not_vary(made: Reference) -> None:
    collected = tidy.load("laptop", EXPERIMENT)

    def told(measure: str, **row: Any) -> verify_checks.Check:
        table = pd.DataFrame([{"row": "100-0-0", "kind": "arm", "measure": measure, "mean": 0.9, **row}])
        (check,) = verify_checks.intervals("split", collected, table, ["100-0-0"], [measure], 1)
        return check

    absent = "reach.9.9.tokens"  # of no run here, as of one that does not come there
    assert (told(absent, sd=2.0, n=7, reached="7 of 8").promised) is False
    assert (told(absent, sd=2.0, n=8, reached="8 of 8").promised) is True
    assert (told("probe.accuracy", sd=0.0, n=8, reached="").promised) is False


def test_the_interval_holds_more_runs_as_often_as_it_says() -> None:
    draws, inside, among = np.random.default_rng(3), 0, 4
    for _ in range(500):
        published, more = draws.normal(5, 2, (8, among)), draws.normal(5, 2, (2, among))
        halves = [verify_checks.prediction(float(sd), 8, 2, among) for sd in published.std(axis=0, ddof=1)]
        inside += bool(np.all(np.abs(more.mean(axis=0) - published.mean(axis=0)) <= halves))
    assert 0.92 < inside / 500 < 0.98  # Bonferroni's level is a little above


def test_the_stated_runs_of_the_repository_are_published_and_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    reference = Path("docs/results/laptop")
    parts = verify.stated(reference, [], [])
    published = {one.facts.experiment: one for one in verify.publish_page.read(reference)}
    verify._check(reference, parts, published)
    for part in parts:
        found = verify._Published(reference / part.experiment, published)
        assert all(found.counted(arm, seed)["tokens"] > 0 for arm in part.arms for seed in part.seeds)
        assert {*part.arms} <= {*found.table["row"]}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere", "--arm", "a/b"], "nowhere: nothing is published there"),
        (["--arm", "credit"], "--arm credit: expected EXPERIMENT/ARM, for instance credit/causal-16"),
        (["--arm", "kredit/mlm-16"], "experiment 'kredit' is not published; there are: "),
        (
            ["--arm", "split-tune/80-10-10.lr-0.005"],
            "'split-tune' tries learning rates, of which nothing is comp",
        ),
        (["--arm", "credit/mlm-17"], "credit: no arm 'mlm-17' is published; there are: mlm-16, mlm-64"),
        (["--seed", "77"], "credit-rates: no seed 77 is published; there are: 0, 1"),
        (["docs"], "docs/verify.yaml: no such file. It states the runs to repeat"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as ended:
        main(["verify", *words])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("holds", "promised", "status"), [(True, True, 0), (False, False, 0), (False, True, 1)]
)
def test_only_what_was_promised_and_differs_ends_with_status_1(
    holds: bool,
    promised: bool,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = verify_checks.Check("bits", "split, 100/0/0, seed 0", "weights", "a", "b", holds, promised)
    outcome = verify.Outcome(Path("results/verify/1"), [check], {"split": []})
    monkeypatch.setattr(verify, "verify", lambda *_: outcome)
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(REPOSITORY / "docs" / "results" / "laptop")])
    assert ended.value.code == status
    told = {0: "1 of 1 agree with what is published", 1: "1 of 1 differ"}[status]
    assert (told if holds or promised else "1 differ where nothing is promised") in capsys.readouterr().out
