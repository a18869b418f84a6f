"""paper/published.yaml: values printed by others, with their source; never mixed with our own numbers."""

from typing import Any

from pydantic import ValidationError

from analysis import labels, outputs
from analysis.contrasts import Result
from analysis.study import problems
from mlm import yaml_file
from mlm.errors import InputError
from mlm.yaml_file import Strict

FILE = outputs.PAPER / "published.yaml"


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
    baseline: str
    columns: dict[str, Column]
    compare: str
    """The column whose shape ours is set beside."""
    rows: dict[str, dict[str, float]]


def names() -> list[str]:
    """What the published tables are called."""
    return list(yaml_file.read(FILE, "the paper needs it; restore it"))


def load(name: str) -> Published:
    """A published table by name.

    Raises:
        InputError: unknown, or the file says something else than it may.
    """
    content: dict[str, Any] = yaml_file.read(FILE, "the paper needs it; restore it")
    if name not in content:
        raise InputError(f"{FILE}: no published table is called {name!r}; there are: {', '.join(content)}")
    try:
        found = Published.model_validate(content[name])
    except ValidationError as error:
        raise InputError(*(f"{FILE}: {name}.{problem}" for problem in problems(error))) from None
    for arm, values in found.rows.items():
        if missing := found.columns.keys() ^ values.keys():
            raise InputError(
                f"{FILE}: {name}.rows.{arm}: {sorted(missing)[0]} is in rows or columns, but not in both"
            )
    return found


def beside(published: Published, results: list[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table that sets published values beside our paired differences.

    The units differ (others' tasks, our probe), so only signs and order can be compared.
    """
    ours = {r.arm: r for r in results if r.against == published.baseline and r.difference is not None}
    compared = published.columns[published.compare]
    titles = [column.title for column in published.columns.values()]
    columns = ("MASK/SAME/RND", *titles, f"Δ {compared.title}", "Δ ours [95 % interval]")
    rows = []
    for arm, values in published.rows.items():
        printed = [labels.number(values[key], column.digits) for key, column in published.columns.items()]
        theirs, mine = "—", "—"
        if arm == published.baseline:
            theirs, mine = "0", "0"
        else:
            difference = values[published.compare] - published.rows[published.baseline][published.compare]
            theirs = labels.number(difference, compared.digits, signed=True)
            if arm in ours:
                mine = _interval(ours[arm])
        rows.append((labels.arm(arm), *printed, theirs, mine))
    return columns, rows


def _interval(r: Result) -> str:
    digits = labels.digits(r.measure)
    mean = labels.number(r.difference, digits, signed=True)
    return (
        f"{mean}\u00a0[{labels.number(r.low, digits)},\u00a0{labels.number(r.high, digits)}]"
        if r.bounded
        else mean
    )


def agreement(published: Published, results: list[Result]) -> tuple[int, int]:
    """(contrasts whose sign is the published one's, contrasts that can be compared)."""
    base = published.rows[published.baseline][published.compare]
    pairs = [
        (r.difference, published.rows[r.arm][published.compare] - base)
        for r in results
        if r.arm in published.rows and r.against == published.baseline and r.difference is not None
    ]
    return sum(ours * theirs > 0 for ours, theirs in pairs), len(pairs)
