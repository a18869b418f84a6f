"""What it took to reach a held-out loss: from a run's evaluations to tokens, operations and seconds.

Only the trunk counts, where the learning rate is at its height: under a decay that is tied to the end of
the budget, the same loss comes sooner the smaller the budget is (Hägele et al. 2024, arXiv 2405.18392).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm import matching, measures, schedules
from mlm.config import N_SPECIAL, Run
from mlm.experiment import Reach

RECORDED = {"tokens": "tokens", "flops": "flops", "seconds": "train_seconds"}
"""Cost -> the key that metrics.jsonl has for it."""
COUNTED_TOKENS = 2**24
"""Counted at a time: numpy widens them for it."""


class Level(NamedTuple):
    """A held-out loss to come down to."""

    name: str
    """What its cost is called: `reach.4.4`, `reach.unigram-0.5`."""
    nats: float
    corruption: Literal["yardstick", "own"]
    """What the loss is taken under."""


def levels(asked: Reach, unigram_entropy: float) -> Iterator[Level]:
    """The losses that are asked for.

    Those below the unigram entropy (nats) are of the run's own text and corruption: runs made of unrelated
    stretches are trained and judged on their own kind.
    """
    for nats in asked.loss_nats or ():
        yield Level(measures.reach(nats), nats, "yardstick")
    for nats in asked.below_unigram_nats or ():
        yield Level(measures.below_unigram(nats), unigram_entropy - nats, "own")


def counts(tokens: NDArray[Any], n_tokens: int) -> NDArray[np.int64]:
    """[n_tokens] how often each token occurs.

    >>> counts(np.array([3, 1, 3], dtype=np.uint16), 5).tolist()
    [0, 1, 0, 2, 0]
    """
    found = np.zeros(n_tokens, np.int64)
    for begin in range(0, len(tokens), COUNTED_TOKENS):
        found += np.bincount(tokens[begin : begin + COUNTED_TOKENS], minlength=n_tokens)
    return found


def unigram_entropy(tokens: NDArray[Any], n_tokens: int) -> float:
    """Entropy in nats of the frequencies of a text's ordinary tokens: the loss of one who knows no context.

    >>> unigram_entropy(np.array([5, 5, 6, 7, 3]), n_tokens=8) / math.log(2)
    1.5
    """
    ordinary = counts(tokens, n_tokens)[N_SPECIAL:]
    shares = ordinary[ordinary > 0] / ordinary.sum()
    return float(-(shares * np.log(shares)).sum())


def trunk(run: Run, records: Iterable[dict[str, Any]], corruption: str = "yardstick") -> list[dict[str, Any]]:
    """The evaluations under a corruption before the learning rate decays, in order."""
    end = schedules.trunk_tokens(run)
    evaluations = (r for r in records if r["event"] == "evaluation" and r["tokens"] <= end)
    return [r for r in evaluations if "loss_nats" in r[corruption]]


def problem(run: Run) -> str | None:
    """Why nothing can be reached in a run, whatever its losses."""
    every = run.curve_steps
    first = min(every, run.steps) * run.tokens_per_step
    if first <= schedules.trunk_tokens(run):
        return None
    return (
        f"the first evaluation comes after {first} tokens, and the learning rate decays from "
        f"{schedules.trunk_tokens(run)} on, where no loss counts as reached; evaluate more often "
        "(curve.every_tokens) or shorten optimizer.decay_tokens"
    )


def out_of_range(run: Run, asked: Reach) -> str | None:
    """Why a loss below the unigram entropy is none that a run could have."""
    below = asked.below_unigram_nats
    if not below:
        return None
    if not run.predicts_tokens:
        return f"objective {run.objective} predicts no tokens and has no such loss of its own"
    ordinary = matching.pieces(run) - N_SPECIAL
    if max(below) >= math.log(ordinary):
        return (
            f"{max(below):g} nats below the unigram entropy is below 0: that of {ordinary} ordinary pieces is "
            f"at most {math.log(ordinary):.2f}; ask for less"
        )
    return None


def cost(evaluations: list[dict[str, Any]], level: float, corruption: str = "yardstick") -> dict[str, float]:
    """Cost at the first moment at which the loss is at `level` nats; nothing if that was not seen.

    Linear between the two evaluations around it. At the first evaluation nobody knows since when: what is
    past the level there is censored on the left, and not reached again when it rises and falls.

    >>> at = lambda n, loss: {"tokens": n, "flops": 6 * n, "train_seconds": n / 8,
    ...                       "yardstick": {"loss_nats": loss}}
    >>> cost([at(0, 7.0), at(40, 5.0), at(80, 4.0)], 4.5)
    {'tokens': 60.0, 'flops': 360.0, 'seconds': 7.5}
    >>> cost([at(0, 7.0)], 4.5), cost([at(0, 4.0), at(40, 3.0)], 4.5)
    ({}, {})
    """
    for before, after in itertools.pairwise(evaluations):
        high, low = before[corruption]["loss_nats"], after[corruption]["loss_nats"]
        if high <= level:
            break
        if low <= level:
            share = (high - level) / (high - low)
            return {name: before[key] + share * (after[key] - before[key]) for name, key in RECORDED.items()}
    return {}


def measure(run: Run, records: Iterable[dict[str, Any]], levels: Sequence[Level]) -> dict[str, Any]:
    """The measure `reach` of a finished run.

    Args:
        records: of metrics.jsonl.
        levels: as of `levels`.

    Returns:
        `values`, LEVEL.tokens and .flops where the level was seen to be reached, and .censored, 1 where it was
        not: never, or before the first evaluation; `seconds`, which differ between machines. Of the levels
        below the unigram entropy, for survival analysis, also .begun, 1 where the loss was past the level when
        first evaluated (censored on the left), and .observed_tokens, those of the last evaluation counted
        (where a run that is censored and has not begun is censored on the right).
    """
    records = list(records)
    values: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name, nats, corruption in levels:
        evaluations = trunk(run, records, corruption)
        found = cost(evaluations, nats, corruption)
        values |= {f"{name}.{key}": value for key, value in found.items() if key != "seconds"}
        values[f"{name}.censored"] = float(not found)
        if corruption == "own" and evaluations:
            values[f"{name}.begun"] = float(evaluations[0]["own"]["loss_nats"] <= nats)
            values[f"{name}.observed_tokens"] = float(evaluations[-1]["tokens"])
        seconds |= {f"{name}.seconds": found["seconds"]} if found else {}
    return {"values": values, "seconds": seconds}
