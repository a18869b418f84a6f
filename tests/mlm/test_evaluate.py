"""Held-out measurement on frozen masks: the same for every model, and equal to a plain computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from mlm import config, evaluate, measures, shards
from mlm.encoder import Encoder
from mlm.randomness import Purpose, generator
from mlm.runs import RunFolder

CPU = torch.device("cpu")
OWN = config.Masking.model_validate({"rate": 0.3, "split": {"mask": 0.5, "same": 0.25, "random": 0.25}})
WORDS = torch.ones(90, dtype=torch.bool)
TOKENS = generator(5, Purpose.ORDER).integers(5, 90, 4000).astype("uint16")


def encoder(**changes: object) -> Encoder:
    small = {"preset": "bert", "layers": 1, "width": 16, "heads": 2, **changes}
    return Encoder(config.Encoder.model_validate(small), 90, 0, torch.float32)


def test_masks_are_frozen_and_know_no_seed() -> None:
    one, other = (evaluate.freeze(TOKENS, OWN, 20, WORDS, 150) for _ in range(2))
    for mine, theirs in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert [len(batch.inputs) for batch in one] == [64, 64, 22]
    assert not torch.equal(one[0].at, one[1].at)


def test_masks_of_more_windows_begin_with_other_windows_but_rates_stay() -> None:
    for rate in (0.05, 0.15, 0.4):
        masking = config.Masking.model_validate({"rate": rate, "split": {"mask": 1.0}})
        batches = evaluate.freeze(TOKENS, masking, 20, WORDS, 200)
        targets = sum(int((batch.kind > 0).sum()) for batch in batches)
        assert targets / 4000 == pytest.approx(rate, abs=0.01)
        assert all(bool((batch.kind <= 1).all()) for batch in batches)


def test_measured_is_what_a_plain_computation_gives() -> None:
    model, batches = encoder(), evaluate.freeze(TOKENS, OWN, 20, WORDS, 100)
    found = evaluate.measure(model, batches, CPU)
    losses: dict[int, list[float]] = {1: [], 2: [], 3: []}
    hits: dict[int, list[float]] = {1: [], 2: [], 3: []}
    with torch.no_grad():
        for batch in batches:
            logits = model(batch.inputs)  # every position, no dropout
            for row, column in (batch.kind > 0).nonzero().tolist():
                answer, at = batch.originals[row, column], batch.at[row, column]
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
    assert set(evaluate.measure(encoder(), evaluate.freeze(TOKENS, only, 20, WORDS, 30), CPU)) == {
        "loss_nats", "accuracy", "random",
    }  # fmt: skip
    nothing = config.Masking.model_validate({"rate": 0.0})
    assert evaluate.measure(encoder(), evaluate.freeze(TOKENS, nothing, 20, WORDS, 30), CPU) == {}


def test_an_even_guess_measures_the_logarithm_of_the_vocabulary() -> None:
    model = encoder()
    with torch.no_grad():
        model.embedding.zero_()
    found = evaluate.measure(model, evaluate.freeze(TOKENS, OWN, 20, WORDS, 64), CPU)
    assert found["loss_nats"] == pytest.approx(math.log(90), rel=1e-6)


def test_dropout_is_off() -> None:
    batches = evaluate.freeze(TOKENS, OWN, 20, WORDS, 64)
    model = encoder(dropout=0.5)
    assert evaluate.measure(model, batches, CPU) == evaluate.measure(model, batches, CPU)
    assert evaluate.measure(model, batches, CPU) == evaluate.measure(encoder(dropout=0.0), batches, CPU)


def test_the_original_is_kept_where_a_random_token_stands() -> None:
    batches = evaluate.freeze(TOKENS, OWN, 20, WORDS, 64)
    plain = evaluate.windows(TOKENS, 20, 64)
    real = batches[0].kind > 0
    assert torch.equal(plain.gather(1, batches[0].at)[real], batches[0].originals[real])
    shown = batches[0].inputs.gather(1, batches[0].at)
    assert bool((shown[batches[0].kind == 1] == config.MASK).all())
    assert torch.equal(shown[batches[0].kind == 2], batches[0].originals[batches[0].kind == 2])


def test_measures_have_names_that_a_contrast_can_know_beforehand(here, modern: RunFolder) -> None:
    from mlm import single

    values = single.evaluation(modern, modern.encoder(), 16)["values"]
    assert set(values) <= set(measures.names(modern.config.encoder.layers))
    expected = {n for n in measures.names(2) if not n.startswith("probe")}
    assert set(values) == expected


def test_yardstick_masks_are_those_of_every_arm(
    data: dict[str, shards.Shard], modern: RunFolder, bert: RunFolder
) -> None:
    one, other = (
        evaluate.freeze(
            data["test"].tokens,
            evaluate.corruptions(run.config)["yardstick"],
            16,
            torch.ones(400, dtype=torch.bool),
            16,
        )
        for run in (modern, bert)
    )
    assert all(
        torch.equal(a, b)
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
    assert config.YARDSTICK.split == config.Split(mask=1.0)
    assert config.YARDSTICK.rate == 0.15


@pytest.mark.parametrize("name", measures.names(2))
def test_which_way_is_good(name: str) -> None:
    assert measures.better(name) == ("lower" if "loss" in name else "higher")
