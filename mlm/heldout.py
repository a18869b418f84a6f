"""The measure `evaluation` of a finished run: validation and test, under every corruption."""

import torch

from mlm import config, measures
from mlm.encoder import Encoder
from mlm.evaluate import corruptions, freeze
from mlm.evaluate import measure as measure_batches
from mlm.shards import Shard


def measure(
    encoder: Encoder, run: config.Run, data: dict[str, Shard], begins_word: list[bool], sequences: int
) -> dict[str, float]:
    """Named loss in nats and accuracy, as in `mlm.measures`.

    Args:
        begins_word: of each token of the vocabulary, whether a word begins with it.
        sequences: windows of each held-out split, at most.
    """
    values: dict[str, float] = {}
    begins = torch.tensor(begins_word)
    for split in measures.SPLITS:
        for name, masking in corruptions(run).items():
            tokens = data[split].tokens
            batches = freeze(tokens, masking, run.sequence_length, begins, sequences)
            result = measure_batches(encoder, batches, encoder.embedding.device)
            if name == "yardstick":  # every target shows [MASK]: a breakdown would say the same twice
                result.pop("mask", None)
            values |= dict(measures.flatten(f"{split}.{name}", result))
    return values
