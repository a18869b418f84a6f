"""How far context matters: the loss at one target a window when the text beyond a distance is resampled.

What lies further than c positions from the target is replaced by what stands at the same places of another
held-out window: text as good as any, which tells nothing of this target (after Khandelwal et al. 2018, "Sharp
nearby, fuzzy far away", arXiv 1805.04623). A model that reads it is misled, so that the loss at small c may
lie above that of one who knows no context. Windows, targets and the other windows are frozen, the same for
every distance and every run of one text and length, so that all differences are paired.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mlm import config, measures, objectives
from mlm.batches import windows
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.evaluate import ROWS
from mlm.evaluate import measure as measure_batches
from mlm.experiment import Radius
from mlm.masking import KIND_NUMBERS, Corrupted
from mlm.objectives import Batch
from mlm.randomness import Purpose, generator
from mlm.shards import Shard


class Frozen(NamedTuple):
    """Windows with a target each, and the text that stands in for their own."""

    tokens: Int[Tensor, "rows length"]
    """int64, each window as it is."""
    stand_ins: Int[Tensor, "rows length"]
    """int64, what its tokens are replaced by: ordinary ones of another window, special ones by themselves."""
    target: Bool[Tensor, "rows length"]
    """bool, one ordinary token a row, not the first of it; none where there is no such token."""


def freeze(run: config.Run, data: Shard, most: int) -> Frozen:
    """Up to `most` windows of a split, of the run's own kind of text, always the same.

    Every window lends its text to one other: in a ring of random order, to the one before it. Where it has
    a special token, which may not come in, the next one lends its own.

    Raises:
        InputError: the split has a single window, which nothing could stand in for.
    """
    tokens = windows(data.tokens, run.sequence_length, most, run.stretch)
    if len(tokens) < 2:
        raise InputError(
            f"radius: sequence_length {run.sequence_length} leaves one window of {data.name}, and its text is "
            "resampled from another one; shorten it or hold out more text"
        )
    draws = generator(0, Purpose.EVALUATION, name="radius")
    ring = tokens[torch.from_numpy(draws.permutation(len(tokens)))]
    special = ring < config.N_SPECIAL
    stand_ins = ring.roll(-1, 0)
    for away in range(2, len(ring)):
        if not (wrong := (stand_ins < config.N_SPECIAL) & ~special).any():
            break
        stand_ins = torch.where(wrong, ring.roll(-away, 0), stand_ins)
    # A place at which every other window has a special token stays as it is.
    stand_ins = torch.where(stand_ins < config.N_SPECIAL, ring, stand_ins)
    keys = np.where(special.numpy(), -1.0, draws.random(ring.shape))
    keys[:, 0] = -1.0
    target = torch.from_numpy((keys == keys.max(1, keepdims=True)) & (keys >= 0))
    return Frozen(ring, torch.where(special, ring, stand_ins), target)


def resampled(frozen: Frozen, distance: int, causal: bool) -> list[Batch]:
    """The windows with all text further than `distance` positions from their targets replaced.

    Args:
        causal: the target is predicted from what stands to its left, and not masked.
    """
    target = frozen.target
    at = target.int().argmax(1, keepdim=True)
    far = (torch.arange(target.shape[1]) - at).abs() > distance
    inputs = torch.where(far, frozen.stand_ins, frozen.tokens)
    if not causal:
        inputs = torch.where(target, config.MASK, inputs)
    kind = target.to(torch.int8) * KIND_NUMBERS["same" if causal else "mask"]
    parts = (torch.split(part, ROWS) for part in (frozen.tokens, inputs, target, kind))
    return [
        objectives.batch(tokens, Corrupted(seen, chosen, chosen, kinds), causal)
        for tokens, seen, chosen, kinds in zip(*parts, strict=True)
    ]


def measure(encoder: Encoder, run: config.Run, data: Shard, asked: Radius) -> dict[str, float]:
    """Named loss in nats at each distance, and at `all` with nothing resampled, as in `mlm.measures`.

    Args:
        data: the test split.
    """
    frozen = freeze(run, data, asked.sequences)
    values: dict[str, float] = {}
    for distance in (*asked.distances, None):
        batches = resampled(frozen, run.sequence_length if distance is None else distance, run.causal)
        result = measure_batches(encoder, batches)
        values |= {f"{measures.radius(distance)}.loss_nats": result["loss_nats"]} if result else {}
    return values
