"""The commands of the analysis: python -m analysis COMMAND SCALE [EXPERIMENT]."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis import outputs
from mlm import logs
from mlm.refusal import heard, refusing

app = typer.Typer(
    help="From results to tables, figures, numbers and the paper. Run in the root of the study; "
    "in this order: collect, contrasts, table, figures, numbers, paper.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Scale = Annotated[str, typer.Argument(help="Name of the scale: a folder under results/ with a study.json.")]
Experiment = Annotated[str, typer.Argument(help="Name of the experiment, as its file is called.")]
Experiments = Annotated[
    list[str] | None,
    typer.Option("--experiment", help="Experiment to include; repeat for more. Unless told, all."),
]


Mixed = Annotated[
    bool, typer.Option("--mixed", help="Take runs of different code together; every output then says so.")
]


@app.command()
def collect(scale: Scale, experiment: Experiment, mixed: Mixed = False) -> None:
    """Gather the runs of an experiment into results.csv, curves.csv and seconds.csv."""
    from analysis import collect as room
    from analysis import study

    room.collect(study.load(scale), experiment, mixed)
    _said("collect", scale, experiment)


@app.command()
def tune(scale: Scale, experiment: Experiment) -> None:
    """Which of the learning rates that were tried suits each arm; wants collect of NAME-tune."""
    from analysis import study
    from analysis import tune as room

    for line in room.write(study.load(scale), experiment):
        typer.echo(line)
    _said("tune", scale, experiment)


@app.command()
def contrasts(scale: Scale, experiment: Experiment) -> None:
    """Paired differences with intervals, p values, Holm's correction and verdicts."""
    from analysis import contrasts as room
    from analysis import study

    room.write(study.load(scale), experiment)
    _said("contrasts", scale, experiment)


@app.command()
def table(scale: Scale, experiment: Experiment) -> None:
    """The tables of an experiment as CSV, Markdown and LaTeX."""
    from analysis import study
    from analysis import table as room

    room.write(study.load(scale), experiment)
    _said("table", scale, experiment)


@app.command()
def figures(scale: Scale, experiment: Experiment) -> None:
    """The figures of an experiment as SVG, PDF and PNG; wants collect and contrasts."""
    from analysis import figures as room
    from analysis import study

    planned = study.load(scale)
    room.write(planned, experiment)
    _said("figures", scale, experiment, [one.stem for one in planned.experiment(experiment).figures])


@app.command()
def numbers(scale: Scale, experiment: Experiments = None, mixed: Mixed = False) -> None:
    """Every number that the paper may quote, with its runs; wants collect and contrasts."""
    from analysis import numbers as room
    from analysis import study

    planned = study.load(scale)
    room.write(planned, experiment or list(planned.experiments), mixed)
    _said("numbers", scale)


@app.command()
def paper(scale: Scale, experiment: Experiments = None) -> None:
    """The paper from paper/paper.md; wants numbers, table and figures."""
    from analysis import paper as room
    from analysis import study

    planned = study.load(scale)
    room.write(planned, experiment)
    _said("paper", scale)


@app.command()
def arxiv(scale: Scale) -> None:
    """The paper as LaTeX for arXiv, compiled and checked where latexmk is installed; wants the paper."""
    from analysis import arxiv as room

    for path in room.write(scale):
        typer.echo(path)
    if not shutil.which(room.COMPILER):
        typer.echo(
            f"{room.COMPILER} is not installed: the bundle is not compiled, its pages are not checked", err=True
        )


@app.command()
def comparison(scale: Scale, experiment: Experiments = None) -> None:
    """One HTML page with interactive curves, for use without a network; wants collect and contrasts."""
    from analysis import comparison as room
    from analysis import study

    planned = study.load(scale)
    room.write(planned, experiment or list(planned.experiments))
    _said("comparison", scale)


@app.command()
def report(scale: Scale, experiment: Experiment) -> None:
    """An experiment's report as one HTML page, for use without a network; wants contrasts and figures."""
    from analysis import report as room
    from analysis import study

    room.write(study.load(scale), experiment)
    _said("report", scale, experiment)


@app.command()
def partial(
    scale: Scale,
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPERIMENT", help="Experiments; unless told, those that the scale names."),
    ] = None,
) -> None:
    """What there is while runs go on, without verdicts; a pipeline at work is not disturbed."""
    from analysis import partial as room
    from analysis import study

    pages, lines = room.write(study.load(scale), experiments or [])
    for line in lines:
        typer.echo(line, err=True)
    for path in pages:
        typer.echo(path)


@app.command()
def publish(
    scale: Scale,
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXPERIMENT", help="Experiments; unless told, all that are complete."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder in which the scale gets one; docs/results, unless told.", show_default=False),
    ] = None,
) -> None:
    """Small files of a finished study, to keep in the repository, and a page of what was found."""
    from analysis import publish as room
    from analysis import study

    written, left_out = room.write(study.load(scale), experiments or [], to)
    for problem in left_out:
        typer.echo(f"left out: {problem}", err=True)
    for path in written:
        typer.echo(path)


def _said(command: str, scale: str, experiment: str = "", own: Sequence[str] = ()) -> None:
    for path in outputs.files(command, scale, experiment, own):
        typer.echo(path)


def main(run: Callable[[], None] = app) -> None:
    """Run a command; what a person can put right ends it with status 2 and no traceback."""
    with logs.kept(), refusing(), heard():
        run()


if __name__ == "__main__":
    main()
