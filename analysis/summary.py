"""Mean and interval of one arm over its seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean and its interval; infinite limits where n is too small to give one."""

    mean: float
    low: float
    high: float
    sd: float
    """Sample standard deviation over the seeds; NaN below two."""
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def estimate(values: Sequence[float] | NDArray[np.float64]) -> Estimate | None:
    """Mean and Student's t interval of 95 %; None without any value.

    The interval describes one arm; two arms are compared by their paired differences, which share
    the spread between seeds that these intervals contain.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n == 0:
        return None
    mean = float(x.mean())
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, math.nan, 1)
    sd = float(x.std(ddof=1))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, sd, n)
