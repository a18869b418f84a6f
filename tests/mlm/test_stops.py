"""Real processes that train, really killed, stopped, begun twice and harmed afterwards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlm import checkpoint, logs
from mlm.errors import Damaged
from mlm.files import file_sha256
from mlm.runs import RunFolder
from tests import PATIENCE_SECONDS
from tests.mlm.places import BESIDE_TRAINING, ROOT, copy_of, done, environment, loaded, mlm
from tests.mlm.training import records

ATTEMPTS = '''
"""Train one run in forked children, killing each by the next rule on stdin, until one ends."""
import os, random, signal, sys, time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
import torch, wandb
torch.set_num_threads(1)
from mlm import single
from mlm.runs import RunFolder

run = RunFolder.open(Path(sys.argv[1]))
kills = 0


def dies_at(name, nth):
    """SIGKILL at the nth call of os.<name>: just before it where nth is even, else just after."""
    real, calls = getattr(os, name), 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == nth // 2 and nth % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if calls == nth // 2 and nth % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, counted)


def dies_in_write(nth):
    """SIGKILL in the middle of the nth large write: half of the bytes are on the disk."""
    real, calls = os.fdopen, 0

    def opened(*args, **kwargs):
        stream = real(*args, **kwargs)
        write = stream.write

        class Half:
            def __enter__(self): return self
            def __exit__(self, *how): stream.close()
            def __getattr__(self, name): return getattr(stream, name)
            def write(self, content):
                nonlocal calls
                calls += len(content) > 10_000
                if calls == nth and len(content) > 10_000:
                    write(content[: len(content) // 2])
                    stream.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(content)

        return Half()

    os.fdopen = opened


for rule in [*sys.argv[2:], "none"]:
    name, _, nth = rule.partition(":")
    child = os.fork()
    if child == 0:
        sys.stdout = open(os.devnull, "w")
        if name == "write":
            dies_in_write(int(nth))
        elif name in ("replace", "fsync"):
            dies_at(name, int(nth))
        os._exit(single.train(run, 0.0))
    if name == "after":
        time.sleep(float(nth))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    kills += os.WIFSIGNALED(status)
    if not os.WIFSIGNALED(status):
        break
print(kills, os.waitstatus_to_exitcode(status))
'''


def killed(place: Path, run: RunFolder, folder: Path, rules: list[str]) -> int:
    """Train the run in a copy of the place, killed by each rule in turn; how often it was."""
    mine = copy_of(place, folder)
    script = folder / "attempts.py"
    script.write_text(ATTEMPTS)
    command = [sys.executable, str(script), f"results/runs/{run.path.name}", *rules]
    said = subprocess.run(command, cwd=mine, env=environment(), capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    kills, code = map(int, said.stdout.split())
    assert code == 0
    result = RunFolder.open(mine / "results" / "runs" / run.path.name)
    assert result.outcome()["realised"] == run.outcome()["realised"]
    assert not (result.path / "checkpoints").exists()
    assert file_sha256(result.path / "weights.safetensors") == file_sha256(run.path / "weights.safetensors")
    assert records(result.path) == records(run.path)
    left = {path.name for path in result.path.iterdir()} - {path.name for path in run.path.iterdir()}
    assert not {name for name in left if not name.startswith(".")}
    return kills


@pytest.mark.parametrize("name", ["modern", "bert"])
def test_killed_inside_writing_at_every_kind_of_call(
    name: str, place: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Before and after fsync and rename, and with half a checkpoint, log or weights file on the disk."""
    rules = [
        *("write:1", "replace:4", "replace:5", "fsync:6", "write:2", "fsync:5"),
        *("replace:8", "write:3", "fsync:9", "replace:3", "write:1", "write:1"),
    ]
    assert killed(place, request.getfixturevalue(name), tmp_path / "place", rules) >= 10


