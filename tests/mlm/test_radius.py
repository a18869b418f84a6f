"""The loss with far text resampled: whose text stands where, and what a window of attention says of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm import checks, config, evaluate, measured, measures, radius, schedules, shards
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.experiment import Measures, Radius
from mlm.objectives import Batch
from mlm.randomness import Purpose, generator
from mlm.runs import RunFolder

FILE = Path("experiments/trial.yaml")
LENGTH, SIZE = 20, 45
SPECIAL = generator(1, Purpose.ORDER).integers(0, SIZE, 4000)  # every ninth token or so is special
PLAIN = generator(2, Purpose.ORDER).integers(5, SIZE, 4000)


def shard(tokens: Any) -> shards.Shard:
    return shards.Shard(tokens.astype("uint16"), np.array([0, len(tokens)]), np.array([0]))


def run(**stated: Any) -> config.Run:
    return config.Run.model_validate({"sequence_length": LENGTH, **stated})


def encoder(of: config.Run) -> Encoder:
    """Of large weights, so that whatever can be seen is."""
    model = Encoder(of.encoder, SIZE, 0, torch.float32)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    model.pattern = schedules.pattern(of, 1.0)
    return model


@given(st.integers(2, 60), st.sampled_from([None, 4, 10]))
def test_the_text_that_stands_in_is_ordinary_and_of_another_window(most: int, stretch: int | None) -> None:
    for tokens in (SPECIAL, PLAIN):
        windows, stand_ins, target = radius.freeze(run(stretch=stretch), shard(tokens), most)
        special = windows < config.N_SPECIAL
        assert torch.equal(stand_ins[special], windows[special]), "special tokens stay"
        if most > 10:
            assert bool((stand_ins >= config.N_SPECIAL)[~special].all()), "and none comes in"
        assert not (stand_ins == windows).all(1).any()
        assert bool((target.sum(1) == 1).all()), "one target a window"
        assert not target[:, 0].any() and not (target & special).any()
    assert all(
        torch.equal(a.sort().values, b.sort().values) for a, b in zip(windows.T, stand_ins.T, strict=True)
    ), "what stands at a place is as frequent there as it was"


def test_only_what_is_near_is_the_windows_own() -> None:
    frozen = radius.freeze(run(), shard(SPECIAL), 70)
    at = frozen.target.int().argmax(1, keepdim=True)
    for causal in (False, True):
        for distance in (0, 1, 7, LENGTH):
            batches = radius.resampled(frozen, distance, causal)
            seen = torch.cat([batch.inputs for batch in batches])
            assert [len(batch.inputs) for batch in batches] == [64, 6]
            away = (torch.arange(LENGTH) - at).abs()
            assert torch.equal(seen[away > distance], frozen.stand_ins[away > distance])
            near = (away <= distance) & (away > 0)
            assert torch.equal(seen[near], frozen.tokens[near])
            assert bool((seen[away == 0] == config.MASK).all()) is not causal
            answers = torch.cat([batch.targets for batch in batches])
            assert torch.equal(answers, frozen.tokens.gather(1, at))
            predicting = torch.cat([batch.at for batch in batches])
            assert torch.equal(predicting, at - 1 if causal else at)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))


def test_the_frozen_text_is_that_of_every_run(
    modern: RunFolder, bert: RunFolder, data: dict[str, shards.Shard]
) -> None:
    causal = bert.config.model_copy(update={"objective": "causal", "seed": 9})
    one, *others = (radius.freeze(each, data["test"], 70) for each in (modern.config, bert.config, causal))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    drawn = evaluate.freeze(modern.config, data["test"], torch.ones(400, dtype=torch.bool), 70)["yardstick"]
    assert not same(drawn[0], radius.resampled(one, 4, False)[0]), "draws of its own"


@pytest.mark.parametrize("objective", ["mlm", "causal"])
@pytest.mark.parametrize(("layers", "preset"), [(1, "modern"), (1, "bert"), (2, "modern")])
def test_what_no_layer_attends_to_does_not_matter(objective: str, layers: int, preset: str) -> None:
    """With a window of 2w (causal: w) a stack sees layers · w around it: bit for bit, and no less."""
    w = 3
    of = run(
        objective=objective,
        encoder={"preset": preset, "layers": layers, "width": 16, "heads": 2},
        attention={"window": w if objective == "causal" else 2 * w},
    )
    # A causal target is predicted from the position before it, one step further from all the rest.
    seen = layers * w + (objective == "causal")
    distances = [1, seen - 1, seen, seen + 1, LENGTH - 1]
    asked = Radius(distances=distances, sequences=90)
    found = radius.measure(encoder(of), of, shard(SPECIAL), asked)
    assert list(found) == measured.names(of, Measures(radius=asked), ())
    assert all(measures.better(name) == "lower" for name in found)
    for distance in distances:
        beyond = found[f"radius.{distance}.loss_nats"] == found["radius.all.loss_nats"]
        assert beyond == (distance >= seen), distance


class Counting(Encoder):
    """Expects each token to be one more than the token before it, with a confidence of `SURE` nats."""

    def hidden(self, tokens: Any, *, at: Any = None, **_: Any) -> Any:
        return [tokens.gather(1, at - 1 + int(self.pattern.causal))]

    def logits(self, x: Any) -> Any:
        ahead = (x - config.N_SPECIAL + 1) % (SIZE - config.N_SPECIAL) + config.N_SPECIAL
        return SURE * torch.nn.functional.one_hot(ahead, SIZE).float()


SURE = 3.0


@pytest.mark.parametrize("objective", ["mlm", "causal"])
def test_with_everything_resampled_it_is_a_guess(objective: str) -> None:
    of = run(objective=objective)
    ordinary = SIZE - config.N_SPECIAL
    starts = generator(3, Purpose.ORDER).integers(0, ordinary, (400, 1))
    text = shard(((starts + np.arange(LENGTH)) % ordinary + config.N_SPECIAL).ravel())
    reader = Counting(of.encoder, SIZE, 0, torch.float32)
    reader.pattern = schedules.pattern(of, 1.0)
    frozen = radius.freeze(of, text, 400)
    known, guessed = (evaluate.measure(reader, radius.resampled(frozen, c, of.causal)) for c in (1, 0))
    assert known["accuracy"] == 1.0
    assert known["loss_nats"] == pytest.approx(math.log(math.exp(SURE) + SIZE - 1) - SURE)
    assert guessed["accuracy"] == pytest.approx(1 / ordinary, abs=0.02)
    lost = SURE * (1 - guessed["accuracy"])
    assert guessed["loss_nats"] == pytest.approx(known["loss_nats"] + lost, rel=1e-6)
    found = radius.measure(reader, of, text, Radius(distances=[1, 8], sequences=400))
    assert set(found.values()) == {known["loss_nats"]}


def test_a_single_window_is_refused() -> None:
    with pytest.raises(InputError, match=r"leaves one window of the corpus, .* hold out more text"):
        radius.freeze(run(), shard(PLAIN[:30]), 8)


def test_distances_that_no_window_has_are_refused_with_their_arm() -> None:
    asked = Measures.model_validate({"radius": {"distances": [1, 19, 32]}})
    arms = {"short": run(), "long": run(sequence_length=64), "order": run(objective="sop", sequence_length=64)}
    short, order = checks.within_windows(FILE, arms, asked)
    assert short == (
        f"{FILE}: arms.short: measures.radius.distances: 32 is no distance in a window of sequence_length 20; "
        "give only shorter ones, or leave `radius` out"
    )
    assert order.startswith(f"{FILE}: arms.order: objective sop predicts no tokens")
    nineteen = Measures.model_validate({"radius": {"distances": [19]}})
    assert not list(checks.within_windows(FILE, {"short": run()}, nineteen))
    assert not list(checks.within_windows(FILE, arms, Measures(evaluation={})))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"distances": [4, 4]}, "4 is there twice"),
        ({"distances": []}, "at least 1 item"),
        ({"distances": [0]}, "greater than or equal to 1"),
        ({"sequences": 1}, "greater than or equal to 2"),
    ],
)
def test_impossible_settings_are_refused(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Radius.model_validate(stated)
