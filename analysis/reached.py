"""Of which runs the cost of reaching a loss is known.

A run that never comes down to the loss is censored, and so is one that is past it when first evaluated. The
others alone have a cost, so that a mean over them stands beside their number, and is never tested.
"""

from typing import NamedTuple

from analysis import tidy
from mlm import measures


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


def of(collected: tidy.Collected, arm: str, measure: str) -> Reached | None:
    """Of an arm's runs; None where the measure is no cost of reaching a loss."""
    told = _censoring(measure)
    if told is None:
        return None
    censored = collected.values(arm, told)
    censored = censored[censored.index.isin(collected.finished(arm))]
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


def _censoring(measure: str) -> str | None:
    """The measure that says whether a cost of reaching a loss is censored; None where it is no such cost.

    >>> _censoring("reach.4.4.tokens"), _censoring("reach.4.4.censored"), _censoring("probe.accuracy")
    ('reach.4.4.censored', None, None)
    """
    level, _, cost = measure.rpartition(".")
    named = level.startswith("reach.") and cost in measures.COSTS and cost != "censored"
    return f"{level}.censored" if named else None
