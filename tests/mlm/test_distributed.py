"""Several processes of one run: the loss curve of one process, exact resume, and memory that ends."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from mlm import config, logs, metrics, planner, shards, single, train
from mlm.distributed import Group
from mlm.errors import InputError
from mlm.files import file_sha256
from mlm.runs import RunFolder
from tests import PATIENCE_SECONDS
from tests.mlm.places import EXPERIMENT, SCALE, done, environment, found_study, mlm, refused, write_yaml
from tests.mlm.training import options, records, small, trainer

ARMS = {
    "mlm": {"masking": {"split": {"mask": 0.8, "same": 0.1, "random": 0.1}}},
    "causal": {"objective": "causal"},
    "growing": {"lengths": {"shape": "staged", "values": [4, 16]}, "micro_batch": 4},
    "dropout": {"encoder": {"preset": "bert"}},
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one process a run, and the same of two."""
    stated = EXPERIMENT | {"arms": ARMS, "baseline": "mlm", "seeds": 1}
    stated["contrasts"] = {"primary": {"arm": "causal", "expect": "lower"}}
    folder = found_study(tmp_path_factory.mktemp("two"), trial=stated)
    scale = copy.deepcopy(SCALE)
    scale["numerics"]["processes"] = 2
    write_yaml(folder / "experiments" / "scales" / "pair.yaml", scale)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("test", "pair"):
            planner.load_study(name).write()
    finally:
        os.chdir(before)
    return folder


def trained(place: Path, arm: str, scale: str) -> RunFolder:
    words = ("train", "trial", "--arm", arm, "--scale", scale, "--checkpoint-seconds", "1e-3")
    done(mlm(place, *words, MLM_LOG=f"logs/{arm}-{scale}.log"))
    return found(place, arm, scale)


def found(place: Path, arm: str, scale: str) -> RunFolder:
    folders = (RunFolder.open(path.parent) for path in (place / "results" / "runs").glob("*/config.json"))
    return next(run for run in folders if (scale, "trial", arm, 0) in run.labels)


def untrained_copy(place: Path, whole: RunFolder, folder: Path) -> tuple[Path, Path]:
    """A copy of a study in which a run is planned only, and the run's folder in it."""
    copied = folder / "again"
    subprocess.run(["cp", "-r", str(place), str(copied)], check=True)
    run = copied / whole.path.relative_to(place)
    for name in ("run.json", "trained", "weights.safetensors", "metrics.jsonl"):
        (run / name).unlink()
    return copied, run


def under_way(
    place: Path, run: Path, words: Sequence[str], lines: int
) -> tuple["subprocess.Popen[bytes]", list[psutil.Process]]:
    """A training that has said so many lines, and all of its processes, the one that was started last."""
    command = [sys.executable, "-m", "mlm", *words]
    started = subprocess.Popen(command, cwd=place, env=environment(), stdout=subprocess.DEVNULL)
    log, end = run / "metrics.jsonl", time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and (not log.exists() or log.read_text().count("\n") < lines):
        time.sleep(0.005)
    return started, [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]


def curve(run: RunFolder, event: str) -> list[float]:
    lines = [line for line in metrics.read(run.path / "metrics.jsonl") if line["event"] == event]
    return [line["loss_nats"] if event == "train" else line["yardstick"]["loss_nats"] for line in lines]


@pytest.mark.long
@pytest.mark.parametrize("arm", list(ARMS))
def test_two_processes_have_the_loss_curve_of_one(two: Path, arm: str) -> None:
    alone, together = trained(two, arm, "test"), trained(two, arm, "pair")
    assert alone.path != together.path, "how many processes compute a run is part of its name"
    for event in ("train", "evaluation"):
        assert curve(together, event) == pytest.approx(curve(alone, event), rel=1e-5), (arm, event)
        assert len(curve(together, event)) > 2
    one, other = alone.outcome(), together.outcome()
    assert other["realised"] == one["realised"], "counted over the whole batch, once"
    assert other["device"] == "2 × one CPU thread"
    log = two / "logs" / f"{arm}-pair.log"
    assert logs.read(log).state == logs.WELL and log.read_text().count("=== ") == 2, "one job, one head and end"


@pytest.mark.long
def test_processes_that_are_killed_resume_to_the_same_bits(two: Path, tmp_path: Path) -> None:
    whole = trained(two, "causal", "pair")
    copied, run = untrained_copy(two, whole, tmp_path)
    words = ("train", str(run.relative_to(copied)), "--checkpoint-seconds", "1e-3")
    for lines in (3, 8):
        started, family = under_way(copied, run, words, lines)
        assert len(family) == 3
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        started.wait()
        assert not (run / "run.json").exists(), "it was killed on the way"
    done(mlm(copied, *words))
    assert file_sha256(run / "weights.safetensors") == file_sha256(whole.path / "weights.safetensors")
    assert records(run) == records(whole.path)


