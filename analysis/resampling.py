"""An interval over pre-training seeds and evaluation examples: the multi-bootstrap.

The sign-flip test asks whether other seeds would differ too, on these examples. Whether other examples would
matter is asked by drawing both anew (Sellam et al. 2022, *The MultiBERTs*, arXiv 2106.16163, §3). With u_s the
times that seed s is drawn, and w_e those of example e, the same for both arms,

    difference = 1/n Σ_s u_s · Σ_e w_e (arm_se - against_se) / Σ_e w_e of_e,

arm_se being what an example adds to the accuracy of the arm's run of seed s, and of_e the most that it can
add: a sentence of several words is drawn as a whole.

Percentiles of the draws are too narrow for few seeds: the spread of the draws is that of the seeds over n, not
n - 1, and they know the normal's quantiles, not Student's. So they are taken further out, at
Φ(√(n / (n - 1)) t_{α/2, n-1}) (Hesterberg 2015, *What teachers should know about the bootstrap*, The American
Statistician 69, 371-386). In simulated studies of 8 and 12 seeds and 150 examples such intervals cover in 96 %
and more, plain percentiles in 92 % and more, both least where seeds differ most. They are wider than need be,
99 % and more, where the noise of single examples in single seeds prevails, which draws count up to three times
(Owen 2007, *The pigeonhole bootstrap*, Annals of Applied Statistics 1, 386-411).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis import runs
from analysis.signflip import smallest_p
from mlm.errors import Damaged
from mlm.randomness import Purpose, generator

DRAWS = 4000
PART = 250
"""Draws at a time: their weights are [draws, examples]."""


class Examples(NamedTuple):
    """What every held-out example adds to the accuracies of a contrast's runs."""

    arm: NDArray[np.float64]
    """[pairs, examples], as is `against`."""
    against: NDArray[np.float64]
    of: NDArray[np.float64]
    """[examples] the most that each can add."""


class Interval(NamedTuple):
    """An interval over seeds and examples."""

    low: float
    high: float
    examples: int


def examples(measure: str, files: dict[str, str], digests: Sequence[str]) -> Examples | None:
    """What the examples add in each of a contrast's runs; None where the measure has none that all share.

    Args:
        files: measure -> file name inside a run's folder.
        digests: of the runs, those of the arm first, then the others, in the same order of seeds.

    Raises:
        Damaged: a run's file lacks what those of others have.
    """
    told = {digest: _added(measure, files, digest) for digest in digests}
    found = {digest: added for digest, added in told.items() if added is not None}
    if not found:
        return None
    if lacking := [digest for digest in told if digest not in found]:
        raise Damaged(
            f"{runs.folder(lacking[0])}: examples: none of {measure}, which other runs have; "
            "delete its file of that measure and measure again"
        )
    # Pairs of sentences are made of words that are frequent in a text, and spelt in a vocabulary.
    vocabularies = {runs.config(digest)["data"]["vocabulary"] for digest in found}
    of = found[digests[0]][1]
    if (measure.startswith("pairs.") and len(vocabularies) > 1) or any(
        not np.array_equal(of, others) for _, others in found.values()
    ):
        return None
    there = of > 0  # what adds nothing to any accuracy is no example
    right = np.stack([found[digest][0][there] for digest in digests])
    arm, against = np.split(right, 2)
    return Examples(arm, against, of[there])


def _added(
    measure: str, files: dict[str, str], digest: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """[examples] right, and of how many, from a run's folder."""
    for name, file in files.items():
        if measure.partition(".")[0] == name.rpartition(".")[2]:
            record = runs.measured(runs.folder(digest), file, name, None)
            if record is not None and measure in record.examples:
                told = record.examples[measure]
                try:
                    right, of = (np.array(part.split(), np.float64) for part in (told.right, told.of))
                    if len(right) == len(of) and of.sum() > 0 and math.isclose(
                        right.sum() / of.sum(), record.values[measure], rel_tol=1e-9, abs_tol=1e-12
                    ):  # fmt: skip
                        return right, of
                except (KeyError, ValueError):
                    pass
                raise Damaged(
                    f"{runs.folder(digest) / file}: examples.{measure}: do not come to its accuracy; delete it "
                    f"and measure again ({name})"
                )
    return None


def interval(found: Examples, level: float = 0.95, number: int = DRAWS) -> Interval | None:
    """The interval of the mean paired difference; None for so few seeds that no draw reaches far enough.

    That is where the sign-flip test has no bounded interval either, below six pairs at 95 %: draws of seeds do
    not leave the range of the pairs, which misses the location with probability 2/2ⁿ.
    """
    n, count = found.arm.shape
    if smallest_p(n) >= 1 - level:
        return None
    tail = percentile(n, level)
    low, high = np.quantile(draws(found, number), [tail, 1 - tail])
    return Interval(float(low), float(high), count)


def draws(found: Examples, number: int) -> NDArray[np.float64]:
    """[number] mean paired differences, each of seeds and examples drawn anew.

    The same seeds and examples are drawn for every contrast of the same size: the same pairs have the same
    interval in whatever experiment they stand.
    """
    n, count = found.arm.shape
    # No purpose of its own: a new one would change what the digests of all runs are made of.
    source = generator(0, Purpose.EVALUATION, name="resampling")
    # Whole and half numbers, so sums are exact in any order, on any machine.
    differences = (found.arm - found.against).T
    means = []
    for size in (min(PART, number - begin) for begin in range(0, number, PART)):
        drawn = source.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        by_seed = (weights @ differences) / (weights @ found.of)[:, None]
        seeds = source.integers(n, size=(size, n))
        means.append(np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1))
    return np.concatenate(means)


def percentile(n: int, level: float = 0.95) -> float:
    """Where the lower end lies among the draws, as a share of them, for n seeds.

    >>> round(percentile(8), 3), round(percentile(1000), 3)
    (0.006, 0.025)
    """
    quantile = math.sqrt(n / (n - 1)) * t.ppf((1 - level) / 2, n - 1)
    return float(norm.cdf(quantile))
