"""Times of which some are only known to be longer than what was looked at (right-censored)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import CensoredData, ecdf, norm, t

from analysis.summary import LEVEL

Floats = NDArray[np.float64]


class Slope(NamedTuple):
    """A slope and its interval over seeds; infinite limits where there is none."""

    value: float
    low: float
    high: float
    n: int
    """Seeds."""


def median(times: Floats, censored: NDArray[np.bool_]) -> float | None:
    """The Kaplan-Meier median: when half have left; None where fewer than half are seen to leave.

    >>> times = np.array([1.0, 2.0, 5.0])
    >>> median(times, np.array([False, False, True])), median(times, np.array([False, True, True]))
    (2.0, None)
    """
    if censored.all():
        return None
    left = ecdf(CensoredData(uncensored=times[~censored], right=times[censored])).sf
    below = np.flatnonzero(left.probabilities <= 0.5 + 1e-12)
    return float(left.quantiles[below[0]]) if len(below) else None


def range_covers_median(n: int) -> bool:
    """Whether n independent times, first to last, are an interval of at least 95 % for their median.

    All lie on one side of it with probability 2/2ⁿ, whatever their distribution (David & Nagaraja 2003, *Order
    Statistics*, §7.1). A last time that is censored leaves the upper end open.

    >>> range_covers_median(5), range_covers_median(6)
    (False, True)
    """
    return 1 - 2 / (1 << n) >= LEVEL


def slope(x: Floats, y: Floats, censored: NDArray[np.bool_]) -> float | None:
    """Slope of a straight line with normal errors, where some y are only known to be larger than told.

    Maximum likelihood (Tobin 1958, Econometrica 26), in Olsen's form (1978, Econometrica 46), which has one
    maximum. With logarithms in x and y it is the exponent of a power law with lognormal errors. Without
    censoring it is the least-squares slope. None where values seen at fewer than two x leave it open.
    """
    seen = ~censored
    if len(np.unique(x[seen])) < 2:
        return None
    shift, scale = y.mean(), y.std() or 1.0
    design, target = np.column_stack([np.ones_like(x), x - x.mean()]), (y - shift) / scale

    def loss(parameters: Floats) -> tuple[float, Floats]:
        """Negative log-likelihood and its gradient, of (intercept, slope) / σ and 1 / σ."""
        gamma, theta = parameters[:2], parameters[2]
        z = theta * target - design @ gamma
        hazard = np.where(censored, np.exp(norm.logpdf(z) - norm.logsf(z)), z)
        value = 0.5 * (z[seen] ** 2).sum() - seen.sum() * math.log(theta) - norm.logsf(z[censored]).sum()
        gradient = np.append(-design.T @ hazard, hazard @ target - seen.sum() / theta)
        return float(value), gradient

    start = np.linalg.lstsq(design, target, rcond=None)[0]
    begin = np.append(start, 1.0) / max(float((target - design @ start).std()), 1e-3)
    bounds = [(None, None), (None, None), (1e-3, 1e5)]
    found = minimize(
        loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}
    )
    return float(found.x[1] / found.x[2] * scale)


def over_seeds(seeds: Sequence[int], statistic: Callable[[NDArray[np.bool_]], float | None]) -> Slope | None:
    """A statistic of all runs, and its 95 % interval by leaving out one seed at a time (the jackknife).

    Without censoring, and with every seed at every x, this is Student's t interval of the seeds' own slopes.

    Args:
        seeds: of each run.
        statistic: of the runs that are kept; None where these leave it open.
    """
    each = np.asarray(seeds)
    whole = statistic(np.ones(len(each), dtype=bool))
    if whole is None:
        return None
    different = np.unique(each)
    n = len(different)
    without = [statistic(each != seed) for seed in different]
    left = np.array([value for value in without if value is not None])
    if n < 2 or len(left) < n:
        return Slope(whole, -math.inf, math.inf, n)
    error = math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, n - 1)) * error
    return Slope(whole, whole - half, whole + half, n)
