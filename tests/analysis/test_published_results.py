"""docs/results: published verdicts follow from the published values of the runs, by counting."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis import published_runs, verdicts

PLACE = Path(__file__).parents[2] / "docs" / "results" / "laptop"
EVERY = sorted(path.parent for path in PLACE.glob("*/contrasts.csv"))
WITHOUT_VALUES = {"credit"}
"""Published before reference.json was."""
Numbers = NDArray[np.float64]


def contrasts(place: Path) -> pd.DataFrame:
    """All of them; what had no `p_beyond` yet when it was published has none here."""
    told = pd.read_csv(place / "contrasts.csv")
    return told if "p_beyond" in told else told.assign(p_beyond=np.nan)


def differences(runs: Sequence[published_runs.Run], row: Any) -> Numbers:
    """[pairs] arm minus what it is compared with, by seed; who comes later counts with the first tokens."""
    values = {(one.arm, one.seed): one.values.get(row.measure, np.nan) for one in runs}
    if not np.isnan(row.up_to_tokens):
        values = {key: np.fmin(value, row.up_to_tokens) for key, value in values.items()}
    seeds = sorted(seed for arm, seed in values if arm == row.arm and (row.against, seed) in values)
    found = np.array([values[row.arm, seed] - values[row.against, seed] for seed in seeds])
    return found[~np.isnan(found)]


def p(d: Numbers, alternative: str = "two-sided") -> float:
    """Share of all signs under which a sum is as extreme as that of `d`; ties but for rounding count."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    sums, slack = signs @ d, 1e-9 * np.abs(d).sum()
    extreme = {
        "greater": sums >= d.sum() - slack,
        "less": sums <= d.sum() + slack,
        "two-sided": np.abs(sums) >= abs(d.sum()) - slack,
    }
    return float(extreme[alternative].mean())


def holm(p: "pd.Series[float]") -> "pd.Series[float]":
    """Corrected within a family, where what was not tested counts as 1."""
    ordered = p.fillna(1.0).sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1.0)


@pytest.mark.parametrize("place", EVERY, ids=lambda place: place.name)
def test_published_contrasts_are_what_the_published_runs_say(place: Path) -> None:
    reference = published_runs.load(place)
    if reference is None:
        assert place.name in WITHOUT_VALUES
        pytest.skip("no value a run is published")
    for row in contrasts(place).dropna(subset="p").itertuples():
        d = differences(reference.runs, row)
        assert len(d) == row.n, row.id
        assert d.mean() == pytest.approx(row.difference, rel=1e-9, abs=1e-12), row.id
        # The interval holds what is not rejected: just inside its ends it is not, just outside it is.
        for end, inward in ((row.low, 1), (row.high, -1)):
            if np.isfinite(end):
                step = max(1e-4 * (row.high - row.low), 1e-9) * inward
                assert p(d - end - step) >= verdicts.LEVEL > p(d - end + step), row.id
        if row.family != "equivalence":
            assert p(d) == row.p, row.id
            continue
        assert max(p(d + row.margin, "greater"), p(d - row.margin, "less")) == row.p, row.id
        beyond = 2 * min(p(d - row.margin, "greater"), p(d + row.margin, "less"))
        assert np.isnan(row.p_beyond) or min(1.0, beyond) == row.p_beyond, row.id


@pytest.mark.parametrize("place", EVERY, ids=lambda place: place.name)
def test_published_verdicts_follow_from_their_family(place: Path) -> None:
    for family, told in contrasts(place).groupby("family"):
        sides = 1 if family == "equivalence" else 2
        hopeless = verdicts.out_of_reach(told["n"].tolist(), sides)
        corrected, beyond = holm(told["p"]), holm(told["p_beyond"])
        for row, out_of_reach in zip(told.itertuples(), hopeless, strict=True):
            assert np.isnan(row.p) or row.p_holm == pytest.approx(corrected[row.Index]), row.id
            direction = "lower" if row.difference < 0 else "higher"
            expected = {"inconclusive"}
            if np.isnan(row.p) or out_of_reach:
                expected = {"descriptive"}
            elif corrected[row.Index] < verdicts.LEVEL:
                agreed = "supported" if row.expect in (direction, "differ") else "contradicted"
                expected = {"equivalent" if family == "equivalence" else agreed}
            elif family == "equivalence" and np.isnan(row.p_beyond):  # published before it was
                expected = {"inconclusive", "contradicted"}
            elif family == "equivalence" and beyond[row.Index] < verdicts.LEVEL:
                expected = {"contradicted"}
            assert row.verdict in expected, row.id
