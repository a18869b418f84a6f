"""What a start would do, before it does: counts are those of the runs, times those of runs that ended here."""

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mlm import config, costs, devices, flops, plan, planner, study
from mlm.files import read_json, write_json
from mlm.runs import RunFolder
from tests.mlm.places import EXPERIMENT, digests, done, loaded, refused

Trial = Callable[..., study.Study]
Typed = Callable[..., "subprocess.CompletedProcess[str]"]
OTHER = {
    **EXPERIMENT,
    "arms": {"usual": EXPERIMENT["arms"]["80-10-10"], "much": {"masking": {"rate": 0.4}}},
    "baseline": "usual",
    "contrasts": {"primary": {"arm": "much"}},
    "pilot": [7, 8, 9, 10, 11],
}


def test_runs_are_counted_once_and_their_operations_are_added_up(trial: Trial) -> None:
    found = trial(other=OTHER)
    reckoner = plan.Reckoner(found)
    mine, theirs, both = (reckoner.cost(names) for names in (["trial"], ["other"], ["trial", "other"]))
    assert (mine.runs, theirs.runs, both.runs) == (6, 4, 8)  # `usual` is `80-10-10`, of two seeds
    assert (both.ended, both.to_train) == (0, 8)
    runs = [found.runs[one].config for one in {*digests(found).values(), *digests(found, "other").values()}]
    assert both.tokens == sum(run.steps * run.tokens_per_step for run in runs)
    assert both.flops == sum(flops.of_run(run, run.vocabulary.size) for run in runs)
    assert both.seconds < mine.seconds + theirs.seconds
    assert both.by == {"recorded": 8}
    assert reckoner.cost(["other-pilot"]).runs == 10


def test_without_a_run_that_ended_the_time_is_by_a_recorded_speed(trial: Trial) -> None:
    found = trial()
    run = next(iter(found.runs.values()))
    speed = costs.RECORDED["cpu", "float32", "eager"]
    expected = flops.of_run(run.config, 400) / speed + costs.START_SECONDS
    assert costs.History().seconds(run.config, run.numerics) == (pytest.approx(expected), "recorded")
    one, two = (plan.Reckoner(found, jobs).cost(["trial"]) for jobs in (1, 2))
    assert one.hours * 3600 == pytest.approx(one.seconds) and two.hours == pytest.approx(one.hours / 2)
    # However many at once, the longest run takes its time.
    assert plan.Reckoner(found, 1000).cost(["trial"]).hours * 3600 > expected
    pair = run.numerics.model_copy(update={"processes": 2})
    shared = costs.History().seconds(run.config, pair).seconds - costs.START_SECONDS
    assert shared == pytest.approx((expected - costs.START_SECONDS) / 2)


