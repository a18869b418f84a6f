"""The train × evaluation corruption matrix: a run's held-out loss under the corruption of every arm.

Each arm's own corruption is easy for the arm that was trained with it, and the yardstick favours those that
know [MASK]; the whole matrix takes no side.
"""

import torch

from mlm import config, measures
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.evaluate import freeze
from mlm.evaluate import measure as measure_batches
from mlm.experiment import Corruptions
from mlm.objectives import Batch
from mlm.shards import Shard


def frozen(
    run: config.Run, masking: config.Masking, data: Shard, begins_word: list[bool], sequences: int
) -> list[Batch]:
    """Up to so many windows of a split under a corruption: for every run with that length the same.

    They are those of the run's own evaluation, but never sentence pairs: arms with and without them read the
    same text, as on the yardstick.
    """
    under = run.model_copy(update={"masking": masking, "objective": "mlm"})
    return freeze(under, data, torch.tensor(begins_word), sequences)["own"]


def measure(
    encoder: Encoder, run: config.Run, data: Shard, begins_word: list[bool], asked: Corruptions
) -> dict[str, float]:
    """Named loss in nats and accuracy, as in `mlm.measures`, a row of the matrix.

    Args:
        data: the test split.
        begins_word: of each token of the vocabulary, whether a word begins with it.
        asked: the corruptions by the names of their arms; arms that share one are measured once.
    """
    if not run.corrupts:
        raise InputError(f"corruptions: objective {run.objective} corrupts nothing that it predicts")
    found: dict[str, dict[str, float]] = {}
    values: dict[str, float] = {}
    for arm, masking in asked.arms.items():
        same = masking.model_dump_json()
        if same not in found:
            result = measure_batches(encoder, frozen(run, masking, data, begins_word, asked.sequences))
            found[same] = {key: result[key] for key in measures.QUANTITIES if key in result}
        values |= dict(measures.flatten(measures.under(arm), found[same]))
    return values
