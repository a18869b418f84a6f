"""What n pairs of seeds can show: power of the exact sign-flip test, for differences with a normal spread.

Effects are in standard deviations of the paired difference. A difference is tested at the first step of
Holm's correction over its family, the worst case: later steps ask for less. An equivalence has its effect
for margin, and no difference is there. Power is the share of simulated studies that reach the level; the
samples are the same for every effect, so that it can only grow with it.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.signflip import p_greater, smallest_p
from analysis.verdicts import LEVEL
from mlm.experiment import MOST_SEEDS
from mlm.randomness import Purpose, generator

POWER = 0.8
"""What a study should have: it misses the effect once in five times."""
STUDIES = 4000
"""Simulated studies; the standard error of a power of .8 is .006."""


def reachable(n: int, family: int, equivalence: bool = False) -> bool:
    """Whether any outcome of n pairs can pass the first step of Holm over a family of so many.

    >>> reachable(7, family=4), reachable(8, family=4)
    (False, True)
    """
    return family * smallest_p(n, 1 if equivalence else 2) < LEVEL


def power(effect: float, n: int, family: int, equivalence: bool = False) -> float:
    """Share of studies of n pairs that find a difference of `effect`, in its direction.

    Args:
        effect: above 0, in standard deviations of the paired difference; of an equivalence its margin.
        n: pairs, 1 to MOST_SEEDS.
        family: contrasts that Holm's correction runs over.
        equivalence: asks for the two one-sided tests where there is no difference at all.
    """
    if not reachable(n, family, equivalence):
        return 0.0
    draws = _studies(n)
    if equivalence:
        found = np.maximum(p_greater(effect + draws), p_greater(effect - draws))
    else:
        found = 2 * p_greater(effect + draws)
    return float((family * found < LEVEL).mean())


@functools.cache
def _studies(n: int) -> NDArray[np.float64]:
    """[STUDIES, n] paired differences without an effect."""
    return generator(n, Purpose.EVALUATION, name="power").standard_normal((STUDIES, n))


@functools.cache
def detectable(n: int, family: int, equivalence: bool = False) -> float:
    """The smallest effect that n pairs find with a power of .8; infinite where no outcome reaches the level.

    Of an equivalence, the smallest margin within which they show that there is none.

    >>> round(detectable(8, family=1), 1), round(detectable(12, family=1), 1)
    (1.2, 0.9)
    """
    if not reachable(n, family, equivalence):
        return math.inf
    low, high = 0.0, 1.0
    while power(high, n, family, equivalence) < POWER:
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, family, equivalence) >= POWER else (middle, high)
    return high


def seeds_needed(effect: float, family: int, equivalence: bool = False) -> int | None:
    """The fewest pairs that find an effect with a power of .8; None where MOST_SEEDS do not.

    >>> seeds_needed(1.5, family=1), seeds_needed(0.1, family=1)
    (7, None)
    """
    able = (n for n in range(2, MOST_SEEDS + 1) if reachable(n, family, equivalence))
    # Simulated only where there is a chance: the more pairs, the longer it takes.
    near = (n for n in able if _of_t(effect, n, family, equivalence) > POWER - 0.05)
    return next((n for n in near if power(effect, n, family, equivalence) >= POWER), None)


def _of_t(effect: float, n: int, family: int, equivalence: bool) -> float:
    """Power of Student's t test, which the sign-flip test hardly ever exceeds."""
    level = LEVEL / family / (1 if equivalence else 2)
    found = float(stats.nct.sf(stats.t.isf(level, n - 1), n - 1, effect * math.sqrt(n)))
    if math.isnan(found):  # SciPy, of effects so large that there is no question
        return 1.0
    return 2 * found - 1 if equivalence else found