def test_as_many_runs_at_once_as_there_are_gpus_and_cores(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trial()
    assert plan.Reckoner(found, cores=16).at_once == 16
    monkeypatch.setattr(devices, "cuda_devices", lambda: 4)
    cuda = config.Numerics(device="cuda", dtype="float32")
    for processes, cores, at_once in ((1, 16, 4), (2, 16, 2), (1, 3, 3), (4, 16, 1)):
        numerics = cuda.model_copy(update={"processes": processes})
        on_gpus = dataclasses.replace(found, numerics=numerics)
        assert plan.Reckoner(on_gpus, cores=cores).at_once == at_once


@pytest.fixture
def copied(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study with two of its six runs trained, to write into."""
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_runs_that_ended_here_tell_the_time_of_their_kind_and_of_those_like_them(copied: Path) -> None:
    found = planner.load_study("test")
    history, cells = costs.History(), digests(found)
    trained, again, like = (found.runs[cells[arm, 1]] for arm in ("80-10-10", "bert", "100-0-0"))
    for run, arm in ((trained, "80-10-10"), (again, "bert")):
        ended = read_json(found.runs[cells[arm, 0]].folder / "run.json", "")
        told = history.seconds(run.config, run.numerics)
        assert told == (pytest.approx(ended["wall_seconds"]), "same")
    ended = read_json(found.runs[cells["80-10-10", 0]].folder / "run.json", "")
    # As many operations, of the other masks: as long, and not as long as those of `bert`, which differ.
    expected = ended["training_seconds"] + costs.START_SECONDS
    assert history.seconds(like.config, like.numerics) == (pytest.approx(expected), "like")
    cost = plan.Reckoner(found).cost(["trial"])
    assert (cost.runs, cost.ended, cost.to_train) == (6, 2, 4)
    assert cost.by == {"same": 2, "like": 2}
    assert "6 runs, 2 ended, 4 to train: 20.5 k tokens" in cost.line()
    assert cost.tokens == 4 * 16 * 8 * 40

    other = found.runs[cells["80-10-10", 1]].numerics.model_copy(update={"dtype": "bfloat16"})
    assert history.seconds(trained.config, other).basis == "recorded"
    together = trained.numerics.model_copy(update={"processes": 2})
    assert history.seconds(trained.config, together).basis == "recorded"
    for path in (copied / "results" / "runs").glob("*/run.json"):
        path.write_text("{")
    assert costs.History().seconds(trained.config, trained.numerics).basis == "recorded"


def test_a_measure_says_how_long_it_took_and_the_next_is_reckoned_by_it(
    copied: Path, modern: RunFolder, typed: Typed
) -> None:
    found = planner.load_study("test")
    run = found.runs[modern.path.name]
    taken = [one for one in found.measures["trial"] if one.name == "evaluation"]
    before = costs.History().measuring(taken, run.config, run.numerics)
    assert before == costs.MEASURE_SECONDS["evaluation"] + costs.START_SECONDS
    ahead = plan.Reckoner(found).cost(["trial"])
    words = ["--take", f"evaluation={run.folder / taken[0].file}", "--with", "evaluation=16"]
    done(typed(copied, "measure", str(run.folder), *words))
    took = read_json(run.folder / taken[0].file, "")["wall_seconds"]
    assert 0 < took < 60
    after = costs.History().measuring(taken, run.config, run.numerics)
    assert after == pytest.approx(took + costs.START_SECONDS)
    loaded = costs.History().measuring(taken, run.config, run.numerics, loaded=True)
    assert loaded == pytest.approx(took + costs.CHECK_SECONDS)
    assert costs.History().measuring([], run.config, run.numerics) == 0
    less = plan.Reckoner(found).cost(["trial"])
    assert less.to_train == ahead.to_train and less.seconds < ahead.seconds


def test_bytes_are_those_of_the_weights(place: Path, modern: RunFolder, bert: RunFolder) -> None:
    for run in (modern, bert):
        size = (run.path / "weights.safetensors").stat().st_size
        assert 4 * costs.parameters(run.config.encoder, 400) == pytest.approx(size, rel=0.1)
        left = costs.disk_bytes(run.config) - costs.BESIDE_WEIGHTS_BYTES
        assert left == 4 * costs.parameters(run.config.encoder, 400)
    kept = modern.config.model_copy(update={"checkpoints_at": [1024, 2048]})
    assert costs.disk_bytes(kept) - costs.BESIDE_WEIGHTS_BYTES == 3 * (
        costs.disk_bytes(modern.config) - costs.BESIDE_WEIGHTS_BYTES
    )


def test_the_command_tells_every_experiment_and_all(place: Path, typed: Typed) -> None:
    told = json.loads(done(typed(place, "plan", "--scale", "test", "--json")))
    assert told["experiments"]["trial"] == told["in_all"]
    assert (told["in_all"]["runs"], told["in_all"]["ended"]) == (6, 2)
    assert told["at_once"] == len(os.sched_getaffinity(0))
    said = done(typed(place, "plan", "trial", "--scale", "test"))
    assert "Times are estimates" in said and "by runs of the same kind that ended here" in said
    (row,) = [line for line in said.splitlines() if line.strip().startswith("trial")]
    assert row.split()[:4] == ["trial", "6", "2", "4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "experiments/nothing.yaml: no such file"),
        (["trial", "--scale", "huge"], "experiments/scales/huge.yaml: no such file"),
        (["trial-pilot"], "experiments/trial.yaml: pilot: is not there, so there is no trial-pilot"),
        (["experiments/trial.yaml"], "experiments/trial.yaml: experiments go by their names; write trial"),
        (["trial-tune"], "experiments/trial.yaml: tune: is not there, so there is no trial-tune"),
    ],
)
def test_what_is_not_there_cannot_be_planned(words: list[str], said: str, place: Path, typed: Typed) -> None:
    scale = [] if "--scale" in words else ["--scale", "test"]
    assert said in refused(typed(place, "plan", *words, *scale))


def test_the_command_loads_no_torch(place: Path) -> None:
    found = loaded(place, "plan", "--scale", "test")
    assert "mlm.plan" in found and not {"torch", "pandas", "scipy", "wandb"} & found


def test_two_thousand_runs_are_a_matter_of_seconds(trial: Trial) -> None:
    arms = {f"rate-{n}": {"masking": {"rate": n / 1000}} for n in range(1, 91)}

    def many(content: dict[str, Any]) -> None:
        content |= {"arms": arms, "baseline": "rate-1", "seeds": 22}
        content["contrasts"] = {"primary": {"arm": "rate-2"}}

    found = trial(experiment=many)
    begun = time.process_time()
    cost = plan.Reckoner(found).cost(["trial"])
    assert cost.runs == 90 * 22
    assert time.process_time() - begun < 5


def test_training_is_told_to_measure_what_the_measuring_jobs_are(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For experiments that share their runs and set a measure otherwise, of the kept weights too."""
    from mlm import measuring
    from mlm.measured import planned_code
    from mlm.pipeline import Plan

    own = {"evaluation": {"sequences": 9}, "pairs": {"per_kind": 20}, "over_training": ["probe"]}
    trial(
        other=EXPERIMENT | {"measures": own, "base": EXPERIMENT["base"] | {"checkpoints_at": [1280]}},
        more=EXPERIMENT | {"measures": own},
    )
    monkeypatch.setenv("WANDB_MODE", "disabled")
    found = Plan({"scale": "test"})
    every = list(found.study.experiments)
    write_json(Path("measures.json"), found.measures(every))
    told: dict[str, list[measuring.Wanted]] = {}
    for measures, digests_of in found.study.measured():
        for digest in digests_of:
            words = shlex.split(found.words(measures, found.study.runs[digest]) + f" {planned_code(measures)}")
            take, with_, over, code = (
                [value for option, value in pairwise(words) if option == asked]
                for asked in ("--take", "--with", "--over-training", "--planned")
            )
            told.setdefault(digest, []).extend(measuring.wanted(take, with_, over, code))
    assert told.keys() == found.study.runs.keys()
    for digest, wanted in told.items():
        planned = measuring.planned(Path("measures.json"), digest)
        assert sorted(planned, key=str) == sorted(wanted, key=str)
    write_json(Path("measures.json"), found.measures(["other"]))
    assert {len(measuring.planned(Path("measures.json"), digest)) for digest in told} == {0, 3}


def test_the_pipeline_tells_the_plan_of_what_it_is_asked_for(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlm.pipeline import Plan

    trial(other=OTHER)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    found = Plan({"scale": "test"})
    first, second = found.told(["--cores", "2", "other-pilot"], 2, None).splitlines()
    assert first.startswith("plan: other-pilot: 10 runs, 0 ended, 10 to train: ")
    assert "2 jobs at a time" in second and "10 by a speed recorded" in second
    assert found.told(["-n"], None, 8).startswith("plan: trial: 6 runs")
    assert "8 jobs at a time" in found.told([], None, 8)
    trial(scale=lambda scale: scale["numerics"].update(processes=2))
    assert "one job at a time" in Plan({"scale": "test"}).told([], 2, None), "a run takes both cores"
    trial(other=OTHER)
    for digest, run in found.study.runs.items():
        run.folder.mkdir(parents=True)
        for name in ("run.json", *(one.file for one in found.study.measures["trial"])):
            (run.folder / name).touch()
        assert digest
    for cell in found.study.cells:
        for one in found.study.measures["trial"]:
            path = Path("results/untrained") / cell.untrained / one.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert found.told([], 2, None) == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            lambda found: found.check_targets(["othr"], ["all", "other"]),
            "othr: neither an experiment nor a path",
        ),
        (lambda found: found.check_targets(["othr"], ["all", "other"]), "did you mean `other`?"),
        (lambda found: found.runs["0123456789abcdef"], "0123456789abcdef: nothing that this study runs"),
        (lambda found: found.compiled("0123456789abcdef"), "0123456789abcdef: nothing that this study runs"),
    ],
)
def test_what_the_study_has_not_is_refused_by_its_name(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: Callable[[Any], Any],
    said: str,
) -> None:
    from mlm import pipeline

    def leave(status: int) -> None:
        raise SystemExit(status)

    trial(other=OTHER)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PATH", "/usr/bin")
    found = pipeline.Plan({"scale": "test"})
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    words = ["other", "results/test/numbers.json", "experiments", "--cores", "2", "--config", "scale=test"]
    found.check_targets(words, ["all", "other"])
    found.check_targets([*words, "--profile", "none"], ["all", "other"])  # no target
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit, match="2"):
        asked(found)
    assert said in capsys.readouterr().err