def test_killed_at_ten_random_moments(place: Path, bert: RunFolder, tmp_path: Path) -> None:
    """The run takes about a second: most kills meet it somewhere between its first and its last file."""
    source = random.Random(0)
    rules = [f"after:{source.uniform(0.02, 0.4)}" for _ in range(10)]
    assert killed(place, bert, tmp_path / "place", rules) >= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_leaves_and_goes_on(
    number: signal.Signals, place: Path, tmp_path: Path
) -> None:
    mine = copy_of(place, tmp_path / "place")
    words = ["trial", "--scale", "test", "--set", "budget_tokens=1280000", "--set", "optimizer.decay_tokens=0"]
    command = [sys.executable, "-m", "mlm", "train", *words]
    process = subprocess.Popen(command, cwd=mine, env=environment(), stdout=subprocess.PIPE, text=True)
    before = set((mine / "results" / "runs").iterdir())
    deadline = time.monotonic() + PATIENCE_SECONDS
    folder = None
    while time.monotonic() < deadline:
        new = set((mine / "results" / "runs").iterdir()) - before
        folder = next(iter(new), None)
        log = folder / "metrics.jsonl" if folder else None
        if log and log.exists() and log.read_text().count('"train"') > 2:
            break
        time.sleep(0.02)
    assert folder is not None
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number
    assert "stopped: saved at step" in said
    assert "the same command goes on" in said
    state, warnings = checkpoint.latest(folder / "checkpoints")
    assert state is not None
    assert not warnings
    assert records(folder)[-1]["step"] == state.step
    assert not (folder / "run.json").exists()
    variables = environment(MLM_LOG="train.log")
    again = subprocess.Popen(command, cwd=mine, env=variables, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and records_so_far(folder) <= state.step:
        time.sleep(0.02)
    again.send_signal(number)
    again.communicate(timeout=PATIENCE_SECONDS)
    assert logs.read(mine / "train.log") == (logs.STOPPED, [])
    assert "stopped: saved at step" in (mine / "train.log").read_text(), "and not on the terminal"
    steps = [r["step"] for r in records(folder) if r["event"] == "train"]
    assert steps == list(range(4, steps[-1] + 1, 4))
    assert steps[-1] > state.step


def records_so_far(folder: Path) -> int:
    lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    return int(json.loads(lines[-1])["step"]) if lines else 0


def trained_copy(place: Path, run: RunFolder, folder: Path) -> Path:
    """The run's folder in a copy of the place, as it was left when the run had ended."""
    mine = copy_of(place, folder) / "results" / "runs" / run.path.name
    for path in run.path.iterdir():
        shutil.copy2(path, mine)
    return mine


def test_a_kill_between_the_last_steps_leaves_nothing_undone(
    place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    """run.json is there and the flag is not: what comes between them is done, and nothing is trained."""
    mine = copy_of(place, tmp_path / "place")
    folder = mine / "results" / "runs" / modern.path.name
    for name in ("run.json", "metrics.jsonl", "weights.safetensors"):
        shutil.copy2(modern.path / name, folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "000000000001.checkpoint").write_bytes(b"old")
    (folder / ".weights.safetensors.x.partial").write_bytes(b"left by a writer that was killed")
    for looked_at in (folder, folder / "checkpoints"):  # as an editor leaves it where somebody has looked
        (looked_at / ".ipynb_checkpoints").mkdir()
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    done(mlm(mine, "train", str(folder.relative_to(mine)), WANDB_MODE="offline"))
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [".ipynb_checkpoints"]
    assert [path.name for path in folder.glob(".*")] == [".ipynb_checkpoints"]
    assert (folder / "trained").read_text().strip() == file_sha256(folder / "weights.safetensors")
    assert len(list((mine / "results" / "wandb").glob(f"offline-run-*-{folder.name}"))) == 1


def test_two_trainings_begun_together_on_a_fresh_tree_share_their_data(place: Path, tmp_path: Path) -> None:
    mine = tmp_path / "fresh"
    mine.mkdir()
    for name in ("experiments", "text"):
        (mine / name).symlink_to(place / name)
    words = [sys.executable, "-m", "mlm", "train", "trial", "--scale", "test", "--seed"]
    both = [
        subprocess.Popen([*words, seed], cwd=mine, env=environment(), stdout=-1, stderr=-1)
        for seed in ("0", "1")
    ]
    for process in both:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, said.decode()


def test_a_finished_run_is_not_trained_again(place: Path, modern: RunFolder, tmp_path: Path) -> None:
    mine = trained_copy(place, modern, tmp_path / "place")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in mine.iterdir()}
    (mine / "trained").unlink()  # what Snakemake does to the outputs it knows of
    said = done(mlm(tmp_path / "place", "train", f"results/runs/{mine.name}"))
    assert "tokens/s" not in said
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in mine.iterdir()}
    assert {path.name for path in after if before[path] != after[path]} <= {"trained", "lock"}
    stated = (mine / "trained").read_text().strip()
    assert (
        stated == file_sha256(mine / "weights.safetensors") == file_sha256(modern.path / "weights.safetensors")
    )


