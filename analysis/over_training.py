"""What figures show of arms while they train, as a table: `over` and `radius`, a row a point."""

import math
from collections.abc import Iterator

from analysis import figure_curves, summary, tidy
from analysis.study import Study
from mlm import figures

COLUMNS = ("figure", "arm", "measure", "tokens", "mean", "low", "high", "n")
"""Means over seeds, with 95 % t intervals."""


def rows(study: Study, name: str, collected: tidy.Collected) -> Iterator[tuple[object, ...]]:
    """Columns `COLUMNS`, in the order of the figures, arms and moments; the last is the end of the runs."""
    experiment = study.experiment(name)
    for asked in experiment.figures:
        for arm in asked.arms or experiment.arms:
            for measure in _shown(asked, experiment.measures[arm], experiment.primary_measure):
                for tokens, mean in points(collected, arm, measure).items():
                    ends = (mean.low, mean.high) if math.isfinite(mean.low) else (None, None)
                    yield asked.stem, arm, measure, tokens, mean.mean, *ends, mean.n


def points(collected: tidy.Collected, arm: str, measure: str) -> dict[int, summary.Estimate]:
    """Training tokens, ascending, and the measure over an arm's seeds then; the last is the end of its runs."""
    found = dict(figure_curves.moments(collected, arm, measure))
    end, at_end = collected.array(arm, "training.tokens"), summary.estimate(collected.array(arm, measure))
    if len(end) and at_end is not None:
        found[int(end.max())] = at_end
    return dict(sorted(found.items()))


def _shown(asked: figures.Figure, measured: tuple[str, ...], primary: str) -> list[str]:
    if asked.kind == "radius":
        return [one for one in measured if one.startswith("radius.")]
    return [asked.measure or primary] if asked.kind == "over" else []
