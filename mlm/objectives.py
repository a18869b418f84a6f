"""What is predicted, and its loss in nats.

Masked language modelling (Devlin et al. 2018): the original tokens at the selected positions. Causal: every
token from those to its left, by the same encoder under a causal pattern. Next sentence (NSP, ibid.) and
sentence order (SOP, Lan et al. 2019, arXiv 1909.11942): from [CLS], whether a pair of segments is one.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from mlm import config, plugins
from mlm.encoder import Encoder
from mlm.masking import Corrupted
from mlm.randomness import Uniform
from mlm.sentence_pairs import PairBatch


class Batch(NamedTuple):
    """A batch ready for the encoder; in a rectangle of targets, fillers stand behind a row's own."""

    inputs: Int[Tensor, "rows length"]
    """int64, what the encoder sees."""
    at: Int[Tensor, "rows targets"]
    """int64 positions whose state predicts: the targets', or for a causal objective those before them."""
    targets: Int[Tensor, "rows targets"]
    """int64 tokens to predict."""
    real: Bool[Tensor, "rows targets"]
    """bool, False at fillers, which no loss may count."""
    kind: Int8[Tensor, "rows targets"]
    """int8: 1 shown [MASK], 2 the same, 3 random; 0 at fillers."""
    segments: Int[Tensor, "rows length"] | None = None
    """int64 0 or 1, of sentence pairs."""
    visible: Bool[Tensor, "rows length"] | None = None
    """bool, False at padding, of sentence pairs."""
    related: Int[Tensor, "rows"] | None = None
    """int64, 1 where a pair is one; of sentence pairs."""

    def rows(self, begin: int, end: int) -> "Batch":
        """Some rows of the batch."""
        parts: list[Any] = [None if part is None else part[begin:end] for part in self]
        return Batch(*parts)

    def to(self, device: torch.device) -> "Batch":
        """The batch where it is computed; copies to a GPU do not wait."""
        if device.type == "cpu":
            return self
        parts: list[Any] = [
            None if part is None else part.pin_memory().to(device, non_blocking=True) for part in self
        ]
        return Batch(*parts)


def target_positions(
    selected: Bool[Tensor, "rows length"],
) -> tuple[Int[Tensor, "rows targets"], Bool[Tensor, "rows targets"]]:
    """Positions of the targets as a rectangle, so that a batch stays a batch.

    Args:
        selected: [rows, length] bool.

    Returns:
        at: [rows, targets] int64, each row's selected positions in order, then fillers, which are 0;
        real: [rows, targets] bool, False at the fillers, which no loss may count.
    """
    chosen = selected.cpu().numpy()
    counts = chosen.sum(1)
    real = np.arange(max(int(counts.max()), 1)) < counts[:, None]
    at = np.zeros(real.shape, np.int64)
    at[real] = np.nonzero(chosen)[1]  # both are read row by row
    positions, theirs = (torch.from_numpy(part).to(selected.device) for part in (at, real))
    return positions, theirs


def batch(
    tokens: Int[Tensor, "rows length"], corrupted: Corrupted, causal: bool, pairs: PairBatch | None = None
) -> Batch:
    """What the encoder is to see and to predict of corrupted tokens.

    Args:
        tokens: [rows, length] as they were.
        causal: targets are predicted from the position before them; the first of a row has none.
        pairs: the sentence pairs that the tokens are, if they are.
    """
    at, real = target_positions(behind_first(corrupted.predicted) if causal else corrupted.predicted)
    labels = tokens if corrupted.labels is None else corrupted.labels
    # A strategy of the user's may give a view; compiled code takes rows as they lie in memory.
    made = Batch(
        corrupted.inputs.contiguous(), at, labels.gather(1, at), real, corrupted.kind.gather(1, at) * real
    )
    if causal:
        made = made._replace(at=(at - 1).clamp(min=0))
    if pairs is not None:
        made = made._replace(segments=pairs.segments, visible=pairs.visible, related=pairs.related)
    return made