def test_training_loads_what_it_uses_alone(place: Path, modern: RunFolder, tmp_path: Path) -> None:
    """Neither what plans and analyses, nor what compiles where the step is plain."""
    copy = copy_of(place, tmp_path / "copy")
    run = copy / "results/runs" / modern.path.name
    found = loaded(copy, "train", f"results/runs/{run.name}")
    assert "mlm.train" in found and (run / "trained").exists()
    assert not (BESIDE_TRAINING | {"sympy", "torch._dynamo"}) & found


def test_two_processes_never_train_one_run_at_once(place: Path, modern: RunFolder, tmp_path: Path) -> None:
    mine = copy_of(place, tmp_path / "place")
    command = [sys.executable, "-m", "mlm", "train", f"results/runs/{modern.path.name}"]
    both = [
        subprocess.Popen(
            command, cwd=mine, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE_SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("tokens/s" in out for out, _ in said) == 1
    assert records(mine / "results" / "runs" / modern.path.name) == records(modern.path)


@pytest.mark.parametrize("name", ["weights.safetensors", "metrics.jsonl", "run.json", "config.json"])
def test_a_file_truncated_or_altered_after_the_end_is_named(
    name: str, place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    mine = trained_copy(place, modern, tmp_path / "place")
    whole = (mine / name).read_bytes()
    middle = len(whole) // 2
    for harmed in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        (mine / name).write_bytes(harmed)
        if name == "run.json" and harmed[middle:]:
            continue  # nothing states the hash of the last file; its numbers are compared where they are used
        with pytest.raises(Damaged, match=name):
            RunFolder.open(mine).outcome()


def test_one_core_and_two_cores_give_the_same_bits(place: Path, modern: RunFolder, tmp_path: Path) -> None:
    mine = copy_of(place, tmp_path / "place")
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-m", "mlm", "train", f"results/runs/{modern.path.name}"]
    subprocess.run(command, cwd=mine, env=environment(), capture_output=True, check=True)
    weights = mine / "results" / "runs" / modern.path.name / "weights.safetensors"
    assert weights.read_bytes() == (modern.path / "weights.safetensors").read_bytes()


def test_code_that_changed_since_the_plan_does_not_train(
    place: Path, modern: RunFolder, tmp_path: Path
) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "mine.py").write_text("def rise(progress):\n    return progress\n")
    surroundings = {"PYTHONPATH": f"{lab}:{ROOT}"}
    mine = copy_of(place, tmp_path / "place")
    change = ["--set", "masking.change={shape: 'mine:rise', rate: .3}", "--scale", "test"]
    done(mlm(mine, "train", "trial", *change, **surroundings))
    before = {path.name for path in modern.path.parent.iterdir()}
    (run,) = {path.name for path in (mine / "results/runs").iterdir()} - before
    for made in ("run.json", "trained", "metrics.jsonl", "weights.safetensors"):
        (mine / "results/runs" / run / made).unlink()
    (lab / "mine.py").write_text("def rise(progress):\n    return progress**2\n")
    refused = mlm(mine, "train", f"results/runs/{run}", **surroundings)
    assert refused.returncode == 2
    assert "mine:rise changed since the run was planned" in refused.stderr
    assert "Traceback" not in refused.stderr
