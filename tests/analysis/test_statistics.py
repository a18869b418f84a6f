"""The statistics against published and hand-computed values, and over thousands of simulated studies."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.multiplicity import holm
from analysis.signflip import SignFlip, p_beyond, p_equivalent
from analysis.verdicts import LEVEL

STUDIES = 2000
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Crossed minus self-fertilised maize, eighths of an inch (Darwin 1876; Fisher 1935, Design of Experiments)."""


def at_most(level: float) -> float:
    """The share of rejections that a test of this level stays below in all but one of 160 simulations."""
    return level + 2.5 * math.sqrt(level * (1 - level) / STUDIES)


def test_fishers_count_of_darwins_maize() -> None:
    # §21: of the 32,768 ways to give the signs, 863 have a sum of 314 or more, and as many -314 or less.
    test = SignFlip(DARWIN)
    assert sum(DARWIN) == 314
    assert test.p_greater() == 863 / 2**15
    assert test.p_two_sided() == 1726 / 2**15
    low, high = test.interval()
    assert low <= 0 <= high  # as Fisher's p, a little above the level, has it


def test_sign_flips_by_hand() -> None:
    # Sums of ±1 ±2 ±4: 7 5 3 1 and their negatives. |sum| >= |-1 + 2 + 4| = 5 in 4 of 8, sum >= 5 in 2 of 8.
    test = SignFlip([-1.0, 2.0, 4.0])
    assert (test.p_two_sided(), test.p_greater(), test.p_less()) == (4 / 8, 2 / 8, 7 / 8)


def test_an_interval_by_hand() -> None:
    # 2 · (1 + k) / 64 < .1 for up to k = 2 of the 63 subset means, so the ends are the third from either side:
    # of 1 2 4 8 16 32 the means of {1}, {1 2}, {2} are 1, 1.5, 2, and of {32}, {16 32}, {8 32} 32, 24, 20.
    assert SignFlip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).interval(0.9) == (2.0, 20.0)


def test_two_one_sided_tests_by_hand() -> None:
    # Margin 2: d + 2 = 1 3 4, all above 0, so p = 1/8; d - 2 = -3 -1 0: sums of ±3 ±1 are <= -4 in 1 of 4.
    assert p_equivalent([-1.0, 1.0, 2.0], 2.0) == 1 / 4
    # Beyond 2: d - 2 = 1 2 3, sum as large as 6 in 1 of 8, on one of two sides.
    assert p_beyond([3.0, 4.0, 5.0], 2.0) == 2 / 8


def test_holm_by_hand_with_a_tie_and_a_cap() -> None:
    # .005 .011 .02 .04 .13 times 5 4 3 2 1: .025 .044 .06 .08 .13. Of two at .3 the second is lifted to .6.
    assert holm([0.02, 0.005, 0.13, 0.011, 0.04]) == pytest.approx([0.06, 0.025, 0.13, 0.044, 0.08])
    assert holm([0.3, 0.3]) == [0.6, 0.6]
    assert holm([0.9, 0.4, 0.5]) == [1.0, 1.0, 1.0]


Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
NULLS: dict[str, Draw] = {
    "normal": lambda source, shape: source.normal(0, 1, shape),
    "heavy tails": lambda source, shape: source.standard_t(2, shape),
    "spread by seed": lambda source, shape: source.normal(0, 1, shape) * np.geomspace(1, 20, shape[1]),
    "ties": lambda source, shape: source.integers(-2, 3, shape) / 1500,
}


@pytest.mark.parametrize("null", NULLS)
def test_under_the_null_the_test_rejects_at_no_more_than_its_level(null: str) -> None:
    draws = NULLS[null](np.random.default_rng(7), (STUDIES, 8))
    p = np.array([SignFlip(d).p_two_sided() for d in draws])
    for level in (0.05, 0.01):
        assert np.mean(p < level) <= at_most(level)
    if null == "normal":
        assert np.mean(p < LEVEL) >= 0.03  # as near to it as 2⁸ patterns allow


@pytest.mark.parametrize("n", [8, 10, 12])
def test_intervals_of_normal_differences_cover(n: int) -> None:
    truth = 0.7
    draws = np.random.default_rng(n).normal(truth, 1, (STUDIES, n))
    ends = np.array([SignFlip(d).interval() for d in draws])
    assert 0.93 <= np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) <= 0.97


@pytest.mark.parametrize("true_effects", [0, 2])
def test_holm_controls_the_family_of_arms_that_share_a_baseline(true_effects: int) -> None:
    """However many of the contrasts are real, a false one is found in at most 5 % of the studies."""
    n, m = 8, 4
    source = np.random.default_rng(3)
    baseline, arms = source.normal(0, 1, (STUDIES, n, 1)), source.normal(0, 1, (STUDIES, n, m))
    arms[..., :true_effects] += 5
    false = 0
    for differences in arms - baseline:
        adjusted = holm([SignFlip(d).p_two_sided() for d in differences.T])
        false += min(adjusted[true_effects:]) < LEVEL
    assert false / STUDIES <= at_most(LEVEL)
