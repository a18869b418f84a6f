"""Commands on whole studies. What they do is in analysis/, which loads no torch."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
PANEL = "Studies"


@app.command(rich_help_panel=PANEL)
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A scale, a folder such as elsewhere/results/laptop, or a published one."
        ),
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The same of another study, as docs/results/laptop.")
    ],
    experiment: Annotated[list[str] | None, typer.Option(help="Only this experiment; repeat for more.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write all of it to this file.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write contrasts and means to this file.")] = None,
) -> None:
    """Two studies side by side: what they found, whether it agrees, and in what they differ."""
    from analysis import compare_text

    compare_text.show(first, second, experiment or [], json, csv)
