"""`python -m mlm compare`: two studies side by side, for a terminal or as a file."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from analysis import compare, labels, sides, tidy
from analysis.compare import Row
from mlm.files import write_atomically, write_json

AGREE = {True: "yes", False: "no", None: "—"}
WIDE = 150
"""Columns that a table takes where it is not printed to a terminal."""


def show(first: str, second: str, experiments: Sequence[str], json: Path | None, csv: Path | None) -> None:
    """Print what both found and in what they differ; write all of it where a file is asked for.

    Raises:
        InputError: one of them is no study, or they have nothing in common.
    """
    a, b = sides.load(first), sides.load(second)
    names = compare.shared(a, b, experiments)
    contrasts, means = list(compare.contrasts(a, b, names)), list(compare.means(a, b, names))
    differences, alone = list(compare.differences(a, b, names)), compare.alone(a, b, names)
    if csv:
        write_atomically(csv, tidy.csv_text(compare.frame([*contrasts, *means]), ()))
    if json:
        rows = compare.frame([*contrasts, *means]).astype(object)
        unbounded = rows.isin([math.inf, -math.inf])  # so few pairs bound no interval
        said = rows.where(rows.notna() & ~unbounded, None)
        write_json(json, {
            "a": a.name, "b": b.name, "rows": said.to_dict("records"),
            "differences": [one._asdict() for one in differences], "alone": alone,
        })  # fmt: skip
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    console.print(f"A is {a.name}, B is {b.name}", style="bold")
    shown = [*contrasts, *compare.printed(means, a, b)]
    for name, measure in dict.fromkeys((row.experiment, row.measure) for row in shown):
        mine = [row for row in shown if (row.experiment, row.measure) == (name, measure)]
        console.print(_rows(f"{name}: {labels.measure(measure)}", mine))
    console.print(
        "Values with 95 % intervals; that of B − A from both (Zou and Donner 2008), as if the studies were "
        "independent. They agree where it holds 0.", style="dim", soft_wrap=True,
    )  # fmt: skip
    told = [row for row in contrasts if row.agree is not None]
    claimed = [row for row in contrasts if row.same_claim]
    alike, others = sum(row.verdicts[0] == row.verdicts[1] for row in claimed), len(contrasts) - len(claimed)
    more = f" {others} more were stated with another direction or margin." if others else ""
    console.print(
        f"{sum(row.agree is True for row in told)} of {len(told)} contrasts agree; "
        f"{alike} of {len(claimed)} have the same verdict.{more}", soft_wrap=True,
    )  # fmt: skip
    table = Table("", "in", "A", "B", title="Where they differ", title_justify="left", box=box.SIMPLE_HEAD)
    for one in differences:
        table.add_row(f"{one.experiment}: {one.key}", one.where, one.a, one.b)
    console.print(
        table if differences else "No difference in claims, code, machine, versions, inputs or configuration."
    )
    for line in alone:
        console.print(line, soft_wrap=True)


def _rows(title: str, rows: Sequence[Row]) -> Table:
    """Contrasts, and below them arms."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", min_width=28)
    for heading in ("A", "B", "B − A"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("agree", "verdict"):
        table.add_column(heading, no_wrap=True)
    digits = labels.digits(rows[0].measure)
    for number, row in enumerate(rows):
        n = f" (n {row.n[0]} and {row.n[1]})" if row.n[0] != row.n[1] else ""
        last = number + 1 == len(rows) or bool(row.family) != bool(rows[number + 1].family)
        table.add_row(
            f"{row.family} {row.what}{n}".strip(),
            row.a.words(digits), row.b.words(digits), row.apart.words(digits, signed=True), AGREE[row.agree],
            " / ".join(dict.fromkeys(row.verdicts)),
            style="bold" if row.agree is False else "", end_section=last,
        )  # fmt: skip
    return table
