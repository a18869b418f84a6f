"""The offline W&B file, read back, says what metrics.jsonl says; and W&B can fail without harm."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlm import metrics, tracking
from mlm.evaluate import flatten
from mlm.runs import RunFolder
from tests.mlm.places import copy_of, mlm

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


@pytest.fixture(scope="module")
def published(place: Path, modern: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run in a place of its own, published twice: the second time takes the first one's place."""
    mine = copy_of(place, tmp_path_factory.mktemp("tracked") / "place")
    folder = mine / "results" / "runs" / modern.path.name
    for path in modern.path.iterdir():
        shutil.copy2(path, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(mine)
        for variable in [v for v in os.environ if v.startswith("WANDB_")]:
            patch.delenv(variable)
        patch.setenv("HOME", str(mine / "home"))
        for _ in range(2):
            assert tracking.publish(RunFolder.open(folder)) is None
        for variable in [v for v in os.environ if v.startswith("WANDB_")]:
            patch.delenv(variable)
    return folder


@pytest.fixture(scope="module")
def records(published: Path) -> list[Any]:
    files = list((published.parents[1] / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1, "one run, one folder, however often it was published"
    assert files[0].name == f"run-{published.name}.wandb"
    return read(files[0])


def test_everything_lies_under_results(published: Path) -> None:
    place = published.parents[2]
    assert {path.name for path in place.iterdir()} <= {"experiments", "text", "results", "home"}
    assert not (place / "home").exists() or not list((place / "home").rglob("*wandb*"))


def test_name_group_and_configuration(records: list[Any], published: Path) -> None:
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.run_id == published.name
    assert run.display_name == "trial/80-10-10/seed-0"
    assert run.run_group == "trial/80-10-10"
    assert run.project == "mlm"
    assert run.job_type == "train"
    assert set(run.tags) == {"test", "trial"}
    stated = json.loads((published / "config.json").read_text())
    kept = named(run.config.update)
    assert {key: kept[key] for key in stated} == stated
    assert kept["arms"] == {"trial": "80-10-10"}
    assert kept["status"] == "finished"


def test_every_metric_at_its_place(records: list[Any], published: Path) -> None:
    history = [named(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    expected = []
    for record in metrics.read(published / "metrics.jsonl"):
        place = {key: record[key] for key in ("step", "tokens", "flops")}
        if record["event"] == "train":
            values = {k: record[k] for k in ("loss_nats", "learning_rate", "gradient_norm", "targets")}
            prefix = "train"
        elif record["event"] == "evaluation":
            values, prefix = {k: record[k] for k in ("yardstick", "own")}, "validation"
        else:
            continue
        expected.append(place | {k.replace(".", "/"): v for k, v in flatten(prefix, values)})
    assert len(history) == len(expected) == 14
    for said, wanted in zip(history, expected, strict=True):
        assert {k: v for k, v in said.items() if not k.startswith("_")} == wanted
    assert [row["tokens"] for row in history] == sorted(row["tokens"] for row in history)


def test_curves_stand_over_tokens(records: list[Any]) -> None:
    defined = [r.metric for r in records if r.WhichOneof("record_type") == "metric"]
    assert any(m.name == "tokens" for m in defined)
    assert any(m.glob_name == "*" and m.step_metric == "tokens" for m in defined)


def test_the_summary_tells_how_it_ended(records: list[Any], published: Path) -> None:
    summary: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= named(record.summary.update)
    assert summary["status"] == "finished"
    assert summary["realised"] == json.loads((published / "run.json").read_text())["realised"]
    assert any(r.WhichOneof("record_type") == "exit" for r in records), "the run is closed"


def test_disabled_writes_nothing(published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "results" / "runs" / published.name
    shutil.copytree(published, mine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    before = sorted(tmp_path.rglob("*"))
    assert tracking.publish(RunFolder.open(mine)) is None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "broken", [{"WANDB_DIR": "results/file"}, {"WANDB_MODE": "sideways"}, {"WANDB_PROJECT": "no/such:project"}]
)
def test_a_failing_tracker_fails_no_run(
    broken: dict[str, str], place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    mine = copy_of(place, tmp_path / "place")
    (mine / "results" / "file").write_text("in the way")
    name = f"results/runs/{modern.path.name}"
    said = mlm(mine, "train", name, **{"WANDB_MODE": "offline", **broken})
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    result = RunFolder.open(mine / name)
    assert result.outcome()["status"] == "finished"
    weights = [(path / "weights.safetensors").read_bytes() for path in (result.path, modern.path)]
    assert weights[0] == weights[1]
