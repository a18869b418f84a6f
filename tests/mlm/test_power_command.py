"""`python -m mlm power`: a real pilot of tiny runs, and what is told by its spread."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis import collect, pilot, power, provenance, tidy
from analysis import study as analysis_study
from mlm import planner
from mlm.__main__ import main
from mlm.files import file_sha256, write_json
from tests.mlm.places import EXPERIMENT, SCALE, done, refused, write_yaml

Typed = Callable[..., "subprocess.CompletedProcess[str]"]
SEEDS = [7, 8, 9, 10, 11]
MARGIN = 0.05
TRIAL: dict[str, Any] = {
    **EXPERIMENT,
    "seeds": [0, 1, 2, 3, 4, 5, 6, 20],
    "pilot": SEEDS,
    "base": {
        "budget_tokens": 8 * 128,
        "optimizer": {"warmup_tokens": 128, "decay_tokens": 512},
        "curve": {"every_tokens": 8 * 128, "sequences": 2},
    },
    "measures": {"probe": None},
    "primary_measure": "test.yardstick.loss_nats",
    "contrasts": {
        "primary": {"arm": "100-0-0", "expect": "lower"},
        "secondary": [
            {"arm": "100-0-0", "measure": "test.yardstick.accuracy"},
            {"arm": "100-0-0", "measure": "validation.yardstick.loss_nats"},
        ],
        "equivalence": [{"arm": "100-0-0", "margin": MARGIN}],
    },
}


def write(folder: Path, **changes: Any) -> None:
    write_yaml(folder / "experiments" / "trial.yaml", {**TRIAL, **changes})


@pytest.fixture(scope="module")
def piloted(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose pilot has run, and nothing else of it."""
    folder = tmp_path_factory.mktemp("piloted")
    shutil.copytree(place / "experiments", folder / "experiments")
    write_yaml(folder / "experiments" / "scales" / "test.yaml", SCALE)
    write(folder)
    (folder / "text").symlink_to(place / "text")
    (folder / "results").mkdir()
    (folder / "results" / "data").symlink_to(place / "results" / "data")
    before = Path.cwd()
    os.chdir(folder)
    os.environ["WANDB_MODE"] = "disabled"
    try:
        found = planner.load_study("test")
        found.write()
        for cell in found.cells:
            if cell.experiment == "trial-pilot":
                run = str(found.runs[cell.digest].folder)
                (taken,) = found.measures["trial-pilot"]
                for words in (["train", run], ["measure", run, *taken_words(taken.file, run)]):
                    with pytest.raises(SystemExit) as ended:
                        main(words)
                    assert not ended.value.code
        collect.collect(analysis_study.load("test"), "trial-pilot")
    finally:
        os.chdir(before)
    return folder


def taken_words(file: str, run: str) -> list[str]:
    return ["--take", f"evaluation={run}/{file}", "--with", "evaluation=16"]


