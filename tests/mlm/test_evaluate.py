"""Held-out measurement on frozen masks: the same for every model, and equal to a plain computation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mlm import config, evaluate, grammar, heldout, measured, measures, shards
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.experiment import Evaluation, Measures
from mlm.objectives import Batch
from mlm.randomness import Purpose, generator
from mlm.runs import RunFolder

OWN = config.Masking.model_validate({"rate": 0.3, "split": {"mask": 0.5, "same": 0.25, "random": 0.25}})
WORDS = torch.ones(90, dtype=torch.bool)
TOKENS = generator(5, Purpose.ORDER).integers(5, 90, 4000).astype("uint16")


def encoder(**changes: object) -> Encoder:
    small = {"preset": "bert", "layers": 1, "width": 16, "heads": 2, **changes}
    return Encoder(config.Encoder.model_validate(small), 90, 0, torch.float32)


def frozen(masking: config.Masking, most: int) -> list[Batch]:
    shard = shards.Shard(TOKENS, np.array([0, 4000]), np.array([0]))
    run = config.Run(sequence_length=20).model_copy(update={"masking": masking})  # also one that none could be
    return evaluate.freeze(run, shard, WORDS, most)["own"]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


def test_masks_are_frozen_and_know_no_seed() -> None:
    one, other = (frozen(OWN, 150) for _ in range(2))
    for mine, theirs in zip(one, other, strict=True):
        assert same(mine, theirs)
    assert [len(batch.inputs) for batch in one] == [64, 64, 22]
    assert not torch.equal(one[0].at, one[1].at)


def test_masks_of_more_windows_begin_with_other_windows_but_rates_stay() -> None:
    for rate in (0.05, 0.15, 0.4):
        masking = config.Masking.model_validate({"rate": rate, "split": {"mask": 1.0}})
        batches = frozen(masking, 200)
        targets = sum(int((batch.kind > 0).sum()) for batch in batches)
        assert targets / 4000 == pytest.approx(rate, abs=0.01)
        assert all(bool((batch.kind <= 1).all()) for batch in batches)


def test_windows_so_few_that_the_yardstick_has_no_target_are_refused() -> None:
    data = dict.fromkeys(measures.SPLITS, shards.Shard(TOKENS, np.array([0, 4000]), np.array([0])))
    run = config.Run(sequence_length=2)
    with pytest.raises(
        InputError, match=r"evaluation\.sequences: 2 windows of 2 tokens .* no target; ask for more"
    ):
        heldout.measure(encoder(), run, data, WORDS.tolist(), 2)
    assert heldout.measure(encoder(), run, data, WORDS.tolist(), 100)["test.yardstick.loss_nats"] > 0


def test_measured_is_what_a_plain_computation_gives() -> None:
    model, batches = encoder(), frozen(OWN, 100)
    found = evaluate.measure(model, batches)
    losses: dict[int, list[float]] = {1: [], 2: [], 3: []}
    hits: dict[int, list[float]] = {1: [], 2: [], 3: []}
    with torch.no_grad():
        for batch in batches:
            logits = model(batch.inputs)  # every position, no dropout
            for row, column in (batch.kind > 0).nonzero().tolist():
                answer, at = batch.targets[row, column], batch.at[row, column]
                kind = int(batch.kind[row, column])
                losses[kind].append(float(F.cross_entropy(logits[row, at], answer)))
                hits[kind].append(float(logits[row, at].argmax() == answer))
    for name, number in (("mask", 1), ("same", 2), ("random", 3)):
        assert found[name]["loss_nats"] == pytest.approx(sum(losses[number]) / len(losses[number]), rel=1e-5)
        assert found[name]["accuracy"] == pytest.approx(sum(hits[number]) / len(hits[number]))
    everything = [x for xs in losses.values() for x in xs]
    assert found["loss_nats"] == pytest.approx(sum(everything) / len(everything), rel=1e-5)


def test_kinds_that_do_not_occur_have_no_number_and_no_target_has_none_at_all() -> None:
    only = config.Masking.model_validate({"rate": 0.2, "split": {"random": 1.0}})
    assert set(evaluate.measure(encoder(), frozen(only, 30))) == {
        "loss_nats", "accuracy", "random",
    }  # fmt: skip
    nothing = config.Masking.model_validate({"rate": 1e-12})
    assert evaluate.measure(encoder(), frozen(nothing, 30)) == {}


def test_an_even_guess_measures_the_logarithm_of_the_vocabulary() -> None:
    model = encoder()
    with torch.no_grad():
        model.embedding.zero_()
    found = evaluate.measure(model, frozen(OWN, 64))
    assert found["loss_nats"] == pytest.approx(math.log(90), rel=1e-6)


def test_dropout_is_off() -> None:
    batches = frozen(OWN, 64)
    model = encoder(dropout=0.5)
    assert evaluate.measure(model, batches) == evaluate.measure(model, batches)
    assert evaluate.measure(model, batches) == evaluate.measure(encoder(dropout=0.0), batches)


def test_the_original_is_kept_where_a_random_token_stands() -> None:
    batches = frozen(OWN, 64)
    plain = evaluate.windows(TOKENS, 20, 64)
    real = batches[0].kind > 0
    assert torch.equal(plain.gather(1, batches[0].at)[real], batches[0].targets[real])
    shown = batches[0].inputs.gather(1, batches[0].at)
    assert bool((shown[batches[0].kind == 1] == config.MASK).all())
    assert torch.equal(shown[batches[0].kind == 2], batches[0].targets[batches[0].kind == 2])


def test_measures_have_names_that_a_contrast_can_know_beforehand(here, modern: RunFolder) -> None:
    from mlm import measuring

    values = measuring.evaluation(modern, modern.encoder(), measuring.Wanted("evaluation", 16))["values"]
    assert set(values) == set(measured.names(modern.config, Measures(evaluation=Evaluation()), ()))


def test_yardstick_masks_are_those_of_every_arm(
    data: dict[str, shards.Shard], modern: RunFolder, bert: RunFolder
) -> None:
    one, other = (
        evaluate.freeze(run.config, data["test"], torch.ones(400, dtype=torch.bool), 16)["yardstick"]
        for run in (modern, bert)
    )
    assert all(same(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    assert config.YARDSTICK.split == config.Split(mask=1.0)
    assert config.YARDSTICK.rate == 0.15


EVERYTHING = Measures.model_validate(
    {
        "evaluation": {},
        "probe": {},
        "pairs": {},
        "tasks": ["trec"],
        "reach": {"loss_nats": [4.4], "below_unigram_nats": [0.5]},
        "corruptions": {"arms": {"80-10-10": {}}},
        "radius": {},
    }
)


@pytest.mark.parametrize("name", measured.names(config.Run(), EVERYTHING, grammar.KINDS))
def test_which_way_is_good(name: str) -> None:
    assert measures.better(name) == ("lower" if "loss" in name or name.startswith("reach") else "higher")
