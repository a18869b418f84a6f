"""Tidy results -> the contrasts that the experiment file states, with their verdicts.

The unit is the pre-training seed. Arms are paired by it: same initialisation, same order of the
text, same evaluation masks. A pair counts where both of its runs have the measure.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from analysis import labels, reached, tidy, verdicts
from analysis.multiplicity import holm
from analysis.signflip import SignFlip, p_beyond, p_equivalent
from analysis.study import Contrast, Experiment, Study
from mlm import layout
from mlm.errors import Damaged
from mlm.experiment import FAMILIES
from mlm.files import read_json, write_json


@dataclass(frozen=True)
class Result:
    """One contrast; an empty field is None. Differences are arm minus against, in the measure's unit."""

    id: str
    family: str
    arm: str
    against: str
    measure: str
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
    p: float | None
    """Two-sided sign-flip test; for equivalences the two one-sided tests against the margin."""
    p_holm: float | None
    verdict: verdicts.Verdict
    note: str
    censored: bool
    """Some run does not reach the loss whose cost is compared, so that the pairs that are left test nothing."""
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    """In the order of `seeds`."""
    runs: tuple[str, ...]
    """Digests of the runs of the complete pairs, the arm's first."""

    @property
    def bounded(self) -> bool:
        """Whether n is large enough for a 95 % interval."""
        return self.low is not None and math.isfinite(self.low)


COLUMNS = tuple(f.name for f in fields(Result) if f.name not in ("censored", "seeds", "differences", "runs"))


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
    pairs = [_pairs(contrast, collected) for contrast in stated]
    censored = [_censored(contrast, collected) for contrast in stated]
    # A contrast without any pair says nothing, yet it was stated: it keeps its place in the family.
    tested = [d[:0] if lost else d for (_, d), lost in zip(pairs, censored, strict=True)]
    raw = [_p(contrast, d) for contrast, d in zip(stated, tested, strict=True)]
    adjusted = holm(raw)
    beyond = holm(
        [p_beyond(d, c.margin) if len(d) and c.margin else 1.0 for c, d in zip(stated, tested, strict=True)]
    )
    sides = 1 if stated and stated[0].margin else 2
    hopeless = verdicts.out_of_reach([len(d) for d in tested], sides)
    results = []
    for i, (contrast, (seeds, d)) in enumerate(zip(stated, pairs, strict=True)):
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
        arm, against = (
            [collected.values(a, contrast.measure)[s] for s in seeds] for a in (contrast.arm, contrast.against)
        )
        digests = [collected.digests(a, contrast.measure) for a in (contrast.arm, contrast.against)]
        results.append(
            Result(
                id=identifier(name, contrast, baseline),
                family=contrast.family,
                arm=contrast.arm,
                against=contrast.against,
                measure=contrast.measure,
                expect=contrast.expect,
                margin=contrast.margin,
                n=len(d),
                planned=planned,
                arm_mean=_mean(arm),
                arm_sd=_sd(arm),
                against_mean=_mean(against),
                against_sd=_sd(against),
                difference=float(d.mean()) if len(d) else None,
                low=low,
                high=high,
                effect_size=float(d.mean()) / sd if len(d) > 1 and sd > 1e-12 * np.abs(d).max() else None,
                p=raw[i] if shown else None,
                p_holm=adjusted[i] if shown else None,
                verdict=verdict,
                note=_note(contrast, collected),
                censored=censored[i],
                seeds=tuple(seeds),
                differences=tuple(float(x) for x in d),
                runs=tuple(by_seed[s] for by_seed in digests for s in seeds),
            )
        )
    return results


def _pairs(
    contrast: Contrast, collected: tidy.Collected
) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
    arm = collected.values(contrast.arm, contrast.measure)
    against = collected.values(contrast.against, contrast.measure)
    seeds = [int(seed) for seed in arm.index if seed in against.index]
    return seeds, np.array([arm[seed] - against[seed] for seed in seeds], dtype=np.float64)


def _p(contrast: Contrast, d: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    if not len(d):
        return 1.0
    return p_equivalent(d, contrast.margin) if contrast.margin else SignFlip(d).p_two_sided()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _censored(contrast: Contrast, collected: tidy.Collected) -> bool:
    found = [reached.of(collected, arm, contrast.measure) for arm in (contrast.arm, contrast.against)]
    return any(one is not None and one.censored for one in found)


def _note(contrast: Contrast, collected: tidy.Collected) -> str:
    parts = []
    for arm in (contrast.arm, contrast.against):
        if lost := collected.diverged(arm):
            parts.append(f"{labels.arm(arm)} diverged at {_seeds(lost)}")
        told = reached.of(collected, arm, contrast.measure)
        there = collected.values(arm, contrast.measure).index
        if told is not None:
            parts += [f"the loss is reached by {told} runs of {labels.arm(arm)}"] if told.censored else []
        elif lost := [seed for seed in collected.finished(arm) if seed not in there]:
            parts.append(f"{labels.arm(arm)} has no value at {_seeds(lost)}")
    return "; ".join(parts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


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
        "null: n is too small, or some run does not reach the loss",
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
    if result.n and result.low is None and not result.censored:
        return Result(**{**row, **lists, "low": -math.inf, "high": math.inf})
    return result