@pytest.mark.long
def test_processes_that_are_all_told_to_stop_save_and_go_on_to_the_same_bits(two: Path, tmp_path: Path) -> None:
    """Each is told by whoever stops the job, and again by torchrun."""
    whole = trained(two, "mlm", "pair")
    copied, run = untrained_copy(two, whole, tmp_path)
    words = ("train", str(run.relative_to(copied)), "--checkpoint-seconds", "3600")
    started, family = under_way(copied, run, words, lines=3)
    for process in family:
        process.terminate()
    assert started.wait(PATIENCE_SECONDS) != 0
    assert not (run / "run.json").exists(), "it was stopped on the way"
    assert [*(run / "checkpoints").iterdir()], "no checkpoint was due but that of the end"
    done(mlm(copied, *words))
    assert file_sha256(run / "weights.safetensors") == file_sha256(whole.path / "weights.safetensors")
    assert records(run) == records(whole.path)


@pytest.mark.parametrize(("alone", "ended"), [(True, 128 + signal.SIGTERM), (False, 7)])
def test_a_second_signal_ends_a_run_of_one_process_alone(alone: bool, ended: int) -> None:
    """torchrun tells its processes again what whoever stops the job told each of them."""

    def told_twice() -> None:
        with single._signals(alone) as received:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7 if {*received} == {signal.SIGTERM} else 8)

    process = get_context("fork").Process(target=told_twice)
    process.start()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == ended


def test_another_number_of_processes_is_refused(two: Path) -> None:
    pair, alone = found(two, "mlm", "pair"), found(two, "mlm", "test")
    words = ("train", str(pair.path), "--checkpoint-seconds", "1")
    assert "planned for 2 processes" in refused(mlm(two, *words, WORLD_SIZE="3", RANK="0"))
    told = refused(mlm(two, "train", str(alone.path), WORLD_SIZE="2", RANK="0"))
    assert "planned for 1 process" in told and "without torchrun" in told


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_starts(trial: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"batch_size: 8 sequences cannot be shared evenly by 3 processes"):
        trial(scale=lambda scale: scale["numerics"].update(processes=3))


@given(rows=st.integers(1, 200), size=st.integers(1, 9))
def test_every_row_belongs_to_one_process(rows: int, size: int) -> None:
    slices = [Group(rank, size).rows(rows) for rank in range(size)]
    assert [row for begin, end in slices for row in range(begin, end)] == list(range(rows))


def curve_of(folder: Path) -> list[dict[str, Any]]:
    """The records of a run but for what it warns of."""
    return [record for record in records(folder) if record["event"] != "warning"]


def cramped(run: config.Run, data: dict[str, shards.Shard], most: int) -> train.Trainer:
    """A trainer on a device whose memory holds `most` sequences."""
    made = trainer(run, data)
    plain = made.sums

    def sums(encoder: Any, batch: Any, uniform: Any) -> Any:
        if len(batch.inputs) > most:
            raise torch.OutOfMemoryError("out of memory")
        return plain(encoder, batch, uniform)

    made.sums = sums
    return made


@pytest.mark.parametrize("kind", ["modern", "bert"])
def test_where_memory_ends_the_batch_is_cut_and_stays_the_same(
    kind: str, modern: RunFolder, bert: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = (modern if kind == "modern" else bert).config
    assert run.batch_size == 8
    told: list[dict[str, Any]] = []
    for name in ("whole", "cut", "stated"):
        (tmp_path / name).mkdir()
    train.train(tmp_path / "whole", trainer(run, data), options())
    train.train(tmp_path / "cut", cramped(run, data, 3), options(seen=told))
    warnings = [record["message"] for record in told if record["event"] == "warning"]
    assert [w.partition(":")[0] for w in warnings] == ["step 1", "step 1"], "and never again"
    assert "and masks, 2 at once" in warnings[-1]
    assert sum(record["event"] == "warning" for record in records(tmp_path / "cut")) == 2
    for mine, theirs in zip(curve_of(tmp_path / "cut"), records(tmp_path / "whole"), strict=True):
        if mine["event"] == "train":
            assert mine["targets"] == theirs["targets"]
            assert mine["loss_nats"] == pytest.approx(theirs["loss_nats"], rel=1e-4)
    train.train(tmp_path / "stated", trainer(small(run, micro_batch=2), data), options())
    assert curve_of(tmp_path / "cut") == records(tmp_path / "stated"), "as if it had been stated"


def test_a_cut_batch_stays_cut_when_the_run_goes_on(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = modern.config
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    train.train(tmp_path / "whole", cramped(run, data, 3), options())
    stops = iter([True, False])
    with pytest.raises(train.Interrupted):
        train.train(tmp_path / "parts", cramped(run, data, 3), options(lambda: next(stops, False)))
    train.train(tmp_path / "parts", trainer(run, data), options())  # more memory than before, the same bits
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_single_sequence_that_does_not_fit_ends_the_run(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"a single sequence does not fit"):
        train.train(tmp_path, cramped(modern.config, data, 0), options())
