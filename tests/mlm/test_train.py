"""Training goes on after any stop to the same bits, and says what happened without gap or repeat."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlm import checkpoint, config, evaluate, flops, shards, train
from mlm.batches import Batches
from mlm.fill import fill_prompts
from mlm.masking import corrupt
from mlm.randomness import Purpose, generator, uniform
from mlm.runs import RunFolder
from mlm.train import Interrupted
from tests.mlm.training import BEGINS_WORD, CHANGES, changed, options, records, small, to_the_end, trainer


@pytest.fixture(params=["modern", "bert with dropout", "modern in bfloat16", *CHANGES])
def kind(request: pytest.FixtureRequest, modern: RunFolder, bert: RunFolder) -> tuple[config.Run, torch.dtype]:
    run = bert.config if request.param.startswith("bert") else modern.config
    if request.param in CHANGES:
        run = changed(run, request.param)
    assert (run.encoder.dropout > 0) == request.param.startswith("bert")
    return run, torch.bfloat16 if request.param.endswith("bfloat16") else torch.float32


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
    run = small(modern.config, optimizer={"learning_rate": 1e-3, "weight_decay": 0.0})
    run = run.model_copy(update={"masking": config.Masking(rate=1e-12)})  # no run that may be asked for
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


def test_evaluation_during_training_is_the_evaluation_of_those_weights(
    here: Path, modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    last = [r for r in records(modern.path) if r["event"] == "evaluation"][-1]
    run, encoder = modern.config, modern.encoder()
    frozen = evaluate.freeze(run, data["validation"], torch.tensor(BEGINS_WORD), run.curve.sequences)
    for name, batches in frozen.items():
        assert evaluate.measure(encoder, batches) == last[name]


def test_the_clock_is_read_when_a_gpu_has_done_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: happened.append(str(device)))
    monkeypatch.setattr(train.time, "perf_counter", lambda: float(happened.append("read") or 7))
    assert train._now(torch.device("cuda", 1)) == train._now(torch.device("cpu")) == 7
    assert happened == ["cuda:1", "read", "read"]
