"""`python -m mlm verify`: what a repetition came to, for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from analysis import verify
from analysis.verify_checks import Check

TITLES = {
    "exact": "The same on every machine",
    "bits": "Bits",
    "interval": "Means, within the interval where those of so many more runs are expected (95 %, all at once)",
}
WIDE = 130


def show(reference: Path, arms: Sequence[str], seeds: Sequence[int], cores: str) -> bool:
    """Repeat and print; whether everything is as it must be.

    Raises:
        InputError: an unknown run, a damaged publication, or runs that do not finish.
    """
    outcome = verify.verify(reference, verify.stated(reference, arms, seeds), cores)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    for kind, title in TITLES.items():
        mine = [check for check in outcome.checks if check.kind == kind]
        if mine:
            console.print(_table(title, mine))
    for name, reasons in outcome.reasons.items():
        for reason in reasons:
            console.print(f"{name}: bits are not promised: {reason}", soft_wrap=True)
        if not reasons:
            console.print(f"{name}: bits are promised: same processor, numerics, versions and training code")
    n, faults = len(outcome.checks), outcome.faults
    told = [check for check in outcome.checks if not check.holds and not check.promised]
    aside = f"; {len(told)} differ where nothing is promised" if told else ""
    words = f"{len(faults)} of {n} differ" if faults else f"{n - len(told)} of {n} agree with what is published"
    console.print(f"{words}{aside}. The repetition is in {outcome.folder}", style="bold", soft_wrap=True)
    return not faults


def _table(title: str, checks: Sequence[Check]) -> Table:
    table = Table("", "", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("here", "published", "apart"):
        table.add_column(heading, justify="right")
    table.add_column("")
    before = ""
    for check in checks:
        sign = "same" if check.holds else "[bold red]differs[/]" if check.promised else "[yellow]differs[/]"
        if check.kind == "interval" and check.holds:
            sign = "within"
        where, before = check.where if check.where != before else "", check.where
        table.add_row(where, check.what, check.here, check.there, check.apart, sign)
    return table
