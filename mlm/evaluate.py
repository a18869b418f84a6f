"""Held-out loss and accuracy on frozen masks, the same for every model.

Frozen masks belong to (vocabulary, length, masking): they are drawn from a fixed stream that knows
neither the run's seed nor its arm. Dropout is off.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Int8
from numpy.typing import NDArray
from torch import Tensor

from mlm import config, schedules
from mlm.batches import windows
from mlm.encoder import Encoder
from mlm.masking import KIND_NUMBERS, corrupt
from mlm.objectives import cross_entropies, target_positions
from mlm.randomness import Purpose, generator, uniform

ROWS = 64  # rows a forward pass; a constant, since it decides the last bits of a sum


class FrozenBatch(NamedTuple):
    """Corrupted held-out windows, ready for the encoder."""

    inputs: Int[Tensor, "rows length"]
    at: Int[Tensor, "rows targets"]
    """Positions of the targets."""
    originals: Int[Tensor, "rows targets"]
    """The tokens to predict."""
    kind: Int8[Tensor, "rows targets"]
    """1 shown [MASK], 2 the same, 3 random, 0 filler."""


def freeze(
    tokens: NDArray[Any], masking: config.Masking, length: int, begins_word: Bool[Tensor, "n_tokens"], most: int
) -> list[FrozenBatch]:
    """Corrupt up to `most` windows of a split, always in the same way."""
    batches = []
    for number, rows in enumerate(torch.split(windows(tokens, length, most), ROWS)):
        draws = uniform(generator(0, Purpose.EVALUATION, number))
        corrupted = corrupt(rows, masking, draws, n_tokens=len(begins_word), begins_word=begins_word)
        at, real = target_positions(corrupted.selected)
        kind = corrupted.kind.gather(1, at) * real
        batches.append(FrozenBatch(corrupted.inputs, at, rows.gather(1, at), kind))
    return batches


@torch.no_grad()
def measure(encoder: Encoder, batches: list[FrozenBatch], device: torch.device) -> dict[str, Any]:
    """Mean loss in nats and accuracy over all targets, and by kind for the kinds that occur.

    >>> measure(encoder, batches, device)  # doctest: +SKIP
    {'loss_nats': 4.2, 'accuracy': 0.31, 'mask': {'loss_nats': 4.6, 'accuracy': 0.28}, 'same': …}
    """
    kinds, losses, hits = [], [], []
    for batch in batches:
        originals = batch.originals.to(device)
        logits = encoder(batch.inputs.to(device), at=batch.at.to(device))
        real = batch.kind > 0
        kinds.append(batch.kind[real])
        losses.append(cross_entropies(logits, originals).cpu()[real].double())
        hits.append((logits.argmax(-1) == originals).cpu()[real].double())
    kind, loss, hit = torch.cat(kinds), torch.cat(losses), torch.cat(hits)
    if not len(kind):
        return {}
    result: dict[str, Any] = {"loss_nats": float(loss.mean()), "accuracy": float(hit.mean())}
    for name, number in KIND_NUMBERS.items():
        here = kind == number
        if here.any():
            result[name] = {"loss_nats": float(loss[here].mean()), "accuracy": float(hit[here].mean())}
    return result


def corruptions(run: config.Run) -> dict[str, config.Masking]:
    """The corruptions every run is evaluated under; its own is that of its last step."""
    return {"yardstick": config.YARDSTICK, "own": schedules.masking(run.masking, 1.0)}
