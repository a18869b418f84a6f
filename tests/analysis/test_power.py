"""Power by simulation against figures simulated before, against Student's t, and against the very test."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic
from test_verdicts import said

from analysis import contrasts, numbers, power, report_tables, sentences, signflip, study
from analysis.quote import Quoter
from analysis.signflip import SignFlip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(-3, 3, width=32), min_size=7, max_size=7), min_size=1, max_size=4))
def test_many_samples_have_the_p_values_that_each_has_alone(rows: list[list[float]]) -> None:
    # Exact fractions, so that sums of floats are what they are; a little off, so that none cancels.
    samples = np.array(rows) + np.sqrt([2, 3, 5, 7, 11, 13, 17]) * 1e-3
    assert signflip.p_greater(samples).tolist() == [SignFlip(row).p_greater() for row in samples]


@pytest.mark.parametrize("n", [1, 2, 8, 13])
def test_as_many_as_there_may_be_pairs(n: int) -> None:
    samples = np.random.default_rng(n).normal(0.4, 1, (20, n))
    assert signflip.p_greater(samples).tolist() == [SignFlip(row).p_greater() for row in samples]


@pytest.mark.parametrize(
    ("n", "effect", "known"), [(8, 1.5, 0.56), (8, 1, 0.26), (12, 1.5, 0.95), (12, 1, 0.61)]
)
def test_the_power_of_six_contrasts_that_was_simulated_before(n: int, effect: float, known: float) -> None:
    assert power.power(effect, n, family=6) == pytest.approx(
        known, abs=0.03
    )  # two figures, each with its error


def test_power_is_the_share_of_studies_whose_p_passes_the_first_step_of_holm() -> None:
    draws, found = np.random.default_rng(5).normal(1.2, 1, (1500, 9)), 0
    for differences in draws:
        test = SignFlip(differences)
        found += test.mean > 0 and 4 * test.p_two_sided() < 0.05
    assert power.power(1.2, 9, family=4) == pytest.approx(found / len(draws), abs=0.045)  # 3 standard errors


def test_the_power_of_an_equivalence_is_that_of_its_two_tests() -> None:
    draws = np.random.default_rng(6).normal(0, 1, (1500, 9))
    shown = np.mean([2 * signflip.p_equivalent(d, 1.4) < 0.05 for d in draws])
    assert power.power(1.4, 9, family=2, equivalence=True) == pytest.approx(shown, abs=0.045)


def test_beyond_a_dozen_pairs_it_is_nearly_that_of_students_t() -> None:
    for n in (14, 16):
        for effect in (0.6, 0.9):
            by_t = stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, effect * math.sqrt(n))
            assert power.power(effect, n, family=1) == pytest.approx(by_t, abs=0.03)


@pytest.mark.parametrize("equivalence", [False, True])
@pytest.mark.parametrize("family", [1, 5])
def test_detectable_and_seeds_needed_say_the_same(family: int, equivalence: bool) -> None:
    effects = [power.detectable(n, family, equivalence) for n in (8, 11)]
    assert effects == sorted(effects, reverse=True)
    for n, effect in zip((8, 11), effects, strict=True):
        assert power.power(effect, n, family, equivalence) >= power.POWER
        assert power.power(0.97 * effect, n, family, equivalence) < power.POWER
        assert power.seeds_needed(effect, family, equivalence) == n


def test_what_no_outcome_can_reach_has_no_power() -> None:
    assert power.power(9, 5, family=1) == 0 and power.detectable(5, family=1) == math.inf
    assert power.power(9, 5, family=1, equivalence=True) == 1  # one-sided: 2⁻⁵ is below .05
    assert power.seeds_needed(1e6, family=1) == 6 and power.seeds_needed(1e6, family=4) == 8
    assert power.seeds_needed(0.1, family=1) is None


def test_a_contrast_says_what_its_pairs_could_have_shown(analysed: Callable[..., Synthetic]) -> None:
    made = analysed(effects=EFFECTS | {"100-0-0": 0.002, "81-9-10": 0.0}, spread=0.02)
    found = {result.arm: result for result in contrasts.load(made.scale, EXPERIMENT)}
    primary, equal = found["100-0-0"], found["81-9-10"]
    sd = float(np.std(primary.differences, ddof=1))
    assert primary.verdict == "inconclusive"
    assert primary.detectable == pytest.approx(sd * power.detectable(8, family=1))
    assert primary.seeds_needed == power.seeds_needed(abs(primary.difference or 0) / sd, family=1)
    second = found["80-20-0"]
    assert second.effect_size is not None
    assert second.seeds_needed == power.seeds_needed(abs(second.effect_size), family=4)
    assert second.seeds_needed != power.seeds_needed(abs(second.effect_size), family=1)
    assert equal.margin and equal.verdict == "inconclusive"
    sd = float(np.std(equal.differences, ddof=1))
    assert equal.seeds_needed == power.seeds_needed(equal.margin / sd, family=1, equivalence=True)

    entries = dict(numbers.of(study.load(made.scale), EXPERIMENT))
    assert entries[f"{primary.id}.detectable"]["value"] == primary.detectable
    assert entries[f"{primary.id}.seeds_needed"]["value"] == primary.seeds_needed
    quote = Quoter(entries)
    smallest = quote.num(f"{primary.id}.detectable")
    sentence = (
        f"In four studies of five, 8 seeds with this spread could have detected a difference of {smallest}; "
    )
    assert sentence in sentences.verdict(primary, quote, 1)
    assert "could have shown that it is within" in sentences.verdict(equal, quote, 1)
    assert "would take more than 22." in said(replace(primary, seeds_needed=None))
    assert "could have" not in said(replace(primary, verdict="supported"))
    open_ones = sentences.left_open([primary, found["80-0-20"]], quote)
    assert f"differences of {smallest} (100/0/0 against 80/10/10)" in open_ones
    assert sentences.left_open([replace(primary, verdict="supported")], quote) == ""

    told = report_tables.contrasts([replace(primary, seeds_needed=None), replace(primary, effect_size=None)])
    assert told.columns[-3:] == ("detectable", "seeds needed", "verdict")
    assert [row[-2] for row in told.rows] == ["> 22", "—"] and told.rows[0][-3] == smallest
    assert "detectable" not in report_tables.contrasts([primary], power=False).columns


def test_a_study_that_is_not_complete_tells_nothing_of_its_power(analysed: Callable[..., Synthetic]) -> None:
    made = analysed(missing=(("100-0-0", 3),))
    for result in contrasts.load(made.scale, EXPERIMENT):
        assert (result.detectable, result.seeds_needed, result.spreads) == (None, None, False)
