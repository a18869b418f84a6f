"""Pure functions of how far a run has come."""

from mlm import config


def learning_rate(optimizer: config.Optimizer, budget_tokens: int, begin: int, end: int) -> float:
    """Linear warm-up, then constant, then linear decay towards 0 at the end of the budget.

    Args:
        budget_tokens: tokens of the whole run.
        begin, end: tokens seen before and after the step that uses this rate. Warm-up counts the
            end and decay the beginning, so that neither the first nor the last step has rate 0.

    >>> o = config.Optimizer(learning_rate=1.0, warmup_tokens=20, decay_tokens=50)
    >>> [learning_rate(o, 100, t, t + 10) for t in (0, 10, 40, 60, 90)]
    [0.5, 1.0, 1.0, 0.8, 0.2]
    """
    warmup = min(1.0, end / optimizer.warmup_tokens) if optimizer.warmup_tokens else 1.0
    decay = (budget_tokens - begin) / optimizer.decay_tokens if optimizer.decay_tokens else 1.0
    return optimizer.learning_rate * warmup * min(1.0, decay)
