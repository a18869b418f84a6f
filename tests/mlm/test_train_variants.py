"""Runs that are not plain: micro-batches, growing sequences, stretches, causal, sentence pairs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm import config, flops, schedules, shards, train
from mlm.errors import InputError
from mlm.objectives import cross_entropies
from mlm.runs import RunFolder
from mlm.schedules import Pattern
from mlm.train import Trainer
from tests.mlm.training import changed, records, small, to_the_end, trainer


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
