"""Holm by hand, what a few pairs can reach, and each verdict with its sentence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic

from analysis import contrasts, labels, report_tables, sentences, study, tidy, verdicts
from analysis.multiplicity import holm
from analysis.quote import Quoter
from analysis.study import Contrast, Experiment
from analysis.summary import estimate


def test_holm_by_hand() -> None:
    # 4·.01, 3·.02, 2·.03, 1·.04 and no smaller than the one before: .04 .06 .06 .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_controls_the_family_under_the_null() -> None:
    draws = np.random.default_rng(0).random((2000, 4))
    assert np.mean([min(holm(list(p))) < 0.05 for p in draws]) <= 0.05 + 0.013


@pytest.mark.parametrize(
    ("contrasts_", "seeds"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9), (12, 9), (13, 10), (25, 10)]
)
def test_seeds_that_a_family_needs(contrasts_: int, seeds: int) -> None:
    assert not any(verdicts.out_of_reach([seeds] * contrasts_, sides=2))
    assert all(verdicts.out_of_reach([seeds - 1] * contrasts_, sides=2))


def test_student_interval() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx(
        (2.0, -0.4841377, 4.4841377)
    )  # t(.975, 2) = 4.3027
    assert estimate([]) is None


def results_of(
    effects: dict[str, float], analysed: Callable[..., Synthetic], **options: object
) -> dict[str, contrasts.Result]:
    made = analysed(effects=effects, **options)
    return {result.arm: result for result in contrasts.load(made.scale, EXPERIMENT)}


def test_every_verdict_is_reached_and_worded(analysed: Callable[..., Synthetic]) -> None:
    effects = EFFECTS | {"100-0-0": -0.05, "80-0-20": 0.06, "80-20-0": 0.0, "81-9-10": 0.0}
    found = results_of(effects, analysed, spread=0.003)
    assert found["100-0-0"].verdict == "supported"
    assert found["80-0-20"].verdict == "contradicted"
    assert found["80-20-0"].verdict == "inconclusive"
    assert found["81-9-10"].verdict == "equivalent"
    assert (found["100-0-0"].high or 0) < 0 < (found["80-0-20"].low or 0)
    assert "100/0/0 is lower, as stated." in said(found["100-0-0"])  # no git here to tell when
    assert "80/0/20 is higher, against the stated direction" in said(found["80-0-20"])
    assert "either side of zero" in said(found["80-20-0"])
    assert "smaller than 0.02 either way" in said(found["81-9-10"])


def test_a_large_difference_contradicts_equivalence_and_a_vague_one_does_not(
    analysed: Callable[..., Synthetic],
) -> None:
    far = results_of(EFFECTS | {"81-9-10": 0.08}, analysed)["81-9-10"]
    assert far.verdict == "contradicted" and far.p is not None and far.p > 0.9
    assert (far.p_beyond, far.p_beyond_holm) == far.tested == (2 / 2**8, 2 / 2**8)
    assert "tested to be beyond the margin, p = 0.0078, Holm-adjusted 0.0078" in said(far)
    assert report_tables.contrasts([far], power=False).rows[0][-3:-1] == ("0.0078", "0.0078")
    vague = results_of(EFFECTS | {"81-9-10": 0.0}, analysed, spread=0.08)["81-9-10"]
    assert vague.verdict == "inconclusive" and vague.tested == (vague.p, vague.p_holm)
    assert "neither a difference within 0.02 nor one beyond it" in said(vague)


def equivalences(pairs: dict[str, list[float]], margin: float) -> list[contrasts.Result]:
    """Claims that arms differ from `base` by less than a margin."""
    return against_base(pairs, family="equivalence", margin=margin)


def against_base(pairs: dict[str, list[float]], **stated: Any) -> list[contrasts.Result]:
    """A contrast of each arm with `base`, which is 0 at every seed of the longest."""
    told = {"base": [0.0] * max(map(len, pairs.values())), **pairs}
    rows = [
        ("made", arm, seed, "probe.accuracy", value, "finished", f"{arm}-{seed}")
        for arm, values in told.items()
        for seed, value in enumerate(values)
    ]
    experiment = Experiment(
        title="", question="", claim="", reference="", baseline="base", primary_measure="probe.accuracy",
        arms=tuple(told), measures={}, measure_files={}, untrained_files={}, contrasts=tuple(
            Contrast(arm=arm, against="base", measure="probe.accuracy", **stated) for arm in pairs
        ),
    )  # fmt: skip
    results = pd.DataFrame(rows, columns=list(tidy.RESULTS))
    found = tidy.Collected("made", results, pd.DataFrame(columns=list(tidy.CURVES)), False, {})
    return contrasts.evaluate("made", experiment, found, len(told["base"]))


def test_what_contradicts_equivalences_is_corrected_too() -> None:
    far, near = [3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [-0.1, 0.2, -0.3, 0.4, -0.5, 0.6]
    alone, (one, other) = equivalences({"far": far}, 2.0), equivalences({"far": far, "near": near}, 2.0)
    assert alone[0].verdict == "contradicted" and alone[0].p_beyond == 2 / 64
    assert one.verdict == "inconclusive" and (one.p_beyond, one.p_beyond_holm) == (2 / 64, 4 / 64)
    assert other.verdict == "equivalent"


def test_equivalences_are_tested_on_one_side_and_so_need_a_pair_less() -> None:
    (found,) = equivalences({"near": [-0.1, 0.2, -0.3, 0.4, -0.5]}, 2.0)
    assert (found.verdict, found.p) == ("equivalent", 1 / 32)


def test_few_seeds_only_describe(analysed: Callable[..., Synthetic]) -> None:
    found = results_of(EFFECTS, analysed, seeds=7)
    assert found["100-0-0"].verdict == "supported"
    assert found["0-0-100"].verdict == "descriptive"  # four secondary contrasts need eight
    assert "with 7 pairs in a family of 4" in said(found["0-0-100"])


def test_what_the_correction_alone_leaves_open_is_said_as_that() -> None:
    """Of four contrasts one has a p of .0156 by itself, and one lacks a pair, which the correction asks for."""
    by_itself = [0.02, 0.03, 0.01, 0.04, 0.02, 0.05, 0.03, -0.001]
    near = [0.01, -0.01, 0.02, -0.02, 0.01, -0.01, 0.02, -0.03]
    found = differences(
        {"far": by_itself, "short": [0.011 * (i + 1) for i in range(7)], "near": near, "last": near}
    )
    assert found["far"].p is not None and found["far"].p < 0.05 < (found["far"].p_holm or 0)
    assert "may lie on either side of zero, corrected for its family, if not by itself" in said(found["far"])
    assert "may lie on either side of zero." in said(found["near"])
    short = found["short"]
    assert (short.verdict, short.detectable) == ("inconclusive", None)
    assert "no difference, however large, could have passed with 7 pairs" in said(short)
    assert "not available" not in said(short) and not sentences.left_open([short], quoter(short))


def differences(pairs: dict[str, list[float]]) -> dict[str, contrasts.Result]:
    """Secondary contrasts of arms against `base`, by arm."""
    return {one.arm: one for one in against_base(pairs, family="secondary", expect="differ")}


def test_no_difference_at_all_moves_nothing() -> None:
    found = differences({"same": [0.0] * 8})["same"]
    assert "instead of base does not move mean" in sentences.headline(found, quoter(found))


def test_costs_that_are_not_known_are_not_called_missing_runs() -> None:
    one = differences({"same": [0.0] * 8})["same"]
    lost = replace(one, n=0, difference=None, untested=True, verdict="descriptive", low=None, high=None)
    assert "No pair of same and base runs has two costs that are known" in sentences.headline(
        lost, quoter(lost)
    )
    assert "in no pair is it known what both runs took" in said(lost)
    assert "only pairs in which both costs are known are compared" in said(
        replace(lost, n=3, difference=0.1, note="x")
    )


def test_missing_runs_give_no_verdict_and_no_p(analysed: Callable[..., Synthetic]) -> None:
    found = results_of(EFFECTS, analysed, missing=(("80-20-0", 1),))
    assert {result.verdict for result in found.values()} == {"partial"}
    told = {(r.p, r.p_beyond, r.low, r.high, r.two_level_low, r.examples) for r in found.values()}
    assert told == {(None,) * 6}  # an interval without 0 would say that p is below the level
    assert found["80-20-0"].n == 7
    assert "no verdict is given" in said(found["100-0-0"]) and "interval" not in said(found["100-0-0"])
    assert "interval" not in sentences.headline(found["100-0-0"], quoter(found["100-0-0"]))


def test_a_diverged_run_leaves_its_pair_and_is_told(analysed: Callable[..., Synthetic]) -> None:
    found = results_of(EFFECTS, analysed, diverged=(("0-0-100", 2), *(("0-20-80", s) for s in range(8))))
    assert (found["0-0-100"].n, found["0-0-100"].planned) == (7, 8)
    assert "diverged at seed 2" in said(found["0-0-100"])
    assert found["0-20-80"].difference is None
    assert found["0-20-80"].verdict == "descriptive"
    assert "no pair of runs is complete" in said(found["0-20-80"])
    assert found["100-0-0"].verdict == "supported"


def test_both_primary_headlines_read(analysed: Callable[..., Synthetic]) -> None:
    result = results_of(EFFECTS, analysed)["100-0-0"]
    for verdict in verdicts.VERDICTS:
        if verdict != "equivalent":
            text = sentences.headline(replace(result, verdict=verdict), quoter(result))
            assert text.startswith("Training with 100/0/0 instead of 80/10/10 lowers")
            assert text.endswith(".")


def test_contrast_stated_twice_is_refused(make: Callable[..., Synthetic]) -> None:
    from mlm.errors import InputError
    from mlm.files import read_json, write_json

    made = make(seeds=1)
    path = made.results / made.scale / "study.json"
    content = read_json(path, "")
    stated = content["experiments"][EXPERIMENT]["contrasts"]
    stated.append(stated[0])
    write_json(path, content)
    with pytest.raises(InputError, match=r"experiments/split.yaml: contrasts: 100-0-0 .* twice"):
        study.load(made.scale)


P = ("p", "p_holm", "p_beyond", "p_beyond_holm")


def quoter(result: contrasts.Result) -> Quoter:
    digits = labels.digits(result.measure)
    base = {"low": None, "high": None, "n": result.n, "digits": digits, "unit": "", "runs": []}
    values = {
        name: base | {"value": getattr(result, name)}
        for name in ("difference", "effect_size", "detectable", "seeds_needed", "n", *P)
    }
    values["difference"] |= {"low": result.low, "high": result.high} if result.bounded else {}
    values["margin"] = base | {"value": result.margin, "digits": None}
    values["n"] |= {"digits": 0}
    values["two_level"] = values["difference"] | {"low": result.two_level_low, "high": result.two_level_high}
    values["seeds_needed"] |= {"digits": 0}
    return Quoter({f"{result.id}.{name}": entry for name, entry in values.items()})


def said(result: contrasts.Result) -> str:
    return sentences.verdict(result, quoter(result), 4 if result.family == "secondary" else 1)
