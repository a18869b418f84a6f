"""Budgets in equal FLOPs. Loads no torch."""

from typing import Any, get_args

from mlm import flops, hugging_face, yaml_file
from mlm.config import Run
from mlm.errors import InputError
from mlm.experiment import Match


def matched(run: Run, baseline: Run, match: Any) -> Run:
    """The run, by `flops` with the most whole steps that cost no more than the baseline's training.

    Warm-up and decay keep their shares of the budget.

    Raises:
        InputError: `match` is none, or one step costs more than all of the baseline's.
    """
    if match not in get_args(Match):
        raise InputError(f"match: is {match!r}; choose one of {', '.join(get_args(Match))}")
    target = _flops(baseline)
    if match == "tokens" or _flops(run) == target:
        return run

    def cost(steps: int) -> int:
        return _flops(_shortened(run, steps))

    steps = max(1, run.steps * target // _flops(run))  # exact where every step costs the same
    while cost(steps + 1) <= target:
        steps += 1
    while steps and cost(steps) > target:
        steps -= 1
    if not steps:
        raise InputError("match: one step costs more FLOPs than all of the baseline's; shrink batch_size")
    return yaml_file.validated(Run, _shortened(run, steps).model_dump(), "with match: flops")


def _shortened(run: Run, steps: int) -> Run:
    """The run with a budget of so many steps."""
    budget = steps * run.tokens_per_step
    planned = {
        key: getattr(run.optimizer, key) * budget // run.budget_tokens
        for key in ("warmup_tokens", "decay_tokens")
    }
    changed = {"budget_tokens": budget, "optimizer": run.optimizer.model_copy(update=planned)}
    return run.model_copy(update=changed)


def _flops(run: Run) -> int:
    return flops.of_run(run, pieces(run))


def pieces(run: Run) -> int:
    """Size of a run's vocabulary."""
    return hugging_face.vocabulary_size(run.tokenizer) if run.tokenizer else run.vocabulary.size
