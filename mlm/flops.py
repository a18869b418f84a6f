"""Floating-point operations of training, from the configuration alone. Loads no torch."""

from itertools import accumulate

from mlm import config, schedules


def of_token(options: config.Encoder, n_tokens: int, length: int) -> int:
    """Floating-point operations of one training token in the plain model.

    Three times the forward pass (Kaplan et al. 2020, arXiv 2001.08361): two operations a weight of
    every matrix a token passes through, the head included, and 4 · length · width a layer for
    attention's two products. What a shortcut or an attention window saves is not subtracted.

    >>> of_token(config.Encoder.model_validate({"size": "tiny"}), n_tokens=2048, length=64)
    4128768
    """
    width, inner = options.width, options.feedforward_width
    matrices = options.layers * (4 * width * width + 2 * width * inner) + n_tokens * width
    matrices += width * width if options.head_transform else 0
    return 3 * (2 * matrices + options.layers * 4 * length * width)


def by_step(run: config.Run, n_tokens: int) -> list[int]:
    """[steps + 1] operations up to each number of steps done."""
    lengths = [schedules.length(run, step) for step in range(run.steps)]
    step = {length: of_token(run.encoder, n_tokens, length) * run.tokens_per_step for length in set(lengths)}
    return list(accumulate((step[length] for length in lengths), initial=0))


def of_run(run: config.Run, n_tokens: int) -> int:
    """Operations of a whole run."""
    if run.lengths is None:  # every step costs the same, and there may be millions
        return run.steps * run.tokens_per_step * of_token(run.encoder, n_tokens, run.sequence_length)
    return by_step(run, n_tokens)[-1]
