"""The rate that suits an arm is the best of those at which nothing diverged; an edge is flagged."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import synthetic_experiments as more
from synthetic_results import EXPERIMENT, Synthetic

from analysis import collect, figure_rates, study, style, tidy, tune
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


def test_the_table_the_figure_and_what_is_said(make: Callable[..., Synthetic]) -> None:
    made = make(seeds=2, effects={"80-10-10": 0.0, "100-0-0": -0.03})
    name = more.trials(made, EXPERIMENT, {"80-10-10": [4.0, 3.9, 4.2], "100-0-0": [4.1, 4.3, 4.4]})
    planned = study.load(made.scale)
    collect.collect(planned, name)
    assert tune.write(planned, name) == [
        "80/10/10: 0.002 (3.905)", "100/0/0: 0.001 (4.105); the edge of what was tried: try further",
    ]  # fmt: skip
    table = pd.read_csv(f"results/laptop/tables/{name}/rates.csv")
    assert list(table.columns) == ["arm", "learning_rate", "n", "mean", "sd", "best", "edge"]
    assert table["best"].sum() == 2 and table["edge"].sum() == 1
    experiment, found = planned.experiment(name), tidy.load(made.scale, name)
    with style.applied():
        figure = figure_rates.draw(experiment, found, list(tune.rows(experiment, found, 2)))
    panels = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["80/10/10", "100/0/0"]
    spans = [axes.get_ylim()[1] - axes.get_ylim()[0] for axes in panels]
    assert spans[0] == pytest.approx(spans[1])  # slopes can be compared
    rings = [line for axes in panels for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [(float(ring.get_xdata()[0]), ring.get_markeredgecolor()) for ring in rings] == [
        (0.002, style.INK), (0.001, style.WARNING),
    ]  # fmt: skip
    assert [text.get_text() for axes in panels for text in axes.texts] == ["edge"]


def test_what_is_said_of_an_arm_that_diverged_everywhere() -> None:
    losses = {"a": [[4.0, 4.0], [3.9, 3.9], [4.2, 4.2]], "b": [[None, None]] * 3}
    experiment, found = collected(losses, "validation.own.loss_nats")
    rows = list(tune.rows(experiment, found, seeds=2))
    assert [*tune.said(rows)] == ["a: 0.002 (3.900)", "b: no rate at which every seed has a value"]
    assert len(figure_rates.draw(experiment, found, rows).axes) == 2


def test_trials_that_are_not_finished_have_no_table(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Synthetic]
) -> None:
    made = make(seeds=2, effects={"80-10-10": 0.0, "100-0-0": -0.03})
    name = more.trials(made, EXPERIMENT, {"80-10-10": [4.0, 3.9, 4.2]})
    planned = study.load(made.scale)
    collect.collect(planned, name)
    found = replace(tidy.load(made.scale, name), partial=True)
    monkeypatch.setattr(tidy, "load", lambda scale, name: found)
    with pytest.raises(InputError, match=rf"not all of its trials are finished.*scale=laptop {name}`"):
        tune.write(planned, name)
    assert not Path(f"results/laptop/tables/{name}/rates.csv").exists()
