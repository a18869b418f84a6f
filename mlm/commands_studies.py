"""Commands on whole studies. What they do is in analysis/, which loads no torch."""

from pathlib import Path
from typing import Annotated

import typer

from mlm.written import ending

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
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all of it to this file.", callback=ending(".json"))
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write contrasts and means to this file.", callback=ending(".csv")),
    ] = None,
) -> None:
    """Two studies side by side: what they found, whether it agrees, and in what they differ."""
    from analysis import compare_text

    compare_text.show(first, second, experiment or [], json, csv)


@app.command(rich_help_panel=PANEL)
def verify(
    reference: Annotated[
        Path, typer.Argument(help="A published scale; its verify.yaml states which runs to repeat.")
    ] = Path("docs/results/laptop"),
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPERIMENT/ARM", help="Repeat this arm instead; repeat for more."),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Of this seed; repeat for more.")] = None,
    cores: Annotated[str, typer.Option(help="Cores to use.")] = "all",
) -> None:
    """Repeat some published runs from scratch, in a folder of its own, and say what differs and by how much.

    Exits with 1 where something differs that must not.
    """
    from analysis import verify_text

    if not verify_text.show(reference, arm or [], seed or [], cores):
        raise typer.Exit(1)
