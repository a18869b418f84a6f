"""How long runs take to leave a plateau, and how that grows with the tokens that may explain a target.

A run that never leaves is known to take longer than it was looked at for: it is censored, and stays in. One
that was past the level when first evaluated, or that diverged, has no such time, and is told of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis import labels, setup, survival, tidy
from analysis.study import Study
from mlm import figures
from mlm.config import Run

PANEL = "optimizer.learning_rate"
BY = ["objective"]
COLUMNS = ("figure", "learning_rate", "line", "slope", "low", "high", "n")
"""Of the slopes as a table: the interval is of 95 %, n is of seeds."""


class Cell(NamedTuple):
    """The runs of a line at one number of candidates."""

    candidates: float
    median: float | None
    """Kaplan-Meier, tokens; None where fewer than half are seen to leave."""
    left: int
    runs: int


@dataclass(frozen=True)
class Line:
    """Runs that differ in what a position sees, and in their seeds."""

    learning_rate: float
    words: str
    """Of the keys that tell lines apart; `MLM` or `causal`, unless told otherwise."""
    arms: tuple[str, ...]
    seeds: NDArray[np.int64]
    candidates: NDArray[np.float64]
    """[runs] tokens that a target's explanation may lie in."""
    tokens: NDArray[np.float64]
    """[runs] until the plateau was left, or over which the run was looked at."""
    censored: NDArray[np.bool_]
    begun: int
    """Further runs, which were past the level when first evaluated."""

    @property
    def key(self) -> str:
        """What ids call it."""
        return f"{self.learning_rate:g}.{'-'.join(self.words.lower().split())}"

    def cells(self) -> list[Cell]:
        """By candidates, ascending."""
        found = []
        for x in np.unique(self.candidates):
            here = self.candidates == x
            left = int((~self.censored[here]).sum())
            middle = survival.median(self.tokens[here], self.censored[here])
            found.append(Cell(float(x), middle, left, int(here.sum())))
        return found

    def slope(self, keep: NDArray[np.bool_] | None = None) -> float | None:
        """Of log tokens on log candidates, over the runs that are kept."""
        kept = np.ones(len(self.seeds), dtype=bool) if keep is None else keep
        return survival.slope(np.log(self.candidates[kept]), np.log(self.tokens[kept]), self.censored[kept])

    def estimate(self) -> survival.Slope | None:
        """The slope with its interval over seeds; None where too few runs leave, or some had left at first."""
        if self.begun:  # those that are left took longer
            return None
        return survival.over_seeds(self.seeds.tolist(), self.slope)


def candidates(run: Run) -> float:
    """Tokens that a target's explanation may lie in: those that its position sees, on average.

    >>> of = lambda objective: Run.model_validate({"attention": {"group": 16}, "objective": objective})
    >>> candidates(of("mlm")), candidates(of("causal"))
    (16.0, 8.5)
    """
    group = int(figures.setting(run, "attention.group"))
    return (group + 1) / 2 if run.causal else float(group)


def lines(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> list[Line]:
    """By learning rate, ascending, then in the order of the experiment's file."""
    runs = setup.planned(study, name)
    groups: dict[tuple[float, str], list[str]] = {}
    for arm in asked.arms or study.experiment(name).arms:
        words = ", ".join(labels.setting(key, figures.setting(runs[arm], key)) for key in asked.by or BY)
        groups.setdefault((float(figures.setting(runs[arm], PANEL)), words), []).append(arm)
    found = []
    for (rate, words), arms in sorted(groups.items(), key=lambda item: item[0][0]):
        rows = [(candidates(runs[arm]), *row) for arm in arms for row in _runs(collected, arm, asked.level)]
        known = [row for row in rows if row[2] is not None]
        table = np.array([(x, seed, tokens, censored) for x, seed, tokens, censored in known], dtype=np.float64)
        table = table.reshape(-1, 4)
        found.append(
            Line(rate, words, tuple(arms), table[:, 1].astype(np.int64), table[:, 0], table[:, 2],
                 table[:, 3].astype(bool), len(rows) - len(known))
        )  # fmt: skip
    return found


def _runs(collected: tidy.Collected, arm: str, level: str) -> Iterator[tuple[int, float | None, bool]]:
    """(seed, tokens, censored) of an arm's finished runs; no tokens where a run began past the level."""
    stated = {what: collected.values(arm, f"reach.{level}.{what}") for what in ("tokens", "observed_tokens")}
    past = collected.values(arm, f"reach.{level}.begun")
    begun = set(past.index[past != 0])
    for seed, censored in collected.values(arm, f"reach.{level}.censored").items():
        number = int(str(seed))
        times = stated["observed_tokens" if censored else "tokens"]
        yield number, None if number in begun else float(times[number]), bool(censored)


def apart(one: Line, other: Line) -> survival.Slope | None:
    """Slope of one line minus that of the other, of the same seeds, with its interval."""
    first = len(one.seeds)
    if one.begun or other.begun:
        return None

    def difference(keep: NDArray[np.bool_]) -> float | None:
        slopes = one.slope(keep[:first]), other.slope(keep[first:])
        return None if slopes[0] is None or slopes[1] is None else slopes[0] - slopes[1]

    return survival.over_seeds([*one.seeds.tolist(), *other.seeds.tolist()], difference)


def pairs(found: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """The two lines of each learning rate that has two."""
    for _, group in groupby(found, key=lambda line: line.learning_rate):
        mine = list(group)
        if len(mine) == 2:
            yield mine[0], mine[1]


class Told(NamedTuple):
    """The slope of a line, or what sets those of two lines of one learning rate apart."""

    key: str
    """Its id."""
    learning_rate: float
    words: str
    arms: tuple[str, ...]
    slope: survival.Slope | None


def slopes(found: Sequence[Line], key: str) -> Iterator[Told]:
    """Of each line, then of each two of one learning rate; `key` is the figure's id."""
    for line in found:
        yield Told(f"{key}.{line.key}.slope", line.learning_rate, line.words, line.arms, line.estimate())
    for one, other in pairs(found):
        words, arms = f"{one.words} − {other.words}", (*one.arms, *other.arms)
        yield Told(apart_key(key, one, other), one.learning_rate, words, arms, apart(one, other))


def rows(study: Study, name: str, collected: tidy.Collected) -> Iterator[tuple[object, ...]]:
    """Columns `COLUMNS`: slopes of an experiment's figures, and what sets two of a learning rate apart."""
    for asked in study.experiment(name).figures:
        if asked.kind == "leaving":
            found = lines(study, name, collected, asked)
            for told in slopes(found, asked.stem):
                yield asked.stem, told.learning_rate, told.words, *(told.slope or (None, None, None, None))


def apart_key(key: str, one: Line, other: Line) -> str:
    """Id of the difference of two slopes, under that of their figure."""
    return f"{key}.{one.key}.minus.{other.key.removeprefix(f'{one.learning_rate:g}.')}.slope"
