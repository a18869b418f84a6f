"""What a cluster's scheduler is told that the training of a run needs. Loads no torch."""

import math

from mlm import config, flops, matching

FLOPS_PER_SECOND = {
    ("cpu", "float32"): 2e10,
    ("cpu", "bfloat16"): 1e11,
    ("cuda", "float32"): 5e12,
    ("cuda", "bfloat16"): 5e13,
}
"""What a slow machine of the kind keeps up with one run: the limit must hold there too."""
START_MINUTES = 10
PROCESS_MB = {"cpu": 1500, "cuda": 4000}
"""Python, torch and, where there is a GPU, CUDA's own libraries."""


def minutes(run: config.Run, numerics: config.Numerics) -> int:
    """Limit of wall-clock time: operations, as if all sequences had full length, at a slow machine's speed."""
    operations = run.budget_tokens * flops.of_token(run.encoder, matching.pieces(run), run.sequence_length)
    return START_MINUTES + math.ceil(operations / FLOPS_PER_SECOND[numerics.device, numerics.dtype] / 60)


def memory_mb(run: config.Run, numerics: config.Numerics) -> int:
    """Limit of main memory: the process, eight float32 copies of the parameters, and on a CPU a micro-batch.

    The copies are weights, gradients, both moments, those that are computed with, and a checkpoint's. A layer's
    activations are sequences · length · (34 · width + 5 · heads · length) bytes in 16 bits (Korthikanti et al.
    2022, arXiv 2205.05198); logits and their gradients are counted at every position, in float32.
    """
    encoder, pieces = run.encoder, matching.pieces(run)
    layer = 4 * encoder.width**2 + 2 * encoder.width * encoder.feedforward_width
    held = 8 * 4 * (encoder.layers * layer + (pieces + encoder.max_positions) * encoder.width)
    if numerics.device == "cpu":
        length, tokens = run.sequence_length, run.sequence_length * (run.micro_batch or run.batch_size)
        activations = encoder.layers * (34 * encoder.width + 5 * encoder.heads * length)
        held += tokens * (activations * (2 if numerics.dtype == "float32" else 1) + 8 * pieces)
    return PROCESS_MB[numerics.device] + math.ceil(held / 1e6)
