"""The offline W&B file, read back, says what the run's files say; and W&B can fail without harm."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlm import projection, tracking
from mlm.projection import rows
from mlm.runs import RunFolder
from mlm.tracking import Tracker
from tests import PATIENCE_SECONDS
from tests.mlm.places import SCALE, copy_of, done, environment, found_study, mlm

BLOCK = 32 * 1024


def chunks(raw: bytes) -> Iterator[bytes]:
    """Whole records of a LevelDB log: blocks of 32 KiB behind a header of 7 bytes, as W&B writes them."""
    place, gathered = 7, b""
    while place < len(raw):
        room = BLOCK - place % BLOCK
        if room < 7:  # too small for a header: padding
            place += room
            continue
        _, size, kind = struct.unpack("<IHB", raw[place : place + 7])
        gathered += raw[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield gathered
            gathered = b""


def read(path: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(chunk) for chunk in chunks(path.read_bytes())]


def named(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def published(place: Path, modern: RunFolder, tmp_path_factory: pytest.TempPathFactory, passing: Path) -> Path:
    """The trained run in a place of its own, measured, written offline by `train` and again by `sync`."""
    mine = copy_of(place, tmp_path_factory.mktemp("tracked") / "place")
    folder = mine / "results" / "runs" / modern.path.name
    for path in modern.path.iterdir():
        shutil.copy2(path, folder)
    shutil.copytree(place / "results" / "test", mine / "results" / "test")
    (folder / "trained").unlink()
    home = {"HOME": str(mine / "home"), "TMPDIR": str(passing), "WANDB_MODE": "offline"}
    done(mlm(mine, "train", str(folder.relative_to(mine)), **home))
    name = json.loads((mine / "results" / "test" / "study.json").read_text())["experiments"]["trial"][
        "measure_files"
    ]["evaluation"]
    done(mlm(mine, "evaluate", folder.name, "--output", f"results/runs/{folder.name}/{name}", **home))
    for _ in range(2):
        words = ("sync", "--scale", "test", "--experiment", "trial", "--as-configured", "results/told.json")
        done(mlm(mine, *words, **home))
    return folder


@pytest.fixture(scope="module")
def records(published: Path) -> list[Any]:
    files = list((published.parents[1] / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1, "one run, one folder, however often it was written"
    assert files[0].name == f"run-{published.name}.wandb"
    return read(files[0])


def summary_of(records: list[Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= named(record.summary.update)
    return summary


def test_everything_lies_under_results(published: Path, passing: Path) -> None:
    assert not list(passing.iterdir())
    place = published.parents[2]
    assert {path.name for path in place.iterdir()} <= {"experiments", "text", "results", "home"}
    assert not (place / "home").exists() or not list((place / "home").rglob("*wandb*"))


def test_written_again_only_when_something_changed(published: Path) -> None:
    told = json.loads((published.parents[1] / "told.json").read_text())
    assert told == {"mode": "offline", "told": "0 W&B runs written offline"}


def test_name_group_and_configuration(records: list[Any], published: Path) -> None:
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.run_id == published.name
    assert run.display_name == "trial/80-10-10/seed-0"
    assert run.run_group == "trial/80-10-10"
    assert run.project == "mlm"
    assert run.job_type == "train"
    assert set(run.tags) == {"test", "trial", "reference"}
    stated, outcome = (json.loads((published / name).read_text()) for name in ("config.json", "run.json"))
    kept = named(run.config.update)
    for record in records:
        if record.WhichOneof("record_type") == "config":
            kept |= named(record.config.update)
    assert {key: kept[key] for key in stated} == stated
    assert kept["arms"] == {"trial": "80-10-10"}
    assert kept["git"] == outcome["git"]
    assert kept["code"] == outcome["code"]
    assert kept["seed"] == 0


def test_nothing_is_told_of_the_machine_or_its_user(records: list[Any], published: Path) -> None:
    runs = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert {(run.host, run.git.remote_url) for run in runs} == {("local", "")}
    (folder,) = (published.parents[1] / "wandb").glob("offline-run-*/files")
    assert not {"wandb-metadata.json", "requirements.txt"} & {path.name for path in folder.iterdir()}


def test_lineage_is_told_by_digests(published: Path, place: Path) -> None:
    run = RunFolder.open(published)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(published.parents[2])
        lineage = projection.of_run(run).header.config["lineage"]
        corpus = json.loads((run.corpus / "corpus.json").read_text())
        outcome = run.outcome()
    assert [
        run.record["data"][kind] in name
        for kind, name in zip(("corpus", "vocabulary", "shards"), lineage["inputs"], strict=True)
    ]
    stated = lineage["inputs"][run.record["data"]["corpus"]]
    assert stated["sha256"] == {split: counts["sha256"] for split, counts in corpus["splits"].items()}
    pieces = lineage["inputs"][run.record["data"]["vocabulary"]]
    assert pieces["sha256"] == outcome["inputs"]["vocabulary_sha256"]
    weights = lineage["outputs"][f"weights-{published.name}"]
    assert weights["sha256"] == outcome["files"]["weights.safetensors"]


def test_every_metric_at_its_step(records: list[Any], published: Path) -> None:
    history = [named(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    said = [{k: v for k, v in row.items() if not k.startswith("_")} for row in history]
    assert said == list(rows(metrics_of(published)))
    assert [row["_step"] for row in history] == [row["step"] for row in said]
    steps = [row["step"] for row in said]
    assert steps == sorted(set(steps)) == [*range(0, 41, 4)]
    written = {k for row in said for k in row}
    for record in metrics_of(published):  # that `rows` leaves nothing out
        if record["event"] == "train":
            row = said[steps.index(record["step"])]
            assert row["train/loss_nats"] == record["loss_nats"]
            assert row["train/targets/random"] == record["targets"]["random"]
            assert (row["tokens"], row["train_seconds"]) == (record["tokens"], record["train_seconds"])
        elif record["event"] == "evaluation":
            row = said[steps.index(record["step"])]
            for kind in {"mask", "same", "random"} & set(record["own"]):
                assert row[f"validation/own/{kind}/accuracy"] == record["own"][kind]["accuracy"]
            assert row["validation/yardstick/loss_nats"] == record["yardstick"]["loss_nats"]
    assert {"step", "tokens", "flops", "train_seconds", "train/learning_rate", "train/gradient_norm"} <= written


def test_curves_stand_over_tokens_with_minimum_and_last(records: list[Any]) -> None:
    defined = {
        m.glob_name or m.name: m for r in records if r.WhichOneof("record_type") == "metric" for m in [r.metric]
    }
    assert set(defined) == {"tokens", "train/*", "validation/*"}
    for curve in ("train/*", "validation/*"):
        assert defined[curve].step_metric == "tokens"
        assert defined[curve].summary.min
        assert defined[curve].summary.last


def test_the_summary_holds_the_end_the_extremes_and_the_measures(records: list[Any], published: Path) -> None:
    summary, outcome = summary_of(records), json.loads((published / "run.json").read_text())
    for key in ("status", "realised", "tokens", "flops"):
        assert summary[key] == outcome[key]
    losses = [r["yardstick"]["loss_nats"] for r in metrics_of(published) if r["event"] == "evaluation"]
    assert summary["validation/yardstick/loss_nats"] == {"min": min(losses), "last": losses[-1]}
    (measured,) = published.glob("evaluation-*.json")
    values = json.loads(measured.read_text())["values"]
    assert len(values) > 10
    for name, value in values.items():
        assert summary[f"final/{name.replace('.', '/')}"] == value
    assert any(r.WhichOneof("record_type") == "exit" for r in records), "the run is closed"


def test_the_fills_are_a_table_in_colour(records: list[Any], published: Path) -> None:
    assert summary_of(records)["fills"]["_type"] == "table-file"
    # W&B keeps a table with HTML in it as an artifact: the table as JSON, its cells as files beside it.
    artifact = next(r.artifact for r in records if r.WhichOneof("record_type") == "artifact")
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    table = json.loads(files["fills.table.json"].read_text())
    assert all(published.parents[2] in path.parents for path in files.values())
    assert table["columns"] == ["prompt", "text", "right", "masked", "fills"]
    last = [r for r in metrics_of(published) if r["event"] == "fills"][-1]["prompts"]
    assert len(table["data"]) == len(last) == 2
    for number, (row, prompt) in enumerate(zip(table["data"], last, strict=True)):
        right = sum(prompt["pieces"][f["position"]] == f["piece"] for f in prompt["fills"])
        text = "".join(prompt["pieces"]).replace("▁", " ").strip()
        assert row[:4] == [number, text, right, len(prompt["fills"])]
        shown = files[row[4]["path"]].read_text()
        assert shown.count(" tokens</span>") == 4, "a line an evaluation"
        assert "color: #" in shown


def test_wandb_leet_reads_it(published: Path) -> None:
    (file,) = (published.parents[1] / "wandb").glob("offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    told = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
        env=environment(HOME=str(published)),
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert published.name in told.stdout
    assert len(lines) > 11


@pytest.mark.parametrize(("mode", "later"), [("disabled", False), ("offline", True)])
def test_nothing_is_written_when_disabled_or_left_to_the_pipeline(
    mode: str, later: bool, published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "results" / "runs" / published.name
    shutil.copytree(published, mine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", mode)
    before = sorted(tmp_path.rglob("*"))
    tracker = Tracker(RunFolder.open(mine), offline_later=later)
    tracker.begin()
    assert tracker.end() is None
    assert sorted(tmp_path.rglob("*")) == before


def test_the_scale_file_chooses_and_the_environment_overrules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {**SCALE, "wandb": {"mode": "online", "entity": "lab", "project": "split-study"}}
    found_study(tmp_path, stated)
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("WANDB_")]:
        monkeypatch.delenv(variable)
    found = tracking.environment("test", os.environ)
    assert [found[f"WANDB_{name}"] for name in ("MODE", "ENTITY", "PROJECT")] == [
        "online",
        "lab",
        "split-study",
    ]
    assert found["WANDB_DIR"] == str(tmp_path / "results")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    found = tracking.environment("test", os.environ)
    assert [found[f"WANDB_{name}"] for name in ("MODE", "ENTITY", "PROJECT")] == ["disabled", "lab", "mine"]
    assert tracking.environment(None, os.environ)["WANDB_MODE"] == "disabled"


@pytest.mark.parametrize("broken", [{"WANDB_DIR": "results/file"}, {"WANDB_PROJECT": "no/such:project"}])
def test_a_failing_tracker_fails_no_run(
    broken: dict[str, str], place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    mine = copy_of(place, tmp_path / "place")
    (mine / "results" / "file").write_text("in the way")
    name = f"results/runs/{modern.path.name}"
    said = mlm(mine, "train", name, **{"WANDB_MODE": "offline", **broken})
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr.count("warning: ") == said.stderr.count("python -m mlm sync") == 1
    result = RunFolder.open(mine / name)
    assert result.outcome()["status"] == "finished"
    weights = [(path / "weights.safetensors").read_bytes() for path in (result.path, modern.path)]
    assert weights[0] == weights[1]


def test_a_mode_that_does_not_exist_is_refused_before_training(
    place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    mine = copy_of(place, tmp_path / "place")
    said = mlm(mine, "train", f"results/runs/{modern.path.name}", WANDB_MODE="sideways")
    assert said.returncode == 2
    assert "WANDB_MODE: 'sideways' is no mode; use one of offline, online, disabled" in said.stderr
    assert not (mine / "results" / "runs" / modern.path.name / "metrics.jsonl").exists()
