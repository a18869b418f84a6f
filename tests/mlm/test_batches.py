"""A step number is the whole state of the data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm.batches import Batches, windows
from mlm.errors import InputError

streams = st.tuples(
    st.integers(2, 9), st.integers(0, 8), st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**62)
)


def build(shape: tuple[int, int, int, int, int]) -> Batches:
    """A stream of consecutive numbers, so that a window tells where it was cut."""
    length, rest, there, batch_size, seed = shape
    return Batches(np.arange(length * there + min(rest, length - 1), dtype=np.uint16), seed, batch_size, length)


@given(streams)
def test_every_window_once_an_epoch(shape) -> None:
    batches = build(shape)
    epochs = 3
    steps = -(-epochs * batches.windows // batches.batch_size)
    stream = torch.cat([batches(step) for step in range(steps)])[: epochs * batches.windows]
    for epoch in stream.view(epochs, batches.windows, batches.length):
        begins = sorted(epoch[:, 0].tolist())
        phase = begins[0]
        assert 0 <= phase < batches.length
        assert begins == [phase + i * batches.length for i in range(batches.windows)]
        assert torch.equal(epoch, epoch[:, :1] + torch.arange(batches.length))
        assert int(epoch.max()) < len(batches.tokens)


@given(streams, st.integers(0, 200))
def test_a_step_needs_nothing_of_the_steps_before_it(shape, step: int) -> None:
    used = build(shape)
    for earlier in range(max(0, step - 5), step):
        used(earlier)
    assert torch.equal(used(step), build(shape)(step))


@given(streams, st.integers(2, 6))
def test_the_order_of_windows_does_not_depend_on_the_batch_size(shape, factor: int) -> None:
    length, rest, there, batch_size, seed = shape
    small, large = build(shape), build((length, rest, there, batch_size * factor, seed))
    assert torch.equal(torch.cat([small(step) for step in range(factor)]), large(0))


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    tokens = np.arange(64 * 50, dtype=np.uint16)
    first = [Batches(tokens, seed, 49, 64)(0) for seed in range(3)]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    epochs = [Batches(tokens, 0, 49, 64)(step) for step in range(2)]
    assert not torch.equal(epochs[0], epochs[1])


def test_phases_move_from_epoch_to_epoch() -> None:
    """So that over a run every token stands at every place of a window, and few are left out."""
    batches = Batches(np.arange(8 * 21, dtype=np.uint16), 0, 20, 8)
    phases = {int(batches(epoch)[:, 0].min()) for epoch in range(100)}
    assert phases == set(range(8))


def test_batches_are_int64_of_the_stated_shape() -> None:
    batch = Batches(np.arange(100, dtype=np.uint16), 0, 3, 7)(5)
    assert batch.shape == (3, 7)
    assert batch.dtype == torch.int64


def test_text_too_short_is_named() -> None:
    with pytest.raises(InputError, match=r"sequence_length: 64 needs at least 128 tokens .* has 100"):
        Batches(np.zeros(100, np.uint16), 0, 4, 64)


@given(length=st.integers(1, 9), there=st.integers(1, 60), rest=st.integers(0, 8), most=st.integers(1, 80))
def test_windows_for_evaluation_are_even_and_do_not_overlap(
    length: int, there: int, rest: int, most: int
) -> None:
    found = windows(np.arange(length * there + min(rest, length - 1), dtype=np.uint32), length, most)
    assert found.shape == (min(most, there), length)
    assert torch.equal(found, found[:, :1] + torch.arange(length))
    gaps = found[:, 0].diff()
    assert bool((gaps >= length).all())
    if len(gaps):
        assert int(gaps.max() - gaps.min()) <= length
    if most <= there:
        assert int(found[-1, 0]) >= (there - -(-there // most)) * length


def test_windows_longer_than_the_split_are_named() -> None:
    with pytest.raises(InputError, match="longer than a held-out split of 5 tokens"):
        windows(np.zeros(5, np.uint16), 6, 1)
