"""Tidy results -> the contrasts that the experiment file states, with their verdicts.

The unit is the pre-training seed. Arms are paired by it: same initialisation, same order of the
text, same evaluation masks. `analysis.paired` says what is compared.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis import beforehand, labels, outputs, paired, power, provenance, resampling, tidy, verdicts
from analysis.beforehand import When
from analysis.multiplicity import holm
from analysis.signflip import SignFlip, p_beyond, p_equivalent
from analysis.study import Contrast, Experiment, Study
from mlm import layout
from mlm.errors import Damaged
from mlm.experiment import FAMILIES, MOST_SEEDS
from mlm.files import read_json, write_json
from mlm.history import Row


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
    """Lower end of the 95 % interval, unadjusted; infinite where n cannot give one, null in JSON; None, as p,
    where runs are missing: the two say the same."""
    high: float | None
    two_level_low: float | None
    """Lower end of the 95 % interval over seeds and evaluation examples; None where the measure has no examples
    that the runs share, or n is too small."""
    two_level_high: float | None
    examples: int | None
    """Of that interval."""
    effect_size: float | None
    """Mean of the paired differences over their standard deviation."""
    detectable: float | None
    """The smallest difference (of an equivalence, margin) that so many pairs of this spread show four times in
    five."""
    seeds_needed: int | None
    """Pairs of this spread that show the difference seen (of an equivalence, the margin) as often."""
    p: float | None
    """Two-sided sign-flip test; for equivalences the two one-sided tests against the margin, which do not
    contradict one: `p_beyond` does."""
    p_holm: float | None
    p_beyond: float | None
    """Of equivalences alone: the test that the difference is beyond the margin, both sides paid for."""
    p_beyond_holm: float | None
    """Corrected by itself, over the same family."""
    verdict: verdicts.Verdict
    note: str
    stated: When
    """Whether all of it was stated before the runs, as far as git and the first run's registration tell."""
    stated_note: str
    """Why it was not, or why that is not known."""
    seeds_added: tuple[int, ...]
    """Those of the pairs that were not asked for when there were results already."""
    untested: bool
    """Some run's cost of reaching a loss is not known, and the pairs that are left test nothing."""
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    """In the order of `seeds`."""
    runs: tuple[str, ...]
    """Digests of the runs of the complete pairs, the arm's first."""

    @property
    def digits(self) -> int:
        """Decimals that the difference and the ends of its intervals are shown with."""
        shown = (self.difference, self.low, self.high, self.two_level_low, self.two_level_high)
        return labels.telling(labels.digits(self.measure), *shown)

    @property
    def bounded(self) -> bool:
        """Whether n is large enough for a 95 % interval."""
        return self.low is not None and math.isfinite(self.low)

    @property
    def beyond(self) -> bool:
        """Whether the verdict says that the difference is beyond the margin, and so goes by `p_beyond`."""
        return self.margin is not None and self.verdict == "contradicted"

    @property
    def tested(self) -> tuple[float | None, float | None]:
        """The p, and it after Holm's correction, of the test that the verdict goes by."""
        return (self.p_beyond, self.p_beyond_holm) if self.beyond else (self.p, self.p_holm)

    @property
    def spreads(self) -> bool:
        """Whether there are pairs enough, with a spread, to tell what so many can show."""
        return self.p is not None and self.effect_size is not None and self.n > 2

    @property
    def words(self) -> str:
        """What is compared, for a row of a table."""
        within = "" if self.up_to_tokens is None else f", {labels.within(self.up_to_tokens)}"
        within = f", {labels.known(self.measure)}" if self.untested else within
        later = f", {self.stated}" if self.stated == "post hoc" else ""
        return f"{labels.arm(self.arm)} − {labels.arm(self.against)}{within}{later}"

    @property
    def pairs(self) -> str:
        """How many pairs there are, of how many, and how many were added later, for a cell of a table."""
        of = "" if self.n == self.planned else f" of {self.planned}"
        added = f", {len(self.seeds_added)} added" if self.seeds_added else ""
        return f"{self.n}{of}{added}"


