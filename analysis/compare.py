"""Two studies side by side: what they found, whether it agrees, and in what they differ."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import labels, published_runs
from analysis.sides import Part, Side
from mlm import yaml_file
from mlm.errors import InputError

STATED = ["family", "arm", "against", "measure"]
"""What makes two contrasts the same."""


class Interval(NamedTuple):
    """A value with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def words(self, digits: int, *, signed: bool = False) -> str:
        """`value [low, high]`."""
        digits = labels.telling(digits, *self)
        value = labels.number(self.value, digits, signed=signed)
        ends = f" [{labels.number(self.low, digits)}, {labels.number(self.high, digits)}]"
        return value + (ends if self.bounded else "")


NOTHING = Interval(math.nan, math.nan, math.nan)
"""Between what is not compared."""


class Row(NamedTuple):
    """Something that both studies found."""

    experiment: str
    what: str
    """A contrast, or an arm."""
    family: str
    """Of the contrast; empty for an arm's mean."""
    measure: str
    a: Interval
    b: Interval
    n: tuple[int, int]
    verdicts: tuple[str, str]
    """Empty for an arm's mean."""
    apart: Interval
    """b - a; without an interval where they are of different things."""
    same_claim: bool = True
    """Whether both state the same direction and margin: other claims have other verdicts."""

    @property
    def agree(self) -> bool | None:
        """Whether the difference of the two may be none; None where that is not known."""
        return self.apart.low <= 0 <= self.apart.high if self.apart.bounded else None


class Difference(NamedTuple):
    """Something in which the studies differ beforehand."""

    experiment: str
    where: str
    """The arms, the contrast, or `all runs`."""
    key: str
    a: str
    b: str


def apart(a: Interval, b: Interval) -> Interval:
    """The second minus the first, with a 95 % interval from the intervals of both.

    Method of variance estimates recovery (Zou and Donner 2008, doi 10.1002/sim.3095): the intervals need not be
    symmetric, and the two are taken as independent. Studies that share seeds vary together, and lie closer.

    >>> apart(Interval(1.0, 0.7, 1.3), Interval(1.5, 1.1, 1.9))
    Interval(value=0.5, low=0.0, high=1.0)
    """
    value = b.value - a.value
    if not (a.bounded and b.bounded):
        return Interval(value, math.nan, math.nan)
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return Interval(value, round(value - below, 12), round(value + above, 12))


def shared(a: Side, b: Side, wanted: Sequence[str] = ()) -> list[str]:
    """The experiments of both.

    Args:
        wanted: those to compare; all, unless told.

    Raises:
        InputError: one that is wanted is not in both, or they share none.
    """
    both = [name for name in a.experiments if name in b.experiments]
    for name in wanted or ():
        for side in (a, b):
            if name not in side.experiments:
                there = ", ".join(side.experiments)
                raise InputError(
                    f"{side.name}: no experiment with tables is called {name!r}; there are: {there}"
                )
    if not both:
        raise InputError(
            f"{a.name} and {b.name} have no experiment in common: {', '.join(a.experiments)} there, "
            f"{', '.join(b.experiments)} here; compare others"
        )
    return [name for name in both if not wanted or name in wanted]


def contrasts(a: Side, b: Side, names: Iterable[str]) -> Iterator[Row]:
    """The contrasts that both state."""
    for name in names:
        for row in _matched(a, b, name):
            one, other = (
                Interval(*(float(row[f"{key}_{side}"]) for key in ("difference", "low", "high")))
                for side in "ab"
            )
            what = _what(row)
            verdicts = row["verdict_a"], row["verdict_b"]
            up_to = [float(row[f"up_to_tokens_{side}"]) for side in "ab"]
            everywhere = all(map(math.isnan, up_to))
            alike = everywhere or up_to[0] == up_to[1]
            within = "" if everywhere else f", {labels.within(up_to[0]) if alike else 'up to different tokens'}"
            yield Row(
                name, what + within, row["family"], row["measure"], one, other,
                (int(row["n_a"]), int(row["n_b"])), verdicts, apart(one, other) if alike else NOTHING,
                not _claims(row),
            )  # fmt: skip


def _matched(a: Side, b: Side, name: str) -> list[dict[str, Any]]:
    """The contrasts of an experiment that both state: column and side -> value."""
    mine, theirs = (side.experiments[name].contrasts for side in (a, b))
    return [
        {str(key): value for key, value in row.items()}
        for row in mine.merge(theirs, on=STATED, suffixes=("_a", "_b")).to_dict("records")
    ]


def _what(row: dict[str, Any]) -> str:
    return f"{labels.arm(row['arm'])} − {labels.arm(row['against'])}"