def behind_first(predicted: Bool[Tensor, "rows length"]) -> Bool[Tensor, "rows length"]:
    """The targets but those at the first position of a row, to whose left is nothing."""
    return predicted & (torch.arange(predicted.shape[1]) > 0)


def outputs(
    encoder: Encoder, batch: Batch, tokens: bool = True, uniform: Uniform | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """[rows, targets, n_tokens] logits of the targets, and [rows, 2] of the judgement where there are pairs.

    Args:
        tokens: whether the first are wanted.
        uniform: source of dropout's draws; None means no dropout.
    """
    pairs = batch.related is not None
    at = batch.at if tokens else batch.at[:, :0]
    if pairs:
        at = F.pad(at, (1, 0))  # position 0, where [CLS] stands
    states = encoder.hidden(
        batch.inputs, at=at, visible=batch.visible, segments=batch.segments, uniform=uniform
    )[-1]
    logits = encoder.logits(states[:, int(pairs) :]) if tokens else None
    return logits, encoder.relation(states[:, 0]) if pairs else None


class CrossEntropies(torch.autograd.Function):
    """F.cross_entropy whose gradient the compiler makes in one pass over the logits, not in two."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        normaliser = logits.float().logsumexp(-1)
        ctx.save_for_backward(logits, targets, normaliser)
        return normaliser - logits.gather(-1, targets[:, None])[:, 0].float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, targets, normaliser = ctx.saved_tensors
        share = (logits.float() - normaliser[:, None]).exp()
        hit = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
        return ((share - hit.float()) * gradient[:, None]).to(logits.dtype), None


def cross_entropies(
    logits: Float[Tensor, "*places n_tokens"], targets: Int[Tensor, "*places"]
) -> Float[Tensor, "*places"]:
    """[…, n_tokens], […] -> […] float32 negative log-likelihoods in nats."""
    logits, flat = logits.flatten(0, -2), targets.flatten()
    if torch.compiler.is_compiling():
        losses: Tensor = CrossEntropies.apply(logits, flat)  # type: ignore[no-untyped-call]
    else:
        losses = F.cross_entropy(logits.float(), flat, reduction="none")
    return losses.view(targets.shape)


@runtime_checkable
class Objective(Protocol):
    """Terms of a loss, each a sum in nats over items and their number.

    The loss of a batch is the sum over its terms of sum / number: a batch may then be computed in parts.
    """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Items of each term in a batch; a term without any counts nothing."""

    def sums(self, encoder: Encoder, batch: Batch, uniform: Uniform | None) -> dict[str, Tensor]:
        """The same terms, summed over the items of a batch or of some of its rows."""


class Prediction:
    """The built-in objectives: tokens, whether the pair is one where the batch has pairs, or both.

    Args:
        tokens: predict the targets.
    """

    def __init__(self, tokens: bool) -> None:
        self.tokens = tokens

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Targets, and pairs."""
        counted = {"tokens": batch.real.sum()} if self.tokens else {}
        if batch.related is not None:
            counted["relation"] = torch.tensor(len(batch.inputs))
        return counted

    def sums(self, encoder: Encoder, batch: Batch, uniform: Uniform | None) -> dict[str, Tensor]:
        """Cross-entropies of the targets and of the judgements."""
        logits, judgement = outputs(encoder, batch, self.tokens, uniform)
        summed = {}
        if logits is not None:
            summed["tokens"] = (cross_entropies(logits, batch.targets) * batch.real).sum()
        if judgement is not None and batch.related is not None:
            summed["relation"] = cross_entropies(judgement, batch.related).sum()
        return summed


def objective(run: config.Run) -> Objective:
    """The objective that a run states."""
    if ":" in run.objective:
        found: Objective = plugins.load(run.objective, "objective", "objective")
        return found
    parts = run.objective.split("+")
    return Prediction(tokens=bool({"mlm", "causal"} & set(parts)))


def mean_loss(summed: dict[str, Tensor], counted: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Sum over the terms of sum / number, in nats; a term without items is 0."""
    return torch.stack([summed[term] / counted[term].clamp(min=1) for term in counted]).sum()
