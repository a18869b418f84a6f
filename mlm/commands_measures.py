"""Commands that measure runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mlm.commands_runs import RunName
from mlm.errors import InputError
from mlm.written import ending

app = typer.Typer()
PANEL = "Measures"

Untrained = Annotated[bool, typer.Option(help="RUN is the digest of an encoder before its first step.")]
Output = Annotated[Path | None, typer.Option(help="File to write; else shown only.", callback=ending(".json"))]
At = Annotated[int | None, typer.Option(min=1, help="The weights kept after so many steps (`checkpoints_at`).")]


@app.command(rich_help_panel=PANEL)
def evaluate(
    name: RunName,
    output: Output = None,
    sequences: Annotated[int, typer.Option(min=1, help="Windows of each held-out split.")] = 1024,
    at: At = None,
) -> None:
    """Held-out loss and accuracy on frozen masks: yardstick and own corruption, validation and test."""
    _measure(name, "evaluation", sequences, output, at)


@app.command(rich_help_panel=PANEL)
def probe(
    name: RunName,
    sentences: Annotated[Path, typer.Argument(help="File written by `sentences`.")],
    output: Output = None,
    untrained: Untrained = False,
    at: At = None,
) -> None:
    """Part of speech from frozen features, with lookup baselines beside it."""
    _measure(name, "probe", str(sentences), output, at, untrained)


@app.command(rich_help_panel=PANEL)
def pairs(
    name: RunName,
    file: Annotated[Path, typer.Argument(help="Written by `grammar`; or a BLiMP .jsonl, or a folder of them.")],
    output: Output = None,
    untrained: Untrained = False,
    at: At = None,
) -> None:
    """Minimal pairs: how often the good sentence has the higher pseudo-log-likelihood (word-l2r)."""
    _measure(name, "pairs", str(file), output, at, untrained)


def _measure(
    name: str, measure: str, setting: Any, output: Path | None, at: int | None, untrained: bool = False
) -> None:
    from mlm import measuring

    measuring.measure(
        _run(name, untrained, at), [measuring.Wanted(measure, setting, output)], not untrained, at
    )


def _run(name: str, untrained: bool, at: int | None) -> Any:
    from mlm import runs

    if untrained and at is not None:
        raise InputError("--at and --untrained: an encoder before its first step keeps no weights; give one")
    return runs.of_untrained(name) if untrained else runs.find(name)


@app.command(rich_help_panel=PANEL)
def measure(
    name: RunName,
    take: Annotated[
        list[str] | None, typer.Option("--take", metavar="NAME=FILE", help="A measure, and the file to write.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME=YAML", help="What it reads: a file, a number, or several by name."
        ),
    ] = None,
    over_training: Annotated[
        list[str] | None,
        typer.Option("--over-training", metavar="NAME", help="Take it of the weights kept on the way, too."),
    ] = None,
    untrained: Untrained = False,
    at: At = None,
    keep: Annotated[
        bool,
        typer.Option(
            help="Leave a FILE that was taken of these weights, where its name says settings, data and code."
        ),
    ] = False,
    planned: Annotated[
        list[str] | None, typer.Option(hidden=True, help="NAME=DIGEST: the code that is to take it.")
    ] = None,
) -> None:
    """Several measures of a run by one process; what the pipeline calls.

    [bold]--take probe=FILE --with probe=SENTENCES --take evaluation=FILE --with evaluation=1024[/bold];
    also pairs=PAIRS, tasks.trec=SENTENCES, "finetune.trec={data: SENTENCES, restarts: 5}", "reach=[4.5]" (nats)
    and plugins.mine=my_lab.probes:depth.
    """
    from mlm import leases, measuring

    asked = measuring.wanted(take or [], with_ or [], over_training or [], planned or [])
    run = _run(name, untrained, at)
    if keep:
        asked = measuring.still_to_take(run, asked, not untrained, at)
    if asked:
        leases.take(run.numerics)
        measuring.measure(run, asked, not untrained, at)
