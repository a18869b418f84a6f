"""Times that are only known to be longer: medians, slopes and their intervals by laws that hold exactly."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import summary, survival

SEEDS = np.repeat(np.arange(8), 3)
X = np.log(np.tile([16.0, 64.0, 256.0], 8))
NONE = np.zeros(24, dtype=bool)


def times(slope: float, noise: float = 0.1) -> NDArray[np.float64]:
    draws = np.random.default_rng(0)
    return 12 + slope * X + np.repeat(draws.normal(0, 0.2, 8), 3) + draws.normal(0, noise, 24)


def test_without_censoring_the_slope_is_least_squares_and_its_interval_students_over_seeds() -> None:
    y = times(0.3)
    found = survival.over_seeds(SEEDS.tolist(), lambda keep: survival.slope(X[keep], y[keep], NONE[keep]))
    own = [float(np.polyfit(X[s == SEEDS], y[s == SEEDS], 1)[0]) for s in range(8)]
    expected = summary.estimate(own)
    assert found is not None and expected is not None
    assert found.value == pytest.approx(float(np.polyfit(X, y, 1)[0]), abs=1e-7)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-7
    )


def test_censored_runs_are_not_dropped() -> None:
    y = times(0.3)
    end = float(np.quantile(y, 0.5))
    late = y > end
    told = survival.slope(X, np.minimum(y, end), late)
    dropped = float(np.polyfit(X[~late], y[~late], 1)[0])
    as_if_left = float(np.polyfit(X, np.minimum(y, end), 1)[0])
    assert told is not None
    whole = float(np.polyfit(X, y, 1)[0])
    assert abs(told - whole) < 0.5 * min(abs(dropped - whole), abs(as_if_left - whole))


def test_other_units_move_no_slope() -> None:
    y = times(0.3)
    late = y > 13.6
    one = survival.slope(X, np.minimum(y, 13.6), late)
    other = survival.slope(X + 2, np.minimum(y, 13.6) - 5, late)
    assert one is not None
    assert other == pytest.approx(one, abs=1e-6)


def test_what_is_left_open_has_no_slope_and_one_seed_no_interval() -> None:
    y = times(0.3)
    assert survival.slope(X, y, X > 3) is None
    assert survival.over_seeds(SEEDS.tolist(), lambda keep: None) is None
    first = SEEDS == 0
    found = survival.over_seeds([0, 0, 0], lambda keep: survival.slope(X[first], y[first], NONE[first]))
    assert found is not None and math.isinf(found.high) and found.n == 1


def test_the_median_is_the_time_when_half_have_left() -> None:
    t = np.array([5.0, 1.0, 3.0, 2.0, 4.0])
    assert survival.median(t, np.zeros(5, dtype=bool)) == np.median(t)
    assert survival.median(np.minimum(t, 3.5), t > 3.5) == 3.0
    assert survival.median(np.minimum(t, 2.5), t > 2.5) is None


def test_the_range_covers_the_median_as_often_as_is_said() -> None:
    """Whatever the distribution: here a skewed one, whose median is ln 2."""
    drawn = np.random.default_rng(1).exponential(size=(20_000, 6))
    for n in (4, 5, 6):
        part = drawn[:, :n]
        covered = float(((part.min(1) < np.log(2)) & (part.max(1) > np.log(2))).mean())
        assert covered == pytest.approx(1 - 2 / 2**n, abs=0.006)
        assert survival.range_covers_median(n) == (n == 6)
