"""Commands that show what there is."""

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from mlm.errors import InputError
from mlm.written import ending

app = typer.Typer()
PANEL = "Look"
MAX_WATCH_SECONDS = 86400


@app.command(rich_help_panel=PANEL)
def fill(
    text: Annotated[
        str, typer.Argument(help='Text with [MASK] in it: "Shall I compare thee to a [MASK] day?"')
    ],
    run: Annotated[
        str, typer.Option(help="The run to ask; the baseline's first finished run unless told.")
    ] = "",
    candidates: Annotated[int, typer.Option(min=1, max=100, help="Answers a mask.")] = 5,
) -> None:
    """Let a trained run fill in what is masked."""
    from mlm import look

    look.fill(text, run, candidates)


@app.command(rich_help_panel=PANEL)
def mask(
    text: Annotated[str, typer.Argument(help="Text to corrupt; a held-out passage unless given.")] = "",
    run: Annotated[str, typer.Option(help="The run whose vocabulary and masking to use.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help='Change a key of `masking`: rate=.4, or "split={mask: 1}".'
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the masks.")] = 0,
) -> None:
    """Show a corrupted sample in colour, and what was realised."""
    from mlm import look

    look.mask(text, run, set_ or [], seed)


@app.command(rich_help_panel=PANEL)
def runs(
    select: Annotated[str, typer.Argument(help="Part of a label, such as split/100-0-0.")] = "",
) -> None:
    """List the runs there are, with their digests and results."""
    from mlm import look

    look.runs(select)


@app.command(rich_help_panel=PANEL)
def status(
    scale: Annotated[str, typer.Option(help="Scale file under experiments/scales.")] = "laptop",
    watch: Annotated[float, typer.Option(min=0, help="Seconds between looks; 0 looks once.")] = 0,
) -> None:
    """A table of a study's runs: progress, tokens a second, time left; below it what failed, and why."""
    from rich.console import Console
    from rich.live import Live

    from mlm import status

    if not watch <= MAX_WATCH_SECONDS:  # nan neither
        raise InputError(f"--watch: is {watch:g}; give {MAX_WATCH_SECONDS:g} seconds or fewer")
    look = status.Look(scale)
    if not watch:
        Console(highlight=False).print(look.show(), soft_wrap=True)  # a path stays in one piece
        return
    with Live(look.show(), refresh_per_second=1) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(watch)
            live.update(look.show())


@app.command(rich_help_panel=PANEL)
def trace(
    number: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Of numbers.json; a beginning lists ids. All of the paper, unless given."
        ),
    ] = "",
    scale: Annotated[str, typer.Option(help="Scale whose paper it is.")] = "laptop",
) -> None:
    """Where a number of the paper comes from, and whether each file on its way is still as recorded.

    From number, tables and runs to weights, vocabulary, shards and corpus; ends with status 1 if a file is
    not what was recorded, and names it.
    """
    from analysis import trace

    beginning = trace.ids(scale, number) if number else []
    if beginning and number not in beginning:
        typer.echo("\n".join(beginning))
        return
    way = trace.of(scale, number)
    for line in way.lines(every=bool(number)):
        typer.echo(line)
    raise typer.Exit(1 if way.changed else 0)


@app.command(rich_help_panel=PANEL)
def doctor() -> None:
    """What this machine can do, and what is missing."""
    from rich.console import Console

    from mlm import doctor

    table, able = doctor.examine()
    Console().print(table)
    raise typer.Exit(0 if able else 1)


@app.command(rich_help_panel=PANEL)
def bench(
    shape: Annotated[
        list[str] | None, typer.Option(help="tiny, mini or original; repeat for more. All, unless told.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contestant.")] = 5,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", help="File to write; it keeps shapes not measured now.", callback=ending(".json")
        ),
    ] = None,
    quality: Annotated[
        bool,
        typer.Option(help="Time to 4.4 and 4.2 nats instead of speed, unless --shape is given: an hour."),
    ] = False,
) -> None:
    """Training speed of the same shapes beside other packages', in turns, on one core: some minutes."""
    from mlm import bench

    bench.run(shape or [], bench.Effort(rounds=rounds), json, quality)