@pytest.fixture
def here(piloted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to write into."""
    shutil.copytree(piloted, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_what_is_told_follows_from_the_pairs_of_the_pilot(here: Path, typed: Typed) -> None:
    collected = tidy.load("test", "trial-pilot")
    loss = [collected.array(arm, "test.yardstick.loss_nats") for arm in ("100-0-0", "80-10-10")]
    d = loss[0] - loss[1]
    assert len(d) == 5
    sd = float(np.std(d, ddof=1))
    primary, second, third, equal = pilot.rows("test", "trial")
    assert (primary.family, second.family, third.family, equal.family) == (1, 2, 2, 1)
    assert (primary.pilot, primary.planned) == (5, 8)
    assert primary.spread is not None
    assert primary.spread[0] == pytest.approx(sd)
    # An interval by its definition: at its ends the spread that was seen is at the edge of what is likely.
    for end, p in zip(primary.spread[1:], (0.975, 0.025), strict=True):
        assert stats.chi2.cdf(4 * sd**2 / end**2, 4) == pytest.approx(p)

    asked = 1.5 * sd
    said = done(typed(here, "power", "trial", "--scale", "test", "--difference", f"{asked:.12g}"))
    assert "trial: 8 pairs are planned" in said and "Simulated" in said
    rows = [line for line in said.splitlines() if line.startswith("  100/0/0 − 80/10/10")]
    assert len(rows) == 4
    assert f" {power.power(1.5, 8, family=1):.2f} (" in rows[0]
    assert [row.split()[-3:] for row in rows[1:3]] == [["–", "–", "–"]] * 2  # other measures, other units
    cells = map(str, pilot.table([primary, second, third, equal], "trial", asked).columns[0].cells)
    assert ["--difference is of the primary" in cell for cell in cells] == [False, True, True, False]
    assert f" {power.detectable(8, family=1) * sd:.3f} (" in rows[0]
    assert f"within ±{MARGIN}" in rows[3]
    assert f" {power.power(MARGIN / sd, 8, 1, equivalence=True):.2f}" in rows[3]

    without = done(typed(here, "power", "trial", "--scale", "test"))
    assert without.splitlines()[0].strip() == said.splitlines()[0].strip()
    (first, *_) = [line for line in without.splitlines() if line.startswith("  100/0/0 − 80/10/10")]
    assert first.split()[-3:] == ["–", "–", "–"]


@pytest.mark.parametrize("asked", ["0", "-0.02", "nan"])
def test_a_difference_that_is_none_is_refused(asked: str, here: Path, typed: Typed) -> None:
    said = refused(typed(here, "power", "trial", "--scale", "test", "--difference", asked))
    assert "--difference: is" in said and "give a number above 0" in said


def test_before_the_pilot_the_command_says_how_to_run_it(here: Path, typed: Typed) -> None:
    again = "run `snakemake --cores all --config scale=test trial-pilot`"
    assert "experiments/nothing.yaml: no such file" in refused(
        typed(here, "power", "nothing", "--scale", "test")
    )
    write(here, pilot=None)
    said = refused(typed(here, "power", "trial", "--scale", "test"))
    assert "experiments/trial.yaml: pilot: is not there; give 5 seeds or more" in said and again in said
    write(here, pilot=SEEDS[:4])
    said = refused(typed(here, "power", "trial", "--scale", "test"))
    assert "experiments/trial.yaml: pilot: is [7, 8, 9, 10]; a spread needs 5 seeds or more" in said
    write(here, pilot=[6, *SEEDS])
    assert "pilot: 6 is a seed of the contrasts too" in refused(
        typed(here, "power", "trial", "--scale", "test")
    )
    write(here, pilot=[12, *SEEDS])
    said = refused(typed(here, "power", "trial", "--scale", "test"))
    assert "trial-pilot: its results are not of the runs that are planned now" in said and again in said
    write(here)
    shutil.rmtree(here / "results" / "test" / "tables")
    said = refused(typed(here, "power", "trial", "--scale", "test"))
    assert "trial-pilot: its 10 runs have not been made" in said and again in said


def test_a_pilot_that_is_not_complete_is_refused(here: Path, typed: Typed) -> None:
    next((here / "results" / "runs").glob("*/evaluation-*.json")).unlink()
    collect.collect(analysis_study.load("test"), "trial-pilot")
    said = refused(typed(here, "power", "trial", "--scale", "test"))
    assert "trial-pilot: not all of its 10 runs are finished and measured; run `snakemake" in said


def test_contrasts_may_be_stated_anew_after_the_pilot(here: Path, typed: Typed) -> None:
    contrasts = TRIAL["contrasts"] | {"equivalence": [{"arm": "100-0-0", "margin": 50.0}]}
    write(here, contrasts=contrasts, seeds=[0, 1, 2, 3, 4, 5])
    *_, equal = pilot.rows("test", "trial")
    assert (equal.contrast.margin, equal.planned) == (50.0, 6)
    said = done(typed(here, "power", "trial", "--scale", "test"))
    assert "nothing" in said  # two secondary contrasts need seven seeds
    assert " 1.00 " in said


def test_pairs_without_a_spread_tell_nothing(here: Path) -> None:
    assert pilot.rows("test", "trial")[0].spread
    path = here / "results" / "test" / "tables" / "trial-pilot" / "results.csv"
    table = tidy.load("test", "trial-pilot").results
    table.loc[table["measure"] == "test.yardstick.loss_nats", "value"] = 4.0
    provenance.forget("collect", "test", "trial-pilot")  # as if `collect` had found these
    tidy.write_csv(path, table, tidy.RESULTS)
    manifest = path.with_name("collected.json")
    content = json.loads(manifest.read_text())
    content["files"]["results.csv"] = file_sha256(path)
    write_json(manifest, content)
    primary, *_ = pilot.rows("test", "trial")
    assert (primary.pilot, primary.spread) == (5, None)
    table = pilot.table([primary], "trial", 0.1)
    assert [next(iter(column.cells)) for column in table.columns][1:] == ["5", *["–"] * 5]
    noted = pilot.table([primary._replace(note="100/0/0 diverged at seed 7")], "trial", None)
    assert str(next(iter(noted.columns[0].cells))).endswith("primary; 100/0/0 diverged at seed 7[/]")
