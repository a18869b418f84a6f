"""What is predicted, and its loss in nats."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def target_positions(
    selected: Bool[Tensor, "rows length"],
) -> tuple[Int[Tensor, "rows targets"], Bool[Tensor, "rows targets"]]:
    """Positions of the targets as a rectangle, so that a batch stays a batch.

    Args:
        selected: [rows, length] bool.

    Returns:
        at: [rows, targets] int64, each row's selected positions in order, then fillers;
        real: [rows, targets] bool, False at the fillers, which no loss may count.
    """
    counts = selected.sum(1)
    most = max(int(counts.max()), 1)
    at = (~selected).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
    real = torch.arange(most, device=selected.device) < counts[:, None]
    return at, real


def cross_entropies(
    logits: Float[Tensor, "*places n_tokens"], targets: Int[Tensor, "*places"]
) -> Float[Tensor, "*places"]:
    """[…, n_tokens], […] -> […] float32 negative log-likelihoods in nats."""
    flat = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def masked_lm_loss(
    logits: Float[Tensor, "rows targets n_tokens"],
    targets: Int[Tensor, "rows targets"],
    real: Bool[Tensor, "rows targets"],
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood over a batch's targets, in nats; 0 for a batch without any.

    Every target of the batch has the same weight: a row may have none.

    Args:
        logits: [rows, targets, n_tokens].
        targets: [rows, targets] original tokens.
        real: [rows, targets] bool, False at fillers.
    """
    losses = cross_entropies(logits, targets)
    return (losses * real).sum() / real.sum().clamp(min=1)
