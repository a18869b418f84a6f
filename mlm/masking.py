"""(tokens, masking, draws) -> corrupted tokens and targets. Knows no files.

The procedure of Devlin et al. 2018, with the request realised exactly in expectation:

1. Of a row's n ordinary tokens, `exact` selects floor(rate · n + u), u uniform in [0, 1), without
   replacement: the expected number is rate · n at any rate and length (stochastic rounding).
   `bernoulli` selects every ordinary token independently.
2. One uniform draw v a token partitions the selected: v < mask shows [MASK]; v < mask + same shows
   the token itself; else a token drawn uniformly from the ordinary pieces, which may equal it.

Ordinary is every token but the protected ones; special tokens are never selected and never drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Int8
from torch import Tensor

from mlm import config
from mlm.randomness import Uniform


class Corrupted(NamedTuple):
    """A corrupted batch; all tensors are [rows, length]."""

    inputs: Int[Tensor, "rows length"]
    """int64, what the model sees."""
    selected: Bool[Tensor, "rows length"]
    """bool, the targets: positions whose original token is to be predicted."""
    kind: Int8[Tensor, "rows length"]
    """int8 at every position: 0 not selected, 1 shown [MASK], 2 the same, 3 random."""


KIND_NUMBERS = {"mask": 1, "same": 2, "random": 3}


def corrupt(
    tokens: Int[Tensor, "rows length"],
    masking: config.Masking,
    uniform: Uniform,
    *,
    n_tokens: int,
    mask_token: int = config.MASK,
    protected: Sequence[int] = range(config.N_SPECIAL),
) -> Corrupted:
    """Corrupt a batch; `tokens` is left as it is.

    Args:
        tokens: [rows, length] int64.
        masking: rate, selection and split.
        uniform: source of uniform draws, the only randomness.
        n_tokens: size of the vocabulary.
        mask_token: id of [MASK].
        protected: ids never selected and never drawn.
    """
    eligible = torch.ones_like(tokens, dtype=torch.bool)
    for token in protected:
        eligible &= tokens != token
    select = select_exact if masking.selection == "exact" else select_bernoulli
    selected = select(eligible, masking.rate, uniform)

    rows, length = tokens.shape
    v = uniform((rows, length))
    split = masking.split
    masked = selected & (v < split.mask)
    # At a random share of 0, rounding in the sum must not leave a sliver for it.
    same = selected & ~masked & ((v < split.mask + split.same) | (split.random == 0))
    random = selected & ~masked & ~same

    inputs = torch.where(masked, mask_token, tokens)
    where = random.nonzero(as_tuple=True)
    if len(where[0]):
        ordinary = _ordinary(n_tokens, tuple(protected), tokens.device)
        index = (uniform((len(where[0]),)) * len(ordinary)).long().clamp_(max=len(ordinary) - 1)
        inputs[where] = ordinary[index]
    kind = masked.to(torch.int8) + 2 * same.to(torch.int8) + 3 * random.to(torch.int8)
    return Corrupted(inputs, selected, kind)


def select_exact(
    eligible: Bool[Tensor, "rows length"], rate: float, uniform: Uniform
) -> Bool[Tensor, "rows length"]:
    """[rows, length] bool: floor(rate · n + u) of each row's n eligible positions, uniformly."""
    rows, length = eligible.shape
    available = eligible.sum(1)
    wanted = (available * rate + uniform((rows,)).to(eligible.device)).floor().long()
    wanted = torch.minimum(wanted, available)
    keys = uniform((rows, length)).to(eligible.device).masked_fill_(~eligible, 2.0)
    order = keys.argsort(dim=1)
    chosen = torch.arange(length, device=eligible.device) < wanted[:, None]
    return torch.zeros_like(eligible).scatter_(1, order, chosen)


def select_bernoulli(
    eligible: Bool[Tensor, "rows length"], rate: float, uniform: Uniform
) -> Bool[Tensor, "rows length"]:
    """[rows, length] bool: each eligible position with probability `rate`."""
    return eligible & (uniform((eligible.shape[0], eligible.shape[1])) < rate)


def _ordinary(n_tokens: int, protected: tuple[int, ...], device: torch.device) -> Int[Tensor, "ordinary"]:
    keep = torch.ones(n_tokens, dtype=torch.bool)
    keep[[token for token in protected if 0 <= token < n_tokens]] = False
    return keep.nonzero()[:, 0].to(device)


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
