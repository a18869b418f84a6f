"""(tokens, masking, draws) -> corrupted tokens and targets. Knows no files.

The procedure of Devlin et al. 2018, with the request realised exactly in expectation:

1. Positions are selected: tokens, whole words or spans (mlm.selection), rate · n of a row's n ordinary
   tokens in expectation.
2. One uniform draw v a token partitions the selected: v < mask shows [MASK]; v < mask + same shows
   the token itself; else a token drawn uniformly from the ordinary pieces, which may equal it. Units do
   not share a draw, so the split is the one asked for whatever is selected as a whole.
3. Of the selected, the stated share is predicted, in the same exact way.

Ordinary is every token but the protected ones; special tokens are never selected and never drawn.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Int8
from numpy.typing import NDArray
from torch import Tensor

from mlm import config, plugins
from mlm.errors import InputError
from mlm.randomness import Uniform
from mlm.selection import select, select_tokens


class Corrupted(NamedTuple):
    """A corrupted batch; all tensors are [rows, length]."""

    inputs: Int[Tensor, "rows length"]
    """int64, what the model sees."""
    selected: Bool[Tensor, "rows length"]
    """bool, the corrupted positions."""
    predicted: Bool[Tensor, "rows length"]
    """bool, the targets: positions whose original token is to be predicted; all selected unless told."""
    kind: Int8[Tensor, "rows length"]
    """int8 at every position: 0 not selected, 1 shown [MASK], 2 the same, 3 random."""
    labels: Int[Tensor, "rows length"] | None = None
    """int64, what is to be predicted; the original tokens, unless a strategy of the user's says otherwise."""


KIND_NUMBERS = {"mask": 1, "same": 2, "random": 3}

Strategy = Callable[..., Corrupted]
"""(tokens, masking, uniform, *, n_tokens, begins_word, step) -> Corrupted"""


