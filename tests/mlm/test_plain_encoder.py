"""The encoder as it trains, its own gradients and all, equals the plain one: losses, and every gradient."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mlm import config, objectives
from mlm.block import Dropout, attention
from mlm.encoder import Encoder
from mlm.masking import Corrupted
from mlm.objectives import Prediction
from mlm.schedules import Pattern
from tests.mlm.plain_encoder import PlainEncoder
from tests.mlm.test_encoder import N_TOKENS, build

LONGEST = 20
HEAD_WIDTHS = {"rotary": [6, 16, 64], "learned": [5, 16, 64], "sinusoidal": [5, 16, 64]}


class Problem(NamedTuple):
    """What a batch is made of; `visible`, where not all is, hides the ends of rows."""

    inputs: Tensor
    labels: Tensor
    predicted: Tensor
    visible: Tensor
    segments: Tensor
    related: Tensor | None


def problem(rows: int, length: int, share: float, padded: bool, pairs: bool, seed: int = 0) -> Problem:
    draws = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randint(0, N_TOKENS, (2, rows, length), generator=draws)
    visible = torch.arange(length) < torch.randint(
        1 if padded else length, length + 1, (rows, 1), generator=draws
    )
    predicted = visible & (torch.rand(rows, length, generator=draws) < share)
    segments, related = (torch.randint(0, 2, size, generator=draws) for size in ((rows, length), (rows,)))
    return Problem(inputs, labels, predicted, visible, segments, related if pairs else None)


def trained_on(encoder: Encoder, given: Problem) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients as a step of training has them."""
    kind = given.predicted.to(torch.int8)
    corrupted = Corrupted(given.inputs, given.predicted, given.predicted, kind, given.labels)
    batch = objectives.batch(given.inputs, corrupted, encoder.pattern.causal)
    visible = None if given.visible.all() else given.visible
    batch = batch._replace(visible=visible, segments=given.segments, related=given.related)
    objective = Prediction(tokens=True)
    loss = objectives.mean_loss(objective.sums(encoder, batch, None), objective.counts(batch))
    return backward(loss, dict(encoder.named_parameters()))


