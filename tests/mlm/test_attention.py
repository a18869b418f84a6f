"""What a position may not attend to cannot reach it, in any preset, with and without padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm import config
from mlm.encoder import Encoder, allowed
from mlm.schedules import Pattern

CPU = torch.device("cpu")
LENGTH = 12


def encoder(preset: str, pattern: Pattern, **changes: object) -> Encoder:
    """Of large weights, so that whatever can be seen is."""
    small = {"preset": preset, "layers": 1, "width": 16, "heads": 2, "max_positions": 16, **changes}
    model = Encoder(config.Encoder.model_validate(small), 40, 0, torch.float32)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.5)
    model.pattern = pattern
    return model


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(5, 40, (rows, LENGTH), generator=torch.Generator().manual_seed(2))


patterns = st.builds(
    Pattern,
    st.booleans(),
    st.none() | st.integers(1, 2 * LENGTH),
    st.none() | st.sampled_from([1, 2, 3, 4, 6, 12]),
)


@given(patterns, st.sampled_from(["bert", "modern"]))
def test_one_layer_sees_what_the_pattern_allows_and_nothing_else(pattern: Pattern, preset: str) -> None:
    """A changed token changes exactly the logits of those that may attend to it."""
    model, x = encoder(preset, pattern), tokens(1)
    seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    for i in range(LENGTH):
        for j in range(LENGTH):
            reach = LENGTH if pattern.window is None else pattern.window // (1 if pattern.causal else 2)
            seen[i, j] = (
                abs(i - j) <= reach
                and (j <= i or not pattern.causal)
                and (pattern.group is None or i // pattern.group == j // pattern.group)
            )
    table = allowed(pattern, LENGTH, CPU)
    assert torch.equal(seen, torch.ones_like(seen) if table is None else table)
    with torch.no_grad():
        before = model(x)
        for j in (0, 5, LENGTH - 1):
            other = x.clone()
            other[0, j] = (x[0, j] - 5 + 7) % 35 + 5
            changed = (model(other) != before)[0].any(-1)
            assert torch.equal(changed, seen[:, j])


@pytest.mark.parametrize("preset", ["bert", "modern"])
def test_no_causal_leak_however_deep(preset: str) -> None:
    model, x = encoder(preset, Pattern(causal=True), layers=3), tokens()
    other = x.clone()
    other[:, 7:] = other[:, 7:].flip(1)
    with torch.no_grad():
        one, two = model(x), model(other)
    assert torch.equal(one[:, :7], two[:, :7])
    assert not torch.equal(one[:, 7:], two[:, 7:])


@pytest.mark.parametrize("preset", ["bert", "modern"])
def test_groups_leak_nothing_however_deep(preset: str) -> None:
    model, x = encoder(preset, Pattern(group=4), layers=3), tokens()
    other = x.clone()
    other[:, 4:8] = other[:, 4:8].flip(1)
    with torch.no_grad():
        changed = (model(x) != model(other)).any(-1).any(0)
    assert changed.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_without_positions_a_group_is_a_sequence_of_its_own() -> None:
    """Rotary positions are relative: 3 groups of 4 in a row are 3 rows of 4."""
    grouped, alone = (encoder("modern", pattern, layers=2) for pattern in (Pattern(group=4), Pattern()))
    x = tokens()
    with torch.no_grad():
        torch.testing.assert_close(
            grouped(x).view(-1, 40), alone(x.view(-1, 4)).view(-1, 40), rtol=1e-4, atol=1e-4
        )


@given(patterns, st.sampled_from(["bert", "modern"]))
def test_targets_only_is_everything_at_the_targets(pattern: Pattern, preset: str) -> None:
    model, x = encoder(preset, pattern, layers=2), tokens()
    at = torch.tensor([[0, 3, 11], [5, 5, 8]])
    with torch.no_grad():
        full = model(x).gather(1, at[:, :, None].expand(-1, -1, 40))
        torch.testing.assert_close(model(x, at=at), full, rtol=1e-4, atol=1e-4)


@given(patterns)
def test_padding_changes_nothing_under_any_pattern(pattern: Pattern) -> None:
    model, x = encoder("modern", pattern, layers=2), tokens()
    padded = torch.cat([x, torch.zeros(2, 4, dtype=torch.int64)], 1)
    visible = torch.arange(16) < torch.tensor([[LENGTH], [LENGTH]])
    if pattern.group is not None and LENGTH % pattern.group:
        return
    with torch.no_grad():
        found = model(padded, visible=visible)[:, :LENGTH]
        torch.testing.assert_close(found, model(x), rtol=1e-4, atol=1e-4)
    assert bool(found.isfinite().all())


def test_segments_matter_only_where_they_are_an_option() -> None:
    x, segments = tokens(), torch.ones(2, LENGTH, dtype=torch.int64)
    with_segments = encoder("bert", Pattern(), segments=True)
    without = encoder("bert", Pattern())
    with torch.no_grad():
        assert not torch.equal(with_segments(x), with_segments(x, segments=segments))
        assert torch.equal(with_segments(x), with_segments(x, segments=0 * segments))
        assert torch.equal(without(x), without(x, segments=segments))
