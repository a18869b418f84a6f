"""What a cluster's scheduler is told that training and measuring a run needs. Loads no torch."""

import math
from collections.abc import Iterable

from mlm import config, costs, matching
from mlm.measured import Measured

SLACK: dict[costs.Basis, float] = {"same": 2.0, "like": 3.0, "recorded": 5.0}
"""How many times as long as reckoned (mlm.costs) a run may take, by what that stands on."""
START_MINUTES = 10
PROCESS_MB = {"cpu": 1500, "cuda": 4000}
"""Python, torch and, where there is a GPU, CUDA's own libraries."""


def minutes(
    run: config.Run, numerics: config.Numerics, history: costs.History, taken: Iterable[Measured] = ()
) -> int:
    """Limit of wall-clock time of a run's training and of the measures taken of it: as reckoned, and some."""
    told = history.seconds(run, numerics)
    seconds = told.seconds + history.measuring(taken, run, numerics, loaded=True)
    return START_MINUTES + math.ceil(SLACK[told.basis] * seconds / 60)


def memory_mb(run: config.Run, numerics: config.Numerics) -> int:
    """Limit of main memory.

    Of each process itself, of eight float32 copies of the parameters, and on a CPU of its rows of a
    micro-batch. The copies are weights, gradients, both moments, those that are computed with, and a
    checkpoint's. A layer's activations are sequences · length · (34 · width + 5 · heads · length) bytes in
    16 bits (Korthikanti et al. 2022, arXiv 2205.05198); logits and their gradients are counted at every
    position, in float32.
    """
    encoder, pieces = run.encoder, matching.pieces(run)
    held = 8 * 4 * costs.parameters(encoder, pieces)
    if numerics.device == "cpu":
        rows = min(run.micro_batch or run.batch_size, math.ceil(run.batch_size / numerics.processes))
        length, tokens = run.sequence_length, run.sequence_length * rows
        activations = encoder.layers * (34 * encoder.width + 5 * encoder.heads * length)
        held += tokens * (activations * (2 if numerics.dtype == "float32" else 1) + 8 * pieces)
    return numerics.processes * (PROCESS_MB[numerics.device] + math.ceil(held / 1e6))
