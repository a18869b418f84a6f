"""Held-out loss and accuracy on frozen masks, the same for every model.

Frozen masks belong to (vocabulary, length, masking): they are drawn from a fixed stream that knows
neither the run's seed nor its arm. Dropout is off.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mlm import config, objectives, schedules
from mlm.batches import windows
from mlm.encoder import Encoder
from mlm.masking import KIND_NUMBERS, strategy
from mlm.objectives import Batch, behind_first, cross_entropies, outputs
from mlm.randomness import Purpose, generator, uniform
from mlm.sentence_pairs import PairBatch, frozen
from mlm.shards import Shard

ROWS = 64  # rows a forward pass; a constant, since it decides the last bits of a sum


def corruptions(run: config.Run) -> dict[str, config.Masking]:
    """The corruptions every run is evaluated under; its own is that of its last step.

    The yardstick asks every run for the same tokens of the same windows, none of them the first of its
    window; a causal one sees what stands to their left.
    """
    yardstick = config.YARDSTICK
    if run.causal:
        yardstick = yardstick.model_copy(update={"split": config.Split(same=1.0)})
    return {"yardstick": yardstick, "own": schedules.masking(run.masking, 1.0)}


def freeze(
    run: config.Run, data: Shard, begins_word: Bool[Tensor, "n_tokens"], most: int
) -> dict[str, list[Batch]]:
    """Up to `most` sequences of a split under each of a run's corruptions, always the same.

    The yardstick's are windows of the text for every objective; the own of sentence pairs are such pairs.
    """
    found = {}
    for name, masking in corruptions(run).items():
        pairs: Sequence[PairBatch | None]
        if name == "own" and run.relation is not None:
            whole = frozen(data, run.sequence_length, run.relation, most)
            pairs = [
                PairBatch(*rows) for rows in zip(*(torch.split(part, ROWS) for part in whole), strict=True)
            ]
            texts = torch.split(whole.tokens, ROWS)
        else:
            stretch = run.stretch if name == "own" else None
            texts = torch.split(windows(data.tokens, run.sequence_length, most, stretch), ROWS)
            pairs = [None] * len(texts)
        corrupt = strategy(masking)
        batches = []
        for number, (tokens, pair) in enumerate(zip(texts, pairs, strict=True)):
            draws = uniform(generator(0, Purpose.EVALUATION, number))
            vocabulary: dict[str, Any] = {"n_tokens": len(begins_word), "begins_word": begins_word}
            corrupted = corrupt(tokens, masking, draws, **vocabulary, step=run.steps - 1)
            if name == "yardstick":
                corrupted = corrupted._replace(predicted=behind_first(corrupted.predicted))
            batches.append(objectives.batch(tokens, corrupted, run.causal, pair))
        found[name] = batches
    return found


@torch.no_grad()
def measure(encoder: Encoder, batches: list[Batch]) -> dict[str, Any]:
    """Mean loss in nats and accuracy over all targets, and by kind for the kinds that occur.

    Where there are sentence pairs, `relation` is that of the judgements whether they are one.

    >>> measure(encoder, batches)  # doctest: +SKIP
    {'loss_nats': 4.2, 'accuracy': 0.31, 'mask': {'loss_nats': 4.6, 'accuracy': 0.28}, 'same': …}
    """
    kinds, losses, hits = [], [], []
    judged: list[tuple[Tensor, Tensor]] = []
    device = encoder.embedding.device
    for held in batches:
        batch = held.to(device)
        logits, judgement = outputs(encoder, batch)
        assert logits is not None
        real = held.real
        kinds.append(held.kind[real])
        losses.append(cross_entropies(logits, batch.targets).cpu()[real].double())
        hits.append((logits.argmax(-1) == batch.targets).cpu()[real].double())
        if judgement is not None and batch.related is not None:
            loss = cross_entropies(judgement, batch.related)
            judged.append((loss.cpu().double(), (judgement.argmax(-1) == batch.related).cpu().double()))
    kind, loss, hit = torch.cat(kinds), torch.cat(losses), torch.cat(hits)
    result = _means(loss, hit)
    for name, number in KIND_NUMBERS.items():
        here = kind == number
        result |= {name: found} if (found := _means(loss[here], hit[here])) else {}
    if judged:
        result["relation"] = _means(*(torch.cat(column) for column in zip(*judged, strict=True)))
    return result


def _means(losses: Tensor, hits: Tensor) -> dict[str, Any]:
    return {"loss_nats": float(losses.mean()), "accuracy": float(hits.mean())} if len(losses) else {}
