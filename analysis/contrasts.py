"""Tidy results -> the contrasts that the experiment file states, with their verdicts.

The unit is the pre-training seed. Arms are paired by it: same initialisation, same order of the
text, same evaluation masks. `analysis.paired` says what is compared.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import labels, paired, power, tidy, verdicts
from analysis.multiplicity import holm
from analysis.signflip import SignFlip, p_beyond, p_equivalent
from analysis.study import Contrast, Experiment, Study
from mlm import layout
from mlm.errors import Damaged
from mlm.experiment import FAMILIES, MOST_SEEDS
from mlm.files import read_json, write_json


@dataclass(frozen=True)
class Result:
    """One contrast; an empty field is None. Differences are arm minus against, in the measure's unit."""

    id: str
    family: str
    arm: str
    against: str
    measure: str
    up_to_tokens: float | None
    """Where some run does not reach the loss: tokens to reach it count up to here. None: they all count."""
    expect: str | None
    margin: float | None
    n: int
    """Complete pairs."""
    planned: int
    """Pairs that the experiment asked for."""
    arm_mean: float | None
    arm_sd: float | None
    against_mean: float | None
    against_sd: float | None
    difference: float | None
    low: float | None
    """Lower end of the 95 % interval, unadjusted; infinite where n cannot give one, null in JSON."""
    high: float | None
    effect_size: float | None
    """Mean of the paired differences over their standard deviation."""
    detectable: float | None
    """The smallest difference (of an equivalence, margin) that so many pairs of this spread show four times in
    five."""
    seeds_needed: int | None
    """Pairs of this spread that show the difference seen (of an equivalence, the margin) as often."""
    p: float | None
    """Two-sided sign-flip test; for equivalences the two one-sided tests against the margin."""
    p_holm: float | None
    verdict: verdicts.Verdict
    note: str
    untested: bool
    """Some run's cost of reaching a loss is not known, and the pairs that are left test nothing."""
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    """In the order of `seeds`."""
    runs: tuple[str, ...]
    """Digests of the runs of the complete pairs, the arm's first."""

    @property
    def bounded(self) -> bool:
        """Whether n is large enough for a 95 % interval."""
        return self.low is not None and math.isfinite(self.low)

    @property
    def spreads(self) -> bool:
        """Whether there are pairs enough, with a spread, to tell what so many can show."""
        return self.p is not None and self.effect_size is not None and self.n > 2

    @property
    def words(self) -> str:
        """What is compared, for a row of a table."""
        within = "" if self.up_to_tokens is None else f", {labels.within(self.up_to_tokens)}"
        within = f", {labels.KNOWN}" if self.untested else within
        return f"{labels.arm(self.arm)} − {labels.arm(self.against)}{within}"


COLUMNS = tuple(f.name for f in fields(Result) if f.name not in ("untested", "seeds", "differences", "runs"))


def identifier(experiment: str, contrast: Contrast, baseline: str) -> str:
    """Id of a contrast; the baseline goes without saying.

    Equivalences have a name of their own, as an arm may be in both families.
    """
    kind = "equivalence" if contrast.family == "equivalence" else "contrast"
    versus = "" if contrast.against == baseline else f".vs.{contrast.against}"
    return f"{experiment}.{kind}.{contrast.arm}{versus}.{contrast.measure}"


def evaluate(name: str, experiment: Experiment, collected: tidy.Collected, planned: int) -> list[Result]:
    """All contrasts of an experiment, Holm-adjusted within their families.

    Args:
        planned: number of seeds the study asked for.
    """
    found = []
    for family in FAMILIES:
        stated = [c for c in experiment.contrasts if c.family == family]
        found += _family(name, experiment.baseline, stated, collected, planned)
    return found


