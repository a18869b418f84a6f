"""Commands that train runs, and bring them elsewhere."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlm.errors import InputError

app = typer.Typer()
PANEL = "Runs"

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Folder, digest, or label of a run.")]


@app.command(rich_help_panel=PANEL)
def train(
    name: Annotated[str, typer.Argument(metavar="RUN|EXPERIMENT", help="A planned run, or an experiment.")],
    arm: Annotated[str, typer.Option(help="Of an experiment: the arm; the baseline unless told.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of an experiment: the seed; 0 unless told.")] = None,
    scale: Annotated[str | None, typer.Option(help="Of an experiment: the scale; laptop unless told.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. masking.rate=.3.")
    ] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Time between checkpoints.")] = 60.0,
    offline_later: Annotated[
        bool,
        typer.Option(
            "--offline-later",
            hidden=True,
            help="W&B offline: leave the run to `sync --as-configured`, as the pipeline does.",
        ),
    ] = False,
    then_measure: Annotated[
        Path | None,
        typer.Option(hidden=True, help="What the study measures of its runs, to be taken of this one."),
    ] = None,
) -> None:
    """Train one run to the end of its budget, or go on where it was stopped.

    [bold]python -m mlm train split --arm 100-0-0 --seed 3 --set masking.rate=.3[/bold] plans a run of
    its own, prepares the data it needs and trains it.
    """
    from mlm import distributed, logs, measuring, runs, single
    from mlm.planner import available

    if not checkpoint_seconds > 0:  # nor is nan
        raise InputError(f"--checkpoint-seconds: is {checkpoint_seconds:g}; give a number above 0")
    if name in available():
        folder = single.plan(name, arm, seed or 0, scale or "laptop", set_ or [])
    elif arm or set_ or scale is not None or seed is not None:
        known = ", ".join(available())
        raise InputError(
            f"--arm, --seed, --scale and --set go with an experiment, not a run; there are: {known}"
        )
    else:
        folder = runs.find(name, available()).path
    run = runs.RunFolder.open(folder)
    wanted = measuring.planned(then_measure, folder.name) if then_measure is not None else []
    with logs.handed_on():
        words = ["train", str(folder), f"--checkpoint-seconds={checkpoint_seconds}"]
        distributed.launch(run.numerics, words + ["--offline-later"] * offline_later)
    code = single.train(run, checkpoint_seconds, offline_later, wanted)
    if code:
        raise typer.Exit(code)


@app.command(rich_help_panel=PANEL, name="compile")
def compile_(
    name: RunName,
    flag: Annotated[Path, typer.Argument(help="File to write when it is done.")],
) -> None:
    """Compile the training step of a run's shape, which all runs of that shape then find."""
    from mlm import runs, single

    single.compile_steps(runs.find(name), flag)


@app.command(rich_help_panel=PANEL)
def accept(
    why: Annotated[str, typer.Option(help="Why the results stand; the paper says it.")],
    scale: Annotated[str, typer.Option(help="The scale whose runs are to be kept.")] = "laptop",
) -> None:
    """Keep the runs that there are, though the code's bits have changed since; the paper discloses it.

    Of every planned run that is not there, one that differs in its code alone is looked for. The code of
    today then goes by that run's name for it, in [bold]experiments/code/accepted.yaml[/bold], to be committed.
    """
    from mlm import accepted
    from mlm.planner import load_study

    kept = accepted.accept(load_study(scale), why)
    typer.echo(f"{accepted.FILE}: {kept} runs are kept; commit it")


@app.command(hidden=True)
def golden() -> None:
    """Compute the golden runs that standard input asks for; planning starts this where it needs them."""
    from mlm import golden

    golden.compute(json.load(sys.stdin))


@app.command(hidden=True)
def track(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    trainer: Annotated[int, typer.Option(help="Process id of the training that is followed.")],
) -> None:
    """Bring the Weights & Biases run of a run to what its files say; `train` starts this beside it."""
    from mlm import tracking
    from mlm.runs import RunFolder

    try:
        tracking.keep_apart()
        from mlm import wandb_writer

        wandb_writer.track(RunFolder.open(path), trainer)
    except Exception as error:  # W&B's own are many, and its caller warns whatever it was
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        tracking.leave(1)


@app.command(rich_help_panel=PANEL)
def sync(
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    scale: Annotated[str | None, typer.Option(help="Only this scale.")] = None,
    as_configured: Annotated[
        Path | None, typer.Option(hidden=True, help="In the mode that is set; told in this file; never fails.")
    ] = None,
) -> None:
    """Upload to Weights & Biases what is not yet there: runs, measures, tables, figures, lineage.

    Needs a key ([bold]wandb login[/bold], or WANDB_API_KEY); WANDB_ENTITY, WANDB_PROJECT and
    WANDB_BASE_URL say where to. It can be repeated, and goes on after an interruption.
    """
    from mlm import sync, tracking

    if as_configured is not None:
        typer.echo(sync.as_configured(scale or "laptop", experiment or "", as_configured))
        tracking.leave(0)
    try:
        uploaded, before = sync.upload(scale, experiment)
    except sync.Failed as error:
        print(f"not uploaded: {error}", file=sys.stderr)
        tracking.leave(1)
    typer.echo(f"{uploaded} W&B runs uploaded, {before} were up to date")


@app.command(rich_help_panel=PANEL)
def export(
    name: RunName,
    folder: Annotated[Path, typer.Argument(help="New folder for the Hugging Face model and tokenizer.")],
) -> None:
    """Write a run of the `bert` preset as a Hugging Face BertForMaskedLM with its tokenizer."""
    from mlm import bert_state, export, runs

    run = runs.find(name)
    bert_state.check_exportable(run.config.encoder)
    typer.echo(export.export(run.encoder(), run.tokenizer(), run.config.vocabulary.kind, folder))