def backward(loss: Tensor, weights: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    found = torch.autograd.grad(loss, [*weights.values()], allow_unused=True, materialize_grads=True)
    return float(loss.detach()), {name: g.double() for name, g in zip(weights, found, strict=True)}


def both(encoder: Encoder, given: Problem) -> tuple[tuple[float, dict[str, Tensor]], ...]:
    plain = PlainEncoder(encoder)
    return trained_on(encoder, given), backward(plain.loss(encoder.pattern, *given), plain.weights)


def agree_in_float32(encoder: Encoder, given: Problem) -> None:
    """Each gradient by its own length; one that all but cancels, by a thousandth of all of them together."""
    (loss, gradients), (expected, theirs) = both(encoder, given)
    assert loss == pytest.approx(expected, rel=1e-6)
    whole = float(torch.cat([one.flatten() for one in theirs.values()]).norm())
    for name, gradient in theirs.items():
        off = float((gradients[name] - gradient).norm())
        assert off <= 1e-5 * max(float(gradient.norm()), whole / 1000), name


@st.composite
def encoders(draw: st.DrawFn) -> dict[str, Any]:
    """Any that the options make, small."""
    positions = draw(st.sampled_from([*HEAD_WIDTHS]))
    each, heads = draw(st.sampled_from(HEAD_WIDTHS[positions])), draw(st.integers(1, 3))
    if positions == "sinusoidal" and each % 2:
        heads = 2
    flags = ("query_key_norm", "embedding_norm", "biases", "head_transform", "segments")
    chosen = {
        "norm": draw(st.sampled_from(["rms", "layer"])),
        "norm_place": draw(st.sampled_from(["pre", "post"])),
        "activation": draw(st.sampled_from(["relu_squared", "gelu"])),
        **{flag: draw(st.booleans()) for flag in flags},
    }
    preset = draw(st.sampled_from([{}, config.PRESETS["modern"], config.PRESETS["bert"]]))
    layers = draw(st.integers(1, 2))
    shape = {"layers": layers, "heads": heads, "width": heads * each, "positions": positions}
    return {**chosen, **preset, **shape, "dropout": 0.0}


patterns = st.just(Pattern()) | st.builds(
    Pattern, st.booleans(), st.none() | st.integers(1, LONGEST), st.none() | st.integers(1, LONGEST)
)


@given(
    changes=encoders(),
    pattern=patterns,
    size=st.tuples(st.integers(1, 4), st.integers(1, LONGEST)),
    share=st.sampled_from([0.0, 0.15, 0.5, 1.0]),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_losses_and_gradients_are_those_of_plain_pytorch(
    changes: dict[str, Any], pattern: Pattern, size: tuple[int, int], share: float, padded: bool, seed: int
) -> None:
    encoder = build(seed=seed, **changes)
    encoder.pattern = pattern
    agree_in_float32(encoder, problem(*size, share, padded, bool(changes["segments"]), seed))


LARGER = {
    "modern": {"preset": "modern"},  # as in the scales: heads of 64
    "modern, heads of 16": {"preset": "modern", "heads": 8},
    "modern, sinusoidal, heads of 5": {"preset": "modern", "positions": "sinusoidal", "width": 50, "heads": 10},
    "bert": {"preset": "bert"},
}


@pytest.mark.parametrize("pattern", [Pattern(), Pattern(causal=True), Pattern(window=16, group=32)])
@pytest.mark.parametrize("name", LARGER)
def test_so_they_are_at_the_default_scale_and_in_bfloat16(name: str, pattern: Pattern) -> None:
    """In bfloat16 a gradient is a rough one: what is looked at is all of it together."""
    sizes = {"layers": 2, "width": 128, "heads": 2, "feedforward_width": 512, "max_positions": 64}
    encoder = build(**{**sizes, **LARGER[name], "dropout": 0.0})
    encoder.pattern = pattern
    given = problem(8, 64, 0.5, padded=name == "bert", pairs=False)
    agree_in_float32(encoder, given)
    encoder.dtype = torch.bfloat16
    (loss, gradients), (expected, theirs) = both(encoder, given)
    assert loss == pytest.approx(expected, rel=1e-3)
    mine, plain = (torch.cat([one.flatten() for one in found.values()]) for found in (gradients, theirs))
    assert (mine - plain).norm() < 0.05 * plain.norm()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("queries", "places"), [(24, 24), (3, 24), (1, 1)])
@pytest.mark.parametrize("width", [5, 16, 64])
def test_attention_and_its_gradient_in_bfloat16(width: int, queries: int, places: int, masked: bool) -> None:
    """Of the numbers that are given: the formula in float64, to what a few roundings to eight bits make."""
    draws = torch.Generator().manual_seed(width)
    given = [torch.randn(2, 3, n, width, generator=draws).bfloat16() for n in (queries, places, places)]
    upstream = torch.randn(2, 3, queries, width, generator=draws).bfloat16()
    seen = torch.rand(2, 1, queries, places, generator=draws) < 0.7
    seen[..., 0] = True
    scale = 12 / width

    query, key, value = exact = [one.double().requires_grad_() for one in given]
    logits = query @ key.transpose(2, 3) * scale
    expected = (logits.masked_fill(~seen, -torch.inf) if masked else logits).softmax(-1) @ value
    mine = [one.requires_grad_() for one in given]
    found = attention(*mine, scale, Dropout(0.0, None), seen if masked else None)
    assert found.dtype == torch.bfloat16
    pairs = zip(
        (found, *torch.autograd.grad(found, mine, upstream)),
        (expected, *torch.autograd.grad(expected, exact, upstream.double())),
        strict=True,
    )
    for one, other in pairs:
        assert (one.double() - other).norm() <= 0.02 * other.norm()
