"""The sign-flip test against an independent implementation, its interval against it, its level."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from analysis.signflip import MOST_PAIRS, SignFlip, p_beyond, p_equivalent, smallest_p
from mlm.errors import InputError

differences = st.lists(
    st.floats(-1, 1, allow_subnormal=False).map(lambda x: round(x, 6)), min_size=1, max_size=9
)
counted = st.lists(st.integers(-20, 20), min_size=1, max_size=9).map(lambda k: [x / 1500 for x in k])
"""Differences of shares of 1,500 words: they tie, exactly in arithmetic and nearly in floating point."""


def scipy_p(d: list[float], alternative: str) -> float:
    found = permutation_test(
        (np.array(d),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
    )
    return float(found.pvalue)


@pytest.mark.parametrize("n", [2, 5, 8, 11])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_p_is_that_of_scipys_exact_permutation_test(n: int, alternative: str) -> None:
    for seed in range(6):
        d = np.random.default_rng(seed).normal(0.4 * (seed - 2), 1, n)
        test = SignFlip(d)
        ours = {"two-sided": test.p_two_sided, "greater": test.p_greater, "less": test.p_less}[alternative]()
        assert ours == pytest.approx(scipy_p(list(d), alternative), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=2, max_size=8))
def test_tied_shares_get_the_p_of_whole_numbers(k: list[int]) -> None:
    assert SignFlip([x / 1500 for x in k]).p_two_sided() == SignFlip([float(x) for x in k]).p_two_sided()
    brute = np.array(np.meshgrid(*[[-1, 1]] * len(k))).reshape(len(k), -1).T @ np.array(k)
    assert SignFlip([float(x) for x in k]).p_two_sided() == np.mean(np.abs(brute) >= abs(sum(k)))


@settings(max_examples=150, deadline=None)
@given(differences | counted, st.sampled_from([0.9, 0.95, 0.99]))
def test_p_is_below_the_level_exactly_where_the_interval_excludes_zero(d: list[float], level: float) -> None:
    test = SignFlip(d)
    low, high = test.interval(level)
    assert (test.p_two_sided() < 1 - level - 1e-12) == (low > 0 or high < 0)
    assert low <= test.mean + 1e-12 and test.mean - 1e-12 <= high


@settings(max_examples=100, deadline=None)
@given(st.integers(6, 9), st.integers(0, 10_000), st.floats(-2, 2))
def test_the_interval_holds_every_shift_that_is_not_rejected(n: int, seed: int, delta: float) -> None:
    d = np.random.default_rng(seed).normal(0, 1, n)
    low, high = SignFlip(d).interval()
    assert (SignFlip(d - delta).p_two_sided() >= 0.05) == (low <= delta <= high)


@pytest.mark.parametrize(("n", "bounded"), [(1, False), (5, False), (6, True), (8, True)])
def test_below_six_pairs_the_interval_is_the_whole_line(n: int, bounded: bool) -> None:
    low, high = SignFlip(np.arange(1.0, n + 1)).interval()
    assert math.isfinite(low) == math.isfinite(high) == bounded
    assert (smallest_p(n) < 0.05) == bounded


def test_six_pairs_give_their_range() -> None:
    assert SignFlip([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]).interval() == (1.0, 6.0)


def test_sign_and_scale_only_mirror_and_scale() -> None:
    d = np.random.default_rng(1).normal(0.5, 1, 8)
    low, high = SignFlip(d).interval()
    assert SignFlip(-d).interval() == pytest.approx((-high, -low))
    assert SignFlip(1e-6 * d).interval() == pytest.approx((1e-6 * low, 1e-6 * high))
    assert SignFlip(-d).p_two_sided() == SignFlip(d).p_two_sided() == SignFlip(1e6 * d).p_two_sided()


def test_no_difference_at_all_is_no_evidence() -> None:
    assert SignFlip([0.0] * 8).p_two_sided() == 1.0
    assert SignFlip([0.1, 0.2, -0.3, 0.0]).p_two_sided() == 1.0  # sums to 5.6e-17 in floating point


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000), st.floats(0.05, 2))
def test_equivalence_is_the_ninety_percent_interval_within_the_margins(
    n: int, seed: int, margin: float
) -> None:
    d = np.random.default_rng(seed).normal(0, 0.5, n)
    low, high = SignFlip(d).interval(0.90)
    assert (p_equivalent(d, margin) < 0.05) == (-margin < low and high < margin)


def test_equivalence_of_a_true_difference_at_the_margin_is_rarely_claimed() -> None:
    draws = np.random.default_rng(3).normal(0.5, 0.3, (800, 8))
    assert np.mean([p_equivalent(d, 0.5) < 0.05 for d in draws]) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 800)
    assert p_beyond([0.9, 1.0, 1.1, 1.0, 0.95, 1.05, 1.2, 0.9], 0.5) == 2 / 2**8


def test_differences_that_tie_but_for_rounding_tie() -> None:
    """Of shares of 100,000 words and at the margin: what rounds is the values, not the small differences."""
    right = np.array([67740, 61200, 85472, 65387, 65771, 78434, 68546, 85338])
    more = np.array([1, 3, 2, 2, 3, 4, -2, 1])
    arm, against = (right + more) / 100_000, right / 100_000
    assert SignFlip(more.astype(float)).p_two_sided() == 14 / 256
    found = SignFlip(arm - against, size=float(arm.max()))
    assert found.p_two_sided() == 14 / 256 and found.interval()[0] <= 0
    at_the_margin = [(0.80 + 0.01 * i) - (0.82 + 0.01 * i) for i in range(8)]
    assert p_equivalent(at_the_margin, 0.02, 0.9) == 1.0
    assert p_beyond([0.53 - 0.50] * 8, 0.03, 0.53) == 1.0


def test_more_pairs_than_can_be_enumerated_are_refused() -> None:
    with pytest.raises(InputError, match="seeds"):
        SignFlip(np.ones(MOST_PAIRS + 1))
