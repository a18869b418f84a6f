"""What a repetition is to have in common with the published runs, and whether it has.

exact     the same on every machine: prepared text and vocabulary, tokens, operations, what was drawn
bits      the same on the same type of machine, by the same code: weights, curves, values
interval  elsewhere: an arm's mean lies where that of so many more runs like the published is expected
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import pandas as pd
from scipy.stats import t

from analysis import labels, tidy
from analysis.published_runs import Reference, Run
from mlm import layout, yaml_file

LEVEL = 0.95
KERNELS = ("torch", "numpy")
"""Packages whose versions decide bits."""
COMPILER = "compiler"
"""Decides those of compiled steps; publications of older versions do not say which it was."""


class Check(NamedTuple):
    """One comparison."""

    kind: Literal["exact", "bits", "interval"]
    where: str
    """Experiment, arm, seed."""
    what: str
    here: str
    there: str
    holds: bool
    promised: bool
    """Whether a difference is a fault; if not, it is told all the same."""
    apart: str = ""
    """By how much, of numbers."""


def unlike(here: Reference, there: Reference | None, arm: str = "") -> list[str]:
    """Why the bits of a repetition need not be those that were published; empty where they must be.

    Args:
        arm: also of this arm's configuration.
    """
    if there is None:
        return [
            "the publication is older than reference.json: it does not say on which type of machine it was made"
        ]
    found = []
    on_gpu = there.numerics.get("device") == "cuda"
    versions = (*KERNELS, COMPILER) if COMPILER in there.versions else KERNELS
    for what, mine, theirs in (
        ("processor", str(here.machine), str(there.machine) if there.machine else "not recorded, or several"),
        *([("GPU", here.gpu, there.gpu or "not recorded, or several")] if on_gpu else []),
        *((what, here.numerics.get(what), there.numerics.get(what)) for what in there.numerics),
        *((what, here.versions.get(what), there.versions.get(what)) for what in versions),
        *(
            ("training code", mine, there.codes.get(one))
            for one, mine in here.codes.items()
            if one in there.arms
        ),
    ):
        if mine != theirs:
            found.append(f"{what}: {mine} here, {theirs} there")
    return found + (changed(here, there, arm) if arm else [])


def changed(here: Reference, there: Reference, arm: str) -> list[str]:
    """The settings of an arm that are no longer those of the publication."""
    mine, theirs = yaml_file.flat(here.arms[arm]), yaml_file.flat(there.arms.get(arm, {}))
    return [
        f"{arm}: {key}: {mine.get(key, '—')} here, {theirs.get(key, '—')} there"
        for key in dict.fromkeys((*mine, *theirs))
        if mine.get(key) != theirs.get(key)
    ]


def inputs(name: str, here: Reference, there: Reference) -> Iterator[Check]:
    """Prepared text and vocabulary."""
    mine, theirs = yaml_file.flat(here.inputs), yaml_file.flat(there.inputs)
    for key, value in theirs.items():
        yield Check(
            "exact", name, key, str(mine.get(key, "—"))[:12], str(value)[:12], mine.get(key) == value, True
        )


def counted(name: str, here: Run, there: dict[str, int], same: bool) -> Iterator[Check]:
    """What does not depend on the machine.

    Args:
        there: what was published of it: all of `Run.exact`, or tokens and FLOPs.
        same: whether the run is still configured as it was.
    """
    for key, value in there.items():
        mine = here.exact[key]
        apart = "" if mine == value else f"{mine - value:+,}"
        yield Check("exact", _run(name, here), key, f"{mine:,}", f"{value:,}", mine == value, same, apart)


def bits(name: str, here: Run, there: Run, promised: bool) -> Iterator[Check]:
    """Weights, curve and values of a run.

    The file of the weights holds its run's digest, so the hashes of two say nothing where that has changed.
    """
    where = _run(name, here)
    hashes = [("curve", here.curve_sha256, there.curve_sha256)]
    if here.run == there.run:
        hashes.append(("weights", here.weights_sha256, there.weights_sha256))
    for what, mine, theirs in hashes:
        yield Check("bits", where, what, mine[:12], theirs[:12], mine == theirs, promised)
    for measure, value in there.values.items():
        mine_ = here.values.get(measure)
        apart = (
            labels.number(None if mine_ is None else mine_ - value, 6, signed=True) if mine_ != value else ""
        )
        shown = ("—" if mine_ is None else repr(mine_)), repr(value)
        yield Check("bits", where, labels.measure(measure), *shown, mine_ == value, promised, apart)


def _run(name: str, run: Run) -> str:
    return layout.run_name(name, run.arm, run.seed)


def intervals(
    name: str,
    here: tidy.Collected,
    there: pd.DataFrame,
    arms: Iterable[str],
    measures: Iterable[str],
    among: int,
) -> Iterator[Check]:
    """Means of arms against table.csv of the publication.

    The interval is that for the mean of k more runs of an arm with n published ones:
    mean ± t · sd · √(1/k + 1/n), with t such that all comparisons together hold in 95 of 100 repetitions
    (Bonferroni).

    Args:
        there: table.csv.
        among: how many comparisons there are in all.
    """
    for arm, measure in ((arm, measure) for arm in arms for measure in measures):
        rows = there[(there["kind"] == "arm") & (there["row"] == arm) & (there["measure"] == measure)]
        if rows.empty:
            continue
        row = rows.iloc[0]
        mean, sd, n = float(row["mean"]), float(row["sd"]), int(row["n"])
        values, digits = here.array(arm, measure), labels.digits(measure)
        where, what = f"{name}/{arm}", labels.measure(measure)
        if n < 2 or not len(values):
            reached = str(row["reached"] or n)
            known = f"{labels.number(mean, digits)} (n {reached})" if n else f"not known (n {reached})"
            shown = labels.number(float(values.mean()), digits) if len(values) else "not known"
            # What some published runs did not come to either, a repetition need not come to.
            lost = reached.partition(",")[0] not in (str(n), f"{n} of {n}")
            yield Check("interval", where, what, shown, known, not len(values) and n == 0, n > 1 and not lost)
            continue
        half = prediction(sd, n, len(values), among)
        apart = float(values.mean()) - mean
        ends = f"{labels.number(mean - half, digits)} to {labels.number(mean + half, digits)}"
        shown = labels.number(float(values.mean()), digits)
        words = labels.number(apart, digits, signed=True) + (f", {abs(apart) / sd:.1f} SD" if sd else "")
        yield Check("interval", where, what, shown, ends, abs(apart) <= half, sd > 0, words)


def prediction(sd: float, n: int, more: int, among: int) -> float:
    """Half the interval in which the mean of so many more values lies, about the mean of n with this deviation.

    >>> round(prediction(1.0, 8, 1, 1), 3)  # 2.365 · √(1 + 1/8)
    2.508
    """
    level = 1 - (1 - LEVEL) / among
    return float(t.ppf((1 + level) / 2, n - 1)) * sd * math.sqrt(1 / more + 1 / n)
