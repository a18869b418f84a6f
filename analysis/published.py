"""paper/published.yaml: values printed by others, with their source; never mixed with our own numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from analysis import contrasts, labels, outputs, paired, tidy
from analysis.signflip import SignFlip
from analysis.study import Contrast, problems
from mlm import yaml_file
from mlm.errors import InputError
from mlm.yaml_file import Strict

FILE = outputs.PAPER / "published.yaml"
Shape = Literal["reproduced", "reversed", "open", "described"]
"""A difference that we test and find with the published sign, or with the other; that we test and do not find;
that was not among the contrasts stated beforehand."""


class Column(Strict):
    """One published measure."""

    title: str
    digits: int = 1


class Published(Strict):
    """One published table."""

    title: str
    citation: str
    """Key in refs.bib."""
    place: str
    """Where it stands in the source."""
    experiments: list[str]
    """Experiments of ours that it is set beside."""
    head: str
    """Of the column of rows' names."""
    baseline: str
    columns: dict[str, Column]
    compare: str
    """The column whose shape ours is set beside; higher is better."""
    remark: str
    """What its values are, and what its authors see in them."""
    rows: dict[str, dict[str, float]]
    arms: dict[str, str] = {}
    """Row -> our arm, where it is not called like the row."""
    against: dict[str, str] = {}
    """Row -> the row that it is compared with, where that is not the baseline."""

    def arm(self, row: str) -> str:
        """Our arm of a row; the experiment may have none of this name."""
        return self.arms.get(row, row)


@dataclass(frozen=True)
class Pair:
    """A published difference, and ours between the same two settings."""

    row: str
    theirs: float
    arm: str
    against: str
    difference: float | None
    """Ours; None where an arm of the two is not there, or no pair of runs is complete."""
    low: float | None
    high: float | None
    verdict: str | None
    """Of the contrast that states it; None where none does."""
    post_hoc: bool = False
    """That contrast was changed after results: it only describes."""

    @property
    def comparable(self) -> bool:
        """Whether both have a sign."""
        return bool(self.difference) and bool(self.theirs)

    @property
    def same_sign(self) -> bool:
        """Whether both have the same one."""
        return self.comparable and (self.difference or 0) * self.theirs > 0

    @property
    def shape(self) -> Shape:
        """What is to be said of it."""
        if self.verdict is None or self.post_hoc or not self.theirs:
            return "described"
        if self.verdict not in ("supported", "contradicted"):
            return "open"
        return "reproduced" if self.same_sign else "reversed"


def names() -> list[str]:
    """What the published tables are called."""
    return list(_content())


def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml_file.read(FILE, "the paper needs it; restore it")
    return content


def load(name: str) -> Published:
    """A published table by name.

    Raises:
        InputError: unknown, or the file says something else than it may.
    """
    content = _content()
    if name not in content:
        raise InputError(f"{FILE}: no published table is called {name!r}; there are: {', '.join(content)}")
    try:
        found = Published.model_validate(content[name])
    except ValidationError as error:
        raise InputError(*(f"{FILE}: {name}.{problem}" for problem in problems(error))) from None
    for row, values in found.rows.items():
        if missing := found.columns.keys() ^ values.keys():
            raise InputError(
                f"{FILE}: {name}.rows.{row}: {sorted(missing)[0]} is in rows or columns, but not in both"
            )
    stated = {
        "baseline": [found.baseline],
        "arms": found.arms,
        "against": {*found.against, *found.against.values()},
    }
    for key, rows in stated.items():
        for row in rows:
            if row not in found.rows:
                raise InputError(
                    f"{FILE}: {name}.{key}: no row is called {row!r}; there are: {', '.join(found.rows)}"
                )
    if found.compare not in found.columns:
        raise InputError(f"{FILE}: {name}.compare: no column is called {found.compare!r}")
    return found


def pairs(
    published: Published, measure: str, results: Sequence[contrasts.Result], collected: tidy.Collected
) -> list[Pair]:
    """Every published difference beside ours, in the order of the rows.

    Args:
        measure: ours, of which higher is better.
        results: the experiment's contrasts.
    """
    found = []
    there = set(collected.results["arm"])
    for row, values in published.rows.items():
        other = published.against.get(row, published.baseline)
        if row == other:
            continue
        theirs = round(values[published.compare] - published.rows[other][published.compare], 6)
        arm, against = published.arm(row), published.arm(other)
        stated = [
            r for r in results if (r.arm, r.against, r.measure) == (arm, against, measure) and r.margin is None
        ]
        d, size = np.empty(0), 0.0
        if {arm, against} <= there:
            asked = Contrast(family="secondary", arm=arm, against=against, measure=measure)
            compared = paired.of(asked, collected)
            d, size = compared.tested, compared.size
        low, high = SignFlip(d, size).interval() if len(d) and not collected.partial else (None, None)
        mean = float(d.mean()) if len(d) else None
        verdict = stated[0].verdict if stated else None
        post_hoc = any(r.stated == "post hoc" for r in stated)
        found.append(Pair(row, theirs, arm, against, mean, low, high, verdict, post_hoc))
    return found


def beside(published: Published, found: Sequence[Pair]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table that sets published values beside our paired differences.

    The units differ (others' tasks, our probe), so only signs and order can be compared.
    """
    compared = published.columns[published.compare]
    titles = [column.title for column in published.columns.values()]
    named = ("our arm",) if published.arms else ()
    columns = (published.head, *titles, f"Δ {compared.title}", *named, "Δ ours [95 % interval]", "verdict")
    by_row = {pair.row: pair for pair in found}
    rows = []
    for row, values in published.rows.items():
        printed = [labels.number(values[key], column.digits) for key, column in published.columns.items()]
        if row not in by_row:
            theirs, arm, told = "0", published.arm(row), ("0", "—")
        else:
            pair = by_row[row]
            ours = pair.difference is not None
            theirs = labels.number(pair.theirs, compared.digits, signed=True)
            arm = pair.arm if ours else "—"
            verdict = f"{pair.verdict or 'not tested'}{', post hoc' if pair.post_hoc else ''}"
            told = (_interval(pair), verdict) if ours else ("—", "—")
        rows.append((labels.arm(row), *printed, theirs, *([labels.arm(arm)] if named else []), *told))
    return columns, rows


def _interval(pair: Pair) -> str:
    digits = labels.telling(3, pair.difference, pair.low, pair.high)
    mean = labels.number(pair.difference, digits, signed=True)
    if pair.low is None or not np.isfinite(pair.low):
        return mean
    return f"{mean}\u00a0[{labels.number(pair.low, digits)},\u00a0{labels.number(pair.high, digits)}]"


def highest(published: Published, measure: str, collected: tidy.Collected) -> tuple[str, str] | None:
    """(row whose published value is the highest, row whose arm has our highest mean), of the rows that we have.

    None of fewer than three.
    """
    means = {}
    for row in published.rows:
        values = collected.array(published.arm(row), measure)  # of an arm that is not there none
        if len(values):
            means[row] = float(np.mean(values))
    if len(means) < 3:
        return None
    theirs = max(means, key=lambda row: published.rows[row][published.compare])
    return theirs, max(means, key=lambda row: means[row])
