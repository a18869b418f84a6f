"""(tokens, seed, step) -> a batch of windows; a step number is the whole state."""

import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from mlm.errors import InputError
from mlm.randomness import Purpose, generator


class Batches:
    """Windows of the token stream, every one once an epoch, in an order of the seed's own.

    Each epoch cuts the stream anew, at a random phase, and shuffles the windows; a batch may span
    two epochs. Asking for step k needs nothing of the steps before it.

    Args:
        tokens: [n_tokens] token stream of one split.
        seed: decides phase and order; arms that share it see the same text in the same order.
        batch_size: windows a batch.
        length: tokens a window.
    """

    def __init__(self, tokens: NDArray[Any], seed: int, batch_size: int, length: int) -> None:
        # One window is kept back, so that every phase leaves the same number of windows.
        self.windows = len(tokens) // length - 1
        if self.windows < 1:
            raise InputError(
                f"sequence_length: {length} needs at least {2 * length} tokens in the training split, "
                f"which has {len(tokens)}; shorten the windows or bring more text"
            )
        self.tokens, self.seed, self.batch_size, self.length = tokens, seed, batch_size, length
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> NDArray[np.int64]:
        """[windows] where each window of an epoch begins."""
        draws = generator(self.seed, Purpose.ORDER, epoch)
        phase = draws.integers(self.length)
        return phase + draws.permutation(self.windows).astype(np.int64) * self.length

    def __call__(self, step: int) -> Int[Tensor, "batch_size length"]:
        """[batch_size, length] int64 tokens of a step (counted from 0)."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(places, self.windows)
        begins = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            begins[here] = self._epoch(int(epoch))[within[here]]
        index = begins[:, None] + np.arange(self.length)
        return torch.from_numpy(self.tokens[index].astype(np.int64))


def windows(
    tokens: NDArray[Any], length: int, most: int, stretch: int | None = None
) -> Int[Tensor, "n length"]:
    """[n, length] up to `most` windows spread evenly over a stream; for evaluation.

    They never overlap; where fewer are there than asked for, all come.

    Args:
        stretch: make each window of unrelated stretches of so many tokens: far from each other in the stream.
    """
    if stretch is not None:
        parts = length // stretch
        pieces = windows(tokens, stretch, most * parts)
        rows = len(pieces) // parts
        if rows < 1:
            raise _too_short(length, tokens)
        return pieces[: rows * parts].view(parts, rows, stretch).transpose(0, 1).reshape(rows, length)
    there = len(tokens) // length
    if there < 1:
        raise _too_short(length, tokens)
    chosen = np.arange(min(most, there)) * there // min(most, there)
    index = chosen[:, None] * length + np.arange(length)
    return torch.from_numpy(tokens[index].astype(np.int64))


def _too_short(length: int, tokens: NDArray[Any]) -> InputError:
    return InputError(
        f"sequence_length: {length} is longer than a held-out split of {len(tokens)} tokens; "
        "shorten it or hold out more text"
    )
