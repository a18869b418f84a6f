"""What W&B is to show of files, also of those that are damaged or contradict each other."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlm import projection, sync, wandb_writer
from mlm.errors import Damaged
from mlm.runs import RunFolder
from tests.mlm.places import copy_of


@pytest.fixture
def run(place: Path, modern: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The trained run in a study of its own, whose files a test may change."""
    mine = copy_of(place, tmp_path / "place")
    (mine / "results" / "data").unlink()
    shutil.copytree(place / "results" / "data", mine / "results" / "data")
    shutil.copytree(place / "results" / "test", mine / "results" / "test")
    folder = mine / "results" / "runs" / modern.path.name
    shutil.copytree(modern.path, folder, dirs_exist_ok=True)
    monkeypatch.chdir(mine)
    return RunFolder.open(folder.relative_to(mine))


@pytest.mark.parametrize("damaged", ["{}", "[]", '{"splits": {"train": 3}}', '{"splits":'])
@pytest.mark.parametrize("kind", ["corpus", "shards"])
def test_a_damaged_manifest_is_told_of_its_runs_alone(kind: str, damaged: str, run: RunFolder) -> None:
    path: Path = getattr(run, kind) / f"{kind}.json"
    path.write_text(damaged)
    item, _ = sync.items([run], "test", "trial", False)
    assert item.name == run.name
    with pytest.raises(Damaged, match=path.name):
        item.make()


@pytest.mark.parametrize("damaged", ["{}", "[]", '{"experiments": []}', '{"experiments": {"trial": 3}}', "{"])
def test_a_damaged_study_is_told_and_its_data_are_shown(damaged: str, run: RunFolder) -> None:
    Path("results/test/study.json").write_text(damaged)
    *data, of_run, of_study = sync.items([run], "test", None, False)
    assert len([item.make() for item in data]) == 3
    assert (of_run.name, of_study.name) == (run.name, "test")
    for item in (of_run, of_study):
        with pytest.raises(Damaged, match=r"study\.json"):
            item.make()


def test_where_studies_measure_differently_the_first_labels_counts(run: RunFolder) -> None:
    study = json.loads(Path("results/test/study.json").read_text())
    for scale, number in (("a", 1), ("b", 2), ("c", 1)):  # c shares the file of a
        study["experiments"]["trial"]["measure_files"] = {"evaluation": f"evaluation-{number}.json"}
        Path("results", scale).mkdir()
        Path("results", scale, "study.json").write_text(json.dumps(study))
        (run.path / f"evaluation-{number}.json").write_text(json.dumps({"values": {"loss": number}}))
    label = ["trial", "80-10-10", 0]
    (run.path / "labels.json").write_text(json.dumps([[scale, *label] for scale in "abc"]))
    assert projection.of_run(run).summary["final/loss"] == 1


def test_the_terms_of_a_loss_are_curves_too() -> None:
    record = {"event": "train", "step": 4, "tokens": 64, "flops": 1, "train_seconds": 0.1, "loss_nats": 7.1,
              "tokens_loss_nats": 6.4, "relation_loss_nats": 0.7, "learning_rate": 0.1, "gradient_norm": 1.0,
              "targets": {"mask": 3}}  # fmt: skip
    (row,) = projection.rows([record])
    assert (row["train/tokens_loss_nats"], row["train/relation_loss_nats"]) == (6.4, 0.7)


def test_rows_wait_for_the_older_of_two_checkpoints(run: RunFolder) -> None:
    """A run whose newest checkpoint is damaged goes on from the other, and repeats what comes behind that."""
    (run.path / "run.json").unlink()
    for step in (8, 16):
        checkpoint = run.path / "checkpoints" / f"{step:08}.checkpoint"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_bytes(b"torn")
    rows: list[dict[str, Any]] = [*wandb_writer.settled(run, trainer=-1)]
    assert [row["step"] for row in rows] == [0, 4, 8]


def test_an_experiment_called_data_has_an_offline_analysis(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = json.loads(Path("results/test/study.json").read_text())
    study["experiments"] = {"data": study["experiments"]["trial"]}
    study["index"] = [{**cell, "experiment": "data"} for cell in study["index"]]
    Path("results/test/study.json").write_text(json.dumps(study))
    (run.path / "labels.json").write_text(json.dumps([["test", "data", "80-10-10", 0]]))
    table = Path("results/test/tables/data/contrasts.csv")
    table.parent.mkdir(parents=True)
    table.write_text("arm,n\nbert,8\n")
    written: list[str] = []
    monkeypatch.setattr(wandb_writer, "offline", lambda found: written.append(found.header.name) is None)
    assert sync.write_offline("test", "data") == 2
    assert written == ["data/80-10-10/seed-0", "test/data"]


@pytest.mark.parametrize("damaged", ["[1]", '[["a"]]', '["words"]', "3"])
def test_labels_that_are_none_are_told_by_their_file(damaged: str, run: RunFolder) -> None:
    (run.path / "labels.json").write_text(damaged)
    with pytest.raises(Damaged, match=r"labels\.json: damaged, not the labels of a run; delete it"):
        _ = run.name