COLUMNS = tuple(f.name for f in fields(Result) if f.name not in ("untested", "seeds", "differences", "runs"))


def identifier(experiment: str, contrast: Contrast, baseline: str) -> str:
    """Id of a contrast; the baseline goes without saying.

    Equivalences have a name of their own, as an arm may be in both families.
    """
    kind = "equivalence" if contrast.family == "equivalence" else "contrast"
    versus = "" if contrast.against == baseline else f".vs.{contrast.against}"
    return f"{experiment}.{kind}.{contrast.arm}{versus}.{contrast.measure}"


class Found(NamedTuple):
    """The contrasts of an experiment."""

    results: list[Result]
    withdrawn: list[Row]
    """Those that were stated at first, and are no longer."""


def of(study: Study, name: str, collected: tidy.Collected) -> Found:
    """All contrasts of an experiment, each with when it was stated."""
    return marked(study.scale, name, evaluate(name, study.experiment(name), collected, len(study.seeds(name))))


def marked(scale: str, name: str, results: Sequence[Result]) -> Found:
    """Contrasts of an experiment, each with when it was stated as is known by now."""
    evidence, rows = beforehand.Evidence(outputs.whole(scale), name), [Row.of(asdict(one)) for one in results]
    marks = [evidence.mark(row, one.seeds, one.runs) for row, one in zip(rows, results, strict=True)]
    return Found(
        [replace(one, **mark._asdict()) for one, mark in zip(results, marks, strict=True)],
        evidence.withdrawn(rows),
    )


def evaluate(name: str, experiment: Experiment, collected: tidy.Collected, planned: int) -> list[Result]:
    """All contrasts of an experiment, Holm-adjusted within their families, without when they were stated.

    Args:
        planned: number of seeds the study asked for.
    """
    found = []
    for family in FAMILIES:
        stated = [c for c in experiment.contrasts if c.family == family]
        found += _family(name, experiment, stated, collected, planned)
    return found


def _family(
    name: str, experiment: Experiment, stated: Sequence[Contrast], collected: tidy.Collected, planned: int
) -> list[Result]:
    pairs = [paired.of(contrast, collected) for contrast in stated]
    # A contrast without any pair says nothing, yet it was stated: it keeps its place in the family.
    tested = [one.tested for one in pairs]
    raw = [_p(contrast, d, one.size) for contrast, d, one in zip(stated, tested, pairs, strict=True)]
    adjusted = holm(raw)
    outside = [
        p_beyond(d, c.margin, one.size) if len(d) and c.margin else 1.0
        for c, d, one in zip(stated, tested, pairs, strict=True)
    ]
    beyond = holm(outside)
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
        # p of an unfinished study would invite stopping when it pleases, and so would the interval.
        shown = len(tested[i]) > 0 and not collected.partial
        sd = float(d.std(ddof=1)) if len(d) > 1 else math.nan
        low, high = SignFlip(d, compared.size).interval() if shown else (None, None)
        added = resampling.examples(contrast.measure, experiment.measure_files, compared.runs)
        both = resampling.interval(added) if added and not collected.partial else None
        results.append(
            Result(
                id=identifier(name, contrast, experiment.baseline),
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
                two_level_low=both.low if both else None,
                two_level_high=both.high if both else None,
                examples=both.examples if both else None,
                effect_size=float(d.mean()) / sd if len(d) > 1 and sd > 1e-12 * np.abs(d).max() else None,
                **_can_show(contrast, tested[i] if shown else d[:0], len(stated)),
                p=raw[i] if shown else None,
                p_holm=adjusted[i] if shown else None,
                p_beyond=outside[i] if shown and contrast.margin else None,
                p_beyond_holm=beyond[i] if shown and contrast.margin else None,
                verdict=verdict,
                note=paired.note(contrast, collected, compared),
                stated="not known",
                stated_note="not looked up",
                seeds_added=(),
                untested=compared.untested,
                seeds=tuple(seeds),
                differences=tuple(float(x) for x in d),
                runs=compared.runs,
            )
        )
    return results


