"""Commands for before a start: what a study will cost, and what its seeds can show."""

from typing import Annotated

import typer

from mlm.errors import InputError

app = typer.Typer()
PANEL = "Before a start"
Scale = Annotated[str, typer.Option(help="Scale file under experiments/scales.")]


@app.command(rich_help_panel=PANEL)
def plan(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT", help="Those that the scale names, unless given; NAME-tune, NAME-pilot."
        ),
    ] = None,
    scale: Scale = "laptop",
    json: Annotated[bool, typer.Option("--json", help="For a machine to read.")] = False,
) -> None:
    """What a start would do: runs, tokens, operations, estimated time on this machine, disk."""
    from rich.console import Console

    from analysis import testable
    from mlm import plan

    study, names = plan.load(scale, experiments or [])
    reckoner = plan.Reckoner(study)
    console = Console(highlight=False)
    if json:
        console.print_json(data=plan.record(reckoner, names))
        return
    table, total = plan.table(reckoner, names)
    console.print(table)
    console.print(reckoner.says(total))
    for problem in testable.problems(study, names):
        typer.echo(f"note: {problem}", err=True)
    if (free := plan.free_bytes()) < total.disk_bytes:
        room = f"{plan.amount(free)} bytes are free, and {plan.amount(total.disk_bytes)} are needed"
        typer.echo(f"warning: {room}", err=True)


@app.command(rich_help_panel=PANEL)
def power(
    experiment: Annotated[str, typer.Argument(help="An experiment with `pilot:`, whose pilot has run.")],
    scale: Scale = "laptop",
    difference: Annotated[
        float | None,
        typer.Option(help="In the unit of the primary measure: its power and seeds needed."),
    ] = None,
) -> None:
    """What an experiment's contrasts could show, by the spread of its pilot.

    The pilot comes first: [bold]snakemake --cores all EXPERIMENT-pilot[/bold].
    """
    from rich.console import Console

    from analysis import pilot

    if difference is not None and not difference > 0:
        raise InputError(
            f"--difference: is {difference:g}; give a number above 0, in the unit of the primary measure"
        )
    console = Console(highlight=False)
    console.print(pilot.table(pilot.rows(scale, experiment), experiment, difference))
    console.print(pilot.EXPLAINED)
