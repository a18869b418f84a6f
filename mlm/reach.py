"""What it took to reach a held-out loss: from a run's evaluations to tokens, operations and seconds.

Only the trunk counts, where the learning rate is at its height: under a decay that is tied to the end of
the budget, the same loss comes sooner the smaller the budget is (Hägele et al. 2024, arXiv 2405.18392).
"""

import itertools
from collections.abc import Iterable
from typing import Any

from mlm import measures
from mlm.config import Run

RECORDED = {"tokens": "tokens", "flops": "flops", "seconds": "train_seconds"}
"""Cost -> the key that metrics.jsonl has for it."""


def trunk_tokens(run: Run) -> int:
    """Where the learning rate begins to decay; the end of the run where it does not."""
    return run.budget_tokens - run.optimizer.decay_tokens


def trunk(run: Run, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations on the yardstick before the learning rate decays, in order."""
    end = trunk_tokens(run)
    return [r for r in records if r["event"] == "evaluation" and r["yardstick"] and r["tokens"] <= end]


def problem(run: Run) -> str | None:
    """Why nothing can be reached in a run, whatever its losses."""
    every = run.curve_steps
    first = min(every, run.steps) * run.tokens_per_step
    if first <= trunk_tokens(run):
        return None
    return (
        f"the first evaluation comes after {first} tokens, and the learning rate decays from "
        f"{trunk_tokens(run)} on, where no loss counts as reached; evaluate more often "
        "(curve.every_tokens) or shorten optimizer.decay_tokens"
    )


def cost(evaluations: list[dict[str, Any]], level: float) -> dict[str, float]:
    """Cost at the first moment at which the loss is at `level` nats; nothing if that was not seen.

    Linear between the two evaluations around it. At the first evaluation nobody knows since when.

    >>> at = lambda n, loss: {"tokens": n, "flops": 6 * n, "train_seconds": n / 8,
    ...                       "yardstick": {"loss_nats": loss}}
    >>> cost([at(0, 7.0), at(40, 5.0), at(80, 4.0)], 4.5)
    {'tokens': 60.0, 'flops': 360.0, 'seconds': 7.5}
    >>> cost([at(0, 7.0)], 4.5), cost([at(0, 4.0), at(40, 3.0)], 4.5)
    ({}, {})
    """
    for before, after in itertools.pairwise(evaluations):
        high, low = before["yardstick"]["loss_nats"], after["yardstick"]["loss_nats"]
        if high <= level:
            break
        if low <= level:
            share = (high - level) / (high - low)
            return {name: before[key] + share * (after[key] - before[key]) for name, key in RECORDED.items()}
    return {}


def measure(run: Run, records: Iterable[dict[str, Any]], levels: list[float]) -> dict[str, Any]:
    """The measure `reach` of a finished run.

    Args:
        records: of metrics.jsonl.
        levels: losses in nats.

    Returns:
        `values`, reach.LEVEL.tokens and .flops where the level was seen to be reached, and .censored, 1
        where it was not: never, or before the first evaluation; `seconds`, which differ between machines.
    """
    evaluations = trunk(run, records)
    values: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for level in levels:
        name, found = measures.reach(level), cost(evaluations, level)
        values |= {f"{name}.{key}": value for key, value in found.items() if key != "seconds"}
        values[f"{name}.censored"] = float(not found)
        seconds |= {f"{name}.seconds": found["seconds"]} if found else {}
    return {"values": values, "seconds": seconds}