def _family(
    name: str, baseline: str, stated: Sequence[Contrast], collected: tidy.Collected, planned: int
) -> list[Result]:
    pairs = [paired.of(contrast, collected) for contrast in stated]
    # A contrast without any pair says nothing, yet it was stated: it keeps its place in the family.
    tested = [one.tested for one in pairs]
    raw = [_p(contrast, d) for contrast, d in zip(stated, tested, strict=True)]
    adjusted = holm(raw)
    beyond = holm(
        [p_beyond(d, c.margin) if len(d) and c.margin else 1.0 for c, d in zip(stated, tested, strict=True)]
    )
    sides = 1 if stated and stated[0].margin else 2
    hopeless = verdicts.out_of_reach([len(d) for d in tested], sides)
    results = []
    for i, (contrast, compared) in enumerate(zip(stated, pairs, strict=True)):
        seeds, d = compared.seeds, compared.differences
        verdict: verdicts.Verdict
        if collected.partial:
            verdict = "partial"
        elif hopeless[i]:
            verdict = "descriptive"
        elif contrast.margin is not None:
            verdict = verdicts.of_equivalence(adjusted[i], beyond[i])
        else:
            verdict = verdicts.of_difference(float(d.mean()), adjusted[i], contrast.expect or "differ")
        # p of an unfinished study would invite stopping when it pleases.
        shown = len(tested[i]) > 0 and not collected.partial
        sd = float(d.std(ddof=1)) if len(d) > 1 else math.nan
        low, high = SignFlip(d).interval() if len(tested[i]) else (None, None)
        results.append(
            Result(
                id=identifier(name, contrast, baseline),
                family=contrast.family,
                arm=contrast.arm,
                against=contrast.against,
                measure=contrast.measure,
                up_to_tokens=compared.up_to_tokens,
                expect=contrast.expect,
                margin=contrast.margin,
                n=len(d),
                planned=planned,
                arm_mean=_mean(compared.arm),
                arm_sd=_sd(compared.arm),
                against_mean=_mean(compared.against),
                against_sd=_sd(compared.against),
                difference=float(d.mean()) if len(d) else None,
                low=low,
                high=high,
                effect_size=float(d.mean()) / sd if len(d) > 1 and sd > 1e-12 * np.abs(d).max() else None,
                **_can_show(contrast, tested[i] if shown else d[:0], len(stated)),
                p=raw[i] if shown else None,
                p_holm=adjusted[i] if shown else None,
                verdict=verdict,
                note=paired.note(contrast, collected, compared),
                untested=compared.untested,
                seeds=tuple(seeds),
                differences=tuple(float(x) for x in d),
                runs=compared.runs,
            )
        )
    return results


def _p(contrast: Contrast, d: NDArray[np.float64]) -> float:
    if not len(d):
        return 1.0
    return p_equivalent(d, contrast.margin) if contrast.margin else SignFlip(d).p_two_sided()


def _can_show(contrast: Contrast, d: NDArray[np.float64], family: int) -> dict[str, Any]:
    """What pairs of this spread can show; nothing of fewer than three, or without a spread."""
    found: dict[str, Any] = {"detectable": None, "seeds_needed": None}
    sd = float(d.std(ddof=1)) if len(d) > 2 else 0.0
    if sd > 1e-12 * np.abs(d).max(initial=0.0):
        smallest = power.detectable(len(d), family, contrast.margin is not None) * sd
        found["detectable"] = smallest if math.isfinite(smallest) else None
        effect = contrast.margin or abs(float(d.mean()))
        found["seeds_needed"] = power.seeds_needed(effect / sd, family, contrast.margin is not None)
    return found


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _sd(values: NDArray[np.float64]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def write(study: Study, experiment: str) -> None:
    """Write contrasts.csv and contrasts.json of an experiment from its tidy results."""
    collected = tidy.load(study.scale, experiment)
    found = evaluate(experiment, study.experiment(experiment), collected, len(study.seeds(experiment)))
    place = layout.tables(study.scale, experiment)
    rows = [[getattr(result, name) for name in COLUMNS] for result in found]
    tidy.write_csv(place / "contrasts.csv", rows, COLUMNS)
    content = {
        "experiment": experiment,
        "evidence": study.evidence,
        "partial": collected.partial,
        "runs": collected.runs,
        "level": verdicts.LEVEL,
        "interval": "95 %, inverting the exact two-sided sign-flip test, unadjusted; "
        "null: n is too small, or the contrast is untested",
        "up_to_tokens": "given where some run does not reach the loss: of all runs the tokens to reach it "
        "count up to here (restricted mean times), in means and differences alike",
        "untested": "some run's cost of reaching the loss is not known; the other pairs are described",
        "detectable": "with a power of .8 at the first step of Holm's correction, by simulation of normal "
        "differences; null: no outcome could reach the level, or there is no spread",
        "seeds_needed": f"likewise; null: more than {MOST_SEEDS}, or there is no spread",
        "contrasts": [_jsonable(result) for result in found],
    }
    write_json(place / "contrasts.json", content)


def load(scale: str, experiment: str) -> list[Result]:
    """The contrasts written for an experiment.

    Raises:
        Damaged: they are missing or not what was written.
    """
    path = layout.tables(scale, experiment) / "contrasts.json"
    remedy = f"run `python -m analysis contrasts {scale} {experiment}` again"
    content = read_json(path, remedy)
    try:
        return [_from_json(row) for row in content["contrasts"]]
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path}: damaged ({error!r}); {remedy}") from None


def _jsonable(result: Result) -> dict[str, Any]:
    row = asdict(result)
    for end in ("low", "high"):
        row[end] = row[end] if result.bounded else None  # JSON has no infinity
    return row


def _from_json(row: dict[str, Any]) -> Result:
    lists = {name: tuple(row[name]) for name in ("seeds", "differences", "runs")}
    result = Result(**{**row, **lists})
    if result.n and result.low is None and not result.untested:
        return Result(**{**row, **lists, "low": -math.inf, "high": math.inf})
    return result
