"""Pure functions of how far a run has come. Loads no torch."""

import math
from bisect import bisect_right
from typing import NamedTuple

from mlm import config
from mlm.errors import InputError


def progress(step: int, steps: int) -> float:
    """Share of a run at a step, counted from 0: 0 at the first, 1 at the last.

    >>> [progress(step, 5) for step in range(5)]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return step / (steps - 1) if steps > 1 else 1.0


def trunk_tokens(run: config.Run) -> int:
    """Where the learning rate begins to decay; the end of the run where it does not."""
    return run.budget_tokens - run.optimizer.decay_tokens


def moved(shape: str, progress: float, at: float = 0.5) -> float:
    """How far a quantity has gone from its first to its last value, in [0, 1].

    >>> [round(moved("cosine", p), 3) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.146, 0.5, 1.0]
    >>> moved("linear", 0.3), moved("step", 0.49), moved("step", 0.5)
    (0.3, 0.0, 1.0)
    """
    if shape == "step":
        return float(progress >= at)
    if shape == "linear":
        return progress
    if shape == "cosine":
        return (1 - math.cos(math.pi * progress)) / 2
    from mlm.plugins import load

    value = float(load(shape, "schedule", "shape")(progress))
    if not 0 <= value <= 1:
        raise InputError(f"{shape}: is {value!r} at {progress:g}; a schedule must stay in [0, 1]")
    return value


def masking(stated: config.Masking, progress: float) -> config.Masking:
    """The masking at a share of the run in [0, 1], constant.

    >>> stated = config.Masking(rate=0.3, change=config.Change(shape="linear", rate=0.1))
    >>> [masking(stated, p).rate for p in (0.0, 0.5, 1.0)]
    [0.3, 0.2, 0.1]
    """
    if (change := stated.change) is None:
        return stated
    share = moved(change.shape, progress, change.at)
    rate = stated.rate if change.rate is None else _between(stated.rate, change.rate, share)
    split = stated.split if change.split is None else _mixed(stated.split, change.split, share)
    return stated.model_copy(update={"rate": rate, "split": split, "change": None})


def _mixed(begin: config.Split, end: config.Split, share: float) -> config.Split:
    kinds = config.Split.model_fields
    return config.Split(**{kind: _between(getattr(begin, kind), getattr(end, kind), share) for kind in kinds})


def _between(begin: float, end: float, share: float) -> float:
    """A mean that is exactly `begin` and `end` at the ends."""
    return end if share == 1 else begin + (end - begin) * share


def learning_rate(optimizer: config.Optimizer, budget_tokens: int, begin: int, end: int) -> float:
    """Linear warm-up, then constant, then decay towards 0 at the end of the budget, linear or as a cosine.

    Args:
        budget_tokens: tokens of the whole run.
        begin, end: tokens seen before and after the step that uses this rate. Warm-up counts the
            end and decay the beginning, so that neither the first nor the last step has rate 0.

    >>> o = config.Optimizer(learning_rate=1.0, warmup_tokens=20, decay_tokens=50)
    >>> [learning_rate(o, 100, t, t + 10) for t in (0, 10, 40, 60, 90)]
    [0.5, 1.0, 1.0, 0.8, 0.2]
    """
    warmup = min(1.0, end / optimizer.warmup_tokens) if optimizer.warmup_tokens else 1.0
    left = min(1.0, (budget_tokens - begin) / optimizer.decay_tokens) if optimizer.decay_tokens else 1.0
    return optimizer.learning_rate * warmup * moved(optimizer.decay_shape, left)


def grown(growth: config.Growth, progress: float) -> int:
    """The value of a growing quantity at a share of the run in [0, 1].

    >>> staged = config.Growth(shape="staged", values=[128, 512], ends=[0.9])
    >>> [grown(staged, p) for p in (0.0, 0.89, 0.9, 1.0)]
    [128, 128, 512, 512]
    >>> linear = config.Growth(shape="linear", values=[32, 64, 128, 256])
    >>> [grown(linear, p) for p in (0.0, 0.11, 0.12, 0.34, 0.35, 0.79, 0.8, 1.0)]
    [32, 32, 64, 64, 128, 128, 256, 256]
    """
    values = growth.values
    if growth.shape == "staged":
        ends = growth.ends or [k / len(values) for k in range(1, len(values))]
        return values[bisect_right(ends, progress)]
    share = moved(growth.shape, min(1.0, progress / growth.until))
    # Rounded: a sum that misses a value by its last bit has reached it.
    ideal = round(_between(values[0], values[-1], share), 6)
    return values[max(bisect_right(values, ideal), 1) - 1]


def length(run: config.Run, step: int) -> int:
    """Tokens a sequence at a step, counted from 0."""
    return grown(run.lengths, progress(step, run.steps)) if run.lengths else run.sequence_length


class Pattern(NamedTuple):
    """Which positions attend to which."""

    causal: bool = False
    """None to the right of itself."""
    window: int | None = None
    """At most half of it away; if causal, all of it."""
    group: int | None = None
    """Only within groups of so many."""

    def everywhere(self, length: int) -> bool:
        """Whether every position of a sequence attends to every other.

        >>> Pattern(window=6).everywhere(4), Pattern(window=6).everywhere(5)
        (True, False)
        """
        wide = self.window is None or self.window // 2 >= length - 1
        return not self.causal and wide and (self.group is None or self.group >= length)


def pattern(run: config.Run, progress: float) -> Pattern:
    """The attention pattern at a share of the run in [0, 1]."""
    window = run.attention.window
    if isinstance(window, config.Growth):
        window = grown(window, progress)
    return Pattern(run.causal, window, run.attention.group)
