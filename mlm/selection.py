"""Which positions are selected: tokens, whole words or spans, at exact rates. Knows no files.

`exact`: of a row's n ordinary tokens, floor(rate · n + u) are wanted, u uniform in [0, 1): rate · n in
expectation at any rate and length. Tokens, words and spans are then drawn by one rule: units in random
order, as long as they fit; the first that does not is taken with the probability (tokens still
wanted) / (tokens of the unit), so that the expected number of selected tokens stays exact.

Words begin where the vocabulary says so; a special token ends a word and belongs to none. Spans are
stretches of words whose lengths are geometric and clipped, as SpanBERT's (Joshi et al. 2020, arXiv
1907.10529); unlike there they cannot overlap: a row is first cut into spans, then spans are drawn.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mlm import config
from mlm.randomness import Uniform


def select(
    eligible: Bool[Tensor, "rows length"],
    begins_word: Bool[Tensor, "rows length"] | None,
    masking: config.Masking,
    uniform: Uniform,
) -> Bool[Tensor, "rows length"]:
    """[rows, length] bool: the selected positions, all of them eligible.

    Args:
        eligible: positions that may be selected.
        begins_word: positions where a word begins; may be None where units are tokens.
        masking: rate, selection and unit, constant.
        uniform: source of uniform draws, the only randomness.
    """
    if masking.selection == "bernoulli":
        return eligible & (uniform((eligible.shape[0], eligible.shape[1])) < masking.rate)
    if masking.unit == "token":
        return select_tokens(eligible, masking.rate, uniform)
    assert begins_word is not None
    units = number_words(eligible, begins_word)
    if masking.unit == "span":
        units = join_words(units, masking.span, uniform)
    return select_units(eligible, units, masking.rate, uniform)


def _wanted(available: NDArray[np.int64], rate: float, uniform: Uniform) -> NDArray[np.int64]:
    """[rows] int64: stochastically rounded rate · available, at most what there is."""
    draws = uniform((len(available),)).cpu().numpy()
    # The product in float32, as ever: in float64 a few of the runs there are would draw otherwise.
    wanted = available.astype(np.float32) * np.float32(rate) + draws
    result: NDArray[np.int64] = np.minimum(wanted.astype(np.int64), available)
    return result


def select_tokens(
    eligible: Bool[Tensor, "rows length"], rate: float, uniform: Uniform
) -> Bool[Tensor, "rows length"]:
    """[rows, length] bool: the wanted number of each row's eligible positions, uniformly.

    In NumPy, whose calls cost a third of torch's: a batch is small, and its numbers lie in the cache.
    """
    rows, length = eligible.shape
    may_be = eligible.cpu().numpy()
    wanted = _wanted(may_be.sum(1), rate, uniform)
    keys = np.where(may_be, uniform((rows, length)).cpu().numpy(), 2.0)
    ascending = np.sort(keys, axis=1)
    last = np.where(wanted > 0, ascending[np.arange(rows), wanted - 1], -1.0)
    return torch.from_numpy(keys <= last[:, None]).to(eligible.device)


def number_words(
    eligible: Bool[Tensor, "rows length"], begins_word: Bool[Tensor, "rows length"]
) -> Int[Tensor, "rows length"]:
    """[rows, length] int64: number of the word that a position is part of, counted from 0 in each row.

    A row's first token begins a word, and so does the first behind a special token. Special tokens
    have a number of their own, which then has no eligible position.
    """
    before = pad(eligible, (1, 0))[:, :-1]
    return (begins_word | ~eligible | ~before).cumsum(1) - 1


def join_words(
    words: Int[Tensor, "rows length"], span: config.Span, uniform: Uniform
) -> Int[Tensor, "rows length"]:
    """[rows, length] int64: number of the span of words that a position is part of.

    Lengths in words: P(k) ∝ (1 - p)^(k - 1), clipped at `longest`; the last span ends with its row.
    """
    rows, length = words.shape
    draws = uniform((rows, length)).to(words.device)
    if span.p == 1:
        lengths = torch.ones_like(words)
    else:  # by inversion: the smallest k with 1 - (1 - p)^k > u
        lengths = (torch.log1p(-draws) / math.log1p(-span.p)).floor().long() + 1
    ends = lengths.clamp(max=span.longest).cumsum(1)  # in words, of each span of the row
    return torch.searchsorted(ends, words.contiguous(), right=True)


def select_units(
    eligible: Bool[Tensor, "rows length"], units: Int[Tensor, "rows length"], rate: float, uniform: Uniform
) -> Bool[Tensor, "rows length"]:
    """[rows, length] bool: whole units in random order, rate · n tokens in expectation.

    Args:
        units: number of each position's unit, below `length`; what is not eligible is in none.
    """
    rows, length = eligible.shape
    wanted = torch.from_numpy(_wanted(eligible.sum(1).cpu().numpy(), rate, uniform)[:, None]).to(
        eligible.device
    )
    sizes = torch.zeros_like(units).scatter_add_(1, units, eligible.long())
    keys = uniform((rows, length)).to(eligible.device).masked_fill_(sizes == 0, 2.0)
    order = keys.argsort(dim=1)
    ordered = sizes.gather(1, order)
    before = ordered.cumsum(1) - ordered
    left = (wanted - before).clamp(min=0)
    lucky = uniform((rows, 1)).to(eligible.device)  # one unit a row is the first that does not fit
    fits = (ordered <= left) | (lucky * ordered < left)
    taken = torch.zeros_like(eligible).scatter_(1, order, fits & (ordered > 0))
    return taken.gather(1, units) & eligible
