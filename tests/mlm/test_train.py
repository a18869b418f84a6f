"""Training goes on after any stop to the same bits, and says what happened without gap or repeat."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlm import checkpoint, config, evaluate, metrics, shards, train
from mlm.batches import Batches
from mlm.encoder import training_flops
from mlm.errors import Damaged
from mlm.files import file_sha256
from mlm.fill import fill_prompts
from mlm.masking import corrupt
from mlm.randomness import Purpose, generator, uniform
from mlm.runs import RunFolder
from mlm.train import Interrupted, Options, Trainer
from tests.mlm.places import copy_of, done, environment, mlm

CPU = torch.device("cpu")
BEGINS_WORD = [number % 3 == 0 for number in range(400)]


def small(run: config.Run, **changes: Any) -> config.Run:
    return config.Run.model_validate({**run.model_dump(), **changes})


def options(stop: Callable[[], bool] = lambda: False, seen: list | None = None, often: float = 0.0) -> Options:
    return Options(often, (seen if seen is not None else []).append, stop, lambda encoder: [])


def trainer(run: config.Run, data: dict[str, shards.Shard], dtype: torch.dtype = torch.float32) -> Trainer:
    return Trainer(run, data, BEGINS_WORD, CPU, dtype)


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl but for the one thing that two runs may differ in."""
    found = list(metrics.read(folder / "metrics.jsonl"))
    return [{k: v for k, v in record.items() if k != "train_seconds"} for record in found]