def _claims(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What they state of a contrast otherwise: direction or margin, and either's."""
    one, other = (
        {"expect": row[f"expect_{side}"] or "—", "margin": labels.number(row[f"margin_{side}"], None)}
        for side in "ab"
    )
    return list(_unlike(one, other))


def means(a: Side, b: Side, names: Iterable[str]) -> Iterator[Row]:
    """The means of the arms and measures that both have; what was asked for and counted is left out.

    Means of the runs alone that reach a loss are not compared, as nowhere in the project.
    """
    for name in names:
        frames = (side.experiments[name].table for side in (a, b))
        mine, theirs = (t[(t["kind"] == "arm") & (t["n"] > 0)] for t in frames)
        counted = ("realised.", "training.")
        both = mine[~mine["measure"].str.startswith(counted)].merge(
            theirs, on=["row", "measure"], suffixes=("_a", "_b")
        )
        for row in both.to_dict("records"):
            one, other = (
                Interval(*(float(row[f"{key}_{side}"]) for key in ("mean", "low", "high"))) for side in "ab"
            )
            n = int(row["n_a"]), int(row["n_b"])
            reached = row["reached_a"], row["reached_b"]
            whole = all(told in ("", f"{runs} of {runs}") for told, runs in zip(reached, n, strict=True))
            what = labels.arm(row["row"]) + ("" if whole else f" (reached by {' and '.join(reached)})")
            between = apart(one, other) if whole else NOTHING
            yield Row(name, what, "", row["measure"], one, other, n, ("", ""), between)


def printed(rows: Iterable[Row], a: Side, b: Side) -> list[Row]:
    """Of the means those that contrasts or yardsticks are about."""
    told = {
        (name, measure)
        for side in (a, b)
        for name, part in side.experiments.items()
        for measure in (*published_runs.YARDSTICKS, *part.contrasts["measure"])
    }
    return [row for row in rows if (row.experiment, row.measure) in told]


def alone(a: Side, b: Side, names: Iterable[str]) -> list[str]:
    """Contrasts and arms that one of them has."""
    lines = []
    for name in names:
        parts = a.experiments[name], b.experiments[name]
        for what, found in (("contrasts", _contrasts), ("arms", _arms)):
            mine, theirs = map(found, parts)
            for side, own in (
                (a, [x for x in mine if x not in theirs]),
                (b, [x for x in theirs if x not in mine]),
            ):
                if own:
                    lines.append(f"{name}: {what} of {side.name} alone: {', '.join(own)}")
    only = [
        (side.name, n)
        for side, other in ((a, b), (b, a))
        for n in side.experiments
        if n not in other.experiments
    ]
    return lines + [f"{name}: of {side} alone" for side, name in only]


def _contrasts(part: Part) -> list[str]:
    c = part.contrasts
    rows = zip(c["family"], c["arm"], c["against"], c["measure"], strict=True)
    return [
        f"{family} {labels.arm(arm)} − {labels.arm(against)} in {measure}"
        for family, arm, against, measure in rows
    ]


def _arms(part: Part) -> list[str]:
    t = part.table
    return [labels.arm(arm) for arm in dict.fromkeys(t[t["kind"] == "arm"]["row"])]


def differences(a: Side, b: Side, names: Iterable[str]) -> Iterator[Difference]:
    """What sets the studies apart beside what they found: claims, code, machine, numerics, inputs, settings."""
    for name in names:
        for stated in _matched(a, b, name):
            where = f"{_what(stated)} in {stated['measure']}"
            yield from (Difference(name, where, *claim) for claim in _claims(stated))
        one, other = a.experiments[name], b.experiments[name]
        for key in one.told:
            if one.told[key] != other.told[key]:
                yield Difference(name, "all runs", key, one.told[key], other.told[key])
        if one.runs is None or other.runs is None:
            yield Difference(name, "all runs", "configuration", *(
                "not published" if part.runs is None else "recorded" for part in (one, other)
            ))  # fmt: skip
            continue
        for section in ("versions", "inputs"):
            yield from (
                Difference(name, "all runs", key, *values)
                for key, *values in _unlike(getattr(one.runs, section), getattr(other.runs, section))
            )
        found: dict[tuple[str, str, str], list[str]] = {}
        arms = [arm for arm in one.runs.arms if arm in other.runs.arms]
        for arm in arms:
            for row in _unlike(one.runs.arms[arm], other.runs.arms[arm]):
                found.setdefault(row, []).append(arm)
        for row, mine in found.items():
            where = "all runs" if mine == arms else ", ".join(map(labels.arm, mine))
            yield Difference(name, where, *row)


def _unlike(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    one, other = yaml_file.flat(a), yaml_file.flat(b)
    for key in dict.fromkeys((*one, *other)):
        values = [str(side.get(key, "—")) for side in (one, other)]
        if values[0] != values[1]:
            yield key, values[0], values[1]


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table."""
    return pd.DataFrame(
        [
            {
                "experiment": row.experiment, "what": row.what, "family": row.family, "measure": row.measure,
                **{f"{end}_{side}": getattr(own, end) for side, own in (("a", row.a), ("b", row.b))
                   for end in Interval._fields},
                "n_a": row.n[0], "n_b": row.n[1], "verdict_a": row.verdicts[0], "verdict_b": row.verdicts[1],
                "difference": row.apart.value, "low": row.apart.low, "high": row.apart.high, "agree": row.agree,
            }
            for row in rows
        ]
    )  # fmt: skip