def strategy(masking: config.Masking) -> Strategy:
    """`corrupt`, or the user's function in its place."""
    if masking.strategy is None:
        return corrupt
    path = masking.strategy
    found = plugins.load(path, "strategy", "masking.strategy")

    def checked(tokens: Tensor, masking: config.Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        result = found(tokens.clone(), masking, uniform, **stated)  # who writes into them would write targets
        wanted = {"inputs": torch.int64, "selected": torch.bool, "predicted": torch.bool, "kind": torch.int8}
        for name, dtype in {**wanted, "labels": torch.int64}.items():
            part = getattr(result, name, None)
            if part is None and name == "labels" and isinstance(result, Corrupted):
                continue
            if not isinstance(part, Tensor) or part.shape != tokens.shape or part.dtype != dtype:
                told = f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else repr(part)
                raise InputError(
                    f"masking.strategy: {path}: gives {name} {told}; it must give an mlm.masking.Corrupted "
                    f"whose {name} is {dtype} {tuple(tokens.shape)}"
                )
        kinds, known = result.kind.unique().tolist(), {0, *KIND_NUMBERS.values()}
        if not known.issuperset(kinds) or not torch.equal(result.kind > 0, result.selected):
            raise InputError(
                f"masking.strategy: {path}: gives kinds {', '.join(map(str, kinds))}; `kind` must be 0 where "
                "`selected` is False, and else 1 (shown [MASK]), 2 (the same) or 3 (random)"
            )
        if problem := _untrue(tokens, result):
            raise InputError(f"masking.strategy: {path}: {problem}")
        return result  # type: ignore[no-any-return]

    return checked


def _untrue(tokens: Tensor, made: Corrupted) -> str | None:
    """What a corrupted batch says of itself that its inputs do not show."""
    told = {
        "is 0 (not selected), and its input is another token": (made.kind == 0) & (made.inputs != tokens),
        "is 1 (shown [MASK]), and its input is not [MASK]": (
            (made.kind == KIND_NUMBERS["mask"]) & (made.inputs != config.MASK)
        ),
        "is 2 (the same), and its input is another token": (
            (made.kind == KIND_NUMBERS["same"]) & (made.inputs != tokens)
        ),
    }
    for what, wrong in told.items():
        if wrong.any():
            return f"{_first(wrong)} `kind` {what}; make one of them say what the other does"
    if (stray := made.predicted & ~made.selected).any():
        return f"{_first(stray)} `predicted` is True and `selected` is not; predict what is selected alone"
    return None


def _first(wrong: Tensor) -> str:
    row, place = wrong.nonzero()[0].tolist()
    return f"at row {row}, position {place}"


def corrupt(
    tokens: Int[Tensor, "rows length"],
    masking: config.Masking,
    uniform: Uniform,
    *,
    n_tokens: int,
    begins_word: Bool[Tensor, "n_tokens"] | None = None,
    step: int = 0,
    mask_token: int = config.MASK,
    protected: Sequence[int] = range(config.N_SPECIAL),
) -> Corrupted:
    """Corrupt a batch; `tokens` is left as it is.

    Args:
        tokens: [rows, length] int64.
        masking: rate, selection, unit and split, constant.
        uniform: source of uniform draws, the only randomness.
        n_tokens: size of the vocabulary.
        begins_word: [n_tokens] bool, the tokens that begin a word; needed for words and spans.
        step: of the training; strategies of the user's may heed it, this one does not.
        mask_token: id of [MASK].
        protected: ids never selected and never drawn.
    """
    known = frozenset(protected)
    first = next(token for token in itertools.count() if token not in known)
    device, original = tokens.device, tokens.cpu().numpy()
    eligible = original >= first  # and so of all that are protected from 0 on; negative ids are never selected
    for token in protected:
        if token > first:
            eligible &= original != token
    words = None if begins_word is None or masking.unit == "token" else begins_word[tokens]
    selected = select(torch.from_numpy(eligible).to(device), words, masking, uniform)

    split, v = masking.split, uniform((tokens.shape[0], tokens.shape[1])).cpu().numpy()
    at = np.flatnonzero(selected.cpu().numpy())  # row by row; a seventh of a batch, at the usual rate
    drawn = v.reshape(-1)[at]
    fates = (drawn >= split.mask).view(np.int8) + np.int8(KIND_NUMBERS["mask"])
    if split.random > 0:  # at a share of 0, rounding in the sum must not leave a sliver for it
        fates += (drawn >= split.mask + split.same).view(np.int8)

    kind, inputs = np.zeros(original.shape, np.int8), original.copy()
    kind.reshape(-1)[at] = fates
    flat = inputs.reshape(-1)
    flat[at[fates == KIND_NUMBERS["mask"]]] = mask_token
    if len(replaced := at[fates == KIND_NUMBERS["random"]]):
        ordinary = _ordinary(n_tokens, tuple(protected))
        index = (uniform((len(replaced),)).cpu().numpy() * len(ordinary)).astype(np.int64)
        flat[replaced] = ordinary[np.minimum(index, len(ordinary) - 1)]
    predicted = selected if masking.predicted == 1 else select_tokens(selected, masking.predicted, uniform)
    shown, kinds = (torch.from_numpy(part).to(device) for part in (inputs, kind))
    return Corrupted(shown, selected, predicted, kinds)


@functools.lru_cache(maxsize=16)
def _ordinary(n_tokens: int, protected: tuple[int, ...]) -> NDArray[np.int64]:
    keep = np.ones(n_tokens, dtype=bool)
    keep[[token for token in protected if 0 <= token < n_tokens]] = False
    return np.flatnonzero(keep)


class MLM:
    """The masking procedure for a batch, with the constructor of the annotated implementation.

    `randomize_prob` and `no_change_prob` are shares of the selected tokens, and both are met: two
    independent draws, as the original makes them, turn 80/10/10 into 81/9/10.

    >>> mlm = MLM(padding_token=0, mask_token=4, no_mask_tokens=[1, 2, 3], n_tokens=100)
    >>> x = torch.randint(5, 100, (32, 8))
    >>> inputs, labels = mlm(x)
    >>> bool((labels[labels != 0] == x[labels != 0]).all())
    True

    Args:
        padding_token: id of [PAD]; labels are this wherever there is no target.
        mask_token: id of [MASK].
        no_mask_tokens: ids that must not be masked, such as [CLS] when another task needs it.
        n_tokens: size of the vocabulary; random tokens are drawn from its ordinary pieces.
        masking_prob: share of the ordinary tokens that is selected, by independent draws.
        randomize_prob: share of the selected tokens that is replaced by a random token.
        no_change_prob: share of the selected tokens that stays as it is.
    """

    def __init__(
        self,
        *,
        padding_token: int,
        mask_token: int,
        no_mask_tokens: list[int],
        n_tokens: int,
        masking_prob: float = 0.15,
        randomize_prob: float = 0.1,
        no_change_prob: float = 0.1,
    ) -> None:
        self.padding_token = padding_token
        self.mask_token = mask_token
        self.n_tokens = n_tokens
        self.protected = sorted({*no_mask_tokens, padding_token, mask_token})
        if len([t for t in self.protected if 0 <= t < n_tokens]) >= n_tokens:
            raise ValueError("no_mask_tokens: every token of the vocabulary is protected")
        shown = 1.0 - randomize_prob - no_change_prob
        split = config.Split(mask=max(shown, 0.0), same=no_change_prob, random=randomize_prob)
        self.masking = config.Masking(rate=masking_prob, selection="bernoulli", split=split)

    def __call__(
        self, x: Int[Tensor, "first second"], generator: torch.Generator | None = None, seq_dim: int = 0
    ) -> tuple[Int[Tensor, "first second"], Int[Tensor, "first second"]]:
        """Corrupt `x`, [seq_len, batch_size] int64 (batch first with seq_dim=1), and leave it as it is.

        Returns:
            inputs and labels, shaped as `x`; without `generator`, torch's default one is drawn from.
        """

        def uniform(shape: tuple[int, ...]) -> torch.Tensor:
            return torch.rand(shape, generator=generator, device=x.device, dtype=torch.float64)

        rows = x.transpose(0, 1) if seq_dim == 0 else x
        result = corrupt(
            rows,
            self.masking,
            uniform,
            n_tokens=self.n_tokens,
            mask_token=self.mask_token,
            protected=self.protected,
        )
        labels = torch.where(result.selected, rows, self.padding_token)
        if seq_dim == 0:
            return result.inputs.transpose(0, 1), labels.transpose(0, 1)
        return result.inputs, labels