def to_the_end(run: config.Run, data: dict[str, shards.Shard], folder: Path, **kind: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    outcome = train.train(folder, trainer(run, data, **kind), options())
    return {k: v for k, v in outcome.items() if k != "training_seconds"}


MOVING = {
    "unit": "span",
    "rate": 0.4,
    "predicted": 0.5,
    "span": {"longest": 4},
    "change": {"shape": "cosine", "rate": 0.1, "split": {"mask": 1.0}},
}


@pytest.fixture(params=["modern", "bert with dropout", "modern in bfloat16", "spans at a changing rate"])
def kind(request: pytest.FixtureRequest, modern: RunFolder, bert: RunFolder) -> tuple[config.Run, torch.dtype]:
    run = bert.config if request.param.startswith("bert") else modern.config
    if request.param.startswith("spans"):
        run = small(run, masking=MOVING)
    assert (run.encoder.dropout > 0) == request.param.startswith("bert")
    return run, torch.bfloat16 if request.param.endswith("bfloat16") else torch.float32


def test_stopped_and_resumed_at_several_points_is_undisturbed(
    kind: tuple[config.Run, torch.dtype], data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    """Across the boundaries of epochs too: the text is made so short that the run reads it seven times."""
    run, dtype = kind
    short = {**data, "train": shards.Shard(data["train"].tokens[:700], data["train"].offsets)}
    assert 40 * run.tokens_per_step > 7 * 700
    expected = to_the_end(run, short, tmp_path / "whole", dtype=dtype)
    folder = tmp_path / "parts"
    folder.mkdir()
    stops = iter([True, False, True, True, False, False, True, False, False, True])
    for _ in range(6):
        try:
            outcome = train.train(folder, trainer(run, short, dtype), options(lambda: next(stops, False)))
            break
        except Interrupted:
            continue
    assert next(stops, None) is None, "it was stopped five times"
    assert {k: v for k, v in outcome.items() if k != "training_seconds"} == expected
    weights = [
        checkpoint.safetensors.torch.load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "parts")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert records(folder) == records(tmp_path / "whole")


def test_how_often_it_saves_reports_and_looks_changes_no_bit(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = modern.config
    to_the_end(run, data, tmp_path / "a" / "run")
    (tmp_path / "b" / "run").mkdir(parents=True)
    other = small(run, log_every_tokens=run.tokens_per_step, curve={"every_tokens": 10**9, "sequences": 3})
    train.train(tmp_path / "b" / "run", trainer(other, data), options(often=1e9))
    names = [tmp_path / n / "run" / "weights.safetensors" for n in "ab"]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_events_stand_where_the_configuration_puts_them(modern: RunFolder) -> None:
    run, found = modern.config, records(modern.path)
    steps = {
        event: [r["step"] for r in found if r["event"] == event] for event in ("train", "evaluation", "fills")
    }
    assert steps["train"] == [*range(4, 41, 4)]
    assert steps["evaluation"] == steps["fills"] == [0, 16, 32, 40]
    for record in found:
        assert record["tokens"] == record["step"] * run.tokens_per_step
        assert record["flops"] == record["tokens"] * training_flops(run.encoder, 400, run.sequence_length)
    assert [r["step"] for r in found] == sorted(r["step"] for r in found)


def test_realised_counts_are_the_sum_over_the_records_and_what_a_recount_gives(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    outcome, run = modern.outcome(), modern.config
    realised = outcome["realised"]
    for kind_ in ("mask", "same", "random"):
        assert realised[kind_] == sum(
            r["targets"][kind_] for r in records(modern.path) if r["event"] == "train"
        )
    assert realised["selected"] == realised["mask"] + realised["same"] + realised["random"]
    batches = Batches(data["train"].tokens, run.seed, run.batch_size, run.sequence_length)
    eligible, kinds = 0, torch.zeros(4, dtype=torch.int64)
    for step in range(run.steps):
        tokens = batches(step)
        draws = uniform(generator(run.seed, Purpose.MASKING, step))
        kinds += torch.bincount(corrupt(tokens, run.masking, draws, n_tokens=400).kind.flatten(), minlength=4)
        eligible += int((tokens >= config.N_SPECIAL).sum())
    assert [realised[k] for k in ("eligible", "mask", "same", "random")] == [eligible, *kinds[1:].tolist()]
    assert realised["selected"] / eligible == pytest.approx(run.masking.rate, abs=0.005)
    assert outcome["steps"] == run.steps == 40
    assert outcome["tokens"] == run.budget_tokens


def test_the_loss_falls_on_real_text(modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path) -> None:
    run = small(modern.config, budget_tokens=16 * 32 * 400, batch_size=32, log_every_tokens=16 * 32 * 50)
    to_the_end(run, data, tmp_path)
    held_out = [r["yardstick"]["loss_nats"] for r in records(tmp_path) if r["event"] == "evaluation"]
    assert held_out[0] == pytest.approx(6.0, abs=0.2)  # ln 400
    assert held_out[-1] < held_out[0] - 1.0
    losses = [r["loss_nats"] for r in records(tmp_path) if r["event"] == "train"]
    assert losses[-1] < losses[0] - 0.5


def test_seeds_pair_arms_same_start_same_text_same_evaluation(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    other = small(modern.config, masking={"rate": 0.15, "split": {"mask": 1.0}})
    one, two, third = (trainer(run, data) for run in (modern.config, other, small(other, seed=1)))
    assert torch.equal(one.optimizer.parameters, two.optimizer.parameters)
    assert torch.equal(one.batches(3), two.batches(3))
    assert not torch.equal(two.optimizer.parameters, third.optimizer.parameters)
    assert not torch.equal(two.batches(3), third.batches(3))
    for mine, theirs in zip(one.frozen["yardstick"], third.frozen["yardstick"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_batch_without_targets_is_a_step_without_harm(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = small(modern.config, masking={"rate": 0.0}, optimizer={"learning_rate": 1e-3, "weight_decay": 0.0})
    made = trainer(run, data)
    before = made.optimizer.parameters.clone()
    outcome = train.train(tmp_path, made, options())
    assert outcome["status"] == "finished"
    assert outcome["realised"]["selected"] == 0
    assert torch.equal(made.optimizer.parameters, before)
    assert {r["loss_nats"] for r in records(tmp_path) if r["event"] == "train"} == {0.0}


def test_a_run_that_diverges_says_at_which_step_and_rate(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = small(modern.config, optimizer={"learning_rate": 1e6, "decay_tokens": 1280})
    outcome = to_the_end(run, data, tmp_path / "a" / "run")
    assert outcome["status"] == "diverged"
    assert outcome["diverged"]["learning_rate"] == 1e6
    step = outcome["diverged"]["step"]
    assert 1 < step < 40
    assert outcome["steps"] == step
    made = trainer(run, data)
    finite = [
        bool(torch.stack([x.double() for x in made.step(number)[:2]]).isfinite().all())
        for number in range(step)
    ]
    assert finite == [True] * (step - 1) + [False], "the very step, not the record it fell into"
    assert to_the_end(run, data, tmp_path / "b" / "run") == outcome
    assert all(r["step"] < step for r in records(tmp_path / "a" / "run"))


def test_a_damaged_newest_checkpoint_costs_a_warning_and_no_bit(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    expected = to_the_end(modern.config, data, tmp_path / "whole" / "run")
    folder = tmp_path / "harmed" / "run"
    folder.mkdir(parents=True)
    stops = iter([False, False, False, True])
    with pytest.raises(Interrupted, match="step 16 of 40"):
        train.train(folder, trainer(modern.config, data), options(lambda: next(stops)))
    newest = max((folder / "checkpoints").iterdir())
    assert newest.name == f"{16:012d}.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-100])
    seen: list[dict[str, Any]] = []
    outcome = train.train(folder, trainer(modern.config, data), options(seen=seen))
    assert seen[0]["event"] == "warning"
    assert str(newest) in seen[0]["message"]
    assert {k: v for k, v in outcome.items() if k != "training_seconds"} == expected
    assert (folder / "weights.safetensors").read_bytes() == (
        tmp_path / "whole/run/weights.safetensors"
    ).read_bytes()
    assert records(folder) == records(tmp_path / "whole" / "run")


def test_the_prompts_are_always_masked_at_the_same_places(modern: RunFolder) -> None:
    fills = [r["prompts"] for r in records(modern.path) if r["event"] == "fills"]
    assert len({json.dumps([[f["position"] for f in p["fills"]] for p in prompts]) for prompts in fills}) == 1
    assert len({json.dumps([p["pieces"] for p in prompts]) for prompts in fills}) == 1


def test_looking_draws_no_randomness_and_changes_no_weight(here: Path, modern: RunFolder) -> None:
    encoder, tokenizer = modern.encoder(), modern.tokenizer()
    before = [p.detach().clone() for p in encoder.parameters()]
    state = torch.random.get_rng_state()
    first = fill_prompts(encoder, tokenizer, ["A string is a sequence."])
    assert first == fill_prompts(encoder, tokenizer, ["A string is a sequence."])
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one, other) for one, other in zip(before, encoder.parameters(), strict=True))


# Real processes, really killed

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
        os._exit(single.train(run, 0.0, Path("train.log")))
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
    deadline = time.monotonic() + 60
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
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped: saved at step" in said
    assert "the same command goes on" in said
    state, warnings = checkpoint.latest(folder / "checkpoints")
    assert state is not None
    assert not warnings
    assert records(folder)[-1]["step"] == state.step
    assert not (folder / "run.json").exists()
    again = subprocess.Popen(command, cwd=mine, env=environment(), stdout=subprocess.PIPE, text=True)
    while time.monotonic() < deadline and records_so_far(folder) <= state.step:
        time.sleep(0.02)
    again.send_signal(number)
    again.communicate(timeout=60)
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
    (folder / ".weights.safetensors.x").write_bytes(b"left by a writer that was killed")
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    done(mlm(mine, "train", str(folder.relative_to(mine)), WANDB_MODE="offline"))
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    assert not (folder / "checkpoints").exists()
    assert not list(folder.glob(".*"))
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
        _, said = process.communicate(timeout=120)
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


def test_two_processes_never_train_one_run_at_once(place: Path, modern: RunFolder, tmp_path: Path) -> None:
    mine = copy_of(place, tmp_path / "place")
    command = [sys.executable, "-m", "mlm", "train", f"results/runs/{modern.path.name}"]
    both = [
        subprocess.Popen(
            command, cwd=mine, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
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


def test_evaluation_during_training_is_the_evaluation_of_those_weights(
    here: Path, modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    last = [r for r in records(modern.path) if r["event"] == "evaluation"][-1]
    run, encoder = modern.config, modern.encoder()
    for name, masking in evaluate.corruptions(run).items():
        frozen = evaluate.freeze(
            data["validation"].tokens,
            masking,
            run.sequence_length,
            torch.tensor(BEGINS_WORD),
            run.curve.sequences,
        )
        assert evaluate.measure(encoder, frozen, CPU) == last[name]
