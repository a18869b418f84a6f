"""docs/results: each published verdict follows from the published values of its runs, by counting."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import published_runs, verdicts
from mlm.files import read_json

PLACE = Path(__file__).parents[2] / "docs" / "results" / "laptop"
EVERY = sorted(path.parent for path in PLACE.glob("*/contrasts.csv"))
WITH_VALUES = [place for place in EVERY if (place / published_runs.FILE).exists()]


def contrasts(place: Path) -> pd.DataFrame:
    """Those that are of all that was read; of the others the table has what they are of, and no value a run."""
    rows = pd.read_csv(place / "contrasts.csv")
    return rows[rows["up_to_tokens"].isna()]


def differences(place: Path, row: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[pairs] arm minus what it is compared with, by seed."""
    reference = published_runs.Reference.model_validate(read_json(place / published_runs.FILE, ""))
    values = {(one.arm, one.seed): one.values.get(row.measure) for one in reference.runs}
    seeds = sorted(
        {seed for arm, seed in values if arm == row.arm} & {s for a, s in values if a == row.against}
    )
    pairs = [(values[row.arm, seed], values[row.against, seed]) for seed in seeds]
    return np.array([one - other for one, other in pairs if one is not None and other is not None])


def p(d: np.ndarray[Any, Any], alternative: str = "two-sided") -> float:
    """Share of all signs under which a sum is as extreme as that of `d`; ties but for rounding count."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    sums, slack = signs @ d, 1e-9 * np.abs(d).sum()
    extreme = {"greater": sums >= d.sum() - slack, "less": sums <= d.sum() + slack,
               "two-sided": np.abs(sums) >= abs(d.sum()) - slack}  # fmt: skip
    return float(extreme[alternative].mean())


@pytest.mark.parametrize("place", WITH_VALUES, ids=lambda place: place.name)
def test_published_contrasts_are_what_the_published_runs_say(place: Path) -> None:
    rows = contrasts(place)
    assert len(rows) and set(rows["n"]) == {8}
    for row in rows.itertuples():
        d = differences(place, row)
        assert len(d) == row.n, row.id
        assert d.mean() == pytest.approx(row.difference, rel=1e-9, abs=1e-12), row.id
        if row.family == "equivalence":
            stated = max(p(d + row.margin, "greater"), p(d - row.margin, "less"))
        else:
            stated = p(d)
            # The interval holds what is not rejected: just inside its ends it is not, just outside it is.
            for end, inward in ((row.low, 1), (row.high, -1)):
                step = 1e-4 * (row.high - row.low) * inward
                assert p(d - end - step) >= verdicts.LEVEL > p(d - end + step), row.id
        assert stated == pytest.approx(row.p, abs=1e-12), row.id


@pytest.mark.parametrize("place", EVERY, ids=lambda place: place.name)
def test_published_verdicts_follow_from_their_family(place: Path) -> None:
    every = pd.read_csv(place / "contrasts.csv")
    for family, rows in every.groupby("family"):
        told = rows.sort_values("p")
        corrected = np.minimum(1, np.maximum.accumulate(told["p"] * np.arange(len(rows), 0, -1)))
        assert corrected.tolist() == pytest.approx(told["p_holm"].tolist()), family
        for row in told.itertuples():
            if row.p_holm >= verdicts.LEVEL:
                expected = {"inconclusive", "contradicted"} if family == "equivalence" else {"inconclusive"}
            elif family == "equivalence":
                expected = {"equivalent"}
            else:
                sign = "lower" if row.difference < 0 else "higher"
                expected = {"supported" if row.expect in (sign, "differ") else "contradicted"}
            assert row.verdict in expected, row.id
