"""Of which runs the cost of reaching a loss is known, and what can be compared where it is not of all.

A run that never comes down to the loss is censored, and so is one that is past it when first evaluated. The
others alone have a cost, so that a mean over them stands beside their number, and is not compared.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pandas as pd

from analysis import runs, tidy
from mlm import measures, schedules


class Reached(NamedTuple):
    """The finished runs of an arm, by whether they reach a loss.

    >>> str(Reached(8, 8, 0)), str(Reached(8, 6, 2))
    ('8 of 8', '6 of 8, 2 from the start')
    """

    runs: int
    reached: int
    """Those that are at the loss at some time."""
    begun: int
    """Those of them that were past it when first evaluated: what it took is not known."""

    @property
    def censored(self) -> bool:
        """Whether the cost of some run is not known."""
        return self.reached - self.begun < self.runs

    def __str__(self) -> str:
        return f"{self.reached} of {self.runs}" + (f", {self.begun} from the start" if self.begun else "")


class Restricted(NamedTuple):
    """Tokens that runs took to reach a loss, counted up to where all of them were looked at."""

    up_to_tokens: float
    times: tuple[pd.Series, ...]
    """By arm, indexed by seed; `up_to_tokens` where the loss was not reached before."""


def of(
    collected: tidy.Collected, arm: str, measure: str, seeds: Collection[int] | None = None
) -> Reached | None:
    """Of an arm's runs; None where the measure is no cost of reaching a loss.

    Args:
        seeds: those that count; all, unless told.
    """
    told = censoring(measure)
    if told is None:
        return None
    censored = _finished(collected, arm, told, seeds)
    stated = told.removesuffix("censored")
    if "unigram-" in stated:  # the entropy is the vocabulary's, so the run says itself where it began
        begun = int(collected.values(arm, f"{stated}begun").reindex(censored.index).fillna(0).sum())
        return Reached(len(censored), int((censored == 0).sum()) + begun, begun)
    level, begun = float(stated.removeprefix("reach.").removesuffix(".")), 0
    for seed in censored.index[censored != 0]:
        c = collected.curves
        curve = c[(c["arm"] == arm) & (c["seed"] == seed) & (c["measure"] == tidy.YARDSTICK)]
        begun += int(curve.sort_values("tokens")["value"].iloc[0] <= level) if len(curve) else 0
    return Reached(len(censored), int((censored == 0).sum()) + begun, begun)


def restricted(
    collected: tidy.Collected, arms: Sequence[str], measure: str, seeds: Collection[int]
) -> Restricted | None:
    """What takes the place of tokens to reach a loss that some run of the arms does not reach.

    Of a run that takes T tokens, the smaller of T and h is observed wherever the run was looked at over h or
    more. With the largest such h for all of them, the means are restricted mean times (Royston & Parmar 2013,
    BMC Medical Research Methodology 13:152). No difference of two runs is larger than that of their T, or of
    another sign. h is the same whichever runs are censored, as a test that exchanges them needs. That there is
    a restriction at all hangs on the outcome where budgets differ, so the test is then not exact: in
    simulations of no difference (eight pairs, budgets of .49 and 3.07 M tokens) it rejected in .042 to .049.

    Args:
        seeds: of the pairs.

    Returns:
        None where all runs reach the loss, where one was past it when first evaluated, where none comes down
        to it before h, and of other costs.
    """
    found = [of(collected, arm, measure, seeds) for arm in arms] if measure.endswith(".tokens") else []
    told = [one for one in found if one is not None]
    if not any(one.censored for one in told) or any(one.begun for one in told):
        return None
    looked_at = [_observed(collected, arm, str(censoring(measure)), seeds) for arm in arms]
    end = float(pd.concat(looked_at).min())
    times = tuple(
        collected.values(arm, measure).reindex(seen.index).fillna(end).clip(upper=end)
        for arm, seen in zip(arms, looked_at, strict=True)
    )
    return Restricted(end, times) if any((one < end).any() for one in times) else None


def unreached(collected: tidy.Collected, arm: str, measure: str) -> pd.Series:
    """Tokens over which each finished run was looked at that did not reach the loss, indexed by seed.

    Empty where all reach it, where one was past it when first evaluated, and of other costs than tokens.
    """
    told = of(collected, arm, measure)
    if not measure.endswith(".tokens") or told is None or not told.censored or told.begun:
        return pd.Series(dtype=float)
    censored = _finished(collected, arm, str(censoring(measure)))
    late = censored.index[censored != 0]
    return _observed(collected, arm, str(censoring(measure)), list(late))


def censoring(measure: str) -> str | None:
    """The measure that says whether a cost of reaching a loss is censored; None where it is no such cost.

    >>> censoring("reach.4.4.tokens"), censoring("reach.4.4.censored"), censoring("probe.accuracy")
    ('reach.4.4.censored', None, None)
    """
    level, _, cost = measure.rpartition(".")
    named = level.startswith("reach.") and cost in measures.COSTS and cost != "censored"
    return f"{level}.censored" if named else None


def counted(measure: str) -> str:
    """The cost whose censored runs a measure counts; the measure itself where it counts none.

    >>> counted("reach.4.4.censored"), counted("reach.4.4.flops")
    ('reach.4.4.tokens', 'reach.4.4.flops')
    """
    level, _, what = measure.rpartition(".")
    return f"{level}.tokens" if level.startswith("reach.") and what == "censored" else measure


def _finished(
    collected: tidy.Collected, arm: str, measure: str, seeds: Collection[int] | None = None
) -> pd.Series:
    values = collected.values(arm, measure)
    finished = set(collected.finished(arm))
    return values[values.index.isin(finished if seeds is None else finished.intersection(seeds))]


def _observed(collected: tidy.Collected, arm: str, told: str, seeds: Collection[int]) -> pd.Series:
    """Tokens of the last evaluation that counts of each finished run, indexed by seed."""
    there = _finished(collected, arm, told, seeds).index
    if "unigram-" in told:
        return collected.values(arm, f"{told.removesuffix('censored')}observed_tokens").loc[there]
    digests, c = collected.digests(arm, told), collected.curves
    curve = c[(c["arm"] == arm) & (c["measure"] == tidy.YARDSTICK)]
    found = {}
    for seed in map(int, there):
        end = schedules.trunk_tokens(runs.planned(digests[seed]))
        found[seed] = curve[(curve["seed"] == seed) & (curve["tokens"] <= end)]["tokens"].max()
    return pd.Series(found, dtype=float)
