"""The encoder computes what it says, by any path, and starts from a function of (seed, name)."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mlm import config, flops
from mlm.block import Dropout, attention, relu_squared, rms_norm, rotary_table, rotate
from mlm.encoder import Encoder, sinusoidal_table
from mlm.objectives import cross_entropies, target_positions
from mlm.randomness import Purpose, generator, uniform

N_TOKENS = 61
TYPES = {torch.float32: 2e-5, torch.bfloat16: 6e-2}
VARIANTS = {
    "modern": {"preset": "modern"},
    "bert": {"preset": "bert", "dropout": 0.0},
    "bert-pre": {"preset": "bert", "dropout": 0.0, "norm_place": "pre"},
    "modern-learned": {"preset": "modern", "positions": "learned", "query_key_norm": False},
    "sinusoidal": {"preset": "modern", "positions": "sinusoidal", "embedding_norm": False},
    "one-layer": {"preset": "modern", "layers": 1},
}


def options(**changes: object) -> config.Encoder:
    small = {"layers": 3, "width": 32, "heads": 4, "feedforward_width": 48, "max_positions": 24}
    return config.Encoder.model_validate({**small, **changes})


def build(dtype: torch.dtype = torch.float32, seed: int = 0, stir: float = 0.3, **changes: object) -> Encoder:
    """An encoder whose every weight matters: zero-initialised ones are stirred too."""
    encoder = Encoder(options(**changes), N_TOKENS, seed, dtype)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source) * stir * parameter.shape[-1] ** -0.5)
    return encoder


def tokens(rows: int = 5, length: int = 17, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, N_TOKENS, (rows, length), generator=torch.Generator().manual_seed(seed))


def chosen(rows: int = 5, length: int = 17, share: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    return target_positions(torch.rand(rows, length, generator=torch.Generator().manual_seed(9)) < share)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_at_targets_are_the_full_logits_at_targets(variant: str, dtype: torch.dtype) -> None:
    encoder, x, (at, real) = build(dtype, **VARIANTS[variant]), tokens(), chosen()
    visible = torch.ones_like(x, dtype=torch.bool)
    visible[2, 11:] = False
    answers = torch.randint(0, N_TOKENS, at.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for path in ("selected", "full"):
        encoder.zero_grad()
        if path == "selected":
            logits = encoder(x, at=at, visible=visible)
        else:
            logits = encoder(x, visible=visible).gather(1, at[:, :, None].expand(-1, -1, N_TOKENS))
        ((cross_entropies(logits, answers) * real).sum() / real.sum()).backward()
        found.append((logits.detach().float(), {n: p.grad.clone() for n, p in encoder.named_parameters()}))
    (one, gradients), (other, expected) = found
    scale = float(other.abs().max())
    torch.testing.assert_close(one, other, rtol=0, atol=TYPES[dtype] * scale)
    for name, gradient in gradients.items():
        size = float(expected[name].abs().max())
        assert size > 0, name
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=TYPES[dtype] * size + 1e-7, msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_a_part_in_the_logits(variant: str) -> None:
    encoder, x = build(**VARIANTS[variant]), tokens()
    with torch.no_grad():
        before = encoder(x)
        for name, parameter in encoder.named_parameters():
            kept = parameter.clone()
            # A bias of all keys alike cancels in the softmax: of that one, the values' part.
            part = parameter[2 * 32 :] if name.endswith("query_key_value.bias") else parameter
            part.add_(torch.randn(part.shape, generator=torch.Generator().manual_seed(0)))
            assert not torch.allclose(before, encoder(x), atol=1e-4), name
            parameter.copy_(kept)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_is_invisible(variant: str) -> None:
    encoder, x = build(**VARIANTS[variant]), tokens(4, 20)
    visible = torch.arange(20) < torch.tensor([20, 13, 1, 7])[:, None]
    with torch.no_grad():
        before = encoder(x, visible=visible)
        other = torch.where(visible, x, (x + 17) % N_TOKENS)
        torch.testing.assert_close(encoder(other, visible=visible)[visible], before[visible], rtol=0, atol=0)
        for row, length in enumerate((20, 13, 1, 7)):
            alone = encoder(x[row : row + 1, :length])[0]
            torch.testing.assert_close(before[row, :length], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["modern", "bert"])
def test_rows_do_not_see_each_other_and_every_position_sees_all(variant: str) -> None:
    encoder, x = build(**VARIANTS[variant]), tokens(3, 12)
    other = x.clone()
    other[1, 4] = (other[1, 4] + 1) % N_TOKENS
    with torch.no_grad():
        before, after = encoder(x), encoder(other)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], rtol=0, atol=0)
    assert bool(((before[1] - after[1]).abs().amax(-1) > 1e-6).all())


@given(shift=st.integers(0, 40), a=st.integers(0, 40), b=st.integers(0, 40), seed=st.integers(0, 99))
def test_rotary_products_depend_on_the_distance_alone(shift: int, a: int, b: int, seed: int) -> None:
    cosine, sine = rotary_table(90, 16)
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))

    def product(i: int, j: int) -> torch.Tensor:
        return rotate(q, cosine[i], sine[i]) @ rotate(k, cosine[j], sine[j])

    torch.testing.assert_close(product(a, b), product(a + shift, b + shift), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rotate(q, cosine[a], sine[a]).norm(), q.norm())
    torch.testing.assert_close(rotate(q, cosine[0], sine[0]), q)


def test_a_rotary_encoder_is_blind_to_absolute_places() -> None:
    """Hidden padding in front moves every token and changes nothing; learned positions do change."""
    x = tokens(3, 9)
    moved = torch.cat([torch.zeros(3, 6, dtype=torch.int64), x], 1)
    visible = torch.arange(15).expand(3, -1) >= 6
    with torch.no_grad():
        rotary, learned = build(), build(preset="bert", dropout=0.0)
        torch.testing.assert_close(rotary(moved, visible=visible)[:, 6:], rotary(x), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(learned(moved, visible=visible)[:, 6:], learned(x), atol=1e-2)


@pytest.mark.parametrize("preset", config.PRESETS)
def test_without_positions_order_matters_only_through_them(preset: str) -> None:
    encoder, x = build(preset=preset, dropout=0.0), tokens(2, 10)
    order = torch.tensor([3, 1, 2, 0, 4, 5, 6, 7, 8, 9])
    with torch.no_grad():
        assert not torch.allclose(encoder(x[:, order]), encoder(x)[:, order], atol=1e-3)


# Initialisation


def named(seed: int = 0, n_tokens: int = N_TOKENS, **changes: object) -> dict[str, torch.Tensor]:
    encoder = Encoder(options(**changes), n_tokens, seed, torch.float32)
    return {name: p.detach() for name, p in encoder.named_parameters()}


def test_an_added_layer_moves_no_other_parameter() -> None:
    for preset in config.PRESETS:
        small, large = named(preset=preset), named(preset=preset, layers=5)
        assert set(small) < set(large)
        assert all(torch.equal(small[name], large[name]) for name in small)


def test_an_added_part_moves_no_other_parameter() -> None:
    plain, more = named(), named(positions="learned", head_transform=True, biases=True)
    assert set(plain) < set(more)
    assert all(torch.equal(plain[name], more[name]) for name in plain)


def test_initialisation_is_a_function_of_the_seed() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = named(7)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert all(torch.equal(tensor, named(7)[name]) for name, tensor in first.items())
    changed = [name for name, tensor in named(8).items() if not torch.equal(tensor, first[name])]
    assert "embedding" in changed
    assert "blocks.0.query_key_value.weight" in changed


def test_initial_spread_and_initial_loss() -> None:
    for preset in config.PRESETS:
        encoder = Encoder(options(preset=preset, width=128, dropout=0.0), 1000, 0, torch.float32)
        assert encoder.embedding.std().item() == pytest.approx(0.02, rel=0.02)
        x = torch.randint(0, 1000, (8, 24), generator=torch.Generator().manual_seed(0))
        loss = torch.nn.functional.cross_entropy(encoder(x).flatten(0, 1), x.roll(1, 1).flatten())
        assert loss.item() == pytest.approx(math.log(1000), abs=0.15)  # a new model guesses evenly
    for name, tensor in named(preset="bert").items():
        if tensor.dim() < 2:
            assert torch.equal(tensor, torch.ones_like(tensor) * name.endswith("norm.weight")), name


def test_modern_blocks_begin_as_the_identity() -> None:
    encoder = Encoder(options(), N_TOKENS, 0, torch.float32)
    states = encoder.hidden(tokens())
    assert len(states) == 4
    assert all(torch.equal(states[0], state) for state in states[1:])


def test_hidden_states_stand_behind_the_embedding_and_behind_each_layer() -> None:
    """Cutting the last layer off leaves the states before it as they were."""
    deep, shallow = (build(layers=n, stir=0.0, preset="bert", dropout=0.0) for n in (3, 2))
    x = tokens()
    for one, other in zip(shallow.hidden(x), deep.hidden(x)[:3], strict=True):
        assert torch.equal(one, other)


# Norm and dropout


@given(rows=st.integers(1, 4), width=st.integers(1, 9), seed=st.integers(0, 1000))
def test_rms_norm_against_the_composed_formula(rows: int, width: int, seed: int) -> None:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    upstream = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed + 1))
    reference = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    (expected,) = torch.autograd.grad(reference, x, upstream)
    (gradient,) = torch.autograd.grad(rms_norm(x), x, upstream)
    torch.testing.assert_close(rms_norm(x), reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


def test_rms_norm_gradient_by_finite_differences() -> None:
    # The statistics are float32, so the differences are taken coarsely.
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert gradcheck(lambda x: rms_norm(x.float()).double(), (x,), eps=1e-2, atol=2e-3, rtol=1e-3)


def test_rotation_and_its_gradient_are_those_of_the_formula() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=draws).requires_grad_()
    cosine, sine = (table.double() for table in rotary_table(5, 8))
    first, second = x.chunk(2, -1)
    expected = torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
    torch.testing.assert_close(rotate(x, cosine, sine), expected)
    assert gradcheck(lambda x: rotate(x, cosine, sine), (x,))


def test_sinusoidal_positions_are_those_of_the_formula() -> None:
    table = sinusoidal_table(9, 12)
    for position in range(9):
        for i in range(6):
            angle = position / 10000 ** (2 * i / 12)
            assert float(table[position, i]) == pytest.approx(0.02 * math.sqrt(2) * math.sin(angle), abs=1e-7)
            assert float(table[position, i + 6]) == pytest.approx(
                0.02 * math.sqrt(2) * math.cos(angle), abs=1e-7
            )
    # As large as the embeddings that they are added to.
    assert float(sinusoidal_table(512, 128).square().mean().sqrt()) == pytest.approx(0.02, rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("queries", [5, 2])
def test_attention_and_its_gradient_are_those_of_the_formula(queries: int, masked: bool) -> None:
    draws = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, 3, places, 4, dtype=torch.float64, generator=draws).requires_grad_()
        for places in (queries, 5, 5)
    )
    seen = torch.rand(2, 1, queries, 5, generator=draws) < 0.7 if masked else None
    if seen is not None:
        seen[..., 0] = True

    def ours(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return attention(query, key, value, 0.7, Dropout(0.0, None), seen)

    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.7)
    torch.testing.assert_close(ours(query, key, value), expected)
    assert gradcheck(ours, (query, key, value))


def test_relu_squared_and_its_gradient_are_those_of_the_formula() -> None:
    x = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(relu_squared(x), torch.relu(x).square())
    assert gradcheck(relu_squared, (x,))


def test_rms_norm_of_nothing_is_nothing() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4))
    assert bool(x.grad.isfinite().all())


def draws(step: int):
    return uniform(generator(0, Purpose.DROPOUT, step))


def test_dropout_keeps_the_expectation_and_drops_at_its_rate() -> None:
    x = torch.full((1000, 400), 2.0)
    y = Dropout(0.1, draws(0))(x)
    dropped = float((y == 0).double().mean())
    assert abs(dropped - 0.1) < 5 * math.sqrt(0.09 / x.numel())
    assert torch.allclose(y[y != 0], torch.tensor(2 / 0.9))
    assert abs(float(y.double().mean()) - 2) < 0.01


def test_dropout_is_a_function_of_the_step_and_off_without_a_source() -> None:
    encoder, x = build(preset="bert", dropout=0.1), tokens()
    with torch.no_grad():
        first, again, other = (encoder(x, uniform=draws(step)) for step in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(encoder(x), build(preset="bert", dropout=0.0)(x))
        assert torch.equal(encoder.train()(x), encoder.eval()(x))  # no hidden mode decides


# Cost


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_are_those_of_the_matrices_counted_by_pytorch(variant: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    encoder, x = build(**VARIANTS[variant]), tokens(4, 16)
    with FlopCounterMode(display=False) as counter:
        encoder(x)
    assert flops.of_token(encoder.options, N_TOKENS, 16) * x.numel() == 3 * counter.get_total_flops()


def test_flops_by_hand() -> None:
    o = options(layers=2, width=8, heads=2, feedforward_width=32)
    projections, feedforward, head, attention = 2 * 4 * 64, 2 * 2 * 8 * 32, 100 * 8, 2 * 4 * 10 * 8
    assert flops.of_token(o, 100, 10) == 3 * (2 * (projections + feedforward + head) + attention)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 4.4), ("mini", 11.3), ("small", 28.8)])
def test_sizes_are_those_of_turc_et_al(size: str, millions: float) -> None:
    """Parameters with BERT's 30,522 pieces, to the published decimal."""
    o = config.Encoder.model_validate({"preset": "bert", "size": size})
    encoder = Encoder(o, 30_522, 0, torch.float32)
    body = sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("head"))
    pooler, token_types = o.width * o.width + o.width, 2 * o.width  # published counts have them, ours has not
    assert round((body + pooler + token_types) / 1e6, 1) == pytest.approx(millions, abs=0.11)
