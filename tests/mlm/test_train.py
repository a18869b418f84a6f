"""Training goes on after any stop to the same bits, and says what happened without gap or repeat."""

import json
import math
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

import numpy as np
import pytest
import torch

from mlm import checkpoint, config, evaluate, flops, logs, metrics, schedules, shards, train
from mlm.batches import Batches
from mlm.encoder import Encoder
from mlm.errors import Damaged, InputError
from mlm.files import file_sha256
from mlm.fill import fill_prompts
from mlm.masking import corrupt
from mlm.objectives import cross_entropies
from mlm.randomness import Purpose, generator, uniform
from mlm.runs import RunFolder
from mlm.schedules import Pattern
from mlm.train import Interrupted, Options, Trainer
from tests import PATIENCE_SECONDS
from tests.mlm.places import ROOT, copy_of, done, environment, loaded, mlm

CPU = torch.device("cpu")
BEGINS_WORD = [number % 3 == 0 for number in range(400)]


def small(run: config.Run, **changes: Any) -> config.Run:
    return config.Run.model_validate({**run.model_dump(), **changes})


def options(stop: Callable[[], bool] = lambda: False, seen: list | None = None, often: float = 0.0) -> Options:
    return Options(often, (seen if seen is not None else []).append, stop, lambda encoder: [])


def trainer(run: config.Run, data: dict[str, shards.Shard], dtype: torch.dtype = torch.float32) -> Trainer:
    return Trainer(run, data, BEGINS_WORD, Encoder(run.encoder, 400, run.seed, dtype))


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


GROWING = {"shape": "staged", "values": [2, 4, 8, 16], "ends": [0.3, 0.6, 0.9]}
CHANGES: dict[str, dict[str, Any]] = {
    "spans at a changing rate": {"masking": MOVING},
    "longer and longer": {"lengths": GROWING},
    "wider and wider": {"attention": {"window": {**GROWING, "shape": "linear", "ends": []}}},
    "causal, in groups of stretches": {"objective": "causal", "attention": {"group": 8}, "stretch": 4},
    "sentence pairs": {"objective": "mlm+nsp"},
    "sentence order alone": {"objective": "sop"},
    "micro-batches": {"micro_batch": 2, "checkpoints_at": {"first": 600, "number": 5}},
}


@pytest.fixture(params=["modern", "bert with dropout", "modern in bfloat16", *CHANGES])
def kind(request: pytest.FixtureRequest, modern: RunFolder, bert: RunFolder) -> tuple[config.Run, torch.dtype]:
    run = bert.config if request.param.startswith("bert") else modern.config
    if request.param in CHANGES:
        run = changed(run, request.param)
    assert (run.encoder.dropout > 0) == request.param.startswith("bert")
    return run, torch.bfloat16 if request.param.endswith("bfloat16") else torch.float32


def changed(run: config.Run, name: str) -> config.Run:
    encoder = {**run.encoder.model_dump(), "segments": "sentence" in name}
    return small(run, encoder=encoder, **CHANGES[name])


