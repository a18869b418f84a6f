"""Times of which some are only known to be longer are compared up to where every run was looked at."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis import contrasts, reached, tidy
from analysis.signflip import SignFlip
from analysis.study import Contrast, Experiment

LEVEL = "reach.unigram-0.5"
Times = Sequence[float | None] | NDArray[np.float64]


def collected(times: dict[str, Times], budgets: dict[str, float], **begun: int) -> tidy.Collected:
    """Runs of two arms; a time of None, or beyond the arm's budget, is not seen.

    Args:
        begun: arm -> seed of a run that was past the level when first evaluated.
    """
    rows = []
    for arm, found in times.items():
        for seed, time in enumerate(found):
            past = begun.get(arm) == seed
            seen = time is not None and time <= budgets[arm] and not past
            values = {"censored": float(not seen), "begun": float(past), "observed_tokens": budgets[arm]}
            values |= {"tokens": time, "flops": 6 * (time or 0)} if seen else {}
            rows += [
                ("made", arm, seed, f"{LEVEL}.{what}", value, "finished", f"{arm}-{seed}")
                for what, value in values.items()
            ]
    results = pd.DataFrame(rows, columns=list(tidy.RESULTS))
    return tidy.Collected("made", results, pd.DataFrame(columns=list(tidy.CURVES)), False, {})


def compared(found: tidy.Collected, cost: str = "tokens", **stated: Any) -> contrasts.Result:
    """`slow` against `fast`."""
    about = {"family": "primary", "arm": "slow", "against": "fast", "measure": f"{LEVEL}.{cost}"}
    experiment = Experiment(
        title="", question="", claim="", reference="", baseline="fast", primary_measure=f"{LEVEL}.{cost}",
        arms=("slow", "fast"), measures={}, measure_files={}, untrained_files={},
        contrasts=(Contrast.model_validate(about | (stated or {"expect": "higher"})),),
    )  # fmt: skip
    return contrasts.evaluate("made", experiment, found, 8)[0]


SLOW: Times = [400, 500, None, None, 550, None, 450, 350]
FAST: Times = [300, 450, 700, None, 500, 200, 250, 300]
BUDGETS = {"slow": 600.0, "fast": 1000.0}


def test_eight_pairs_by_hand() -> None:
    """Up to 600: one arm censored, both, and a run of the longer budget that came there later."""
    result = compared(collected({"slow": SLOW, "fast": FAST}, BUDGETS))
    assert result.up_to_tokens == 600 and not result.untested
    assert result.differences == (100, 50, 0, 0, 50, 400, 200, 50)
    assert (result.arm_mean, result.against_mean, result.difference) == (506.25, 400, 106.25)
    # Of the subsets of the differences, the empty one and those of the two zeros have no sum above 0.
    assert result.p == 2 * 4 / 2**8
    # The sixth of the sorted subset means from below, {50, 0, 0}, and from above, {400, 50}.
    assert (result.low, result.high) == pytest.approx((50 / 3, 225))
    assert (result.verdict, result.n) == ("supported", 8)
    assert result.runs == tuple(f"{arm}-{seed}" for arm in ("slow", "fast") for seed in range(8))
    told = "compared up to 600 tokens, before which 5 of 16 runs do not come down to the loss"
    assert result.note == told


@pytest.mark.parametrize(
    ("cost", "stated", "begun"),
    [
        ("flops", {"expect": "higher"}, {}),
        ("tokens", {"family": "equivalence", "margin": 500.0}, {}),
        ("tokens", {"expect": "higher"}, {"fast": 7}),
    ],
    ids=["operations", "equivalence", "from the start"],
)
def test_what_cannot_be_restricted_only_describes(
    cost: str, stated: dict[str, Any], begun: dict[str, int]
) -> None:
    result = compared(collected({"slow": SLOW, "fast": FAST}, BUDGETS, **begun), cost, **stated)
    assert (result.verdict, result.untested, result.up_to_tokens) == ("descriptive", True, None)
    assert (result.p, result.low, result.n) == (None, None, 5 - len(begun))
    assert "5 of 8 runs of slow" in result.note and "compared up to" not in result.note
    assert ("from the start" in result.note) == bool(begun)


def test_runs_past_the_loss_from_the_start_are_none_that_do_not_come_to_it() -> None:
    """All of `slow` begin beyond the level: that their cost is not known is no failure to come down to it."""
    found = collected({"slow": [300.0] * 8, "fast": [float(300 + 10 * i) for i in range(8)]}, BUDGETS)
    rows = found.results["arm"] == "slow"
    for what in ("censored", "begun"):
        found.results.loc[rows & (found.results["measure"] == f"{LEVEL}.{what}"), "value"] = 1.0
    result = compared(found, "censored", expect="higher")
    assert (result.verdict, result.untested, result.p) == ("descriptive", True, None)
    assert result.words == "slow − fast, of which some are past the loss from the start"
    assert result.note == "the loss is reached by 8 of 8, 8 from the start runs of slow"
    known = collected({"slow": [None] * 8, "fast": [float(300 + 10 * i) for i in range(8)]}, BUDGETS)
    assert compared(known, "censored", expect="higher").verdict == "supported"


def test_a_diverged_run_leaves_its_pair() -> None:
    found = collected({"slow": SLOW, "fast": FAST}, BUDGETS)
    rows = (found.results["arm"] == "fast") & (found.results["seed"] == 5)
    found.results.loc[rows, ["status", "value"]] = ["diverged", np.nan]
    result = compared(found)
    assert (result.n, result.seeds, result.difference) == (7, (0, 1, 2, 3, 4, 6, 7), 450 / 7)
    assert result.note.startswith("fast diverged at seed 5; compared up to 600 tokens, before which 4 of 14")


def test_where_none_comes_down_within_reach_nothing_is_tested() -> None:
    """Two arms of which nothing was seen are not shown to be equal."""
    result = compared(collected({"slow": [None] * 8, "fast": [800.0] * 4 + [None] * 4}, BUDGETS))
    assert (result.verdict, result.untested, result.n) == ("descriptive", True, 0)
    assert (result.difference, result.low, result.p) == (None, None, None)
    assert "0 of 8 runs of slow" in result.note


def test_runs_without_a_partner_decide_nothing() -> None:
    """Seed 0 of `slow` is censored early, and its partner diverged: the pairs that are left are known."""
    times = [310.0, 360.0, 410.0, 330.0, 390.0, 420.0, 350.0]
    found = collected({"slow": [None, *times], "fast": [300.0] * 8}, BUDGETS)
    rows = (found.results["arm"] == "fast") & (found.results["seed"] == 0)
    found.results.loc[rows, ["status", "value"]] = ["diverged", np.nan]
    result = compared(found)
    assert (result.n, result.up_to_tokens, result.untested) == (7, None, False)
    assert result.differences == tuple(time - 300 for time in times)


PAIRS = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=6, max_size=8)


@given(pairs=PAIRS)
@settings(max_examples=30, deadline=None)
def test_without_censoring_nothing_is_restricted(pairs: list[tuple[int, int]]) -> None:
    slow, fast = zip(*pairs, strict=True)
    result = compared(collected({"slow": slow, "fast": fast}, {"slow": 1000.0, "fast": 1200.0}))
    d = [float(a - b) for a, b in pairs]
    test = SignFlip(d)
    assert (result.up_to_tokens, result.untested, result.note) == (None, False, "")
    assert (result.differences, result.p) == (tuple(d), test.p_two_sided())
    assert (result.low, result.high) == test.interval()
    assert (result.arm_mean, result.against_mean) == (np.mean(slow), np.mean(fast))


@given(pairs=PAIRS, budget=st.integers(1, 1000), longer=st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_the_less_is_seen_the_smaller_is_every_difference(
    pairs: list[tuple[int, int]], budget: int, longer: int
) -> None:
    """No pair's difference grows or turns, so the mean of pairs that agree does not either."""
    slow, fast = zip(*pairs, strict=True)
    results = [
        compared(collected({"slow": slow, "fast": fast}, {"slow": b, "fast": b + longer}))
        for b in (2000.0, float(budget), budget / 2)
    ]
    # Where none comes down in time, that is told, and the pairs that are left are not compared.
    found = [np.array(result.differences) for result in results if not result.untested]
    for more, less in itertools.pairwise(found):
        assert (np.abs(less) <= np.abs(more)).all() and (less * more >= 0).all()
        if (more >= 0).all() or (more <= 0).all():
            assert abs(less.mean()) <= abs(more.mean())


def test_exchangeable_times_are_told_apart_no_more_often_than_the_level() -> None:
    """Two thousand studies of six pairs without a difference, a third of the runs censored."""
    draws = np.random.default_rng(0)
    times = np.exp(draws.normal(0, 0.3, (12_000, 1)) + draws.normal(0, 0.5, (12_000, 2)))
    made = collected({"slow": times[:, 0], "fast": times[:, 1]}, {"slow": 1.3, "fast": 1.3})
    cut = reached.restricted(made, ("slow", "fast"), f"{LEVEL}.tokens", range(12_000))
    assert cut is not None and 0.2 < np.mean(cut.times[0] == 1.3) < 0.4
    differences = (cut.times[0] - cut.times[1]).to_numpy().reshape(2000, 6)
    rejected = np.mean([SignFlip(d).p_two_sided() < 0.05 for d in differences])
    assert 0.01 < rejected <= 0.05
