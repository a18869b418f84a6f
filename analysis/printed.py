"""A printed table, and what its rows and cells are made of.

A cell without a value stays a dash: an arm that never shows random tokens has no loss on them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import labels, reached, references, setup, summary, survival, tidy
from analysis.study import Study

DASH = "—"
INTERVAL = "mean ± half the 95 % Student t interval over seeds"


@dataclass(frozen=True)
class Panel:
    """One printed table."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    references: tuple[tuple[str, ...], ...] = ()
    """Rows that are no arms, set apart by a rule."""


class Table:
    """An experiment, with what cells and rows are made of.

    Args:
        seconds: of seconds.csv, for tables that may show what differs between machines.
    """

    def __init__(
        self, study: Study, name: str, collected: tidy.Collected, seconds: pd.DataFrame | None = None
    ) -> None:
        experiment = study.experiment(name)
        self.arms, self.baseline = experiment.arms, experiment.baseline
        self.collected, self.times = collected, seconds
        self.planned = setup.planned(study, name)
        self.names = list(dict.fromkeys(name for names in experiment.measures.values() for name in names))
        self.heading = (labels.heading(self.arms), "n")
        self.causal = [arm for arm, run in self.planned.items() if run.causal]

    def rows(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """A row an arm, a cell a measure."""
        return tuple((*self.head(arm), *(self.cell(arm, name) for name in names)) for arm in self.arms)

    def head(self, arm: str) -> tuple[str, str]:
        """The arm, and how many of its runs finished, of those that ended where some diverged."""
        finished, lost = len(self.collected.finished(arm)), len(self.collected.diverged(arm))
        return labels.arm(arm), f"{finished} of {finished + lost}" if lost else str(finished)

    def cell(self, arm: str, name: str, unit: float = 1.0, digits: int | None = None) -> str:
        """A measure of an arm, in so many of its own units."""
        shown = labels.digits(name) if digits is None else digits
        return middle(self.collected, arm, name, unit, shown).words

    def seconds(self, arm: str, name: str) -> list[str]:
        """The cell of what the arm's finished runs took on this machine, where seconds may be shown."""
        if self.times is None:
            return []
        t, finished = self.times, self.collected.finished(arm)
        rows = t[(t["arm"] == arm) & (t["measure"] == name) & t["seed"].isin(finished)]
        return [plus_minus(summary.estimate(rows["value"].to_numpy(dtype=float)), 1)]

    def untrained(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Rows of the encoders before their first step: one, or one an arm where arms begin unlike."""
        found = [references.untrained(self.collected, f"untrained.{name}") for name in names]
        rows = []
        for arm in dict.fromkeys(arm for estimates in found for arm in estimates) or ("",):
            own = [estimates.get(arm) for estimates in found]
            n = next((estimate.n for estimate in own if estimate), 0)
            words = f"untrained, {labels.arm(arm)}" if arm else "untrained encoder"
            rows.append((words, str(n), *(plus_minus(e, 3) for e in own)))
        return tuple(rows)

    def reference(self, words: str, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Rows of what needs no pre-training, on the same data: one, or one an arm where arms differ in it."""
        found = [references.fixed(self.collected, f"reference.{name}") for name in names]
        rows = []
        for arm in dict.fromkeys(arm for values in found for arm in values) or ("",):
            own = (labels.number(values.get(arm), 3) for values in found)
            rows.append((f"{words}, {labels.arm(arm)}" if arm else words, DASH, *own))
        return tuple(rows)

    def tasks(self) -> list[str]:
        """Sentence tasks that are measured, from frozen features and then by fine-tuning."""
        ends = (".layer_0.accuracy", ".layer_*.accuracy")  # an encoder of the user's own has layers of its own
        probed = list(dict.fromkeys(name.split(".")[0] for name in self.names if name.endswith(ends)))
        tuned = [name.removesuffix(".accuracy") for name in self.names if name.startswith("finetune.")]
        return [name for name in probed if name != "probe"] + tuned


class Middle(NamedTuple):
    """The middle of an arm, in the measure's unit."""

    at: float | None
    ends: tuple[float, float] | None
    """Of the interval of a mean."""
    words: str


def middle(collected: tidy.Collected, arm: str, measure: str, unit: float = 1.0, digits: int = 0) -> Middle:
    """The mean with its interval; the Kaplan-Meier median of tokens to a loss that not every run comes down to.

    A mean over those that do would be too low. Of operations, and where a run was past the loss from the start,
    there is neither.

    Args:
        unit: what the words count in, with so many digits.
    """
    values, told = collected.array(arm, measure), reached.of(collected, arm, measure)
    if told is not None and told.censored:
        late = reached.unreached(collected, arm, measure).to_numpy()
        censored = np.arange(len(values) + len(late)) >= len(values)
        at = survival.median(np.append(values, late), censored) if len(late) else None
        return Middle(at, None, DASH if at is None else f"median {labels.number(at / unit, digits)}")
    found, words = summary.estimate(values), plus_minus(summary.estimate(values / unit), digits)
    if found is None:
        return Middle(None, None, words)
    return Middle(found.mean, (found.low, found.high) if found.n > 1 else None, words)


def plus_minus(estimate: summary.Estimate | None, digits: int) -> str:
    """`mean ± half-width`, the mean alone where one seed gives no interval, a dash where none has a value."""
    if estimate is None:
        return DASH
    mean = labels.number(estimate.mean, digits)
    return (
        f"{mean} ± {labels.number(estimate.half_width, digits)}" if math.isfinite(estimate.half_width) else mean
    )
