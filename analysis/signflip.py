"""The exact sign-flip test of paired differences, and the interval that inverts it.

Under the null hypothesis that the differences are symmetric about δ, each d_i - δ is as likely to
have the other sign, so the 2ⁿ sign patterns are equally likely and the test needs no further
assumption (Fisher 1935; Good 2005, *Permutation, Parametric and Bootstrap Tests*, ch. 3).

Flipping the signs of a subset A lowers the sum by twice A's, so the flipped sum is at least as large
as the observed exactly where A's own mean is at most δ. For δ below the mean of all,

    p(δ) = 2 · (1 + #{A not empty : mean_A(d) <= δ}) / 2ⁿ,

and likewise above. The sorted subset means therefore hold the test at every δ, and the 95 % interval
ends at two of them: no search, no resampling, no seed, and p < .05 exactly where it excludes δ.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlm.errors import InputError
from mlm.experiment import MOST_SEEDS

MOST_PAIRS = MOST_SEEDS  # 2²² subset means are 34 MB
TIE = 1e-12  # of the largest value: sums of shares cancel exactly, and rounding error must not hide it


class SignFlip:
    """The test of H₀: the differences are symmetric about 0.

    >>> test = SignFlip([0.02, 0.03, 0.01, 0.04, 0.02, 0.05])
    >>> test.p_two_sided()
    0.03125
    >>> test.interval()
    (0.01, 0.05)

    Args:
        differences: [n] paired differences, n >= 1.
        size: the largest of the values that were subtracted, by which differences are rounded.
    """

    def __init__(self, differences: Sequence[float] | NDArray[np.float64], size: float = 0.0) -> None:
        d = np.asarray(differences, dtype=np.float64)
        self.n = len(d)
        if not 1 <= self.n <= MOST_PAIRS:
            raise InputError(
                f"experiments: seeds: the exact sign-flip test takes 1 to {MOST_PAIRS} pairs, not {self.n}; "
                "use fewer seeds"
            )
        self.mean = float(d.mean())
        scale = max(float(np.abs(d).max()), size) or 1.0
        sums, sizes = np.zeros(1), np.zeros(1)
        for difference in d:
            sums = np.concatenate([sums, sums + difference])
            sizes = np.concatenate([sizes, sizes + 1])
        means = sums[1:] / sizes[1:]
        means[np.abs(means) <= TIE * scale] = 0.0
        self._sign = float(np.sign(means[-1]))  # the last subset is all of them
        self._means = np.sort(means)

    def p_greater(self) -> float:
        """One-sided p for a location above 0: the share of sign patterns with a sum at least as large."""
        return (1 + int((self._means <= 0).sum())) / float(2**self.n)

    def p_less(self) -> float:
        """One-sided p for a location below 0."""
        return (1 + int((self._means >= 0).sum())) / float(2**self.n)

    def p_two_sided(self) -> float:
        """Share of the sign patterns whose |sum| is at least the observed one."""
        if self._sign == 0:
            return 1.0
        return min(1.0, 2 * (self.p_greater() if self._sign > 0 else self.p_less()))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """All δ that the two-sided test does not reject at 1 - level; infinite where n is too small.

        At 95 % that is below six pairs: even all signs alike have p = 2/2⁵ = .0625.
        """
        rejected = math.ceil((1 - level) * 2 ** (self.n - 1)) - 1
        if rejected < 1:
            return -math.inf, math.inf
        return float(self._means[rejected - 1]), float(self._means[-rejected])


def p_greater(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The one-sided p for a location above 0 of many samples, as `SignFlip.p_greater` gives it of each.

    Subsets with a sum of at most 0 are counted as pairs of one of either half (Horowitz & Sahni 1974, J. ACM
    21:277-292): 2 · 2^(n/2) sums stand for 2ⁿ. Sums that cancel exactly are not told from rounding, so this
    is for simulated values, which have none.

    >>> p_greater(np.array([[0.02, 0.03, -0.011, 0.04, 0.021, 0.05]]))
    array([0.03125])

    Args:
        samples: [samples, n] differences.

    Returns:
        [samples]
    """
    half = samples.shape[1] // 2
    first, second = _subset_sums(samples[:, :half]), _subset_sums(samples[:, half:])
    at_most = [np.searchsorted(b, -a[::-1], side="right").sum() for a, b in zip(first, second, strict=True)]
    return np.array(at_most, dtype=np.float64) / float(2 ** samples.shape[1])


def _subset_sums(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """[samples, 2ⁿ] sums of every subset, ascending; that of none is 0."""
    sums = np.zeros((len(samples), 1))
    for column in samples.T:
        sums = np.concatenate([sums, sums + column[:, None]], axis=1)
    return np.sort(sums, axis=1)


def smallest_p(n: int, sides: int = 2) -> float:
    """The smallest p that n pairs can give.

    >>> smallest_p(8)
    0.0078125
    """
    return min(1.0, sides / float(2**n))


def p_equivalent(differences: Sequence[float] | NDArray[np.float64], margin: float, size: float = 0.0) -> float:
    """Two one-sided tests (Schuirmann 1987) of H₀: |location| >= margin; the larger p counts.

    p < .05 exactly where the 90 % interval lies within the margins.
    """
    d, size = np.asarray(differences, dtype=np.float64), max(size, margin)
    return max(SignFlip(d + margin, size).p_greater(), SignFlip(d - margin, size).p_less())


def p_beyond(differences: Sequence[float] | NDArray[np.float64], margin: float, size: float = 0.0) -> float:
    """P of H₀: |location| <= margin, both sides tried and paid for."""
    d, size = np.asarray(differences, dtype=np.float64), max(size, margin)
    return min(1.0, 2 * min(SignFlip(d - margin, size).p_greater(), SignFlip(d + margin, size).p_less()))
