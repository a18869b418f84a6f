"""The rate that suits an arm is the best of those at which nothing diverged; an edge is flagged."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import tidy, tune
from analysis.study import Experiment
from mlm.errors import InputError
from mlm.measures import better

RATES = (0.001, 0.002, 0.004)
SEEDS = (7, 8)


def collected(losses: dict[str, list[list[float | None]]], measure: str) -> tuple[Experiment, tidy.Collected]:
    """Arm -> for each rate the value of each seed; None where the run diverged."""
    tried = {f"{arm}.lr-{rate:g}": (arm, rate) for arm in losses for rate in RATES}
    rows = [
        ("trial-tune", name, seed, measure, value, "finished" if value is not None else "diverged", "0")
        for name, (arm, rate) in tried.items()
        for seed, value in zip(SEEDS, losses[arm][RATES.index(rate)], strict=True)
    ]
    experiment = Experiment(
        title="t", question="q", claim="c", reference="r", baseline=next(iter(tried)), primary_measure=measure,
        arms=tuple(tried), measures={}, measure_files={}, untrained_files={}, contrasts=(), tried=tried,
    )  # fmt: skip
    results = pd.DataFrame(rows, columns=list(tidy.RESULTS)).astype({"value": float})
    empty = pd.DataFrame(columns=list(tidy.CURVES))
    return experiment, tidy.Collected("trial-tune", results, empty, False, {})


def best(losses: dict[str, list[list[float | None]]], measure: str) -> dict[str, tuple[float, bool]]:
    found = list(tune.rows(*collected(losses, measure), seeds=len(SEEDS)))
    assert len(found) == len(losses) * len(RATES)
    return {row.arm: (row.learning_rate, row.edge) for row in found if row.best}


def test_the_best_mean_over_seeds_is_chosen_and_an_edge_flagged() -> None:
    losses = {"a": [[4.0, 4.4], [4.1, 4.1], [4.3, 4.3]], "b": [[5.0, 5.0], [4.0, 4.0], [3.0, 3.2]]}
    assert better("validation.own.loss_nats") == "lower"
    assert best(losses, "validation.own.loss_nats") == {"a": (0.002, False), "b": (0.004, True)}
    assert better("probe.accuracy") == "higher"
    assert best(losses, "probe.accuracy") == {"a": (0.004, True), "b": (0.001, True)}


def test_a_rate_at_which_a_seed_diverged_is_not_chosen_for_those_that_did_not() -> None:
    losses = {"a": [[4.0, 4.0], [4.1, 4.1], [3.0, None]], "b": [[None, None], [3.0, None], [None, 3.0]]}
    assert best(losses, "validation.own.loss_nats") == {"a": (0.001, True)}
    rows = list(tune.rows(*collected(losses, "validation.own.loss_nats"), seeds=2))
    assert [row.n for row in rows] == [2, 2, 1, 0, 1, 1]
    assert math.isnan(rows[2].mean)


def test_the_table_and_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, found = collected(
        {"a": [[4.0, 4.0], [3.9, 3.9], [4.2, 4.2]], "b": [[None, None]] * 3}, "validation.own.loss_nats"
    )

    class Planned:
        scale = "test"

        def experiment(self, name: str) -> Experiment:
            return experiment

        def stated(self, name: str) -> dict[str, str]:
            return {}

        def seeds(self, name: str) -> list[int]:
            return list(SEEDS)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tidy, "load", lambda scale, name: found)
    said = tune.write(Planned(), "trial-tune")  # type: ignore[arg-type]
    assert said == ["a: 0.002 (3.900)", "b: no rate at which every seed has a value"]
    table = pd.read_csv("results/test/tables/trial-tune/rates.csv")
    assert list(table.columns) == ["arm", "learning_rate", "n", "mean", "sd", "best", "edge"]
    assert table["best"].sum() == 1

    found = replace(found, partial=True)
    Path("results/test/tables/trial-tune/rates.csv").unlink()
    with pytest.raises(InputError, match=r"not all of its trials are finished.*scale=test trial-tune`"):
        tune.write(Planned(), "trial-tune")  # type: ignore[arg-type]
    assert not Path("results/test/tables/trial-tune/rates.csv").exists()