def beginning(whole: shards.Shard, tokens: int) -> shards.Shard:
    """The first tokens of a split, as two documents."""
    lines = whole.lines[whole.lines < tokens]
    half = lines[len(lines) // 2]
    return shards.Shard(whole.tokens[:tokens], np.array([0, half, tokens]), lines)


def test_stopped_and_resumed_at_several_points_is_undisturbed(
    kind: tuple[config.Run, torch.dtype], data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    """Across the boundaries of epochs too: the text is made so short that the run reads it seven times."""
    run, dtype = kind
    short = {**data, "train": beginning(data["train"], 700)}
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
    kept = [sorted((tmp_path / n / "kept").glob("*")) for n in ("whole", "parts")]
    assert [int(path.stem) for path in kept[0]] == run.kept_steps
    # Their headers name the run's folder, which here has two names.
    loaded = [[checkpoint.safetensors.torch.load_file(path) for path in paths] for paths in kept]
    for one, other in zip(*loaded, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


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
        assert record["flops"] == record["tokens"] * flops.of_token(run.encoder, 400, run.sequence_length)
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
    assert torch.equal(one.text(3)[0], two.text(3)[0])
    assert not torch.equal(two.optimizer.parameters, third.optimizer.parameters)
    assert not torch.equal(two.text(3)[0], third.text(3)[0])
    for mine, theirs in zip(one.frozen["yardstick"], third.frozen["yardstick"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine[:5], theirs[:5], strict=True))


def test_a_batch_without_targets_is_a_step_without_harm(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = small(modern.config, masking={"rate": 1e-12}, optimizer={"learning_rate": 1e-3, "weight_decay": 0.0})
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
    steps = [made.step(number) for number in range(step)]
    counts = torch.stack([s.counts for s in steps]).sum(0).tolist()
    told = [outcome["realised"][name] for name in train.COUNTED]
    assert told == counts, "drawn up to that step, as tokens are read"
    finite = [bool(torch.stack([*s.losses.values(), s.norm]).isfinite().all()) for s in steps]
    assert finite == [True] * (step - 1) + [False], "the very step, not the record it fell into"
    assert to_the_end(run, data, tmp_path / "b" / "run") == outcome
    assert all(r["step"] < step for r in records(tmp_path / "a" / "run"))


@pytest.mark.parametrize(("harmed", "goes_on_from"), [(1, 12), (2, 0)])
def test_damaged_checkpoints_cost_warnings_and_no_bit(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path, harmed: int, goes_on_from: int
) -> None:
    expected = to_the_end(modern.config, data, tmp_path / "whole" / "run")
    folder = tmp_path / "harmed" / "run"
    folder.mkdir(parents=True)
    stops = iter([False, False, False, True])
    with pytest.raises(Interrupted, match="step 16 of 40"):
        train.train(folder, trainer(modern.config, data), options(lambda: next(stops)))
    newest = sorted((folder / "checkpoints").iterdir(), reverse=True)[:harmed]
    assert newest[0].name == f"{16:012d}.checkpoint"
    for path in newest:
        path.write_bytes(path.read_bytes()[:-100])
    seen: list[dict[str, Any]] = []
    outcome = train.train(folder, trainer(modern.config, data), options(seen=seen))
    assert [r["event"] for r in seen[: harmed + 1]] == ["warning"] * harmed + [seen[harmed]["event"]]
    assert all(str(path) in told["message"] for path, told in zip(newest, seen, strict=False))
    assert {k: v for k, v in outcome.items() if k != "training_seconds"} == expected
    assert (folder / "weights.safetensors").read_bytes() == (
        tmp_path / "whole/run/weights.safetensors"
    ).read_bytes()
    told = [r for r in records(folder) if r["event"] == "warning"]
    assert [r["step"] for r in told] == [goes_on_from] * harmed
    assert [r for r in records(folder) if r not in told] == records(tmp_path / "whole" / "run")


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
    heavy = {"pandas", "scipy", "matplotlib", "wandb", "transformers", "datasets", "sympy", "torch._dynamo"}
    assert not heavy & found


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


def test_evaluation_during_training_is_the_evaluation_of_those_weights(
    here: Path, modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    last = [r for r in records(modern.path) if r["event"] == "evaluation"][-1]
    run, encoder = modern.config, modern.encoder()
    frozen = evaluate.freeze(run, data["validation"], torch.tensor(BEGINS_WORD), run.curve.sequences)
    for name, batches in frozen.items():
        assert evaluate.measure(encoder, batches) == last[name]


def updates(run: config.Run, data: dict[str, shards.Shard], steps: int = 6) -> tuple[list[float], Trainer]:
    """Losses of the first steps, in nats."""
    training = trainer(run, data)
    made = [training.step(number) for number in range(steps)]
    return [sum(float(step.losses[t] / step.items[t]) for t in step.losses) for step in made], training


@pytest.mark.parametrize("change", ["spans at a changing rate", "sentence pairs", "dropout"])
def test_micro_batches_change_no_mask_and_no_loss_beyond_rounding(
    change: str, modern: RunFolder, bert: RunFolder, data: dict[str, shards.Shard]
) -> None:
    run = bert.config if change == "dropout" else changed(modern.config, change)
    expected, whole = updates(run, data)
    parameters, counts = whole.optimizer.parameters.clone(), whole.step(6).counts
    for micro_batch in (1, 2, 4):
        losses, training = updates(small(run, micro_batch=micro_batch), data)
        assert losses == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(training.optimizer.parameters, parameters, rtol=0, atol=2e-5)
        assert torch.equal(training.step(6).counts, counts)


def test_shorter_sequences_are_the_same_text_cut_up(modern: RunFolder, data: dict[str, shards.Shard]) -> None:
    constant, growing = (
        trainer(run, data) for run in (modern.config, changed(modern.config, "longer and longer"))
    )
    lengths = set()
    for number in range(40):
        one, other = constant.text(number)[0], growing.text(number)[0]
        assert torch.equal(one.flatten(), other.flatten())
        lengths.add(other.shape[1])
    assert lengths == {2, 4, 8, 16}


def test_operations_follow_the_lengths(
    modern: RunFolder, data: dict[str, shards.Shard], tmp_path: Path
) -> None:
    run = changed(modern.config, "longer and longer")
    outcome = to_the_end(run, data, tmp_path)
    rows = [trainer(run, data).text(number)[0].shape for number in range(40)]
    assert outcome["flops"] == sum(
        flops.of_token(run.encoder, 400, length) * count * length for count, length in rows
    )
    assert outcome["flops"] < flops.of_run(modern.config, 400)


def test_a_sequence_of_stretches_is_of_unrelated_ones(modern: RunFolder, data: dict[str, shards.Shard]) -> None:
    run = changed(modern.config, "causal, in groups of stretches")
    training, stream = trainer(run, data), data["train"].tokens.tolist()
    text = training.text(0)[0]
    assert text.shape == (8, 16)
    known = {tuple(stream[i : i + 4]) for i in range(len(stream) - 3)}
    assert all(tuple(stretch) in known for stretch in text.view(-1, 4).tolist())
    whole = {tuple(stream[i : i + 8]) for i in range(len(stream) - 7)}
    assert sum(tuple(pair) in whole for pair in text.view(-1, 8).tolist()) <= 2


def test_a_causal_run_predicts_every_token_but_the_first_and_corrupts_none(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    run = small(modern.config, objective="causal")
    training = trainer(run, data)
    tokens, _ = training.text(0)
    counts = dict(zip(train.COUNTED, training.step(0).counts.tolist(), strict=True))
    ordinary = tokens >= config.N_SPECIAL
    assert counts["eligible"] == counts["same"] == int(ordinary.sum())
    assert counts["mask"] == counts["random"] == 0
    assert counts["predicted"] == int(ordinary[:, 1:].sum())
    share = small(run, masking={"rate": 0.5, "predicted": 0.15})
    assert share.masking.rate == 1.0, "causal leaves no choice but the share that is predicted"
    drawn = [float(trainer(share, data).step(k).counts[-1]) for k in range(20)]
    assert sum(drawn) / 20 / (128 - 8) == pytest.approx(0.15, abs=0.02)


def test_a_causal_loss_is_the_plain_one(modern: RunFolder, data: dict[str, shards.Shard]) -> None:
    training = trainer(small(modern.config, objective="causal"), data)
    tokens, _ = training.text(0)
    training.encoder.pattern = Pattern(causal=True)
    with torch.no_grad():
        for block in training.encoder.blocks:
            block.attention_output.weight.normal_(generator=torch.Generator().manual_seed(0))
        logits = training.encoder(tokens)[:, :-1]
    each = cross_entropies(logits, tokens[:, 1:])
    ordinary = tokens[:, 1:] >= config.N_SPECIAL
    step = training.step(0)
    assert float(step.losses["tokens"] / step.items["tokens"]) == pytest.approx(
        float(each[ordinary].mean()), rel=1e-5
    )


def test_nsp_protects_cls_and_sep_and_judges_every_pair(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    training = trainer(changed(modern.config, "sentence pairs"), data)
    step = training.step(0)
    assert step.items["relation"] == 8
    assert set(step.losses) == {"tokens", "relation"}
    assert float(step.losses["relation"]) / 8 == pytest.approx(math.log(2), abs=0.2)
    for batch in training.frozen["own"]:
        assert bool((batch.inputs[:, 0] == config.CLS).all())
        assert bool(((batch.inputs == config.SEP).sum(1) == 2).all())
        assert bool((batch.targets[batch.real] >= config.N_SPECIAL).all())
    found = training.validate()["own"]["relation"]
    assert set(found) == {"loss_nats", "accuracy"}


def test_the_yardstick_asks_a_causal_run_for_the_same_tokens(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    masked = trainer(modern.config, data).frozen["yardstick"]
    causal = trainer(small(modern.config, objective="causal"), data).frozen["yardstick"]
    for one, other in zip(masked, causal, strict=True):
        assert bool((one.at[one.real] > 0).all())
        assert torch.equal(one.at[one.real] - 1, other.at[other.real])
        assert torch.equal(one.targets[one.real], other.targets[other.real])
        assert not bool((other.inputs == config.MASK).any())
    for change in ("causal, in groups of stretches", "longer and longer", "sentence pairs"):
        run = changed(modern.config, change)
        frozen = trainer(small(run, objective="mlm") if "causal" in change else run, data).frozen["yardstick"]
        for one, other in zip(masked, frozen, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_what_grows_holds_its_last_value_for_the_rest_of_the_run(shape: str) -> None:
    run = config.Run.model_validate(
        {"sequence_length": 64, "budget_tokens": 64 * 64 * 1000,
         "lengths": {"shape": shape, "values": [8, 16, 32, 64], "until": 0.7}}
    )  # fmt: skip
    lengths = [schedules.length(run, step) for step in range(1000)]
    assert lengths == sorted(lengths)
    assert lengths.count(64) == pytest.approx(300, abs=2)
    assert set(lengths) == {8, 16, 32, 64}


def test_a_split_that_cannot_be_paired_is_refused_before_the_first_step(
    modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    run = changed(modern.config, "sentence pairs")
    single = shards.Shard(
        data["test"].tokens, np.array([0, len(data["test"].tokens)]), np.array([0]), "the test"
    )
    with pytest.raises(InputError, match="the test: a corpus without sentence boundaries"):
        trainer(run, {**data, "test": single})


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


def test_a_run_learns_whether_sentences_belong_together(tmp_path: Path, modern: RunFolder) -> None:
    """Documents of two kinds of words: a pair across documents is torn, and can be told."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(5 + 2 * (d % 2), 7 + 2 * (d % 2), 120) for d in range(200)]
    stream = np.concatenate([[*row[:-1], config.SEP] for row in rows]).astype("uint16")
    made = shards.Shard(stream, np.arange(0, 120 * 201, 120), np.arange(0, 120 * 200, 5))
    run = small(changed(modern.config, "sentence pairs"), objective="nsp", masking={"rate": 0.0},
                budget_tokens=16 * 32 * 150, batch_size=32, optimizer={"learning_rate": 3e-3},
                curve={"sequences": 512})  # fmt: skip
    to_the_end(run, {"train": made, "validation": made}, tmp_path)
    last = [r for r in records(tmp_path) if r["event"] == "evaluation"][-1]
    # Half of the torn pairs are of one kind of words and cannot be told: .75 is all there is to learn.
    assert last["own"]["relation"]["accuracy"] == pytest.approx(0.75, abs=0.05)
