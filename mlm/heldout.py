"""The measure `evaluation` of a finished run: validation and test, under every corruption."""

import torch

from mlm import config, measures
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.evaluate import freeze
from mlm.evaluate import measure as measure_batches
from mlm.shards import Shard


def measure(
    encoder: Encoder, run: config.Run, data: dict[str, Shard], begins_word: list[bool], sequences: int
) -> dict[str, float]:
    """Named loss in nats and accuracy, as in `mlm.measures`.

    Args:
        begins_word: of each token of the vocabulary, whether a word begins with it.
        sequences: windows of each held-out split, at most.

    Raises:
        InputError: they are so few that the yardstick has no target.
    """
    values: dict[str, float] = {}
    for split in measures.SPLITS:
        for name, batches in freeze(run, data[split], torch.tensor(begins_word), sequences).items():
            result = measure_batches(encoder, batches)
            if name == "yardstick" and not result:
                raise InputError(
                    f"evaluation.sequences: {sequences} windows of {run.sequence_length} tokens have, in the "
                    f"{split} split, no target; ask for more"
                )
            if name == "yardstick":  # every target shows the same kind: a breakdown would say it twice
                result = {key: result[key] for key in measures.QUANTITIES}
            values |= dict(measures.flatten(f"{split}.{name}", result))
    return values