def _p(contrast: Contrast, d: NDArray[np.float64], size: float) -> float:
    if not len(d):
        return 1.0
    return p_equivalent(d, contrast.margin, size) if contrast.margin else SignFlip(d, size).p_two_sided()


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
    found = of(study, experiment, collected)
    provenance.forget("contrasts", study.scale, experiment)
    place = layout.tables(study.scale, experiment)
    rows = [[_cell(getattr(result, name)) for name in COLUMNS] for result in found.results]
    tidy.write_csv(place / "contrasts.csv", rows, COLUMNS)
    content = {
        "experiment": experiment,
        "evidence": study.evidence,
        "partial": collected.partial,
        "runs": collected.runs,
        "level": verdicts.LEVEL,
        "interval": "95 %, inverting the exact two-sided sign-flip test, unadjusted; "
        "null: n is too small, the contrast is untested, or runs are missing",
        "two_level": f"95 % multi-bootstrap over seeds and examples, {resampling.DRAWS} draws, unadjusted; the "
        "verdict goes by the other; null: no examples that the runs share, n is too small, or runs are missing",
        "p": "two-sided sign-flip test; of equivalences the two one-sided tests against the margin, and "
        "p_beyond, corrected by itself, that the difference is beyond it, which contradicts them",
        "stated": "before the runs or not, as git tells; seeds_added: not asked for when there were results",
        "up_to_tokens": "given where some run does not reach the loss: of all runs the tokens to reach it "
        "count up to here (restricted mean times), in means and differences alike",
        "untested": "some run's cost of reaching the loss is not known; the other pairs are described",
        "detectable": "with a power of .8 at the first step of Holm's correction, by simulation of normal "
        "differences; null: no outcome could reach the level, or there is no spread",
        "seeds_needed": f"likewise; null: more than {MOST_SEEDS}, or there is no spread",
        "contrasts": [_jsonable(result) for result in found.results],
        "withdrawn": [row._asdict() for row in found.withdrawn],
    }
    write_json(place / "contrasts.json", content)
    *read, _ = outputs.results(study.scale, experiment)
    wrote, told = outputs.files("contrasts", study.scale, experiment), study.stated(experiment)
    provenance.write("contrasts", study.scale, experiment, study=told, read=read, wrote=wrote)


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def load(scale: str, experiment: str) -> list[Result]:
    """The contrasts written for an experiment; fails as `load_all` does."""
    return load_all(scale, experiment).results


def load_all(scale: str, experiment: str) -> Found:
    """The contrasts written for an experiment, and those withdrawn.

    Raises:
        Damaged: they are missing or not what was written.
    """
    path = layout.tables(scale, experiment) / "contrasts.json"
    provenance.check("contrasts", scale, experiment)
    remedy = f"run `python -m analysis contrasts {scale} {experiment}` again"
    content = read_json(path, remedy)
    try:
        withdrawn = [Row(**row) for row in content["withdrawn"]]
        return Found([_from_json(row) for row in content["contrasts"]], withdrawn)
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path}: damaged ({error!r}); {remedy}") from None


def _jsonable(result: Result) -> dict[str, Any]:
    row = asdict(result)
    for end in ("low", "high"):
        row[end] = row[end] if result.bounded else None  # JSON has no infinity
    return row


def _from_json(row: dict[str, Any]) -> Result:
    lists = {name: tuple(row[name]) for name in ("seeds", "differences", "runs", "seeds_added")}
    result = Result(**{**row, **lists})
    if result.n and result.low is None and not result.untested and result.verdict != "partial":
        return Result(**{**row, **lists, "low": -math.inf, "high": math.inf})
    return result
